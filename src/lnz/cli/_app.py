"""The commands. Each imports what it needs when it runs, so that `lnz --help` answers at once."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Explicit generative models on one scale: train them, and compare them in nats per example.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_Changes = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of `lnz list RECIPE`, such as train.steps=2000."),
]
_EvaluateChanges = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the evaluation, or how --data is read."),
]
_ReadingChanges = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change how --data (and --labels) are read: data.header=yes."),
]
_Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
_Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]


def _complete_recipe(incomplete: str) -> list[str]:
    """Names for the shell's Tab key."""
    from ..recipes import all_recipes

    return [name for name in all_recipes() if name.startswith(incomplete)]


def _print_version(wanted: bool) -> None:
    if wanted:
        import lnz

        typer.echo(f"lnz {lnz.__version__}")
        raise typer.Exit


def _command(name: str) -> Callable[[Callable[..., None]], Any]:
    """Makes a function a command; what it compiles is kept for the next time."""

    def add(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def run(**options: Any) -> None:
            from ._compiled import keep_compiled_programs

            keep_compiled_programs()
            function(**options)

        return app.command(name)(run)

    return add


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Explicit generative models on one scale: train them, and compare them in nats per example."""


@_command("list")
def _list(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Show the settings of this recipe.", autocompletion=_complete_recipe),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON schema of the settings.")] = False,
) -> None:
    """Show the recipes and the named data sets, or the settings of a recipe."""
    from ._list import print_lists

    print_lists(recipe, as_json)


@_command("train")
def _train(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The run folder to write.")],
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="One of `lnz list`, or the config.json of a run.", autocompletion=_complete_recipe
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="A file or folder of yours, or a name of `lnz list`.")
    ] = None,
    changes: _Changes = [],  # noqa: B006 (Typer copies it)
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in FOLDER.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show settings, parameters and memory only.")] = False,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", help="How often the whole state of training is saved.")
    ] = 10.0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard's event files.")] = False,
) -> None:
    """Train a recipe, evaluate it on the test split and write a run folder."""
    from ..runs import TrainOptions
    from ._tensorboard import TensorBoard, check_tensorboard
    from ._train import train

    if tensorboard:
        check_tensorboard()
    options = TrainOptions(resume, overwrite, checkpoint_every, (TensorBoard,) if tensorboard else ())
    train(recipe, out, data, changes, options, dry_run)


@_command("evaluate")
def _evaluate(
    run: _Run,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Other data than the test split of the run; nothing is replaced.")
    ] = None,
    changes: _EvaluateChanges = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write the result here.")] = None,
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", help="Of a model with latents also: ELBO, KL, active units, gaps, and a bracket."),
    ] = False,
    num_rows: Annotated[
        int | None,
        typer.Option(metavar="N", help="Fewer rows, evenly spaced; nothing is replaced. With --ais 100 by default."),
    ] = None,
    ais: Annotated[
        bool, typer.Option("--ais", help="Of a model with latents also a second row: by annealing, which is slow.")
    ] = False,
    num_chains: Annotated[
        int | None, typer.Option(metavar="N", help="Chains of --ais for each row; by default 20.")
    ] = None,
    num_betas: Annotated[
        int | None, typer.Option(metavar="N", help="Temperatures of --ais; by default 300. More: a tighter bound.")
    ] = None,
) -> None:
    """Evaluate a run anew, with other settings or on other data."""
    from ._use import Annealing, evaluate

    annealing = Annealing.of(ais, num_chains, num_betas)
    evaluate(run, data, changes, out, diagnose, num_rows, annealing)


@_command("sample")
def _sample(
    run: _Run,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .npy, .csv, .parquet or .png file.")],
    num: Annotated[int, typer.Option(metavar="N", help="How many.")] = 36,
    num_steps: Annotated[int, typer.Option(metavar="N", help="Steps of each Markov chain.")] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed gives other samples.")] = 0,
) -> None:
    """Draw samples from a run's model."""
    from ._use import sample

    sample(run, num, out, num_steps, seed)


@_command("score")
def _score(
    run: _Run,
    data: Annotated[str, typer.Option(metavar="DATA", help="The rows to score: a file or folder.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A .csv or .parquet file.")] = None,
    anomalous_first: Annotated[bool, typer.Option("--anomalous-first", help="Least likely rows first.")] = False,
    changes: _EvaluateChanges = [],  # noqa: B006
) -> None:
    """Write log p, in nats, of every row of a file, with its kind (exact, lower, ...) and its Monte Carlo error."""
    from ._use import score

    score(run, data, out, anomalous_first, changes)


_Seed = Annotated[int, typer.Option(metavar="N", help="Of draws, where a mean has no closed form.")]


@_command("embed")
def _embed(
    run: _Run,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .npz, .csv or .parquet file.")],
    data: Annotated[str | None, typer.Option(metavar="DATA", help="Other rows than the test split.")] = None,
    changes: _ReadingChanges = [],  # noqa: B006
    seed: _Seed = 0,
) -> None:
    """Write the latents of rows: the mean of the posterior of each."""
    from ._latent import embed_run

    embed_run(run, data, changes, out, seed)


@_command("interpolate")
def _interpolate(
    run: _Run,
    rows: Annotated[
        list[str], typer.Option("--rows", metavar="I,J", help="Two rows of the test split; may be given repeatedly.")
    ] = [],  # noqa: B006
    num: Annotated[int, typer.Option(metavar="N", help="Steps of a path, both ends included.")] = 10,
    method: Annotated[str, typer.Option(metavar="METHOD", help="slerp (a great circle) or lerp (a line).")] = "slerp",
    data: Annotated[str | None, typer.Option(metavar="DATA", help="Other rows than the test split.")] = None,
    changes: _ReadingChanges = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .png or .npz file; by default in the run folder.")
    ] = None,
    seed: _Seed = 0,
) -> None:
    """Draw the way from one example to another through the latents."""
    from ._latent import interpolate_run

    interpolate_run(run, rows, num, method, data, changes, out, seed)


@_command("manipulate")
def _manipulate(
    run: _Run,
    attribute: Annotated[
        str | None, typer.Option(metavar="NAME", help="A class of the data, or a column of --labels.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="A table with a line for each row of --data, columns of 0 and 1.")
    ] = None,
    other: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of --labels that `--method balanced` keeps out.")
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="METHOD", help="mean_difference, balanced or linear_classifier.")
    ] = "mean_difference",
    strengths: Annotated[
        str,
        typer.Option(metavar="LIST", help="How far to move: 1 is from the mean without it to that with it."),
    ] = "-1,-0.5,0,0.5,1",
    rows: Annotated[
        str | None, typer.Option(metavar="LIST", help="Rows of the file or the test split to show, from 0.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="DATA", help="The rows that --labels is about.")] = None,
    changes: _ReadingChanges = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .png or .npz file; by default in the run folder.")
    ] = None,
    seed: _Seed = 0,
) -> None:
    """Move examples along an attribute, and measure how well that works."""
    from ._latent import manipulate_run

    manipulate_run(run, attribute, labels, other, method, strengths, rows, data, changes, out, seed)


@_command("compare")
def _compare(
    runs: _Runs,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a report.")] = None,
) -> None:
    """Print the test likelihoods of runs in one table, best first."""
    from ._compare import compare

    compare(runs, html)


@_command("report")
def _report(
    runs: _Runs,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="By default report.html in the run folder.")] = None,
) -> None:
    """Write the report of one run or several as one HTML file."""
    from ._compare import report

    report(runs, out)


@_command("demo")
def _demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the runs and the report go.")] = Path("runs/demo"),
    changes: _Changes = [],  # noqa: B006
) -> None:
    """Train six models of handwritten digits, compare them and write a report."""
    from ._demo import demo

    demo(out, changes)
