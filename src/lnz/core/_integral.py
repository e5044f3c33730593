"""Densities whose log normaliser needs no method: exact values and unbiased draws. `integral` computes any of them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import as_floats, model_dtype
from ..spaces import AbstractSpace, Categorical
from ._density import AbstractDensity, AbstractDistribution, AbstractNormalizer
from ._estimate import Estimate


class Known(AbstractDensity):
    """A density on one point, whose log normaliser is exactly `value`, in nats.

    The numerator of a flow is `Known(log p(x))`, and the numerator of a Boltzmann machine is `Known(-F(x))`. The
    denominator of every normalised model is `Known(0)`.

    **Arguments:**

    - `value`: the log normaliser.
    - `assumes`: conditions under which the value is exact, in words.
    """

    value: Float[Array, ""] = eqx.field(converter=as_floats)
    assumes: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def space(self) -> AbstractSpace:
        return _POINT

    def log_density(self, x: Array) -> Float[Array, ""]:
        return self.value


class Drawn(AbstractDensity):
    """A density on one point, whose log normaliser is the mean of `draw(key)` over keys, in nats.

    It is the numerator of a flow that estimates its log-determinants. One draw is an unbiased estimate without an error
    bar.

    **Arguments:**

    - `draw`: maps a key to one number.
    - `assumes`: conditions under which the mean is exact, in words.
    """

    draw: Callable[[Any], Any]
    assumes: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def space(self) -> AbstractSpace:
        return _POINT

    def log_density(self, x: Array) -> Float[Array, ""]:
        raise NotImplementedError("`Drawn` is known by draws only: `lnz.log_normalizer(key, density)`.")


_POINT = Categorical(0, 1)


def needs_no_method(density: AbstractDensity) -> bool:
    """Whether the log normaliser is known, or can be drawn, without a normaliser."""
    return isinstance(density, Known | Drawn | AbstractDistribution)


def integral(key: PRNGKeyArray, density: AbstractDensity, method: AbstractNormalizer | None = None) -> Estimate:
    """The log normaliser of `density`: by `method` if there is one, else its known value or one draw.

    **Raises:** `ValueError` if `density` needs a method and there is none.
    """
    if method is not None:
        return method(key, density)
    if isinstance(density, Known):
        return Estimate(density.value, jnp.zeros_like(density.value), "exact", density.assumes)
    if isinstance(density, Drawn):
        value = density.draw(key)
        return Estimate(value, jnp.full_like(value, jnp.nan), "unbiased", density.assumes)  # one draw has no spread
    if isinstance(density, AbstractDistribution):
        return Estimate.exact(jnp.zeros((), model_dtype(density)))
    raise ValueError(f"The log normaliser of {type(density).__name__} needs a method, such as `lnz.normalizers.AIS()`.")
