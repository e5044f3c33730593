"""Run folders: the files of a training, its model and its likelihoods.

A run is replaced by one rename. New files are first written whole into a hidden folder within the run's; its rename to
`.whole` makes them the run, and whoever writes next moves them to their places. A reader takes a file from `.whole`
before that of the same name beside it, so that it sees all files of the old run or all of the new one, at any moment
and after any kill. The hidden folders:

- `.next`: a training that will replace the run (`--overwrite`). It is resumed by `--resume`; the run stays as it is.
- `.final`: results that are being written. It is worthless when left over from a kill.
- `.whole`: results that count.

`config.json` is that of the training, and names the model that came of it. `report.json` holds the evaluation, and
names model, configuration and data by their digests; `Run.read` warns where they part.
"""

import dataclasses
import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ._atomic import check_name, is_leftover, sync_folder, write_atomically
from ._estimate import Bound, Bracket, Estimate, LogLikelihood
from ._json import (
    DamagedError,
    Kind,
    anything,
    field,
    fields,
    listed,
    named,
    number,
    one_of,
    or_null,
    parse_json,
    read_json,
    read_utf8,
    short,
    text,
    whole,
)
from ._lock import Held, held
from ._model_file import digest_of_model, load, save

_FILES = (
    "config.json",
    "model.lnz",
    "events.jsonl",
    "report.json",
    "report.html",
)  # moved to their places in this order
_NEXT, _FINAL, _WHOLE = ".next", ".final", ".whole"
_NO_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclasses.dataclass(frozen=True)
class Examples:
    """Test rows for pictures: some of them, and those that the model finds least and most likely.

    `rows` are numbers of rows of the test split, `values` the rows, `[n, d]`. Of labelled data there is a kind `"map"`
    with rows from all over the split, whose labels are `labels`. `places` says what the file of the data calls the
    rows, such as "line 17".
    """

    image_shape: tuple[int, int] | None
    columns: tuple[str, ...] | None
    rows: dict[str, list[int]]
    values: dict[str, list[list[float]]]
    labels: list[int] | None = None
    places: dict[str, list[str]] | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained and evaluated recipe.

    - `recipe`, `title`: name of the recipe, one line on it.
    - `settings`: the resolved ones, whose `data.source` names the data.
    - `digest`: first digits of the SHA-256 of the data file, if they came from a file.
    - `cwd`: the working directory of the training, from which a relative path of the data starts.
    - `environment`: versions and device, in words.
    - `model`: the trained model.
    - `history`: the records of `lnz.fit`.
    - `status`: how training ended.
    - `rows`: test likelihoods, one for each way to compute the denominator.
    - `bracket`: log Z from both sides, where the recipe has a way to both.
    - `examples`: test rows to show.
    - `data_protocol`: how the data were made and split.
    - `num_parameters`: trainable numbers in the model.
    - `seconds`: of `train` (with validation, without compiling the step), `compile` and `evaluate`.
    - `warnings`: why densities of the training data mean little, in sentences. They hold for every likelihood.
    - `digests`: of the files that the run was read from, by which the next `report.json` names them.
    """

    recipe: str
    title: str
    settings: dict[str, Any]
    digest: str | None
    environment: dict[str, str]
    model: Any
    history: list[dict[str, int | float]]
    status: str
    rows: dict[str, LogLikelihood]
    bracket: Bracket | None
    examples: Examples
    data_protocol: str
    num_parameters: int
    seconds: dict[str, float]
    cwd: str = ""
    warnings: tuple[str, ...] = ()
    digests: dict[str, str | None] = dataclasses.field(default_factory=dict)

    @property
    def data(self) -> str:
        """A name for the data: that of the set or of the file."""
        return Path(self.settings["data"]["source"]).name

    def write(self, folder: Path) -> None:
        """Replace the run in `folder`, by one rename."""
        with replacing(folder) as stage:
            self.write_files(stage)

    def write_files(self, folder: Path) -> None:
        """Write every file but `report.html`; `report.json`, which makes a run whole, comes last."""
        save(folder / "model.lnz", self.model)
        model = digest_of_model(folder / "model.lnz")
        write_config(folder, **{name: getattr(self, name) for name in _CONFIG if name != "model"}, model=model)
        write_text(folder / "events.jsonl", "".join(to_json(record) + "\n" for record in self.history))
        config = _digest(folder / "config.json")
        dataclasses.replace(self, digests={"model": model, "config": config, "data": self.digest}).write_report(folder)

    def write_report(self, folder: Path) -> None:
        """Write `report.json` alone: what an evaluation finds."""
        report = {
            "rows": {name: dataclasses.asdict(row) for name, row in self.rows.items()},
            "bracket": None if self.bracket is None else _describe_bracket(self.bracket),
            "examples": dataclasses.asdict(self.examples),
            "status": self.status,
            "data_protocol": self.data_protocol,
            "num_parameters": self.num_parameters,
            "seconds": self.seconds,
            "evaluate": self.settings.get("evaluate", {}),
            "warnings": self.warnings,
            "digests": self.digests,
        }
        write_text(folder / "report.json", to_json(report, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run in `folder`. A `UserWarning` says when its files do not belong together.

        **Raises:** `FileNotFoundError` or `ValueError`, naming the folder, if it is no complete run folder.
        """
        config = read_config(folder)
        if not _place(folder, "report.json").is_file():
            raise FileNotFoundError(
                f"The run in {str(folder)!r} is not finished. `lnz train --resume --out {folder}` goes on with it."
            )
        try:
            report = fields(_REPORT)(read_json(_place(folder, "report.json")), "report.json")
            model = load(_place(folder, "model.lnz"))
            _check_report(report, config, model)
            history = read_events(folder)
            digests = {"model": digest_of_model(_place(folder, "model.lnz")), "config": report["digests"]["config"]}
            digests["data"] = report["digests"]["data"]
            _warn_of_parted_files(folder, config, report["digests"], digests["model"])
        except (TypeError, AttributeError, ValueError, FileNotFoundError) as error:
            raise ValueError(f"The run folder {str(folder)!r} is damaged: {str(error).rstrip('.')}.") from error
        evaluated = report.pop("evaluate")
        settings = {**config["settings"], **({"evaluate": evaluated} if evaluated else {})}
        del config["model"]
        return cls(**{**config, "settings": settings, **report, "digests": digests}, model=model, history=history)


def _check_report(report: dict[str, Any], config: dict[str, Any], model: Any) -> None:
    """**Raises:** `DamagedError` where parts of `report.json` contradict each other, the configuration or the model."""
    rows: dict[str, LogLikelihood] = report["rows"]
    if config["recipe"] not in rows:
        raise DamagedError(f"its report.json: rows has no {short(config['recipe'])}, the recipe of config.json.")
    num = rows[config["recipe"]].num
    for name, row in rows.items():
        if row.num != num or len(row.stats.get("hidden_errors", row.per_example)) != num:
            raise DamagedError(f"its report.json: rows.{name} does not have {num} examples throughout.")
    examples: Examples = report["examples"]
    space = getattr(model, "space", None)
    size = math.prod(getattr(space, "shape", ()))
    where = "its report.json: examples"
    if "some" not in examples.rows or examples.rows.keys() != examples.values.keys():
        raise DamagedError(f"{where} needs rows and values of the same kinds, `some` among them.")
    for kind, numbers in examples.rows.items():
        values = examples.values[kind]
        if len(values) != len(numbers) or not values:
            raise DamagedError(f"{where} has {len(numbers)} rows and {len(values)} values of {short(kind)}.")
        if not all(0 <= number < num for number in numbers):
            raise DamagedError(f"{where} has rows of {short(kind)} beyond the {num} that were evaluated.")
        if not all(len(value) == size and all(map(math.isfinite, value)) for value in values):
            raise DamagedError(f"{where} has values of {short(kind)} that are not {size} finite numbers each.")
    for kind, places in (examples.places or {}).items():
        if len(places) != len(examples.rows.get(kind, ())):
            raise DamagedError(f"{where} has {len(places)} places of {short(kind)}, which has other rows.")
    if examples.labels is not None and len(examples.labels) != len(examples.rows.get("map", ())):
        raise DamagedError(f"{where} has {len(examples.labels)} labels, not one for each row of `map`.")
    if examples.image_shape is not None and math.prod(examples.image_shape) != size:
        raise DamagedError(f"{where} has the image_shape {list(examples.image_shape)} for examples of {size} numbers.")
    if examples.columns is not None and len(examples.columns) != size:
        raise DamagedError(f"{where} has {len(examples.columns)} columns for examples of {size} numbers.")


def _warn_of_parted_files(folder: Path, config: dict[str, Any], named_: dict[str, Any], model: str) -> None:
    parted = []
    if config["model"] != model:
        parted.append("model.lnz is not the model of this training")
    if named_["model"] != model:
        parted.append(f"the likelihoods are those of another model.lnz (`lnz evaluate {folder}` computes them anew)")
    if named_["config"] != _digest(_place(folder, "config.json")):
        parted.append("config.json was changed after the training")
    if named_["data"] != config["digest"]:
        parted.append("the likelihoods are of other data than config.json names")
    if parted:
        message = f"The files of the run {str(folder)!r} do not belong together: {'; '.join(parted)}."
        warnings.warn(message, stacklevel=3)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_config(folder: Path, **config: Any) -> None:
    """Write what was asked for. `model`, the digest of `model.lnz`, is `None` before the end of the training."""
    write_text(folder / "config.json", to_json(config, indent=2) + "\n")


def read_config(path: Path) -> dict[str, Any]:
    """`config.json` of a run folder, or the file itself.

    **Raises:** `FileNotFoundError` or `ValueError`, naming the file, if there is none or it is damaged.
    """
    if path.suffix != ".json":
        if not path.is_dir():
            if not path.is_file():
                raise FileNotFoundError(f"There is no run folder {str(path)!r}.")
            is_within = (path.parent / "config.json").is_file()
            advice = f"Give the folder, {str(path.parent)!r}" if is_within else "Data are given by `--data`"
            raise ValueError(f"{str(path)!r} is a file, and a run is a folder. {advice}.")
        path = _place(path, "config.json")
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(path.parent)!r} is no run folder: it has no {path.name}. `lnz train RECIPE --out FOLDER` writes one."
        )
    try:
        return fields(_CONFIG)(read_json(path), path.name)
    except DamagedError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error


def _place(folder: Path, name: str) -> Path:
    """Where a file of a run is: on its way to its place, or there."""
    on_its_way = folder / _WHOLE / name
    return on_its_way if on_its_way.exists() else folder / name


class EventLog:
    """`events.jsonl` while training: a line for each record, there at once. The first replaces an earlier file."""

    def __init__(self, folder: Path):
        self._path = folder / "events.jsonl"
        self._file: TextIO | None = None

    def write(self, record: dict[str, int | float]) -> None:
        if self._file is None:
            self._file = open(self._path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        try:
            self._file.write(to_json(record) + "\n")
        except OSError as error:  # a write does not know the name of its file
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextmanager
def locked(folder: Path) -> Iterator[Held]:
    """Keeps a second training out of a run folder, and brings the files of a run to their places.

    **Raises:** `ValueError` if another process is in it.
    """
    refusal = f"Another `lnz train` is at work in {str(folder)!r}. Choose another `--out`."
    with held(folder, refusal) as place:
        settle(folder)
        yield place


@contextmanager
def replacing(folder: Path, stage: Path | None = None) -> Iterator[Path]:
    """A folder for new files of the run in `folder`, which become the run's by one rename when the block ends well.

    `stage` is a folder that has files already, such as `.next`; it is left as it is when the block fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settle(folder)
    final = folder / _FINAL
    shutil.rmtree(final, ignore_errors=True)
    if stage is None:
        final.mkdir()
    try:
        yield final if stage is None else stage
        os.replace(final if stage is None else stage, folder / _WHOLE)
    except BaseException:
        shutil.rmtree(final, ignore_errors=True)
        raise
    sync_folder(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Move the files of a run to their places, where that was begun; killed at any moment, it goes on the next time."""
    whole = folder / _WHOLE
    if not whole.is_dir():
        return
    if (whole / "report.json").is_file() and not (whole / "report.html").is_file():
        (folder / "report.html").unlink(missing_ok=True)  # that of the run before
    if (whole / "checkpoints").is_dir():
        _remove_checkpoints(folder)
    others = [path.name for path in whole.iterdir() if path.name not in _FILES and not is_leftover(path)]
    for name in (*others, *_FILES):
        if (whole / name).exists():
            _move(whole / name, folder / name)
    shutil.rmtree(whole)
    sync_folder(folder)


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder, into a folder that is there already."""
    if not source.is_dir() or not target.is_dir():
        os.replace(source, target)
        return
    for path in sorted(source.iterdir()):
        _move(path, target / path.name)
    source.rmdir()


def read_events(folder: Path) -> list[dict[str, int | float]]:
    """The records of `events.jsonl`; a last line without its end, from a run that was killed, is left out.

    **Raises:** `OSError`; `DamagedError` that names file and line.
    """
    lines = read_utf8(_place(folder, "events.jsonl")).split("\n")[:-1]
    return [_read_record(line, f"events.jsonl, line {i}") for i, line in enumerate(lines, 1)]


def _read_record(line: str, where: str) -> dict[str, int | float]:
    record = named(number)(parse_json(line, True, where), where)
    for name in ("step", "seconds"):
        field(record, name, number, where)
    return record


def check_folder(folder: Path, overwrite: bool) -> None:
    """**Raises:** `ValueError` if `folder` cannot be written, or holds anything and `overwrite` is false."""
    check_name(folder, "--out")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`--out {folder}` is a file; a run needs a folder. Choose another name.")
    check_name(folder / _NEXT / "checkpoints" / f".step-000000000.ckpt.{'0' * 16}", "--out")  # the longest to come
    if folder.is_dir() and not overwrite and any(not _is_worthless(path) for path in folder.iterdir()):
        advice = "add `--resume` to go on with an unfinished run" if (folder / "config.json").is_file() else ""
        raise ValueError(
            f"The folder {str(folder)!r} already holds something. Choose another `--out`, "
            f"{advice + ', ' if advice else ''}or add `--overwrite`."
        )


def _is_worthless(path: Path) -> bool:
    """Whether a kill left it, and nothing is lost with it."""
    is_empty = path.name == "checkpoints" and path.is_dir() and not any(path.iterdir())
    return path.name == _FINAL or is_leftover(path) or is_empty


def start_folder(folder: Path, overwrite: bool) -> Path:
    """The folder for the files of a new training: `folder`, or `.next` within it if a run in `folder` is worth keeping.

    With `overwrite`, an unfinished training that was to replace the run is given up.

    **Raises:** as `check_folder`.
    """
    check_folder(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / _NEXT, ignore_errors=True)
    for path in folder.iterdir():
        if is_leftover(path) and path.is_file():
            path.unlink()
    if (folder / "report.json").is_file() or is_trained(folder):
        (folder / _NEXT).mkdir()
        return folder / _NEXT
    remove_run(folder)
    return folder


def working_folder(folder: Path) -> Path:
    """Where a training goes on: in `.next` if it is to replace a run."""
    return folder / _NEXT if (folder / _NEXT / "config.json").is_file() else folder


def end_folder(folder: Path, work: Path, has_diverged: bool = False) -> bool:
    """Remove a training in `work` that came to nothing. Says whether the run that it was to replace is all there is.

    It came to nothing if it made no step, or diverged in place of a run that did not.
    """
    if is_trained(work) and not (has_diverged and work != folder):
        return False
    if work == folder:
        remove_run(folder)
        return False
    shutil.rmtree(work)
    return True


def remove_run(folder: Path) -> None:
    """Delete the files of a run, `report.json`, which says that it is whole, first; and nothing else."""
    for name in reversed(_FILES):
        (folder / name).unlink(missing_ok=True)
    _remove_checkpoints(folder)


def _remove_checkpoints(folder: Path) -> None:
    for pattern in ("step-*.ckpt", ".step-*.ckpt.*"):
        for path in folder.glob(f"checkpoints/{pattern}"):
            path.unlink()
    with suppress(OSError):  # there is none, or it holds something else
        (folder / "checkpoints").rmdir()


def is_trained(folder: Path) -> bool:
    """Whether there is a checkpoint of a step; one of none is written where a training is stopped before the first."""
    return last_step(folder) > 0


def last_step(folder: Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("checkpoints/step-*.ckpt")), default=0)


def is_no_space(error: OSError) -> bool:
    """Whether a disk, or the part of it that the user may fill, is full."""
    return error.errno in _NO_SPACE


def read_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """Runs by the names of their folders, or by their whole paths where two names are equal."""
    folders = list(dict.fromkeys(folders))
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return {name: Run.read(folder) for name, folder in zip(names, folders, strict=True)}


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, text.encode())


def to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _describe_bracket(bracket: Bracket) -> dict[str, Any]:
    return {**vars(bracket), **{side: dict(vars(getattr(bracket, side))) for side in ("lower", "upper")}}


def _plain(value: Any) -> Any:
    """`value` in JSON's types. Numbers that are not finite, which JSON lacks, become 'nan', 'inf' or '-inf'."""
    if isinstance(value, dict):
        return {name: _plain(child) for name, child in value.items()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(child) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _read_settings(value: Any, where: str) -> dict[str, Any]:
    settings = named(anything)(value, where)
    data = field(settings, "data", named(anything), where)
    field(data, "source", text, f"{where}: data")
    if "train" in settings:
        train = field(settings, "train", named(anything), where)
        if "steps" in train:
            field(train, "steps", whole, f"{where}: train")
    return settings


def _read_object(cls: type, kinds: dict[str, Kind]) -> Kind:
    """An object whose keys are the fields of a data class; those without a kind may be anything."""
    names = [field.name for field in dataclasses.fields(cls)]
    read = fields({name: kinds.get(name, anything) for name in names})

    def build(value: Any, where: str) -> Any:
        values = read(value, where)
        try:
            return cls(**values)
        except ValueError as error:  # what the class refuses of values that are of the right kinds
            raise DamagedError(f"its {where} cannot be: {error}") from error

    return build


def _read_rows(value: Any, where: str) -> dict[str, LogLikelihood]:
    rows = named(_read_object(LogLikelihood, _ROW))(value, where)
    if not rows:
        raise DamagedError(f"its {where} has no row.")
    return rows


def _read_stats(value: Any, where: str) -> dict[str, Any]:
    stats = named(_restored)(value, where)
    for name, kind in _STATS.items():
        if name in stats or name in ("fingerprint", "protocol", "num_dimensions", "partition_error"):
            stats[name] = field(stats, name, kind, where)
    return stats


def _restored(value: Any, where: str) -> Any:
    """With the numbers that JSON lacks, wherever they are."""
    if isinstance(value, dict):
        return {name: _restored(child, where) for name, child in value.items()}
    if isinstance(value, list):
        return [_restored(child, where) for child in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _float(value: Any, where: str) -> float:
    return float(_number(value, where))


def _number(value: Any, where: str) -> int | float:
    """A number, also one that `_restored` has made of a word."""
    return value if isinstance(value, float) else number(value, where)


def _array(value: Any, where: str) -> np.ndarray:
    array = np.array(listed(_number)(value, where), float)
    if not len(array):
        raise DamagedError(f"its {where} is empty.")
    return array


def _scalar(value: Any, where: str) -> jax.Array:
    return jnp.asarray(_float(value, where))


def _texts(value: Any, where: str) -> tuple[str, ...]:
    return tuple(listed(text)(value, where))


def _pair(value: Any, where: str) -> tuple[int, int]:
    rows_and_columns = listed(whole)(value, where)
    if len(rows_and_columns) != 2 or min(rows_and_columns) < 1:
        raise DamagedError(f"its {where} must be two sizes; got {rows_and_columns}.")
    return rows_and_columns[0], rows_and_columns[1]


def _read_weights(value: Any, where: str) -> dict[str, Any]:
    """Diagnostics of weights, of which those that others are judged by must be there."""
    stats = named(anything)(value, where)
    kinds = {name: _WEIGHTS.get(name, _numbers) for name in stats}
    if "ess" in stats or "pareto_k" in stats:
        kinds["num"] = _count
    return {name: field(stats, name, kind, where) for name, kind in kinds.items()}


def _read_arrays(value: Any, where: str) -> dict[str, np.ndarray]:
    return {name: np.asarray(child, float) for name, child in _read_weights(value, where).items()}


def _count(value: Any, where: str) -> float:
    if not _positive(value, where) >= 1:
        raise DamagedError(f"its {where} is {value}; expected at least 1.")
    return float(value)


def _positive(value: Any, where: str) -> int | float:
    if not 0 < _number(value, where) < math.inf:
        raise DamagedError(f"its {where} is {value}; expected a positive number.")
    return value


def _numbers(value: Any, where: str) -> Any:
    return listed(_numbers)(value, where) if isinstance(value, list) else _float(value, where)


_NAMES = ("ess", "pareto_k", "normal_ess", "overlap", "edge_mass", "grid_error", "degrees")
_NAMES += ("beyond", "off_centre", "cut_mass", "acceptance", "converged")
_WEIGHTS: dict[str, Kind] = {**dict.fromkeys(_NAMES, _float), "num": _count, "log_weights": _array}
_ROW: dict[str, Kind] = {
    "value": _float,
    "monte_carlo_error": _float,
    "data_error": _float,
    "bound": one_of(*get_args(Bound)),
    "per_example": _array,
    "stats": _read_stats,
    "assumes": _texts,
}
_STATS: dict[str, Kind] = {
    "fingerprint": fields({"space": text, "base_measure": text, "data": text}),
    "protocol": text,
    "num_dimensions": _positive,
    "partition_error": _float,
    "hidden_error": _float,
    "log_partition": _float,
    "warnings": listed(text),
    "estimators": listed(text),
    "partition_weights": _read_weights,
    "hidden_weights": _read_weights,
    "partition_log_weights": _array,
    "hidden_errors": _array,
    "hidden_unreliable_rows": listed(whole),
    "hidden_useless_rows": listed(whole),
}
_ESTIMATE: dict[str, Kind] = {
    "value": _scalar,
    "standard_error": _scalar,
    "bound": one_of(*get_args(Bound)),
    "assumes": _texts,
    "stats": _read_arrays,
    "protocol": text,
}
_EXAMPLES: dict[str, Kind] = {
    "image_shape": or_null(_pair),
    "columns": or_null(_texts),
    "rows": named(listed(whole)),
    "values": named(listed(listed(_float))),
    "labels": or_null(listed(whole)),
    "places": or_null(named(listed(text))),
}
_CONFIG: dict[str, Kind] = {
    "recipe": text,
    "title": text,
    "settings": _read_settings,
    "digest": or_null(text),
    "environment": named(text),
    "cwd": text,
    "model": or_null(text),
}
_REPORT: dict[str, Kind] = {
    "rows": _read_rows,
    "bracket": or_null(
        _read_object(Bracket, {"of": text, **dict.fromkeys(("lower", "upper"), _read_object(Estimate, _ESTIMATE))})
    ),
    "examples": _read_object(Examples, _EXAMPLES),
    "status": text,
    "data_protocol": text,
    "num_parameters": whole,
    "seconds": fields(dict.fromkeys(("train", "compile", "evaluate"), _float)),
    "evaluate": named(anything),
    "warnings": _texts,
    "digests": fields({"model": text, "config": text, "data": or_null(text)}),
}
