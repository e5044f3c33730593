"""Bijections side by side, on parts of an array."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..spaces import AbstractSpace, same_set, side_by_side
from ._bijection import (
    AbstractBatchLastBijection,
    AbstractBijection,
    forward_batch_last,
    inverse_batch_last,
    start,
    waits_for_data,
)
from ._compose import _check_bijections, _check_stackable, _split, _stacked


class Concatenate(AbstractBatchLastBijection):
    """`y = (f_1(x_1), ..., f_k(x_k))`: bijections side by side, each on its own part of a vector.

    **Arguments:**

    - `bijections`: maps of vectors. Their domains, joined in order, are the domain, and likewise their codomains.
      Log-determinants add.
    """

    bijections: tuple[AbstractBijection, ...]
    # Fields, because every level of nested maps would compute properties again.
    domain: AbstractSpace = eqx.field(static=True)
    codomain: AbstractSpace = eqx.field(static=True)

    def __init__(self, *bijections: AbstractBijection):
        self.bijections = bijections
        self.domain, self.codomain = _ends_of_concatenate(bijections)

    def __check_init__(self):
        _check_ends(self, _ends_of_concatenate(self.bijections))

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, x, key, [part.domain for part in self.bijections])

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, y, key, [part.codomain for part in self.bijections])

    @property
    def waits_for_data(self) -> bool:
        return any(waits_for_data(part) for part in self.bijections)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Concatenate", Array]:
        spaces = [part.codomain if inverse else part.domain for part in self.bijections]
        ends = np.cumsum([space.shape[0] for space in spaces]).tolist()
        pieces = jnp.split(x, ends[:-1], axis=1)
        bijections, pieces = _start_each(self.bijections, key, pieces, inverse)
        return Concatenate(*bijections), jnp.concatenate(pieces, axis=1)

    def _apply(self, function, x, key, spaces):
        ends = np.cumsum([space.shape[0] for space in spaces]).tolist()
        keys = _split(key, len(spaces))
        pieces = [
            function(part, x[end - space.shape[0] : end], part_key)
            for part, part_key, space, end in zip(self.bijections, keys, spaces, ends, strict=True)
        ]
        log_dets = [log_det for _, log_det in pieces]
        return jnp.concatenate([piece for piece, _ in pieces]), sum(log_dets[1:], log_dets[0])


def _start_each(bijections, key, xs, inverse):
    """The started bijections, and the rows that leave each of them; `xs[i] [n, ...]` enter bijection i."""
    keys = jr.split(key, len(bijections))
    started = [start(*part, inverse) for part in zip(bijections, keys, xs, strict=True)]
    return [bijection for bijection, _ in started], [x for _, x in started]


class Stack(AbstractBatchLastBijection):
    """`y[i] = f_i(x[i])`: bijections side by side, each on its own slice along a new first axis.

    **Arguments:**

    - `bijections`: maps with the same domain and the same codomain. Both spaces must allow any shape: Euclidean,
      positive, an interval or angles. Log-determinants add.

    If the bijections differ only in their arrays, `Vmap` compiles faster. To join vectors of different lengths, or of
    different spaces, use `Concatenate`.
    """

    bijections: tuple[AbstractBijection, ...]
    domain: AbstractSpace = eqx.field(static=True)
    codomain: AbstractSpace = eqx.field(static=True)

    def __init__(self, *bijections: AbstractBijection):
        self.bijections = bijections
        self.domain, self.codomain = _ends_of_stack(bijections)

    def __check_init__(self):
        _check_ends(self, _ends_of_stack(self.bijections))

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, y, key)

    @property
    def waits_for_data(self) -> bool:
        return any(waits_for_data(part) for part in self.bijections)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Stack", Array]:
        bijections, slices = _start_each(self.bijections, key, jnp.moveaxis(x, 1, 0), inverse)
        return Stack(*bijections), jnp.stack(slices, axis=1)

    def _apply(self, function, x, key):
        keys = _split(key, len(self.bijections))
        pieces = [function(*part) for part in zip(self.bijections, x, keys, strict=True)]
        return jnp.stack([piece for piece, _ in pieces]), jnp.sum(jnp.stack([log_det for _, log_det in pieces]), axis=0)


def _ends_of_concatenate(bijections: Any) -> tuple[AbstractSpace, AbstractSpace]:
    _check_bijections(bijections, "Concatenate")
    for i, part in enumerate(bijections):
        if len(part.domain.shape) != 1 or len(part.codomain.shape) != 1:
            raise ValueError(
                f"`Concatenate(...)` joins bijections of vectors; number {i} goes from {part.domain} to "
                f"{part.codomain}."
            )
    return side_by_side([part.domain for part in bijections]), side_by_side([part.codomain for part in bijections])


def _ends_of_stack(bijections: Any) -> tuple[AbstractSpace, AbstractSpace]:
    _check_bijections(bijections, "Stack")
    first = bijections[0]
    for i, part in enumerate(bijections):
        if not same_set(part.domain, first.domain) or not same_set(part.codomain, first.codomain):
            raise ValueError(
                f"`Stack(...)` needs bijections with the same domain and codomain; number 0 goes from {first.domain} "
                f"to {first.codomain}, number {i} from {part.domain} to {part.codomain}. `Concatenate(...)` joins "
                "vectors of different spaces."
            )
    _check_stackable((first.domain, first.codomain), "Stack(...)")
    return _stacked(first.domain, len(bijections)), _stacked(first.codomain, len(bijections))


def _check_ends(bijection: Any, ends: tuple[AbstractSpace, AbstractSpace]) -> None:
    """**Raises:** `ValueError` if the fields disagree with the parts, after loading a file or replacing a part."""
    if (bijection.domain, bijection.codomain) != ends:
        raise ValueError(
            f"The parts of `{type(bijection).__name__}` go from {ends[0]} to {ends[1]}, but its fields say from "
            f"{bijection.domain} to {bijection.codomain}."
        )
