"""Functions of one variable, applied to each number, that map one space onto another."""

import math
from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..modules import as_floats, is_false
from ..numerics import aligned, softplus
from ..spaces import (
    AbstractSpace,
    Euclidean,
    Interval,
    Positive,
    between,
    check_kind,
    least,
    log_inside,
    nearest_inside,
    zero_outside,
)
from ._bijection import AbstractBatchLastBijection


class AbstractScalarBijection(AbstractBatchLastBijection):
    """`y_i = f(x_i)` for every number of an example, whatever its shape.

    If a space has ends, a value too close to an end for floating point to distinguish is replaced by the nearest
    distinguishable one. So results and gradients are finite inside the space, and forward never leaves it. Outside the
    space the log-determinant is minus infinity, because the density there is zero; the value is that of the nearest
    end.
    """

    @abstractmethod
    def value_and_log_derivative(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        """`f(x)` and `log |f'(x)|`, number by number."""

    @abstractmethod
    def inverse_and_log_derivative(self, y: Float[Array, "..."]) -> tuple[Array, Array]:
        """`f^-1(y)` and `log |df^-1/dy|`, number by number."""

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        y, log_derivative = self.value_and_log_derivative(x)
        return y, jnp.sum(log_derivative, axis=tuple(range(len(self.domain.shape))))

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        x, log_derivative = self.inverse_and_log_derivative(y)
        return x, jnp.sum(log_derivative, axis=tuple(range(len(self.domain.shape))))


class Sigmoid(AbstractScalarBijection):
    """`y = low + (high - low) / (1 + e^-x)`, from the line to an interval; `Inverse(Sigmoid(...))` is the logit.

    `log dy/dx = log(high - low) - log(1 + e^-x) - log(1 + e^x)`.

    **Arguments:**

    - `codomain`: `lnz.Interval(shape, low, high)`.
    """

    codomain: Interval = eqx.field(static=True)

    def __check_init__(self):
        check_kind(self.codomain, Interval, "Sigmoid(codomain)")

    @property
    def domain(self) -> AbstractSpace:
        return Euclidean(self.codomain.shape)

    def value_and_log_derivative(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        return self.codomain.number_from_unbounded(x)

    def inverse_and_log_derivative(self, y: Float[Array, "..."]) -> tuple[Array, Array]:
        return self.codomain.number_to_unbounded(y)


class Tanh(AbstractScalarBijection):
    """`y = tanh(x)`, from the line to `(-1, 1)`; `log dy/dx = log 4 - log(1 + e^2x) - log(1 + e^-2x)`.

    **Arguments:**

    - `domain`: `lnz.Euclidean(shape)`.
    """

    domain: Euclidean = eqx.field(static=True)

    def __check_init__(self):
        check_kind(self.domain, Euclidean, "Tanh(domain)")

    @property
    def codomain(self) -> AbstractSpace:
        return Interval(self.domain.shape, -1.0, 1.0)

    def value_and_log_derivative(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        return nearest_inside(self.codomain, jnp.tanh(x)), math.log(4) - softplus(2 * x) - softplus(-2 * x)

    def inverse_and_log_derivative(self, y: Float[Array, "..."]) -> tuple[Array, Array]:
        most = 1 - float(np.finfo(y.dtype).epsneg)
        inside = between(y, -most, most)
        plus, minus = jnp.log1p(inside), jnp.log1p(-inside)
        return (plus - minus) / 2, zero_outside(self.codomain, y, -plus - minus)


class Softplus(AbstractScalarBijection):
    """`y = log(1 + e^x)`, from the line to positive numbers; `log dy/dx = -log(1 + e^-x)`.

    Unlike `Exp`, it grows no faster than x. Its inverse is `x = y + log(1 - e^-y)`.

    **Arguments:**

    - `codomain`: `lnz.Positive(shape)`.
    """

    codomain: Positive = eqx.field(static=True)

    def __check_init__(self):
        check_kind(self.codomain, Positive, "Softplus(codomain)")

    @property
    def domain(self) -> AbstractSpace:
        return Euclidean(self.codomain.shape)

    def value_and_log_derivative(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        return self.codomain.number_from_unbounded(x)

    def inverse_and_log_derivative(self, y: Float[Array, "..."]) -> tuple[Array, Array]:
        return self.codomain.number_to_unbounded(y)


class Exp(AbstractScalarBijection):
    """`y = e^x`, from the line to positive numbers; `log dy/dx = x`.

    If `e^x` leaves the floating-point range, y stays at the end of that range; the log-determinant is exact everywhere.

    **Arguments:**

    - `codomain`: `lnz.Positive(shape)`.
    """

    codomain: Positive = eqx.field(static=True)

    def __check_init__(self):
        check_kind(self.codomain, Positive, "Exp(codomain)")

    @property
    def domain(self) -> AbstractSpace:
        return Euclidean(self.codomain.shape)

    def value_and_log_derivative(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        return _clipped_exp(x), x

    def inverse_and_log_derivative(self, y: Float[Array, "..."]) -> tuple[Array, Array]:
        x = log_inside(y)
        return x, zero_outside(self.codomain, y, -x)


class Power(AbstractScalarBijection):
    """`y = x^p` of positive numbers, with a power `p > 0` for each; `log dy/dx = log p + (p - 1) log x`.

    Followed by `Affine`, it is a Box-Cox transformation with a learned power.

    **Arguments:**

    - `power`: `[*shape]`, positive. The field is `log_power`.
    """

    log_power: Float[Array, "*shape"]
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, power):
        power = as_floats(power)
        if is_false(jnp.all(power > 0)):
            raise ValueError(f"`Power(power=...)` must be positive; got {power}. A root is a power below one.")
        self.log_power, self.shape = jnp.log(power), power.shape

    @property
    def power(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_power)

    @property
    def domain(self) -> AbstractSpace:
        return Positive(self.shape)

    @property
    def codomain(self) -> AbstractSpace:
        return Positive(self.shape)

    def value_and_log_derivative(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        return self._raise(x, 1)

    def inverse_and_log_derivative(self, y: Float[Array, "..."]) -> tuple[Array, Array]:
        return self._raise(y, -1)

    def _raise(self, x, sign):
        num_axes = len(self.shape)
        log_power, log_x = sign * aligned(self.log_power, num_axes, x.ndim - num_axes), log_inside(x)
        log_derivative = log_power + jnp.expm1(log_power) * log_x
        return _clipped_exp(jnp.exp(log_power) * log_x), zero_outside(self.domain, x, log_derivative)


class LeakyReLU(AbstractScalarBijection):
    """`y = x` for positive x, `y = slope x` otherwise, from the line to itself.

    **Arguments:**

    - `domain`: `lnz.Euclidean(shape)`.
    - `slope`: positive.
    """

    domain: Euclidean = eqx.field(static=True)
    slope: float = eqx.field(static=True, default=0.1)

    def __check_init__(self):
        check_kind(self.domain, Euclidean, "LeakyReLU(domain)")
        if not 0 < self.slope < math.inf:
            raise ValueError(f"`LeakyReLU(slope=...)` must be positive; got {self.slope}.")

    @property
    def codomain(self) -> AbstractSpace:
        return self.domain

    def value_and_log_derivative(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        return jnp.where(x > 0, x, self.slope * x), jnp.where(x > 0, 0, math.log(self.slope)).astype(x.dtype)

    def inverse_and_log_derivative(self, y: Float[Array, "..."]) -> tuple[Array, Array]:
        return jnp.where(y > 0, y, y / self.slope), jnp.where(y > 0, 0, -math.log(self.slope)).astype(y.dtype)


def _clipped_exp(x):
    info = np.finfo(x.dtype)
    return jnp.exp(between(x, math.log(least(x)), math.log(float(info.max)) * (1 - float(info.eps))))
