import sys
from pathlib import Path
from typing import Any

from ..files import short_path
from ..recipes import find_recipe
from ..runs import (
    Recipe,
    Run,
    Settings,
    TrainOptions,
    load_data,
    plan,
    read_config,
    read_settings,
    to_json,
    train as train_recipe,
    working_folder,
)
from ._compare import write_html
from ._console import console
from ._interrupt import Interrupted, watch_signals
from ._progress import describe_seconds, show_progress
from ._table import print_warnings


def train(
    recipe: str | None, out: Path, data: str | None, changes: list[str], options: TrainOptions, dry_run: bool
) -> None:
    """The command `lnz train`."""
    if not options.checkpoint_every >= 0:
        raise ValueError(
            f"`--checkpoint-every` must be a number of seconds, at least 0; got {options.checkpoint_every:g}."
        )
    settings = parse_changes(changes, data)
    if options.resume:
        chosen, resolved, cwd = _resumed(recipe, out, settings, options.overwrite)
    else:
        chosen, resolved, cwd = _chosen(recipe, settings)
    if dry_run:
        _print_plan(chosen, resolved, cwd)
        return
    run = train_into(out, chosen, resolved, options, cwd)
    for name, row in run.rows.items():
        console().print(f"{name}: {row}", soft_wrap=True)
        print_warnings(console(), name, row)
    if run.bracket is not None:
        console().print(f"log Z: {run.bracket}", soft_wrap=True)
    with watch_signals() as presses:
        try:
            write_html(out / "report.html", {out.resolve().name: run})
        except KeyboardInterrupt:
            words = f"the run is complete, and `lnz report {short_path(out)}` writes its report"
            raise Interrupted(f"stopped by {presses.name}; {words}.") from None
        except OSError as error:  # a full disk, say
            kept = f"The run is complete. `lnz report {short_path(out)}` writes its report once this is fixed."
            raise ValueError(f"`{out / 'report.html'}` could not be written: {error.strerror}. {kept}") from error


def parse_changes(changes: list[str], data: str | None = None) -> dict[str, str]:
    """`["a.b=c"]` as `{"a.b": "c"}`; `data` is short for `data.source`."""
    pairs = [change.partition("=") for change in changes]
    for change, (name, equals, _) in zip(changes, pairs, strict=True):
        if not (name and equals):
            raise ValueError(f"`--set` needs KEY=VALUE, such as `--set train.steps=2000`; got {change!r}.")
    settings = {name: value for name, _, value in pairs}
    return settings if data is None else {**settings, "data.source": data}


def _chosen(recipe: str | None, changes: dict[str, str]) -> tuple[Recipe[Any], Settings, str]:
    """Resolve a recipe's name or a run's `config.json`, with changes.

    The last value returned is the folder from which a relative path of the data starts.
    """
    here = str(Path.cwd())
    if recipe is None:
        raise ValueError("`lnz train` needs a RECIPE; `lnz list` shows them.")
    if not recipe.endswith(".json"):
        chosen = find_recipe(recipe)
        return chosen, chosen.resolve(changes), here
    config = read_config(Path(recipe))
    chosen = find_recipe(config["recipe"])
    before = read_settings(chosen, config["settings"])
    resolved = chosen.resolve(changes, before)
    cwd = here if "data.source" in changes else config["cwd"]
    if resolved.data == before.data:
        digest = load_data(chosen, resolved, cwd).source_digest
        if digest != config["digest"]:
            console().print(f"Warning: the data have changed since {recipe} ({config['digest']} then, {digest} now).")
    return chosen, resolved, cwd


def _resumed(
    recipe: str | None, out: Path, changes: dict[str, str], overwrite: bool
) -> tuple[Recipe[Any], Settings, str]:
    """Read recipe and settings from the run folder. A resumed training cannot change them."""
    if overwrite:
        raise ValueError("`--resume` continues a run and `--overwrite` replaces it: choose one.")
    config = read_config(working_folder(out))
    if recipe is not None and recipe != config["recipe"]:
        raise ValueError(f"`--resume`: {str(out)!r} holds a run of {config['recipe']}, not of {recipe}.")
    if changes:
        raise ValueError(
            f"`--resume` takes all settings from {str(out / 'config.json')!r}: leave out --set and --data."
        )
    chosen = find_recipe(config["recipe"])
    return chosen, read_settings(chosen, config["settings"]), config["cwd"]


def train_into(
    folder: Path, recipe: Recipe[Any], settings: Settings, options: TrainOptions, cwd: str | None = None
) -> Run:
    """Call `lnz.runs.train`, show its progress, and print a line with the result."""
    with watch_signals() as presses:
        try:
            with show_progress(console(), recipe.name, settings.train.steps, presses.check) as display:
                run = train_recipe(folder, recipe, settings, options=options, display=display, cwd=cwd)
        except KeyboardInterrupt as stop:
            if not str(stop):  # no training was started
                raise
            raise Interrupted(f"stopped by {presses.name}; {stop}") from None
    after = f"{run.status} after {run.history[-1]['step']} of {settings.train.steps} steps"
    row = run.rows[recipe.name]
    in_bits = f" = {row.in_bits}" if row.in_bits else ""
    console().print(
        f"{recipe.name}: {row.value:.3f} nats per test example ({row.kind_and_estimator}){in_bits}, {after} "
        f"({describe_seconds(run.seconds)})",
        soft_wrap=True,
    )
    return run


def _print_plan(recipe: Recipe[Any], settings: Settings, cwd: str) -> None:
    """Print what would be trained. Nothing is written."""
    planned, print_ = plan(recipe, settings, cwd), console().print
    print_(f"{recipe.name}: {recipe.title}", soft_wrap=True)
    print_(to_json(settings.model_dump(), indent=2), soft_wrap=True)
    print_(f"data: {planned.data_protocol}", soft_wrap=True)
    print_(f"parameters: {planned.num_parameters:,}")
    parts = ", ".join(f"{what} {size / 2**20:,.1f} MiB" for what, size in planned.memory.items())
    print_(
        f"expected memory of training, without JAX itself: {sum(planned.memory.values()) / 2**20:,.1f} MiB ({parts})",
        soft_wrap=True,
    )
    print_("Nothing was trained or written (--dry-run).")
    sys.stdout.flush()
