"""A run folder: what was trained, how, and how good it is, in files that are each written whole or not at all."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._atomic import write_atomically
from ._estimate import LogLikelihood
from ._model_file import load, save

_FILES = ("config.json", "events.jsonl", "model.lnz", "report.json")


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained and evaluated recipe.

    - `recipe`, `title`, `data`: name of the recipe, one line on it, name of its data set.
    - `settings`: the resolved configuration.
    - `environment`: versions and device, in words.
    - `model`: the trained model.
    - `history`: the records of `lnz.fit`.
    - `rows`: test likelihoods, one for each way to compute the denominator.
    - `data_protocol`: how the data were made and split.
    - `num_parameters`: trainable numbers in the model.
    - `seconds`: of `train` (with validation, without compiling the step), `compile` and `evaluate`.
    """

    recipe: str
    title: str
    data: str
    settings: dict[str, Any]
    environment: dict[str, str]
    model: Any
    history: list[dict[str, int | float]]
    rows: dict[str, LogLikelihood]
    data_protocol: str
    num_parameters: int
    seconds: dict[str, float]

    def write(self, folder: Path) -> None:
        """Replace the run in `folder`. `report.json` goes first and comes last: a folder that has one is whole."""
        (folder / "report.json").unlink(missing_ok=True)
        config = {name: getattr(self, name) for name in ("recipe", "title", "data", "settings", "environment")}
        write_text(folder / "config.json", _to_json(config, indent=2) + "\n")
        write_text(folder / "events.jsonl", "".join(_to_json(record) + "\n" for record in self.history))
        save(folder / "model.lnz", self.model)
        report = {
            "rows": {name: dataclasses.asdict(row) for name, row in self.rows.items()},
            "data_protocol": self.data_protocol,
            "num_parameters": self.num_parameters,
            "seconds": self.seconds,
        }
        write_text(folder / "report.json", _to_json(report, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """**Raises:** `FileNotFoundError` or `ValueError`, naming the folder, if it is no complete run folder."""
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no run folder {str(folder)!r}.")
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{str(folder)!r} is no complete run folder: it has no {', '.join(missing)}. "
                "`lnz train RECIPE --out FOLDER` writes one."
            )
        try:
            config = json.loads((folder / "config.json").read_text("utf-8"))
            report = json.loads((folder / "report.json").read_text("utf-8"))
            lines = (folder / "events.jsonl").read_text("utf-8").splitlines()
            history = [{name: _number(value) for name, value in json.loads(line).items()} for line in lines]
            rows = {name: _read_row(row) for name, row in report.pop("rows").items()}
            return cls(**config, **report, history=history, rows=rows, model=load(folder / "model.lnz"))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"The run folder {str(folder)!r} is damaged: {error!r}.") from error


def start_folder(folder: Path, overwrite: bool) -> None:
    """A folder to write a run into, made if there is none; what is in it stays until `Run.write`.

    **Raises:** `ValueError` if it is a file, or holds anything and `overwrite` is false.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`--out {folder}` is a file; a run needs a folder. Choose another name.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ValueError(
            f"The folder {str(folder)!r} already holds something. Choose another `--out`, or add `--overwrite`."
        )
    folder.mkdir(parents=True, exist_ok=True)


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


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """`value` in JSON's types. Numbers that are not finite, which JSON lacks, become 'nan', 'inf' or '-inf'."""
    if isinstance(value, dict):
        return {name: _plain(child) for name, child in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
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
    return LogLikelihood(
        **numbers,
        bound=row["bound"],
        per_example=np.array([float(value) for value in row["per_example"]]),
        stats=stats,
        assumes=tuple(row["assumes"]),
    )
