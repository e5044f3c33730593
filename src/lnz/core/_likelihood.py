"""The log-likelihood of a data set, with its errors and the direction of its bound."""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

from ..spaces import COUNTING
from ._estimate import _IN_WORDS, Bound, Estimate, flip_bound, join_bounds
from ._reliability import describe_weights, unreliable_reasons
from ._weights import Weights


@dataclasses.dataclass(frozen=True)
class RandomVariable:
    """The random variable whose log-probabilities a `LogLikelihood` holds. All rows of a comparison share it.

    - `data`: fingerprint of the examples: equal arrays hash equally, regardless of dtype.
    - `space`: where one example lives, in words.
    - `base_measure`: the base measure of the densities: "counting" or "Lebesgue".
    - `num_dimensions`: the dimension of one example; if entries are missing, the mean number of known entries.
    - `has_many_values`: whether each dimension has many whole values, as grey values and counts do. Such data are
      quoted in bits per dimension.
    """

    data: str
    space: str
    base_measure: str
    num_dimensions: int | float
    has_many_values: bool = False


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a likelihood was computed, in words; `str` joins them into one line.

    - `numerator`, `denominator`: the method for each integral, such as `AIS(num_chains=100, betas=1000)`, or "exact".
    - `estimators`: short names of the methods that estimated something, such as "IWAE-5000".
    - `notes`: anything else needed to repeat the computation, such as the seed.
    """

    numerator: str = "exact"
    denominator: str = "exact"
    estimators: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join([f"numerator {self.numerator}", f"denominator {self.denominator}", *self.notes])


@dataclasses.dataclass(frozen=True, eq=False)
class LogLikelihood:
    """Mean log-likelihood in nats per example, and everything needed to quote it.

    `log p(x_i) = numerators_i - denominator`, both with their errors and bounds. Three errors are kept apart:

    - `monte_carlo_error`: the standard error from estimating numerators and denominator. The numerators' part averages
      out over examples; the part of the shared denominator does not.
    - `data_error`: the standard deviation of `per_example` over the square root of `num`. It is the spread of the mean
      between test sets of this size.
    - `bound`: the direction of the remaining bias.

    **Arguments:**

    - `numerators`: `log p~(x_i)` of each example, `[num]`.
    - `denominator`: `log Z`, zero for a normalised model.
    - `of`: the random variable, the same for every row of a comparison.
    - `protocol`: how it was computed.
    - `warnings`: sentences that say why the number cannot be quoted as it stands.

    **Raises:** `ValueError` for estimates of other shapes.
    """

    numerators: Estimate
    denominator: Estimate
    of: RandomVariable
    protocol: Protocol
    warnings: tuple[str, ...] = ()

    def __post_init__(self):
        shapes = [np.shape(part) for part in (self.numerators.value, self.numerators.standard_error)]
        if len(shapes[0]) != 1 or shapes[0] != shapes[1] or shapes[0][0] == 0:
            raise ValueError(f"`numerators` must be one estimate for each example, with its error; got {shapes}.")
        if np.shape(self.denominator.value) or np.shape(self.denominator.standard_error):
            raise ValueError(f"`denominator` must be one estimate; got {np.shape(self.denominator.value)}.")
        for name, column in self.numerators.weights.measured().items():
            if np.shape(column) not in ((), shapes[0]):
                raise ValueError(f"`numerators.weights.{name}` must be one number for each example, or one for all.")

    @property
    def num(self) -> int:
        """Number of examples."""
        return len(np.asarray(self.numerators.value))

    @property
    def per_example(self) -> Float[np.ndarray, " n"]:
        """`log p(x)` of each example in nats."""
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            return np.asarray(self.numerators.value, np.float64) - float(self.denominator.value)

    @property
    def value(self) -> float:
        """The mean of `per_example`."""
        return float(np.mean(self.per_example))

    @property
    def bound(self) -> Bound:
        """Direction of the bias of numerators minus denominator."""
        return join_bounds(self.numerators.bound, flip_bound(self.denominator.bound))

    @property
    def assumes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.numerators.assumes + self.denominator.assumes))

    @property
    def numerator_error(self) -> float:
        """The numerators' part of `monte_carlo_error`."""
        return float(np.sqrt(np.sum(self.per_example_error**2))) / self.num

    @property
    def monte_carlo_error(self) -> float:
        return math.hypot(self.numerator_error, float(self.denominator.standard_error))

    @property
    def data_error(self) -> float:
        """Standard error of the mean over examples; NaN for a single example."""
        with np.errstate(invalid="ignore"):  # the spread is NaN if a row has probability zero
            return float(np.std(self.per_example, ddof=1)) / math.sqrt(self.num) if self.num > 1 else math.nan

    @property
    def bits_per_dimension(self) -> float | None:
        """`-value / (d log 2)` with `d` the number of dimensions of one example.

        `None` for densities, whose bits depend on the units of the data.
        """
        if self.of.base_measure != str(COUNTING):
            return None
        return -self.value / (self.of.num_dimensions * math.log(2))

    @property
    def per_example_error(self) -> Float[np.ndarray, " n"]:
        """Monte Carlo standard error of each of `per_example`, from its numerator alone.

        The error of the denominator is not included: it moves all examples together.
        """
        return np.asarray(self.numerators.standard_error, np.float64)

    @property
    def unreliable_rows(self) -> Bool[np.ndarray, " n"]:
        """Mask of the examples whose estimated numerator has an error bar that cannot be trusted."""
        if not self.numerators.weights.are_judged:
            return np.zeros(self.num, bool)
        return self.numerators.unreliable_rows()

    @property
    def how(self) -> str:
        """Examples and protocol in one line."""
        return f"{self.num} examples of {self.of.space}; {self.protocol}"

    def with_warnings(self, sentences: Iterable[str]) -> "LogLikelihood":
        """A copy with more sentences in `warnings`."""
        return dataclasses.replace(self, warnings=tuple(dict.fromkeys([*self.warnings, *sentences])))

    def with_notes(self, *notes: str) -> "LogLikelihood":
        """A copy with more notes in `protocol`."""
        return dataclasses.replace(
            self, protocol=dataclasses.replace(self.protocol, notes=(*self.protocol.notes, *notes))
        )

    def __str__(self) -> str:
        parts = [_IN_WORDS[self.bound], f"n = {self.num}", f"data s.e. {self.data_error:.2g}"]
        if self.bound != "exact":
            parts.append(f"Monte Carlo s.e. {self.monte_carlo_error:.2g}")
        # The diagnostics of a typical numerator; the warnings say how many numerators break the rules.
        for side, weights in (("partition", self.denominator.weights), ("hidden", self.numerators.weights.typical())):
            words = _diagnostics(weights)
            parts += [f"{side}: {', '.join(words)}"] if words else []
        parts += [f"assumes {what}" for what in self.assumes]
        parts += self._warnings_in_short()
        words = f"{self.value:.3f} nats per example ({', '.join(parts)})"
        return words + (f" = {self.in_bits}" if self.in_bits else "")

    def __repr__(self) -> str:
        """The short form, for a notebook or a tuple; `print` shows more."""
        parts = [_IN_WORDS[self.bound], f"n = {self.num}", f"data s.e. {self.data_error:.2g}"]
        if self.bound != "exact":
            parts.append(f"Monte Carlo s.e. {self.monte_carlo_error:.2g}")
        return f"LogLikelihood({self.value:.3f} nats per example, {', '.join(parts + self._warnings_in_short())})"

    def _warnings_in_short(self) -> list[str]:
        # `str` shows doubts about the partition function beside its diagnostics.
        told = "partition: " if _diagnostics(self.denominator.weights) else None
        warnings = [warning for warning in self.warnings if told is None or not warning.startswith(told)]
        if not warnings:
            return []
        first, *others = warnings
        return [f"WARNING: {first}" + (f" (and {len(others)} more)" if others else "")]

    @property
    def in_bits(self) -> str | None:
        """Bits per dimension in words, such as "4.512 bits/dim (upper bound)"; `None` unless `of.has_many_values`.

        The direction turns with the sign: a lower bound on log p is an upper bound on bits.
        """
        if not self.of.has_many_values or self.bits_per_dimension is None:
            return None
        return f"{self.bits_per_dimension:.4f} bits/dim ({_IN_WORDS[flip_bound(self.bound)]})"

    @property
    def kind(self) -> str:
        """`bound` in words, such as "lower bound" or "lower bound, with a warning"."""
        return _IN_WORDS[self.bound] + self._warned

    @property
    def _warned(self) -> str:
        return ", with a warning" if self.warnings else ""

    @property
    def kind_and_estimator(self) -> str:
        """`estimator_in_words`, followed by ", with a warning" if there is one."""
        return self.estimator_in_words + self._warned

    @property
    def estimator_in_words(self) -> str:
        """Bound and estimators, such as "lower bound by IWAE-5000", or "exact" if nothing was estimated."""
        estimators = self.protocol.estimators
        by = f" by {' and '.join(estimators)}" if estimators else ""
        return f"{_IN_WORDS[self.bound]}{by}"


def _diagnostics(weights: Weights) -> list[str]:
    return [*describe_weights(weights), *(f"UNRELIABLE: {reason}" for reason in unreliable_reasons(weights))]
