"""Checkpoints. Each file holds the whole state of a training, which resumes from it bit for bit."""

import dataclasses
import json
import math
import os
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..files import Held, check_digest, environment, held, read_header, to_bytes, write_atomically
from ..modules import check_positive
from ._loop import Sums

_FORMAT = "lnz checkpoint 1"

Record = dict[str, float | int]


class ResumeWarning(UserWarning):
    """A training resumes under conditions that may change its last bits, or from an older checkpoint."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where and how often `lnz.fit` saves the whole state of a training. Each file is written whole or not at all.

    `fit` locks the folder and refuses one that another `fit` holds. It also saves at SIGTERM, and then ends the process
    with code 143.

    - `folder`: the folder of files such as `step-000001000.ckpt`. It is created when first needed.
    - `every`: seconds between two checkpoints. `fit` also saves at the end, at Ctrl-C and before a divergence.
    - `keep`: how many of the newest checkpoints to keep. More than one guards against a damaged disk.
    - `label`: text that must be equal at `resume`, such as a digest of your own settings. `fit` also compares the key,
      the data, its own arguments and the computation of a step, with its learning rate.
    - `resume`: continue from the newest readable checkpoint, if there is one. The result equals that of a training that
      was never stopped, bit for bit on the same versions, device and number of threads. `steps` may be larger than
      before, with the same `every` of `Watch` and `Validation`. Without `resume`, a folder with checkpoints is refused.
    """

    folder: Path
    every: float = 30.0
    keep: int = 3
    label: str = ""
    resume: bool = False

    def __init__(
        self,
        folder: str | os.PathLike,
        every: float = 30.0,
        keep: int = 3,
        label: str = "",
        resume: bool = False,
    ):
        if not every >= 0:
            raise ValueError(f"`Checkpoints(every=...)` must be a number of seconds, at least 0; got {every}.")
        object.__setattr__(self, "folder", Path(folder))
        object.__setattr__(self, "every", float(every))
        object.__setattr__(self, "keep", check_positive(keep, "Checkpoints(keep=...)"))
        object.__setattr__(self, "label", str(label))
        object.__setattr__(self, "resume", bool(resume))

    def files(self) -> list[Path]:
        """The existing checkpoints, newest first."""
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    def held(self) -> AbstractContextManager[Held]:
        """Lock the folder.

        **Raises:** `ValueError` if another training holds it, in this process or another one.
        """
        words = f"`checkpoints`: another training is at work in {str(self.folder)!r}. Use another folder."
        return held(self.folder, words)

    def check_unused(self) -> None:
        """**Raises:** `ValueError` if the folder has checkpoints, which a new training would mix with its own."""
        if self.files():
            raise ValueError(
                f"`checkpoints`: {str(self.folder)!r} holds those of another training. Use another folder, delete "
                "them, or continue that training with `Checkpoints(..., resume=True)`."
            )


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The state of a training between two steps.

    - `arrays`: the arrays of `((model, state), average)`.
    - `sums`: sums of metrics since step `since`, for the unfinished record.
    - `best`: the arrays of the best model so far, with `lnz.Validation(..., keep="best")`.
    """

    arrays: Any
    sums: Sums
    best: Any
    step: int = 0
    since: int = 0
    seconds: float = 0.0
    history: tuple[Record, ...] = ()

    @property
    def best_score(self) -> float:
        scores = [record["valid"] for record in self.history if "valid" in record]
        return max((score for score in scores if not math.isnan(score)), default=-math.inf)

    @property
    def tree(self) -> Any:
        return self.arrays, self.sums, self.best


def save_checkpoint(
    checkpoints: Checkpoints, snapshot: Snapshot, settings: dict[str, str], computation: str = ""
) -> Path:
    """Write `snapshot`, and delete all but the newest `keep` checkpoints. `settings` must be equal at `resume`."""
    for unfinished in checkpoints.folder.glob(".step-*.ckpt.*"):  # left by a process that was killed while writing
        unfinished.unlink(missing_ok=True)
    leaves = [_to_bytes(leaf) for leaf in jax.tree.leaves(snapshot.tree)]
    state = {
        "step": snapshot.step,
        "since": snapshot.since,
        "seconds": snapshot.seconds,
        "history": snapshot.history,
        "settings": settings,
        "computation": computation,
        "environment": environment(),
        "leaves": _describe(snapshot.tree),
    }
    header = {"format": _FORMAT, "state": json.dumps(state)}
    path = checkpoints.folder / f"step-{snapshot.step:09d}.ckpt"
    write_atomically(path, to_bytes({str(i): leaf for i, leaf in enumerate(leaves)}, header))
    for old in checkpoints.files()[checkpoints.keep :]:
        old.unlink(missing_ok=True)
    return path


def newest_checkpoint(
    checkpoints: Checkpoints, like: Snapshot, settings: dict[str, str], computation: str = ""
) -> Snapshot | None:
    """The newest readable checkpoint, as a snapshot with the structure of `like`; `None` if there is no file.

    Warns about damaged files, and if the checkpoint was written in another environment.

    **Raises:** `ValueError` if no file is readable, or if the checkpoint comes from a training with other settings.
    """
    files = checkpoints.files()
    for path in files:
        try:
            state, leaves = _read(path)
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            message = f"The checkpoint {path.name} is damaged ({str(error).rstrip('.')}); trying the one before."
            warnings.warn(message, ResumeWarning, stacklevel=3)
            continue
        _check_same(path, state, like, settings, computation)
        for later in files[: files.index(path)]:  # the damaged ones, which would always come first
            later.unlink()
        return _restore(state, leaves, like)
    if files:
        raise ValueError(
            f"None of the {len(files)} checkpoints in {str(checkpoints.folder)!r} can be read. Train from the start, "
            "without `resume`."
        )
    return None


def _read(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    header, arrays = read_header(path)
    if header.get("format") != _FORMAT:
        raise ValueError(f"its format is {header.get('format')!r}")
    with open(path, "rb") as file:
        check_digest(file)
    return json.loads(header["state"]), [arrays[str(i)].read() for i in range(len(arrays))]


def _check_same(path: Path, state: dict[str, Any], like: Snapshot, settings: dict[str, str], computation: str) -> None:
    for name, value in settings.items():
        was = state["settings"].get(name)
        if was != value:
            raise ValueError(
                f"`resume`: {str(path)!r} comes from a training with another `{name}`: {was} then, {value} now. Use "
                "the same value, or train from the start."
            )
    for was, now in zip(state["leaves"], _describe(like.tree), strict=False):
        if was != now:
            raise ValueError(f"`resume`: {str(path)!r} holds {was}, but the present model and method have {now}.")
    if len(state["leaves"]) != len(_describe(like.tree)):
        raise ValueError(f"`resume`: {str(path)!r} comes from another model, method or `keep`.")
    then, now = state["environment"], environment()
    differences = [f"{name} was {then.get(name)}, is {now[name]}" for name in now if then.get(name) != now[name]]
    if differences:
        message = (
            f"Resuming from {path.name}. The last bits may differ from those of an uninterrupted run: "
            f"{'; '.join(differences)}."
        )
        warnings.warn(message, ResumeWarning, stacklevel=4)
    elif state["computation"] != computation:  # in another environment the same method may have another program
        raise ValueError(
            f"`resume`: {str(path)!r} comes from a training with another method: its step computes something else, "
            "for example with another learning rate, schedule, objective or number of samples, or on data of another "
            "number type. Use the same, or start a new `fit` from the model that the earlier one returned."
        )


def _restore(state: dict[str, Any], leaves: list[np.ndarray], like: Snapshot) -> Snapshot:
    templates, structure = jax.tree.flatten(like.tree)
    restored = [_from_bytes(leaf, template) for leaf, template in zip(leaves, templates, strict=True)]
    arrays, sums, best = jax.tree.unflatten(structure, restored)
    numbers = {name: state[name] for name in ("step", "since", "seconds")}
    return Snapshot(arrays, sums, best, **numbers, history=tuple(state["history"]))


def _to_bytes(leaf: Array) -> np.ndarray:
    """The bytes of an array of any number type, bit for bit."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.frombuffer(np.asarray(leaf).tobytes(), np.uint8)


def _from_bytes(data: np.ndarray, like: Array) -> Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        words = jax.random.key_data(like)
        return jax.random.wrap_key_data(_from_bytes(data, words), impl=jax.random.key_impl(like))
    return jnp.asarray(np.frombuffer(data.tobytes(), like.dtype).reshape(like.shape))


def _describe(tree: Any) -> list[str]:
    paths, _ = jax.tree.flatten_with_path(tree)
    return [f"{jax.tree_util.keystr(path)}: {leaf.dtype}{list(leaf.shape)}" for path, leaf in paths]
