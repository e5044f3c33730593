"""Divergences between densities in few dimensions, by quadrature."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..core import AbstractDensity, AbstractDistribution, Estimate, Weights
from ..modules import check_positive, replace
from ..spaces import AbstractSpace, is_within, names_agree

# In two dimensions, at most 2,895 points per side (`num` is odd).
_MAX_POINTS = 2**23
_CHUNK = 2**14
_ROUNDING = 1e-4


def kl_divergence(
    q: AbstractDensity, p: AbstractDensity, *, num: int = 401, bounds: tuple[float, float] = (-10.0, 10.0)
) -> Estimate:
    """`KL(q || p) = int q log(q / p)` in nats, on a grid.

    Distributions are used as they are; other densities are normalised on the grid. If p lives on a larger space than
    q, it must be a distribution.

    Finite spaces are enumerated exactly. Otherwise the error (not statistical) is the largest difference from two grids
    shifted by one and two thirds of a step. It is small only if the grid resolves the narrowest part of either density:
    a flow may have finer folds than its target.

    **Arguments:**

    - `q`, `p`: densities on spaces of one shape, finite or of one or two dimensions.
    - `num`, `bounds`: points per dimension, odd, and grid ends, as for `lnz.normalizers.Quadrature`.

    **Returns:** an `Estimate`, infinite if q has mass where p has none. `extras` holds the log normalisers on the grid,
    `log_integral_q` and `log_integral_p`; for a distribution q the first must be near zero. `grid_error` refers to q,
    `edge_mass` to the worse of q and a p normalised on the grid, and to mass of q off the grid.

    **Raises:** `ValueError` for shapes that differ, an even `num`, or too large a grid.

    Source: Kullback and Leibler (1951), section 2.
    """
    # Ends may differ: the divergence is then infinite, or the space of p is larger than necessary.
    is_alike = q.space.shape == p.space.shape and q.space.measure == p.space.measure
    if not is_alike or not names_agree(q.space, p.space):
        raise ValueError(f"`kl_divergence(q, p)` needs densities on one space; got {q.space} and {p.space}.")
    if not is_within(p.space, q.space) and not isinstance(p, AbstractDistribution):
        raise ValueError(
            f"`kl_divergence(q, p)`: p lives on {p.space}. The grid on {q.space} covers only a part of it, so p cannot "
            "be normalised there. Pass a distribution as p, or a density on the space of q."
        )
    if q.space.num_points is not None:
        value, log_q, log_p, _ = _on_grid(q, p, q.space, num, bounds)
        return Estimate(jnp.asarray(value), jnp.asarray(0.0), "exact", extras=_integrals(log_q, log_p))
    if check_positive(num, "kl_divergence(num=...)") < 3 or num % 2 == 0:
        raise ValueError(f"`kl_divergence(num=...)` must be odd and at least 3; got {num}.")
    value, log_q, log_p, edge_mass = _on_grid(q, p, q.space, num, bounds)
    if q.space.measure.is_counting:
        others = [_on_grid(q, p, q.space, num // 2 + 1, bounds)]
    else:
        others = [_on_grid(q, p, q.space, num, bounds, jnp.asarray(shift)) for shift in (1 / 3, 2 / 3)]
    error = np.max([abs(value - other) for other, *_ in others]) if math.isfinite(value) else 0.0  # NaN propagates
    weights = Weights(edge_mass=jnp.asarray(edge_mass))
    if not q.space.measure.is_counting:
        weights = replace(weights, grid_error=jnp.asarray(np.max([abs(log_q - other) for _, other, *_ in others])))
    return Estimate(
        jnp.asarray(value),
        jnp.asarray(error),
        "estimate",
        ("negligible mass outside the grid",),
        weights,
        extras=_integrals(log_q, log_p),
    )


def _integrals(log_q: float, log_p: float) -> dict[str, Array]:
    return {"log_integral_q": jnp.asarray(log_q), "log_integral_p": jnp.asarray(log_p)}


def _on_grid(
    q: AbstractDensity,
    p: AbstractDensity,
    space: AbstractSpace,
    num: int,
    bounds: tuple[float, float],
    shift: Array | None = None,
) -> tuple[float, float, float, float]:
    """`KL(q || p)`, `log int q` and `log int p`, and the share of mass on the edge of the grid; summed in float64."""
    grid = space.quadrature(num, bounds)
    if grid.size > _MAX_POINTS:
        raise ValueError(
            f"`kl_divergence` would need {grid.size:.3g} points on {space}: it is for one or two dimensions, or few "
            "states."
        )
    log_q, log_p, log_weights, on_edge = (np.asarray(a, np.float64) for a in _values(space, num, bounds, shift, q, p))
    log_mass, log_other = log_q + log_weights, log_p + log_weights
    log_total_q, log_total_p = _log_sum_exp(log_mass), _log_sum_exp(log_other)
    mass = np.exp(log_mass - log_total_q)
    has_mass = mass > 0
    shift_q, shift_p = (
        0.0 if isinstance(density, AbstractDistribution) else log_total
        for density, log_total in ((q, log_total_q), (p, log_total_p))
    )
    divergence = float(np.sum(mass[has_mass] * ((log_q - shift_q)[has_mass] - (log_p - shift_p)[has_mass])))
    on_edges = [log_mass - log_total_q] + ([] if isinstance(p, AbstractDistribution) else [log_other - log_total_p])
    edge_mass = max(float(np.sum(np.exp(log_share) * on_edge)) for log_share in on_edges)
    # Mass that a distribution lacks on the grid lies beyond it; a smaller lack is rounding of float32.
    missing = -math.expm1(log_total_q) if isinstance(q, AbstractDistribution) else 0.0
    return divergence, log_total_q, log_total_p, max(edge_mass, missing if missing > _ROUNDING else 0.0)


def _log_sum_exp(values: np.ndarray) -> float:
    largest = np.max(values)
    return float(largest + np.log(np.sum(np.exp(values - largest))))


@eqx.filter_jit
def _values(space: AbstractSpace, num: int, bounds: tuple[float, float], shift: Array | None, q, p):
    grid = space.quadrature(num, bounds, shift)

    def one(index):
        x, log_weight = grid.point(index)
        on_edge = jnp.zeros((), bool) if grid.on_edge is None else grid.on_edge(index)
        return q.log_density(x), p.log_density(x), log_weight, on_edge

    return jax.lax.map(one, jnp.arange(grid.size), batch_size=min(_CHUNK, grid.size))
