import dataclasses
import hashlib
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

import lnz
import lnz.recipes
from lnz.data import Splits
from lnz.recipes import Recipe, Start, fit_options

from .._atoms import AtomsWarning
from .._check import unknown_name
from .._environment import environment
from .._fit import expected_memory
from .._run import (
    EventLog,
    Examples,
    Run,
    check_folder,
    end_folder,
    locked,
    read_config,
    start_folder,
    to_json,
    waits_aside,
    write_config,
)
from ._compare import write_html
from ._console import console, short_path
from ._interrupt import Interrupted, Presses, watch_ctrl_c
from ._progress import Display, describe_seconds, show_progress
from ._tensorboard import TensorBoard, check_tensorboard

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
        chosen, resolved = _resumed(recipe, out, settings, options.overwrite)
    else:
        chosen, resolved = _chosen(recipe, settings)
    if dry_run:
        _print_plan(chosen, resolved)
        return
    run = train_into(out, chosen, resolved, options)
    for name, row in run.rows.items():
        console().print(f"{name}: {row}", soft_wrap=True)
        for note in row.stats["warnings"]:
            console().print(f"Warning: {name}: {note}", soft_wrap=True)
    if run.bracket is not None:
        console().print(f"log Z: {run.bracket}")
    write_html(out / "report.html", {out.resolve().name: run})


def recipes() -> dict[str, Recipe]:
    """Every recipe by its name."""
    found = [value for value in vars(lnz.recipes).values() if isinstance(value, Recipe)]
    return {recipe.name: recipe for recipe in found}


def find_recipe(name: str) -> Recipe:
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


def _chosen(recipe: str | None, changes: dict[str, str]) -> tuple[Recipe, dict[str, Any]]:
    """A recipe by name, or a run's `config.json`, with changes."""
    if recipe is None:
        raise ValueError("`lnz train` needs a RECIPE; `lnz list` shows them.")
    if not recipe.endswith(".json"):
        chosen = find_recipe(recipe)
        return chosen, _with_whole_path(chosen.resolve(changes))
    config = read_config(Path(recipe))
    chosen = find_recipe(config["recipe"])
    resolved = _with_whole_path(chosen.resolve(changes, config["settings"]))
    if resolved["data"] == _with_whole_path(chosen.resolve(base=config["settings"]))["data"]:
        digest = chosen.load(resolved).source_digest
        if digest != config["digest"]:
            console().print(f"Warning: the data are not those of {recipe} ({config['digest']} then, {digest} now).")
    return chosen, resolved


def _with_whole_path(settings: dict[str, Any]) -> dict[str, Any]:
    """A file by its absolute path, so that the run can be repeated from any folder."""
    source = settings["data"]["source"]
    if source not in lnz.data.names() and Path(source).exists():
        settings["data"]["source"] = str(Path(source).resolve())
    return settings


def _resumed(recipe: str | None, out: Path, changes: dict[str, str], overwrite: bool) -> tuple[Recipe, dict[str, Any]]:
    """What the folder says it is; nothing may be changed half-way."""
    if overwrite:
        raise ValueError("`--resume` goes on with a run and `--overwrite` replaces it: choose one.")
    config = read_config(out)
    if recipe not in (None, config["recipe"]):
        raise ValueError(f"`--resume`: {str(out)!r} holds a run of {config['recipe']}, not of {recipe}.")
    if changes:
        raise ValueError(
            f"`--resume` takes all settings from {str(out / 'config.json')!r}: leave out --set and --data."
        )
    chosen = find_recipe(config["recipe"])
    return chosen, chosen.resolve(base=config["settings"])


def train_into(folder: Path, recipe: Recipe, settings: dict[str, Any], options: TrainOptions) -> Run:
    """Train and evaluate a recipe with a progress display, and write its run folder.

    **Raises:** `ValueError` for data or settings that do not fit, and for a folder that is in use, before anything is
    written or removed.
    """
    splits = recipe.load(settings)
    recipe.check(settings, splits)
    if options.tensorboard:
        check_tensorboard()
    if options.resume:
        check_same_data(folder, splits)
    else:
        check_folder(folder, options.overwrite)
    start = recipe.start(splits, settings)  # the model refuses settings of its own: an earlier run is still there
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), watch_ctrl_c() as presses:
        if not options.resume:
            start_folder(folder, options.overwrite)
        config: dict[str, Any] = {
            "recipe": recipe.name,
            "title": recipe.title,
            "settings": settings,
            "digest": splits.source_digest,
            "environment": environment(),
        }
        write_config(folder, **config)
        with show_progress(console(), recipe.name, settings["train"]["steps"]) as display:
            try:
                run = _train_and_judge(folder, recipe, config, splits, start, display, options, presses)
            except KeyboardInterrupt:
                if waits_aside(folder) and end_folder(folder):
                    raise Interrupted("stopped by Ctrl-C before the first step; the earlier run is kept.") from None
                advice = f"go on with `lnz train --resume --out {short_path(folder)}`"
                raise Interrupted(f"stopped by Ctrl-C; what was trained is saved: {advice}.") from None
            except Exception as error:
                if not options.resume:
                    end_folder(folder, has_diverged=isinstance(error, FloatingPointError))
                raise
        run.write(folder)
        end_folder(folder)
    after = f"{run.status} after {run.history[-1]['step']} of {settings['train']['steps']} steps"
    row = run.rows[recipe.name]
    in_bits = f" = {row.in_bits}" if row.in_bits else ""
    console().print(
        f"{recipe.name}: {row.value:.3f} nats per test example ({row.kind_and_estimator}){in_bits}, {after} "
        f"({describe_seconds(run.seconds)})",
        soft_wrap=True,
    )
    return run


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
    recipe: Recipe,
    config: dict[str, Any],
    splits: Splits,
    start: Start,
    display: Display,
    options: TrainOptions,
    presses: Presses,
) -> Run:
    settings = config["settings"]
    logs = [EventLog(folder), *([TensorBoard(folder)] if options.tensorboard else [])]

    def progress(record):
        for log in logs:
            log.write(record)
        pulse(record)

    def pulse(record):
        display.update(record)
        presses.check()

    objective = getattr(start[2], "objective", None)
    if isinstance(objective, lnz.objectives.IWAE):
        display.explain("iwae", f"lower bound by IWAE-{objective.num_samples}")
    label = hashlib.sha256(to_json(settings).encode()).hexdigest()[:16]
    checkpoints = lnz.Checkpoints(folder / "checkpoints", every=options.checkpoint_every, label=label)
    if options.resume:
        display.say(f"going on from {checkpoints.files()[0].stem}" if checkpoints.files() else "no checkpoint yet")
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
                validated=lambda result: display.explain("valid", result.kind_and_estimator),
                progress=progress,
                pulse=pulse,
                checkpoints=checkpoints,
                resume=options.resume,
            )
        finally:
            for log in logs:
                log.close()
        trained = time.perf_counter()
        display.say(f"evaluating on {len(splits.test)} test examples")
        rows = recipe.judge(fit.model, splits.test, settings, splits.observed and splits.observed[2])
        bracket = recipe.bracket_log_z(fit.model, settings)
        evaluated = time.perf_counter()
    return Run(
        **config,
        model=fit.model,
        history=fit.history,
        status=fit.status,
        rows=rows,
        bracket=bracket,
        examples=_examples(splits, rows[recipe.name].per_example),
        data_protocol=splits.protocol,
        num_parameters=num_parameters(fit.model),
        seconds={
            "train": trained - started - fit.compile_seconds,
            "compile": fit.compile_seconds,
            "evaluate": evaluated - trained,
        },
    )


def _examples(splits: Splits, log_probs: np.ndarray) -> Examples:
    order = np.argsort(log_probs)
    rows = {
        "some": np.arange(min(_NUM_EXAMPLES, len(order))),
        "least": order[:_NUM_EXTREME],
        "most": order[::-1][:_NUM_EXTREME],
    }
    labels = None if splits.labels is None else np.asarray(splits.labels[2])
    if labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        size = max(1, min(_MOST_LABELLED, _MOST_LABELLED_NUMBERS // splits.space.num_dimensions))
        rows["map"] = order_of_rows = np.arange(0, len(order), -(-len(order) // size))
        labels = labels[order_of_rows].tolist()
    else:
        labels = None
    return Examples(
        labels=labels,
        image_shape=splits.image_shape if splits.image_shape and len(splits.image_shape) == 2 else None,
        columns=splits.columns,
        rows={name: index.tolist() for name, index in rows.items()},
        values={name: np.asarray(splits.test[index], float).tolist() for name, index in rows.items()},
    )


def num_parameters(model: Any) -> int:
    """How many numbers training may change."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, lnz.trainable(model))))


def _print_plan(recipe: Recipe, settings: dict[str, Any]) -> None:
    """What would be trained: nothing is written."""
    splits = recipe.load(settings)
    recipe.check(settings, splits)
    key, model, method = recipe.start(splits, settings)
    options = fit_options(settings)
    wanted = {name: options[name] for name in ("batch_size", "average", "keep")}
    known = splits.observed and splits.observed[0]
    memory = expected_memory(key, model, method, splits.train, observed=known, **wanted)
    print_ = console().print
    print_(f"{recipe.name}: {recipe.title}", soft_wrap=True)
    print_(to_json(settings, indent=2), soft_wrap=True)
    print_(f"data: {splits.protocol}", soft_wrap=True)
    print_(f"parameters: {num_parameters(model):,}")
    parts = ", ".join(f"{what} {size / 2**20:,.1f} MiB" for what, size in memory.items())
    print_(
        f"expected memory of training, JAX itself apart: {sum(memory.values()) / 2**20:,.1f} MiB ({parts})",
        soft_wrap=True,
    )
    print_("Nothing was trained or written (--dry-run).")
    sys.stdout.flush()
