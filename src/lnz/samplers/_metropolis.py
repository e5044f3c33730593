import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDensity, AbstractSampler
from ..modules import check_positive
from ._fitting import advice_on_sampler
from ._hmc import acceptance_within, change_of_log_density


class MetropolisState(eqx.Module):
    position: Array
    log_density: Float[Array, ""]


class Metropolis(AbstractSampler):
    """Metropolis sampling of discrete variables, one at a time: accepts with probability `min(1, p~(x') / p~(x))`.

    An update picks a variable at random and proposes another value of it, by `space.propose`: the other bit, one of the
    other categories, or a count that is higher or lower by a whole number from 1 to r, r drawn from 1, 2, 4, ..., 4096.
    It needs only `log_density`, evaluated once for each update. Where whole blocks can be drawn, `Gibbs` mixes faster.

    The state caches the log-density of the last density: call `refresh` when it changes. `info["acceptance"]` is the
    mean acceptance probability.

    **Arguments:**

    - `num_updates`: updates in each step; by default the number of variables, on infinite spaces four times that.

    Source: Metropolis, Rosenbluth, Rosenbluth, Teller and Teller (1953).
    """

    num_updates: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.num_updates is not None:
            check_positive(self.num_updates, "Metropolis(num_updates=...)")

    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> MetropolisState:
        if density.space.propose is None or density.space.size == 0:
            raise TypeError(
                f"`Metropolis` needs a density on a discrete space (`Binary`, `Categorical`, `Counts`); got "
                f"{density.space}. {advice_on_sampler(density.space)}"
            )
        return MetropolisState(position, density.log_density(position))

    def refresh(self, density: AbstractDensity, state: MetropolisState) -> MetropolisState:
        return MetropolisState(state.position, density.log_density(state.position))

    def step(
        self, key: PRNGKeyArray, density: AbstractDensity, state: MetropolisState
    ) -> tuple[MetropolisState, dict[str, Array]]:
        space, propose = density.space, density.space.propose
        assert propose is not None  # as `init` found

        def update(state, keys):
            key_move, key_accept = keys
            x, is_inside = propose(key_move, state.position)
            log_density = density.log_density(x)
            log_ratio = change_of_log_density(state.log_density, log_density)
            log_ratio = jnp.where(jnp.isnan(log_ratio) | ~is_inside, -jnp.inf, log_ratio)
            accept = jnp.log(jr.uniform(key_accept, dtype=log_ratio.dtype)) < log_ratio
            proposed = MetropolisState(x, log_density)
            acceptance = acceptance_within(state.log_density, log_ratio)
            state = jax.tree.map(lambda new, old: jnp.where(accept, new, old), proposed, state)
            return state, acceptance

        usual = space.size * (1 if space.num_points is not None else 4)
        num = usual if self.num_updates is None else self.num_updates
        state, acceptance = jax.lax.scan(update, state, jr.split(key, (num, 2)))
        return state, {"acceptance": jnp.mean(acceptance)}
