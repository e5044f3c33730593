"""Draws from trained models, shown beside test examples."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import (
    AbstractDensity,
    AbstractDistribution,
    AbstractSampler,
    root_of,
)
from ..evaluation import UnreliableSampleWarning, sample
from ..modules import model_dtype
from ..runs import Examples, Run
from ..samplers import default_sampler, possible_positions
from ._figures import marginals, scatter
from ._html import captioned, drawing, image, joined, number, pieces
from ._pixels import encode, grey_scale, montage, paper_and_ink

_NUM_IMAGES = 36
_NUM_STEPS = 1000
_NUM_CHAINS = 8
_CHAIN_STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_NUM_EXACT_ROWS, _NUM_CHAIN_ROWS = 2000, 200
_NUM_MARGINALS = 6
_NUM_CELLS = 120


def samples(runs: Mapping[str, Run]) -> str:
    """Test examples, followed by samples of every model, all drawn in the same style."""
    examples = next(iter(runs.values())).examples
    if examples.image_shape is not None:
        tiles = _pictures(runs, examples, examples.image_shape)
    elif _are_continuous(runs):
        tiles = [_marginals(name, run) for name, run in runs.items()]
        return pieces().samples("panels", tiles)
    else:
        tiles = _matrices(runs, examples)
    return pieces().samples("tiles", tiles)


def chains(run: Run) -> str:
    """The pictures that Markov chains pass through; empty for models that need no chains, or without pictures."""
    shape = run.examples.image_shape
    if shape is None or _is_exact(run.model):
        return ""
    title = "Markov chains"
    try:
        path = _walk(run.model, as_rows(run.examples.values["some"])[:_NUM_CHAINS])
    except (TypeError, ValueError) as error:
        return captioned(title, f"none: {error}", "")
    if path.positions[0][0].size != shape[0] * shape[1]:
        return ""
    columns = len(_CHAIN_STEPS)
    flat = path.positions.reshape(len(path.positions) * columns, -1)
    low, high = paper_and_ink(*run.examples.values.values())
    words = (
        f"Each line is a chain of {path.sampler} steps, started at {path.start}; the numbers of steps are above. "
        "Chains that mix well soon forget where they started: lines change from column to column, look different from "
        "each other, and stay like the data. If a line keeps one picture for hundreds of steps, samples cover little "
        "of the model, and so does training by such chains."
    )
    alt = f"{len(path.positions)} chains at steps {', '.join(map(str, _CHAIN_STEPS))}"
    picture = image(encode(montage(flat, shape, columns), low, high, size=800), alt)
    return captioned(f"{path.sampler} chains", words, joined([pieces().steps(_CHAIN_STEPS), picture]))


def as_rows(values: Any) -> np.ndarray:
    """`[n, d]`, whatever the shape of one example."""
    array = np.asarray(values, float)
    return array.reshape(len(array), -1)


def column_names(examples: Examples, num: int) -> list[str]:
    """Names of the columns, or their numbers if they have no names."""
    if examples.columns is not None and len(examples.columns) == num:
        return list(examples.columns)
    return [f"column {i}" for i in range(num)]


@dataclasses.dataclass(frozen=True)
class _Walk:
    positions: np.ndarray  # [chains, steps, ...]
    sampler: str
    start: str


def _walk(model: Any, rows: np.ndarray) -> _Walk:
    """Positions of chains after each number of steps in `_CHAIN_STEPS`."""
    key_start, key_steps = jr.split(jr.key(1))
    if model.ancestor is not None:
        # The latents of a test example are unknown, so these chains start at draws.
        density, start = model.ancestor(), "a draw from the start of annealing"
        positions = eqx.filter_jit(possible_positions)(key_start, density, len(rows))
    else:
        density, start = model, "a test example"
        positions = model.space.cast(rows.reshape(-1, *model.space.shape), model_dtype(model))
    sampler = default_sampler(density)
    states = _start_chains(key_start, density, sampler, positions)
    visited, last = [], 0
    for step in _CHAIN_STEPS:
        states = _advance(key_steps, density, sampler, states, jnp.asarray(last), jnp.asarray(step))
        x = states.position if model.descend is None else _descend(key_steps, model, states.position)
        visited.append(np.asarray(x))
        last = step
    return _Walk(np.stack(visited, axis=1), type(sampler).__name__, start)


@eqx.filter_jit
def _descend(key: PRNGKeyArray, model: Any, states: Array) -> Array:
    return jax.vmap(model.descend)(jr.split(key, len(states)), states)


@eqx.filter_jit
def _start_chains(key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, positions: Array):
    keys = jr.split(key, len(positions))
    return jax.vmap(lambda k, x: sampler.init(k, density, x))(keys, positions)


@eqx.filter_jit
def _advance(key: PRNGKeyArray, density: AbstractDensity, sampler: AbstractSampler, states, first: Array, last: Array):
    """Advances chains from step `first` to step `last`; compiled once for all such pairs."""

    def step(i, states):
        keys = jr.split(jr.fold_in(key, i), len(states.position))
        return jax.vmap(lambda k, s: sampler.step(k, density, s)[0])(keys, states)

    return jax.lax.fori_loop(first, last, step, states)


def _is_exact(model: Any) -> bool:
    """Whether samples are independent draws, as they are if the root of the model is a distribution."""
    return isinstance(root_of(model), AbstractDistribution)


def _draw(model: Any, num: int) -> tuple[np.ndarray | None, str]:
    """Samples `[num, d]`, or `None`, and a description of how they were drawn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnreliableSampleWarning)
        try:
            drawn = sample(jr.key(0), model, num, num_steps=_NUM_STEPS)
        except (TypeError, ValueError) as error:
            return None, f"none: {error}"
    words = "independent draws" if _is_exact(model) else f"one chain each, {_NUM_STEPS} steps"
    for warning in caught:
        if issubclass(warning.category, UnreliableSampleWarning):
            words += f". {warning.message}"
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    rows = as_rows(drawn)
    num_bad = int(np.sum(~np.isfinite(rows).all(axis=1)))
    return rows, words + (f"; {num_bad} of {num} are not finite" if num_bad else "")


def _pictures(runs: Mapping[str, Run], examples: Examples, shape: tuple[int, int]) -> list[str]:
    low, high = paper_and_ink(*examples.values.values())
    some = as_rows(examples.values["some"])[:_NUM_IMAGES]
    drawn = {name: _draw(run.model, _NUM_IMAGES) for name, run in runs.items()}
    tiles = {"Test examples": (some, "what samples should be like"), **drawn}
    return [
        _tile(name, words, None if rows is None or rows[0].size != some[0].size else montage(rows, shape), low, high)
        for name, (rows, words) in tiles.items()
    ]


def _matrices(runs: Mapping[str, Run], examples: Examples) -> list[str]:
    """Pictures of rows of bits or categories: a line per row, a cell per column."""
    some = as_rows(examples.values["some"])[:_NUM_IMAGES]
    low, high = grey_scale(*examples.values.values())
    words = "a line is a row, a cell a column" + (f", the first {_NUM_CELLS}" if some.shape[1] > _NUM_CELLS else "")
    drawn = {name: _draw(run.model, _NUM_IMAGES) for name, run in runs.items()}
    tiles = {"Test rows": (some, words), **drawn}
    return [
        _tile(name, words, None if rows is None else _as_cells(rows[:, :_NUM_CELLS]), low, high)
        for name, (rows, words) in tiles.items()
    ]


def _as_cells(rows: np.ndarray) -> np.ndarray:
    return montage(np.repeat(rows.reshape(-1, 1), 16, axis=1), (4, 4), rows.shape[1])


def _tile(title: str, words: str, pixels: np.ndarray | None, low: float, high: float) -> str:
    content = "" if pixels is None else image(encode(pixels, low, high), f"{title}: {words}")
    return captioned(title, words, content)


def _are_continuous(runs: Mapping[str, Run]) -> bool:
    space = next(iter(runs.values())).model.space
    return not space.measure.is_counting


def _marginals(name: str, run: Run) -> str:
    drawn, words = _draw(run.model, _NUM_EXACT_ROWS if _is_exact(run.model) else _NUM_CHAIN_ROWS)
    if drawn is None:
        return captioned(name, words, "")
    some = as_rows(run.examples.values["some"])
    num = min(_NUM_MARGINALS, some.shape[1])
    names = column_names(run.examples, some.shape[1])[:num]
    words = f"{number(len(drawn), ',d')} {words}"
    if some.shape[1] == drawn.shape[1] == 2:
        return drawing(name, words, lambda ink: scatter(drawn, some, names, ink=ink))
    words += ", column by column"
    words += f" (the first {num} of {some.shape[1]})" if num < some.shape[1] else ""
    return drawing(name, words, lambda ink: marginals(drawn[:, :num], some[:, :num], names, ink=ink))
