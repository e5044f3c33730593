"""Commands on a trained run: evaluate, sample and score."""

import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from rich.text import Text

import lnz

from .. import core
from ..data import UnboundedDensityWarning, digest_of
from ..files import short_path, write_atomically
from ..modules import model_dtype
from ..recipes import find_recipe
from ..runs import (
    Recipe,
    Run,
    Settings,
    locked,
    replacing,
    rows_for,
    score_order,
    score_rows,
    score_table,
    settings_now,
    splits_of,
    test_rows,
    to_json,
    write_text,
)
from ._console import console
from ._files import TABLES, check_ending, write_table
from ._progress import show_rows
from ._table import print_comparison, print_warnings
from ._train import parse_changes

_NUM_SHOWN = 10
_MOST_DIAGNOSED, _NUM_SIMULATED = 200, 32
_MOST_ANNEALED = 100
_COUNTED = {
    "line": "lines count from 1, the header among them",
    "file": "in natural order of their names",
    "row": "rows count from 0",
}


@dataclasses.dataclass(frozen=True)
class Annealing:
    """The chains and temperatures of `lnz evaluate --ais`."""

    num_chains: int = 20  # enough for an effective number above 10, below which an error bar is unreliable
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
    """The command `lnz evaluate`: on the run's test split, on some of its rows, or on other data.

    Only an evaluation on the whole test split replaces the results of the run.
    """
    from ..plots import write_report

    if out is not None:
        check_ending(out, (".json",))
    run = Run.read(folder)
    if annealing is not None:
        _check_can_be_annealed(folder, run.model)
    if with_diagnosis and not isinstance(run.model, lnz.AbstractLatentModel):
        raise ValueError(f"`--diagnose` needs a model with latents; {str(folder)!r} is a {type(run.model).__name__}.")
    recipe = find_recipe(run.recipe)
    settings = settings_now(run, recipe, parse_changes(changes), data)
    if data is not None:
        given = rows_for(run, recipe, settings, data)
        _warn_of_training_data(run, folder, data)
    else:
        given = test_rows(splits_of(folder, run, recipe, settings))
    if num_rows is None:
        num_rows = len(given) if annealing is None else min(len(given), _MOST_ANNEALED)
    is_whole = data is None and num_rows == len(given)
    given = given.some(num_rows)
    results = recipe.judge(run.model, given.array, settings, given.observed)
    if annealing is not None:
        results |= _annealed(recipe, run.model, given.array, settings, annealing)
    results = {name: result.with_warnings(run.warnings) for name, result in results.items()}
    for name, result in results.items():
        if not result.value < np.inf:
            raise ValueError(f"{name} has no likelihood, and nothing was written: {result.warnings[0]}.")
    if is_whole:
        bracket = recipe.bracket_log_z(run.model, settings)
        run = dataclasses.replace(run, settings=settings.model_dump(), rows=results, bracket=bracket)
        with locked(folder), replacing(folder) as stage:  # both files at once; the training stays as it is
            run.write_report(stage)
            write_report(stage / "report.html", {folder.resolve().name: run})
        console().print(f"Wrote {short_path(folder / 'report.html')}: open it in a browser", soft_wrap=True)
    for name, result in results.items():
        console().print(f"{name}: {result}", soft_wrap=True)
        print_warnings(console(), name, result)
        console().print(f"  {given.made}; {result.how}", soft_wrap=True)
    if annealing is not None:
        print_comparison(
            console(), {folder.resolve().name: dataclasses.replace(run, rows=results, data_protocol=given.made)}
        )
    if is_whole and run.bracket is not None:
        console().print(f"log Z: {run.bracket}", soft_wrap=True)
    if with_diagnosis:
        _diagnose(run.model, given.array, given.made, settings.seed)
    if out is not None:
        content = {name: {**core.to_json(result), "data_protocol": given.made} for name, result in results.items()}
        write_text(out, to_json(content, indent=2) + "\n")
        console().print(f"Wrote {short_path(out)}", soft_wrap=True)


def _check_can_be_annealed(folder: Path, model: Any) -> None:
    if not isinstance(model, lnz.AbstractLatentModel):
        raise ValueError(f"`--ais` needs a model with latents; {str(folder)!r} is a {type(model).__name__}.")
    if not model.prior.space.is_euclidean:
        raise ValueError(
            f"`--ais` moves latents by HMC, which needs a Euclidean space; the latents of {str(folder)!r}, a "
            f"{type(model).__name__}, live on {model.prior.space}."
        )


def _annealed(
    recipe: Recipe[Any], model: lnz.AbstractLatentModel, rows: np.ndarray, settings: Settings, annealing: Annealing
) -> dict[str, lnz.LogLikelihood]:
    """The likelihoods of `rows` by annealing from q(z | x) to the posterior."""
    sampler = lnz.adapted_hmc(jr.fold_in(jr.key(settings.seed), 3), model)
    method = lnz.normalizers.AIS(annealing.num_chains, annealing.num_betas, sampler=sampler)
    with show_rows(console(), "annealing", len(rows)) as progress:
        results = recipe.judge(model, rows, settings, hidden=method, progress=progress)
    x = model.space.cast(rows[0], model_dtype(model))
    start = "the prior" if eqx.filter_eval_shape(model.posterior, x) is None else "q(z | x)"
    return {f"{name} (AIS)": result.with_notes(f"annealed from {start}") for name, result in results.items()}


def _diagnose(model: lnz.AbstractLatentModel, rows: np.ndarray, made: str, seed: int) -> None:
    """Print the parts of the bound on some rows, and how far off it can be on examples drawn from the model."""
    some = rows[:: max(1, -(-len(rows) // _MOST_DIAGNOSED))]
    key_diagnose, key_bracket = jr.split(jr.fold_in(jr.key(seed), 2))
    console().print(f"\nDiagnosis of {len(some)} evenly spaced rows, about a minute: {made}", soft_wrap=True)
    console().print(str(lnz.diagnose(key_diagnose, model, some)), soft_wrap=True)
    if model.prior.space.is_euclidean:
        with show_rows(console(), "annealing the model's own examples from both sides", _NUM_SIMULATED) as progress:
            size = -(-_NUM_SIMULATED // 4)
            bracket = lnz.simulated_bracket(key_bracket, model, _NUM_SIMULATED, batch_size=size, progress=progress)
        console().print(f"{bracket}; it is not about these rows", soft_wrap=True)


def score(folder: Path, data: str, out: Path | None, anomalous_first: bool, changes: list[str]) -> None:
    """The command `lnz score`."""
    if out is not None:
        check_ending(out, TABLES)
    run = Run.read(folder)
    recipe = find_recipe(run.recipe)
    settings = settings_now(run, recipe, parse_changes(changes), data)
    given = rows_for(run, recipe, settings, data)
    _warn_of_training_data(run, folder, data)
    with warnings.catch_warnings():
        # These are printed beneath the scores, with row names from the file.
        for told in (lnz.UnreliableEstimateWarning, UnboundedDensityWarning):
            warnings.simplefilter("ignore", told)
        result = score_rows(run, recipe, settings, given)
    order = score_order(result, given) if anomalous_first else np.arange(len(given))
    kind = given.cells.kind
    counted = "the least likely first" if anomalous_first and kind == "file" else _COUNTED[kind]
    columns = score_table(result, given, order)
    if out is None:
        which = "most anomalous" if anomalous_first else "first"
        console().print(
            f"The {min(_NUM_SHOWN, len(given))} {which} of {len(given)} rows: log p in nats ({result.kind}), higher is "
            f"likelier, and its own Monte Carlo s.e.; {counted}",
            soft_wrap=True,
        )
        names = [str(name) for name in columns[kind][:_NUM_SHOWN]]
        width = max(8, *map(len, names))
        marks = ["  unreliable" if is_bad else "" for is_bad in result.unreliable_rows[order]]
        if "known_entries" in columns:
            marks = [f"  {num} known{mark}" for num, mark in zip(columns["known_entries"], marks, strict=True)]
        shown = zip(names, columns["log_prob"], columns["standard_error"], marks, strict=False)
        for name, value, error, mark in shown:
            console().print(Text(f"{name:>{width}}  {value:.4f}  {error:.2g}{mark}"), soft_wrap=True)
    else:
        write_table(out, columns)
        console().print(
            f"Wrote log p (nats, {result.kind}) of {len(given)} rows to {short_path(out)}: columns {', '.join(columns)}"
            f"; {counted}",
            soft_wrap=True,
        )
    log_z_error = float(result.denominator.standard_error)
    if log_z_error:
        console().print(
            f"One log Z is subtracted from every row: its s.e., {log_z_error:.2g} nats, moves all rows together and "
            "does not change their differences",
            soft_wrap=True,
        )
    console().print(f"mean: {result}", soft_wrap=True)
    print_warnings(console(), "mean", result)
    console().print(f"  {given.made}; {result.how}", soft_wrap=True)


def sample(folder: Path, num: int, out: Path, num_steps: int, seed: int) -> None:
    """The command `lnz sample`."""
    writers = {".npy": _npy, ".png": _png, **TABLES}
    check_ending(out, writers)
    run = Run.read(folder)
    if out.suffix == ".png" and run.examples.image_shape is None:
        raise ValueError(f"`--out {out}`: the examples of {str(folder)!r} are not pictures; try .csv.")
    if not 0 <= seed < 2**63:
        raise ValueError(f"`--seed` must be a whole number from 0 to 2**63 - 1; got {seed}.")
    draws = np.asarray(lnz.sample(jr.key(seed), run.model, num, num_steps=num_steps))
    if not np.isfinite(draws).all():
        raise ValueError(f"Nothing was written: the model in {str(folder)!r} gives draws that are not finite.")
    if run.model.space.num_values == 2:  # a type that no reader takes for dark grey values, where the format has one
        draws = draws.astype(bool if out.suffix in (".npy", ".parquet") else np.uint8)
    if out.suffix in TABLES:
        names = run.examples.columns or tuple(str(i) for i in range(draws.shape[1]))
        write_table(out, {name: draws[:, i] for i, name in enumerate(names)})
    else:
        write_atomically(out, writers[out.suffix](run, draws))
    console().print(f"Wrote {num} samples to {short_path(out)}", soft_wrap=True)


def _warn_of_training_data(run: Run, folder: Path, data: str) -> None:
    """Warn if `data` is the file of the run's training, since the model learnt from most of its rows."""
    if run.digest is not None and data not in lnz.data.names() and digest_of(Path(data)) == run.digest:
        console().print(
            f"Warning: this run was trained on {data}. The model learnt from most of its rows, so its numbers are too "
            f"good; `lnz evaluate {short_path(folder)}` uses the test part alone.",
            soft_wrap=True,
        )


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
