import os
import platform
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

import lnz
import lnz.recipes
from lnz.recipes import Recipe

from .._check import unknown_name
from .._run import Run, start_folder
from ._console import console, short_path
from ._progress import Display, describe_seconds, show_progress


def recipes() -> dict[str, Recipe]:
    """Every recipe by its name."""
    found = [value for value in vars(lnz.recipes).values() if isinstance(value, Recipe)]
    return {recipe.name: recipe for recipe in found}


def train(recipe: str, out: Path, changes: list[str], overwrite: bool) -> None:
    """The command `lnz train`."""
    run = train_into(out, recipe, parse_changes(changes), overwrite)
    for name, row in run.rows.items():
        console().print(f"{name}: {row}")
    console().print(f"Wrote {short_path(out)}", soft_wrap=True)


def parse_changes(changes: list[str]) -> dict[str, str]:
    """`["a.b=c"]` as `{"a.b": "c"}`."""
    pairs = [change.partition("=") for change in changes]
    for change, (name, equals, _) in zip(changes, pairs, strict=True):
        if not (name and equals):
            raise ValueError(f"`--set` needs KEY=VALUE, such as `--set train.steps=2000`; got {change!r}.")
    return {name: value for name, _, value in pairs}


def train_into(folder: Path, name: str, changes: dict[str, str], overwrite: bool) -> Run:
    """Train and evaluate a recipe with a progress display, and write its run folder.

    **Raises:** `ValueError` for an unknown recipe or setting, and for a folder that is in use, before anything is done.
    """
    known = recipes()
    if name not in known:
        raise ValueError(unknown_name("recipe", name, known))
    recipe = known[name]
    settings = recipe.resolve(changes)
    start_folder(folder, overwrite)
    steps = settings["train"]["steps"]
    with show_progress(console(), name, steps) as display:
        run = _run(recipe, settings, display)
    run.write(folder)
    trained = f"after {steps} step{'s' if steps > 1 else ''} ({describe_seconds(run.seconds)})"
    console().print(f"{name}: {run.rows[name].value:.3f} nats per test example {trained}", soft_wrap=True)
    return run


def _run(recipe: Recipe, settings: dict[str, Any], display: Display) -> Run:
    splits = lnz.data.load(recipe.data)
    with warnings.catch_warnings():
        # The report says it once for each row; ten validations that say it would bury the rest.
        warnings.simplefilter("ignore", lnz.UnreliableEstimateWarning)
        started = time.perf_counter()
        fit = recipe.train(splits, settings, display.update)
        trained = time.perf_counter()
        display.say(f"evaluating on {len(splits.test)} test examples")
        rows = recipe.evaluate(fit.model, splits, settings)
        evaluated = time.perf_counter()
    return Run(
        recipe=recipe.name,
        title=recipe.title,
        data=recipe.data,
        settings=settings,
        environment=_environment(),
        model=fit.model,
        history=fit.history,
        rows=rows,
        data_protocol=splits.protocol,
        num_parameters=_num_parameters(fit.model),
        seconds={
            "train": trained - started - fit.compile_seconds,
            "compile": fit.compile_seconds,
            "evaluate": evaluated - trained,
        },
    )


def _num_parameters(model: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, lnz.trainable(model))))


def _environment() -> dict[str, str]:
    device = jax.devices()[0]
    cores = f", {os.cpu_count()} cores" if device.platform == "cpu" else ""
    return {
        "lnz": version("lnz"),
        "jax": version("jax"),
        "python": platform.python_version(),
        "device": f"{device.device_kind}{cores}",
        "precision": "float64" if jax.config.read("jax_enable_x64") else "float32",
    }
