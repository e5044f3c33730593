"""A plain function as a density."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..modules import as_floats, kind_of
from ..spaces import AbstractSpace
from ._density import AbstractDensity


class FunctionDensity(AbstractDensity):
    """`log p~(x) = function(x)`, up to a constant. `lnz.density(space, function)` makes it."""

    space: AbstractSpace
    function: Callable[[Any], Any]

    def log_density(self, x: Array) -> Float[Array, ""]:
        return _one_number(self.function(self.space.check_example(x)))


def density(space: AbstractSpace, function: Callable[[Any], Any]) -> FunctionDensity:
    """The density `exp(function(x))` on `space`, known up to a constant, for samplers and normalisers.

    ```python
    ring = lnz.density(lnz.Euclidean(2), lambda x: -8 * (jnp.linalg.norm(x) - 2) ** 2)
    log_z = lnz.log_normalizer(key, ring)  # AIS from a standard normal, moved by HMC
    draws = lnz.sample(key, ring, 1000)
    ```

    **Arguments:**

    - `space`: where ONE example lives, such as `lnz.Positive(3)` or `lnz.Binary(16)`; it sets the base measure.
    - `function`: maps ONE example `[*space.shape]` to its log-density, one number in nats; minus infinity where the
      density is zero. Write it with `jax.numpy`, because it is compiled and differentiated. To save the density,
      `lnz.register` the function. If it holds arrays, make it an `equinox.Module` or `equinox.Partial`, so that JAX
      sees them.

    **Raises:** `TypeError` if `space` is not a space or `function` cannot be called; `ValueError` if `function` does
    not take ONE example or does not return one number.
    """
    if not isinstance(space, AbstractSpace):
        swapped = " The space comes first." if isinstance(function, AbstractSpace) else ""
        raise TypeError(
            f"`density(space=...)` must say where ONE example lives, such as `lnz.Euclidean(2)`; got {kind_of(space)}."
            + swapped
        )
    if not callable(function):
        raise TypeError(f"`density(function=...)` must be a function of ONE example; got {kind_of(function)}.")
    made = FunctionDensity(space, function)
    example = jax.ShapeDtypeStruct(space.shape, jnp.result_type(float) if space.kind == "float" else jnp.int32)
    try:
        eqx.filter_eval_shape(lambda x: made.log_density(x), example)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            "`density(function=...)` must be written with `jax.numpy`, so that it can be compiled and differentiated: "
            "it passes its example to NumPy."
        ) from error
    except Exception as error:
        raise ValueError(f"`density(function=...)` on ONE example of shape {space.shape}: {error}") from error
    return made


def _one_number(value: Any) -> Float[Array, ""]:
    value = as_floats(value)
    if value.shape != ():
        raise ValueError(
            f"the function must return one number, the log-density of ONE example; it returned shape {value.shape}. "
            "Sum over the variables."
        )
    return value
