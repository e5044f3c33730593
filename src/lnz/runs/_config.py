"""The file `config.json`: the settings of a run and the environment of its training."""

from pathlib import Path
from typing import Any

from ..files import DamagedError, field, fields, read_json, short, whole
from ._folder import _WHOLE, undisturbed
from ._form import _CONFIG, to_json, write_text

_VERSION = 1


def write_config(folder: Path, **config: Any) -> None:
    """Write `config.json`. Its entry `model`, the digest of `model.lnz`, is `None` until training ends."""
    write_text(folder / "config.json", to_json({"version": _VERSION, **config}, indent=2) + "\n")


def read_config(path: Path) -> dict[str, Any]:
    """Read `config.json`, given the file or its run folder.

    **Raises:** `FileNotFoundError` if the file does not exist, and `ValueError` if it is damaged or has another
    version. The message names the file.
    """
    if path.suffix != ".json":
        return undisturbed(path, lambda: _read_config_of(path))
    return _read_config_file(path)


def _read_config_of(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        if not folder.is_file():
            raise FileNotFoundError(f"There is no run folder {str(folder)!r}.")
        is_within = (folder.parent / "config.json").is_file()
        advice = f"Give the folder, {str(folder.parent)!r}" if is_within else "Give data with `--data`"
        raise ValueError(f"{str(folder)!r} is a file, and a run is a folder. {advice}.")
    return _read_config_file(_place(folder, "config.json"))


def _read_config_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(path.parent)!r} is not a run folder: it has no {path.name}. `lnz train RECIPE --out FOLDER` writes "
            "one."
        )
    try:
        config = read_json(path)
        version = field(config, "version", whole, path.name)
        if version != _VERSION:
            raise ValueError(f"{str(path)!r} has version {short(version)}; this lnz reads version {_VERSION}.")
        del config["version"]
        return fields(_CONFIG)(config, path.name)
    except DamagedError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error


def _place(folder: Path, name: str) -> Path:
    """The path of a run's file, which may not have been moved from `.whole` to its place yet."""
    on_its_way = folder / _WHOLE / name
    return on_its_way if on_its_way.exists() else folder / name
