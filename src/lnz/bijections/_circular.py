"""Families of bijections of the circle, and a family for vectors with two kinds of variables."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ..numerics import aligned
from ..spaces import AbstractSpace, wrap
from ._spline import SplineTransformer
from ._transformers import AbstractTransformer


def _turn(x, by):
    # Both are wrapped first: the sum of small numbers is in [-pi, pi) exactly, not only up to rounding.
    return wrap(wrap(x) + wrap(by))


class RotationTransformer(AbstractTransformer):
    """`y = x + t` on the circle, in [-pi, pi).

    Source: Rezende et al. (2020), phase translation; arXiv:2002.02428.
    """

    @property
    def num_params(self) -> int:
        return 1

    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        return all(one.periodic for one in variables)

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        return _turn(x, raw[0]), jnp.zeros_like(x)

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        return _turn(y, -raw[0]), jnp.zeros_like(y)


class CircularSplineTransformer(AbstractTransformer):
    """`y = s(x + t_1) + t_2` on the circle: a circular spline between two rotations.

    The derivative of the spline is the same at both ends, so that densities are continuous around the circle. The
    rotations choose the point at which the spline begins, and its image. Without them, -pi would be a fixed point.

    **Arguments:**

    - `num_bins`: number of bins K of the spline; there are `2 + 3 K` raw numbers, first those of the two rotations.

    Source: Rezende et al. (2020), circular splines; arXiv:2002.02428. Two rotations here, so that no point is special
    in either direction.
    """

    num_bins: int = eqx.field(static=True, default=8)

    def __check_init__(self):
        if self.num_bins < 2:
            raise ValueError(f"`CircularSplineTransformer(num_bins=...)` must be at least 2; got {self.num_bins}.")

    @property
    def num_params(self) -> int:
        return 2 + self._spline.num_params

    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        return all(one.periodic for one in variables)

    @property
    def _spline(self) -> SplineTransformer:
        return SplineTransformer(self.num_bins, -math.pi, math.pi, circular=True)

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        y, log_derivative = self._spline.forward(raw[2:], _turn(x, raw[0]))
        return _turn(y, raw[1]), log_derivative

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        x, log_derivative = self._spline.inverse(raw[2:], _turn(y, -raw[1]))
        return _turn(x, -raw[0]), log_derivative


class MixedTransformer(AbstractTransformer):
    """One family for some variables and another for the rest, such as `y = exp(s) x + t` for real ones and circular
    splines for angles.

    Both are computed for every variable, and one is chosen. There are as many raw numbers as the larger family needs;
    the smaller family uses the first of them.

    **Arguments:**

    - `first`, `second`: the two families.
    - `is_second`: 0 or 1 for each variable of the vector, integers, which training does not change.
    """

    first: AbstractTransformer
    second: AbstractTransformer
    is_second: Int[Array, " n"]

    @property
    def num_params(self) -> int:
        return max(self.first.num_params, self.second.num_params)

    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        if isinstance(self.is_second, Tracer) or self.is_second.shape != (len(variables),):
            # The family of each variable is not known yet, or differs between the layers of a stack.
            return all(self.first.fits([one]) or self.second.fits([one]) for one in variables)
        pairs = zip(np.asarray(self.is_second).tolist(), variables, strict=True)
        return all((self.second if which == 1 else self.first).fits([one]) for which, one in pairs)

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
