"""Estimates with a standard error and a bound. The algebra of bounds lives only in this module."""

import math
import warnings
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Inexact

from ..modules import replace
from ._pareto import pareto_k
from ._reliability import (
    breaks_rules,
    degrees_of,
    describe_weights,
    is_usable,
    join_degrees,
    join_weights,
    normal_ess,
    unreliable_reasons,
    value_reasons,
)
from ._student import TWO_SIGMA, student_quantile
from ._weights import Weights

Bound = Literal["exact", "unbiased", "lower", "upper", "estimate"]


# Above this quantile t, the words of an estimate show `t s.e.` too: readers take an error bar for 2 s.e.
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
    """An importance-type estimate rests on too few weights, so its error bar cannot be trusted."""


def flip_bound(bound: Bound) -> Bound:
    """The direction of `-a`, if `bound` is the direction of `a`."""
    return _FLIPPED[bound]


def join_bounds(first: Bound, second: Bound) -> Bound:
    """The direction of `a + b`: exact is neutral, then unbiased; opposite directions leave only an estimate."""
    for neutral in ("exact", "unbiased"):
        if first == neutral:
            return second
        if second == neutral:
            return first
    if first == second:
        return first
    return "estimate"


class Estimate(eqx.Module):
    """An estimated log integral in nats, with its standard error and the direction of its bias.

    The log of an average, as an estimate of `log E[w]`, is a lower bound *in expectation*. Minus turns lower into
    upper; lower plus upper is only an estimate. `+`, `-` and unary minus follow this algebra and add independent
    errors in quadrature.

    - `bound`: the direction in which the *expected value* errs. One draw of a lower bound may exceed the truth. An
      `"unbiased"` estimate does not err in expectation: a log-likelihood (the logarithm itself) whose log-determinant
      is estimated.
    - `assumes`: conditions that `bound` needs, such as `"stationary start"`.
    - `weights`: diagnostics of the weights, chains or grid behind the estimate.
    - `protocol`: how a default was chosen, in words.
    - `extras`: further results of some algorithms, for the reader.
    """

    value: Inexact[Array | np.ndarray, "*batch"]
    standard_error: Inexact[Array | np.ndarray, "*batch"]
    bound: Bound = eqx.field(static=True)
    assumes: tuple[str, ...] = eqx.field(static=True, default=())
    weights: Weights = eqx.field(default_factory=Weights)
    protocol: str = eqx.field(static=True, default="")
    extras: dict[str, Any] = eqx.field(default_factory=dict)

    @classmethod
    def exact(cls, value) -> "Estimate":
        """A value with no Monte Carlo error."""
        value = jnp.asarray(value)
        return cls(value, jnp.zeros_like(value), "exact")

    def __neg__(self) -> "Estimate":
        bound = flip_bound(self.bound)
        return replace(self, value=-self.value, bound=bound)

    def __add__(self, other: "Estimate") -> "Estimate":
        if not isinstance(other, Estimate):
            return NotImplemented
        return Estimate(
            self.value + other.value,
            jnp.hypot(self.standard_error, other.standard_error),
            join_bounds(self.bound, other.bound),
            tuple(dict.fromkeys(self.assumes + other.assumes)),
            replace(join_weights(self.weights, other.weights), degrees=self._joint_degrees(other)),
            "; ".join(dict.fromkeys(filter(None, (self.protocol, other.protocol)))),
        )

    def _joint_degrees(self, other: "Estimate") -> Any:
        """The `degrees` of a sum. An exact summand has no error and does not count."""
        if "exact" in (self.bound, other.bound):
            return (self if other.bound == "exact" else other).weights.degrees
        degrees = degrees_of(self.weights), degrees_of(other.weights)
        if all(number is None for number in degrees):
            return None
        return join_degrees((self.standard_error, other.standard_error), degrees)

    def __sub__(self, other: "Estimate") -> "Estimate":
        if not isinstance(other, Estimate):
            return NotImplemented
        return self + (-other)

    @property
    def doubts(self) -> list[str]:
        """Reasons not to trust the error bar, in words; empty if it can be trusted.

        The value and the standard error must be finite (an exact minus infinity, the logarithm of zero, is allowed).
        The diagnostics, if there are any, must keep the rules of `unreliable_reasons`. A batch has one sentence with
        the number of unreliable estimates.
        """
        if np.ndim(self.value) == 0:
            return value_reasons(float(self.value), float(self.standard_error), self.bound == "exact") + (
                unreliable_reasons(self.weights)
            )
        bad = self.unreliable_rows()
        return [f"{int(bad.sum())} of {bad.size} are unreliable"] if bad.any() else []

    @property
    def reliable(self) -> bool:
        """Whether the numbers are finite and the diagnostics support the error bar: there are no `doubts`."""
        return not self.doubts

    def unreliable_rows(self) -> Bool[np.ndarray, "*batch"]:
        """Mask of the unreliable estimates in a batch, each judged alone."""
        is_bad = ~is_usable(self.value, self.standard_error, self.bound == "exact")
        return is_bad | breaks_rules(self.weights, np.shape(self.value))

    @property
    def degrees_of_freedom(self) -> Float[np.ndarray, "*batch"]:
        """Degrees of freedom of the standard error: independent draws minus one; infinite if nothing was drawn."""
        degrees = None if self.bound == "exact" else degrees_of(self.weights)
        return np.broadcast_to(np.asarray(np.inf if degrees is None else degrees, float), np.shape(self.value))

    def interval(self, level: float = TWO_SIGMA) -> tuple[Any, Any]:
        """`value - t s.e.` and `value + t s.e.` in nats, with the quantile t of Student's distribution.

        The interval contains the *expected value of the estimate* with probability `level`. It contains the truth with
        that probability only if the bias that `bound` names is small beside the error. The default level, 0.9545,
        corresponds to two standard deviations: t is then 2 for many draws, and 4.5 for 3 draws, whose standard error is
        itself hardly known.

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
        parts = [*self._kind_and_error(), *describe_weights(self.weights)]
        parts += [f"UNRELIABLE: {doubt}" for doubt in self.doubts]
        parts += [f"assumes {what}" for what in self.assumes]
        parts += [self.protocol] if self.protocol else []
        return f"{float(self.value):.4f} nats ({', '.join(parts)})"

    def __repr__(self) -> str:
        """The short form, for a notebook or a tuple; `print` shows more."""
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
    """Whether the fields hold numbers, and not the placeholders of JAX and Equinox."""
    numbers = [*jax.tree.leaves((estimate.weights, estimate.extras)), estimate.value, estimate.standard_error]
    return all(isinstance(x, jax.Array | np.ndarray | float | int) and not isinstance(x, Tracer) for x in numbers)


def warn_if_unreliable(estimate: Estimate, what: str) -> None:
    """Issue an `UnreliableEstimateWarning` with the reasons and advice, if `estimate` is unreliable."""
    if isinstance(estimate.value, Tracer) or np.ndim(estimate.value) > 0:
        return  # a warning would come while tracing, or for a batch; the diagnostics travel with the estimate
    doubts = estimate.doubts
    if not doubts:
        return
    if value_reasons(float(estimate.value), float(estimate.standard_error), estimate.bound == "exact"):
        advice = (
            "It cannot be used. Look for NaN or infinity among the parameters, and for points where the density is NaN "
            "or infinite, or zero at every draw"
        )
    else:
        advice = "Its error bar is too small"
        if estimate.weights.edge_mass is None:  # not of a grid, whose reasons say what to try
            advice += (
                ". Use more temperatures or chains, or a start closer to the target (for an RBM: "
                "`path=lambda rbm: rbm.path(base_rates)`)"
            )
    warnings.warn(f"{what}: {'; '.join(doubts)}. {advice}.", UnreliableEstimateWarning, stacklevel=3)


def log_mean_exp(log_w: Float[Array, " n"]) -> Estimate:
    """`log (1/n) sum_i exp(log_w_i)`: the log of an average of importance weights.

    **Arguments:**

    - `log_w`: log weights in nats, independent across `n`. Needs `n >= 2`. Minus infinity is a weight of zero.

    **Returns:**

    An `Estimate` in nats. It is a lower bound *in expectation* (Jensen), so one draw may exceed the truth. The standard
    error is by the delta method, and at least the rounding of the value. It is too small when few weights dominate, so
    read it with `ess`, `pareto_k` and `normal_ess` in `weights`. If a log weight is NaN or plus infinity, or all
    weights are zero, there is no average: `ess` is 0, and the estimate is not `reliable`.

    **Raises:** `ValueError` if `n < 2`.

    Source: Burda, Grosse and Salakhutdinov (2016), theorem 1; arXiv:1509.00519.
    """
    (num,) = log_w.shape
    if num < 2:
        raise ValueError(f"`log_mean_exp(log_w)` needs at least 2 weights for an error bar; got {num}.")
    value = logsumexp(log_w) - math.log(num)
    w = jnp.exp(log_w - value)  # mean one, so the delta method needs no division
    ess = jnp.exp(2 * logsumexp(log_w) - logsumexp(2 * log_w))
    # Even the average of equal weights has the rounding error of its logarithm.
    rounding = jnp.where(jnp.isfinite(value), jnp.finfo(value.dtype).eps * jnp.abs(value), 0)
    return Estimate(
        value=value,
        standard_error=jnp.hypot(jnp.std(w, ddof=1) / math.sqrt(num), rounding),
        bound="lower",
        weights=Weights(
            num=jnp.asarray(num),
            ess=jnp.where(jnp.isnan(ess), 0, ess),
            pareto_k=pareto_k(log_w),
            normal_ess=normal_ess(log_w),
        ),
    )
