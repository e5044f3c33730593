"""Pareto k: how heavy the tail of importance weights is."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# So many draws of a largest weight, and it is the largest of all that there are.
_MANY_EQUAL = 5


def pareto_k(log_w: Float[Array, " n"]) -> Float[Array, ""]:
    """Shape `k` of a generalised Pareto distribution fitted to the largest weights.

    The tail has `min(n / 5, 3 sqrt(n))` weights. The fit is the profile posterior mean of Zhang and Stephens with the
    weak prior of Vehtari et al. `k < 0.5` means that the weights have a finite variance; `k > 0.7` means that no
    practical number of weights gives a trustworthy average.

    The result is NaN if the tail has fewer than 5 weights (`n <= 20`, or ties), and minus infinity if the weights have
    no tail (all equal). It is plus infinity if they have no average: one is NaN or plus infinity, or all are zero.

    Weights of a discrete space come in steps, and the fit is one of a continuous distribution: equal weights are spread
    evenly, as logarithms, down to the next smaller one. A largest weight that five draws or more have is left as it is,
    for nothing lies above it.

    Source: Vehtari et al. (2024), section 2 and appendix C; arXiv:1507.02646. Zhang and Stephens (2009).
    """
    (num,) = log_w.shape
    # Diagnostics need no gradient, and the gradient of a sort is costly.
    log_w = jax.lax.stop_gradient(log_w)
    has_average = jnp.all(log_w < jnp.inf) & jnp.any(log_w > -jnp.inf)  # NaN fails the first
    num_tail = math.ceil(min(0.2 * num, 3 * math.sqrt(num)))
    if num_tail < 5:
        return jnp.where(has_average, jnp.asarray(jnp.nan, log_w.dtype), jnp.inf)
    log_w = jnp.sort(log_w)[-num_tail - 1 :]
    # Excesses over the cut-off, in units of the largest weight; k does not depend on the unit.
    rounding = 8 * float(jnp.finfo(log_w.dtype).eps)
    log_w = _spread_ties(log_w - log_w[-1], rounding)
    excess = jnp.exp(log_w[1:]) - jnp.exp(log_w[0])
    # Weights that tie with the cut-off (common on discrete spaces), or differ by rounding, do not make a tail.
    num_above = jnp.sum(excess > rounding)
    k = _fit_generalised_pareto(excess, jnp.maximum(num_above, 1))
    k = jnp.where(jnp.isnan(k), jnp.inf, k)  # a tail that no Pareto distribution fits may be heavy
    k = jnp.where(num_above < 5, jnp.nan, k)
    k = jnp.where(num_above == 0, -jnp.inf, k)
    return jnp.where(has_average, k, jnp.inf)


def _spread_ties(log_w: Float[Array, " n"], rounding: float) -> Float[Array, " n"]:
    """Ascending log weights, at most zero, of which equal ones lead up evenly from the next smaller one."""
    (size,) = log_w.shape
    number = jnp.arange(size)
    is_step = jnp.diff(jnp.exp(log_w)) > rounding
    first = jax.lax.cummax(jnp.where(jnp.append(True, is_step), number, 0))
    last = jax.lax.cummin(jnp.where(jnp.append(is_step, True), number, size - 1), reverse=True)
    num_equal = last - first + 1
    lower = log_w[jnp.maximum(first - 1, 0)]
    share = (number - first + 1).astype(log_w.dtype) / num_equal.astype(log_w.dtype)
    is_whole = (first == 0) | (lower == -jnp.inf) | (num_equal == 1)
    is_whole |= (last == size - 1) & (num_equal >= _MANY_EQUAL)
    return jnp.where(is_whole, log_w, lower + share * (log_w - lower))


def _fit_generalised_pareto(excess: Float[Array, " n"], num: Int[Array, ""]) -> Float[Array, ""]:
    """The shape k fitted to the `num` largest excesses; they come in ascending order."""
    size, dtype = excess.shape[0], excess.dtype
    used = jnp.arange(size) >= size - num
    x = jnp.where(used, excess, excess[-1])
    n = num.astype(dtype)
    quartile = x[size - num + jnp.maximum(jnp.floor(n / 4 + 0.5).astype(int) - 1, 0)]
    num_grid = 30 + int(math.sqrt(size))
    spread = 1 - jnp.sqrt(num_grid / (jnp.arange(1, num_grid + 1, dtype=dtype) - 0.5))
    grid = 1 / x[-1] + spread / (3 * quartile)

    def mean_log(b):
        return jnp.sum(jnp.where(used, jnp.log1p(-b * x), 0)) / n

    k = jax.vmap(mean_log)(grid)
    log_profile = n * (jnp.log(-grid / k) - k - 1)
    k_hat = mean_log(jnp.sum(grid * jax.nn.softmax(log_profile)))
    return (n * k_hat + 10 * 0.5) / (n + 10)
