"""The report of runs: one HTML file that needs nothing else, readable in light and dark, on a desk and on a phone."""

import os
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

from .._run import Run, write_text
from .._table import Table, tabulate
from ._draws import samples
from ._html import pieces
from ._model import model_section


def write_report(path: str | os.PathLike, runs: Mapping[str, Run]) -> None:
    """Write the report of `runs` to one self-contained HTML file, whole or not at all.

    It holds the comparison in nats per example with what it means, samples beside test examples, and for every run
    training curves, the weights of annealing with what they say about log Z, parameters as pictures, Markov chains,
    the least and the most likely test rows, and every setting. Samples are drawn with fixed keys. All data are taken
    from the runs; no file of data is read.

    **Arguments:**

    - `path`: the file; an existing one is replaced.
    - `runs`: `{name: run}`, evaluated on the same test examples.

    **Raises:** `ValueError` if the runs were not evaluated on the same examples.
    """
    table = tabulate(runs)
    # Best first here too; a run with two rows stands where its better one does.
    ordered = {name: runs[name] for name in dict.fromkeys(row["run"] for row in table.rows)}
    data = next(iter(runs.values())).data
    page = pieces().page(
        title=f"{len(runs)} models of {data}" if len(runs) > 1 else next(iter(runs)),
        lead="Test log-likelihoods on one scale, with their errors and the direction in which each may err.",
        sections=[_likelihoods(table), samples(ordered), *starmap(model_section, ordered.items())],
        footer=_environments(ordered),
    )
    write_text(Path(path), page)


def _likelihoods(table: Table) -> str:
    heads = ("Model", "Nats per example", "Bound", "Data s.e.", "MC s.e.", "Bits per dimension")
    heads += ("Difference to best", "Parameters", "Training")
    return pieces().likelihoods(
        heads,
        [_likelihood_row(heads, row) for row in table.rows],
        table.checks,
        list(table.warnings),
        table.notes,
        table.protocols,
    )


def _likelihood_row(heads: tuple[str, ...], row: dict[str, Any]) -> tuple[str, list[tuple[str, str, str]], bool]:
    """The name, the other cells with their heads and kinds, and whether the row stands out."""
    is_best = row["difference"] is None
    cells = (
        f"{row['value']:.3f}",
        row["bound"],
        f"{row['data_error']:.3f}",
        "0" if row["bound"] == "exact" else f"{row['monte_carlo_error']:.2g}",
        f"{row['bits_per_dimension']:.3f}",
        "best" if is_best else f"{row['difference']:.3f} ± {row['difference_error']:.3f}",
        f"{row['num_parameters']:,}",
        f"{row['train_seconds']:.1f} s",
    )
    kinds = {"Bound": f"bound {row['bound']}"}
    described = [
        (head, cell.replace("-", "−"), kinds.get(head, "")) for head, cell in zip(heads[1:], cells, strict=True)
    ]
    return row["name"], described, is_best


def _environments(runs: Mapping[str, Run]) -> list[str]:
    environments = [{name: value for name, value in run.environment.items() if value} for run in runs.values()]
    described = [", ".join(f"{name} {value}" for name, value in one.items()) for one in environments]
    return [f"Trained with {words}" for words in dict.fromkeys(described)]
