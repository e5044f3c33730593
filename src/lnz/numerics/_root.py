"""Roots of increasing functions of one variable, which may be differentiated in any mode."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Bits of a bracket from 1e10 down to float64's rounding, twice over: where each Newton step must be followed by a
# bisection there are two steps to a bit.
_MOST_STEPS = 200


def increasing_root(
    fun: Callable[..., Float[Array, "..."]],
    args: tuple,
    low: Float[Array, "..."],
    high: Float[Array, "..."],
    start: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """The x with `low <= x <= high` and `fun(x, *args) = 0`, element by element; `fun` must close over no parameter.

    Newton's method from `start` (by default the middle), with a bisection wherever a step would leave the bracket or is
    not half of the step before the last. It stops where a step is at most 4 units in the last place of `1 + |x|`, or
    where the bracket is as narrow. Each element stops by itself, so that a batch gives what a loop gives.

    Derivatives with respect to `args`, up to the third, are those of the root: not of the steps that found it.
    """
    fixed = jax.lax.stop_gradient(args)
    low, high = jax.lax.stop_gradient((low, high))
    start = (low + high) / 2 if start is None else jnp.clip(jax.lax.stop_gradient(start), low, high)
    x = _solve(lambda x: fun(x, *fixed), low, high, start)
    # Newton's steps from a root, of which the value is zero and the derivatives are not. Each doubles how many are
    # right. `jax.lax.custom_root` would do, but inside a scan has no second derivative in reverse mode.
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
    """A slope of at least `least`: `1 + raw` from zero upwards, below it an exponential with the same derivative."""
    room = 1 - least
    return jnp.where(raw >= 0, 1 + raw, least + room * jnp.exp(jnp.minimum(raw, 0) / room))


def excess_of(raw: Float[Array, "..."], least: float) -> Float[Array, "..."]:
    """`slope_of(raw, least) - 1 - raw`, exactly zero where nothing needs to change."""
    room, below = 1 - least, jnp.minimum(raw, 0)
    return jnp.where(raw >= 0, 0, room * jnp.expm1(below / room) - below)


def bend_slope(slope: Float[Array, "..."], s: Float[Array, "..."]) -> Float[Array, "..."]:
    """`1 + (slope - 1) / cosh(s)^2`, the derivative of `s + (slope - 1) tanh(s)`, as a sum of positive numbers."""
    return 4 * slope * jax.nn.sigmoid(2 * s) * jax.nn.sigmoid(-2 * s) + jnp.tanh(s) ** 2


def unbend(slope: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """The s with `s + (slope - 1) tanh(s) = target`, for positive `slope`, both of the same shape."""
    # Bent one way on each side of zero, the function sends every Newton step from this start to the same side.
    reach = jnp.abs(slope - 1)
    return increasing_root(_bent, (slope, target), target - reach, target + reach, target / slope)


def _bent(s, slope, target):
    return s + (slope - 1) * jnp.tanh(s) - target
