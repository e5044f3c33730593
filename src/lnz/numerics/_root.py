"""Roots of increasing functions of one variable, differentiable in any mode."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Twice the number of bisections that take a bracket from 1e10 down to float64's rounding: in the worst case every
# second step is a Newton step that does not help.
_MOST_STEPS = 200


def increasing_root(
    fun: Callable[..., Float[Array, "..."]],
    args: tuple,
    low: Float[Array, "..."],
    high: Float[Array, "..."],
    start: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """The x with `low <= x <= high` and `fun(x, *args) = 0`, elementwise. `fun` must not close over parameters.

    Newton's method from `start` (default: the middle). It bisects instead if a step would leave the bracket or is more
    than half as long as the step before the last. It stops once a step, or the bracket, is at most 4 units in the last
    place of `1 + |x|`. Each element stops on its own, so that a batch gives the same results as a loop.

    Derivatives with respect to `args` are those of the root, up to the third order; the iterations are not
    differentiated.
    """
    fixed = jax.lax.stop_gradient(args)
    low, high = jax.lax.stop_gradient((low, high))
    start = (low + high) / 2 if start is None else jnp.clip(jax.lax.stop_gradient(start), low, high)
    x = _solve(lambda x: fun(x, *fixed), low, high, start)
    # Newton steps from the root do not change x, but give it derivatives: the first step the first one, the second the
    # next two. `jax.lax.custom_root` has no second derivative in reverse mode inside a scan.
    for _ in range(2):
        value, slope = _value_and_slope(lambda x: fun(x, *args), x)
        x = x - (value - jax.lax.stop_gradient(value)) / jnp.maximum(slope, jnp.finfo(x.dtype).tiny)
    return x


def _solve(fun, low, high, x):
    def step(state):
        x, low, high, last, before, done, i = state
        value, slope = _value_and_slope(fun, x)
        low, high = jnp.where(value < 0, x, low), jnp.where(value > 0, x, high)
        newton = x - value / slope
        good = (newton >= low) & (newton <= high) & (2 * jnp.abs(newton - x) <= before)
        moved = jnp.where(good, newton, low + (high - low) / 2)
        size = jnp.where(value == 0, 0, jnp.abs(moved - x))
        x = jnp.where(done | (value == 0), x, moved)
        small = 4 * jnp.finfo(x.dtype).eps * (1 + jnp.abs(x))
        return x, low, high, size, last, done | (size <= small) | (high - low <= small), i + 1

    def unfinished(state):
        return ~jnp.all(state[-2]) & (state[-1] < _MOST_STEPS)

    state = (x, low, high, 2 * (high - low), 2 * (high - low), jnp.zeros(x.shape, bool), 0)
    return jax.lax.while_loop(unfinished, step, state)[0]


def _value_and_slope(fun, x):
    return jax.jvp(fun, (x,), (jnp.ones_like(x),))


def slope_of(raw: Float[Array, "..."], least: float) -> Float[Array, "..."]:
    """A slope of at least `least`: `1 + raw` for `raw >= 0`, else an exponential with the same derivative at zero."""
    room = 1 - least
    return jnp.where(raw >= 0, 1 + raw, least + room * jnp.exp(jnp.minimum(raw, 0) / room))


def excess_of(raw: Float[Array, "..."], least: float) -> Float[Array, "..."]:
    """`slope_of(raw, least) - 1 - raw`, exactly zero for `raw >= 0`."""
    room, below = 1 - least, jnp.minimum(raw, 0)
    return jnp.where(raw >= 0, 0, room * jnp.expm1(below / room) - below)


def bend_slope(slope: Float[Array, "..."], s: Float[Array, "..."]) -> Float[Array, "..."]:
    """`1 + (slope - 1) / cosh(s)^2`, the derivative of `s + (slope - 1) tanh(s)`, as a sum of positive numbers."""
    return 4 * slope * jax.nn.sigmoid(2 * s) * jax.nn.sigmoid(-2 * s) + jnp.tanh(s) ** 2


def unbend(slope: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """The s with `s + (slope - 1) tanh(s) = target`, for positive `slope`, both of the same shape."""
    # The function is convex or concave on each side of zero, so Newton steps from this start approach from one side.
    reach = jnp.abs(slope - 1)
    return increasing_root(_bent, (slope, target), target - reach, target + reach, target / slope)


def _bent(s, slope, target):
    return s + (slope - 1) * jnp.tanh(s) - target
