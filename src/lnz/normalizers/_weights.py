"""Draws of a proposal and their importance weights, a chunk at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDensity, AbstractDistribution, Estimate, exact_log_det
from ..modules import replace, without_gradient
from ..spaces import same_set


def proposal_for(density: AbstractDensity, proposal: AbstractDistribution | None, owner: str) -> AbstractDistribution:
    """`proposal`, or by default the start of the density's own path.

    **Raises:** `ValueError` if its space is not that of the density.
    """
    proposal = density.path().start if proposal is None else proposal
    if not same_set(proposal.space, density.space):
        raise ValueError(
            f"`{owner}(proposal=...)` lives on {proposal.space}, but must live on the density's space, "
            f"{density.space}. Try `lnz.Transformed(lnz.flows.base_for(space), lnz.bijections.ToSupport(space))`."
        )
    return proposal


def log_weights(
    key: PRNGKeyArray, density: AbstractDensity, proposal: AbstractDistribution, num: int, chunk_size: int
) -> Float[Array, " {num}"]:
    """`log p~(x_i) - log q(x_i)` for `num` draws `x_i ~ q`, with `chunk_size` draws in memory at a time.

    The density uses exact log-determinants. The proposal uses its own, which may be estimates.
    """
    return recorded_log_weights(key, density, proposal, num, chunk_size, lambda key, x, log_w: None)[0]


def recorded_log_weights(
    key: PRNGKeyArray,
    density: AbstractDensity,
    proposal: AbstractDistribution,
    num: int,
    chunk_size: int,
    record: Callable[[PRNGKeyArray, Array, Float[Array, " size"]], Any],
) -> tuple[Float[Array, " {num}"], Any]:
    """`log_weights`, and the values of `record(key, x, log_w)` for every chunk, joined along their first axis."""
    density = exact_log_det(density)

    num_chunks = -(-num // chunk_size)
    size = -(
        -num // num_chunks
    )  # even chunks, so one compiled program serves all; at most `num_chunks - 1` draws are superfluous

    def chunk(key):
        x, log_q = proposal.sample_and_log_prob(key, (size,))
        log_w = jax.vmap(density.log_density)(x) - log_q
        return log_w, record(key, x, log_w)

    if num_chunks == 1:
        return chunk(key)
    log_w, records = jax.lax.map(chunk, jr.split(key, num_chunks))
    return log_w.reshape(-1)[:num], jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), records)


def with_derivative(
    estimate: Estimate,
    density: AbstractDensity,
    draws: Array,
    log_w: Float[Array, " n"],
    batch_size: int | None = None,
) -> Estimate:
    """`estimate` of log Z, with the derivatives of `log sum_i w_i p~(x_i) / p~_now(x_i)` at fixed draws and weights.

    The first derivative is the weighted mean of `d log p~(x_i)`; the derivative of log Z is the mean of `d log p~`
    under p. The second derivative adds a variance. Draws that result from decisions (acceptance, a random bit, a
    search) have no derivatives of their own, and derivatives through their weights alone would be wrong.
    """
    estimate, draws, log_w = without_gradient((estimate, draws, log_w))
    shares = jax.nn.softmax(log_w)
    # At a draw of weight zero, the density may be zero and its derivative NaN.
    is_used = (shares > 0).reshape(-1, *(1,) * (draws.ndim - 1))
    draws = jnp.where(is_used, draws, draws[jnp.argmax(shares)])
    log_p = jax.lax.map(density.log_density, draws, batch_size=min(batch_size or len(draws), len(draws)))
    total = jnp.sum(shares * jnp.exp(log_p - jax.lax.stop_gradient(log_p)))
    change = jnp.log(jnp.where(total > 0, total, 1))  # without weights there is no mean
    return replace(estimate, value=estimate.value + change - jax.lax.stop_gradient(change))
