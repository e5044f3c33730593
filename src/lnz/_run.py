"""A run folder: what was trained, how, and how good it is, in files that are each written whole or not at all."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from ._atomic import write_atomically
from ._estimate import Bracket, Estimate, LogLikelihood
from ._model_file import load, save

_CONFIG = ("recipe", "title", "settings", "digest", "environment")
_FILES = ("report.json", "report.html", "events.jsonl", "model.lnz", "config.json")
_ASIDE = ".replaced"  # where a run waits until the one that takes its place has something to show


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

    @property
    def data(self) -> str:
        """A name for the data: that of the set or of the file."""
        return Path(self.settings["data"]["source"]).name

    def write(self, folder: Path) -> None:
        """Replace the run in `folder`. `report.json` goes first and comes last: a folder that has one is whole."""
        (folder / "report.json").unlink(missing_ok=True)
        write_config(folder, **{name: getattr(self, name) for name in _CONFIG})
        write_text(folder / "events.jsonl", "".join(to_json(record) + "\n" for record in self.history))
        save(folder / "model.lnz", self.model)
        report = {
            "rows": {name: dataclasses.asdict(row) for name, row in self.rows.items()},
            "bracket": None if self.bracket is None else _describe_bracket(self.bracket),
            "examples": dataclasses.asdict(self.examples),
            "status": self.status,
            "data_protocol": self.data_protocol,
            "num_parameters": self.num_parameters,
            "seconds": self.seconds,
        }
        write_text(folder / "report.json", to_json(report, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """**Raises:** `FileNotFoundError` or `ValueError`, naming the folder, if it is no complete run folder."""
        config = read_config(folder)
        if not (folder / "report.json").is_file():
            raise FileNotFoundError(
                f"The run in {str(folder)!r} is not finished. `lnz train --resume --out {folder}` goes on with it."
            )
        try:
            report = json.loads((folder / "report.json").read_text("utf-8"))
            return cls(
                **config,
                model=load(folder / "model.lnz"),
                history=read_events(folder),
                rows={name: _read_row(row) for name, row in report.pop("rows").items()},
                bracket=_read_bracket(report.pop("bracket")),
                examples=_read_examples(report.pop("examples")),
                **report,
            )
        except KeyError as error:
            raise ValueError(f"The run folder {str(folder)!r} is damaged: its report.json has no {error}.") from error
        except (TypeError, AttributeError, ValueError, FileNotFoundError) as error:
            raise ValueError(f"The run folder {str(folder)!r} is damaged: {str(error).rstrip('.')}.") from error


def write_config(folder: Path, **config: Any) -> None:
    """What was asked for, written before training: `recipe`, `title`, `settings`, `digest`, `environment`."""
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
        path = path / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(path.parent)!r} is no run folder: it has no {path.name}. `lnz train RECIPE --out FOLDER` writes one."
        )
    try:
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config["settings"], dict) or not isinstance(config["settings"]["data"], dict):
            raise TypeError("its settings are no object")
        return {name: config[name] for name in _CONFIG}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error!r}.") from error


class EventLog:
    """`events.jsonl` while training: a line for each record, there at once. The first replaces an earlier file."""

    def __init__(self, folder: Path):
        self._path = folder / "events.jsonl"
        self._file: TextIO | None = None

    def write(self, record: dict[str, int | float]) -> None:
        if self._file is None:
            self._file = open(self._path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._file.write(to_json(record) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second training out of a run folder, where the system has such locks.

    **Raises:** `ValueError` if another process is in it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"Another `lnz train` is at work in {str(folder)!r}. Choose another `--out`.") from error
        yield
    finally:
        os.close(descriptor)


def read_events(folder: Path) -> list[dict[str, int | float]]:
    """The records of `events.jsonl`; a last line without its end, from a run that was killed, is left out."""
    lines = (folder / "events.jsonl").read_text("utf-8").split("\n")[:-1]
    return [{name: _number(value) for name, value in json.loads(line).items()} for line in lines]


def check_folder(folder: Path, overwrite: bool) -> None:
    """**Raises:** `ValueError` if `folder` is a file, or holds anything and `overwrite` is false."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`--out {folder}` is a file; a run needs a folder. Choose another name.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        advice = "add `--resume` to go on with an unfinished run" if (folder / "config.json").is_file() else ""
        raise ValueError(
            f"The folder {str(folder)!r} already holds something. Choose another `--out`, "
            f"{advice + ', ' if advice else ''}or add `--overwrite`."
        )


def start_folder(folder: Path, overwrite: bool) -> None:
    """A folder to write a run into, made if there is none; with `overwrite` the run in it is put aside.

    `end_folder` deletes what was put aside, or puts it back. A run that is not whole never takes the place of one that
    was put aside before it.

    **Raises:** as `check_folder`.
    """
    check_folder(folder, overwrite)
    aside = folder / _ASIDE
    if (folder / "report.json").is_file() or (_is_trained(folder) and not aside.is_dir()):
        shutil.rmtree(aside, ignore_errors=True)
        for file in _files_of_run(folder):
            target = aside / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    folder.mkdir(parents=True, exist_ok=True)
    remove_run(folder)


def end_folder(folder: Path, has_diverged: bool = False) -> bool:
    """What becomes of a run that was put aside: it goes when the new run is whole, waits on while that can be resumed,
    and is back if nothing was trained. Says whether it is.
    """
    aside = folder / _ASIDE
    if (folder / "report.json").is_file():
        shutil.rmtree(aside, ignore_errors=True)
        return False
    if _is_trained(folder) and not (has_diverged and aside.is_dir()):
        return False
    remove_run(folder)  # the folder is free for another try
    is_back = aside.is_dir()
    for file in reversed(_files_of_run(aside)):  # last what says that the run is whole
        target = folder / file.relative_to(aside)
        target.parent.mkdir(exist_ok=True)
        file.replace(target)
    shutil.rmtree(aside, ignore_errors=True)
    return is_back


def waits_aside(folder: Path) -> bool:
    """Whether an earlier run was put aside."""
    return (folder / _ASIDE).is_dir()


def remove_run(folder: Path) -> None:
    """Delete the files of a run, and nothing else."""
    for file in _files_of_run(folder):
        file.unlink()
    if (folder / "checkpoints").is_dir() and not any((folder / "checkpoints").iterdir()):
        (folder / "checkpoints").rmdir()


def _is_trained(folder: Path) -> bool:
    """Whether there is a checkpoint of a step; one of none is written where a training is stopped before the first."""
    return any(int(path.stem.removeprefix("step-")) > 0 for path in folder.glob("checkpoints/step-*.ckpt"))


def _files_of_run(folder: Path) -> list[Path]:
    """`report.json`, which says that a run is whole, comes first."""
    files = [folder / name for name in _FILES if (folder / name).exists()]
    for pattern in ("checkpoints/step-*.ckpt", "checkpoints/.step-*.ckpt.*", *(f".{name}.*" for name in _FILES)):
        files += folder.glob(pattern)  # the hidden ones are left over from a kill while they were written
    return files


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
    return {"of": bracket.of, **{side: dict(vars(getattr(bracket, side))) for side in ("lower", "upper")}}


def _read_bracket(sides: dict[str, Any] | None) -> Bracket | None:
    if sides is None:
        return None
    return Bracket(_read_estimate(**sides["lower"]), _read_estimate(**sides["upper"]), sides.get("of", ""))


def _read_estimate(value, standard_error, bound, assumes, stats) -> Estimate:
    arrays = {name: np.asarray(value, float) for name, value in stats.items()}
    return Estimate(jnp.asarray(float(value)), jnp.asarray(float(standard_error)), bound, tuple(assumes), arrays)


def _read_examples(examples: dict[str, Any]) -> Examples:
    for name in ("image_shape", "columns"):
        if examples[name] is not None:
            examples[name] = tuple(examples[name])
    return Examples(**examples)


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


def _number(value: int | float | str) -> int | float:
    return value if isinstance(value, int) else float(value)


def _read_row(row: dict[str, Any]) -> LogLikelihood:
    numbers = {name: float(row[name]) for name in ("value", "monte_carlo_error", "data_error")}
    stats = dict(row["stats"])
    for side in ("hidden_weights", "partition_weights"):
        if side in stats:
            stats[side] = {name: float(value) for name, value in stats[side].items()}
    for name in ("partition_log_weights", "hidden_errors"):
        if name in stats:
            stats[name] = np.array([float(value) for value in stats[name]])
    return LogLikelihood(
        **numbers,
        bound=row["bound"],
        per_example=np.array([float(value) for value in row["per_example"]]),
        stats=stats,
        assumes=tuple(row["assumes"]),
    )
