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
from lnz.spaces import Categorical


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
    with pytest.raises(ValueError, match=r"evaluate\(\.\.\., partition=.*model\.denominator\(\), method=.*PCD"):
        lnz.core.need_method(rbm.denominator(), None, "partition", rbm)
    with pytest.raises(ValueError, match=r"evaluate\(\.\.\., hidden=.*model\.numerator\(x\), method=.*ELBO"):
        lnz.core.need_method(vae.numerator(x), None, "hidden", vae)
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


class Seen(eqx.Module):
    """A network that keeps the numbers that it is given."""

    inputs: list = eqx.field(static=True, default_factory=list)
    num_out: int | tuple = eqx.field(static=True, default=4)

    def __call__(self, x):
        jax.debug.callback(lambda x: self.inputs.append(np.asarray(x)), x)
        return jnp.zeros(self.num_out)


def grey_decoder(num=5):
    return lnz.Conditional.of(lnz.DiscretisedLogistic(jnp.full(num, 0.5), 0.3, 256), 2, key=jr.key(0), width=3)


def count_decoder(num=5):
    return lnz.Conditional.of(lnz.Poisson(jnp.ones(num)), 2, key=jr.key(0), width=3)


def bit_decoder(num=5):
    return lnz.Conditional.of(lnz.Bernoulli(jnp.zeros(num)), 2, key=jr.key(0), width=3)


# A decoder, rows of its space, and these as a network should see them: by hand.
WHOLE_NUMBERS = {
    "categories": (grey_decoder, [0, 51, 255, 204, 102], [-1, -0.6, 1, 0.6, -0.2]),
    "counts": (count_decoder, [0, 1, 7, 0, 10**6], np.log([1, 2, 8, 1, 1 + 10**6])),
    "bits": (bit_decoder, [0, 1, 1, 0, 1], [0, 1, 1, 0, 1]),
}
NORMAL = lnz.Normal.standard(2)


def reading_vae(decoder, net):
    return lnz.latent.VAE(NORMAL, decoder, lnz.Conditional(NORMAL, net))


def reading_vamp(decoder, net):
    pseudo = lnz.latent.VampPrior(jnp.zeros((2, 5)))
    return lnz.latent.VAE(pseudo, decoder, lnz.Conditional(NORMAL, net))


def reading_bottom_up(decoder, net):
    up, down = (lnz.Conditional.of(NORMAL, 2, key=jr.key(1), width=3) for _ in range(2))
    encoder = lnz.latent.BottomUp(lnz.Conditional(NORMAL, net), up)
    return lnz.latent.Hierarchical(NORMAL, (down,), decoder, encoder)


def reading_top_down(decoder, net):
    lower = lnz.Conditional.of(NORMAL, 7, key=jr.key(1), width=3)
    down = lnz.Conditional.of(NORMAL, 2, key=jr.key(1), width=3)
    encoder = lnz.latent.TopDown(lnz.Conditional(NORMAL, net), lower)
    return lnz.latent.Hierarchical(NORMAL, (down,), decoder, encoder)


def reading_ladder(decoder, net):
    down = lnz.Conditional.of(NORMAL, 2, key=jr.key(1), width=3)
    messages = tuple(lnz.Conditional.of(NORMAL, 4, key=jr.key(2), width=3) for _ in range(2))
    encoder = lnz.latent.Ladder((net, lnz.nets.MLP(4, 4, key=jr.key(3), width=3)), messages)
    return lnz.latent.Hierarchical(NORMAL, (down,), decoder, encoder)


READERS = [reading_vae, reading_vamp, reading_bottom_up, reading_top_down, reading_ladder]


@pytest.mark.parametrize("make", READERS)
@pytest.mark.parametrize(("decoder", "x", "expected"), WHOLE_NUMBERS.values(), ids=WHOLE_NUMBERS)
def test_a_network_reads_whole_numbers_on_the_scale_of_their_space(make, decoder, x, expected):
    net = Seen()
    model = make(decoder(), net)
    net.inputs.clear()
    model.posterior(model.space.cast(np.array(x), jnp.float32))
    jax.effects_barrier()
    np.testing.assert_allclose(net.inputs[-1], expected, rtol=2e-6)
    if make is reading_vamp:  # whose pseudo-inputs are examples too
        net.inputs.clear()
        assert model.prior.space.shape == (2,)
        jax.effects_barrier()
        zeros = {"categories": -1.0}.get(next(k for k, v in WHOLE_NUMBERS.items() if v[0] is decoder), 0.0)
        np.testing.assert_allclose(net.inputs[-1], zeros)


def test_standardised_networks_and_functions_read_whole_numbers_as_they_are():
    x = np.array([0, 51, 255, 204, 102])
    net = Seen()
    standardised = lnz.nets.Standardised(net, jnp.full(5, 100.0), jnp.full(5, 50.0))
    model = reading_vae(grey_decoder(), standardised)
    model.posterior(jnp.asarray(x))
    jax.effects_barrier()
    np.testing.assert_allclose(net.inputs[-1], (x - 100) / 50, rtol=2e-6)
    table = jnp.arange(256.0)
    model = lnz.latent.VAE(NORMAL, grey_decoder(), lambda x: lnz.Normal(table[x][:2], 1.0))
    np.testing.assert_array_equal(model.posterior(jnp.asarray(x)).loc, [0, 51])


def test_a_dequantiser_reads_categories_on_their_scale():
    splines = lnz.bijections.SplineTransformer(2, 0.0, 1.0)
    net = Seen(num_out=(splines.num_params, 3))
    flow = lnz.Uniform(3, 0.0, 5.0)
    model = lnz.Dequantised(flow, Categorical(3, 5), lnz.latent.SplineNoise(net, splines))
    model.posterior(jnp.array([0, 1, 4]))
    jax.effects_barrier()
    np.testing.assert_allclose(net.inputs[-1], [-1.0, -0.5, 1.0])


class OfPictures(eqx.Module):
    """A network of the user's own, whose `in_size` is the side of a picture."""

    in_size: int
    in_features: int

    def __call__(self, x):
        return jnp.concatenate([x.sum(axis=0), x.sum(axis=1)])


def test_a_module_of_the_user_says_nothing_of_its_inputs_by_its_fields():
    conditional = lnz.Conditional(lnz.Normal(jnp.zeros(4), 1.0), OfPictures(2, 2), where=lambda normal: normal.loc)
    np.testing.assert_array_equal(conditional(jnp.array([[1.0, 2.0], [3.0, 4.0]])).loc, [4, 6, 3, 7])
    equinox = lnz.Conditional(lnz.Normal(jnp.zeros(2), 1.0), eqx.nn.Linear(3, 4, key=jr.key(0)))
    with pytest.raises(ValueError, match=r"of shape \(3,\); got \(3, 7\)"):
        equinox(jnp.ones((3, 7)))


@pytest.mark.parametrize(("scale", "is_named"), [(255.0, True), (1.0, False)])
def test_an_early_divergence_names_unscaled_input(scale, is_named):
    x = (scale * np.random.default_rng(0).random((32, 8))).astype(np.float32)
    net = lnz.nets.MLP(4, 8, key=jr.key(0), width=8)
    model = lnz.Joint(lnz.Normal.standard(4), lnz.Conditional(lnz.Normal(jnp.zeros(4), 1.0), net))
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(3.0))
    with pytest.raises(FloatingPointError, match="diverged at step") as error:
        lnz.fit(jr.key(0), model, method, x, steps=80)
    assert ("These data go from" in str(error.value)) == is_named


def test_a_divergence_at_the_first_step_names_unscaled_input():
    net = lnz.nets.MLP(4, 8, key=jr.key(0), width=8)
    conditional = lnz.Joint(lnz.Normal.standard(4), lnz.Conditional(lnz.Normal(jnp.zeros(4), 1.0), net))
    rows = (1e30 * np.random.default_rng(0).normal(size=(8, 8))).astype(np.float32)
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(1.0))
    with pytest.raises(FloatingPointError, match=r"at step 1.*unscaled input.*0 to 255"):
        lnz.fit(jr.key(0), conditional, method, rows, steps=2)
