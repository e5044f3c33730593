import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._algorithm import AbstractSampler
from .._check import check_positive, is_false
from .._density import AbstractDensity
from .._register import register
from .._space import Euclidean


class HMCState(eqx.Module):
    position: Array
    log_density: Float[Array, ""]
    gradient: Array


@register
class HMC(AbstractSampler):
    """Hamiltonian Monte Carlo with a unit mass matrix, on Euclidean spaces.

    The state caches log-density and gradient of the last density: call `refresh` when it changes.

    **Arguments:**

    - `step_size`: of the leapfrog integrator, in the units of the position. Aim at an acceptance
      probability (`info["acceptance"]`) near 0.65 to 0.9.
    - `num_steps`: leapfrog steps a transition.

    Source: Neal (2011), section 5.2.3 and figure 2; arXiv:1206.1901.
    """

    step_size: float | Float[Array, ""] = 0.1
    num_steps: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        check_positive(self.num_steps, "HMC(num_steps=...)")
        if is_false(self.step_size > 0):
            raise ValueError(f"`HMC(step_size=...)` must be positive; got {self.step_size}.")

    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> HMCState:
        if not isinstance(density.space, Euclidean):
            raise TypeError(
                f"`HMC` needs a density on a Euclidean space; got {density.space}. For discrete spaces try "
                "`lnz.samplers.Gibbs`."
            )
        return HMCState(position, *jax.value_and_grad(density.log_density)(position))

    def refresh(self, density: AbstractDensity, state: HMCState) -> HMCState:
        return HMCState(state.position, *jax.value_and_grad(density.log_density)(state.position))

    def step(self, key: PRNGKeyArray, density: AbstractDensity, state: HMCState) -> tuple[HMCState, dict[str, Array]]:
        key_momentum, key_accept = jr.split(key)
        momentum = jr.normal(key_momentum, state.position.shape, state.position.dtype)
        value_and_grad = jax.value_and_grad(density.log_density)

        def leapfrog(_, carry):
            x, p, _, gradient = carry
            p = p + 0.5 * self.step_size * gradient
            x = x + self.step_size * p
            value, gradient = value_and_grad(x)
            return x, p + 0.5 * self.step_size * gradient, value, gradient

        start = (state.position, momentum, state.log_density, state.gradient)
        x, p, value, gradient = jax.lax.fori_loop(0, self.num_steps, leapfrog, start)
        log_ratio = value - state.log_density - 0.5 * (jnp.sum(p**2) - jnp.sum(momentum**2))
        log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)  # a divergence is a rejection
        accept = jnp.log(jr.uniform(key_accept, dtype=value.dtype)) < log_ratio
        proposed = HMCState(x, value, gradient)
        state = jax.tree.map(lambda new, old: jnp.where(accept, new, old), proposed, state)
        return state, {"acceptance": jnp.exp(jnp.minimum(log_ratio, 0.0))}
