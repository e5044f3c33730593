import dataclasses
import hashlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

import lnz
import lnz.recipes

from ..core import least_likely_first
from ..data import AtomsWarning, Splits
from ..files import check_name, environment, save
from ..modules import unknown_name
from ..runs import (
    EventLog,
    Examples,
    Recipe,
    Run,
    Settings,
    Start,
    check_folder,
    end_folder,
    is_no_space,
    is_trained,
    is_whole,
    last_step,
    locked,
    read_config,
    replacing,
    start_folder,
    to_json,
    working_folder,
    write_config,
)
from ..training import expected_memory
from ._compare import write_html
from ._console import console, short_path
from ._interrupt import Interrupted, Presses, watch_signals
from ._progress import Display, describe_seconds, show_progress
from ._table import print_warnings
from ._tensorboard import TensorBoard, check_tensorboard

_DIVERGED = "Training "  # how the status of a `Fit` begins that diverged
_NUM_EXAMPLES, _NUM_EXTREME = 36, 18
_MOST_LABELLED, _MOST_LABELLED_NUMBERS = 500, 200_000  # rows with labels, and their numbers, for maps of latents


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How a training is run, which does not change its result."""

    resume: bool = False
    overwrite: bool = False
    checkpoint_every: float = 10.0
    tensorboard: bool = False


def train(
    recipe: str | None, out: Path, data: str | None, changes: list[str], options: TrainOptions, dry_run: bool
) -> None:
    """The command `lnz train`."""
    if not options.checkpoint_every >= 0:
        raise ValueError(f"`--checkpoint-every` is a number of seconds, at least 0; got {options.checkpoint_every:g}.")
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
            words = f"the run is whole, and `lnz report {short_path(out)}` writes its report"
            raise Interrupted(f"stopped by {presses.name}; {words}.") from None
        except OSError as error:  # a full disk, say
            kept = f"The run is whole. `lnz report {short_path(out)}` writes its report once this is mended."
            raise ValueError(f"`{out / 'report.html'}` could not be written: {error.strerror}. {kept}") from error


def recipes() -> dict[str, Recipe[Any]]:
    """Every recipe by its name."""
    found = [value for value in vars(lnz.recipes).values() if isinstance(value, Recipe)]
    return {recipe.name: recipe for recipe in found}


def find_recipe(name: str) -> Recipe[Any]:
    """**Raises:** `ValueError` for an unknown name, with the nearest."""
    known = recipes()
    if name not in known:
        if Path(name).exists():
            raise ValueError(
                f"{name!r} is a file or folder: data are given by `--data {name}`, behind a recipe such as "
                "flow_tabular or rbm_digits; `lnz list` shows them."
            )
        raise ValueError(unknown_name("recipe", name, known))
    return known[name]


def parse_changes(changes: list[str], data: str | None = None) -> dict[str, str]:
    """`["a.b=c"]` as `{"a.b": "c"}`; `data` is short for `data.source`."""
    pairs = [change.partition("=") for change in changes]
    for change, (name, equals, _) in zip(changes, pairs, strict=True):
        if not (name and equals):
            raise ValueError(f"`--set` needs KEY=VALUE, such as `--set train.steps=2000`; got {change!r}.")
    settings = {name: value for name, _, value in pairs}
    return settings if data is None else {**settings, "data.source": data}


def _chosen(recipe: str | None, changes: dict[str, str]) -> tuple[Recipe[Any], Settings, str]:
    """A recipe by name, or a run's `config.json`, with changes; and where a relative path of its data starts."""
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
            console().print(f"Warning: the data are not those of {recipe} ({config['digest']} then, {digest} now).")
    return chosen, resolved, cwd


def load_data(recipe: Recipe[Any], settings: Settings, cwd: str) -> Splits:
    """The data that settings name, by a path from here or, if there is none, from `cwd`, where the training began.

    **Raises:** as `Recipe.load`.
    """
    data, elsewhere = settings.data, Path(cwd) / settings.data.source
    if data.is_file and not Path(data.source).exists() and elsewhere.exists():
        data = data.model_copy(update={"source": str(elsewhere)})
        settings = settings.model_copy(update={"data": data})
    return recipe.load(settings)


def read_settings(recipe: Recipe[Any], settings: Any) -> Settings:
    """The settings in a run's `config.json`.

    **Raises:** `ValueError` for a setting that is missing, unknown or wrong.
    """
    try:
        return recipe.read(settings)
    except ValueError as error:
        raise ValueError(f"The run's config.json has settings that {recipe.name} refuses: {error}") from None


def _resumed(
    recipe: str | None, out: Path, changes: dict[str, str], overwrite: bool
) -> tuple[Recipe[Any], Settings, str]:
    """What the folder says it is; nothing may be changed half-way."""
    if overwrite:
        raise ValueError("`--resume` goes on with a run and `--overwrite` replaces it: choose one.")
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
    """Train and evaluate a recipe with a progress display, and write its run folder.

    `cwd` is where a relative path of the data starts, if not here.

    **Raises:** `ValueError` for data or settings that do not fit, and for a folder that is in use, before anything is
    written or removed; `FloatingPointError` when the training diverges. The model of the step before is then evaluated
    and written, unless the run was to replace another one.
    """
    if settings.data.is_file:
        check_name(Path(settings.data.source), "--data")
    if not options.resume:
        check_folder(folder, options.overwrite)
    cwd = str(Path.cwd()) if cwd is None else cwd
    splits = load_data(recipe, settings, cwd)
    recipe.check(settings, splits)
    console().print(f"{recipe.name}: data {splits.protocol}", soft_wrap=True)
    if options.tensorboard:
        check_tensorboard()
    if options.resume:
        check_same_data(working_folder(folder), splits)
    start = recipe.start(splits, settings)  # the model refuses settings of its own: an earlier run is still there
    with locked(folder) as place, watch_signals() as presses:
        work = working_folder(folder) if options.resume else start_folder(folder, options.overwrite)
        config: dict[str, Any] = {
            "recipe": recipe.name,
            "title": recipe.title,
            "settings": settings.model_dump(),
            "digest": splits.source_digest,
            "environment": environment(),
            "cwd": cwd,
        }
        with (
            _ends_in_words(folder, work, options.resume, presses),
            show_progress(console(), recipe.name, settings.train.steps) as display,
        ):
            if not options.resume:
                write_config(work, **config, model=None)

            def check() -> None:
                presses.check()
                place.check()

            run = _train_and_judge(
                work, recipe, settings, config, splits, start, display, options, check, work != folder
            )
            has_diverged = run.status.startswith(_DIVERGED)
            check()
            if work == folder:
                run.write(folder)
            else:
                run.write_files(work)
                with replacing(folder, work):
                    pass
        if has_diverged:
            saved = f"The model of step {run.history[-1]['step']:.0f} is saved: `lnz evaluate {short_path(folder)}`"
            raise FloatingPointError(f"{run.status} {saved} reads it.")
    after = f"{run.status} after {run.history[-1]['step']} of {settings.train.steps} steps"
    row = run.rows[recipe.name]
    in_bits = f" = {row.in_bits}" if row.in_bits else ""
    console().print(
        f"{recipe.name}: {row.value:.3f} nats per test example ({row.kind_and_estimator}){in_bits}, {after} "
        f"({describe_seconds(run.seconds)})",
        soft_wrap=True,
    )
    return run


@contextmanager
def _ends_in_words(folder: Path, work: Path, resume: bool, presses: Presses) -> Iterator[None]:
    """Says of a training that is broken off what is left of it, and how to go on."""
    advice = f"go on with `lnz train --resume --out {short_path(folder)}`"
    earlier = ", and the earlier run is as it was" if work != folder else ""
    try:
        yield
    except KeyboardInterrupt:
        has_arrived = is_whole(folder) if work == folder else not work.is_dir()  # in place of the other
        if has_arrived:
            words = f"stopped by {presses.name}; the run is whole: `lnz report {short_path(folder)}` writes its report."
        elif work != folder and end_folder(folder, work):
            words = f"stopped by {presses.name} before the first step; the earlier run is kept."
        else:
            words = f"stopped by {presses.name}; what was trained is saved{earlier}: {advice}."
        raise Interrupted(words) from None
    except Exception as error:
        if not work.is_dir():  # deleted meanwhile
            raise
        if isinstance(error, OSError) and is_no_space(error):
            if is_trained(work):
                kept = f"The training is saved up to step {last_step(work)}{earlier}: make room, and {advice}"
            else:
                kept = f"No step of the training is saved{earlier}. Make room, and start it again"
                if not resume:
                    end_folder(folder, work)
            raise OSError(f"No space left on the disk to write {error.filename!r}. {kept}.") from error
        if not resume:
            end_folder(folder, work, has_diverged=isinstance(error, FloatingPointError))
        raise


def check_same_data(folder: Path, splits: Splits) -> None:
    """**Raises:** `ValueError` if the data file of a run is not what it was: its splits would be others."""
    digest = read_config(folder)["digest"]
    if digest != splits.source_digest:
        raise ValueError(
            f"The data of the run {str(folder)!r}, {splits.name!r}, have changed since ({digest} then, "
            f"{splits.source_digest} now). Put the file back, or train anew."
        )


def _train_and_judge(
    folder: Path,
    recipe: Recipe[Any],
    settings: Settings,
    config: dict[str, Any],
    splits: Splits,
    start: Start,
    display: Display,
    options: TrainOptions,
    check: Callable[[], None],
    replaces: bool,
) -> Run:
    logs = [EventLog(folder), *([TensorBoard(folder)] if options.tensorboard else [])]

    def progress(record):
        for log in logs:
            log.write(record)
        pulse(record)

    def pulse(record):
        display.update(record)
        check()

    objective = getattr(start[2], "objective", None)
    if isinstance(objective, lnz.objectives.IWAE):
        display.explain("iwae", f"lower bound by IWAE-{objective.num_samples}")
    label = hashlib.sha256(to_json(config["settings"]).encode()).hexdigest()[:16]
    checkpoints = lnz.Checkpoints(folder / "checkpoints", options.checkpoint_every, label=label, resume=options.resume)
    if options.resume:
        display.say(f"going on from {checkpoints.files()[0].stem}" if checkpoints.files() else "no checkpoint yet")
    first_step = last_step(folder) if options.resume else 0
    with warnings.catch_warnings():
        # The report says it once for each row; ten validations that say it would bury the rest.
        warnings.simplefilter("ignore", lnz.UnreliableEstimateWarning)
        warnings.simplefilter("ignore", AtomsWarning)
        told: set[str] = set()

        def show(message, *_):
            if str(message) not in told:  # training and evaluation may find the same
                told.add(str(message))
                display.warn(str(message))

        warnings.showwarning = show
        started = time.perf_counter()
        try:
            fit = recipe.fit(
                splits,
                settings,
                start=start,
                validated=lambda result: display.explain("valid", result.estimator_in_words),
                watch=lnz.Watch(progress=progress, pulse=pulse),
                checkpoints=checkpoints,
                throw=False,
            )
        finally:
            for log in logs:
                log.close()
        if fit.status.startswith("interrupted"):
            raise KeyboardInterrupt
        has_diverged = fit.status.startswith(_DIVERGED)
        if has_diverged and (replaces or not is_trained(folder)):
            raise FloatingPointError(fit.status + (" The earlier run is kept." if replaces else ""))
        trained = time.perf_counter()
        display.say(f"evaluating on {len(splits.test)} test examples")
        try:
            rows = recipe.judge(
                fit.model,
                splits.test,
                settings,
                splits.observed and splits.observed[2],
                progress=lambda done, total: check(),
            )
            check()
            bracket = recipe.bracket_log_z(fit.model, settings)
        except (ValueError, FloatingPointError) as error:
            if not has_diverged:
                raise
            save(folder / "model.lnz", fit.model)
            where = short_path(folder / "model.lnz")
            words = f"The model of the step before is saved, {where}, but cannot be evaluated: {error}"
            raise FloatingPointError(f"{fit.status} {words}") from error
        evaluated = time.perf_counter()
    trained_on = tuple(f"Training: {sentence}" for sentence in fit.warnings)
    return Run(
        **config,
        model=fit.model,
        history=fit.history,
        status=fit.status,
        rows={name: row.with_warnings(trained_on) for name, row in rows.items()},
        warnings=trained_on,
        bracket=bracket,
        examples=_examples(splits, rows[recipe.name].per_example),
        data_protocol=splits.protocol,
        num_parameters=num_parameters(fit.model, start[2]),
        seconds={
            "train": trained - started - fit.compile_seconds + _seconds_before(fit.history, first_step),
            "compile": fit.compile_seconds,
            "evaluate": evaluated - trained,
        },
    )


def _seconds_before(history: Sequence[dict[str, int | float]], first_step: int) -> float:
    """Seconds of the steps that a resumed training found done."""
    return max((record["seconds"] for record in history if record["step"] <= first_step), default=0.0)


def _examples(splits: Splits, log_probs: np.ndarray) -> Examples:
    order = least_likely_first(log_probs)
    rows = {
        "some": np.arange(min(_NUM_EXAMPLES, len(order))),
        "least": order[:_NUM_EXTREME],
        "most": order[::-1][:_NUM_EXTREME],
    }
    labels = None if splits.labels is None else np.asarray(splits.labels[2])
    if labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        size = max(1, min(_MOST_LABELLED, _MOST_LABELLED_NUMBERS // splits.space.size))
        rows["map"] = order_of_rows = np.arange(0, len(order), -(-len(order) // size))
        labels = labels[order_of_rows].tolist()
    else:
        labels = None
    return Examples(
        labels=labels,
        image_shape=splits.image_shape if splits.image_shape and len(splits.image_shape) == 2 else None,
        columns=splits.columns,
        rows={name: index.tolist() for name, index in rows.items()},
        places=None
        if splits.source_digest is None
        else {kind: _places(splits, rows[kind]) for kind in ("least", "most")},
        values={name: np.asarray(splits.test[index], float).tolist() for name, index in rows.items()},
    )


def _places(splits: Splits, rows: np.ndarray) -> list[str]:
    return [splits.cells.row(int(row)) for row in rows]


def num_parameters(model: Any, method: Any) -> int:
    """How many numbers training may change: not the zeros above a diagonal, and by EM nothing of a bijection."""
    while isinstance(method, lnz.EM) and isinstance(model, lnz.Transformed):
        model = model.base
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, lnz.trainable(model)))
    return sum(_num_free(jax.tree_util.keystr(path), leaf) for path, leaf in leaves)


def _num_free(path: str, leaf: Any) -> int:
    return leaf.size * (leaf.shape[-1] + 1) // (2 * leaf.shape[-1]) if path.endswith(".raw_tril") else leaf.size


def _print_plan(recipe: Recipe[Any], settings: Settings, cwd: str) -> None:
    """What would be trained: nothing is written."""
    splits = load_data(recipe, settings, cwd)
    recipe.check(settings, splits)
    key, model, method = recipe.start(splits, settings)
    options = settings.train.fit_options()
    del options["steps"]
    valid = lnz.Validation(splits.valid, **settings.train.validation_options())
    known = splits.observed and splits.observed[0]
    memory = expected_memory(key, model, method, splits.train, observed=known, valid=valid, **options)
    print_ = console().print
    print_(f"{recipe.name}: {recipe.title}", soft_wrap=True)
    print_(to_json(settings.model_dump(), indent=2), soft_wrap=True)
    print_(f"data: {splits.protocol}", soft_wrap=True)
    print_(f"parameters: {num_parameters(model, method):,}")
    parts = ", ".join(f"{what} {size / 2**20:,.1f} MiB" for what, size in memory.items())
    print_(
        f"expected memory of training, JAX itself apart: {sum(memory.values()) / 2**20:,.1f} MiB ({parts})",
        soft_wrap=True,
    )
    print_("Nothing was trained or written (--dry-run).")
    sys.stdout.flush()
