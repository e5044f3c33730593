"""Grids: points with log weights, for sums and integrals over a space."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..numerics import log_sum


class Grid(eqx.Module):
    """Points and log weights that integrate functions on a space: `log int f = logsumexp(log f + log_w)`.

    Points are computed from their index, so that a grid of `2**25` points costs no memory. Iterate in chunks with
    `log_integral`, or unpack a small grid: `points, log_weights = space.quadrature()`.
    """

    size: int = eqx.field(static=True)
    point: Callable = eqx.field(static=True)  # index [] -> (x, log weight)
    on_edge: Callable | None = eqx.field(static=True, default=None)  # index [] -> whether the point is on the edge
    beyond: float = eqx.field(static=True, default=0.0)  # possible mass beyond the edge, in units of the mass on it

    def __call__(self, index: Int[Array, ""]):
        """The point and log weight number `index`, for `0 <= index < size`."""
        return self.point(index)

    def __iter__(self) -> Iterator:
        points, log_weights = jax.vmap(self.point)(jnp.arange(self.size))
        return iter((points, log_weights))

    def chunk_log_integrals(self, log_f: Callable, chunk_size: int = 2**14) -> Float[Array, " chunks"]:
        """`logsumexp` of `log_f(x) + log weight` over each chunk of points, in bounded memory.

        Each chunk is recomputed in the backward pass, so that gradients are bounded in memory too.
        """
        return self._by_chunks(log_f, chunk_size, lambda index, log_terms: log_sum(log_terms))

    def log_integral_and_edge(self, log_f: Callable, chunk_size: int = 2**14) -> tuple[Array, Array]:
        """`log_integral`, and the share of the integral from points on the edge (zero without an edge)."""
        if self.on_edge is None:
            total = self.log_integral(log_f, chunk_size)
            return total, jnp.zeros_like(total)
        on_edge = self.on_edge

        def sums(index, log_terms):
            return log_sum(log_terms), log_sum(jnp.where(jax.vmap(on_edge)(index), log_terms, -jnp.inf))

        totals, edges = self._by_chunks(log_f, chunk_size, sums)
        total, edge = log_sum(totals), jax.lax.stop_gradient(log_sum(edges))
        return total, jnp.where(edge == -jnp.inf, 0, jnp.exp(edge - jax.lax.stop_gradient(total)))

    def _by_chunks(self, log_f: Callable, chunk_size: int, reduce: Callable) -> Any:
        """`reduce(index, log terms)` of each chunk of points; terms past the last point are minus infinity."""
        chunk_size = min(chunk_size, self.size)
        num_chunks = -(-self.size // chunk_size)

        @jax.checkpoint
        def one_chunk(first):
            index = jnp.minimum(first + jnp.arange(chunk_size), self.size - 1)
            log_terms = jax.vmap(lambda i: self._log_term(log_f, i))(index)
            return reduce(index, jnp.where(first + jnp.arange(chunk_size) < self.size, log_terms, -jnp.inf))

        return jax.lax.map(one_chunk, jnp.arange(num_chunks) * chunk_size)

    def log_integral(self, log_f: Callable, chunk_size: int = 2**14) -> Float[Array, ""]:
        """`log int exp(log_f(x)) dx` in nats, with respect to the space's base measure."""
        return jax.scipy.special.logsumexp(self.chunk_log_integrals(log_f, chunk_size))

    def highest(self, log_f: Callable, chunk_size: int = 2**14) -> Int[Array, ""]:
        """The index of the point with the largest `log_f(x) + log weight`."""
        largest, index = self._by_chunks(
            log_f, chunk_size, lambda index, log_terms: (jnp.max(log_terms), index[jnp.argmax(log_terms)])
        )
        return index[jnp.argmax(largest)]

    def sample(self, key, log_f: Callable, num: int, chunk_size: int = 2**10):
        """`num` independent exact draws from `exp(log_f)` on the grid points, `[num, ...]`.

        A draw picks a chunk and then a point in it, so that memory holds a few chunks, and one number for each chunk.
        Both choices use about 46 random bits. With its default of 23 bits `jax.random.categorical` prefers the first of
        many equal points, and never draws points with probabilities below about 1e-7.
        """
        chunk_size = min(chunk_size, self.size)
        log_masses = self.chunk_log_integrals(log_f, chunk_size)

        def one(key):
            key_chunk, key_point = jax.random.split(key)
            first = jax.random.categorical(key_chunk, log_masses, mode="high") * chunk_size
            index = jnp.minimum(first + jnp.arange(chunk_size), self.size - 1)
            log_p = jax.vmap(lambda i: self._log_term(log_f, i))(index)
            log_p = jnp.where(first + jnp.arange(chunk_size) < self.size, log_p, -jnp.inf)
            return index[jax.random.categorical(key_point, log_p, mode="high")]

        index = jax.lax.map(one, jax.random.split(key, num), batch_size=8)
        return jax.vmap(self.point)(index)[0]

    def _log_term(self, log_f: Callable, index):
        x, log_weight = self.point(index)
        value = log_f(x)
        return value + log_weight.astype(value.dtype)


def _enumeration(shape: tuple[int, ...], num_categories: int, dtype) -> Grid:
    num = math.prod(shape)
    size = num_categories**num
    if size > 2**31 - 1:
        raise ValueError(
            f"Enumerating {num_categories}**{num} points is out of reach. Use `lnz.normalizers.AIS` instead."
        )
    place_values = np.array([num_categories**i for i in range(num)], dtype=np.int32)

    def point(index):
        digits = (index.astype(jnp.int32) // place_values) % num_categories
        kind = jnp.result_type(float) if dtype is float else jnp.int32
        return digits.reshape(shape).astype(kind), jnp.zeros((), jnp.result_type(float))

    return Grid(size, point)


def _trapezoid(shape: tuple[int, ...], num: int, bounds: tuple[float, float], shift: float | Array | None) -> Grid:
    if num < 2:
        raise ValueError(f"`quadrature(num=...)` needs at least 2 points a dimension; got {num}.")
    num_dimensions, num_steps = math.prod(shape), num - 1
    size, beyond = num**num_dimensions, num / 2  # a tail like x^-2 has the mass of num / 2 edge points
    if size > 2**31 - 1:
        raise ValueError(
            f"A grid of {num}**{num_dimensions} points is out of reach. Use `lnz.normalizers.Importance` or `AIS`."
        )
    low, high = bounds
    step = (high - low) / num_steps
    num = num if shift is None else num_steps
    place_values = np.array([num**i for i in range(num_dimensions)], dtype=np.int32)

    def at_ends(index):
        digits = (index.astype(jnp.int32) // place_values) % num
        return digits, (digits == 0) | (digits == num - 1)

    def point(index):
        dtype = jnp.result_type(float)
        digits, at_end = at_ends(index)
        log_weight = num_dimensions * math.log(step)
        if shift is None:  # the points at the ends have half a step, on one side only
            log_weight = log_weight - math.log(2) * jnp.sum(at_end, dtype=dtype)
        places = digits.astype(dtype) + (0 if shift is None else jnp.asarray(shift, dtype))
        return (low + step * places).reshape(shape), jnp.asarray(log_weight, dtype)

    return Grid(num**num_dimensions, point, lambda index: jnp.any(at_ends(index)[1]), beyond)


def _grid_size(sizes: list[int]) -> int:
    size = math.prod(sizes)
    if size > 2**31 - 1:
        raise ValueError(f"A grid of {size} points is out of reach. Use `lnz.normalizers.Importance` or `AIS`.")
    return size
