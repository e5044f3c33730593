"""The stress table: no input makes a number that is not finite, of any bijection, in either direction and precision."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import table

import lnz
from lnz._supports import Product, Torus


def numbers_that_hurt(low=None, high=None):
    """Far out, knots of the table's splines, ends of spaces, the numbers beside those, zero, the smallest there are."""
    dtype = jnp.result_type(float)
    info = np.finfo(dtype)
    ends = np.array([e for e in (-5.0, -3.0, 3.0, 5.0, low, high) if e is not None], dtype)
    beside = [np.nextafter(ends, np.asarray(to, dtype)) for to in (-np.inf, np.inf)]
    plain = np.array([0.0, info.tiny, info.smallest_subnormal, info.eps, 0.3, 1.0, 1e4, 1e8], dtype)
    return np.concatenate([plain, -plain, ends, *beside])


def rows_that_hurt(space):
    """Rows of a space: all alike, and mixed in a way in which every number meets others."""
    if isinstance(space, Product):
        parts = [np.asarray(rows_that_hurt(part)) for part in space.spaces]
        num = max(len(part) for part in parts)
        return jnp.concatenate([np.resize(part, (num, *part.shape[1:])) for part in parts], axis=1)
    low, high = (getattr(space, name, None) for name in ("low", "high"))
    values = numbers_that_hurt(low, high)
    if isinstance(space, Torus):
        values = np.clip(values, -np.pi, np.nextafter(np.asarray(np.pi, values.dtype), np.asarray(0, values.dtype)))
    elif isinstance(space, lnz.Positive):
        # Zero is no positive number, and XLA takes numbers below the least normal one for zero.
        values = np.abs(values)[np.abs(values) >= np.finfo(values.dtype).tiny]
    elif low is not None:
        values = np.clip(values, low, high)
    num, size = len(values), space.num_dimensions
    mixed = [[values[(i + 5 * j * (k + 1)) % num] for j in range(size)] for i in range(num) for k in range(2)]
    alike = [[value] * size for value in values]
    return jnp.asarray(np.array(alike + mixed, values.dtype).reshape(-1, *space.shape))


@pytest.mark.parametrize("name", table.BIJECTIONS)
def test_no_input_makes_a_number_that_is_not_finite(name, precision):
    """Values and gradients with respect to inputs and parameters, as built and with parameters a thousandfold."""
    bijection = table.BIJECTIONS[name]()
    params, rest = eqx.partition(bijection, eqx.is_inexact_array)

    @jax.jit
    def everything(factor, x, y):
        def scalar(params, x, inverse):
            scaled = jax.tree.map(lambda leaf: factor * leaf, params)
            bijection = eqx.combine(scaled, rest)
            y, log_det = (bijection.inverse_and_log_det if inverse else bijection.forward_and_log_det)(x)
            return jnp.sum(y / y.size) + log_det, (y, log_det)

        slope = jax.grad(scalar, (0, 1), has_aux=True)
        return {
            direction: jax.vmap(lambda x, inverse=inverse: slope(params, x, inverse))(rows)
            for direction, rows, inverse in (("forward", x, False), ("inverse", y, True))
        }

    x, y = rows_that_hurt(bijection.domain), rows_that_hurt(bijection.codomain)
    for factor in (1.0, 1e3):
        for direction, found in everything(jnp.asarray(factor), x, y).items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(found):
                bad = ~np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(axis=1)
                rows = x if direction == "forward" else y
                assert not bad.any(), (direction, factor, jax.tree_util.keystr(path), rows[np.argmax(bad)], bad.sum())
