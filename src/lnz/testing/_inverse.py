"""Finds where the inverse of a bijection loses digits."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..bijections import AbstractBijection, Chain, Inverse, Scan
from ..core import exact_log_det
from ..distributions import Transformed


@dataclasses.dataclass(frozen=True)
class LayerError:
    """The error of one layer on the worst example.

    - `name`: place of the layer, such as `bijection.layers[3].bijections[0]`.
    - `own_error`: `|f^-1(f(x)) - x|`, the largest entry, of this layer alone.
    - `error`: the same for this layer and all that follow it: the error that has built up here on the way back.
    - `size`: the largest absolute entry before and after the layer.
    """

    name: str
    own_error: float
    error: float
    size: float


@dataclasses.dataclass(frozen=True)
class InverseReport:
    """The result of `check_inverse`; it prints as a few lines.

    - `holds`: whether every example came back within `tolerance` times its size.
    - `row`: the worst example, by its error relative to its tolerance.
    - `error`, `size`: its error, and the largest absolute entry of it and of its image.
    - `tolerance`: the allowed error, relative to `1 + size`.
    - `layer`: the first layer, on the way back, after which the error exceeds that; `None` if there is none.
    - `layers`: all layers, in the order of application.
    """

    holds: bool
    row: int
    error: float
    size: float
    tolerance: float
    layer: str | None
    layers: tuple[LayerError, ...]

    def __str__(self):
        verdict = "comes back" if self.holds else "does not come back"
        lines = [
            f"The worst example, row {self.row}, {verdict}: it is off by {self.error:.3g}, and "
            f"{self.tolerance * (1 + self.size):.3g} is allowed for numbers up to {self.size:.3g} at its ends."
        ]
        if self.layer is not None:
            worst = next(layer for layer in self.layers if layer.name == self.layer)
            lines.append(
                f"On the way back the error first exceeds that at `{self.layer}`: {worst.error:.3g}, and "
                f"{worst.own_error:.3g} from this layer alone; its numbers are up to {worst.size:.3g}."
            )
        return "\n".join(lines)


def check_inverse(
    flow: Transformed | AbstractBijection, x: Float[Array, "num ..."], *, tolerance: float | None = None
) -> InverseReport:
    """Tests whether examples survive the way through a flow and back; if not, names the layer that loses them.

    A trained flow can be invertible on paper and not in floating-point numbers: where it stretches by 10^6, six digits
    are lost. Its likelihoods there are wrong, however plausible they look. Pass the examples that matter to you.

    **Arguments:**

    - `flow`: a flow, whose examples go to the base and back; or a bijection, for points of its domain.
    - `x`: examples `[num, ...]`.
    - `tolerance`: relative to one plus the largest entry of an example and of its image; by default 1e-10 in float64
      and 5e-5 in float32.

    **Returns:** an `InverseReport`. It raises nothing: write `assert report.holds, report`.
    """
    # Only points matter here: estimated log-determinants would need a key for nothing.
    flow = exact_log_det(flow)
    bijection = Inverse(flow.bijection) if isinstance(flow, Transformed) else flow
    x = jnp.asarray(x)
    tolerance = (1e-10 if x.dtype == jnp.float64 else 5e-5) if tolerance is None else tolerance
    layers = layers_of(bijection, "bijection")
    values = [x]
    for _, layer in layers:
        values.append(_forward(layer, values[-1]))
    back, errors, own_errors = values[-1], [], []
    for (_, layer), before, after in zip(layers[::-1], values[-2::-1], values[:0:-1], strict=True):
        back = _inverse(layer, back)
        errors.insert(0, _distance(back, before))
        own_errors.insert(0, _distance(_inverse(layer, after), before))
    sizes = [_largest(np.asarray(value, np.float64)) for value in values]
    size = np.maximum(sizes[0], sizes[-1])
    relative = np.where(np.isfinite(errors[0]), errors[0] / (1 + np.minimum(size, 1e300)), np.inf)
    row = int(np.argmax(relative))
    allowed = tolerance * (1 + size[row])
    described = tuple(
        LayerError(name, float(own[row]), float(error[row]), float(max(before[row], after[row])))
        for (name, _), own, error, before, after in zip(layers, own_errors, errors, sizes[:-1], sizes[1:], strict=True)
    )
    bad = [layer.name for layer in described if not layer.error <= allowed]
    return InverseReport(
        holds=bool(np.all(relative <= tolerance)),
        row=row,
        error=float(errors[0][row]),
        size=float(size[row]),
        tolerance=tolerance,
        layer=bad[-1] if bad else None,
        layers=described,
    )


def layers_of(bijection: AbstractBijection, name: str) -> list[tuple[str, AbstractBijection]]:
    """The bijections that `bijection` is composed of, with the names of their places, in the order of application."""
    if isinstance(bijection, Chain):
        parts = [layers_of(part, f"{name}.bijections[{i}]") for i, part in enumerate(bijection.bijections)]
        return [layer for part in parts for layer in part]
    if isinstance(bijection, Scan):
        arrays, static = eqx.partition(bijection.layers, eqx.is_array)
        found = []
        for i in range(bijection.num_layers):
            layer = eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), static)
            found += layers_of(layer, f"{name}.layers[{i}]")
        return found
    if isinstance(bijection, Inverse) and isinstance(bijection.bijection, Chain | Scan | Inverse):
        inner = layers_of(bijection.bijection, f"{name}.bijection")
        return [
            (name, layer.bijection if isinstance(layer, Inverse) else Inverse(layer)) for name, layer in inner[::-1]
        ]
    return [(name, bijection)]


@eqx.filter_jit
def _forward(layer: AbstractBijection, x: Array) -> Array:
    return jax.vmap(lambda x: layer.forward_and_log_det(x)[0])(x)


@eqx.filter_jit
def _inverse(layer: AbstractBijection, y: Array) -> Array:
    return jax.vmap(lambda y: layer.inverse_and_log_det(y)[0])(y)


def _distance(got: Array, expected: Array) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        return _largest(np.asarray(got, np.float64) - np.asarray(expected, np.float64))


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest absolute entry of each example; NaN counts as infinite."""
    largest = np.max(np.abs(values.reshape(len(values), -1)), axis=1, initial=0.0)
    return np.where(np.isnan(largest), np.inf, largest)
