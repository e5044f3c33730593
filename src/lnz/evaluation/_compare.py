"""Likelihoods of the same examples, side by side."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..core import LogLikelihood, faulty_rows
from ..spaces import COUNTING, LEBESGUE

_NUM_ERRORS = 2  # standard errors of a paired difference that are called noise
_MEASURES = {str(COUNTING): "counting, of probabilities", str(LEBESGUE): "Lebesgue, of densities"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One likelihood of a comparison, and how it compares with the highest.

    - `name`, `result`: the likelihood, and what it is called.
    - `difference`, `difference_error`: in nats to the highest, paired, example by example; `None` of the highest.
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
        """Those of the result, and which of its log-probabilities are not finite."""
        return list(dict.fromkeys([*self.result.warnings, *faulty_rows(self.result.per_example)]))

    @property
    def bits_per_dimension(self) -> float | None:
        """`None` for densities, whose bits change with the unit of the data."""
        return self.result.bits_per_dimension if self.result.of.base_measure == str(COUNTING) else None

    @property
    def marked_bound(self) -> str:
        """The direction of the bound, with a mark if there is a warning."""
        return f"{self.result.bound} (!)" if self.warnings else self.result.bound

    def bits(self, digits: int = 3, signs: tuple[str, str] = ("<=", ">=")) -> str:
        """Bits per dimension with their direction: a lower bound on log p is an upper bound on bits."""
        below = {"lower": signs[0], "upper": signs[1], "estimate": "~"}.get(self.result.bound, "")
        return "" if self.bits_per_dimension is None else f"{below}{self.bits_per_dimension:.{digits}f}"

    def to_highest(self, plus_minus: str) -> str:
        """The difference with its error after `plus_minus`; of the highest, its standing."""
        if self.difference is None or self.difference_error is None:
            return self.standing
        return f"{self.difference:.3f}{plus_minus}{self.difference_error:.3f}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows of one table, highest first; differences are paired, example by example.

    The first row's `standing` is "best"; or "highest" where that would say too much: its value may err upwards while
    others do not (an upper bound among lower ones), that of another row downwards (a lower bound beside an exact
    value), it has a warning, or it leads another row by no more than two standard errors of their difference
    (`is_clear` is then false for that row); or "" if there is no other row.
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
    """Whether a row is below the first by more than noise. An error of one example is unknown, and so this is."""
    return difference == -math.inf or -difference > _NUM_ERRORS * error


def _standing(first: LogLikelihood, others: Sequence[LogLikelihood], is_clear: bool) -> str:
    """What may be said of the highest of several rows."""
    if not others:
        return ""
    too_high, too_low = ("upper", "estimate"), ("lower", "estimate")
    # Of one kind they err alike; otherwise the first must not err upwards, and no other one downwards.
    is_open = any(
        other.bound != first.bound and (first.bound in too_high or other.bound in too_low) for other in others
    )
    return "highest" if is_open or first.warnings or not is_clear else "best"


def compare(results: Mapping[str, LogLikelihood]) -> Comparison:
    """Several models' likelihoods of the same examples, best first, with paired differences to the best.

    The error of a difference is that of the mean of per-example differences, which is often far smaller than
    either row's own data error and holds the noise of estimated numerators already, joined in quadrature with
    the errors of both log partition functions (none for rows that share one estimate).

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
    """For sorting: the highest first, and values that cannot be (NaN, plus infinity) last."""
    return (False, -value) if value < math.inf else (True, 0.0)


def differences(first: LogLikelihood, second: LogLikelihood) -> list[str]:
    """In words, what keeps two likelihoods from standing in one table; empty if nothing does."""
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
    return 0.0 if one == other else math.hypot(one[1], other[1])  # of the same estimate, which cancels, none
