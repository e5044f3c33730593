"""Laws of spaces."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..spaces import AbstractSpace
from ._require import eps, require, require_close

_NUM = 64
_MOST_POINTS, _NUM_MOVES = 64, 2000


def check_space(space: AbstractSpace, key: PRNGKeyArray, *, tolerance: float = 1e-3, **grid: Any) -> None:
    """Checks, at draws of the reference distribution, the facts that samplers, normalisers and bijections rely on.

    - Draws lie inside, and by `quadrature(**grid)` the reference density integrates to one within `tolerance`.
    - `split` and `join` are inverse to each other.
    - `from_unbounded` and `to_unbounded` are inverse to each other, for batches too. Their log-determinants equal those
      of the Jacobian between the tangent bases, which are orthonormal and have `dimension` directions.
    - A proposed move stays inside. On spaces of up to 64 points, moves reach every point, and each is as likely as the
      move back within 5 standard errors (a false alarm in fewer than one of 1000 keys).
    """
    key_draw, key_move = jr.split(key)
    dtype = jnp.result_type(float)
    x = space.reference_sample(key_draw, (_NUM,), dtype)
    require(x.shape == (_NUM, *space.shape), f"reference draws have the shape of the space; got {x.shape}.")
    require(x.dtype == space.cast(x, dtype).dtype, f"reference draws are stored as the space says; got {x.dtype}.")
    inside = np.broadcast_to(np.asarray(space.elements_within(np.asarray(x))), x.shape)
    require(inside.all(), "reference draws lie in the space")
    require(np.array_equal(space.join(space.split(x, -1), -1), x), "`join` undoes `split`")
    log_p, log_total = _reference(space, x, grid)
    require(np.isfinite(log_p).all(), "reference draws have finite log-probabilities")
    require_close(log_total, 0.0, tolerance, "the reference density integrates to one")
    require((space.unbounded is None) or not space.measure.is_counting, "discrete spaces have no unbounded coordinates")
    if space.unbounded is not None:
        _check_coordinates(space, x)
    if space.propose is not None:
        _check_moves(space, key_move, x)


@eqx.filter_jit
def _reference(space: AbstractSpace, x: Array, grid: dict[str, Any]) -> tuple[Array, Array]:
    return jax.vmap(space.reference_log_prob)(x), space.quadrature(**grid).log_integral(space.reference_log_prob)


def _check_coordinates(space: AbstractSpace, x: Array) -> None:
    found = map(np.asarray, _coordinates(space, x))
    u, log_det, back, log_det_back, together, log_dets_together, jacobian, basis = found
    inner = space.unbounded
    assert inner is not None
    require(u.shape == (_NUM, *inner.shape), f"coordinates have the shape of {inner}; got {u.shape}.")
    require(inner.dimension == space.dimension, f"{inner} has as many dimensions as the space")
    scale = 500 * eps() * (1 + float(np.max(np.abs(x))) + float(np.max(np.abs(u))))
    require_close(back, x, scale, "`from_unbounded` undoes `to_unbounded`")
    require_close(log_det, -log_det_back, scale, "log-determinants of `to_unbounded` and `from_unbounded` cancel")
    require_close(np.moveaxis(together, -1, 0), back, scale, "`from_unbounded` of a batch in the last axis")
    require_close(log_dets_together, log_det_back, scale, "log-determinants of a batch in the last axis")
    require(basis.shape == (_NUM, space.size, space.dimension), f"tangent bases have shape {basis.shape}")
    gram = np.einsum("nia,nib->nab", basis, basis)
    require_close(gram, np.broadcast_to(np.eye(space.dimension), gram.shape), scale, "tangent bases are orthonormal")
    exact = np.linalg.slogdet(np.einsum("nia,nij->naj", basis, jacobian))[1]
    require_close(log_det_back, exact, 10 * scale, "log-determinant of `from_unbounded` equals that of the Jacobian")


@eqx.filter_jit
def _coordinates(space: AbstractSpace, x: Array) -> tuple[Array, ...]:
    """All numbers to compare, in one program; the Jacobian is `[n, size, coordinates]`."""
    u, log_det = jax.vmap(space.to_unbounded)(x)
    back, log_det_back = jax.vmap(space.from_unbounded)(u)
    together = space.from_unbounded(jnp.moveaxis(u, 0, -1))

    def flat(u_flat, like):
        return space.from_unbounded(u_flat.reshape(like.shape))[0].reshape(-1)

    jacobian = jax.vmap(lambda u: jax.jacfwd(flat)(u.reshape(-1), u))(u)
    basis = jax.vmap(space.tangent_basis)(x).reshape(len(x), space.size, -1)
    return u, log_det, back, log_det_back, *together, jacobian, basis


def _check_moves(space: AbstractSpace, key: PRNGKeyArray, x: Array) -> None:
    moved, is_allowed = map(np.asarray, _moves(space, jr.split(key, _NUM), x))
    inside = np.broadcast_to(np.asarray(space.elements_within(moved)), moved.shape)
    require(inside.all(), "moves stay in the space")
    require(moved.shape == x.shape and moved.dtype == x.dtype, "moves keep shape and number type")
    changed = (moved != np.asarray(x)).reshape(_NUM, -1).any(axis=1)
    require(not changed[~is_allowed].any(), "a move that is not allowed changes nothing")
    if space.num_points is None or not 1 < space.num_points <= _MOST_POINTS:
        return
    points = np.asarray(next(iter(space.quadrature())))
    num = len(points)
    starts = np.repeat(np.arange(num), _NUM_MOVES)
    ends, _ = _moves(space, jr.split(jr.fold_in(key, 1), len(starts)), jnp.asarray(points[starts]))
    index = {np.ascontiguousarray(point).tobytes(): i for i, point in enumerate(points)}
    found = np.asarray([index[np.ascontiguousarray(end).tobytes()] for end in np.asarray(ends)])
    counts = np.bincount(num * starts + found, minlength=num**2).reshape(num, num)
    pulls = np.abs(counts - counts.T) / np.sqrt(np.maximum(counts + counts.T, 1))
    require(pulls.max() < 5, f"a move is as likely as the one back: off by {pulls.max():.1f} standard errors.")
    reached = np.linalg.matrix_power((counts + np.eye(num) > 0).astype(float), num) > 0
    require(reached.all(), "moves reach every point")


@eqx.filter_jit
def _moves(space: AbstractSpace, keys: Array, x: Array) -> tuple[Array, Array]:
    propose = space.propose
    assert propose is not None
    return jax.vmap(propose)(keys, x)
