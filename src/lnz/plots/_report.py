"""The report of runs: one HTML file that needs nothing else, readable in light and dark, on a desk and on a phone."""

import importlib.resources
import os
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

from .._run import Run, write_text
from .._table import Table, tabulate
from ._draws import samples
from ._html import definitions, escape
from ._model import model_section

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header><p class="brand">lnz report</p><h1>{title}</h1><p class="lead">{lead}</p></header>
<main>
{body}
</main>
<footer>{footer}</footer>
</body>
</html>
"""


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
    page = _PAGE.format(
        title=escape(f"{len(runs)} models of {data}" if len(runs) > 1 else next(iter(runs))),
        style=importlib.resources.files("lnz.plots").joinpath("_report.css").read_text("utf-8"),
        lead="Test log-likelihoods on one scale, with their errors and the direction in which each may err.",
        body="\n".join([_likelihoods(table), samples(ordered), *starmap(model_section, ordered.items())]),
        footer=_environments(ordered),
    )
    write_text(Path(path), page)


def _likelihoods(table: Table) -> str:
    heads = ("Model", "Nats per example", "Bound", "Data s.e.", "MC s.e.", "Bits per dimension")
    heads += ("Difference to best", "Parameters", "Training")
    body = "".join(_likelihood_row(heads, row) for row in table.rows)
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    checks = "".join(f"<p><b>{escape(what)}:</b> {escape(words)}</p>" for what, words in table.checks)
    warnings = "".join(f'<p class="warning">Warning: {escape(warning)}</p>' for warning in table.warnings)
    return (
        '<section><h2>Likelihood</h2>\n<div class="scroll" tabindex="0" role="region" aria-label="Likelihood">'
        f'<table class="likelihoods"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'
        f"{checks}{warnings}"
        f'<div class="notes"><div><h3>How to read it</h3>{definitions(table.notes)}</div>\n'
        f"<div><h3>Protocol</h3>{definitions(table.protocols)}</div></div></section>"
    )


def _likelihood_row(heads: tuple[str, ...], row: dict[str, Any]) -> str:
    is_best = row["difference"] is None
    cells = (
        row["name"],
        f"{row['value']:.3f}",
        row["bound"],
        f"{row['data_error']:.3f}",
        "0" if row["bound"] == "exact" else f"{row['monte_carlo_error']:.2g}",
        f"{row['bits_per_dimension']:.3f}",
        "best" if is_best else f"{row['difference']:.3f} ± {row['difference_error']:.3f}",
        f"{row['num_parameters']:,}",
        f"{row['train_seconds']:.1f} s",
    )
    first, *rest = (escape(cell.replace("-", "−") if i else cell) for i, cell in enumerate(cells))
    columns = "".join(
        f'<td data-head="{head}"{_bound_class(row, head)}>{cell}</td>'
        for head, cell in zip(heads[1:], rest, strict=True)
    )
    return f'<tr{" class=best" if is_best else ""}><th scope="row">{first}</th>{columns}</tr>\n'


def _bound_class(row: dict[str, Any], head: str) -> str:
    return f' class="bound {row["bound"]}"' if head == "Bound" else ""


def _environments(runs: Mapping[str, Run]) -> str:
    environments = [{name: value for name, value in run.environment.items() if value} for run in runs.values()]
    described = [", ".join(f"{name} {value}" for name, value in one.items()) for one in environments]
    return "".join(f"<p>Trained with {escape(words)}</p>" for words in dict.fromkeys(described))
