"""Bijections one after another, and their inverses."""

from typing import Any

import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import origins
from ..spaces import AbstractSpace, same_set
from ._bijection import (
    AbstractBatchLastBijection,
    AbstractBijection,
    forward_batch_last,
    inverse_batch_last,
    start,
    waits_for_data,
)
from ._compose import _check_bijections, _split


class Inverse(AbstractBatchLastBijection):
    """`f^-1`: swaps forward and inverse."""

    bijection: AbstractBijection

    @property
    def is_affine(self) -> bool:
        return self.bijection.is_affine

    @property
    def domain(self) -> AbstractSpace:
        return self.bijection.codomain

    @property
    def codomain(self) -> AbstractSpace:
        return self.bijection.domain

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return inverse_batch_last(self.bijection, x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return forward_batch_last(self.bijection, y, key)

    @property
    def waits_for_data(self) -> bool:
        return waits_for_data(self.bijection)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Inverse", Array]:
        bijection, x = start(self.bijection, key, x, not inverse)
        return Inverse(bijection), x


class Chain(AbstractBatchLastBijection):
    """`f_k o ... o f_1`: the first bijection listed is applied first; log-determinants add.

    Source: Rezende and Mohamed (2015), equations 6 and 7; arXiv:1505.05770.
    """

    bijections: tuple[AbstractBijection, ...]

    def __init__(self, *bijections: AbstractBijection):
        self.bijections = bijections

    def __check_init__(self):
        _check_bijections(self.bijections, "Chain")
        for i, (first, second) in enumerate(zip(self.bijections[:-1], self.bijections[1:], strict=True)):
            if not same_set(first.codomain, second.domain):
                raise ValueError(
                    f"`Chain(...)`: bijection {i} ends in {first.codomain} but bijection {i + 1} starts in "
                    f"{second.domain}. Put a map from the first space onto the second between them, such as "
                    "`ToSupport(space)`, which starts in R^n, or its `Inverse`."
                )

    @property
    def is_affine(self) -> bool:
        return all(bijection.is_affine for bijection in self.bijections)

    def origins(self) -> tuple[Any, ...]:
        """The origins of the last bijection."""
        return origins(self.bijections[-1])

    @property
    def domain(self) -> AbstractSpace:
        return self.bijections[0].domain

    @property
    def codomain(self) -> AbstractSpace:
        return self.bijections[-1].codomain

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, self.bijections, x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, self.bijections[::-1], y, key)

    @property
    def waits_for_data(self) -> bool:
        return any(waits_for_data(bijection) for bijection in self.bijections)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Chain", Array]:
        order = -1 if inverse else 1
        bijections = []
        for bijection, layer_key in zip(self.bijections[::order], jr.split(key, len(self.bijections)), strict=True):
            bijection, x = start(bijection, layer_key, x, inverse)
            bijections.append(bijection)
        return Chain(*bijections[::order]), x

    def _apply(self, function, bijections, x, key):
        first_key, *keys = _split(key, len(bijections))
        x, total = function(bijections[0], x, first_key)
        for layer_key, bijection in zip(keys, bijections[1:], strict=True):
            x, log_det = function(bijection, x, layer_key)
            total = total + log_det
        return x, total
