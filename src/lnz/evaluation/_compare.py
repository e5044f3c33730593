"""Comparison of likelihoods of the same examples."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..core import LogLikelihood, faulty_rows
from ..spaces import COUNTING, LEBESGUE

_NUM_ERRORS = 2  # a paired difference within this many standard errors counts as noise
_MEASURES = {str(COUNTING): "counting, of probabilities", str(LEBESGUE): "Lebesgue, of densities"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One likelihood of a comparison, and its difference from the highest.

    - `name`, `result`: the name and the likelihood.
    - `difference`, `difference_error`: paired difference from the highest in nats, and its standard error; `None` for
      the highest.
    - `is_clear`: whether it is below the highest by more than noise.
    - `standing`: "best", "highest" or "".
    """

    name: str
    result: LogLikelihood
    difference: float | None
    difference_error: float | None
    is_clear: bool
    standing: str = ""

    @property
    def warnings(self) -> list[str]:
        """The warnings of the result, and one about log-probabilities that are not finite."""
        return list(dict.fromkeys([*self.result.warnings, *faulty_rows(self.result.per_example)]))

    @property
    def bits_per_dimension(self) -> float | None:
        """Those of the result."""
        return self.result.bits_per_dimension

    @property
    def marked_bound(self) -> str:
        """The direction of the bound, with a mark if there is a warning."""
        return f"{self.result.bound} (!)" if self.warnings else self.result.bound

    def bits(self, digits: int = 3, signs: tuple[str, str] = ("<=", ">=")) -> str:
        """Bits per dimension, marked with the direction of the bound, which is opposite to that on log p."""
        below = {"lower": signs[0], "upper": signs[1], "estimate": "~"}.get(self.result.bound, "")
        return "" if self.bits_per_dimension is None else f"{below}{self.bits_per_dimension:.{digits}f}"

    def to_highest(self, plus_minus: str) -> str:
        """The difference and its error, separated by `plus_minus`; for the highest row, its standing."""
        if self.difference is None or self.difference_error is None:
            return self.standing
        return f"{self.difference:.3f}{plus_minus}{self.difference_error:.3f}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A table of likelihoods, highest first, with paired differences, example by example.

    The first row's `standing` is "best", or "" if it is the only row. It is "highest" if "best" is not certain:

    - The bounds differ, and its value may be too high (an upper bound among lower ones) or another row's value may be
      too low (a lower bound beside an exact value).
    - It has a warning.
    - It leads another row by at most two standard errors of their difference; `is_clear` is then false for that row.
    """

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        has_bits = any(row.bits_per_dimension is not None for row in self.rows)
        heads = f"{'model':<{width}}  nats/example       bound  data s.e.  MC s.e.{'    bits/dim' if has_bits else ''}"
        lines = [f"{heads}  to highest (paired s.e.)"]
        for row in self.rows:
            difference = row.to_highest(" (") + (")" if row.difference is not None else "")
            bits = f"  {row.bits(4):>10}" if has_bits else ""
            lines.append(
                f"{row.name:<{width}}  {row.result.value:>12.3f}  {row.marked_bound:>12}  "
                f"{row.result.data_error:>9.3f}  {row.result.monte_carlo_error:>7.3f}{bits}  {difference}".rstrip()
            )
        lines += [f"{row.name}: warning: {warning}" for row in self.rows for warning in row.warnings]
        lines += [f"{row.name} assumes {', '.join(row.result.assumes)}" for row in self.rows if row.result.assumes]
        return "\n".join(lines)


def _is_clear(difference: float, error: float) -> bool:
    """Whether a row is below the first by more than noise. False for one example, whose error is unknown."""
    return difference == -math.inf or -difference > _NUM_ERRORS * error


def _standing(first: LogLikelihood, others: Sequence[LogLikelihood], is_clear: bool) -> str:
    """The standing of the highest of several rows: "best", "highest" or ""."""
    if not others:
        return ""
    too_high, too_low = ("upper", "estimate"), ("lower", "estimate")
    # Bounds of one kind err in the same direction. Otherwise the first must not err upwards, nor another downwards.
    is_open = any(
        other.bound != first.bound and (first.bound in too_high or other.bound in too_low) for other in others
    )
    return "highest" if is_open or first.warnings or not is_clear else "best"


def compare(results: Mapping[str, LogLikelihood]) -> Comparison:
    """Several models' likelihoods of the same examples, best first, with paired differences from the best.

    The error of a difference joins two parts in quadrature. One is the standard error of the mean of per-example
    differences. It is often far smaller than either row's own data error, and it includes the noise of estimated
    numerators. The other is the error of both log partition functions, zero if the rows share one estimate.

    A value that is NaN or plus infinity comes last, with a warning, and is not compared: its difference is NaN. Only a
    finite value can be best.

    **Raises:** `ValueError` if the rows are not log-probabilities of the same examples under the same base measure.
    """
    if not isinstance(results, Mapping) or not all(isinstance(r, LogLikelihood) for r in results.values()):
        raise TypeError("`compare(results)` needs names and results of `evaluate`: `{'a': lnz.evaluate(...), ...}`.")
    if not results:
        raise ValueError("`compare(results)` needs at least one row.")
    first_name, first = next(iter(results.items()))
    for name, result in results.items():
        reasons = differences(first, result)
        if reasons:
            raise ValueError(
                f"`compare`: {first_name!r} and {name!r} are not likelihoods of the same thing. They differ in "
                f"{'; in '.join(reasons)}. Evaluate both on the same examples in the same space."
            )
    ranked = sorted(results.items(), key=lambda item: _rank(item[1].value))
    best_name, best = ranked[0]
    rows = []
    for name, result in ranked:
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            paired = result.per_example - best.per_example
            spread = np.std(paired, ddof=1) / math.sqrt(len(paired)) if len(paired) > 1 else math.nan
            difference = float(np.mean(paired)) if len(paired) else math.nan
        error = math.hypot(spread, _denominator_error(result, best))
        if name == best_name and math.isfinite(best.value):
            rows.append(Row(name, result, None, None, True))
        else:
            rows.append(Row(name, result, difference, error, _is_clear(difference, error)))
    if math.isfinite(best.value):
        is_clear = all(row.is_clear for row in rows if row.result.value < math.inf)
        standing = _standing(best, [result for _, result in ranked[1:]], is_clear)
        rows[0] = dataclasses.replace(rows[0], standing=standing)
    return Comparison(tuple(rows))


def _rank(value: float) -> tuple[bool, float]:
    """Sort key: the highest value first, and invalid values (NaN, plus infinity) last."""
    return (False, -value) if value < math.inf else (True, 0.0)


def differences(first: LogLikelihood, second: LogLikelihood) -> list[str]:
    """The reasons, in words, why two likelihoods cannot be compared; empty if they can be."""
    one, other = first.of, second.of
    found = []
    if one.space != other.space:
        found.append(f"space ({one.space} and {other.space})")
    if one.base_measure != other.base_measure:
        measures = one.base_measure, other.base_measure
        words = [_MEASURES.get(measure, str(measure)) for measure in measures]
        found.append(f"base measure ({' and '.join(words)})")
    if first.num != second.num:
        found.append(f"data ({first.num} and {second.num} examples)")
    elif one.data != other.data:
        found.append(f"data ({first.num} examples each, with other values or in another order)")
    return found


def _denominator_error(first: LogLikelihood, second: LogLikelihood) -> float:
    """The error of the difference of two log partition functions."""
    one, other = ((float(r.denominator.value), float(r.denominator.standard_error)) for r in (first, second))
    return 0.0 if one == other else math.hypot(one[1], other[1])  # a shared estimate cancels
