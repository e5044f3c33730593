"""Priors of latent-variable models: functions of the encoder, flows, mixtures, autoregressive ones, energies."""

import itertools

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
from lnz import testing
from lnz.core import root_of
from lnz.gradients import LeaveOneOut
from lnz.objectives import ELBO, IWAE, WakeSleep


def bits(num=40, size=3, seed=500):
    return (table.normal(seed, num, size) > 0).astype(jnp.uint8)


def loop_over_components(vae, z):
    """`log sum_k w_k q(z | u_k)`, one encoder call a component."""
    given = vae.given_prior
    log_w = jnp.zeros(len(given.raw)) if given.log_weights is None else given.log_weights
    log_w = log_w - logsumexp(log_w)
    return logsumexp(
        jnp.stack([lw + vae.encoder(u).log_prob(z) for lw, u in zip(log_w, given.pseudo_inputs, strict=True)])
    )


def test_vamp_prior_is_a_mixture_of_posteriors_that_integrates_and_is_sampled(precision):
    vae = table.vamp_vae()

    @eqx.filter_jit
    def compute(vae, z):
        grid, log_w = lnz.Euclidean(1).quadrature(1001, (-12.0, 12.0))
        prior = vae.prior
        both = jax.vmap(prior.log_prob)(z), jax.lax.map(lambda z: loop_over_components(vae, z), z)
        return both, grid[:, 0], jnp.exp(jax.vmap(prior.log_prob)(grid) + log_w), prior.sample(jr.key(0), (4000,))

    (ours, by_hand), grid, p, draws = compute(vae, jnp.array([[-1.3], [0.2]]))
    np.testing.assert_allclose(ours, by_hand, rtol=1e-5)
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    assert len(set(np.round(np.asarray(vae.prior.components.loc[:, 0]), 3))) == 3  # the components differ
    # Kolmogorov and Smirnov's distance is above 1.95 / sqrt(n) for 1 in 1000 keys.
    below = np.interp(np.sort(np.asarray(draws)[:, 0]), grid, np.cumsum(p) - 0.5 * np.asarray(p))
    assert np.max(np.abs(below - np.arange(0.5, 4000) / 4000)) < 1.95 / np.sqrt(4000)


def test_vamp_prior_is_still_tied_after_training(tmp_path):
    vae = lnz.latent.VAE(
        lnz.latent.VampPrior.of(lnz.Binary(3), 4, key=jr.key(0)), table.bit_decoder(1, 3), table.normal_encoder(3, 1)
    )
    data = bits()
    num_before = len(jax.tree.leaves(eqx.filter(vae, eqx.is_array)))
    fit = lnz.fit(jr.key(1), vae, lnz.Gradient(ELBO(2), optax.adam(0.05)), data, steps=10)
    model, z = fit.model, jnp.array([0.4])
    assert len(jax.tree.leaves(eqx.filter(model, eqx.is_array))) == num_before  # nothing was copied
    assert float(jnp.max(jnp.abs(model.encoder.net.weights[0] - vae.encoder.net.weights[0]))) > 0.01
    np.testing.assert_allclose(model.prior.log_prob(z), loop_over_components(model, z), rtol=1e-5)
    u = model.given_prior.pseudo_inputs
    assert float(jnp.min(u)) > 0
    assert float(jnp.max(u)) < 1
    # From a file, and with another encoder put in its place, it follows the encoder.
    lnz.save(tmp_path / "vae.lnz", model)
    loaded = lnz.load(tmp_path / "vae.lnz")
    assert loaded.prior.log_prob(z) == model.prior.log_prob(z)
    for other in (
        eqx.tree_at(lambda m: m.encoder, loaded, vae.encoder),
        lnz.modules._module.replace(loaded, encoder=vae.encoder),
    ):
        np.testing.assert_allclose(other.prior.log_prob(z), loop_over_components(other, z), rtol=1e-5)
        assert abs(float(other.prior.log_prob(z) - model.prior.log_prob(z))) > 1e-3


def test_fit_starts_pseudo_inputs_at_rows_of_the_data():
    data = jnp.eye(5, dtype=jnp.uint8)
    prior = lnz.latent.VampPrior.of(lnz.Binary(5), 4, key=jr.key(0)).initialise(jr.key(1), data)
    rows = np.asarray(prior.pseudo_inputs).round().astype(np.uint8)
    np.testing.assert_allclose(prior.pseudo_inputs, 0.02 + 0.96 * rows, atol=1e-6)
    assert len(np.unique(rows, axis=0)) == 4
    assert all(row.sum() == 1 for row in rows)
    again = prior.initialise(jr.key(2), 1 - data)
    np.testing.assert_array_equal(again.raw, prior.raw)
    free = lnz.latent.VampPrior.of(lnz.Euclidean(2), 3, key=jr.key(0))
    x = 10 * table.normal(503, 3, 2)
    started = free.initialise(jr.key(1), x).pseudo_inputs
    np.testing.assert_array_equal(np.sort(np.asarray(started), axis=0), np.sort(np.asarray(x), axis=0))


def test_gradient_flows_through_the_tie(float64):
    """The encoder's gradient has the part that goes through the prior: against finite differences."""
    vae, x = table.vamp_vae(), bits(4).astype(jnp.float64)

    @eqx.filter_jit
    def loss(model):
        return IWAE(3).loss(jr.key(0), model, (), x)[0]

    gradient = eqx.filter_jit(eqx.filter_grad(loss))(vae)
    testing.check_gradient(loss, vae, gradient, tolerance=1e-5)
    assert float(jnp.max(jnp.abs(gradient.given_prior.raw))) > 1e-4
    assert float(jnp.max(jnp.abs(gradient.given_prior.log_weights))) > 1e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lnz.latent.VAE(lnz.latent.VampPrior(jnp.ones((2, 3))), table.bit_decoder(1, 3), None), "encoder"),
        (lambda: lnz.latent.VampPrior(jnp.full((2, 3), 2.0), bounds=(0.0, 1.0)), "within bounds"),
        (lambda: lnz.latent.VampPrior(jnp.ones((2, 3)), jnp.zeros(3)), "log_weights"),
        (lambda: lnz.latent.VampPrior.of(lnz.spaces.Categorical(3, 4), 2, key=jr.key(0)), "gradients"),
        (
            lambda: lnz.latent.VampPrior.of(lnz.Binary(3), 9, key=jr.key(0)).initialise(jr.key(0), bits(5)),
            "9 pseudo-inputs",
        ),
    ],
)
def test_bad_pseudo_inputs_are_explained(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


class EnumeratedELBO(lnz.AbstractObjective):
    """The ELBO with its expectation over few bits summed out: no noise, and no gradient is missing."""

    def init(self, key, model, data):
        return ()

    def loss(self, key, model, state, batch):
        z, _ = model.prior.space.quadrature()
        prior = model.prior

        def one(x):
            log_q = jax.vmap(model.posterior(x).log_prob)(z)
            log_p = jax.vmap(lambda z: model.likelihood(z).log_prob(x) + prior.log_prob(z))(z)
            return jnp.sum(jnp.exp(log_q) * (log_p - log_q))

        elbo = jnp.mean(jax.vmap(one)(batch))
        return -elbo, (state, {"elbo": elbo})


def exact_log_likelihood(vae, x):
    """`log sum_z p(x | z) exp(-E(z, h)) - log Z` by enumerating all bits of the latents and of the machine."""
    prior = vae.prior
    z, _ = lnz.Binary(prior.b.size).quadrature()
    h, _ = lnz.Binary(prior.c.size).quadrature()
    log_joint = jax.vmap(lambda z: logsumexp(jax.vmap(lambda h: -prior.energy(z, h))(h)))(z)
    log_x = jax.vmap(lambda z: vae.likelihood(z).log_prob(x))(z)
    return logsumexp(log_joint + log_x) - logsumexp(log_joint)


def test_evaluate_with_an_rbm_as_prior_is_enumeration(precision):
    """The prior's log Z is the denominator: chosen by default, exact by enumeration, an upper bound by annealing."""
    vae, x = table.rbm_vae(), bits(6, 4)
    exact = jax.vmap(lambda x: exact_log_likelihood(vae, x))(x.astype(jnp.result_type(float)))
    quadrature = lnz.normalizers.Quadrature()
    result = lnz.evaluate(jr.key(0), vae, x, hidden=quadrature, partition=quadrature)
    np.testing.assert_allclose(result.per_example, exact, rtol=1e-5, atol=1e-5)
    assert result.bound == "exact"
    assert "denominator exact (Quadrature)" in result.how
    default = lnz.evaluate(jr.key(0), vae, x)
    np.testing.assert_allclose(default.per_example, result.per_example, rtol=1e-6)


def test_a_deep_belief_network_is_a_latent_model_over_a_machine():
    """`p(x, h, g) = p(x | h) exp(-E(h, g)) / Z`, against sums over all states of 3, 2 and 2 bits in NumPy."""
    network = lnz.latent.VAE(table.rbm(2, 2), table.bit_decoder(2, 3), None)
    states, x = np.array(list(itertools.product((0, 1), repeat=2))), np.array(list(itertools.product((0, 1), repeat=3)))
    W, b, c = (np.asarray(array, np.float64) for array in (network.prior.W, network.prior.b, network.prior.c))
    log_joint = states @ W @ states.T + (states @ b)[:, None] + states @ c
    log_prior = np.logaddexp.reduce(log_joint, axis=1) - np.logaddexp.reduce(log_joint, axis=None)
    logits = np.stack([np.asarray(network.likelihood(jnp.asarray(h, jnp.float32)).logits, np.float64) for h in states])
    log_likelihood = x @ logits.T - np.logaddexp(0, logits).sum(axis=1)
    result = lnz.evaluate(jr.key(0), network, x)
    np.testing.assert_allclose(result.per_example, np.logaddexp.reduce(log_likelihood + log_prior, axis=1), rtol=1e-5)
    assert (result.bound, result.assumes) == ("exact", ())
    assert np.exp(result.per_example).sum() == pytest.approx(1, abs=1e-5)
    assert root_of(network) is network.prior


def test_a_prior_that_shifts_its_energies_keeps_the_likelihood():
    """Tables of energies far below zero: a field that is a model itself subtracts the lowest from both integrals."""
    tables = [table.normal(570 + i, 2, 2) - 5 for i in range(2)]
    field, weights = lnz.energy.MarkovField(3, 2, [(0, 1), (1, 2)], tables), table.normal(575, 4, 3)
    vae = lnz.latent.VAE(field, lambda z: lnz.Bernoulli(weights @ z.astype(weights.dtype)), None)
    states = np.array(list(itertools.product((0, 1), repeat=3)))
    x = np.array(list(itertools.product((0, 1), repeat=4)))
    first, second = (np.asarray(one, np.float64) for one in tables)
    log_prior = -first[states[:, 0], states[:, 1]] - second[states[:, 1], states[:, 2]]
    logits = states @ np.asarray(weights, np.float64).T
    log_joint = log_prior + x @ logits.T - np.logaddexp(0, logits).sum(axis=1)
    expected = np.logaddexp.reduce(log_joint, axis=1) - np.logaddexp.reduce(log_prior)
    np.testing.assert_allclose(lnz.evaluate(jr.key(0), vae, x).per_example, expected, atol=1e-4)


def test_estimated_numerator_and_denominator_are_only_an_estimate():
    vae, x = table.rbm_vae(), bits(6, 4)
    quadrature, ais, many = lnz.normalizers.Quadrature(), lnz.normalizers.AIS(50, 20), lnz.normalizers.Importance(1000)
    exact = lnz.evaluate(jr.key(0), vae, x).value
    for hidden, partition, bound in ((many, quadrature, "lower"), (quadrature, ais, "upper"), (many, ais, "estimate")):
        result = lnz.evaluate(jr.key(0), vae, x, hidden=hidden, partition=partition)
        assert result.bound == bound
        assert result.value == pytest.approx(exact, abs=5 * result.monte_carlo_error)


def test_samples_of_an_energy_prior_follow_the_model():
    vae = table.rbm_vae()
    x = lnz.sample(jr.key(0), vae, 4000, num_steps=30)
    points, _ = lnz.Binary(4).quadrature()
    p = np.exp(jax.jit(jax.vmap(lambda x: exact_log_likelihood(vae, x)))(points))
    assert p.sum() == pytest.approx(1, abs=1e-5)
    seen = np.array([np.mean(np.all(np.asarray(x) == np.asarray(point), axis=1)) for point in points])
    # Total variation and McDiarmid's margin, as in `testing.check_follows`: a false alarm in 1 of a million keys.
    assert 0.5 * np.abs(seen - p).sum() < 0.5 * np.sum(np.sqrt(p * (1 - p) / 4000)) + np.sqrt(np.log(1e6) / 8000)


def test_gradient_of_an_energy_prior_averages_to_the_enumerated_one(float64):
    """With chains that are exact draws: `-E_q[log p(x|z) + log p~(z) - log q] + log Z` by sums over all states."""
    vae, x = table.rbm_vae(), bits(5, 4).astype(jnp.float64)
    objective = lnz.objectives.EnergyPrior(EnumeratedELBO(), num_chains=100)
    params, rest = eqx.partition(vae, lnz.trainable(vae))

    def exact(params):
        model = eqx.combine(params, rest)
        states, _ = model.prior.space.quadrature()
        view = lnz.objectives._energy_prior.UpToConstant(model)
        return EnumeratedELBO().loss(jr.key(0), view, (), x)[0] + logsumexp(jax.vmap(model.prior.log_density)(states))

    def one(key):
        key_z, key_h, key_loss = jr.split(key, 3)
        z = lnz.normalizers.exact_samples(key_z, vae.prior, 100)
        chains = lnz.objectives._contrastive.start_chains(key_h, vae.prior, z)
        return jax.grad(lambda p: objective.loss(key_loss, eqx.combine(p, rest), ((), chains), x)[0])(params)

    truth = jax.jit(jax.grad(exact))(params)
    draws = jax.jit(jax.vmap(one))(jr.split(jr.key(1), 400))
    for sampled, mean in zip(jax.tree.leaves(draws), jax.tree.leaves(truth), strict=True):
        error = sampled.std(axis=0) / np.sqrt(400) + 1e-12
        assert float(jnp.max(jnp.abs(sampled.mean(axis=0) - mean) / error)) < 4.5  # 11 noisy numbers: 1 key in 13,000
    assert float(jnp.max(jnp.std(draws.given_prior.W, axis=0))) > 1e-3  # there is a negative phase


def test_training_with_an_energy_prior_improves_the_exact_likelihood():
    data = jnp.concatenate([jnp.tile(jnp.array([[1, 1, 0, 0]]), (20, 1)), jnp.tile(jnp.array([[0, 0, 1, 1]]), (20, 1))])
    data = data.astype(jnp.uint8)
    vae = table.rbm_vae()
    objective = lnz.objectives.EnergyPrior(IWAE(5, LeaveOneOut()), num_chains=50, sweeps=2)
    fit = lnz.fit(jr.key(0), vae, lnz.Gradient(objective, optax.adam(0.05)), data, steps=300)
    before, after = lnz.evaluate(jr.key(1), vae, data), lnz.evaluate(jr.key(1), fit.model, data)
    assert after.bound == "exact"
    assert before.value < -2.5
    assert after.value > -np.log(2) - 0.35  # the entropy of the source is log 2
    assert {"unnormalised_iwae", "unnormalised_elbo", "free_energy_chains"} <= set(fit.history[-1])


def test_priors_that_objectives_cannot_use_are_explained():
    x = bits(2, 4).astype(jnp.float32)
    with pytest.raises(TypeError, match="normalised"):
        lnz.objectives.EnergyPrior(ELBO()).init(jr.key(0), table.vamp_vae(), bits())
    # A `VAE` made so would refuse it: an encoder of real numbers for bits.
    gaussian = eqx.tree_at(lambda vae: vae.encoder, table.rbm_vae(), table.normal_encoder(4, 3))
    with pytest.raises(TypeError, match="EnergyPrior"):
        ELBO().loss(jr.key(0), gaussian, (), x)
    with pytest.raises(TypeError, match="latent-variable model"):
        lnz.objectives.EnergyPrior(ELBO()).init(jr.key(0), table.rbm(), x)
    dreaming = lnz.objectives.EnergyPrior(WakeSleep(), num_chains=3)
    vae, chains = table.rbm_vae(), (jnp.zeros((3, 2)), jnp.zeros((3, 3)))
    with pytest.raises(TypeError, match="no exact draws"):
        eqx.filter_eval_shape(dreaming.loss, jr.key(0), vae, ((), chains), x)


def by_chain_rule(made, x):
    """The log-probability by one pass for each bit, with the bits behind it unknown."""
    total = 0.0
    for i in range(made.net.num):
        unknown = jnp.where(jnp.arange(made.net.num) < i, x, 0.5)
        total += lnz.Bernoulli(made.net(unknown)[0, i]).log_prob(x[i])
    return total


@pytest.mark.parametrize("num", [1, 3, 11])  # draws in blocks of 8
def test_autoregressive_bits_by_the_chain_rule(num, float64):

    @eqx.filter_jit
    def compute(made, x):
        # Draws, by blocks of variables, are those of one pass after the other.
        u = lnz.numerics._random.uniform(jr.key(1), (5, num), jnp.float64)
        drawn = jnp.zeros((5, num))
        for i in range(num):
            drawn = drawn.at[:, i].set((u[:, i] < jax.nn.sigmoid(jax.vmap(made.logits)(drawn)[:, i])).astype(u.dtype))
        both_draws = drawn, made.sample(jr.key(1), (5,))
        return (made.log_prob(x), by_chain_rule(made, x)), both_draws, made.sample(jr.key(2))

    x = (table.normal(640, num) > 0).astype(jnp.float64)
    (log_prob, by_hand), (drawn, ours), one = compute(table.made(num), x)
    np.testing.assert_allclose(log_prob, by_hand, rtol=1e-10)
    np.testing.assert_array_equal(ours, drawn)
    assert one.shape == (num,)


def test_autoregressive_bits_are_a_template(float64):
    """As an encoder: biases of the network move with the context, each example its own."""
    encoder = lnz.Conditional.of(table.made(3), 2, key=jr.key(0), width=4, depth=1)
    encoder = eqx.tree_at(lambda c: c.net, encoder, table.away_from_identity(encoder.net, 0.5))
    contexts = table.normal(641, 4, 2)
    z, _ = lnz.Binary(3).quadrature()

    @jax.jit
    def compute(contexts):
        together = jax.vmap(lambda c: jax.vmap(encoder(c).log_prob)(z))(contexts)
        one_by_one = jax.lax.map(lambda c: jax.lax.map(lambda x: by_chain_rule(encoder(c), x), z), contexts)
        draws = jax.vmap(lambda c, k: encoder(c).sample(k, (2000,)))(contexts, jr.split(jr.key(1), 4))
        return together, one_by_one, draws

    together, one_by_one, draws = compute(contexts)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-10)
    np.testing.assert_allclose(jnp.exp(together).sum(axis=1), 1, rtol=1e-10)
    for log_p, x in zip(together, draws, strict=True):
        seen = jnp.mean(jnp.all(x[:, None] == z[None], axis=2).astype(x.dtype), axis=0)
        error = jnp.sqrt(jnp.exp(log_p) / 2000)
        assert float(jnp.max(jnp.abs(seen - jnp.exp(log_p)) / error)) < 5  # 32 numbers: 1 key in 50,000


def flow_prior():
    return lnz.Transformed(lnz.Normal.standard(2), table.flow("masked_autoregressive", 2, activation=jnp.tanh))


def mixture_prior():
    return lnz.Mixture(table.normal(642, 3), lnz.Normal(table.normal(643, 3, 2), jnp.full((3, 2), 0.7)))


@pytest.mark.parametrize("make", [flow_prior, mixture_prior])
def test_flows_and_mixtures_are_priors(make):
    """ELBO <= IWAE <= log p(x) by quadrature, importance sampling agrees with it, and draws of x come."""
    encoder = table.normal_encoder(3, 2, scale=2.0, move=0.1)
    vae, x = lnz.latent.VAE(make(), table.bit_decoder(2, 3), encoder), bits(4).astype(jnp.float32)

    @eqx.filter_jit
    def compute(vae, x):
        def one(objective):
            return jax.vmap(lambda k: -objective.loss(k, vae, (), x)[0])(jr.split(jr.key(0), 500))

        return one(ELBO(2)), one(IWAE(8))

    elbo, iwae = compute(vae, x)
    exact = lnz.evaluate(jr.key(1), vae, x, hidden=lnz.normalizers.Quadrature(101, (-9.0, 9.0))).value
    error = 4 * float(iwae.std() + elbo.std()) / np.sqrt(500)
    assert float(elbo.mean()) + error < float(iwae.mean()) < exact + error
    result = lnz.evaluate(jr.key(2), vae, x, hidden=lnz.normalizers.Importance(1000))
    assert result.bound == "lower"
    assert result.value == pytest.approx(exact, abs=5 * result.monte_carlo_error)
    assert lnz.sample(jr.key(3), vae, 3).shape == (3, 3)


def test_a_flow_prior_starts_from_draws_of_the_posterior():
    """`ActNorm` in the prior, with latents as long as the data: rows of the data would be wrong and go unnoticed."""
    prior = lnz.Transformed(lnz.Normal.standard(3), lnz.bijections.ActNorm(lnz.Euclidean(3)))
    encoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(0.01 * jnp.eye(3), jnp.array([5.0, -5.0, 0.0])), 0.1
    )
    vae = lnz.latent.VAE(prior, table.bit_decoder(3, 3), encoder)
    started = lnz.Gradient(ELBO(), optax.sgd(0.1)).init(jr.key(0), vae, bits(200))[0]
    z = started.prior.sample(jr.key(1), (500,))
    np.testing.assert_allclose(z.mean(axis=0), [5.0, -5.0, 0.0], atol=0.05)
    np.testing.assert_allclose(z.std(axis=0), 0.1, atol=0.03)


def test_an_autoregressive_prior_of_bits():
    """Normalised: the likelihood is exact by enumeration of the latents, and sums to one over x."""
    vae = lnz.latent.VAE(table.made(3), table.bit_decoder(3, 4), table.bit_encoder(4, 3))
    x, _ = lnz.Binary(4).quadrature()
    result = lnz.evaluate(jr.key(0), vae, x)
    assert result.bound == "exact"
    assert float(np.exp(result.per_example).sum()) == pytest.approx(1, abs=1e-5)
