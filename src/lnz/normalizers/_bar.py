import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractBlockDensity,
    AbstractCollapsibleDensity,
    AbstractDensity,
    AbstractNormalizer,
    AbstractSampler,
    Estimate,
    Weights,
    join_degrees,
)
from ..modules import is_false, replace, without_gradient
from ..samplers import HMC, Gibbs, Metropolis, default_sampler
from ._ais import AIS, ReverseAIS, in_errors
from ._weights import with_derivative


class BAR(AbstractNormalizer):
    """Bennett's acceptance ratio: `log Z` from annealing in both directions.

    The estimate is the L that solves

        sum_i sigmoid(w_i - L - m) = sum_j sigmoid(m + r_j + L),

    with forward log weights `w` (`E[exp w] = Z`), reverse log weights `r` (`E[exp r] = 1 / Z`) and
    `m = log(num_forward / num_reverse)`: the maximum-likelihood estimate given both sets. Its bias has no fixed sign,
    so its bound is `estimate`.

    It is consistent if the reverse chains start at exact draws and each step is reversible, because one direction is
    then the time reversal of the other. Otherwise `assumes` lists the missing conditions. Steps of `HMC` and
    `Metropolis` are reversible, and so is `Gibbs` on two layers if one is summed out (an RBM, the even layers of a
    DBM). A sweep through more blocks is not reversible.

    **Arguments:**

    - `forward`: `AIS(...)`. Both directions use its path, temperatures and sampler.
    - `reverse`: `ReverseAIS(...)` with the same ones. It also sets how its chains start.

    **Raises:** `TypeError` for other normalisers; `ValueError` if temperatures, paths or samplers differ.

    Source: Bennett (1976), equations 12 and 10a; for maximum likelihood, Shirts, Bair, Hooker and Pande (2003).
    """

    forward: AIS
    reverse: ReverseAIS

    def __init__(self, forward: AIS | None = None, reverse: ReverseAIS | None = None):
        self.forward = AIS() if forward is None else forward
        self.reverse = ReverseAIS() if reverse is None else reverse

    def __check_init__(self):
        for name, kind in (("forward", AIS), ("reverse", ReverseAIS)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(
                    f"`BAR({name}=...)` must be `lnz.normalizers.{kind.__name__}(...)`; got {getattr(self, name)!r}."
                )
        for name in ("betas", "path", "sampler"):
            if not _are_same(getattr(self.forward, name), getattr(self.reverse, name)):
                raise ValueError(
                    f"`BAR(forward=..., reverse=...)` must go the same way in both directions: give both the same "
                    f"`{name}`."
                )

    @property
    def name(self) -> str:
        return "BAR"

    @property
    def exact_draws(self) -> Array | None:
        return self.reverse.exact_draws

    def cost(self, density: AbstractDensity) -> int:
        return self.forward.cost(density) + self.reverse.cost(density)

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        key_forward, key_reverse = jr.split(key)
        # One pilot run for both: each direction must make the moves of the other.
        fixed = without_gradient(density)
        forward, info, ends = self.forward.run(key_forward, fixed, key)
        reverse, _, starts = self.reverse.run(key_reverse, fixed, key)
        estimate = acceptance_ratio(forward, reverse)
        assumes = () if self.reverse.num_warm_up is None else ("stationary start",)
        if not _is_reversible(self.forward.sampler, density):
            assumes = (*assumes, "reversible steps")
        weights = replace(estimate.weights, **in_errors(info, estimate.standard_error))
        estimate = replace(estimate, assumes=assumes, weights=weights)
        # Each side has half of the weight.
        of_reverse = jnp.full_like(reverse, -math.log(len(reverse)))
        log_w = jnp.concatenate([jax.nn.log_softmax(forward), of_reverse])
        return with_derivative(estimate, density, jnp.concatenate([ends, starts]), log_w, self.forward.batch_size)


def acceptance_ratio(forward: Float[Array, " n"], reverse: Float[Array, " m"]) -> Estimate:
    """`log Z` from forward log weights `[n]` and reverse log weights `[m]`, by the equation of `BAR`.

    The standard error is the large-sample one. `weights.overlap` measures the overlap of the two directions: it is 1
    if all weights are equal; near 0 the directions do not meet, and the error bar means little. `weights.ess` is the
    effective number of draws of the side that has fewer. A log weight of NaN or plus infinity makes the value NaN. A
    log weight of minus infinity is an ordinary weight of zero.

    **Raises:** `ValueError` for fewer than two weights a side.

    Source: Bennett (1976), equations 12 and 10a.
    """
    n, m = len(forward), len(reverse)
    if min(n, m) < 2:
        raise ValueError(f"`acceptance_ratio` needs at least 2 weights a side for an error bar; got {n} and {m}.")
    shift = math.log(n / m)
    # Work relative to a value between the two sides: in float32, log Z may be too large to resolve its error.
    centre = 0.5 * (_middle(forward) - _middle(reverse))
    have_averages = jnp.all(forward < jnp.inf) & jnp.all(reverse < jnp.inf)  # NaN fails
    forward, reverse = forward - centre, reverse + centre

    def excess(L):  # falls with L
        return jnp.sum(jax.nn.sigmoid(forward - L - shift)) - jnp.sum(jax.nn.sigmoid(shift + reverse + L))

    edges = jnp.concatenate([forward, -reverse])
    edges = jnp.where(jnp.isinf(edges), 0, edges)  # a draw of weight zero does not bracket the root
    # At the root, neither side can lie entirely above or entirely below.
    low, high = jnp.min(edges) - abs(shift) - 1.0, jnp.max(edges) + abs(shift) + 1.0

    def halve(_, interval):
        low, high = interval
        middle = 0.5 * (low + high)
        too_low = excess(middle) > 0
        return jnp.where(too_low, middle, low), jnp.where(too_low, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    L = 0.5 * (low + high)
    f, r = jax.nn.sigmoid(forward - L - shift), jax.nn.sigmoid(shift + reverse + L)
    errors = _relative_error(f), _relative_error(r)
    # If all weights are equal, the two means are m / (n + m) and n / (n + m).
    overlap = jnp.mean(f) * (n + m) / m
    return Estimate(
        value=jnp.where(have_averages, L + centre, jnp.nan),
        standard_error=jnp.hypot(*errors),
        bound="estimate",
        weights=Weights(
            num=jnp.asarray(min(n, m)),
            ess=jnp.minimum(*(jnp.sum(side) ** 2 / jnp.sum(side**2) for side in (f, r))),
            degrees=join_degrees(errors, (n - 1, m - 1)),
            overlap=overlap,
        ),
    )


def _relative_error(x: Float[Array, " n"]) -> Float[Array, ""]:
    """Standard error of the mean over the mean."""
    return jnp.sqrt(jnp.maximum(jnp.mean(x**2) / jnp.mean(x) ** 2 - 1, 0) / len(x))


def _middle(log_w: Float[Array, " n"]) -> Float[Array, ""]:
    """The median of the finite log weights, or 0 if there are none: most draws may have weight zero."""
    middle = jnp.nanmedian(jnp.where(jnp.isfinite(log_w), log_w, jnp.nan))
    return jnp.where(jnp.isfinite(middle), middle, 0)


def _are_same(first: Any, second: Any) -> bool:
    return not is_false(jnp.asarray(eqx.tree_equal(first, second)))


def _is_reversible(sampler: AbstractSampler | None, density: AbstractDensity) -> bool:
    sampler = default_sampler(density) if sampler is None else sampler
    if isinstance(sampler, Gibbs):
        # A collapsible density with two blocks sums one of them out, so its position is a single block.
        return (
            isinstance(density, AbstractCollapsibleDensity)
            and isinstance(density, AbstractBlockDensity)
            and density.num_blocks == 2
        )
    return isinstance(sampler, HMC | Metropolis)
