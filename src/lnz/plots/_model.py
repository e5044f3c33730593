"""The section of one run: training, log Z, parameters, chains, extreme test rows, and every setting."""

import json
from typing import Any

import numpy as np

from ..distributions import Bernoulli, Mixture
from ..energy import DBM, RBM, BernoulliUnits
from ..runs import Examples, Run, flatten
from ._annealing import annealing
from ._draws import as_rows, chains, column_names
from ._figures import training_curves
from ._html import captioned, drawing, image, joined, number, pieces, shortened, table
from ._latent_section import activity, latents
from ._pixels import SIGNED, encode, montage, paper_and_ink, signed_limit
from ._plane import plane

_NUM_FILTERS = 100
_NUM_TABLE_ROWS, _NUM_TABLE_COLUMNS = 8, 8
_KINDS = {"least": "Least likely test rows", "most": "Most likely test rows"}


def model_section(name: str, run: Run) -> str:
    panels = []
    if len(run.history) > 1:
        words = "valid is the mean of held-out examples" if any("valid" in record for record in run.history) else ""
        panels.append(drawing("Training", words, lambda ink: training_curves(run.history, ink=ink)))
    panels += [annealing(run), plane(run), activity(run), _parameters(run.model, run.examples.image_shape)]
    walks = latents(run) or chains(run)
    content = _arranged(joined(panels), walks, _extremes(run), run.examples)
    return pieces().model(name, run.title, _training(run), content, _settings(run))


def _arranged(panels: str, walks: str, extremes: str, examples: Examples) -> str:
    """Picture data: figures in two groups. Tables: the figures beside the extreme rows, which are wide."""
    box = pieces().box
    if examples.image_shape is None:
        return box("beside", joined([box("", panels), box("", extremes)]))
    wide = joined([walks, box("", extremes)]) if walks else extremes
    return joined([box("panels", panels), box("wide", wide)])


def _training(run: Run) -> str:
    """A sentence on how training ended."""
    last = run.history[-1]["step"] if run.history else 0
    planned = run.settings.get("train", {}).get("steps", last)
    seconds = f"{run.seconds['train']:.1f} s, compiling apart"
    # The status of diverged training is a whole sentence.
    status = run.status.removeprefix("Training ").removesuffix(".")
    return f"Training: {status}. {last:,} of {planned:,} steps in {seconds}."


def _settings(run: Run) -> list[tuple[str, str]]:
    words = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in flatten(run.settings))
    settings = [("recipe", run.recipe), *words, ("parameters", f"{run.num_parameters:,}")]
    settings += [(f"{what} seconds", f"{duration:.1f}") for what, duration in run.seconds.items()]
    if run.digest is not None:
        settings.append(("data digest", run.digest))
    return settings


def _parameters(model: Any, shape: tuple[int, int] | None) -> str:
    """Pictures of the parameters, for models whose parameters can be shown; otherwise empty."""
    if shape is None or model.space.size != shape[0] * shape[1]:
        return ""
    if isinstance(model, RBM) and isinstance(model.visible, BernoulliUnits):
        return _filters(np.asarray(model.W), shape)
    if isinstance(model, DBM):
        return _filters(np.asarray(model.weights[0]), shape)
    if isinstance(model, Mixture) and isinstance(model.components, Bernoulli):
        means = np.asarray(model.components.probs)[np.argsort(-np.asarray(model.weights))][:_NUM_FILTERS]
        words = f"the mean of each of the {len(means)} heaviest components, heaviest first"
        return captioned("Components", words, image(encode(montage(means, shape), 0, 1), f"Components: {words}"))
    if isinstance(model, Bernoulli):
        pixels = montage(np.asarray(model.probs)[None], shape)
        words = "the probability of each pixel"
        return captioned("Mean image", words, image(encode(pixels, 0, 1), f"Mean image: {words}", "small"))
    return ""


def _filters(W: np.ndarray, shape: tuple[int, int]) -> str:
    num = W.shape[1]
    words = f"the weights of each of the {num} hidden units"
    if num > _NUM_FILTERS:
        words = f"the weights of {_NUM_FILTERS} of {num} hidden units, those with the largest"
        W = W[:, np.argsort(-np.linalg.norm(W, axis=0))[:_NUM_FILTERS]]
    limit = signed_limit(W)
    pixels = encode(montage(W.T, shape), -limit, limit, colours=SIGNED)
    ends = [number(value, ".2g") for value in (-limit, limit)]
    return captioned("Filters", words, joined([image(pixels, f"Filters: {words}"), pieces().scale(*ends)]))


def _extremes(run: Run) -> str:
    log_probs = run.rows[run.recipe].per_example
    return joined(
        _extreme(title, run.examples, kind, np.asarray(log_probs)[run.examples.rows[kind]])
        for kind, title in _KINDS.items()
        if run.examples.rows.get(kind)
    )


def _extreme(title: str, examples: Examples, kind: str, log_probs: np.ndarray) -> str:
    values = as_rows(examples.values[kind])
    numbers = [f"row {row}" for row in examples.rows[kind]]
    places = (examples.places or {}).get(kind, numbers)
    of_file = examples.places is not None and len(places) == len(numbers)
    places = places if of_file else numbers
    words = f"log p in nats, {_counted(places, of_file)}"
    if examples.image_shape is None:
        return _extreme_table(title, words, examples, places, values, log_probs)
    low, high = paper_and_ink(*examples.values.values())
    tiles = joined(
        captioned(
            _short(log_prob),
            shortened(place.removeprefix("file "), 14),
            image(_tile(pixels, examples, low, high), f"test row: {place}"),
        )
        for place, pixels, log_prob in zip(places, values, log_probs, strict=True)
    )
    return captioned(title, words, pieces().box("rows", tiles))


def _short(log_prob: float) -> str:
    return number(log_prob, ".2f" if abs(log_prob) < 100 else ".1f")


def _tile(pixels: np.ndarray, examples: Examples, low: float, high: float) -> bytes:
    assert examples.image_shape is not None
    return encode(pixels.reshape(examples.image_shape), low, high, size=100)


def _counted(places: list[str], of_file: bool) -> str:
    """A phrase on how rows are counted."""
    if places[0].startswith("line "):
        return "and the line of the file, whose header counts too"
    if places[0].startswith("file "):
        return "and the name of the file"
    return f"and the row of the {'file' if of_file else 'test split'}, from 0"


def _extreme_table(
    title: str, words: str, examples: Examples, places: list[str], values: np.ndarray, log_probs: np.ndarray
) -> str:
    names = column_names(examples, values.shape[1])
    if len(names) > _NUM_TABLE_COLUMNS:
        words += f"; the first {_NUM_TABLE_COLUMNS} of {len(names)} columns"
    heads = (places[0].split(" ")[0], "log p", *names[:_NUM_TABLE_COLUMNS])
    cells = [
        (
            place.split(" ", 1)[-1],
            number(log_prob, ".2f"),
            *(number(value, ".4g") for value in example[:_NUM_TABLE_COLUMNS]),
        )
        for place, example, log_prob in zip(places, values, log_probs, strict=True)
    ]
    return captioned(title, words, table(title, heads, cells[:_NUM_TABLE_ROWS]))
