"""Run folders: the files of a training, its model and its likelihoods.

A run is replaced by one rename. New files are first written to a hidden folder within the run folder. Renaming it to
`.whole` makes them the run; the same process or a later one then moves them to their places. A reader prefers a file
in `.whole` to the file of the same name beside it, and starts again if files were replaced meanwhile. So it sees all
files of the old run or all files of the new run, at any moment and after any kill. The hidden folders are:

- `.next`: a training that will replace the run (`--overwrite`). `--resume` continues it; the run stays as it is.
- `.final`: results that are being written. A folder left by a killed process is worthless.
- `.whole`: complete results, which count.

`config.json` holds the settings of the training and the digest of the trained model. `report.json` holds the
evaluation, and the digests of model, configuration, data and itself. `Run.read` warns if they do not match."""

import dataclasses
import hashlib
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import core
from ..core import Bracket, LogLikelihood
from ..files import DamagedError, digest_of_model, fields, load, read_json, save, short
from ._config import _place, read_config, write_config
from ._events import read_events
from ._examples import Examples
from ._folder import replacing, undisturbed
from ._form import _CONFIG, _REPORT, is_sealed, sealed, to_json, write_text


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained and evaluated recipe.

    - `recipe`, `title`: the name of the recipe, and one line about it.
    - `settings`: the resolved settings; `data.source` names the data.
    - `digest`: the first digits of the SHA-256 of the data file, if the data came from a file.
    - `cwd`: the working directory of the training, from which a relative path of the data starts.
    - `environment`: versions and device, in words.
    - `model`: the trained model.
    - `history`: the records of `lnz.fit`.
    - `status`: how training ended.
    - `rows`: test likelihoods, one for each way to compute the denominator.
    - `bracket`: bounds of log Z from both sides, if the recipe has normalisers for both.
    - `examples`: test rows to show.
    - `data_protocol`: how the data were made and split.
    - `num_parameters`: the number of trainable parameters.
    - `seconds`: durations of `train` (with validation, without compiling the step), `compile` and `evaluate`.
    - `warnings`: reasons why densities of the training data mean little, as sentences. They apply to every likelihood.
    - `digests`: digests of the files that the run was read from; the next `report.json` records them.
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
        """The name of the data set or of the data file."""
        return Path(self.settings["data"]["source"]).name

    def write(self, folder: Path) -> None:
        """Replace the run in `folder` by this one, by one rename."""
        with replacing(folder) as stage:
            self.write_files(stage)

    def write_files(self, folder: Path) -> None:
        """Write every file except `report.html`. `report.json`, which makes a run complete, is written last."""
        save(folder / "model.lnz", self.model)
        model = digest_of_model(folder / "model.lnz")
        write_config(folder, **{name: getattr(self, name) for name in _CONFIG if name != "model"}, model=model)
        write_text(folder / "events.jsonl", "".join(to_json(record) + "\n" for record in self.history))
        config = _digest(folder / "config.json")
        dataclasses.replace(self, digests={"model": model, "config": config, "data": self.digest}).write_report(folder)

    def write_report(self, folder: Path) -> None:
        """Write only `report.json`, with the results of an evaluation."""
        report = {
            "rows": {name: core.to_json(row) for name, row in self.rows.items()},
            "bracket": None if self.bracket is None else core.to_json(self.bracket),
            "examples": dataclasses.asdict(self.examples),
            "status": self.status,
            "data_protocol": self.data_protocol,
            "num_parameters": self.num_parameters,
            "seconds": self.seconds,
            "evaluate": self.settings.get("evaluate", {}),
            "warnings": self.warnings,
            "digests": self.digests,
        }
        write_text(folder / "report.json", sealed(report))

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read the run in `folder`. A `UserWarning` is given if its files do not belong together.

        **Raises:** `FileNotFoundError` or `ValueError`, naming the folder, if it is not a complete run folder.
        """
        run, parted = undisturbed(folder, lambda: cls._read(folder))
        if parted:
            message = f"The files of the run {str(folder)!r} do not belong together: {'; '.join(parted)}."
            warnings.warn(message, stacklevel=2)
        return run

    @classmethod
    def _read(cls, folder: Path) -> tuple["Run", list[str]]:
        """Read the run, and describe which of its files do not belong together."""
        config = read_config(folder)
        if not _place(folder, "report.json").is_file():
            raise FileNotFoundError(
                f"The run in {str(folder)!r} is not finished. `lnz train --resume --out {folder}` continues it."
            )
        try:
            report = fields(_REPORT)(read_json(_place(folder, "report.json")), "report.json")
            model = load(_place(folder, "model.lnz"))
            _check_report(report, config, model)
            history = read_events(folder)
            digests = {"model": digest_of_model(_place(folder, "model.lnz")), "config": report["digests"]["config"]}
            digests["data"] = report["digests"]["data"]
            parted = _parted_files(folder, config, report["digests"], digests["model"])
        except (TypeError, AttributeError, ValueError, FileNotFoundError) as error:
            raise ValueError(f"The run folder {str(folder)!r} is damaged: {str(error).rstrip('.')}.") from error
        evaluated = report.pop("evaluate")
        settings = {**config["settings"], **({"evaluate": evaluated} if evaluated else {})}
        del config["model"]
        run = cls(**{**config, "settings": settings, **report, "digests": digests}, model=model, history=history)
        return run, parted


def _check_report(report: dict[str, Any], config: dict[str, Any], model: Any) -> None:
    """**Raises:** `DamagedError` if parts of `report.json` contradict each other, the configuration or the model."""
    rows: dict[str, LogLikelihood] = report["rows"]
    if config["recipe"] not in rows:
        raise DamagedError(f"its report.json: rows has no {short(config['recipe'])}, the recipe of config.json.")
    num = rows[config["recipe"]].num
    for name, row in rows.items():
        if row.num != num:
            raise DamagedError(f"its report.json: rows.{name} has {row.num} examples, and others {num}.")
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


def _parted_files(folder: Path, config: dict[str, Any], named_: dict[str, Any], model: str) -> list[str]:
    parted = []
    if config["model"] != model:
        parted.append("model.lnz is not the model of this training")
    if named_["model"] != model:
        parted.append(f"the likelihoods belong to another model.lnz (`lnz evaluate {folder}` computes them again)")
    if named_["config"] != _digest(_place(folder, "config.json")):
        parted.append("config.json was changed after the training")
    if named_["data"] != config["digest"]:
        parted.append("the likelihoods belong to other data than those in config.json")
    if not is_sealed(_place(folder, "report.json").read_bytes()):
        parted.append("report.json was changed after the evaluation")
    return parted


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """Read runs. They are named by their folders, or by the given paths if two folders have the same name."""
    folders = list(dict.fromkeys(folders))
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return {name: Run.read(folder) for name, folder in zip(names, folders, strict=True)}
