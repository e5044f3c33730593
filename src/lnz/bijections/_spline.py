"""Rational-quadratic splines: value, log-derivative and bin in one pass, without gather operations."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..numerics import softplus
from ..spaces import AbstractSpace, between
from ._transformers import AbstractTransformer


class SplineTransformer(AbstractTransformer):
    """Monotone rational-quadratic spline on `[low, high]`, and the identity outside.

    Within bin k, with `xi = (x - x_k) / (x_{k+1} - x_k)` and slope `s_k = (y_{k+1} - y_k) / (x_{k+1} - x_k)`,

    `y = y_k + (y_{k+1} - y_k) (s_k xi^2 + d_k xi (1 - xi)) / (s_k + (d_{k+1} + d_k - 2 s_k) xi (1 - xi))`.

    `raw` holds the logits of the bin widths and heights, and the raw derivatives at inner knots. The derivatives at the
    two ends are 1; with `circular` they are one common parameter, so that the density is continuous around the circle.
    The inverse solves a quadratic equation without cancellation. Inputs are clipped before any arithmetic, so that
    gradients are finite however far out they are.

    **Arguments:**

    - `num_bins`: number of bins K; there are `3 K - 1` raw numbers (`3 K` if circular).
    - `low`, `high`: the interval.
    - `circular`: whether the two ends are the same point.
    - `min_bin`, `min_derivative`: smallest width or height of a bin, as a fraction of the interval, and smallest
      derivative.

    Source: Durkan, Bekasov, Murray and Papamakarios (2019), section 3.1; arXiv:1906.04032. Circular: Rezende et al.
    (2020), circular splines; arXiv:2002.02428.
    """

    num_bins: int = eqx.field(static=True, default=8)
    low: float = eqx.field(static=True, default=-3.0)
    high: float = eqx.field(static=True, default=3.0)
    circular: bool = eqx.field(static=True, default=False)
    min_bin: float = eqx.field(static=True, default=1e-3)
    min_derivative: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self):
        if self.num_bins < 2:
            raise ValueError(f"`SplineTransformer(num_bins=...)` must be at least 2; got {self.num_bins}.")
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"`SplineTransformer(low=..., high=...)` needs finite low < high; got {self.low} and {self.high}."
            )
        if not 0 < self.min_bin * self.num_bins < 1:
            raise ValueError(
                "`SplineTransformer(min_bin=...)` must be positive and less than 1 / num_bins = "
                f"{1 / self.num_bins:g}; got {self.min_bin}."
            )
        if not 0 < self.min_derivative < 1:
            raise ValueError(
                f"`SplineTransformer(min_derivative=...)` must be between 0 and 1; got {self.min_derivative}."
            )

    @property
    def num_params(self) -> int:
        return 3 * self.num_bins - (not self.circular)

    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        """Whether `[low, high]` lies within the ends of each variable or, with `circular`, equals them."""
        found = [one.ends if one.measure.is_continuous else None for one in variables]
        if self.circular:
            return all(ends == (self.low, self.high) for ends in found)
        return all(ends is not None and ends[0] <= self.low and self.high <= ends[1] for ends in found)

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        inside, u = self._to_unit(x)
        left, below, width, height, d0, d1 = self._bin(raw, u, by_height=False)
        xi = between((u - left) / width, 0, 1)
        value, log_derivative = _rational(xi, height / width, height, d0, d1)
        y = self.low + (self.high - self.low) * (below + value)
        return jnp.where(inside, y, x), jnp.where(inside, log_derivative, 0)

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        inside, v = self._to_unit(y)
        left, below, width, height, d0, d1 = self._bin(raw, v, by_height=True)
        slope = height / width
        xi = _root(between(v - below, 0, height), slope, height, d0, d1)
        _, log_derivative = _rational(xi, slope, height, d0, d1)
        x = self.low + (self.high - self.low) * (left + xi * width)
        return jnp.where(inside, x, y), jnp.where(inside, -log_derivative, 0)

    def _to_unit(self, x):
        """Whether x is inside, and its place in the interval as a number from 0 to 1."""
        inside = (x > self.low) & (x < self.high)
        if self.circular:  # the ends are a knot like any other
            inside = inside | (x == self.low) | (x == self.high)
        return inside, (jnp.where(inside, x, self.low) - self.low) / (self.high - self.low)

    def _bin(self, raw, u, by_height):
        """Left end, lower end, width, height and the two end derivatives of the bin that u falls into."""
        num = self.num_bins
        widths = self._parts(raw[:num])
        heights = self._parts(raw[num : 2 * num])
        sizes = heights if by_height else widths
        edge, past = jnp.zeros_like(u), []
        for k in range(num - 1):
            edge = edge + sizes[k]
            past.append(u >= edge)
        below = jnp.stack(past)
        shape = (1, *u.shape)
        beyond = jnp.concatenate([below, jnp.zeros(shape, bool)])  # u lies in a bin after k
        here = jnp.concatenate([jnp.ones(shape, bool), below]) & ~beyond

        def choose(which, values):
            return jnp.sum(jnp.where(which, values, 0), axis=0)

        knots = self._knots(raw[2 * num :])
        d0, d1 = choose(here, knots[:-1]), choose(here, knots[1:])
        return (
            choose(beyond, widths),
            choose(beyond, heights),
            choose(here, widths),
            choose(here, heights),
            self._derivative(d0),
            self._derivative(d1),
        )

    def _parts(self, logits):
        """Widths or heights: positive, with sum one."""
        weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=0, keepdims=True)))
        share = (1 - self.min_bin * self.num_bins) / jnp.sum(weights, axis=0, keepdims=True)
        return self.min_bin + share * weights

    def _knots(self, raw):
        """Raw derivatives at all knots; a raw zero is a derivative of one."""
        if self.circular:
            return jnp.concatenate([raw, raw[:1]])
        end = jnp.zeros_like(raw[:1])
        return jnp.concatenate([end, raw, end])

    def _derivative(self, raw):
        return self.min_derivative + softplus(raw + math.log(math.expm1(1 - self.min_derivative)))


def _rational(xi, slope, height, d0, d1):
    """Height above the bin's lower end, and the log-derivative."""
    other = 1 - xi
    both = xi * other
    denominator = slope + (d1 + d0 - 2 * slope) * both
    value = height * (slope * xi * xi + d0 * both) / denominator
    numerator = d1 * xi * xi + 2 * slope * both + d0 * other * other
    return value, 2 * jnp.log(slope / denominator) + jnp.log(numerator)


def _root(value, slope, height, d0, d1):
    """The xi at which the bin's function has this value: a xi^2 + b xi + c = 0, c <= 0."""
    bend = value * (d1 + d0 - 2 * slope)
    a = height * (slope - d0) + bend
    b = height * d0 - bend
    c = -slope * value
    root = jnp.sqrt(jnp.maximum(b * b - 4 * a * c, jnp.finfo(b.dtype).tiny))
    # Use whichever of -b - root and -b + root adds numbers of the same sign.
    positive = b >= 0
    first = -2 * c / jnp.where(positive, b + root, 1)
    second = (root - b) / jnp.where(positive, 1, 2 * a)
    return between(jnp.where(positive, first, second), 0, 1)
