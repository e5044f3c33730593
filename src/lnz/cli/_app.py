"""The commands of `lnz`. Each imports its modules when it runs, so that `lnz --help` answers at once."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Train explicit generative models, and compare their log-likelihoods in nats per example.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_Changes = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting, such as train.steps=2000. See `lnz list RECIPE`."
    ),
]
_EvaluateChanges = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change an evaluation setting, or how --data is read."),
]
_ReadingChanges = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change how data files are read, such as data.header=yes."),
]
_Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]
_Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]


def _complete_recipe(incomplete: str) -> list[str]:
    """Recipe names for completion by the Tab key."""
    from ..recipes import all_recipes

    return [name for name in all_recipes() if name.startswith(incomplete)]


def _print_version(wanted: bool) -> None:
    if wanted:
        import lnz

        typer.echo(f"lnz {lnz.__version__}")
        raise typer.Exit


def _command(name: str) -> Callable[[Callable[..., None]], Any]:
    """Register a function as a command, and keep the programs that it compiles for the next start."""

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
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train explicit generative models, and compare their log-likelihoods in nats per example."""


@_command("list")
def _list(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Show the settings of this recipe.", autocompletion=_complete_recipe),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON schema of the settings.")] = False,
) -> None:
    """List the recipes and the named data sets, or show the settings of one recipe."""
    from ._list import print_lists

    print_lists(recipe, as_json)


@_command("train")
def _train(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The run folder to write.")],
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="A recipe from `lnz list`, or a run's config.json.", autocompletion=_complete_recipe
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Your file or folder, or a data set from `lnz list`.")
    ] = None,
    changes: _Changes = [],  # noqa: B006 (Typer copies it)
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in FOLDER.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in FOLDER.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show settings, parameters and memory.")] = False,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", help="Save the whole training state every so many seconds.")
    ] = 10.0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard event files.")] = False,
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
        str | None,
        typer.Option(metavar="DATA", help="Use other data than the run's test split; the run stays as it is."),
    ] = None,
    changes: _EvaluateChanges = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write the result to this file.")] = None,
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", help="Also show ELBO, KL, active units, gaps and a bracket (models with latents)."),
    ] = False,
    num_rows: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Use only N rows, evenly spaced; the run stays as it is. With --ais, 100 by default."
        ),
    ] = None,
    ais: Annotated[
        bool, typer.Option("--ais", help="Add a second likelihood by annealing, which is slow (models with latents).")
    ] = False,
    num_chains: Annotated[
        int | None, typer.Option(metavar="N", help="Chains per row for --ais; 20 by default.")
    ] = None,
    num_betas: Annotated[
        int | None, typer.Option(metavar="N", help="Temperatures for --ais; 300 by default. More tighten the bound.")
    ] = None,
) -> None:
    """Evaluate a run again, with other settings or on other data."""
    from ._use import Annealing, evaluate

    annealing = Annealing.of(ais, num_chains, num_betas)
    evaluate(run, data, changes, out, diagnose, num_rows, annealing)


@_command("sample")
def _sample(
    run: _Run,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .npy, .csv, .parquet or .png file to write.")],
    num: Annotated[int, typer.Option(metavar="N", help="Number of samples.")] = 36,
    num_steps: Annotated[int, typer.Option(metavar="N", help="Number of steps of each Markov chain.")] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed. Another seed gives other samples.")] = 0,
) -> None:
    """Draw samples from a run's model."""
    from ._use import sample

    sample(run, num, out, num_steps, seed)


@_command("score")
def _score(
    run: _Run,
    data: Annotated[str, typer.Option(metavar="DATA", help="The rows to score: a file or folder.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all rows to this .csv or .parquet file.")
    ] = None,
    anomalous_first: Annotated[
        bool, typer.Option("--anomalous-first", help="List the least likely rows first.")
    ] = False,
    changes: _EvaluateChanges = [],  # noqa: B006
) -> None:
    """Score every row of a file: log p in nats, its kind (exact, lower, ...) and its Monte Carlo error."""
    from ._use import score

    score(run, data, out, anomalous_first, changes)


_Seed = Annotated[int, typer.Option(metavar="N", help="Random seed, used where a mean has no closed form.")]


@_command("embed")
def _embed(
    run: _Run,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .npz, .csv or .parquet file to write.")],
    data: Annotated[str | None, typer.Option(metavar="DATA", help="Use these rows, not the test split.")] = None,
    changes: _ReadingChanges = [],  # noqa: B006
    seed: _Seed = 0,
) -> None:
    """Encode rows: write the posterior mean of the latents of each row."""
    from ._latent import embed_run

    embed_run(run, data, changes, out, seed)


@_command("interpolate")
def _interpolate(
    run: _Run,
    rows: Annotated[
        list[str],
        typer.Option("--rows", metavar="I,J", help="Two row numbers, of --data or the test split, from 0. Repeatable."),
    ] = [],  # noqa: B006
    num: Annotated[int, typer.Option(metavar="N", help="Number of steps per path, ends included.")] = 10,
    method: Annotated[str, typer.Option(metavar="METHOD", help="slerp (a great circle) or lerp (a line).")] = "slerp",
    data: Annotated[str | None, typer.Option(metavar="DATA", help="Use these rows, not the test split.")] = None,
    changes: _ReadingChanges = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .png or .npz file; by default in the run folder.")
    ] = None,
    seed: _Seed = 0,
) -> None:
    """Interpolate between two examples through the latent space."""
    from ._latent import interpolate_run

    interpolate_run(run, rows, num, method, data, changes, out, seed)


@_command("manipulate")
def _manipulate(
    run: _Run,
    attribute: Annotated[
        str | None, typer.Option(metavar="NAME", help="The attribute: a class of the data, or a column of --labels.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A table with columns of 0 and 1 and a line for each row of --data."),
    ] = None,
    other: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of --labels whose effect `--method balanced` removes."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD", help="How to find the direction: mean_difference, balanced or linear_classifier."
        ),
    ] = "mean_difference",
    strengths: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="How far to move; 1 goes from the mean without the attribute to the mean with it."
        ),
    ] = "-1,-0.5,0,0.5,1",
    rows: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Numbers of the rows to show, of --data or the test split, from 0."),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="DATA", help="The rows that --labels describes.")] = None,
    changes: _ReadingChanges = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .png or .npz file; by default in the run folder.")
    ] = None,
    seed: _Seed = 0,
) -> None:
    """Move examples along an attribute in the latent space, and measure how well it works."""
    from ._latent import manipulate_run

    manipulate_run(run, attribute, labels, other, method, strengths, rows, data, changes, out, seed)


@_command("compare")
def _compare(
    runs: _Runs,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write an HTML report.")] = None,
) -> None:
    """Compare the test log-likelihoods of runs in one table, best first."""
    from ._compare import compare

    compare(runs, html)


@_command("report")
def _report(
    runs: _Runs,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The HTML file; by default, report.html in the run folder.")
    ] = None,
) -> None:
    """Write a report of one or more runs as one HTML file."""
    from ._compare import report

    report(runs, out)


@_command("demo")
def _demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the runs and the report.")] = Path(
        "runs/demo"
    ),
    changes: _Changes = [],  # noqa: B006
) -> None:
    """Train six models of handwritten digits, compare them and write a report."""
    from ._demo import demo

    demo(out, changes)
