"""Training a recipe into a run folder, and reporting the progress to a `Display`."""

import dataclasses
import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import equinox as eqx
import jax
import numpy as np

from ..core import UnreliableEstimateWarning, least_likely_first
from ..data import Splits, UnboundedDensityWarning
from ..distributions import Transformed
from ..files import check_name, environment, save, short_path
from ..methods import EM, Gradient
from ..modules import trainable
from ..objectives import IWAE
from ..training import Checkpoints, Validation, Watch, expected_memory
from ._config import read_config, write_config
from ._events import EventLog
from ._examples import Examples
from ._folder import (
    check_folder,
    end_folder,
    is_no_space,
    is_trained,
    is_whole,
    last_step,
    locked,
    replacing,
    start_folder,
    working_folder,
)
from ._form import to_json
from ._recipe import Recipe, Start
from ._run import Run
from ._settings import Settings

_DIVERGED = "Training "  # the status of a diverged `Fit` starts with this
_NUM_EXAMPLES, _NUM_EXTREME = 36, 18
# Limits of the rows with labels, and of their entries, for maps of latents.
_MOST_LABELLED, _MOST_LABELLED_NUMBERS = 500, 200_000


class Display:
    """Receives messages from a training. This one shows nothing; a subclass overrides the methods it needs."""

    def note(self, words: str) -> None:
        """Show a permanent note, such as how the data were split."""

    def say(self, words: str) -> None:
        """Show the current activity."""

    def explain(self, name: str, words: str) -> None:
        """Explain a number in the records, such as `("valid", "lower bound by IWAE-50")`."""

    def update(self, record: dict[str, int | float]) -> None:
        """Show a record of `lnz.fit`, or the current values of the unfinished one."""

    def warn(self, words: str) -> None:
        """Show a permanent warning."""

    def check(self) -> None:
        """Called often. An exception raised here, such as `KeyboardInterrupt`, ends the training, which is saved."""


class Log(Protocol):
    """A further destination for the records of a training, beside `events.jsonl`."""

    def write(self, record: dict[str, int | float]) -> None: ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Options of a training that do not change its result.

    - `resume`: continue the run in the folder.
    - `overwrite`: replace an earlier run, which is kept until the new one is complete.
    - `checkpoint_every`: seconds between two checkpoints.
    - `logs`: functions `folder -> Log`; each log receives every record too.
    """

    resume: bool = False
    overwrite: bool = False
    checkpoint_every: float = 10.0
    logs: tuple[Callable[[Path], Log], ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """A description of a training that was not run.

    - `data_protocol`: how the data were made and split.
    - `num_parameters`: the number of trainable parameters.
    - `memory`: the expected memory of the training in bytes, by purpose.
    """

    data_protocol: str
    num_parameters: int
    memory: Mapping[str, int]


def plan(recipe: Recipe[Any], settings: Settings, cwd: str | None = None) -> Plan:
    """Describe what `train` would do, without writing anything.

    **Raises:** as `train`, for data and settings that do not fit.
    """
    splits = load_data(recipe, settings, cwd)
    recipe.check(settings, splits)
    key, model, method = recipe.start(splits, settings)
    options = settings.train.fit_options()
    del options["steps"]
    valid = Validation(splits.valid, **settings.train.validation_options())
    known = splits.observed and splits.observed[0]
    memory = expected_memory(key, model, method, splits.train, observed=known, valid=valid, **options)
    return Plan(splits.protocol, num_parameters(model, method), memory)


def train(
    folder: Path,
    recipe: Recipe[Any],
    settings: Settings,
    *,
    options: TrainOptions | None = None,
    display: Display | None = None,
    cwd: str | None = None,
) -> Run:
    """Train and evaluate a recipe, and write its run folder.

    - `settings`: the result of `recipe.resolve`.
    - `cwd`: the folder from which a relative path of the data starts; by default the working directory.

    **Raises:**

    - `ValueError` for data or settings that do not fit, and for a folder that is in use, before anything is written or
      removed.
    - `FloatingPointError` if the training diverges. The model before that step is then evaluated and written, unless
      the run was to replace another one.
    - `KeyboardInterrupt` at Ctrl-C. Its message says what is saved.
    """
    options = TrainOptions() if options is None else options
    display = Display() if display is None else display
    cwd = str(Path.cwd()) if cwd is None else cwd
    if settings.data.is_file:
        check_name(Path(settings.data.source), "--data")
    if not options.resume:
        check_folder(folder, options.overwrite)
    splits = load_data(recipe, settings, cwd)
    recipe.check(settings, splits)
    display.note(f"data {splits.protocol}")
    if options.resume:
        check_same_data(folder, read_config(working_folder(folder))["digest"], splits)
    start = recipe.start(splits, settings)  # the model may refuse settings, while an earlier run still exists
    with locked(folder) as place:
        work = working_folder(folder) if options.resume else start_folder(folder, options.overwrite)
        config: dict[str, Any] = {
            "recipe": recipe.name,
            "title": recipe.title,
            "settings": settings.model_dump(),
            "digest": splits.source_digest,
            "environment": environment(),
            "cwd": cwd,
        }
        with _ends_in_words(folder, work, options.resume):
            if not options.resume:
                write_config(work, **config, model=None)

            def check() -> None:
                display.check()
                place.check()

            display.say("compiling")
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
    return run


def load_data(recipe: Recipe[Any], settings: Settings, cwd: str | None) -> Splits:
    """Load the data named in the settings.

    A relative path starts from the working directory or, if no such file exists, from `cwd`, where the training began.

    **Raises:** as `Recipe.load`.
    """
    data, elsewhere = settings.data, Path(cwd or "") / settings.data.source
    if data.is_file and not Path(data.source).exists() and elsewhere.exists():
        data = data.model_copy(update={"source": str(elsewhere)})
        settings = settings.model_copy(update={"data": data})
    return recipe.load(settings)


def read_settings(recipe: Recipe[Any], settings: Any) -> Settings:
    """Read the settings in a run's `config.json`.

    **Raises:** `ValueError` for a setting that is missing, unknown or wrong.
    """
    try:
        return recipe.read(settings)
    except ValueError as error:
        raise ValueError(f"The run's config.json has settings that {recipe.name} refuses: {error}") from None


def check_same_data(folder: Path, digest: str | None, splits: Splits) -> None:
    """**Raises:** `ValueError` if the data file of a run has changed, because its splits would differ."""
    if digest != splits.source_digest:
        raise ValueError(
            f"The data of the run {str(folder)!r}, {splits.name!r}, have changed since ({digest} then, "
            f"{splits.source_digest} now). Put the file back, or train again."
        )


@contextmanager
def _ends_in_words(folder: Path, work: Path, resume: bool) -> Iterator[None]:
    """Add to the exception of an interrupted training how much of it is saved, and how to continue."""
    advice = f"continue with `lnz train --resume --out {short_path(folder)}`"
    earlier = ", and the earlier run is unchanged" if work != folder else ""
    try:
        yield
    except KeyboardInterrupt:
        has_arrived = is_whole(folder) if work == folder else not work.is_dir()  # it has replaced the earlier run
        if has_arrived:
            words = f"the run is complete: `lnz report {short_path(folder)}` writes its report."
        elif work != folder and end_folder(folder, work):
            words = "no step was made, and the earlier run is kept."
        else:
            words = f"the training so far is saved{earlier}: {advice}."
        raise KeyboardInterrupt(words) from None
    except Exception as error:
        if not work.is_dir():  # it was deleted meanwhile
            raise
        if isinstance(error, OSError) and is_no_space(error):
            if is_trained(work):
                kept = f"The training is saved up to step {last_step(work)}{earlier}: make room, and {advice}"
            else:
                kept = f"No step of the training is saved{earlier}. Make room, and start again"
                if not resume:
                    end_folder(folder, work)
            raise OSError(f"No space left on the disk to write {error.filename!r}. {kept}.") from error
        if not resume:
            end_folder(folder, work, has_diverged=isinstance(error, FloatingPointError))
        raise


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
    logs = [EventLog(folder), *(log(folder) for log in options.logs)]

    def progress(record):
        for log in logs:
            log.write(record)
        pulse(record)

    def pulse(record):
        display.update(record)
        check()

    objective = getattr(start[2], "objective", None)
    if isinstance(objective, IWAE):
        display.explain("iwae", f"lower bound by IWAE-{objective.num_samples}")
    label = hashlib.sha256(to_json(config["settings"]).encode()).hexdigest()[:16]
    checkpoints = Checkpoints(folder / "checkpoints", options.checkpoint_every, label=label, resume=options.resume)
    if options.resume:
        display.say(f"continuing from {checkpoints.files()[0].stem}" if checkpoints.files() else "no checkpoint yet")
    first_step = last_step(folder) if options.resume else 0
    with warnings.catch_warnings():
        # The report shows these warnings once for each row; ten validations would repeat them ten times.
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        warnings.simplefilter("ignore", UnboundedDensityWarning)
        told: set[str] = set()

        def show(message, *_):
            if str(message) not in told:  # training and evaluation may give the same warning
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
                watch=Watch(progress=progress, pulse=pulse),
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
            words = f"The model of the step before is saved in {where}, but cannot be evaluated: {error}"
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
    """The duration of the steps that were done before a training was resumed."""
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
    """The number of trainable parameters, without zeros above a diagonal and, for `EM`, without a bijection's."""
    while isinstance(method, EM) and isinstance(model, Transformed):
        model = model.base
    chosen = method.filter if isinstance(method, Gradient) else trainable
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, chosen(model)))
    return sum(_num_free(jax.tree_util.keystr(path), leaf) for path, leaf in leaves)


def _num_free(path: str, leaf: Any) -> int:
    return leaf.size * (leaf.shape[-1] + 1) // (2 * leaf.shape[-1]) if path.endswith(".raw_tril") else leaf.size
