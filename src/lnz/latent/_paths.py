"""Paths between two points of a latent space."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..modules import as_floats


def lerp(z0: Real[Array, "*shape"], z1: Real[Array, "*shape"], t: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    """`(1 - t) z0 + t z1`: the straight line. At 0 and 1 it is exactly `z0` and `z1`.

    In many dimensions, the middle of a straight line between two draws of a standard normal is nearer to the origin
    than nearly all draws. The decoder has not been trained there, and `slerp` is the better path.
    """
    z0, z1 = as_floats(z0), as_floats(z1)
    t = jnp.asarray(t, z0.dtype)
    return (1 - t) * z0 + t * z1


def slerp(z0: Real[Array, "*shape"], z1: Real[Array, "*shape"], t: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    """The great circle from `z0` to `z1`: the direction turns evenly and the norm changes evenly.

    `|slerp(t)| = (1 - t) |z0| + t |z1|`, and its angle to `z0` is t times the angle between the two. At 0 and 1 it is
    exactly `z0` and `z1`. If the two point in one direction, the path is the straight line. If they point in opposite
    directions, all great circles are equally short, and the path goes towards the coordinate axis least aligned with
    them. In one dimension, and from or to the origin, it is the straight line too.

    **Arguments:**

    - `z0`, `z1`: latents of one shape, taken as vectors.
    - `t`: 0 to 1.

    Source: White (2016), arXiv:1609.04468, for latents; Shoemake (1985) for unit quaternions. Differs: White applies
    the formula for unit vectors to all vectors, whose norm then changes unevenly; here the norm is interpolated
    separately.
    """
    z0, z1 = as_floats(z0), as_floats(z1)
    t = jnp.asarray(t, z0.dtype)
    a, b = z0.reshape(-1), z1.reshape(-1)
    norm_a, norm_b = _norm(a), _norm(b)
    is_line = (norm_a == 0) | (norm_b == 0) | (a.size == 1)
    u, v = _unit(a), _unit(b)
    # By atan2 rather than arccos, which loses half of the digits near 0 and pi.
    angle = 2 * jnp.arctan2(_norm(u - v), _norm(u + v))
    circle = jnp.cos(t * angle) * u + jnp.sin(t * angle) * _across(u, v)
    turned = ((1 - t) * norm_a + t * norm_b) * _unit(circle)
    path = jnp.where(is_line, lerp(a, b, t), turned)
    path = jnp.where(t == 0, a, jnp.where(t == 1, b, path))
    return path.reshape(z0.shape)


def _across(u: Float[Array, " n"], v: Float[Array, " n"]) -> Float[Array, " n"]:
    """The unit vector orthogonal to `u` in the plane of both, or in some plane if they are parallel."""
    axis = jnp.zeros_like(u).at[jnp.argmin(jnp.abs(u))].set(1)
    rest = v - jnp.dot(u, v) * u
    is_parallel = _norm(rest) < 16 * jnp.finfo(u.dtype).eps
    rest = jnp.where(is_parallel, axis, _unit(rest))
    return _unit(rest - jnp.dot(u, rest) * u)


def _norm(x: Float[Array, " n"]) -> Float[Array, ""]:
    """The Euclidean norm, with gradient zero at zero."""
    largest = jnp.max(jnp.abs(x))
    scale = jnp.where(largest > 0, largest, 1)  # squares of small and of large numbers would leave the range
    squares = jnp.sum((x / scale) ** 2)
    return jnp.where(largest > 0, scale * jnp.sqrt(jnp.where(largest > 0, squares, 1)), 0)


def _unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    norm = _norm(x)
    return x / jnp.where(norm > 0, norm, 1)
