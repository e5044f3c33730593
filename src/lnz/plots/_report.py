"""The report of runs: one self-contained HTML file, with light and dark styles, for desktops and phones."""

import os
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path

from ..runs import Run, Table, TableRow, tabulate, write_text
from ._draws import samples
from ._html import pieces
from ._model import model_section

_BITS = "Bits per dimension"


def write_report(path: str | os.PathLike, runs: Mapping[str, Run]) -> None:
    """Writes the report of `runs` to one self-contained HTML file, completely or not at all.

    The report holds the comparison in nats per example with explanations, and samples beside test examples. For every
    run it shows training curves, the weights of annealing with their conclusions on log Z, parameters as pictures,
    Markov chains, the least and the most likely test rows, and every setting. Samples are drawn with fixed keys. All
    data come from the runs; no data file is read.

    **Arguments:**

    - `path`: the file; an existing file is replaced.
    - `runs`: `{name: run}`, evaluated on the same test examples.

    **Raises:** `ValueError` if the runs were not evaluated on the same examples.
    """
    table = tabulate(runs)
    # Best first, as in the table; a run with two rows takes the place of the better one.
    ordered = {name: runs[name] for name in dict.fromkeys(row.run for row in table.rows)}
    data = next(iter(runs.values())).data
    page = pieces().page(
        title=f"{len(runs)} models of {data}" if len(runs) > 1 else next(iter(runs)),
        lead="Test log-likelihoods on one scale, with their errors and the direction in which each may err.",
        sections=[_likelihoods(table), samples(ordered), *starmap(model_section, ordered.items())],
        footer=_environments(ordered),
    )
    write_text(Path(path), page)


def _likelihoods(table: Table) -> str:
    heads = ("Model", "Nats per example", "Bound", "Data s.e.", "MC s.e.", _BITS)
    heads += ("Difference to highest", "Parameters", "Training")
    if all(row.bits_per_dimension is None for row in table.rows):
        heads = tuple(head for head in heads if head != _BITS)
    if len(table.rows) == 1:
        heads = tuple(head for head in heads if not head.startswith("Difference"))
    return pieces().likelihoods(
        heads,
        [_likelihood_row(heads, row) for row in table.rows],
        table.checks,
        table.warnings,
        table.notes,
        table.protocols,
    )


def _likelihood_row(heads: tuple[str, ...], row: TableRow) -> tuple[str, list[tuple[str, str, str]], bool]:
    """The name of the row, the other cells with their heads and kinds, and whether to highlight the row."""
    result = row.result
    cells = {
        "Nats per example": f"{result.value:.3f}",
        "Bound": row.marked_bound,
        "Data s.e.": f"{result.data_error:.3f}",
        "MC s.e.": "0" if result.bound == "exact" else f"{result.monte_carlo_error:.2g}",
        _BITS: row.bits(signs=("≤ ", "≥ ")),
        "Difference": row.to_highest(" ± "),
        "Parameters": f"{row.num_parameters:,}",
        "Training": f"{row.train_seconds:.1f} s",
    }
    kinds = {"Bound": f"bound {'doubtful' if row.warnings else result.bound}"}
    described = [(head, cells[head.split(" to ")[0]].replace("-", "−"), kinds.get(head, "")) for head in heads[1:]]
    return row.name, described, row.standing == "best"


def _environments(runs: Mapping[str, Run]) -> list[str]:
    environments = [{name: value for name, value in run.environment.items() if value} for run in runs.values()]
    described = [", ".join(f"{name} {value}" for name, value in one.items()) for one in environments]
    return [f"Trained with {words}" for words in dict.fromkeys(described)]
