import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from .._density import AbstractCollapsibleDensity, AbstractDensity, AbstractNormalizer
from .._estimate import Estimate
from .._register import register
from .._space import Counts, Euclidean


@register
class Quadrature(AbstractNormalizer):
    """`log sum_x p~(x)` by enumeration, or `log int p~(x) dx` on a grid.

    A density that has the same normaliser on a smaller space (the smaller layer of a Boltzmann machine)
    is enumerated there. Memory is bounded by the chunk, also for gradients.

    Enumeration is exact. The trapezoid rule on a continuous space is an estimate whose `standard_error` is its
    difference from the rule with every other point: no statistical error, and for densities that
    have died out at `bounds` a generous one.

    **Arguments:**

    - `num`: points a dimension, odd, for continuous spaces; of counts the first, `0, ..., num - 1`, whose error is the
      mass of the upper half.
    - `bounds`: the ends of the grid, for Euclidean spaces only.
    - `max_points`: refuse larger enumerations.

    **Raises:** `ValueError` if the space has more than `max_points` points.
    """

    num: int = eqx.field(static=True, default=201)
    bounds: tuple[float, float] = eqx.field(static=True, default=(-10.0, 10.0))
    max_points: int = eqx.field(static=True, default=2**25)

    def __check_init__(self):
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"`Quadrature(bounds=...)` must be (low, high) with low < high; got {self.bounds}.")
        if self.num < 3 or self.num % 2 == 0:
            raise ValueError(f"`Quadrature(num=...)` must be odd and at least 3; got {self.num}.")

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        if isinstance(density, AbstractCollapsibleDensity):
            density = density.collapsed()
        num_points = density.space.num_points
        if num_points is not None:
            self._check_size(num_points, density)
            return Estimate.exact(density.space.quadrature().log_integral(density.log_density))
        fine = density.space.quadrature(self.num, self.bounds)
        self._check_size(fine.size, density)
        coarse = density.space.quadrature(self.num // 2 + 1, self.bounds)
        value = fine.log_integral(density.log_density)
        error = jnp.abs(value - coarse.log_integral(density.log_density))
        assumes, stats = (), {}
        if isinstance(density.space, Euclidean | Counts):
            # What lies outside cannot be seen, but it must have crossed the edge.
            low, high = self.bounds
            margin = 0.5 * (high - low) / (self.num - 1)
            counts = isinstance(density.space, Counts)

            def on_edge(x):
                at_edge = x == self.num - 1 if counts else (x < low + margin) | (x > high - margin)
                return jnp.where(jnp.any(at_edge), density.log_density(x), -jnp.inf)

            assumes = ("negligible mass outside the grid",)
            stats = {"edge_mass": jnp.exp(fine.log_integral(on_edge) - value)}
        return Estimate(value, error, "estimate", assumes, stats)

    def _check_size(self, num_points: int, density: AbstractDensity) -> None:
        if num_points > self.max_points:
            raise ValueError(
                f"`Quadrature` would need {num_points:.3g} points for {type(density).__name__} on {density.space}, "
                f"above `max_points={self.max_points}`. Use `lnz.normalizers.AIS`."
            )
