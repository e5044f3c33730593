"""Numbers with an error bar and a direction: the only place that knows the algebra of bounds."""

import dataclasses
import math
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Inexact

from ._pareto import pareto_k
from ._register import register
from ._reliability import (
    degrees_of,
    describe_weights,
    join_degrees,
    join_stats,
    normal_ess,
    unreliable_reasons,
    value_reasons,
)
from ._student import TWO_SIGMA, student_quantile

Bound = Literal["exact", "unbiased", "lower", "upper", "estimate"]

# Above this many standard errors, two are not what an error bar means.
_WIDE = 2.2

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
    `stats` holds diagnostics: `ess`, `pareto_k`, `num` (the number of independent weights) and `overlap` where they
    apply, `degrees` (of freedom of the standard error) where these are not `num - 1`, and the `log_weights` of
    annealing. `protocol` says in words how a default was chosen, where there was a choice.
    """

    value: Inexact[Array, "*batch"]
    standard_error: Inexact[Array, "*batch"]
    bound: Bound = eqx.field(static=True)
    assumes: tuple[str, ...] = eqx.field(static=True, default=())
    stats: dict[str, Any] = eqx.field(default_factory=dict)
    protocol: str = eqx.field(static=True, default="")

    @classmethod
    def exact(cls, value) -> "Estimate":
        """A value with no Monte Carlo error."""
        value = jnp.asarray(value)
        return cls(value, jnp.zeros_like(value), "exact")

    def __neg__(self) -> "Estimate":
        bound = flip_bound(self.bound)
        return Estimate(-self.value, self.standard_error, bound, self.assumes, self.stats, self.protocol)

    def __add__(self, other: "Estimate") -> "Estimate":
        if not isinstance(other, Estimate):
            return NotImplemented
        return Estimate(
            self.value + other.value,
            jnp.hypot(self.standard_error, other.standard_error),
            join_bounds(self.bound, other.bound),
            tuple(dict.fromkeys(self.assumes + other.assumes)),
            {**join_stats(self.stats, other.stats), **self._joint_degrees(other)},
            "; ".join(dict.fromkeys(filter(None, (self.protocol, other.protocol)))),
        )

    def _joint_degrees(self, other: "Estimate") -> dict[str, Any]:
        """For the `stats` of a sum. An exact summand has no error to count."""
        if "exact" in (self.bound, other.bound):
            inexact = self if other.bound == "exact" else other
            return {"degrees": inexact.stats["degrees"]} if "degrees" in inexact.stats else {}
        degrees = degrees_of(self.stats), degrees_of(other.stats)
        if all(number is None for number in degrees):
            return {}
        return {"degrees": join_degrees((self.standard_error, other.standard_error), degrees)}

    def __sub__(self, other: "Estimate") -> "Estimate":
        if not isinstance(other, Estimate):
            return NotImplemented
        return self + (-other)

    @property
    def doubts(self) -> list[str]:
        """Why the error bar cannot be trusted, in words; empty when it can.

        The value and the standard error must be finite (an exact minus infinity, the logarithm of zero, is right), and
        the diagnostics, if there are any, must keep the rules of `unreliable_reasons`. Of a batch, each reason says
        for how many.
        """
        if np.ndim(self.value) == 0:
            return value_reasons(float(self.value), float(self.standard_error), self.bound == "exact") + (
                unreliable_reasons(self.stats)
            )
        bad = self.unreliable_rows()
        return [f"{int(bad.sum())} of {bad.size} are unreliable"] if bad.any() else []

    @property
    def reliable(self) -> bool:
        """Whether there are no `doubts`: the numbers are finite, and the diagnostics support the error bar."""
        return not self.doubts

    def unreliable_rows(self) -> Bool[np.ndarray, "*batch"]:
        """Which estimates of a batch are not reliable, as if each stood alone."""
        shape = np.shape(self.value)
        columns = {
            name: np.broadcast_to(column, shape)
            for name, column in self.stats.items()
            if np.shape(column) in ((), shape)
        }
        values, errors = np.asarray(self.value, float), np.asarray(self.standard_error, float)
        bad = [
            value_reasons(float(values[i]), float(errors[i]), self.bound == "exact")
            or unreliable_reasons({name: column[i] for name, column in columns.items()})
            for i in np.ndindex(shape)
        ]
        return np.array([bool(reasons) for reasons in bad]).reshape(shape)

    @property
    def degrees_of_freedom(self) -> Float[np.ndarray, "*batch"]:
        """Of the standard error: the number of independent draws minus one; infinite where nothing was drawn."""
        degrees = None if self.bound == "exact" else degrees_of(self.stats)
        return np.broadcast_to(np.asarray(np.inf if degrees is None else degrees, float), np.shape(self.value))

    def interval(self, level: float = TWO_SIGMA) -> tuple[Any, Any]:
        """`value - t s.e.` and `value + t s.e.` in nats, with the quantile t of Student's distribution.

        It holds the *expected value of the estimate* with probability `level`; the truth, as far as the bias that
        `bound` names is small beside the error. With many draws t is 2, at the level of two standard deviations that is
        the default; with 3 draws it is 4.5, for then the standard error is itself hardly known.

        **Arguments:**

        - `level`: a probability between 0 and 1.

        **Returns:** two numbers, or two arrays for a batch of estimates.
        """
        half = student_quantile(self.degrees_of_freedom, level) * np.asarray(self.standard_error, float)
        low, high = np.asarray(self.value, float) - half, np.asarray(self.value, float) + half
        return (low, high) if np.ndim(self.value) else (float(low), float(high))

    def __str__(self) -> str:
        if np.ndim(self.value) > 0:
            words = [_IN_WORDS[self.bound], *(f"UNRELIABLE: {doubt}" for doubt in self.doubts)]
            return f"{np.shape(self.value)} estimates in nats ({', '.join(words)})"
        parts = [*self._kind_and_error(), *describe_weights(self.stats)]
        parts += [f"UNRELIABLE: {doubt}" for doubt in self.doubts]
        parts += [f"assumes {what}" for what in self.assumes]
        parts += [self.protocol] if self.protocol else []
        return f"{float(self.value):.4f} nats ({', '.join(parts)})"

    def __repr__(self) -> str:
        """Short, for a notebook or a tuple; `print` says more."""
        if not _is_known(self):
            return super().__repr__()
        if np.ndim(self.value) > 0:
            return f"Estimate({self})"
        doubt = ["UNRELIABLE"] if self.doubts else []
        return f"Estimate({float(self.value):.4f} nats, {', '.join([*self._kind_and_error(), *doubt])})"

    def _kind_and_error(self) -> list[str]:
        if self.bound == "exact":
            return [_IN_WORDS[self.bound]]
        error, t = float(self.standard_error), float(student_quantile(self.degrees_of_freedom))
        few = [f"two-sigma interval +-{t * error:.2g}"] if t > _WIDE and error > 0 else []
        return [_IN_WORDS[self.bound], f"s.e. {error:.2g}", *few]


def _is_known(estimate: Estimate) -> bool:
    """Whether it holds numbers, and not what JAX and Equinox put in their places."""
    numbers = [*jax.tree.leaves(estimate.stats), estimate.value, estimate.standard_error]
    return all(isinstance(x, jax.Array | np.ndarray | float | int) and not isinstance(x, Tracer) for x in numbers)


def warn_if_unreliable(estimate: Estimate, what: str) -> None:
    """Issue an `UnreliableEstimateWarning` that names the reasons and what to try."""
    if isinstance(estimate.value, Tracer) or np.ndim(estimate.value) > 0:
        return  # inside a compiled function nobody could read it; the diagnostics travel with the estimate
    doubts = estimate.doubts
    if not doubts:
        return
    if value_reasons(float(estimate.value), float(estimate.standard_error), estimate.bound == "exact"):
        advice = (
            "It cannot be used. Look for NaN or infinity among the parameters, and for points where the density is NaN "
            "or infinite, or zero at every draw"
        )
    else:
        advice = (
            "Its error bar is too small. Use more temperatures or chains, or a start closer to the target (for an RBM: "
            "`path=lambda rbm: rbm.path(base_rates)`)"
        )
    warnings.warn(f"{what}: {'; '.join(doubts)}. {advice}.", UnreliableEstimateWarning, stacklevel=3)


def log_mean_exp(log_w: Float[Array, " n"]) -> Estimate:
    """`log (1/n) sum_i exp(log_w_i)`: the log of an average of importance weights.

    **Arguments:**

    - `log_w`: log weights in nats, independent across `n`. Needs `n >= 2`.

    **Returns:**

    An `Estimate` in nats with a delta-method standard error, at least the rounding of the value. It is a lower bound
    *in expectation* (Jensen), so one draw may exceed the truth. The error is too small when few weights dominate: read
    it with the reported `ess`, `pareto_k` and `normal_ess`. Minus infinity is a weight of zero like others; with a
    NaN, plus infinity, or no weight above zero there is no average: `ess` is 0, and the estimate is not `reliable`.

    **Raises:** `ValueError` if `n < 2`.

    Source: Burda, Grosse and Salakhutdinov (2016), theorem 1; arXiv:1509.00519.
    """
    (num,) = log_w.shape
    if num < 2:
        raise ValueError(f"`log_mean_exp(log_w)` needs at least 2 weights for an error bar; got {num}.")
    value = logsumexp(log_w) - math.log(num)
    w = jnp.exp(log_w - value)  # mean one, so the delta method needs no division
    ess = jnp.exp(2 * logsumexp(log_w) - logsumexp(2 * log_w))
    # Equal weights, too, are known no better than their logarithms are rounded.
    rounding = jnp.where(jnp.isfinite(value), jnp.finfo(value.dtype).eps * jnp.abs(value), 0)
    return Estimate(
        value=value,
        standard_error=jnp.hypot(jnp.std(w, ddof=1) / math.sqrt(num), rounding),
        bound="lower",
        stats={
            "ess": jnp.where(jnp.isnan(ess), 0, ess),
            "pareto_k": pareto_k(log_w),
            "normal_ess": normal_ess(log_w),
            "num": jnp.asarray(num),
        },
    )


class Bracket(eqx.Module):
    """A two-sided statement about a log integral in nats: `[lower - t s.e., upper + t s.e.]`.

    The raw pair without its errors contains the truth in a minority of draws, the fewer the better
    the estimates get, because each side errs only a little and in its own direction; so `interval`
    widens it, each side by the quantile t of Student's distribution at the level of two standard deviations (2, but for
    few draws). Where the widened sides cross, the lower one above the upper one, they do not bracket anything:
    `interval` is then the hull of both sides' own intervals, and the bracket is not `reliable`.

    If either side `assumes` anything, so does the bracket. `of` says in words what it is a statement about,
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
        (low, above), (below, high) = self.lower.interval(), self.upper.interval()
        return (min(low, below), max(above, high)) if low > high else (low, high)

    @property
    def width(self) -> float:
        low, high = self.interval
        return high - low

    @property
    def assumes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.lower.assumes + self.upper.assumes))

    @property
    def disagreement(self) -> str | None:
        """In words, that the sides cross by more than their errors and rounding; `None` where they do not."""
        gap = self.lower.interval()[0] - self.upper.interval()[1]
        eps = max(float(jnp.finfo(side.value.dtype).eps) for side in (self.lower, self.upper))
        rounding = 64 * eps * (1 + abs(float(self.upper.value)))
        if not gap > rounding:
            return None
        apart = float(self.lower.value) - float(self.upper.value)
        return f"the lower side lies {apart:.2g} nats above the upper one, more than their errors: one of them is wrong"

    @property
    def doubts(self) -> list[str]:
        """Why it cannot be trusted, in words: the doubts of both sides, and their disagreement; empty when it can."""
        crossed = self.disagreement
        return self.lower.doubts + self.upper.doubts + ([] if crossed is None else [crossed])

    @property
    def reliable(self) -> bool:
        """Whether both sides are, and agree with each other."""
        return not self.doubts

    def __str__(self) -> str:
        low, high = self.interval
        words = f"{self.of}: " if self.of else ""
        words += f"[{low:.4f}, {high:.4f}] nats (width {self.width:.2g}, {self.how}"
        words += "".join(f", assumes {what}" for what in self.assumes)
        return words + "".join(f", UNRELIABLE: {doubt}" for doubt in self.doubts) + ")"

    def __repr__(self) -> str:
        """Short, for a notebook or a tuple; `print` says more."""
        if not all(isinstance(side, Estimate) and _is_known(side) for side in (self.lower, self.upper)):
            return super().__repr__()
        low, high = self.interval
        return f"Bracket([{low:.4f}, {high:.4f}] nats{', UNRELIABLE' if self.doubts else ''})"

    @property
    def how(self) -> str:
        """How `interval` was made of the sides, in words."""
        if self.lower.interval()[0] > self.upper.interval()[1]:
            return "the hull of both sides, which cross"
        t = [f"{float(student_quantile(side.degrees_of_freedom)):.2g}" for side in (self.lower, self.upper)]
        return f"each side widened by {t[0]} s.e." if t[0] == t[1] else f"widened by {t[0]} and {t[1]} s.e."


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

        That of the denominator, `stats["partition_error"]`, is shared: it moves all of them together. The errors are
        NaN where the error of their mean alone is known.
        """
        if "hidden_errors" in self.stats:
            return np.asarray(self.stats["hidden_errors"], np.float64)
        return np.full(self.num, 0.0 if self.stats.get("hidden_error") == 0 else math.nan)

    @property
    def unreliable_rows(self) -> Bool[np.ndarray, " n"]:
        """Which of `per_example` have an estimated numerator whose error bar cannot be trusted."""
        which = np.zeros(self.num, bool)
        which[np.asarray(self.stats.get("hidden_unreliable_rows", []), int)] = True
        return which

    @property
    def warnings(self) -> list[str]:
        return list(self.stats.get("warnings", []))

    def with_warnings(self, sentences: Iterable[str]) -> "LogLikelihood":
        """The same, with more sentences among its `warnings`."""
        warnings = list(dict.fromkeys([*self.warnings, *sentences]))
        return dataclasses.replace(self, stats={**self.stats, "warnings": warnings})

    def __str__(self) -> str:
        parts = [_IN_WORDS[self.bound], f"n = {self.num}", f"data s.e. {self.data_error:.2g}"]
        if self.bound != "exact":
            parts.append(f"Monte Carlo s.e. {self.monte_carlo_error:.2g}")
        for side in ("partition", "hidden"):
            weights = self.stats.get(f"{side}_weights")
            if weights:
                reasons = [f"UNRELIABLE: {reason}" for reason in unreliable_reasons(weights)]
                parts.append(f"{side}: " + ", ".join([*describe_weights(weights), *reasons]))
        parts += [f"assumes {what}" for what in self.assumes]
        parts += self._warnings_in_short()
        words = f"{self.value:.3f} nats per example ({', '.join(parts)})"
        return words + (f" = {self.in_bits}" if self.in_bits else "")

    def __repr__(self) -> str:
        """Short, for a notebook or a tuple; `print` says more."""
        parts = [_IN_WORDS[self.bound], f"n = {self.num}", f"data s.e. {self.data_error:.2g}"]
        if self.bound != "exact":
            parts.append(f"Monte Carlo s.e. {self.monte_carlo_error:.2g}")
        return f"LogLikelihood({self.value:.3f} nats per example, {', '.join(parts + self._warnings_in_short())})"

    def _warnings_in_short(self) -> list[str]:
        told = "partition: " if self.stats.get("partition_weights") else None  # those stand beside the weights
        warnings = [warning for warning in self.warnings if told is None or not warning.startswith(told)]
        if not warnings:
            return []
        first, *others = warnings
        return [f"WARNING: {first}" + (f" (and {len(others)} more)" if others else "")]

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
        """Such as "lower bound by IWAE-5000"; "exact" where nothing was estimated. It says if there is a warning."""
        return self.estimator_in_words + self._warned

    @property
    def estimator_in_words(self) -> str:
        """Such as "lower bound by IWAE-5000", with a warning or without."""
        estimators = self.stats.get("estimators")
        by = f" by {' and '.join(estimators)}" if estimators else ""
        return f"{_IN_WORDS[self.bound]}{by}"
