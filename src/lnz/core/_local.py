"""Local coordinates: examples far from zero, moved to where single precision has digits to spare."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..modules import model_dtype
from ..spaces import AbstractSpace
from ._resolved import check_ends, check_resolved


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

        **Raises:** `ValueError`, naming row and column, for a number that is too large for the model's type, or that
        this type does not tell from an end of the space.
        """
        dtype = model_dtype(self.model)
        if self.origin is None and (isinstance(rows, jax.Array) or _is_small(rows, dtype, self._space)):
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
        if moved.dtype != rows.dtype and self._space.measure.is_continuous:
            check_ends(self._space, rows, moved, argument, first_row)
        return moved

    def checked_rows(self, data: Any, argument: str = "data") -> np.ndarray | Array:
        """`rows` of examples `[n, *space.shape]` as a user gives them.

        **Raises:** as `check_data` of the space, and for columns whose digits the model's type does not hold.
        """
        rows = self._space.check_data(data, argument)
        check_resolved(self._space, rows, self, argument)
        return self.rows(rows, argument)

    @functools.cached_property
    def _space(self) -> AbstractSpace:  # that of a model with latents is traced each time
        return self.model.space

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
    if not found or any(isinstance(array, Tracer) for array in found):
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


def _is_small(rows: Any, dtype: Any, space: AbstractSpace) -> bool:
    if space.kind != "float" or rows.dtype == bool:
        return True
    return rows.dtype.kind in "iu" and np.can_cast(rows.dtype, dtype, "safe")
