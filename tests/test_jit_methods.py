"""`jax.jit(model.log_prob)` works as it is written, and never runs the program of another model."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table

import lnz
from lnz.modules import HashableMethods, registered_names, registered_object

DENSITY_AND_MAP = (lnz.AbstractDensity, lnz.AbstractModel, lnz.AbstractPath, lnz.bijections.AbstractBijection)


def test_every_model_has_such_methods():
    """One way to bind methods, for every registered class that has densities or maps."""
    classes = [registered_object(name) for name in registered_names()]
    classes = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, DENSITY_AND_MAP)]
    assert len(classes) > 60
    for cls in classes:
        assert cls.__getattribute__ is HashableMethods.__getattribute__, cls


def moved(model):
    """The model with its first array of floats moved a little."""
    leaves, structure = jax.tree.flatten(model)
    number = next(i for i, leaf in enumerate(leaves) if eqx.is_inexact_array(leaf))
    leaf = leaves[number]
    leaves[number] = leaf + jnp.asarray(0.125 * np.arange(1, 1 + leaf.size).reshape(leaf.shape), leaf.dtype)
    return jax.tree.unflatten(structure, leaves)


FEW = {
    "normal": (lambda: lnz.Normal(jnp.zeros(2), 1.0), "log_prob", lambda: jnp.ones(2)),
    "mixture": (table.mixture_of_normals, "log_prob", lambda: jnp.ones(1)),
    "rbm": (lambda: table.rbm(2, 1), "free_energy", lambda: jnp.ones(2)),
    "affine": (lambda: lnz.bijections.Affine(jnp.zeros(2), 2.0), "forward_and_log_det", lambda: jnp.ones(2)),
}


@pytest.mark.parametrize("name", FEW)
def test_a_changed_model_is_another_program(name, precision):
    make, method, example = FEW[name]
    model, x = make(), example()
    first, again, other = getattr(model, method), getattr(model, method), moved(model)
    assert first == again  # and so one program
    assert hash(first) == hash(again)
    twin = jax.tree.map(lambda leaf: leaf, model)  # of equal arrays: a program of its own does no harm
    assert first != getattr(twin, method)
    assert first != getattr(other, method)
    leaves, structure = jax.tree.flatten(first)  # a pytree, as Equinox's are
    assert isinstance(jax.tree.unflatten(structure, leaves), type(first))
    here, there = jax.jit(getattr(model, method))(x), jax.jit(getattr(other, method))(x)
    for got, right in ((here, getattr(model, method)(x)), (there, getattr(other, method)(x))):
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(right), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True))


def test_all_transformations_take_methods():
    normal, x = lnz.Normal(jnp.zeros(2), 1.0), jnp.ones(2)
    np.testing.assert_allclose(jax.grad(normal.log_prob)(x), [-1.0, -1.0])
    np.testing.assert_allclose(jax.jit(jax.grad(normal.log_prob))(x), [-1.0, -1.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(normal.log_prob))(x[None]), normal.log_prob(x)[None], rtol=1e-6)
    assert jax.jit(normal.sample, static_argnums=1)(jr.key(0), (3,)).shape == (3, 2)
    inside = eqx.filter_jit(lambda n, x: jax.jit(n.log_prob)(x) + jax.jit(n.log_prob)(x))  # of arrays that are traced
    np.testing.assert_allclose(inside(normal, x), 2 * normal.log_prob(x), rtol=1e-6)
