"""Divergences between densities of few dimensions, by quadrature."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._check import check_positive
from ._density import AbstractDensity
from ._estimate import Estimate
from ._space import AbstractSpace, Counts, Euclidean

# In two dimensions a grid of 2,897 points a side.
_MAX_POINTS = 2**23
_CHUNK = 2**14


def kl_divergence(
    q: AbstractDensity, p: AbstractDensity, *, num: int = 401, bounds: tuple[float, float] = (-10.0, 10.0)
) -> Estimate:
    """`KL(q || p) = int q log(q / p)` in nats, on a grid: a number to judge an approximation by.

    Both densities are normalised on the grid, so that neither needs to be in itself; swap them for `KL(p || q)`.
    Finite spaces are enumerated, and the value is then exact. Otherwise the error is the difference from the grid with
    every other point: no statistical error. It is small only if the grid resolves the narrowest part of either density:
    a flow may have folds that are finer than its target.

    **Arguments:**

    - `q`, `p`: densities on spaces of one shape, of one or two dimensions, or finite.
    - `num`, `bounds`: points a dimension, odd, and the ends of the grid, as for `lnz.normalizers.Quadrature`.

    **Returns:** an `Estimate`; `stats` has `log_integral_q` and `log_integral_p`, the log normalisers on the grid. For
    a distribution it must be near zero: what is missing has been missed by the grid. The value is infinite where q
    has mass and p none.

    **Raises:** `ValueError` for shapes that differ, an even `num`, or a grid that is too large.

    Source: Kullback and Leibler (1951), section 2.
    """
    # Ends may differ: the divergence is then infinite, or p is larger than it needs to be.
    if q.space.shape != p.space.shape or q.space.base_measure != p.space.base_measure:
        raise ValueError(f"`kl_divergence(q, p)` needs densities on one space; got {q.space} and {p.space}.")
    if q.space.num_points is not None:
        value, log_q, log_p = _on_grid(q, p, q.space, num, bounds)
        stats = {"log_integral_q": jnp.asarray(log_q), "log_integral_p": jnp.asarray(log_p)}
        return Estimate(jnp.asarray(value), jnp.asarray(0.0), "exact", (), stats)
    if check_positive(num, "kl_divergence(num=...)") < 3 or num % 2 == 0:
        raise ValueError(f"`kl_divergence(num=...)` must be odd and at least 3; got {num}.")
    value, log_q, log_p = _on_grid(q, p, q.space, num, bounds)
    coarse, _, _ = _on_grid(q, p, q.space, num // 2 + 1, bounds)
    assumes = ("negligible mass outside the grid",) if isinstance(q.space, Euclidean | Counts) else ()
    error = abs(value - coarse) if math.isfinite(value) else 0.0
    stats = {"log_integral_q": jnp.asarray(log_q), "log_integral_p": jnp.asarray(log_p)}
    return Estimate(jnp.asarray(value), jnp.asarray(error), "estimate", assumes, stats)


def _on_grid(
    q: AbstractDensity, p: AbstractDensity, space: AbstractSpace, num: int, bounds: tuple[float, float]
) -> tuple[float, float, float]:
    """`KL(q || p)`, `log int q` and `log int p`, summed in float64."""
    grid = space.quadrature(num, bounds)
    if grid.size > _MAX_POINTS:
        raise ValueError(
            f"`kl_divergence` would need {grid.size:.3g} points on {space}: it is for one or two dimensions, or few "
            "states."
        )
    log_q, log_p, log_weights = (np.asarray(part, np.float64) for part in _values(grid.point, grid.size, q, p))
    log_mass, log_other = log_q + log_weights, log_p + log_weights
    log_total_q, log_total_p = _log_sum_exp(log_mass), _log_sum_exp(log_other)
    mass = np.exp(log_mass - log_total_q)
    has_mass = mass > 0
    difference = (log_q - log_total_q)[has_mass] - (log_p - log_total_p)[has_mass]
    return float(np.sum(mass[has_mass] * difference)), log_total_q, log_total_p


def _log_sum_exp(values: np.ndarray) -> float:
    largest = np.max(values)
    return float(largest + np.log(np.sum(np.exp(values - largest))))


@eqx.filter_jit
def _values(point: Callable, size: int, q: AbstractDensity, p: AbstractDensity):
    def one(index):
        x, log_weight = point(index)
        return q.log_density(x), p.log_density(x), log_weight

    return jax.lax.map(one, jnp.arange(size), batch_size=min(_CHUNK, size))
