"""The comparison of runs as a table that fits 80 columns, with wider gaps on a wider terminal."""

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core import LogLikelihood
from ..runs import Run, TableRow, as_sentence, tabulate

_ROOMY = 100  # from this terminal width on, gaps between columns are three wide; otherwise one
_HEADS = (
    "model",
    "nats per\nexample",
    "bound",
    "data\ns.e.",
    "MC\ns.e.",
    "bits/\ndim.",
    "difference\nto highest",
    "para-\nmeters",
    "train\nsec.",
)
_COLOURS = {"exact": "green", "unbiased": "green", "upper": "yellow", "lower": "cyan", "estimate": "magenta"}


def print_comparison(console: Console, runs: Mapping[str, Run]) -> None:
    """Print the likelihoods of all runs, best first, the meaning of the columns, the protocols, and warnings.

    **Raises:** `ValueError` if the runs were not evaluated on the same examples.
    """
    table = tabulate(runs)
    console.print()
    console.print(_likelihoods(table.rows, roomy=console.width >= _ROOMY))
    console.print()
    for what, words in table.checks:
        console.print(Text.assemble((f"{what}: ", "bold"), words))
    for warning in table.warnings:
        console.print(Text(f"Warning: {warning}", style="bold red"))
    if table.checks or table.warnings:
        console.print()
    console.print(_definitions(table.notes))
    console.print()
    console.print(_definitions((who.replace(", ", "\n"), what) for who, what in table.protocols))
    console.print()


def print_warnings(console: Console, name: str, result: LogLikelihood) -> None:
    """Print the warnings of one likelihood. Its number must not be shown without them."""
    for warning in result.warnings:
        console.print(Text(f"Warning: {name}: {as_sentence(warning)}", style="bold red"), soft_wrap=True)


def _likelihoods(rows: Sequence[TableRow], roomy: bool) -> Table:
    padding = (0, 2, 0, 0) if roomy else 0  # the box adds one blank between columns
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding, header_style="bold", show_edge=False)
    has_bits = any(row.bits_per_dimension is not None for row in rows)
    heads = [head for head in _HEADS if has_bits or not head.startswith("bits")]
    for head in heads:
        justify = "left" if head in ("model", "bound") else "right"
        table.add_column(head, justify=justify, no_wrap=head != "model", overflow="fold", vertical="top")
    for row in rows:
        cells = _cells(row, " ±" if roomy else "±")
        shown = [cell for head, cell in zip(_HEADS, cells, strict=True) if head in heads]
        table.add_row(*shown, style="bold" if row.standing == "best" else "")
    return table


def _cells(row: TableRow, plus_minus: str) -> list[Text]:
    result = row.result
    return [
        Text(row.name),
        Text(f"{result.value:.3f}"),
        Text(row.marked_bound, style="bold red" if row.warnings else _COLOURS[result.bound]),
        Text(f"{result.data_error:.3f}"),
        Text("0" if result.bound == "exact" else _small(result.monte_carlo_error)),
        Text(row.bits()),
        Text(row.to_highest(plus_minus)),
        Text(str(row.num_parameters)),
        Text(f"{row.train_seconds:.1f}"),
    ]


def _small(error: float) -> str:
    return f"{error:.3f}" if error >= 0.0005 else f"{error:.0e}".replace("e-0", "e-")


def _definitions(definitions: Iterable[tuple[str, str]]) -> Table:
    """A grid with terms on the left and their meanings on the right."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim bold", max_width=28, overflow="fold")
    grid.add_column(style="dim", overflow="fold")
    for term, words in definitions:
        grid.add_row(Text(term), Text(words))
    return grid
