"""Positive scales and triangular factors as unconstrained fields, so that training keeps them valid."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._batch_last import aligned
from ._check import as_floats, is_false


def loc_and_log_scale(loc: Any, scale: Any, owner: str) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`loc` and the logarithm of `scale`, spread over the shape of `loc`, or errors in the name of `owner`."""
    loc = as_floats(loc)
    scale = jnp.asarray(scale, loc.dtype)
    missing = loc.ndim - scale.ndim
    if missing < 0 or any(n not in (1, m) for n, m in zip(scale.shape, loc.shape[max(missing, 0) :], strict=False)):
        raise ValueError(
            f"`{owner}(loc, scale)` needs a scale of the shape of loc, or a number; got loc of shape {loc.shape} and "
            f"scale of shape {scale.shape}."
        )
    if is_false(jnp.all(scale > 0)):
        raise ValueError(f"`{owner}(scale=...)` must be positive; got {scale}. It is a standard deviation or a factor.")
    return loc, jnp.broadcast_to(jnp.log(scale), loc.shape)


def loc_and_raw_tril(
    loc: Any, tril: Any, owner: str, argument: str, advice: str = ""
) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """`loc` and `tril` with the logarithm of its diagonal and zeros above it; `positive_tril` is the inverse."""
    loc = as_floats(loc)
    tril = jnp.asarray(tril, loc.dtype)
    if loc.ndim != 1 or tril.shape != 2 * loc.shape:
        raise ValueError(
            f"`{owner}(loc, {argument})` needs loc of shape (n,) and {argument} of shape (n, n); got {loc.shape} and "
            f"{tril.shape}."
        )
    diagonal = jnp.diagonal(tril)
    if is_false(jnp.all(diagonal > 0)):
        raise ValueError(f"`{owner}({argument}=...)` needs a positive diagonal{advice}.")
    return loc, jnp.tril(tril, -1) + jnp.diag(jnp.log(diagonal))


def positive_tril(raw_tril: Float[Array, "n n ..."]) -> Float[Array, "n n ..."]:
    """The triangular factor whose diagonal is stored as logarithms; with axes of a batch last, if it has some."""
    num_batch = raw_tril.ndim - 2
    eye = np.eye(len(raw_tril), dtype=bool)
    on, below = (aligned(jnp.asarray(mask), 2, num_batch) for mask in (eye, np.tril(~eye)))
    return jnp.where(on, jnp.exp(jnp.where(on, raw_tril, 0)), jnp.where(below, raw_tril, 0))
