import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractBlockDensity,
    AbstractModel,
    AbstractObjective,
    AbstractSampler,
    gibbs_sweep,
    is_energy,
)
from ..modules import check_has_data, check_positive, model_dtype, trainable, without_gradient
from ..samplers import adapt_step_size, followed_step_size, waits_for_step_size, with_step_size

Precondition = Callable[[Any, Any, Array, Array], Any] | None
_NUM_ADAPT = 100  # moves for the first step size of `SML`


class CD(AbstractObjective):
    """Contrastive divergence: the likelihood gradient with k Gibbs sweeps from the data in place of model samples.

    `loss = mean log p~(v_k) - mean log p~(v_0)`, with `v_k` treated as a constant. Only the gradient of the loss is
    meaningful. It is biased, and the bias falls as k grows. Hidden units enter the last sweep as probabilities.
    An update needs 2k + 3 matrix products.

    **Arguments:**

    - `k`: number of Gibbs sweeps.
    - `precondition`: a function that changes the gradient, such as `lnz.energy.centred_gradient`.

    Source: Hinton (2002), section 2; Hinton (2012), section 3, for probabilities in the last sweep.
    """

    k: int = eqx.field(static=True, default=1)
    precondition: Precondition = None

    def __check_init__(self):
        _check_k(self.k, "CD")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        _check_model(model, "CD")
        check_has_data(data, "CD")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        chain = without_gradient(model)
        key_first, key_rest, key_last = jr.split(key, 3)
        visible = tuple(range(1, model.num_blocks))
        # The first hidden draw is outside the loop, because the free energy of the data shares its product.
        blocks = _draw(key_first, chain, jax.vmap(model.split)(batch), (0,))
        blocks = _sweeps(key_rest, chain, blocks, (*visible, 0), self.k - 1)
        blocks = _draw(key_last, chain, blocks, visible)
        return _contrast(model, batch, jax.vmap(model.join)(blocks), (), self.precondition)


class PCD(AbstractObjective):
    """Persistent contrastive divergence (stochastic maximum likelihood): chains continue from update to update.

    The loss is that of `CD`, with persistent chains in place of chains that start at the data. Its gradient is nearly
    unbiased if the learning rate is small enough for the chains to keep up. The chains store the hidden layer, so an
    update needs 2k + 3 matrix products.

    **Arguments:**

    - `k`: number of Gibbs sweeps per update.
    - `num_chains`: number of independent chains, over which the negative phase of the gradient is averaged.
    - `precondition`: a function that changes the gradient, such as `lnz.energy.centred_gradient`.

    Source: Tieleman (2008), section 3; Younes (1989).
    """

    k: int = eqx.field(static=True, default=1)
    num_chains: int = eqx.field(static=True, default=100)
    precondition: Precondition = None

    def __check_init__(self):
        _check_k(self.k, "PCD")
        if self.num_chains < 1:
            raise ValueError(f"`PCD(num_chains=...)` must be at least 1; got {self.num_chains}.")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[Array, ...]:
        """Chains that start at examples of `data`, with auxiliary blocks drawn given the examples."""
        return _start_chains(key, model, data, self.num_chains, "PCD")

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[Array, ...], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[Array, ...], dict[str, Float[Array, ""]]]]:
        chain = without_gradient(model)
        blocks = advance_chains(key, chain, state, self.k)
        return _contrast(model, batch, jax.vmap(model.join)(blocks), blocks, self.precondition)


class FPCD(AbstractObjective):
    """Persistent contrastive divergence with fast weights, which drive the chains away from recent positions.

    The chains follow the model with parameters `theta + fast`, and `fast <- decay fast - fast_learning_rate g`. Here g
    is the gradient of the loss; its negative phase comes from the chains. The chains mix far better than chains of the
    model itself, so learning rates may be larger. They are not samples of the model.

    **Arguments:**

    - `k`: number of Gibbs sweeps per update.
    - `num_chains`: number of independent chains.
    - `fast_learning_rate`: learning rate of the fast weights; 0 gives `PCD`.
    - `decay`: factor on the fast weights at each update.

    Source: Tieleman and Hinton (2009), section 3, with the decay of 19/20 of its section 4.
    """

    k: int = eqx.field(static=True, default=1)
    num_chains: int = eqx.field(static=True, default=100)
    fast_learning_rate: float = eqx.field(static=True, default=0.01)
    decay: float = eqx.field(static=True, default=0.95)

    def __check_init__(self):
        _check_k(self.k, "FPCD")
        if self.num_chains < 1:
            raise ValueError(f"`FPCD(num_chains=...)` must be at least 1; got {self.num_chains}.")
        if not self.fast_learning_rate >= 0:
            raise ValueError(f"`FPCD(fast_learning_rate=...)` must not be negative; got {self.fast_learning_rate}.")
        if not 0 <= self.decay < 1:
            raise ValueError(f"`FPCD(decay=...)` must be at least 0 and less than 1; got {self.decay}.")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[tuple[Array, ...], Any]:
        """Chains that start as in `PCD`, and fast weights of zero."""
        params = eqx.filter(model, trainable(model))
        return _start_chains(key, model, data, self.num_chains, "FPCD"), jax.tree.map(jnp.zeros_like, params)

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[tuple[Array, ...], Any], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[tuple[Array, ...], Any], dict[str, Float[Array, ""]]]]:
        chains, fast = state
        params, rest = eqx.partition(model, trainable(model))
        fixed = jax.lax.stop_gradient(params)
        driven = jax.tree.map(jnp.add, fixed, fast)
        chains = advance_chains(key, without_gradient(eqx.combine(driven, rest)), chains, self.k)
        negative = jax.vmap(model.join)(chains)

        def mean_log_density(params, x):
            return jnp.mean(jax.vmap(eqx.combine(params, rest).log_density)(x))

        log_data, up = jax.value_and_grad(mean_log_density)(fixed, batch)
        down = jax.grad(mean_log_density)(driven, negative)
        gradient = jax.lax.stop_gradient(jax.tree.map(jnp.subtract, down, up))
        fast = jax.tree.map(lambda f, g: self.decay * f - self.fast_learning_rate * g, fast, gradient)
        parts = {
            "free_energy_data": -log_data,
            "free_energy_chains": -mean_log_density(fixed, negative),
        }
        return _linear(params, gradient), ((chains, fast), parts)


class SML(AbstractObjective):
    """Stochastic maximum likelihood with chains of any sampler, such as `lnz.samplers.ParallelTempering`.

    `loss = mean log p~(chains) - mean log p~(batch)`. Only its gradient is meaningful. It is the gradient of the
    negative log-likelihood, with the model's average replaced by an average over `num_chains` chains that continue
    from update to update. If Gibbs sampling mixes well, `PCD` does the same with fewer matrix products.

    The records of `fit` hold the sampler's diagnostics, averaged over chains and steps. For tempered chains these are
    `round_trips`, per chain and step, and `swap_acceptance`, of the neighbouring temperatures that exchange least; for
    `HMC`, `acceptance`.

    **Arguments:**

    - `sampler`: moves the chains. It receives the new parameters before every update. If `HMC` leaves its step size
      open, 100 moves from the first positions adapt it; then it follows the mean acceptance from update to update,
      towards 0.8. Step sizes of tempered chains stay those of the first model.
    - `num_chains`: independent chains, or independent sets of tempered chains.
    - `num_steps`: sampler steps per update.
    - `precondition`: a function that changes the gradient, such as `lnz.energy.centred_gradient`.

    Source: Younes (1989); with tempered chains, Desjardins, Courville, Bengio, Vincent and Delalleau (2010), section 3.
    """

    sampler: AbstractSampler
    num_chains: int = eqx.field(static=True, default=100)
    num_steps: int = eqx.field(static=True, default=1)
    precondition: Precondition = None

    def __check_init__(self):
        if not isinstance(self.sampler, AbstractSampler):
            raise TypeError(
                "`SML(sampler=...)` must be a sampler such as `lnz.samplers.ParallelTempering(10)`, with its brackets; "
                f"got {self.sampler!r}."
            )
        check_positive(self.num_chains, "SML(num_chains=...)")
        check_positive(self.num_steps, "SML(num_steps=...)")

    def init(self, key: PRNGKeyArray, model: Any, data: Array | None) -> Any:
        """Chains that start at examples of `data`."""
        if not is_energy(model):
            raise TypeError(f"`SML` needs an energy model, such as `lnz.energy.RBM`; got {type(model).__name__}.")
        data = check_has_data(data, "SML")
        key_rows, key_init = jr.split(key)
        rows = jr.randint(key_rows, (self.num_chains,), 0, len(data))
        positions = model.space.cast(data[rows], model_dtype(model))
        keys = jr.split(key_init, self.num_chains)
        states = jax.vmap(lambda key, x: self.sampler.init(key, model, x))(keys, positions)
        if not waits_for_step_size(self.sampler):
            return states
        key_adapt = jr.fold_in(key, 2**31 - 7)  # a large index, far from those of `jr.split(key)`
        sampler: Any = adapt_step_size(key_adapt, model, self.sampler, positions, _NUM_ADAPT)[0]
        return states, jnp.log(sampler.step_size)

    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        chain, sampler = without_gradient(model), self.sampler
        log_step_size: Any = None
        if waits_for_step_size(sampler):
            state, log_step_size = state
            sampler = with_step_size(sampler, log_step_size)

        def advance(key, state):
            def step(state, key):
                return sampler.step(key, chain, state)

            return jax.lax.scan(step, sampler.refresh(chain, state), jr.split(key, self.num_steps))

        state, info = jax.lax.stop_gradient(jax.vmap(advance)(jr.split(key, self.num_chains), state))
        loss, (state, parts) = _contrast(model, batch, state.position, state, self.precondition)
        # Average over chains and steps, the first two axes; report the smallest of the pairs of temperatures.
        lowest = {name: jnp.min(jnp.mean(values, axis=(0, 1), dtype=loss.dtype)) for name, values in info.items()}
        if log_step_size is not None:
            acceptance = jnp.mean(info["acceptance"]).astype(log_step_size.dtype)
            state = state, followed_step_size(chain, log_step_size, acceptance)
        return loss, (state, {**parts, **lowest})


def _start_chains(key: PRNGKeyArray, model: Any, data: Array | None, num_chains: int, name: str) -> tuple[Array, ...]:
    block_model = _check_model(model, name)
    data = check_has_data(data, name)
    key_rows, key_blocks = jr.split(key)
    rows = jr.randint(key_rows, (num_chains,), 0, len(data))
    return start_chains(key_blocks, block_model, model.space.cast(data[rows], model_dtype(model)))


def start_chains(key: PRNGKeyArray, model: AbstractBlockDensity, x: Array) -> tuple[Array, ...]:
    """Persistent chains that start at `x [num_chains, ...]`, with the auxiliary block drawn given `x`."""
    return _draw(key, model, jax.vmap(model.split)(x), (0,))


def advance_chains(
    key: PRNGKeyArray, model: AbstractBlockDensity, blocks: tuple[Array, ...], k: int
) -> tuple[Array, ...]:
    """`k` sweeps of persistent chains."""
    key_sweeps, key_last = jr.split(key)
    # Visible blocks first: the chain keeps the hidden block, which is drawn last. This draw is outside the loop, where
    # the free energy of the last visible block shares its product.
    order = (*range(1, model.num_blocks), 0)
    return _draw(key_last, model, _sweeps(key_sweeps, model, blocks, order, k - 1), order)


def _linear(params: Any, direction: Any) -> Float[Array, ""]:
    """A linear function of the parameters whose gradient is `direction`."""
    terms = jax.tree.map(lambda p, d: jnp.sum(p * d), params, direction)
    return functools.reduce(jnp.add, jax.tree.leaves(terms))


def _draw(
    key: PRNGKeyArray, model: AbstractBlockDensity, blocks: tuple[Array, ...], order: tuple[int, ...]
) -> tuple[Array, ...]:
    """Draws the blocks of `order` in turn, in every chain."""
    keys = jr.split(key, blocks[0].shape[0])
    return jax.vmap(lambda key, blocks: gibbs_sweep(key, model, blocks, order))(keys, blocks)


def _sweeps(
    key: PRNGKeyArray, model: AbstractBlockDensity, blocks: tuple[Array, ...], order: tuple[int, ...], num: int
) -> tuple[Array, ...]:
    def sweep(blocks, key):
        return _draw(key, model, blocks, order), None

    return jax.lax.scan(sweep, blocks, jr.split(key, num))[0] if num else blocks


def _contrast(model, data: Array, negative: Array, state, precondition: Precondition):
    negative = jax.lax.stop_gradient(negative)

    def surrogate(model):
        log_data = jnp.mean(jax.vmap(model.log_density)(data))
        log_model = jnp.mean(jax.vmap(model.log_density)(negative))
        return log_model - log_data, (log_data, log_model)

    loss, (log_data, log_model) = surrogate(model)
    parts = {"free_energy_data": -log_data, "free_energy_chains": -log_model}
    if precondition is not None:
        params, rest = eqx.partition(model, trainable(model))
        gradient = jax.grad(lambda params: surrogate(eqx.combine(params, rest))[0])(params)
        direction = jax.lax.stop_gradient(precondition(model, gradient, data, negative))
        linear = _linear(params, direction)
        loss = jax.lax.stop_gradient(loss - linear) + linear
    return loss, (state, parts)


def _check_k(k: int, name: str) -> None:
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"`{name}(k=...)` must be a whole number of sweeps, at least 1; got {k!r}.")


def _check_model(model: AbstractModel, name: str) -> AbstractBlockDensity:
    if not isinstance(model, AbstractBlockDensity):
        raise TypeError(
            f"`{name}` needs an energy model whose blocks can be sampled, such as `lnz.energy.RBM`; got "
            f"{type(model).__name__}."
        )
    return model
