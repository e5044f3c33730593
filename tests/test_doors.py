"""Doors that were too narrow: one line for y = 2x + 1, layers of given sizes, shapes of examples, errors that help."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.stats
import table

import lnz
from lnz.energy import RBM, CategoricalUnits
from lnz.normalizers import Quadrature


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2)])
def test_numbers_of_an_affine_map_are_for_each_variable(shape):
    flow = lnz.Transformed(lnz.Normal.standard(shape), lnz.bijections.Affine(1.0, 2.0))
    x = np.linspace(-1, 2, max(1, int(np.prod(shape)))).reshape(shape)
    assert flow.space.shape == shape
    assert float(flow.log_prob(jnp.asarray(x, jnp.float32))) == pytest.approx(scipy.stats.norm(1, 2).logpdf(x).sum())


def test_linear_takes_sizes_as_other_layers_do(untyped):
    layer = lnz.nets.Linear(3, 2, key=jr.key(0))
    assert layer.W.shape == (2, 3)
    assert layer.b.shape == (2,)
    assert 0 < float(jnp.max(jnp.abs(layer.W))) <= 3**-0.5
    same = lnz.nets.Linear.from_parameters(layer.W, layer.b)
    assert eqx.tree_equal(layer, same)
    with pytest.raises(TypeError, match="num_in"):  # by the checker of types of the tests, or by `Linear` itself
        lnz.nets.Linear(layer.W, layer.b, key=jr.key(0))
    with pytest.raises(ValueError, match=r"num_out.*\(3, 2\) and \(2,\).*Try `W\.T`"):
        lnz.nets.Linear.from_parameters(layer.W.T, layer.b)


def test_a_network_without_hidden_layers_is_affine():
    net = lnz.nets.MLP(3, (2, 2), key=jr.key(0), depth=0)
    x = jnp.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(net(x), np.asarray(net.weights[0]) @ np.asarray(x) + net.biases[0], rtol=1e-6)
    assert net.call_batch_last(jnp.ones((3, 5))).shape == (2, 2, 5)  # batches last
    with pytest.raises(ValueError, match="depth"):
        lnz.nets.MLP(3, 2, key=jr.key(0), depth=-1)
    conditional = lnz.Conditional.of(lnz.Normal(jnp.zeros(2), 1.0), 3, key=jr.key(0), depth=0)
    assert float(conditional(x).log_prob(jnp.zeros(2))) == pytest.approx(-np.log(2 * np.pi), abs=1e-6)


@pytest.mark.parametrize(("units", "shape"), [(6, (6,)), (CategoricalUnits(2, 3), (2, 3))])
def test_base_rates_have_the_shape_of_an_example(units, shape):
    rates = jnp.linspace(0.2, 0.7, 6)
    if isinstance(units, CategoricalUnits):
        rates = jnp.tile(jnp.array([0.2, 0.3, 0.5]), 2)
    made = RBM(units, 2, key=jr.key(0), base_rates=rates.reshape(shape))
    flat = RBM(units, 2, key=jr.key(0), base_rates=rates)
    assert eqx.tree_equal(made, flat)
    paths = (made.path(given).start for given in (rates.reshape(shape), rates))
    assert eqx.tree_equal(*paths)
    with pytest.raises(ValueError, match=r"`base_rates` must have shape .*; got \(5,\)"):
        made.path(jnp.full(5, 0.5))


def test_a_missing_normaliser_names_every_way_to_give_it():
    """And what it recommends for training works."""
    rbm, dbm, vae = table.rbm(), table.dbm(3, 2, 2), table.bits_vae()
    x = jnp.zeros(3)
    with pytest.raises(ValueError, match=r"evaluate\(\.\.\., partition=.*log_normalizer\(key, density, method=.*PCD"):
        rbm.log_denominator(jr.key(0))
    with pytest.raises(ValueError, match=r"evaluate\(\.\.\., hidden=.*condition\(model, x\), method=.*ELBO"):
        vae.log_numerator(jr.key(0), x)
    ways = [
        (rbm, lnz.objectives.MaximumLikelihood(), "PCD"),
        (vae, lnz.objectives.MaximumLikelihood(), "ELBO"),
        (dbm, lnz.objectives.MaximumLikelihood(), "`partition=...` too"),
        (dbm, lnz.objectives.MaximumLikelihood(hidden=Quadrature()), "`hidden=...` too"),
    ]
    for model, objective, words in ways:
        data = np.zeros((4, *model.space.shape))
        with pytest.raises(ValueError, match=words) as caught:
            objective.loss(jr.key(0), model, (), jnp.asarray(data, jnp.float32))
        assert ("ELBO" in str(caught.value)) == (model is vae)
    both = lnz.objectives.MaximumLikelihood(Quadrature(), Quadrature())
    lnz.fit(jr.key(0), dbm, lnz.Gradient(both, optax.sgd(0.1)), np.zeros((4, 3)), steps=1)


class Decoder(eqx.Module):
    """A user's own, of Equinox's layers."""

    layer: eqx.nn.Linear

    def __call__(self, z):
        return lnz.Bernoulli(self.layer(z))


class Encoder(eqx.Module):
    net: eqx.nn.MLP

    def __call__(self, x):
        loc, log_scale = jnp.split(self.net(x), 2)
        return lnz.Normal(loc, jnp.exp(log_scale))


def test_modules_of_equinox_are_saved_after_one_register(tmp_path):
    for cls in (Decoder, Encoder):
        lnz.register(cls)
    keys = jr.split(jr.key(0))
    decoder = Decoder(eqx.nn.Linear(2, 5, key=keys[0]))
    encoder = Encoder(eqx.nn.MLP(5, 4, 8, 1, key=keys[1]))
    vae = lnz.latent.VAE(lnz.Normal.standard(2), decoder, encoder)
    lnz.save(tmp_path / "vae.lnz", vae)
    again = lnz.load(tmp_path / "vae.lnz")
    x = jnp.array([0.0, 1.0, 1.0, 0.0, 1.0])
    assert jax.tree.structure(again) == jax.tree.structure(vae)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(vae), strict=True))
    first, second = (model.posterior(x).loc for model in (vae, again))
    np.testing.assert_array_equal(first, second)


def test_a_divergence_at_the_first_step_names_unscaled_input():
    net = lnz.nets.MLP(4, 8, key=jr.key(0), width=8)
    conditional = lnz.Joint(lnz.Normal.standard(4), lnz.Conditional(lnz.Normal(jnp.zeros(4), 1.0), net))
    rows = (1e30 * np.random.default_rng(0).normal(size=(8, 8))).astype(np.float32)
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(1.0))
    with pytest.raises(FloatingPointError, match=r"at step 1.*input that is not scaled.*0 to 255"):
        lnz.fit(jr.key(0), conditional, method, rows, steps=2)
