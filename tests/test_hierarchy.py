"""Models with two and three layers of latents: three ways to infer them, against quadrature."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table
from jax.scipy.special import logsumexp

import lnz
from lnz.latent import BottomUp, Hierarchical, Ladder, VampPrior
from lnz.objectives import ELBO, IWAE

KINDS = ("bottom_up", "top_down", "ladder")


def bits(num=5, size=3, seed=600):
    return (table.normal(seed, num, size) > 0).astype(jnp.result_type(float))


def grid_values(vae, x, num=221):
    """On a grid over both layers: points, log weights, log p(x, z), log q(z | x)."""
    z, log_w = lnz.Euclidean(2).quadrature(num, (-22.0, 22.0))
    log_p = jax.vmap(lambda z: vae.prior.log_prob(z) + vae.likelihood(z).log_prob(x))(z)
    return z, log_w, log_p, jax.vmap(vae.posterior(x).log_prob)(z)


@pytest.mark.parametrize("kind", KINDS)
def test_joint_densities_are_loops_and_the_bound_is_one(kind, float64):
    """`p(z_2) p(z_1 | z_2)` and q by hand; by quadrature q integrates to one and its ELBO is below log p(x)."""
    vae = table.hierarchical(kind)
    x, z = bits(1)[0], jnp.array([0.3, -0.8])

    @eqx.filter_jit
    def compute(vae, x, z):
        z1, z2 = z[:1], z[1:]
        by_hand = vae.top.log_prob(z2) + vae.conditionals[0](z2).log_prob(z1)
        q = vae.posterior(x)
        if kind == "bottom_up":
            q_by_hand = vae.encoder.first(x).log_prob(z1) + vae.encoder.conditionals[0](z1).log_prob(z2)
        elif kind == "top_down":
            lower = vae.encoder.conditionals[0](jnp.concatenate([x, z2]))
            q_by_hand = vae.encoder.first(x).log_prob(z2) + lower.log_prob(z1)
        else:
            (up_1, up_2), (to_1, to_2) = vae.encoder.networks, vae.encoder.messages
            d1 = up_1(x)
            hat, p = to_1(d1), vae.conditionals[0](z2)
            precision = hat.scale**-2 + p.scale**-2
            loc = (hat.loc * hat.scale**-2 + p.loc * p.scale**-2) / precision
            merged = lnz.Normal(loc, precision**-0.5)
            q_by_hand = to_2(up_2(d1)).log_prob(z2) + merged.log_prob(z1)
        _, log_w, log_p, log_q = grid_values(vae, x)
        weights = jnp.exp(log_q + log_w)
        elbo, log_px = jnp.sum(weights * (log_p - log_q)), logsumexp(log_p + log_w)
        # By draws: the same number without bias.
        drawn = jax.vmap(lambda k: -ELBO(1).loss(k, vae, (), x[None])[0])(jr.split(jr.key(1), 4000))
        iwae = jax.vmap(lambda k: -IWAE(5).loss(k, vae, (), x[None])[0])(jr.split(jr.key(2), 2000))
        pairs = (vae.prior.log_prob(z), by_hand), (q.log_prob(z), q_by_hand)
        return pairs, jnp.sum(weights), elbo, log_px, vae.likelihood(z).log_prob(x), drawn, iwae

    pairs, total, elbo, log_px, log_x, drawn, iwae = compute(vae, x, z)
    for ours, by_hand in pairs:
        np.testing.assert_allclose(ours, by_hand, rtol=1e-10)
    assert float(total) == pytest.approx(1, abs=1e-6)
    assert float(elbo) < float(log_px)
    assert float(log_x) == pytest.approx(float(vae.decoder(z[:1]).log_prob(x)), rel=1e-10)
    # 4 standard errors: a false alarm in 1 of 16,000 keys; and IWAE lies between.
    assert float(drawn.mean()) == pytest.approx(float(elbo), abs=4 * float(drawn.std()) / np.sqrt(4000))
    margin = 4 * float(iwae.std()) / np.sqrt(2000)
    assert float(elbo) < float(iwae.mean()) < float(log_px) + margin


@pytest.mark.parametrize("kind", KINDS)
def test_estimators_of_the_likelihood_work_unchanged(kind):
    """Importance sampling, and annealing from the posterior by HMC, agree with quadrature."""
    vae, x = table.hierarchical(kind), bits(3)

    @eqx.filter_jit
    def by_quadrature(vae, x):
        return jax.vmap(lambda x: logsumexp(grid_values(vae, x)[2] + grid_values(vae, x)[1]))(x)

    exact = float(by_quadrature(vae, x).mean())
    ais = lnz.normalizers.AIS(100, 15, sampler=lnz.samplers.HMC(0.5, 3))
    for method in (lnz.normalizers.Importance(500), ais):
        result = lnz.evaluate(jr.key(3), vae, x, hidden=method)
        assert result.bound == "lower"
        assert result.value == pytest.approx(exact, abs=5 * result.monte_carlo_error)


@pytest.mark.parametrize("order", ["down", "up"])
def test_three_layers_of_different_sizes(order, float64):
    distribution = table.layered(order, sizes=(3, 2, 1))
    z = table.normal(601, 6)
    layers = distribution.split(z)
    assert [len(layer) for layer in layers] == [3, 2, 1]
    drawn = layers[::-1] if order == "down" else layers
    by_hand = distribution.first.log_prob(drawn[0])
    for i, conditional in enumerate(distribution.conditionals):
        by_hand += conditional(drawn[i]).log_prob(drawn[i + 1])
    np.testing.assert_allclose(distribution.log_prob(z), by_hand, rtol=1e-12)
    assert distribution.reparameterised
    draws, log_prob = distribution.sample_and_log_prob(jr.key(0), (2, 5))
    assert draws.shape == (2, 5, 6)
    np.testing.assert_allclose(log_prob, jax.vmap(jax.vmap(distribution.log_prob))(draws), rtol=1e-9)


def test_a_ladder_shares_the_generative_path():
    """Where a message says nothing the posterior is the prior's conditional, also after training changed that."""
    vae = table.hierarchical("ladder")
    num_arrays = len(jax.tree.leaves(eqx.filter(vae, eqx.is_array)))
    fit = lnz.fit(jr.key(1), vae, lnz.Gradient(ELBO(2), optax.adam(0.05)), bits(40).astype(jnp.uint8), steps=10)
    model, z2 = fit.model, jnp.array([0.4])
    assert len(jax.tree.leaves(eqx.filter(model, eqx.is_array))) == num_arrays
    corrected = model.posterior(bits(1)[0]).conditionals[0]
    silent = lnz.modules._module.replace(corrected, message=lnz.Normal(jnp.array([3.0]), 1e18))
    loud = lnz.modules._module.replace(corrected, message=lnz.Normal(jnp.array([3.0]), 1e-18))
    np.testing.assert_allclose(silent(z2).loc, model.conditionals[0](z2).loc, rtol=1e-6)
    np.testing.assert_allclose(silent(z2).log_scale, model.conditionals[0](z2).log_scale, rtol=1e-5)
    np.testing.assert_allclose(loud(z2).loc, 3.0, rtol=1e-6)
    np.testing.assert_allclose(loud(z2).log_scale, np.log(1e-18), rtol=1e-6)
    assert float(jnp.max(jnp.abs(model.conditionals[0](z2).loc - vae.conditionals[0](z2).loc))) > 1e-3


def test_a_ladder_takes_whole_numbers():
    """Counts come as int32, which no network multiplies with."""
    vae = table.hierarchical("ladder")
    counts = Hierarchical(
        vae.top,
        vae.conditionals,
        lnz.Conditional(lnz.Poisson(jnp.zeros(3)), vae.decoder.net),
        lnz.modules._module.replace(
            vae.encoder, networks=(lambda x: vae.encoder.networks[0].biases[0][:3] * x, lambda d: d)
        ),
    )
    x, z = jnp.array([3, 0, 7], jnp.int32), jnp.array([0.3, -0.2])
    run = eqx.filter_jit(lambda x: counts.posterior(x).log_prob(z))
    np.testing.assert_array_equal(run(counts.space.cast(x, jnp.float32)), run(x.astype(jnp.float32)))


@pytest.mark.parametrize("kind", ["bottom_up", "top_down"])
def test_a_flow_on_the_top_layer_starts_from_draws_of_its_posterior(kind):
    """Its activation normalisation then makes what the posterior draws, in all, a standard normal."""
    parts = table.hierarchical(kind)
    top = lnz.Transformed(lnz.Normal.standard(1), lnz.bijections.ActNorm(lnz.Euclidean(1)))
    vae = Hierarchical(top, parts.conditionals, parts.decoder, parts.encoder)
    x = bits(300)

    @eqx.filter_jit
    def run(key, vae):
        started = vae.initialise(key, x)
        draws = jax.vmap(lambda key, x: started.posterior(x).sample(key)[-1:])(jr.split(key, len(x)), x)
        return jax.vmap(lambda z: started.top.bijection.inverse_and_log_det(z)[0])(draws)

    base = run(jr.key(1), vae)
    # Of 300 draws other than those it started from: within 4 standard errors.
    assert abs(float(jnp.mean(base))) < 4 * np.sqrt(2 / 300)
    assert float(jnp.std(base)) == pytest.approx(1, abs=4 / np.sqrt(300))


@pytest.mark.parametrize("kind", ["top_down", "ladder"])
def test_vamp_prior_on_the_top_layer(kind, tmp_path):
    """A few lines; and the prior of the top layer is still that of the encoder after training."""
    vae = table.hierarchical(kind)
    vae = Hierarchical(VampPrior.of(lnz.Binary(3), 4, key=jr.key(0)), vae.conditionals, vae.decoder, vae.encoder)
    method = lnz.Gradient(ELBO(2), optax.adam(0.05))
    trained = lnz.fit(jr.key(1), vae, method, bits(40).astype(jnp.uint8), steps=10).model
    lnz.save(tmp_path / "vae.lnz", trained)
    for model in (trained, lnz.load(tmp_path / "vae.lnz")):
        z1, z2 = jnp.array([0.3]), jnp.array([-0.4])
        components = [model.posterior(u).first.log_prob(z2) for u in model.top.pseudo_inputs]
        by_hand = logsumexp(jnp.stack(components)) - np.log(4) + model.conditionals[0](z2).log_prob(z1)
        np.testing.assert_allclose(model.prior.log_prob(jnp.concatenate([z1, z2])), by_hand, rtol=1e-5)
    assert float(jnp.max(trained.top.pseudo_inputs)) > 0.8  # rows of the data, moved
    assert lnz.sample(jr.key(2), trained, 7).shape == (7, 3)


def test_layers_of_bits_are_enumerated():
    """A deep sigmoid belief network: its space is finite, so its likelihood is exact by default."""
    prior = lnz.Layered(lnz.Bernoulli(table.normal(602, 2)), (table.bit_encoder(2, 2, 603),))
    vae = Hierarchical(prior.first, prior.conditionals, table.bit_decoder(2, 3), None)
    x, _ = lnz.Binary(3).quadrature()
    result = lnz.evaluate(jr.key(0), vae, x, hidden=lnz.normalizers.Quadrature())
    assert result.bound == "exact"
    assert float(np.exp(result.per_example).sum()) == pytest.approx(1, abs=1e-5)


def test_a_decoder_may_see_all_layers():
    parts = table.hierarchical("top_down")
    vae = Hierarchical(parts.top, parts.conditionals, table.bit_decoder(2, 3), parts.encoder, skip=True)
    z = jnp.array([0.3, -0.8])
    np.testing.assert_array_equal(vae.likelihood(z).logits, vae.decoder(z).logits)
    assert vae.space == lnz.Binary(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: (
                Hierarchical(
                    VampPrior(jnp.ones((2, 3))),
                    (lambda z: lnz.Normal(z, 1.0),),
                    lambda z: z,
                    BottomUp(lambda x: lnz.Normal(x[:1], 1.0), lambda z: lnz.Normal(z, 1.0)),
                ).prior
            ),
            "TopDown",
        ),
        (lambda: Ladder((lambda x: x,), ()), "one of each"),
        (
            lambda: Hierarchical(
                lnz.Normal.standard(1),
                (lambda z: lnz.Normal(z, 1.0),),
                lambda z: lnz.Bernoulli(z),
                Ladder((lambda x: x,), (lambda d: lnz.Normal(d, 1.0),)),
            ).posterior(jnp.zeros(1)),
            "1 layers, but the model has 2",
        ),
        (lambda: lnz.Layered(lnz.Normal.standard((2, 2)), ()).space, "vectors"),
        (lambda: lnz.Layered(lnz.Categorical(jnp.zeros((2, 3))), ()), "all of bits.*all continuous.*Categorical"),
        (
            lambda: lnz.Layered(lnz.Normal.standard(2), (lambda z: lnz.Bernoulli(z),)).sample(jr.key(0)),
            "all of bits.*all continuous.*Euclidean.*Binary",
        ),
        (
            lambda: lnz.Layered(lnz.Bernoulli(jnp.zeros(2)), (lambda z: lnz.Normal(z, 1.0),)).log_prob(jnp.zeros(4)),
            "all of bits.*all continuous",
        ),
    ],
)
def test_bad_hierarchies_are_explained(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_merging_other_than_normals_is_refused():
    corrected = lnz.latent._hierarchical.Corrected(lambda z: lnz.Uniform(1), lnz.Normal.standard(1))
    with pytest.raises(TypeError, match="Uniform"):
        corrected(jnp.zeros(1))
