import math

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._check import is_false
from .._density import AbstractDensity, AbstractNormalizer
from .._estimate import Estimate
from .._register import register
from ._ais import AIS, ReverseAIS


@register
class BAR(AbstractNormalizer):
    """Bennett's acceptance ratio: `log Z` from annealing in both directions, more precise than either.

    With forward log weights `w` and reverse log weights `r` (of mean `Z` and `1 / Z` after `exp`) and
    `m = log(num_forward / num_reverse)`, it is the L that solves

        sum_i sigmoid(w_i - L - m) = sum_j sigmoid(m + r_j + L),

    the maximum-likelihood estimate given both sets. It errs in neither direction alone, so its bound is `estimate`;
    it is consistent if the reverse chains start from exact draws, and else says what it assumes.

    **Arguments:**

    - `forward`, `reverse`: `AIS(...)` and `ReverseAIS(...)` along the same path with the same temperatures.

    **Raises:** `TypeError` for other normalisers; `ValueError` if their temperatures, paths or samplers differ.

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
        if not _are_same(self.forward.betas, self.reverse.betas):
            raise ValueError(
                "`BAR(forward=..., reverse=...)` must anneal through the same temperatures in both directions: give "
                "both the same `betas`."
            )

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        key_forward, key_reverse = jr.split(key)
        forward = self.forward.log_weights(key_forward, density)
        reverse = self.reverse.log_weights(key_reverse, density)
        estimate = acceptance_ratio(forward, reverse)
        assumes = () if self.reverse.num_warm_up is None else ("stationary start",)
        return Estimate(estimate.value, estimate.standard_error, "estimate", assumes, estimate.stats)


def acceptance_ratio(forward: Float[Array, " n"], reverse: Float[Array, " m"]) -> Estimate:
    """`log Z` from forward log weights `[n]` and reverse ones `[m]`; `BAR` has the equation.

    The standard error is that of large samples. `stats["overlap"]` is the fraction of draws that the
    two directions share: near 0 they do not meet, and the error bar means little; it is 1 where all weights are equal.

    Source: Bennett (1976), equations 12 and 10a.
    """
    n, m = len(forward), len(reverse)
    shift = math.log(n / m)
    # Relative to a value between the two sides: in float32, log Z may be too large to resolve its error.
    centre = 0.5 * (jnp.median(forward) - jnp.median(reverse))
    forward, reverse = forward - centre, reverse + centre

    def excess(L):  # falls with L
        return jnp.sum(jax.nn.sigmoid(forward - L - shift)) - jnp.sum(jax.nn.sigmoid(shift + reverse + L))

    edges = jnp.concatenate([forward, -reverse])
    # At a solution neither side can be all above or all below.
    low, high = jnp.min(edges) - abs(shift) - 1.0, jnp.max(edges) + abs(shift) + 1.0

    def halve(_, interval):
        low, high = interval
        middle = 0.5 * (low + high)
        too_low = excess(middle) > 0
        return jnp.where(too_low, middle, low), jnp.where(too_low, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    L = 0.5 * (low + high)
    f, r = jax.nn.sigmoid(forward - L - shift), jax.nn.sigmoid(shift + reverse + L)
    variance = (jnp.mean(f**2) / jnp.mean(f) ** 2 - 1) / n + (jnp.mean(r**2) / jnp.mean(r) ** 2 - 1) / m
    # Both means are m / (n + m) and n / (n + m) where the weights are all equal.
    overlap = jnp.mean(f) * (n + m) / m
    return Estimate(
        value=L + centre,
        standard_error=jnp.sqrt(jnp.maximum(variance, 0)),
        bound="estimate",
        stats={"overlap": overlap, "num": jnp.asarray(n + m)},
    )


def _are_same(first: int | Array, second: int | Array) -> bool:
    if isinstance(first, int) or isinstance(second, int):
        return isinstance(first, int) and isinstance(second, int) and first == second
    return first.shape == second.shape and not is_false(jnp.all(first == second))
