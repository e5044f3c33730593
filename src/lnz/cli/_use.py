"""What can be done with a trained run: evaluate, sample, score."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np

import lnz
import lnz.recipes

from .._atomic import write_atomically
from .._run import Run, to_json, write_text
from .._space import Binary
from ..data import Splits
from ..data._files import digest_of
from ..recipes import Recipe
from ._compare import write_html
from ._console import console, short_path
from ._files import TABLES, check_ending, write_table
from ._train import check_same_data, find_recipe, parse_changes

_NUM_SHOWN = 10
_MOST_DIAGNOSED, _NUM_SIMULATED = 200, 32


def evaluate(folder: Path, data: str | None, changes: list[str], out: Path | None, with_diagnosis: bool) -> None:
    """The command `lnz evaluate`: on the run's test split, whose rows are then replaced, or on other data."""
    if out is not None:
        check_ending(out, (".json",))
    run = Run.read(folder)
    if with_diagnosis and not isinstance(run.model, lnz.AbstractLatentModel):
        raise ValueError(f"`--diagnose` needs a model with latents; {str(folder)!r} is a {type(run.model).__name__}.")
    recipe, settings = settings_of(run, changes)
    if data is not None:
        rows, observed, made = examples_for(run, data, settings)
        _warn_of_training_data(run, folder, data)
        results = recipe.judge(run.model, rows, settings, observed)
    else:
        splits = recipe.load(settings)
        check_same_data(folder, splits)
        rows, made = splits.test, _test_part(splits)
        results = recipe.judge(run.model, rows, settings, splits.observed and splits.observed[2])
        bracket = recipe.bracket_log_z(run.model, settings)
        run = dataclasses.replace(run, settings=settings, rows=results, bracket=bracket)
        run.write(folder)
        write_html(folder / "report.html", {folder.resolve().name: run})
    for name, result in results.items():
        console().print(f"{name}: {result}", soft_wrap=True)
        console().print(f"  {made}; {result.stats['protocol']}", soft_wrap=True)
    if data is None and run.bracket is not None:
        console().print(f"log Z: {run.bracket}", soft_wrap=True)
    if with_diagnosis:
        _diagnose(run.model, rows, made, settings["seed"])
    if out is not None:
        content = {name: {**dataclasses.asdict(result), "data_protocol": made} for name, result in results.items()}
        write_text(out, to_json(content, indent=2) + "\n")
        console().print(f"Wrote {short_path(out)}", soft_wrap=True)


def _diagnose(model: lnz.AbstractLatentModel, rows: np.ndarray, made: str, seed: int) -> None:
    """What the bound consists of on some rows, and how far off it can be on examples that the model draws itself."""
    some = rows[:: max(1, -(-len(rows) // _MOST_DIAGNOSED))]
    key_diagnose, key_bracket = jr.split(jr.fold_in(jr.key(seed), 2))
    console().print(f"\nDiagnosis of {len(some)} rows from all over: {made}; a minute or so", soft_wrap=True)
    console().print(str(lnz.diagnose(key_diagnose, model, some)), soft_wrap=True)
    if isinstance(model.prior.space, lnz.Euclidean):
        console().print("How far off a likelihood of this model can be, by examples of its own:", soft_wrap=True)

        def tell(num: int) -> None:
            console().print(f"  {num} of {_NUM_SIMULATED} annealed from both sides", soft_wrap=True)

        bracket = lnz.simulated_bracket(
            key_bracket, model, _NUM_SIMULATED, batch_size=-(-_NUM_SIMULATED // 4), progress=tell
        )
        console().print(f"{bracket}; not of these rows", soft_wrap=True)


def score(folder: Path, data: str, out: Path | None, anomalous_first: bool, changes: list[str]) -> None:
    """The command `lnz score`."""
    if out is not None:
        check_ending(out, TABLES)
    run = Run.read(folder)
    recipe, settings = settings_of(run, changes)
    rows, observed, made = examples_for(run, data, settings)
    _warn_of_training_data(run, folder, data)
    result = recipe.score(run.model, rows, settings, observed)
    order = np.argsort(result.per_example, kind="stable") if anomalous_first else np.arange(len(rows))
    columns = {
        "row": order,
        "log_prob": result.per_example[order],
        "bound": np.full(len(rows), result.bound),
        "standard_error": result.per_example_error[order],
    }
    if out is None:
        which = "most anomalous" if anomalous_first else "first"
        console().print(
            f"The {min(_NUM_SHOWN, len(rows))} {which} of {len(rows)} rows: log p in nats ({result.kind}), and its own "
            "Monte Carlo s.e.",
            soft_wrap=True,
        )
        shown = zip(*(columns[name][:_NUM_SHOWN] for name in ("row", "log_prob", "standard_error")), strict=True)
        for row, value, error in shown:
            console().print(f"{row:>8}  {value:.4f}  {error:.2g}")
    else:
        write_table(out, columns)
        console().print(
            f"Wrote log p (nats, {result.kind}) of {len(rows)} rows to {short_path(out)}: columns {', '.join(columns)}",
            soft_wrap=True,
        )
    if result.stats["partition_error"]:
        console().print(
            f"One log Z is subtracted from every row: its s.e., {result.stats['partition_error']:.2g} nats, moves all "
            "of them together and changes no difference",
            soft_wrap=True,
        )
    console().print(f"mean: {result}", soft_wrap=True)
    console().print(f"  {made}; {result.stats['protocol']}", soft_wrap=True)


def sample(folder: Path, num: int, out: Path, num_steps: int, seed: int) -> None:
    """The command `lnz sample`."""
    writers = {".npy": _npy, ".png": _png, **TABLES}
    check_ending(out, writers)
    run = Run.read(folder)
    if out.suffix == ".png" and run.examples.image_shape is None:
        raise ValueError(f"`--out {out}`: the examples of {str(folder)!r} are no pictures; try .csv.")
    if not 0 <= seed < 2**63:
        raise ValueError(f"`--seed` must be a whole number from 0 to 2**63 - 1; got {seed}.")
    draws = np.asarray(lnz.sample(jr.key(seed), run.model, num, num_steps=num_steps))
    if isinstance(run.model.space, Binary):
        draws = draws.astype(np.uint8)
    if out.suffix in TABLES:
        names = run.examples.columns or tuple(str(i) for i in range(draws.shape[1]))
        write_table(out, {name: draws[:, i] for i, name in enumerate(names)})
    else:
        write_atomically(out, writers[out.suffix](run, draws))
    console().print(f"Wrote {num} samples to {short_path(out)}", soft_wrap=True)


def settings_of(run: Run, changes: list[str]) -> tuple[Recipe, dict[str, Any]]:
    """Settings of the run, of which only those of the evaluation may be changed now."""
    recipe, wanted = find_recipe(run.recipe), parse_changes(changes)
    for name in wanted:
        if not name.startswith("evaluate."):
            raise ValueError(f"`--set {name}`: the model is trained; only settings of `evaluate` can be changed now.")
    return recipe, recipe.resolve(wanted, run.settings)


def examples_for(run: Run, data: str, settings: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None, str]:
    """All rows of a file, or the test split of a named set, made as the run's training data were; what is known; and
    how they were made, in words."""
    chosen = settings["data"]
    if data in lnz.data.names():
        recipe = find_recipe(run.recipe)
        of_files = ("valid_fraction", "test_fraction", *(() if chosen["binarize"] == "sample" else ("seed",)))
        defaults = {name: recipe.settings["data"][name] for name in of_files}  # a named set has a split of its own
        splits = recipe.load({**settings, "data": {**chosen, **defaults, "source": data}})
        return splits.test, None, _test_part(splits)
    rows = lnz.data.read_rows(
        data,
        columns=run.examples.columns,
        binarize=chosen["binarize"],
        threshold=chosen["threshold"],
        seed=chosen["seed"],
        missing=chosen["missing"],
        header=chosen["header"],
    )
    made = f"all rows of {Path(data).name}"
    if chosen["binarize"] != "none":
        how = f" at {chosen['threshold']}" if chosen["binarize"] == "threshold" else f" with seed {chosen['seed']}"
        made += f", binarized by {chosen['binarize']}{how}"
    return np.asarray(run.model.space.check_data(rows.array, str(data))), rows.observed, made


def _warn_of_training_data(run: Run, folder: Path, data: str) -> None:
    """Of the file that a run was made of, most rows are those that the model learnt from."""
    if run.digest is not None and data not in lnz.data.names() and digest_of(Path(data)) == run.digest:
        console().print(
            f"Warning: {data} is the file that this run was made of. Most of its rows are those that the model learnt "
            f"from, which flatters it; `lnz evaluate {short_path(folder)}` takes the test part alone.",
            soft_wrap=True,
        )


def _test_part(splits: Splits) -> str:
    return f"test part of {splits.name}: {splits.protocol}"


def _npy(run: Run, draws: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, draws)
    return buffer.getvalue()


def _png(run: Run, draws: np.ndarray) -> bytes:
    from ..plots import image_grid
    from ..plots._pixels import paper_and_ink

    buffer = io.BytesIO()
    assert run.examples.image_shape is not None
    low, high = paper_and_ink(*run.examples.values.values())
    image_grid(draws, run.examples.image_shape, low=low, high=high).savefig(buffer, format="png")
    return buffer.getvalue()
