"""Maps that bend space along one direction or around one point."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..modules import as_floats
from ..nets import dense
from ..numerics import aligned, bend_slope, excess_of, slope_of, softplus, unbend
from ._bijection import AbstractBatchLastBijection, AbstractEuclideanMap


class Planar(AbstractBatchLastBijection, AbstractEuclideanMap):
    """`y = x + u tanh(w·x + b)`, a bend of the space along one direction; `det = 1 + w·u tanh'(w·x + b)`.

    The map is invertible only while `w·u > -1`. So `u` is projected on every use: `constrained_u` moves it along w, so
    that a value of `1 + w·u` below 1 becomes `min_slope + (1 - min_slope) exp(w·u / (1 - min_slope))`.

    The inverse solves one scalar equation for `w·x + b` by Newton's method in a bracket, to 4 units in the last place.
    The error in x is larger by a factor of at most `1 / min_slope`. Forward is the cheap direction.

    **Arguments:**

    - `u`, `w`: `[dim]`.
    - `b`: a number.
    - `min_slope`: the smallest factor by which the map may squeeze space.

    Source: Rezende and Mohamed (2015), equations 10 to 12 and appendix A.1; arXiv:1505.05770. Their projection,
    `m(a) = -1 + log(1 + e^a)`, also moves u where the map is invertible, and is singular at `w = 0`; this one is not.
    """

    u: Float[Array, " dim"]
    w: Float[Array, " dim"]
    b: Float[Array, ""]
    min_slope: float = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, u, w, b, min_slope: float = 1e-3):
        self.u, self.w, self.b, self.min_slope = as_floats(u), as_floats(w), as_floats(b), min_slope
        if self.u.ndim != 1 or self.w.shape != self.u.shape or self.b.ndim:
            raise ValueError(
                "`Planar(u, w, b)` needs u and w of shape (dim,) and a number b; got "
                f"{self.u.shape}, {self.w.shape} and {self.b.shape}."
            )
        self.shape = self.u.shape

    def __check_init__(self):
        _check_least(self.min_slope, "Planar(min_slope=...)")

    @property
    def constrained_u(self) -> Float[Array, " dim"]:
        """The projected u, with `w·u > -1`."""
        return self._aligned(0)[0]

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        u, slope = self._aligned(x.ndim - 1)
        s = dense(self.w, x, self.b, 1)
        return x + u * jnp.tanh(s)[None], jnp.log(bend_slope(slope, s))

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        u, slope = self._aligned(y.ndim - 1)
        target = dense(self.w, y, self.b, 1)
        s = unbend(jnp.broadcast_to(slope, target.shape), target)
        return y - u * jnp.tanh(s)[None], -jnp.log(bend_slope(slope, s))

    def _aligned(self, num_batch):
        """`u [dim, *batch]`, constrained, and `1 + w·u [*batch]`."""
        u, w = aligned(self.u, 1, num_batch), aligned(self.w, 1, num_batch)
        product, square = jnp.sum(w * u, axis=0), jnp.sum(w * w, axis=0)
        slope = slope_of(product, self.min_slope)
        # The change is of the order |w| |u|^2, so it vanishes with w.
        visible = square > jnp.finfo(u.dtype).tiny
        change = jnp.where(visible, excess_of(product, self.min_slope) / jnp.where(visible, square, 1), 0)
        return u + change[None] * w, jnp.where(visible, slope, 1)


class Radial(AbstractBatchLastBijection, AbstractEuclideanMap):
    """`y = x + beta h(r) (x - center)`, `h(r) = 1 / (alpha + r)`, `r = |x - center|`: a bulge or dent around a point.

    `log |det| = (dim - 1) log(1 + beta h) + log(1 + beta h + beta h' r)`, computed without subtracting nearly equal
    numbers. The map is invertible while `beta > -alpha`: the slope at the center, `1 + beta / alpha`, is
    `1 + raw_slope` if that is at least 1, else `min_slope + (1 - min_slope) exp(raw_slope / (1 - min_slope))`.
    `raw_slope = 0` is the identity. The inverse is exact: the radius solves a quadratic equation, by the formula for
    the root that loses no digits to cancellation.

    **Arguments:**

    - `center`: `[dim]`.
    - `raw_alpha`: a number; `alpha = 1e-3 + softplus(raw_alpha)` is the reach of the change.
    - `raw_slope`: a number: positive expands, negative contracts.
    - `min_slope`: the smallest factor by which the map may squeeze space.

    Source: Rezende and Mohamed (2015), equation 14 and appendix A.2; arXiv:1505.05770.
    """

    center: Float[Array, " dim"]
    raw_alpha: Float[Array, ""]
    raw_slope: Float[Array, ""]
    min_slope: float = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, center, raw_alpha, raw_slope, min_slope: float = 1e-3):
        self.center, self.min_slope = as_floats(center), min_slope
        self.raw_alpha, self.raw_slope = as_floats(raw_alpha), as_floats(raw_slope)
        if self.center.ndim != 1 or self.raw_alpha.ndim or self.raw_slope.ndim:
            raise ValueError(
                "`Radial(center, raw_alpha, raw_slope)` needs a center of shape (dim,) and two numbers; got "
                f"{self.center.shape}, {self.raw_alpha.shape} and {self.raw_slope.shape}."
            )
        self.shape = self.center.shape

    def __check_init__(self):
        _check_least(self.min_slope, "Radial(min_slope=...)")

    @property
    def alpha(self) -> Float[Array, ""]:
        return _reach(self.raw_alpha)

    @property
    def beta(self) -> Float[Array, ""]:
        return self.alpha * (slope_of(self.raw_slope, self.min_slope) - 1)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        center, alpha, slope = self._aligned(x.ndim - 1)
        offset = x - center
        factor, log_det = self._at(_length(offset), alpha, slope)
        return center + offset * factor[None], log_det

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        center, alpha, slope = self._aligned(y.ndim - 1)
        offset = y - center
        length = _length(offset)
        # r^2 + (alpha slope - |y - center|) r - alpha |y - center| = 0
        b, c = alpha * slope - length, alpha * length
        root = jnp.sqrt(b * b + 4 * c)
        positive = b > 0
        r = jnp.where(positive, 2 * c / jnp.where(positive, b + root, 1), (root - b) / 2)
        factor, log_det = self._at(r, alpha, slope)
        return center + offset / factor[None], -log_det

    def _aligned(self, num_batch):
        raw_alpha, raw_slope = aligned(self.raw_alpha, 0, num_batch), aligned(self.raw_slope, 0, num_batch)
        return aligned(self.center, 1, num_batch), _reach(raw_alpha), slope_of(raw_slope, self.min_slope)

    def _at(self, r, alpha, slope):
        """The factor on the distance r, and the log-determinant, from logarithms of sums of positive numbers."""
        far, near = r / (alpha + r), alpha / (alpha + r)
        factor = far + slope * near
        stretch = far * far + 2 * far * near + slope * near * near
        return factor, (self.center.shape[0] - 1) * jnp.log(factor) + jnp.log(stretch)


def _reach(raw_alpha):
    return 1e-3 + softplus(raw_alpha)


def _length(x):
    """`|x|` over the first axis, with derivative zero at zero."""
    square = jnp.sum(x * x, axis=0)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def _check_least(value: float, argument: str) -> None:
    if not (math.isfinite(value) and 0 < value < 1):
        raise ValueError(f"`{argument}` must be between 0 and 1; got {value}.")
