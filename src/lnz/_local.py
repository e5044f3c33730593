"""Local coordinates: examples far from zero, moved to where single precision has digits to spare."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._check import model_dtype
from ._space import AbstractSpace

_RESOLVED = 1000  # steps of the number type in one standard deviation
_FEWEST_ROWS = 3  # two rows may be close by chance, and have a small spread


@dataclasses.dataclass(frozen=True)
class Local:
    """A model of `x - origin` and the way there and back: see `lnz.local`.

    - `model`: `log p(x) = model.log_prob(x - origin)`; the same pytree as the model in data coordinates.
    - `origin`: `[*space.shape]` in float64, or `None` if the model takes examples as they are.
    """

    model: Any
    origin: Float[np.ndarray, "*shape"] | None
    _origins: tuple[Array, ...] = ()

    def rows(self, rows: Any, argument: str = "data", first_row: int = 0) -> np.ndarray | Array:
        """`x - origin`, computed in float64 on the host, in the number type of the model; NaN stays.

        Bits, bytes and other numbers that are stored in less memory stay as they are, if there is no origin.

        **Raises:** `ValueError`, naming row and column, for a number that is too large for the model's type.
        """
        dtype = model_dtype(self.model)
        if self.origin is None and (isinstance(rows, jax.Array) or _is_small(rows, dtype, self.model.space)):
            return rows
        rows = np.asarray(rows)
        with np.errstate(over="ignore", under="ignore"):
            moved = rows if self.origin is None else rows.astype(np.float64) - self.origin
            moved = moved.astype(dtype, copy=False)
            too_large = np.isinf(moved) & np.isfinite(rows)
        if too_large.any():
            row, *column = np.argwhere(too_large)[0].tolist()
            raise ValueError(
                f"`{argument}` has the value {rows[(row, *column)]} at row {first_row + row}, column {tuple(column)}, "
                f"too large for {np.dtype(dtype)}: rescale the column, or turn on `jax_enable_x64`."
            )
        return moved

    def back(self, rows: Any) -> Any:
        """`x` of `x - origin`: a NumPy array of float64; `rows` themselves if there is no origin."""
        return rows if self.origin is None else np.asarray(rows, np.float64) + self.origin

    def whole(self, model: Any) -> Any:
        """A model of the same structure as `model`, trained say, in data coordinates."""
        return model if self.origin is None else eqx.tree_at(origins, model, self._origins)


def local(model: Any) -> Local:
    """`model` in coordinates whose zero lies among the data, `log p(x) = local(model).model.log_prob(x - origin)`.

    Unix seconds of 1.7e9 +- 60 are five different numbers in float32, while `x - 1.7e9` has digits to spare. A model
    whose last layer is `lnz.flows.standardise(data)` holds the place of its columns in two parts, and the first of
    them, the origin, is taken off here. The verbs (`lnz.fit`, `lnz.evaluate`, `lnz.sample`, ...) call this function and
    `rows` before numbers go to the device, and `back` or `whole` after. Functions of one example, such as
    `model.log_prob`, take data coordinates in the precision that they are given.

    The layer must be the last: of a `Transformed`, of the last bijection of a `Chain`, or of the decoder of a
    latent-variable model, whose encoder then needs `lnz.nets.Standardised` with the same means as its first. Any other
    model has no origin, and `rows` and `back` change nothing.
    """
    found = origins(model)
    if not found:
        return Local(model, None)
    arrays = [np.asarray(array, np.float64).reshape(-1) for array in found]
    first, shape = arrays[0], found[0].shape
    if any(not np.array_equal(array[: first.size], first) or array[first.size :].any() for array in arrays[1:]):
        return Local(model, None)  # a decoder and an encoder with different origins have none in common
    moved = eqx.tree_at(origins, model, tuple(map(jnp.zeros_like, found)))
    return Local(moved, first.reshape(shape), found)


def origins(part: Any) -> tuple[Any, ...]:
    """The arrays that hold the origin of what a distribution draws or a bijection ends in; `()` if there is none.

    A class that has some says so by a method `origins()`, which `equinox.tree_at` calls too, with stand-ins for arrays.
    The first is `[*space.shape]`.
    """
    return _asked(part, "origins")


def input_origins(part: Any) -> tuple[Any, ...]:
    """The arrays that hold the origin of what a function of examples takes, an encoder say; `()` if there is none.

    Each is a vector: the origin of an example, and zeros for what is appended to it.
    """
    return _asked(part, "input_origins")


def origins_of_autoencoder(decoder: Any, encoder: Any) -> tuple[Any, ...]:
    """The origins of what a decoder makes and an encoder takes, if both have some; there may be no encoder."""
    made, taken = origins(decoder), input_origins(encoder)
    return made + taken if made and (taken or encoder is None) else ()


def _asked(part: Any, name: str) -> tuple[Any, ...]:
    method = getattr(part, name, None) if isinstance(part, eqx.Module) else None
    return () if method is None else method()


def in_two_parts(values: Any, dtype: Any = None) -> tuple[Array, Array]:
    """`high + low = values` with nearly twice the digits of `dtype`, by default that of new models."""
    dtype = jnp.result_type(float) if dtype is None else dtype
    values = np.asarray(values, np.float64)
    high = values.astype(dtype)
    return jnp.asarray(high), jnp.asarray(values - high.astype(np.float64), dtype)


def check_resolved(
    space: AbstractSpace,
    rows: Any,
    model: Local,
    argument: str = "data",
    by_gradient: bool = False,
) -> None:
    """Refuse columns of numbers that lie far from zero for their spread, when rounding would change them.

    A column is refused if its standard deviation is below 1000 steps of the model's number type at the column's mean.
    Columns whose values this type holds exactly lose nothing and pass: whole numbers, and what was stored in it
    before. Not so in training by gradients (`by_gradient`): a parameter there stays where it is when it moves by less
    than half a step.

    - `rows`: some of all rows `[n, *space.shape]`, in data coordinates; NaN where they are not known.
    """
    if space.base_measure != "Lebesgue" or len(rows) < _FEWEST_ROWS:
        return
    dtype = model_dtype(model.model)
    if not by_gradient and np.can_cast(rows.dtype, dtype, "safe"):
        return
    wide = np.asarray(rows).astype(np.float64) - (0 if model.origin is None else model.origin)
    unknown = np.isnan(wide)
    num = np.maximum(np.sum(~unknown, axis=0), 1)
    mean = np.sum(np.where(unknown, 0, wide), axis=0) / num
    centred = np.where(unknown, 0, wide - mean)
    sd = np.sqrt(np.sum(centred**2, axis=0) / num)
    tiny = float(jnp.finfo(dtype).tiny)
    step = float(jnp.finfo(dtype).eps) * np.exp2(np.floor(np.log2(np.maximum(np.abs(mean), tiny))))
    with np.errstate(over="ignore"):
        cut = (wide.astype(dtype).astype(np.float64) != wide) & ~unknown
    bad = (step > sd / _RESOLVED) & (np.ptp(centred, axis=0) > 0) & (by_gradient | cut.any(axis=0))
    if not bad.any():
        return
    column = tuple(np.argwhere(bad)[0].tolist())
    place = column[0] if len(column) == 1 else column
    where = 0 if model.origin is None else model.origin[column]
    raise ValueError(
        f"`{argument}`: column {place} lies at {mean[column] + where:.10g} with a standard deviation of "
        f"{sd[column]:.3g}, where {np.dtype(dtype)} has steps of {step[column]:.2g}: too coarse. End the model with "
        "`lnz.flows.standardise(data)`, such as `lnz.Transformed(base, lnz.bijections.Chain(flow, "
        "lnz.flows.standardise(data)))`, with the data in float64; or subtract a constant from the column."
    )


def _is_small(rows: Any, dtype: Any, space: AbstractSpace) -> bool:
    if space.kind != "float" or rows.dtype == bool:
        return True
    return rows.dtype.kind in "iu" and np.can_cast(rows.dtype, dtype, "safe")
