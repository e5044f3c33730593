from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from .._algorithm import AbstractMethod
from .._check import check_has_data, model_dtype
from .._density import AbstractExponentialFamily
from .._model import freed
from .._module import replace
from .._register import register
from ..distributions import Mixture


@register
class EM(AbstractMethod):
    """Expectation maximisation for mixtures of exponential families, and for one alone (one step suffices).

    The E step weighs each example by the posterior over components; the M step matches expected
    statistics to weighted averages. With `smoothing = 0` the log-likelihood never falls from step to step;
    with smoothing that holds for the penalised one. Every step needs the whole data set: `fit(..., batch_size=None)`.

    **Arguments:**

    - `smoothing`: number of pseudo-observations added to each component, drawn from the member of the family
      with natural parameters zero (fair coins, uniform categories). `2.0` on bits is Laplace's
      rule `(count + 1) / (n + 2)`. Families without such a member, as the normal, need 0.

    Source: Dempster, Laird and Rubin (1977), section 4.3.
    """

    smoothing: float = 0.0

    def __check_init__(self):
        if not self.smoothing >= 0:
            raise ValueError(f"`EM(smoothing=...)` must not be negative; got {self.smoothing}.")

    def init(self, key: PRNGKeyArray, model: Any, data: Array | None) -> tuple[Any, int]:
        """Mixtures start with each component at a random example, softened half-way to the mean of all."""
        data = check_has_data(data, "EM")
        if isinstance(model, AbstractExponentialFamily):
            return freed(model), len(data)
        if not isinstance(model, Mixture):
            raise TypeError(
                f"`EM` trains exponential families and mixtures of them; got {type(model).__name__}. Try `Gradient`."
            )
        data = model.space.cast(data, model_dtype(model))
        rows = jr.choice(key, len(data), (model.num_components,), replace=len(data) < model.num_components)
        family = _family(model)
        means = jnp.mean(jax.vmap(family.statistics)(data), axis=0)
        starts = 0.5 * jax.vmap(family.statistics)(data[rows]) + 0.5 * means[None, :]
        log_prior = jnp.zeros_like(model.logits)
        starts = self._smooth(family, starts, jnp.ones(model.num_components, starts.dtype))
        components = eqx.filter_vmap(family.with_expected_statistics)(starts)
        return replace(model, logits=log_prior, components=components), len(data)

    def step(
        self, key: PRNGKeyArray, model: Any, state: int, batch: Array
    ) -> tuple[Any, int, dict[str, Float[Array, ""]]]:
        if len(batch) != state:
            raise ValueError(
                f"`EM` needs all {state} examples at every step; got a batch of {len(batch)}. Use `batch_size=None`."
            )
        if isinstance(model, AbstractExponentialFamily):
            log_likelihood = jnp.mean(jax.vmap(model.log_prob)(batch))
            total = jnp.sum(jax.vmap(model.statistics)(batch), axis=0)
            count = jnp.asarray(float(len(batch)), total.dtype)
            mean = self._smooth(model, (total / count)[None], count[None])[0]
            return model.with_expected_statistics(mean), state, {"negative_log_likelihood": -log_likelihood}

        log_joint = jax.vmap(model.log_joint)(batch)  # [n, components]
        log_evidence = logsumexp(log_joint, axis=1)
        responsibility = jnp.exp(log_joint - log_evidence[:, None])
        family = _family(model)
        counts = jnp.sum(responsibility, axis=0)
        sums = responsibility.T @ jax.vmap(family.statistics)(batch)
        # A component that lost all its examples keeps a finite mean; smoothing then sets it.
        means = self._smooth(family, sums / jnp.maximum(counts, 1e-6)[:, None], counts)
        components = eqx.filter_vmap(family.with_expected_statistics)(means)
        logits = jnp.log(counts + self.smoothing) - jnp.log(len(batch) + self.smoothing * len(counts))
        model = replace(model, logits=logits, components=components)
        return model, state, {"negative_log_likelihood": -jnp.mean(log_evidence)}

    def _smooth(self, family: AbstractExponentialFamily, means: Array, counts: Array) -> Array:
        if self.smoothing == 0:
            return means
        flat = family.with_natural(jnp.zeros_like(family.natural)).expected_statistics()
        weight = (counts / (counts + self.smoothing))[:, None]
        return weight * means + (1 - weight) * flat[None, :]


def _family(mixture: Mixture) -> AbstractExponentialFamily:
    """One component, for what all of them share."""
    component = mixture.component(0)
    if not isinstance(component, AbstractExponentialFamily):
        raise TypeError(f"`EM` needs components of an exponential family; got {type(component).__name__}.")
    return component
