"""What can be done with a trained run: evaluate, sample, score."""

import dataclasses
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from rich.text import Text

import lnz
import lnz.recipes

from .. import core
from ..core import faulty_rows, least_likely_first, unknown_rows, useless_rows
from ..data import AtomsWarning, Cells, Rows, Splits, blocks, digest_of, tidy
from ..files import write_atomically
from ..modules import model_dtype
from ..runs import Recipe, Run, Settings, as_sentence, locked, replacing, to_json, write_text
from ._console import console, short_path
from ._files import TABLES, check_ending, write_table
from ._progress import show_rows
from ._table import print_comparison, print_warnings
from ._train import check_same_data, find_recipe, load_data, parse_changes, read_settings

_NUM_SHOWN = 10
_MOST_DIAGNOSED, _NUM_SIMULATED = 200, 32
_MOST_ANNEALED = 100
READING = ("data.binarize", "data.header", "data.missing")  # how other data are read, where they are not as the run's
_COUNTED = {
    "line": "lines count from 1, the header among them",
    "file": "in natural order of their names",
    "row": "rows count from 0",
}


@dataclasses.dataclass(frozen=True)
class Annealing:
    """How finely `lnz evaluate --ais` anneals."""

    num_chains: int = 20  # enough for an effective number above 10, below which an error bar is called unreliable
    num_betas: int = 300

    @classmethod
    def of(cls, wanted: bool, num_chains: int | None, num_betas: int | None) -> "Annealing | None":
        given = {"num_chains": num_chains, "num_betas": num_betas}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in given.items():
            option = f"--{name.replace('_', '-')}"
            if not wanted:
                raise ValueError(f"`{option}` belongs to `--ais`: add that, or leave it out.")
            least = 2 if name == "num_chains" else 1
            if value < least:
                raise ValueError(f"`{option}` must be at least {least}, such as {getattr(cls, name)}; got {value}.")
        return cls(**given) if wanted else None


def evaluate(
    folder: Path,
    data: str | None,
    changes: list[str],
    out: Path | None,
    with_diagnosis: bool,
    num_rows: int | None = None,
    annealing: Annealing | None = None,
) -> None:
    """The command `lnz evaluate`: on the run's test split, whose results are then replaced, on some of its rows, or on
    other data.
    """
    from ..plots import write_report

    if out is not None:
        check_ending(out, (".json",))
    run = Run.read(folder)
    if annealing is not None:
        _check_can_be_annealed(folder, run.model)
    if with_diagnosis and not isinstance(run.model, lnz.AbstractLatentModel):
        raise ValueError(f"`--diagnose` needs a model with latents; {str(folder)!r} is a {type(run.model).__name__}.")
    recipe, settings = settings_of(run, changes, READING, data)
    if data is not None:
        rows, observed, made, _ = examples_for(run, data, settings)
        _warn_of_training_data(run, folder, data)
    else:
        splits = load_data(recipe, settings, run.cwd)
        check_same_data(folder, splits)
        rows, observed, made = splits.test, splits.observed and splits.observed[2], _test_part(splits)
    if num_rows is None:
        num_rows = len(rows) if annealing is None else min(len(rows), _MOST_ANNEALED)
    is_whole = data is None and num_rows == len(rows)
    rows, observed, made = _some_rows(rows, observed, made, num_rows)
    results = recipe.judge(run.model, rows, settings, observed)
    if annealing is not None:
        results |= _annealed(recipe, run.model, rows, settings, annealing)
    results = {name: result.with_warnings(run.warnings) for name, result in results.items()}
    for name, result in results.items():
        if not result.value < np.inf:
            raise ValueError(f"{name} has no likelihood, and nothing was written: {result.warnings[0]}.")
    if is_whole:
        bracket = recipe.bracket_log_z(run.model, settings)
        run = dataclasses.replace(run, settings=settings.model_dump(), rows=results, bracket=bracket)
        with locked(folder), replacing(folder) as stage:  # both files at once, and nothing of the training
            run.write_report(stage)
            write_report(stage / "report.html", {folder.resolve().name: run})
        console().print(f"Wrote {short_path(folder / 'report.html')}: open it in a browser", soft_wrap=True)
    for name, result in results.items():
        console().print(f"{name}: {result}", soft_wrap=True)
        print_warnings(console(), name, result)
        console().print(f"  {made}; {result.how}", soft_wrap=True)
    if annealing is not None:
        print_comparison(console(), {folder.resolve().name: dataclasses.replace(run, rows=results, data_protocol=made)})
    if is_whole and run.bracket is not None:
        console().print(f"log Z: {run.bracket}", soft_wrap=True)
    if with_diagnosis:
        _diagnose(run.model, rows, made, settings.seed)
    if out is not None:
        content = {name: {**core.to_json(result), "data_protocol": made} for name, result in results.items()}
        write_text(out, to_json(content, indent=2) + "\n")
        console().print(f"Wrote {short_path(out)}", soft_wrap=True)


def _check_can_be_annealed(folder: Path, model: Any) -> None:
    if not isinstance(model, lnz.AbstractLatentModel):
        raise ValueError(f"`--ais` needs a model with latents; {str(folder)!r} is a {type(model).__name__}.")
    if not model.prior.space.is_euclidean:
        raise ValueError(
            f"`--ais` moves latents by HMC, on Euclidean spaces; those of {str(folder)!r}, a {type(model).__name__}, "
            f"live on {model.prior.space}."
        )


def _some_rows(
    rows: np.ndarray, observed: np.ndarray | None, made: str, num: int
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """`num` rows from all over, for neighbours may be alike; and that in words."""
    if not 1 <= num <= len(rows):
        raise ValueError(f"`--num-rows` must be from 1 to {len(rows)}, as many as there are; got {num}.")
    if num == len(rows):
        return rows, observed, made
    index = np.arange(num) * len(rows) // num
    return rows[index], None if observed is None else observed[index], f"{num} rows, evenly spaced, of: {made}"


def _annealed(
    recipe: Recipe[Any], model: lnz.AbstractLatentModel, rows: np.ndarray, settings: Settings, annealing: Annealing
) -> dict[str, lnz.LogLikelihood]:
    """The same likelihoods by annealing from q(z | x) to the posterior."""
    sampler = lnz.adapted_hmc(jr.fold_in(jr.key(settings.seed), 3), model)
    method = lnz.normalizers.AIS(annealing.num_chains, annealing.num_betas, sampler=sampler)
    with show_rows(console(), "annealing", len(rows)) as progress:
        results = recipe.judge(model, rows, settings, hidden=method, progress=progress)
    x = model.space.cast(rows[0], model_dtype(model))
    start = "the prior" if eqx.filter_eval_shape(model.posterior, x) is None else "q(z | x)"
    return {f"{name} (AIS)": result.with_notes(f"annealed from {start}") for name, result in results.items()}


def _diagnose(model: lnz.AbstractLatentModel, rows: np.ndarray, made: str, seed: int) -> None:
    """What the bound consists of on some rows, and how far off it can be on examples that the model draws itself."""
    some = rows[:: max(1, -(-len(rows) // _MOST_DIAGNOSED))]
    key_diagnose, key_bracket = jr.split(jr.fold_in(jr.key(seed), 2))
    console().print(f"\nDiagnosis of {len(some)} rows from all over: {made}; a minute or so", soft_wrap=True)
    console().print(str(lnz.diagnose(key_diagnose, model, some)), soft_wrap=True)
    if model.prior.space.is_euclidean:
        with show_rows(console(), "annealing examples of its own from both sides", _NUM_SIMULATED) as progress:
            size = -(-_NUM_SIMULATED // 4)
            bracket = lnz.simulated_bracket(key_bracket, model, _NUM_SIMULATED, batch_size=size, progress=progress)
        console().print(f"{bracket}; not of these rows", soft_wrap=True)


def score(folder: Path, data: str, out: Path | None, anomalous_first: bool, changes: list[str]) -> None:
    """The command `lnz score`."""
    if out is not None:
        check_ending(out, TABLES)
    run = Run.read(folder)
    recipe, settings = settings_of(run, changes, READING, data)
    rows, observed, made, cells = examples_for(run, data, settings)
    _warn_of_training_data(run, folder, data)
    with warnings.catch_warnings():
        for told in (lnz.UnreliableEstimateWarning, AtomsWarning):  # beneath the scores, with the places of the file
            warnings.simplefilter("ignore", told)
        result = _placed(recipe.score(run.model, rows, settings, observed), cells, observed).with_warnings(run.warnings)
    num_known = None if observed is None else observed.reshape(len(rows), -1).sum(axis=1)
    if num_known is not None:
        result = result.with_warnings(_uneven_rows(num_known))
    if not np.any(result.per_example < np.inf):
        raise ValueError(
            f"No row has a log-probability under the model in {str(folder)!r}: all are NaN or infinite. Look for such "
            "numbers among its parameters."
        )
    order = least_likely_first(result.per_example) if anomalous_first else np.arange(len(rows))
    counted = "the least likely first" if anomalous_first and cells.kind == "file" else _COUNTED[cells.kind]
    if num_known is not None and anomalous_first:  # a row of which nothing is known is not anomalous
        order = np.concatenate([order[num_known[order] > 0], order[num_known[order] == 0]])
    columns = {
        cells.kind: cells.names_of(order),
        "log_prob": result.per_example[order],
        "bound": np.broadcast_to(np.array(result.bound), len(rows)),
        "standard_error": result.per_example_error[order],
    }
    if num_known is not None:
        columns["known_entries"] = num_known[order]
    if result.numerators.weights.are_judged:
        columns["reliable"] = ~result.unreliable_rows[order]
    if result.warnings:
        words = " ".join(map(as_sentence, result.warnings))
        columns["warning"] = np.broadcast_to(np.array(words), len(rows))
    if out is None:
        which = "most anomalous" if anomalous_first else "first"
        console().print(
            f"The {min(_NUM_SHOWN, len(rows))} {which} of {len(rows)} rows: log p in nats ({result.kind}), higher is "
            f"likelier, and its own Monte Carlo s.e.; {counted}",
            soft_wrap=True,
        )
        names = [str(name) for name in columns[cells.kind][:_NUM_SHOWN]]
        width = max(8, *map(len, names))
        marks = ["  unreliable" if is_bad else "" for is_bad in result.unreliable_rows[order]]
        if num_known is not None:
            marks = [f"  {num} known{mark}" for num, mark in zip(num_known[order], marks, strict=True)]
        shown = zip(names, result.per_example[order], result.per_example_error[order], marks, strict=False)
        for name, value, error, mark in shown:
            console().print(Text(f"{name:>{width}}  {value:.4f}  {error:.2g}{mark}"), soft_wrap=True)
    else:
        write_table(out, columns)
        console().print(
            f"Wrote log p (nats, {result.kind}) of {len(rows)} rows to {short_path(out)}: columns {', '.join(columns)}"
            f"; {counted}",
            soft_wrap=True,
        )
    log_z_error = float(result.denominator.standard_error)
    if log_z_error:
        console().print(
            f"One log Z is subtracted from every row: its s.e., {log_z_error:.2g} nats, moves all of them together and "
            "changes no difference",
            soft_wrap=True,
        )
    console().print(f"mean: {result}", soft_wrap=True)
    print_warnings(console(), "mean", result)
    console().print(f"  {made}; {result.how}", soft_wrap=True)


def _uneven_rows(num_known: np.ndarray) -> list[str]:
    """In words, that rows cannot be ranked, if they cannot."""
    fewest, most = num_known.min(), num_known.max()
    if fewest == most:
        return []
    return [
        f"Rows have from {fewest} to {most} known entries: compare log p only between rows with the same number, for "
        "each entry adds to it or takes from it"
    ]


def _placed(result: lnz.LogLikelihood, cells: Cells, observed: np.ndarray | None) -> lnz.LogLikelihood:
    """The same, with warnings that call rows as the file does."""
    told, placed = (
        faulty_rows(result.per_example, name_of)
        + useless_rows(result.num, result.numerators.weights, name_of)
        + ([] if observed is None else unknown_rows(observed, name_of))
        for name_of in ("row {}".format, cells.row)
    )
    in_file = dict(zip(told, placed, strict=True))
    return dataclasses.replace(result, warnings=tuple(in_file.get(warning, warning) for warning in result.warnings))


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
    if not np.isfinite(draws).all():
        raise ValueError(f"Nothing was written: the model in {str(folder)!r} gives draws that are not finite.")
    if run.model.space.num_values == 2:  # bits that no reader takes for dark grey values, where a file can say so
        draws = draws.astype(bool if out.suffix in (".npy", ".parquet") else np.uint8)
    if out.suffix in TABLES:
        names = run.examples.columns or tuple(str(i) for i in range(draws.shape[1]))
        write_table(out, {name: draws[:, i] for i, name in enumerate(names)})
    else:
        write_atomically(out, writers[out.suffix](run, draws))
    console().print(f"Wrote {num} samples to {short_path(out)}", soft_wrap=True)


def settings_of(
    run: Run, changes: list[str], reading: tuple[str, ...], data: str | None, evaluates: bool = True
) -> tuple[Recipe[Any], Settings]:
    """Settings of the run. Only those of the evaluation, and those `reading` other data, may be changed now."""
    recipe, wanted = find_recipe(run.recipe), parse_changes(changes)
    for name in wanted:
        if evaluates and name.startswith("evaluate."):
            continue
        if name not in reading:
            how = f"how `--data FILE` is read ({', '.join(reading)})"
            may = f"settings of `evaluate` can be changed now, and {how}" if evaluates else f"{how} can be changed now"
            raise ValueError(f"`--set {name}`: the model is trained; only {may}.")
        if data is None:
            raise ValueError(f"`--set {name}` says how other data are read: give them by `--data FILE`.")
    return recipe, recipe.resolve(wanted, read_settings(recipe, run.settings))


def examples_for(run: Run, data: str, settings: Settings) -> tuple[np.ndarray, np.ndarray | None, str, Cells]:
    """All rows of a file, or the test split of a named set, made as the run's training data were; what is known; how
    they were made, in words; and what the file calls its rows."""
    chosen = settings.data
    if data in lnz.data.names():
        recipe = find_recipe(run.recipe)
        splits = recipe.load(recipe.resolve({"data.source": data}, settings))
        return splits.test, None, _test_part(splits), Cells(splits.columns)
    rows = lnz.data.read_rows(
        data,
        columns=run.examples.columns,
        binarize=chosen.binarize,
        threshold=chosen.threshold,
        seed=chosen.seed,
        missing=chosen.missing,
        header=chosen.header,
    )
    made = ", ".join([f"all rows of {Path(data).name}", *rows.notes])
    if rows.left_out:
        more = f" and {len(rows.left_out) - 5} more" if len(rows.left_out) > 5 else ""
        made += f", without the columns {', '.join(map(tidy, rows.left_out[:5]))}{more}, which the model does not know"
    trained = run.examples.image_shape
    _check_scale(run.model.space, trained is not None, rows, data)
    _check_within(run.model.space, rows, data)
    if rows.image_shape is not None and trained is not None and tuple(rows.image_shape) != tuple(trained):
        raise ValueError(
            f"`{data}` has pictures of {' x '.join(map(str, rows.image_shape))} pixels (height x width), but the model "
            f"was trained on {' x '.join(map(str, trained))}: their pixels mean other places. Resize or turn them."
        )
    if not isinstance(rows.array, np.memmap):  # which is checked as it is read
        run.model.space.check_data(rows.array, str(data))
    return rows.array, rows.observed, made, rows.cells


def _check_scale(space: Any, are_pictures: bool, rows: Rows, data: str) -> None:
    """Refuses numbers whose meaning may be another than that of the training data, though they lie within the space.

    **Raises:** `ValueError`, with how to save them.
    """
    kind = rows.stored_as.kind
    if (space.num_values or 0) > 2:
        top = space.num_values - 1
        if kind in "bf" and _all(rows, lambda x: (x == 0) | (x == 1)) and rows.array.any():
            found = "true and false" if kind == "b" else "floats of 0 and 1 alone"
            found += f", but the model was trained on whole numbers from 0 to {top}, and 1 may mean 1 or {top} of them"
        elif rows.are_pixels and top != 255:
            found = f"pixels from 0 to 255, but the model was trained on whole numbers from 0 to {top}"
        else:
            return
        raise ValueError(f"`{data}` has {found}: save them as an .npy of uint8 on the scale of the training data.")
    if space.num_values == 2 or not are_pictures:
        return
    is_grey = kind in "iu" and rows.array.any()
    if is_grey or (kind == "f" and not _all(rows, lambda x: x <= 1) and _all(rows, lambda x: x % 1 == 0)):
        raise ValueError(
            f"`{data}` has whole numbers up to {rows.array.max():g}, but the model was trained on pictures of floats "
            "from 0 to 1: save them as an .npy of floats, divided by the full scale, which is 255 for bytes."
        )


def _all(rows: Rows, test: Callable[[np.ndarray], np.ndarray]) -> bool:
    return all(test(block).all() for _, block in blocks(rows.array))


def _check_within(space: Any, rows: Rows, data: str) -> None:
    """**Raises:** `ValueError` for a value outside the space, at its place as the file counts."""
    if rows.array.shape[1:] != space.shape:
        return  # which is told elsewhere
    for start, block in blocks(rows.array):
        bad = ~np.asarray(space.elements_within(block))
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            place = rows.cells.place(start + row, column)
            raise ValueError(f"`{data}` has the value {block[row, column]} at {place}, outside {space}. {space.advice}")


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
    from ..plots import image_grid, paper_and_ink

    buffer = io.BytesIO()
    assert run.examples.image_shape is not None
    low, high = paper_and_ink(*run.examples.values.values())
    image_grid(draws, run.examples.image_shape, low=low, high=high).savefig(buffer, format="png")
    return buffer.getvalue()
