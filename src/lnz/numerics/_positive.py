"""Positive scales and triangular factors as unconstrained fields, so that training keeps them valid."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..modules import as_floats, as_numbers, is_false
from ._batch_last import aligned


def loc_and_log_scale(loc: Any, scale: Any, owner: str) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`loc`, and the logarithm of `scale` broadcast to the shape of `loc`. Errors name the class `owner`."""
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
    """`loc`, and `tril` with the logarithms of its diagonal and zeros above it; `positive_tril` is the inverse."""
    loc = as_floats(loc)
    tril = jnp.asarray(tril, loc.dtype)
    if loc.ndim != 1 or tril.shape != 2 * loc.shape:
        raise ValueError(
            f"`{owner}(loc, {argument})` needs loc of shape (n,) and {argument} of shape (n, n); got {loc.shape} and "
            f"{tril.shape}."
        )
    diagonal = jnp.diagonal(tril)
    if is_false(jnp.all(diagonal > 0)):
        raise ValueError(f"`{owner}({argument}=...)` needs a positive diagonal; got {diagonal}.{advice}")
    above = jnp.triu(tril, 1)
    if is_false(jnp.all(above == 0)):  # a covariance, perhaps, whose lower triangle is not its factor
        raise ValueError(
            f"`{owner}({argument}=...)` must be lower triangular; the largest number above its diagonal is "
            f"{jnp.max(jnp.abs(above))}. Pass `jnp.tril({argument})` if it should be ignored.{advice}"
        )
    return loc, jnp.tril(tril, -1) + jnp.diag(jnp.log(diagonal))


def cholesky_factor(covariance: Any, owner: str) -> Float[Array, "n n"]:
    """The lower-triangular L with `L L' = covariance`. Errors name the class `owner`.

    **Raises:** `ValueError` unless the matrix is square, symmetric to rounding and positive definite.
    """
    matrix = covariance if isinstance(covariance, jax.Array) else np.asarray(as_numbers(covariance, "covariance"))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"`{owner}(covariance=...)` must be a matrix of shape (n, n); got {matrix.shape}.")
    if not isinstance(matrix, Tracer):
        _check_covariance(np.asarray(matrix), owner)
    return jnp.linalg.cholesky(as_floats(matrix))


def _check_covariance(matrix: np.ndarray, owner: str) -> None:
    eps = float(np.finfo(matrix.dtype).eps) if matrix.dtype.kind == "f" else 0.0
    wide = matrix.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError(f"`{owner}(covariance=...)` must be finite; got {wide[~np.isfinite(wide)][0]}.")
    size, asymmetry = np.abs(wide).max(initial=0.0), np.abs(wide - wide.T)
    if asymmetry.max(initial=0.0) > 100 * eps * size:  # rounding in sums of products
        row, column = (int(i) for i in np.unravel_index(asymmetry.argmax(), asymmetry.shape))
        raise ValueError(
            f"`{owner}(covariance=...)` must be symmetric; its numbers at ({row}, {column}) and ({column}, {row}) are "
            f"{wide[row, column]:.6g} and {wide[column, row]:.6g}, {asymmetry.max():.3g} apart. Use "
            "`(covariance + covariance.T) / 2` if they should be equal."
        )
    least = float(np.linalg.eigvalsh(wide).min(initial=np.inf))
    needed = len(wide) * float(jnp.finfo(jnp.result_type(float)).eps) * size
    if not least > needed:
        added = 10 * needed + max(-2 * least, 0.0) or 1.0
        raise ValueError(
            f"`{owner}(covariance=...)` must be positive definite; its smallest eigenvalue is {least:.3g}, so some "
            f"combination of the variables has no variance. Drop a variable that the others determine, or add variance "
            f"to all: `covariance + {added:.1g} * np.eye({len(wide)})`."
        )


def positive_tril(raw_tril: Float[Array, "n n ..."]) -> Float[Array, "n n ..."]:
    """The triangular factor whose diagonal `raw_tril` stores as logarithms. Batch axes, if any, come last."""
    num_batch = raw_tril.ndim - 2
    eye = np.eye(len(raw_tril), dtype=bool)
    on, below = (aligned(jnp.asarray(mask), 2, num_batch) for mask in (eye, np.tril(~eye)))
    return jnp.where(on, jnp.exp(jnp.where(on, raw_tril, 0)), jnp.where(below, raw_tril, 0))
