"""The comparison of runs for the terminal and the report, with all notes that a reader needs to quote it."""

import dataclasses
import math
from collections.abc import Mapping

from ..core import Bound, LogLikelihood
from ..evaluation import Row, compare, differences
from ._run import Run

_BOUNDS_IN_WORDS: dict[Bound, str] = {
    "exact": "nothing was estimated.",
    "unbiased": "the log-determinant was estimated without bias.",
    "upper": "optimistic in expectation, because an estimated log Z errs low and is subtracted.",
    "lower": "pessimistic in expectation, because an estimated log p~(x) errs low.",
    "estimate": "errs in an unknown direction, because numerator and denominator are both estimated.",
}

_BITS = (
    "-log2 p per dimension, lower is better. Bounds change direction: <= where the nats are a lower bound, >= where "
    "they are an upper bound, ~ where they are an estimate."
)


@dataclasses.dataclass(frozen=True)
class TableRow(Row):
    """A row of `lnz.compare`, with its run.

    - `run`: the name of the run.
    - `num_parameters`: the number of trainable parameters of the model.
    - `train_seconds`: the duration of the training.
    """

    run: str = ""
    num_parameters: int = 0
    train_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows, highest first, and the notes beneath them.

    - `rows`: the rows of `lnz.compare`, each with its run.
    - `notes`: `(term, meaning)` pairs.
    - `checks`: paired differences between rows of one model whose denominators were computed in different ways.
    - `protocols`: `(rows, evaluation protocol)` pairs.
    - `warnings`: sentences, each of which names its row.
    """

    rows: tuple[TableRow, ...]
    notes: tuple[tuple[str, str], ...]
    checks: tuple[tuple[str, str], ...]
    protocols: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def tabulate(runs: Mapping[str, Run]) -> Table:
    """Compare all rows of all runs. In the names of rows, the run's name replaces the recipe's.

    **Raises:** `ValueError` if the rows are not log-probabilities of the same examples.
    """
    run_of: dict[str, str] = {}
    results: dict[str, LogLikelihood] = {}
    for name, run in runs.items():
        for row_name, result in run.rows.items():
            label = name + row_name.removeprefix(run.recipe)
            run_of[label], results[label] = name, result
    _check_same(runs, run_of, results)
    rows = tuple(
        TableRow(
            **vars(row),
            run=run_of[row.name],
            num_parameters=runs[run_of[row.name]].num_parameters,
            train_seconds=runs[run_of[row.name]].seconds["train"],
        )
        for row in compare(results).rows
    )
    warnings = tuple(f"{row.name}: {as_sentence(warning)}" for row in rows for warning in row.warnings)
    return Table(rows, _notes(rows), _checks(run_of, results), _protocols(runs, rows), warnings)


def as_sentence(words: str) -> str:
    return words.rstrip(".") + "."


def _check_same(runs: Mapping[str, Run], run_of: Mapping[str, str], results: Mapping[str, LogLikelihood]) -> None:
    """**Raises:** `ValueError`, naming the differences between two rows and between the data of their runs."""
    names = list(results)
    for other in names[1:]:
        first = names[0]
        reasons = differences(results[first], results[other])
        if reasons:
            one, two = runs[run_of[first]], runs[run_of[other]]
            raise ValueError(
                f"{first!r} and {other!r} are not likelihoods of the same thing. They differ in "
                f"{'; in '.join([*_differences_of_data(one, two), *reasons])}. Train both on the same data with the "
                "same split."
            )


def _differences_of_data(one: Run, two: Run) -> list[str]:
    if one.data != two.data:
        return [f"data set ({one.data} and {two.data})"]
    found = []
    options, others = one.settings["data"], two.settings["data"]
    for name in options:
        if name != "source" and options[name] != others.get(name):
            found.append(f"the setting data.{name} ({options[name]} and {others.get(name)})")
    if one.digest != two.digest:
        found.append(f"the contents of {one.data} (the file has changed, or another file has the same name)")
    if not found and one.data_protocol != two.data_protocol:
        found.append(f"split ({one.data_protocol}; and {two.data_protocol})")
    return found


def _notes(rows: tuple[TableRow, ...]) -> tuple[tuple[str, str], ...]:
    present, rows_warned = {row.result.bound for row in rows}, any(row.warnings for row in rows)
    return (
        ("nats per example", "mean test log-likelihood; higher (less negative) is better."),
        *((bound, words) for bound, words in _BOUNDS_IN_WORDS.items() if bound in present),
        ("data s.e.", "how far another test set of this size would move the value."),
        ("MC s.e.", "Monte Carlo noise of the estimate itself; all examples of a row share the noise of log Z."),
        *((("bits/dim.", _BITS),) if any(row.bits_per_dimension is not None for row in rows) else ()),
        *((("(!)", "has a warning: read it before you use the number."),) if rows_warned else ()),
        *_on_standing(rows),
        *((f"{row.name} assumes", ", ".join(row.result.assumes) + ".") for row in rows if row.result.assumes),
    )


def _on_standing(rows: tuple[TableRow, ...]) -> tuple[tuple[str, str], ...]:
    if len(rows) == 1:
        return ()
    first = rows[0]
    words = "paired difference, example by example, and its error. All errors are one standard error."
    notes = (("to highest", words),)
    if first.standing != "highest":
        return notes
    close = [row for row in rows if row.result.value < math.inf and not row.is_clear]
    if first.warnings:
        why = "it has a warning"
    elif close:
        is_known = all(row.difference_error is not None and math.isfinite(row.difference_error) for row in close)
        margin = "is within two standard errors" if is_known else "has no error bar"
        why = f"its lead over {', '.join(row.name for row in close)} {margin}"
    else:
        why = f"its value ({first.result.bound}) may err upwards"
    return (*notes, ("highest", f"{first.name} stands first, but {why}: it is not shown to be the best."))


def _checks(run_of: Mapping[str, str], results: Mapping[str, LogLikelihood]) -> tuple[tuple[str, str], ...]:
    checks = []
    for run in dict.fromkeys(run_of.values()):
        first, *others = [name for name in results if run_of[name] == run]
        for other in others:
            error = compare({first: results[first], other: results[other]}).rows[1].difference_error
            difference = results[other].value - results[first].value
            checks.append((f"{other} minus {first}", f"{difference:+.4f} ± {error:.4f} nats (paired)"))
    return tuple(checks)


def _protocols(runs: Mapping[str, Run], rows: tuple[TableRow, ...]) -> tuple[tuple[str, str], ...]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row.result.how, []).append(row.name)
    data = dict.fromkeys((f"data {run.data}", run.data_protocol) for run in runs.values())
    return (*data, *((", ".join(names), protocol) for protocol, names in groups.items()))
