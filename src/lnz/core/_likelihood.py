"""The log-likelihood of a data set, with its errors and the direction of its bound."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ._estimate import _IN_WORDS, Bound, flip_bound
from ._reliability import describe_weights, unreliable_reasons


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
