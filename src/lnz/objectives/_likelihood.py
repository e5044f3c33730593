from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractModel, AbstractNormalizer, AbstractObjective, integral, need_method
from ..modules import check_has_data


class MaximumLikelihood(AbstractObjective):
    """`-mean log p(x)` in nats per example.

    **Arguments:**

    - `hidden`, `partition`: normalisers for the numerator and the denominator, if the model has no closed form for
      them. With `lnz.normalizers.Quadrature()` the loss and its gradient are exact, so small Boltzmann machines can be
      trained without sampling.
    """

    moves_with_data: ClassVar[bool] = True
    hidden: AbstractNormalizer | None = None
    partition: AbstractNormalizer | None = None

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "MaximumLikelihood")
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        key_hidden, key_partition = jr.split(key)
        keys = jr.split(key_hidden, len(batch))

        def log_numerator(key, x):
            density = model.numerator(x)
            return jnp.asarray(integral(key, density, need_method(density, self.hidden, "hidden", model)).value)

        mean_numerator = jnp.mean(jax.vmap(log_numerator)(keys, batch))
        denominator = model.denominator()
        partition = need_method(denominator, self.partition, "partition", model)
        loss = jnp.asarray(integral(key_partition, denominator, partition).value) - mean_numerator
        return loss, (state, {"log_likelihood": -loss})
