"""Local coordinates, which shift examples from far away to near zero, where single precision resolves them."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..modules import Part, model_dtype
from ..spaces import AbstractSpace
from ._resolved import check_ends, check_resolved


@dataclasses.dataclass(frozen=True)
class Local:
    """A model of `x - origin`, and the conversions between x and `x - origin`; see `lnz.local`.

    - `model`: `log p(x) = model.log_prob(x - origin)`. Its pytree has the structure of the model in data coordinates.
    - `origin`: `[*space.shape]` in float64, or `None` if the model takes examples unshifted.
    """

    model: Any
    origin: Float[np.ndarray, "*shape"] | None
    _origins: tuple[Array, ...] = ()

    def to_local(self, rows: Any, argument: str = "data", first_row: int = 0) -> np.ndarray | Array:
        """`x - origin`, computed in float64 on the host and then cast to the model's number type; NaN stays NaN.

        Without an origin, bits, bytes and other small number types stay unchanged.

        **Raises:** `ValueError`, naming row and column, for a number that is too large for the model's type, or that
        this type does not distinguish from an end of the space.
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

    def check_and_move(self, data: Any, argument: str = "data") -> np.ndarray | Array:
        """`to_local` of examples `[n, *space.shape]` from a user, with more checks.

        **Raises:** as `space.check_data` does, and `ValueError` for columns that the model's type does not resolve.
        """
        rows = self._space.check_data(data, argument)
        check_resolved(self._space, rows, self, argument)
        return self.to_local(rows, argument)

    @functools.cached_property
    def _space(self) -> AbstractSpace:  # cached: a model with latents traces its space on every access
        return self.model.space

    def to_data(self, rows: Any) -> Any:
        """`rows + origin` as a NumPy array of float64; `rows` unchanged if there is no origin."""
        return rows if self.origin is None else np.asarray(rows, np.float64) + self.origin

    def in_data(self, model: Any) -> Any:
        """Put a model of the same structure as `self.model`, such as its trained version, in data coordinates."""
        return model if self.origin is None else eqx.tree_at(origins, model, self._origins)


def local(model: Any) -> Local:
    """`log p(x) = local(model).model.log_prob(x - origin)`: the model in coordinates whose zero lies among the data.

    In float32, Unix seconds of 1.7e9 +- 60 take five different values, while `x - 1.7e9` has digits to spare. A model
    whose last layer is `lnz.flows.standardise(data)` stores the location of its columns in two parts. The first part is
    the origin, and this function takes it out of the model. The verbs (`lnz.fit`, `lnz.evaluate`, `lnz.sample`, ...)
    call this function and `to_local` before numbers go to the device, and `to_data` or `in_data` afterwards. Functions
    of one example, such as `model.log_prob`, take data coordinates in the precision of their argument.

    `standardise` must be the last layer of a `Transformed`, of the last bijection of a `Chain`, or of the decoder of a
    latent-variable model. In the last case the first layer of the encoder must be `lnz.nets.Standardised` with the same
    means. Any other model has no origin, and `to_local` and `to_data` do not shift.
    """
    found = origins(model)
    if not found or any(isinstance(array, Tracer) for array in found):
        return Local(model, None)
    arrays = [np.asarray(array, np.float64).reshape(-1) for array in found]
    first, shape = arrays[0], found[0].shape
    if any(not np.array_equal(array[: first.size], first) or array[first.size :].any() for array in arrays[1:]):
        return Local(model, None)  # decoder and encoder have different origins
    moved = eqx.tree_at(origins, model, tuple(map(jnp.zeros_like, found)))
    return Local(moved, first.reshape(shape), found)


def origins(part: Any) -> tuple[Any, ...]:
    """`part.origins()`; `()` for parts and functions without one."""
    return part.origins() if isinstance(part, Part) and part.origins is not None else ()


def input_origins(part: Any) -> tuple[Any, ...]:
    """`part.input_origins()`; `()` for parts and functions without one."""
    return part.input_origins() if isinstance(part, Part) and part.input_origins is not None else ()


def origins_of_autoencoder(decoder: Any, encoder: Any) -> tuple[Any, ...]:
    """The origins of a decoder's outputs and an encoder's inputs, if both have some. The encoder may be `None`."""
    made, taken = origins(decoder), input_origins(encoder)
    return made + taken if made and (taken or encoder is None) else ()


def in_two_parts(values: Any, dtype: Any = None) -> tuple[Array, Array]:
    """`high + low = values`, with nearly twice the digits of `dtype` (by default the type of new models)."""
    dtype = jnp.result_type(float) if dtype is None else dtype
    values = np.asarray(values, np.float64)
    high = values.astype(dtype)
    return jnp.asarray(high), jnp.asarray(values - high.astype(np.float64), dtype)


def _is_small(rows: Any, dtype: Any, space: AbstractSpace) -> bool:
    if space.kind != "float" or rows.dtype == bool:
        return True
    return rows.dtype.kind in "iu" and np.can_cast(rows.dtype, dtype, "safe")
