import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractBlockDensity, AbstractDensity, AbstractSampler, gibbs_sweep
from ..modules import check_positive
from ._fitting import advice_on_sampler


class GibbsState(eqx.Module):
    position: Array


class Gibbs(AbstractSampler):
    """Block Gibbs sampling: draws each block in turn from its conditional given all others.

    Auxiliary blocks (hidden units that the density sums out) are drawn first in each sweep, from the position alone. So
    the marginal density of the position stays invariant, even if the density has changed since the last sweep.

    **Arguments:**

    - `num_sweeps`: sweeps in each step.

    Source: Geman and Geman (1984).
    """

    num_sweeps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        check_positive(self.num_sweeps, "Gibbs(num_sweeps=...)")

    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> GibbsState:
        return GibbsState(position)

    def refresh(self, density: AbstractDensity, state: GibbsState) -> GibbsState:
        return state  # the position is the whole state: nothing about the density is cached

    def step(
        self, key: PRNGKeyArray, density: AbstractDensity, state: GibbsState
    ) -> tuple[GibbsState, dict[str, Array]]:
        if not isinstance(density, AbstractBlockDensity):
            raise TypeError(
                f"`Gibbs` needs a density whose blocks can be drawn given the others; {type(density).__name__} has "
                f"none. {advice_on_sampler(density.space)}"
            )

        def sweep(position, key):
            blocks = gibbs_sweep(key, density, density.split(position), tuple(range(density.num_blocks)))
            return density.join(blocks), None

        if self.num_sweeps == 1:
            position, _ = sweep(state.position, key)
        else:
            position, _ = jax.lax.scan(sweep, state.position, jr.split(key, self.num_sweeps))
        return GibbsState(position), {}
