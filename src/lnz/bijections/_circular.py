"""Families of bijections of the circle, and families for variables of two kinds."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._batch_last import aligned
from .._register import register
from ._spline import SplineTransformer
from ._transformers import AbstractTransformer


def wrap(angle: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same angle in [-pi, pi)."""
    turned = angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))
    turned = jnp.where(turned >= math.pi, turned - 2 * math.pi, turned)
    return jnp.where(turned < -math.pi, turned + 2 * math.pi, turned)


@register
class RotationTransformer(AbstractTransformer):
    """`y = x + t` on the circle: what comes out is in [-pi, pi).

    Source: Rezende et al. (2020), section 3.1.1 (phase translation); arXiv:2002.02428.
    """

    @property
    def num_params(self) -> int:
        return 1

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        return wrap(wrap(x) + wrap(raw[0])), jnp.zeros_like(x)

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        return wrap(wrap(y) - wrap(raw[0])), jnp.zeros_like(y)


@register
class CircularSplineTransformer(AbstractTransformer):
    """`y = s(x) + t` on the circle: a circular spline and then a rotation, so that no point of the circle stays fixed.

    The derivative of the spline is the same at both ends, so that densities are continuous around the circle.

    **Arguments:**

    - `num_bins`: bins K of the spline; `1 + 3 K` raw numbers, of which the first is t.

    Source: Rezende et al. (2020), section 3.1.2; arXiv:2002.02428.
    """

    num_bins: int = eqx.field(static=True, default=8)

    def __check_init__(self):
        if self.num_bins < 2:
            raise ValueError(f"`CircularSplineTransformer(num_bins=...)` must be at least 2; got {self.num_bins}.")

    @property
    def num_params(self) -> int:
        return 1 + self._spline.num_params

    @property
    def _spline(self) -> SplineTransformer:
        return SplineTransformer(self.num_bins, -math.pi, math.pi, circular=True)

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        y, log_derivative = self._spline.forward(raw[1:], wrap(x))
        return RotationTransformer().forward(raw[:1], y)[0], log_derivative

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        turned, _ = RotationTransformer().inverse(raw[:1], y)
        return self._spline.inverse(raw[1:], turned)


@register
class MixedTransformer(AbstractTransformer):
    """One family for some variables and another for the rest, such as `y = exp(s) x + t` for real ones and circular
    splines for angles.

    Both are computed for every variable, and one is chosen. Raw numbers are those of the larger family; the smaller
    uses the first of them.

    **Arguments:**

    - `first`, `second`: the two families.
    - `is_second`: for each variable of the vector 0 or 1, integers, which training leaves alone.
    """

    first: AbstractTransformer
    second: AbstractTransformer
    is_second: Int[Array, " n"]

    @property
    def num_params(self) -> int:
        return max(self.first.num_params, self.second.num_params)

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        first = self.first.forward(raw[: self.first.num_params], x)
        return self._choose(first, self.second.forward(raw[: self.second.num_params], x))

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        first = self.first.inverse(raw[: self.first.num_params], y)
        return self._choose(first, self.second.inverse(raw[: self.second.num_params], y))

    def _choose(self, first, second):
        which = aligned(self.is_second, 1, first[0].ndim - 1) == 1
        y, log_derivative = (jnp.where(which, two, one) for one, two in zip(first, second, strict=True))
        return y, log_derivative
