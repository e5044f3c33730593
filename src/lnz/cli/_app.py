"""The commands. Each imports what it needs when it runs, so that `lnz --help` answers at once."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Explicit generative models on one scale: train them, and compare them in nats per example.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_Changes = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as train.steps=2000.")
]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Explicit generative models on one scale: train them, and compare them in nats per example."""


@app.command("list")
def _list() -> None:
    """Show the recipes and the named data sets."""
    from ._list import print_lists

    print_lists()


@app.command("train")
def _train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="One of `lnz list`.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The run folder to write.")],
    changes: _Changes = [],  # noqa: B006 (Typer copies it)
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
) -> None:
    """Train a recipe, evaluate it on the test split and write a run folder."""
    from ._train import train

    train(recipe, out, changes, overwrite)


@app.command("compare")
def _compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a report.")] = None,
) -> None:
    """Print the test likelihoods of runs in one table, best first."""
    from ._compare import compare

    compare(runs, html)


@app.command("demo")
def _demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the runs and the report go.")] = Path("runs/demo"),
    changes: _Changes = [],  # noqa: B006
) -> None:
    """Train four models of handwritten digits, compare them and write a report."""
    from ._demo import demo

    demo(out, changes)
