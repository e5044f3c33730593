import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ..core import AbstractDensity, AbstractNormalizer, Estimate, Weights, smallest
from ._counts import has_endless_counts, log_mass_of_far_counts

# Three shifts: with two, some place is equally far from the points of both, and both miss a narrow peak there by the
# same amount.
_SHIFTS = (1 / 6, 1 / 2, 5 / 6)
# The largest share of the mass that may lie at counts beyond the grid; it is part of the error.
_MAX_FAR = 1e-4


class Quadrature(AbstractNormalizer):
    """`log sum_x p~(x)` by enumeration, or `log int p~(x) dx` on a grid.

    A density with the same normaliser on a smaller space (the smaller layer of a Boltzmann machine)
    is enumerated there, exactly. Memory is bounded by the chunk, also for gradients.

    On a continuous space the result averages three rules, shifted by thirds of a step. Points are even in x, in log x
    for positive numbers, and in an unbounded coordinate for intervals, whose ends are never evaluated.

    The `standard_error` (not statistical) is the largest difference between the rules, plus the mass outside the
    grid if the density fell like a power there: generous for smooth densities. If `weights.grid_error` (this
    difference) or `weights.edge_mass` is large, the estimate is not `reliable`. All rules can miss a peak far narrower
    than a third of a step beside broad mass.

    **Arguments:**

    - `num`: points per dimension, at least 3. Counts use `0, ..., num - 1`; their error is the mass of the upper half,
      plus mass found at larger counts on a few lines.
    - `bounds`: ends of the grid, in x or log x.
    - `max_points`: the most points of an enumeration or rule.

    **Raises:** `ValueError` above `max_points`.
    """

    is_smooth: ClassVar[bool] = True
    is_random: ClassVar[bool] = False

    num: int = eqx.field(static=True, default=201)
    bounds: tuple[float, float] = eqx.field(static=True, default=(-10.0, 10.0))
    max_points: int = eqx.field(static=True, default=2**25)

    def __check_init__(self):
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"`Quadrature(bounds=...)` must be (low, high) with low < high; got {self.bounds}.")
        if self.num < 3:
            raise ValueError(f"`Quadrature(num=...)` must be at least 3; got {self.num}.")

    @property
    def name(self) -> str:
        return "Quadrature"

    def cost(self, density: AbstractDensity) -> int:
        space = smallest(density).space
        if space.num_points is not None:
            return space.num_points
        return len(_SHIFTS) * space.quadrature(self.num, self.bounds).size

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        density = smallest(density)
        space = density.space
        if space.num_points is not None:
            self._check_size(space.num_points, density)
            return Estimate.exact(space.quadrature().log_integral(density.log_density))
        self._check_size(space.quadrature(self.num, self.bounds).size, density)
        return log_integral_with_error(density, self.num, self.bounds)

    def _check_size(self, num_points: int, density: AbstractDensity) -> None:
        if num_points > self.max_points:
            raise ValueError(
                f"`Quadrature` would need {num_points:.3g} points for {type(density).__name__} on {density.space}, "
                f"above `max_points={self.max_points}`. Use `lnz.normalizers.AIS`."
            )


def log_integral_with_error(
    density: AbstractDensity, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0)
) -> Estimate:
    """`log int p~` of a density on an infinite space, with the rules and the error of `Quadrature`."""
    space, assumes = density.space, ("negligible mass outside the grid",)
    grid = space.quadrature(num, bounds, None if space.measure.is_counting else _SHIFTS[0])
    if space.measure.is_counting:
        value, edge = grid.log_integral_and_edge(density.log_density)
        half = space.quadrature(num // 2 + 1, bounds).log_integral(density.log_density)
        error, diagnostics = jnp.abs(value - half), {}
    else:

        def by_rule(shift):
            return space.quadrature(num, bounds, shift).log_integral_and_edge(density.log_density)

        values, edges = jax.lax.map(by_rule, jnp.asarray(_SHIFTS))
        value, edge = jax.scipy.special.logsumexp(values) - math.log(len(_SHIFTS)), jnp.max(edges)
        grid_error = jax.lax.stop_gradient(jnp.max(values) - jnp.min(values))
        grid_error = jnp.where(jnp.isfinite(grid_error), grid_error, jnp.inf)
        error, diagnostics = grid_error + jnp.log1p(grid.beyond * edge), {"grid_error": grid_error}
    if has_endless_counts(space):
        log_ratio = log_mass_of_far_counts(density, grid, num) - jax.lax.stop_gradient(value)
        far = jax.nn.sigmoid(log_ratio)  # of all the mass that is seen
        error = error + jnp.logaddexp(0, log_ratio)
        edge = jnp.where(far <= _MAX_FAR, edge, jnp.maximum(edge, far))
    return Estimate(value, error, "estimate", assumes, Weights(edge_mass=edge, **diagnostics))
