"""Spaces are found by shapes alone, once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import lnz
from lnz._by_shapes import by_shapes

CALLS = []


class Part(eqx.Module):
    array: jax.Array | np.ndarray
    number: int

    def space(self):
        CALLS.append(self)
        return lnz.Euclidean((*self.array.shape, self.number))


def space(part):
    return part.space()


def test_a_function_is_traced_once_for_equal_shapes():
    CALLS.clear()
    assert by_shapes(space, Part(jnp.zeros(2), 3)) == lnz.Euclidean((2, 3))
    assert by_shapes(space, Part(jnp.ones(2), 3)) == lnz.Euclidean((2, 3))
    assert by_shapes(space, Part(np.ones(2, np.float32), 3)) == lnz.Euclidean((2, 3))
    assert jax.jit(lambda a: jnp.zeros(by_shapes(space, Part(a, 3)).shape))(jnp.ones(2)).shape == (2, 3)
    assert len(CALLS) == 1
    assert all(isinstance(part.array, jax.core.Tracer) for part in CALLS)  # nothing is computed


def test_other_shapes_precisions_and_numbers_are_asked_again(float64):
    CALLS.clear()
    parts = [Part(jnp.zeros(7), 3), Part(jnp.zeros(8), 3), Part(jnp.zeros(7), 4), Part(jnp.zeros(7, jnp.float32), 3)]
    assert [by_shapes(space, part).shape for part in parts] == [(7, 3), (8, 3), (7, 4), (7, 3)]
    assert len(CALLS) == 4


def test_spaces_of_autoencoders_are_traced_once():
    """`evaluate` asks for them at each step of its work."""
    calls = []

    def likelihood(z):
        calls.append(z)
        return lnz.Bernoulli(jnp.zeros(5) * z[0])

    vae = lnz.latent.VAE(lnz.Normal.standard(2), likelihood, None)
    num = len(calls)
    assert num == 1
    assert [vae.space, vae.space] == [lnz.Binary(5)] * 2
    assert len(calls) == num
