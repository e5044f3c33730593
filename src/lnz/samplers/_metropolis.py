import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .. import spaces
from ..core import AbstractDensity, AbstractSampler
from ..modules import check_positive
from ..spaces import AbstractSpace, Binary, Counts
from ._hmc import acceptance_within, change_of_log_density

# Counts move by up to 2^0, ..., 2^12.
_NUM_RANGES = 13


class MetropolisState(eqx.Module):
    position: Array
    log_density: Float[Array, ""]


class Metropolis(AbstractSampler):
    """Metropolis sampling of discrete variables, one at a time: `accept with min(1, p~(x') / p~(x))`.

    An update picks a variable at random and proposes another value of it: the other bit, one of the other categories,
    or a count that is higher or lower by a whole number from 1 to r, r drawn from 1, 2, 4, ..., 4096. It needs
    nothing but `log_density`, evaluated once an update. Where whole blocks can be drawn, `Gibbs` mixes faster.

    The state caches the log-density of the last density: call `refresh` when it changes. `info["acceptance"]` is the
    mean acceptance probability.

    **Arguments:**

    - `num_updates`: updates a step; by default as many as there are variables, of counts four times as many.

    Source: Metropolis, Rosenbluth, Rosenbluth, Teller and Teller (1953).
    """

    num_updates: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.num_updates is not None:
            check_positive(self.num_updates, "Metropolis(num_updates=...)")

    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> MetropolisState:
        if not is_discrete(density.space):
            raise TypeError(
                f"`Metropolis` needs a density on a discrete space (`Binary`, `Categorical`, `Counts`); got "
                f"{density.space}. On continuous spaces try `lnz.samplers.HMC()`."
            )
        return MetropolisState(position, density.log_density(position))

    def refresh(self, density: AbstractDensity, state: MetropolisState) -> MetropolisState:
        return MetropolisState(state.position, density.log_density(state.position))

    def step(
        self, key: PRNGKeyArray, density: AbstractDensity, state: MetropolisState
    ) -> tuple[MetropolisState, dict[str, Array]]:
        space = density.space

        def update(state, key):
            key_site, key_value, key_accept = jr.split(key, 3)
            site = jr.randint(key_site, (), 0, space.num_dimensions)
            flat = state.position.reshape(-1)
            value, is_inside = _propose(key_value, space, flat[site])
            x = flat.at[site].set(value).reshape(space.shape)
            log_density = density.log_density(x)
            log_ratio = change_of_log_density(state.log_density, log_density)
            log_ratio = jnp.where(jnp.isnan(log_ratio) | ~is_inside, -jnp.inf, log_ratio)
            accept = jnp.log(jr.uniform(key_accept, dtype=log_ratio.dtype)) < log_ratio
            proposed = MetropolisState(x, log_density)
            acceptance = acceptance_within(state.log_density, log_ratio)
            state = jax.tree.map(lambda new, old: jnp.where(accept, new, old), proposed, state)
            return state, acceptance

        usual = space.num_dimensions * (4 if isinstance(space, Counts) else 1)
        num = usual if self.num_updates is None else self.num_updates
        state, acceptance = jax.lax.scan(update, state, jr.split(key, num))
        return state, {"acceptance": jnp.mean(acceptance)}


def is_discrete(space: AbstractSpace) -> bool:
    """Whether `Metropolis` can move there: no variables at all cannot be moved."""
    return isinstance(space, Binary | Counts | spaces.Categorical) and space.num_dimensions > 0


def _propose(key: PRNGKeyArray, space: AbstractSpace, old: Array) -> tuple[Array, Array]:
    """Another value of one variable, as likely from here as back, and whether it is allowed; if not, the old one."""
    if isinstance(space, Binary):
        return 1 - old, jnp.array(True)
    if isinstance(space, spaces.Categorical):
        if space.num_categories == 1:
            return old, jnp.array(True)
        return (old + jr.randint(key, (), 1, space.num_categories, old.dtype)) % space.num_categories, jnp.array(True)
    key_range, key_move, key_sign = jr.split(key, 3)
    most = 2 ** jr.randint(key_range, (), 0, _NUM_RANGES, old.dtype)
    move = jr.randint(key_move, (), 1, most + 1, old.dtype)
    new = jnp.where(jr.bernoulli(key_sign), old + move, old - move)
    is_inside = space.elements_within(new) & (jnp.abs(new - old) == move)  # no count so large that it wraps around
    return jnp.where(is_inside, new, old), is_inside
