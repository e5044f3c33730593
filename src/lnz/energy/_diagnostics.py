"""Numbers to watch while a Boltzmann machine trains. None of them is its likelihood."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..core import AbstractDensity, AbstractEnergyModel, Estimate, integral
from ..modules import register
from ._rbm import RBM


@register
def pseudo_log_likelihood(density: AbstractDensity, x: Array) -> Float[Array, ""]:
    """`sum_i log p(x_i | all other x)` of ONE binary example, in nats: no normaliser is needed.

    With many data, and a model that can be right, the same parameters maximise this and the likelihood. Its value does
    not bound the likelihood: each conditional sees all other bits. It takes one density evaluation for each dimension.

    **Raises:** `TypeError` unless the density lives on `Binary`.

    Source: Besag (1975), section 4.
    """
    if density.space.num_values != 2:
        raise TypeError(f"`pseudo_log_likelihood` needs bits; {type(density).__name__} lives on {density.space}.")
    x = density.space.check_example(x)
    here = density.log_density(x)

    def conditional(i):
        flat = x.reshape(-1)
        flipped = flat.at[i].set(1 - flat[i]).reshape(x.shape)
        return jax.nn.log_sigmoid(here - density.log_density(flipped))

    return jnp.sum(jax.lax.map(conditional, jnp.arange(x.size), batch_size=128))


@register
def reconstruction_error(rbm: RBM, v: Array) -> Float[Array, ""]:
    """`-log p(v | h = E[h | v])` of ONE example, in nats: how well one pass up and down restores v.

    It is neither the likelihood nor a bound on it: a machine whose chains never move restores every example. It only
    shows that training does something.

    Source: Hinton (2012), section 15.
    """
    v = rbm.space.check_example(v, "v")
    hidden = rbm.hidden.distribution(rbm.density().hidden_natural(v)).expected_statistics()
    natural = rbm.b + hidden @ rbm.W.T
    t = rbm.visible.statistics(v, natural.dtype)
    return rbm.visible.log_partition(natural) - jnp.dot(t, natural)


@register
def free_energy_gap(model: AbstractEnergyModel, train: Any, valid: Any) -> Estimate:
    """Mean of `log p~` over `train [n, ...]` minus its mean over `valid [m, ...]`, in nats, with a standard error.

    Z cancels, so this is an exact difference of mean log-likelihoods, up to the choice of rows. It grows while a model
    overfits. Give it as many training rows as validation rows.

    **Raises:** `ValueError` for fewer than two rows in either set.

    Source: Hinton (2012), section 6.
    """
    sides = []
    for name, rows in (("train", train), ("valid", valid)):
        rows = model.space.check_data(rows, name)
        if len(rows) < 2:
            raise ValueError(f"`free_energy_gap({name}=...)` needs at least 2 rows for an error bar; got {len(rows)}.")
        values = jax.lax.map(
            lambda x: integral(jr.key(0), model.numerator(model.space.cast(x, jnp.result_type(float)))).value,
            jnp.asarray(rows),
            batch_size=512,
        )
        sides.append((jnp.mean(values), jnp.var(values, ddof=1) / len(rows)))
    (mean_train, var_train), (mean_valid, var_valid) = sides
    return Estimate(mean_train - mean_valid, jnp.sqrt(var_train + var_valid), "estimate")
