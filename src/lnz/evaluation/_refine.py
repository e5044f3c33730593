"""The amortisation gap of an encoder: gradient steps refine the posterior of each example from the encoder's output."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array, Float

from ..core import AbstractLatentModel
from ..modules import trainable

CHUNK = 128  # draws in memory for each of `batch_size` examples, as in `Importance`
_LEARNING_RATE = 0.03
_NUM_REFINE_DRAWS = 16


def mean_and_error(values: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    return jnp.mean(values), jnp.std(values, ddof=1) / math.sqrt(len(values))


def amortised_parameters(model: AbstractLatentModel, x: Array, dtype) -> Any:
    """A filter for `equinox.partition` that selects the parameters of `posterior(x)` that depend on x, or `None`.

    The dependence is read off the traced encoder, because values would not reveal it for a collapsed encoder.
    """

    def parameters(x):
        posterior = model.posterior(x)
        return eqx.filter(posterior, trainable(posterior))

    jaxpr, tree = jax.make_jaxpr(parameters, return_shape=True)(model.space.cast(x, dtype))
    depends = _depends(jaxpr, [True])
    is_x = [out is jaxpr.jaxpr.invars[0] for out in jaxpr.jaxpr.outvars]
    flags = [d and not same for d, same in zip(depends, is_x, strict=True)]
    flags = flags if any(flags) else depends  # in `Normal(x, 1)`, x itself is the parameter
    marked = jax.tree.unflatten(jax.tree.structure(tree), flags)
    return jax.tree.map(bool, marked, is_leaf=lambda node: node is None) if any(flags) else None


def _depends(closed: ClosedJaxpr | Jaxpr, inputs: list[bool]) -> list[bool]:
    """Whether each output of a program depends on the marked inputs."""
    jaxpr = closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed
    marked = {var for var, mark in zip(jaxpr.invars, inputs, strict=True) if mark}
    for equation in jaxpr.eqns:
        marks = [not isinstance(var, Literal) and var in marked for var in equation.invars]
        if equation.primitive.name in (
            "jit",
            "pjit",
        ):  # for other calls, every output is taken to depend on every input
            outputs = _depends(equation.params["jaxpr"], marks)
        else:
            outputs = [any(marks)] * len(equation.outvars)
        marked.update(var for var, mark in zip(equation.outvars, outputs, strict=True) if mark)
    return [not isinstance(var, Literal) and var in marked for var in jaxpr.outvars]


@eqx.filter_jit
def refinement(key, model, amortised, rows, num_samples: int, num_steps: int, batch_size: int, dtype):
    """The gain in the ELBO of each example from its own fitted posterior, measured on fresh draws, and its error."""
    optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, num_steps))

    def log_weights(posterior, key, x, num):
        z, log_q = posterior.sample_and_log_prob(key, (num,))
        log_likelihood = jax.vmap(lambda z: model.likelihood(z).log_prob(x))(z)
        return log_likelihood + jax.vmap(model.prior.log_prob)(z) - log_q

    def one(inputs):
        key, x = inputs
        x = model.space.cast(x, dtype)
        posterior = model.posterior(x)
        key_steps, key_test = jr.split(key)
        start, rest = eqx.partition(posterior, amortised)

        def loss(params, key):
            return -jnp.mean(log_weights(eqx.combine(params, rest), key, x, _NUM_REFINE_DRAWS))

        def step(carry, key):
            params, state = carry
            gradient = jax.grad(loss)(params, key)
            # Optax mixes integer step counts with floats; strict promotion, if the user chose it, would refuse.
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jr.split(key_steps, num_steps))
        num_chunks = -(-num_samples // CHUNK)

        def gain(key):  # both use the same noise, so most of it cancels
            num = -(-num_samples // num_chunks)
            after, before = (log_weights(eqx.combine(p, rest), key, x, num) for p in (params, start))
            return after - before

        return mean_and_error(jax.lax.map(gain, jr.split(key_test, num_chunks)).reshape(-1))

    return jax.lax.map(one, (jr.split(key, len(rows)), rows), batch_size=batch_size)
