"""Numbers with an error bar and a direction: the only place that knows the algebra of bounds."""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Inexact, Int

from ._register import register

Bound = Literal["exact", "unbiased", "lower", "upper", "estimate"]

_MIN_ESS = 10
_MIN_OVERLAP = 0.06

_FLIPPED: dict[Bound, Bound] = {
    "exact": "exact",
    "unbiased": "unbiased",
    "lower": "upper",
    "upper": "lower",
    "estimate": "estimate",
}
_IN_WORDS: dict[Bound, str] = {
    "exact": "exact",
    "unbiased": "unbiased estimate",
    "lower": "lower bound",
    "upper": "upper bound",
    "estimate": "estimate",
}


class UnreliableEstimateWarning(UserWarning):
    """An importance-type estimate rests on too few weights: its error bar cannot be trusted."""


def flip_bound(bound: Bound) -> Bound:
    """Direction of `-a` when `bound` is the direction of `a`."""
    return _FLIPPED[bound]


def join_bounds(first: Bound, second: Bound) -> Bound:
    """Direction of `a + b`. Exact and then unbiased are neutral; opposite directions leave only an estimate."""
    for neutral in ("exact", "unbiased"):
        if first == neutral:
            return second
        if second == neutral:
            return first
    if first == second:
        return first
    return "estimate"


@register
class Estimate(eqx.Module):
    """An estimated log integral in nats, with standard error and the direction of its bias.

    An estimate of `log E[w]` by the log of an average is a lower bound *in expectation*; minus
    turns lower into upper; lower plus upper is only an estimate. `+`, `-` and unary minus follow
    that algebra and add independent errors in quadrature.

    `bound` says which way the *expected value* errs: one draw of a lower bound may exceed the truth. An `"unbiased"`
    one does not err in expectation: a log-likelihood (the logarithm itself) whose log-determinant is estimated.
    `assumes` lists what must hold beyond that, for instance `"stationary start"`.
    `stats` holds diagnostics: `ess`, `pareto_k`, `num` (the number of weights) and `overlap` where they apply, and
    the `log_weights` of annealing.
    """

    value: Inexact[Array, "*batch"]
    standard_error: Inexact[Array, "*batch"]
    bound: Bound = eqx.field(static=True)
    assumes: tuple[str, ...] = eqx.field(static=True, default=())
    stats: dict[str, Any] = eqx.field(default_factory=dict)

    @classmethod
    def exact(cls, value) -> "Estimate":
        """A value with no Monte Carlo error."""
        value = jnp.asarray(value)
        return cls(value, jnp.zeros_like(value), "exact")

    def __neg__(self) -> "Estimate":
        return Estimate(-self.value, self.standard_error, flip_bound(self.bound), self.assumes, self.stats)

    def __add__(self, other: "Estimate") -> "Estimate":
        if not isinstance(other, Estimate):
            return NotImplemented
        return Estimate(
            self.value + other.value,
            jnp.hypot(self.standard_error, other.standard_error),
            join_bounds(self.bound, other.bound),
            tuple(dict.fromkeys(self.assumes + other.assumes)),
            _join_stats(self.stats, other.stats),
        )

    def __sub__(self, other: "Estimate") -> "Estimate":
        if not isinstance(other, Estimate):
            return NotImplemented
        return self + (-other)

    @property
    def reliable(self) -> bool:
        """Whether the diagnostics, if there are any, support the error bar (`weights_are_reliable`)."""
        return not unreliable_reasons(self.stats)

    def __str__(self) -> str:
        if np.ndim(self.value) > 0:
            return f"{np.shape(self.value)} estimates in nats ({_IN_WORDS[self.bound]})"
        parts = [_IN_WORDS[self.bound]]
        if self.bound != "exact":
            parts.append(f"s.e. {float(self.standard_error):.2g}")
        parts += _describe_weights(self.stats)
        parts += [f"assumes {what}" for what in self.assumes]
        return f"{float(self.value):.4f} nats ({', '.join(parts)})"


def _join_stats(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Diagnostics of a sum: those of the side that is to be trusted less; the weights of two sides are not joined."""
    first, second = ({name: value for name, value in side.items() if name != "log_weights"} for side in (first, second))
    if not {"ess", "num"} <= first.keys() & second.keys():
        return {**first, **second}
    nothing = jnp.full_like(first["ess"] + second["ess"], jnp.nan)  # what was not measured says nothing
    names = {**first, **second}
    first, second = ({name: side.get(name, nothing) for name in names} for side in (first, second))
    first_is_worse = _doubt(first) >= _doubt(second)
    return {name: jnp.where(first_is_worse, first[name], second[name]) for name in names}


def _doubt(stats: Mapping[str, Any]) -> Float[Array, "*batch"]:
    """The rules of `unreliable_reasons` as one number, above one where they are broken."""
    num = jnp.asarray(stats["num"], stats["ess"].dtype)
    threshold = jnp.minimum(1 - 1 / jnp.log10(num), 0.7)
    doubts = [_MIN_ESS / stats["ess"]]
    if "pareto_k" in stats:
        doubts.append(1 + stats["pareto_k"] - threshold)
    if "overlap" in stats:
        doubts.append(_MIN_OVERLAP / stats["overlap"])
    doubt = doubts[0]
    for other in doubts[1:]:
        doubt = jnp.fmax(doubt, other)  # fmax: what was not measured is silent
    return doubt


def _describe_weights(stats: Mapping[str, Any]) -> list[str]:
    words = []
    if "ess" in stats:
        words.append(f"ESS {float(stats['ess']):.1f} of {int(stats['num'])}")
    if "pareto_k" in stats and not np.isnan(float(stats["pareto_k"])):
        words.append(f"Pareto k {float(stats['pareto_k']):.2f}")
    if "overlap" in stats and not np.isnan(float(stats["overlap"])):
        words.append(f"overlap {float(stats['overlap']):.2f}")
    return words + [f"UNRELIABLE: {reason}" for reason in unreliable_reasons(stats)]


def pareto_k_threshold(num: int) -> float:
    """`min(1 - 1 / log10(n), 0.7)`, above which an average of `n` weights is not to be trusted.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), section 3.2.4; arXiv:1507.02646.
    """
    return min(1 - 1 / math.log10(num), 0.7) if num > 1 else -math.inf


def unreliable_reasons(stats: Mapping[str, Any], min_ess: float = _MIN_ESS) -> list[str]:
    """Why an average of importance weights cannot carry its error bar; empty when it can.

    The rules: effective sample size below 10, Pareto k above `pareto_k_threshold`, or, for two directions of
    annealing, an overlap below 0.06. A Pareto k that could not be fitted (20 weights or fewer, or ties) counts as no
    evidence either way.

    Source: for the overlap, Klimovich, Shirts and Mobley (2015), whose 0.03 is of a number that is 0.5 at best.
    """
    reasons = []
    if "ess" in stats and float(stats["ess"]) < min_ess:
        reasons.append(f"effective sample size {float(stats['ess']):.1f} is below {min_ess:g}")
    if "overlap" in stats and float(stats["overlap"]) < _MIN_OVERLAP:
        reasons.append(f"the two directions of annealing overlap by only {float(stats['overlap']):.2g}")
    if "edge_mass" in stats and float(stats["edge_mass"]) > 1e-6:
        reasons.append(
            f"a fraction {float(stats['edge_mass']):.1g} of the mass lies on the edge of the grid: widen `bounds`"
        )
    if "pareto_k" in stats:
        threshold = pareto_k_threshold(int(stats["num"]))
        if float(stats["pareto_k"]) > threshold:
            reasons.append(f"Pareto k {float(stats['pareto_k']):.2f} is above {threshold:.2f}")
    return reasons


def warn_if_unreliable(estimate: Estimate, what: str) -> None:
    """Issue an `UnreliableEstimateWarning` that names the reasons and what to try."""
    if isinstance(estimate.value, Tracer) or np.ndim(estimate.value) > 0:
        return  # inside a compiled function nobody could read it; the diagnostics travel with the estimate
    reasons = unreliable_reasons(estimate.stats)
    if reasons:
        warnings.warn(
            f"{what}: {'; '.join(reasons)}. Its error bar is too small. Use more temperatures or chains, "
            "or a start closer to the target (for an RBM: `path=lambda rbm: rbm.path(base_rates)`).",
            UnreliableEstimateWarning,
            stacklevel=3,
        )


def log_mean_exp(log_w: Float[Array, " n"]) -> Estimate:
    """`log (1/n) sum_i exp(log_w_i)`: the log of an average of importance weights.

    **Arguments:**

    - `log_w`: log weights in nats, independent across `n`. Needs `n >= 2`.

    **Returns:**

    An `Estimate` in nats with a delta-method standard error. It is a lower bound *in expectation*
    (Jensen), so one draw may exceed the truth. The error is too small when few weights dominate:
    read it with the reported `ess` and `pareto_k`.

    **Raises:** `ValueError` if `n < 2`.

    Source: Burda, Grosse and Salakhutdinov (2016), theorem 1; arXiv:1509.00519.
    """
    (num,) = log_w.shape
    if num < 2:
        raise ValueError(f"`log_mean_exp(log_w)` needs at least 2 weights for an error bar; got {num}.")
    value = logsumexp(log_w) - math.log(num)
    w = jnp.exp(log_w - value)  # mean one, so the delta method needs no division
    return Estimate(
        value=value,
        standard_error=jnp.std(w, ddof=1) / math.sqrt(num),
        bound="lower",
        stats={
            "ess": jnp.exp(2 * logsumexp(log_w) - logsumexp(2 * log_w)),
            "pareto_k": pareto_k(log_w),
            "num": jnp.asarray(num),
        },
    )


def pareto_k(log_w: Float[Array, " n"]) -> Float[Array, ""]:
    """Shape `k` of a generalised Pareto distribution fitted to the largest weights.

    The tail has `min(n / 5, 3 sqrt(n))` weights; the fit is the profile posterior mean of Zhang and
    Stephens with the weak prior of the source. `k < 0.5` means that the weights have a variance,
    `k > 0.7` that no practical number of them gives a trustworthy average. Not a number when the tail
    has fewer than 5 weights (`n <= 20`, or ties); minus infinity when the weights have no tail (all equal).

    Source: Vehtari et al. (2024), section 2 and appendix C; arXiv:1507.02646. Zhang and Stephens (2009).
    """
    (num,) = log_w.shape
    num_tail = math.ceil(min(0.2 * num, 3 * math.sqrt(num)))
    if num_tail < 5:
        return jnp.full((), jnp.nan, log_w.dtype)
    # Diagnostics need no gradient, and that of a sort is costly.
    log_w = jnp.sort(jax.lax.stop_gradient(log_w))
    top = log_w[-1]
    # Excesses over the cut-off in units of the largest weight: k does not depend on the unit.
    excess = jnp.exp(log_w[-num_tail:] - top) - jnp.exp(log_w[-num_tail - 1] - top)
    # Ties with the cut-off (common on discrete spaces) and differences of rounding are no tail.
    num_above = jnp.sum(excess > 8 * jnp.finfo(log_w.dtype).eps)
    k = _fit_generalised_pareto(excess, jnp.maximum(num_above, 1))
    k = jnp.where(num_above < 5, jnp.nan, k)
    return jnp.where(num_above == 0, -jnp.inf, k)


def _fit_generalised_pareto(excess: Float[Array, " n"], num: Int[Array, ""]) -> Float[Array, ""]:
    """The shape fitted to the `num` largest of the ascending excesses."""
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


class Bracket(eqx.Module):
    """A two-sided statement about a log integral in nats: `[lower - 2 s.e., upper + 2 s.e.]`.

    The raw pair without its errors contains the truth in a minority of draws, the fewer the better
    the estimates get, because each side errs only a little and in its own direction; so `interval`
    widens it. If either side `assumes` anything, so does the bracket. `of` says in words what it is a statement about,
    where that is not the log normaliser of a density that the caller chose.
    """

    lower: Estimate
    upper: Estimate
    of: str = eqx.field(static=True, default="")

    def __check_init__(self):
        for side, allowed in (("lower", ("lower", "exact")), ("upper", ("upper", "exact", "estimate"))):
            estimate = getattr(self, side)
            if estimate.bound not in allowed:
                raise ValueError(
                    f"`Bracket({side}=...)` must have bound {' or '.join(allowed)}; got {estimate.bound!r}."
                )
        if self.upper.bound == "estimate" and not self.upper.assumes:
            raise ValueError("`Bracket(upper=...)` is an estimate that does not say what it assumes.")

    @property
    def interval(self) -> tuple[float, float]:
        low = self.lower.value - 2 * self.lower.standard_error
        high = self.upper.value + 2 * self.upper.standard_error
        return float(low), float(high)

    @property
    def width(self) -> float:
        low, high = self.interval
        return high - low

    @property
    def assumes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.lower.assumes + self.upper.assumes))

    def __str__(self) -> str:
        low, high = self.interval
        words = f"{self.of}: " if self.of else ""
        words += f"[{low:.4f}, {high:.4f}] nats (width {self.width:.2g}, each side widened by 2 s.e."
        words += "".join(f", assumes {what}" for what in self.assumes)
        reasons = unreliable_reasons(self.lower.stats) + unreliable_reasons(self.upper.stats)
        return words + "".join(f", UNRELIABLE: {reason}" for reason in reasons) + ")"


@dataclasses.dataclass(frozen=True)
class LogLikelihood:
    """Mean log-likelihood in nats per example, and everything needed to quote it.

    Three errors, kept apart:

    - `monte_carlo_error`: standard error from estimating numerators and denominator. The numerators'
      part averages out over examples; the denominator is shared, so its part does not.
    - `data_error`: spread of `per_example` over the square root of `n`: how far another test set of
      this size would move the mean.
    - `bound`: the direction of the bias that remains.

    `per_example` are log-probabilities of the same random variable for every row of a comparison; the
    `fingerprint` in `stats` says which one (data, space, base measure).
    """

    value: float
    monte_carlo_error: float
    data_error: float
    bound: Bound
    per_example: Float[np.ndarray, " n"]
    stats: dict[str, Any]
    assumes: tuple[str, ...] = ()

    @property
    def num(self) -> int:
        return len(self.per_example)

    @property
    def bits_per_dimension(self) -> float:
        """`-value / (d log 2)` with `d` the number of dimensions of one example."""
        return -self.value / (self.stats["num_dimensions"] * math.log(2))

    @property
    def per_example_error(self) -> Float[np.ndarray, " n"]:
        """Monte Carlo standard error of each of `per_example` that is its own, from estimating its numerator.

        That of the denominator, `stats["partition_error"]`, is shared: it moves all of them together. Where only the
        error of their mean was kept, as in runs from before, those of the examples are not known: NaN.
        """
        if "hidden_errors" in self.stats:
            return np.asarray(self.stats["hidden_errors"], np.float64)
        return np.full(self.num, 0.0 if self.stats.get("hidden_error") == 0 else math.nan)

    @property
    def warnings(self) -> list[str]:
        return list(self.stats.get("warnings", []))

    def __str__(self) -> str:
        parts = [_IN_WORDS[self.bound], f"n = {self.num}", f"data s.e. {self.data_error:.2g}"]
        if self.bound != "exact":
            parts.append(f"Monte Carlo s.e. {self.monte_carlo_error:.2g}")
        for side in ("partition", "hidden"):
            weights = self.stats.get(f"{side}_weights")
            if weights:
                parts.append(f"{side}: " + ", ".join(_describe_weights(weights)))
        parts += [f"assumes {what}" for what in self.assumes]
        words = f"{self.value:.3f} nats per example ({', '.join(parts)})"
        return words + (f" = {self.in_bits}" if self.in_bits else "")

    @property
    def in_bits(self) -> str | None:
        """Such as "4.512 bits/dim (upper bound)", where that is how such data are quoted: of many whole values each.

        The sign turns: a lower bound on log p is an upper bound on bits.
        """
        if not self.stats.get("many_values"):
            return None
        return f"{self.bits_per_dimension:.4f} bits/dim ({_IN_WORDS[flip_bound(self.bound)]})"

    @property
    def kind(self) -> str:
        """`bound` in words, such as "lower bound"; and that there is a warning, if there is."""
        return _IN_WORDS[self.bound] + self._warned

    @property
    def _warned(self) -> str:
        return ", with a warning" if self.warnings else ""

    @property
    def kind_and_estimator(self) -> str:
        """Such as "lower bound by IWAE-5000"; "exact" where nothing was estimated."""
        estimators = self.stats.get("estimators")
        by = f" by {' and '.join(estimators)}" if estimators else ""
        return f"{_IN_WORDS[self.bound]}{by}{self._warned}"
