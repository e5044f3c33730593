"""Gradients of objectives: against the exact gradient, finite differences, and by counting products."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz import testing
from lnz.energy import centred_gradient
from lnz.normalizers import Quadrature
from lnz.objectives import CD, ELBO, IWAE, PCD, MaximumLikelihood, ReverseKL


def gradient_of(objective, model, batch, key=None, state=()):
    params, rest = eqx.partition(model, lnz.trainable(model))
    key = jr.key(0) if key is None else key
    return jax.grad(lambda p: objective.loss(key, eqx.combine(p, rest), state, batch)[0])(params)


def data(num=6, visible=4):
    return (table.normal(100, num, visible) > 0).astype(jnp.result_type(float))


EXACT = MaximumLikelihood(hidden=Quadrature(), partition=Quadrature())


TRAINABLE = {
    "rbm": (table.rbm, data),
    "rbm_wide": (lambda: table.rbm(4, 6, seed=10), data),
    "dbm": (lambda: table.dbm(4, 2, 2), data),
    "markov_field": (table.two_site_field, lambda: jnp.array([[0, 1], [3, 2], [1, 1]])),
    "flow": (table.composed_flow, lambda: table.normal(101, 6, 2)),
    "mixture": (table.mixture_of_bernoullis, data),
    "bits_vae": (table.bits_vae, lambda: data(6, 3)),
}


@pytest.mark.parametrize("name", TRAINABLE)
def test_exact_gradient_equals_finite_differences(name, float64):
    make, make_data = TRAINABLE[name]
    model, batch = make(), make_data()

    @eqx.filter_jit
    def loss(model):
        return EXACT.loss(jr.key(0), model, (), batch)[0]

    testing.check_gradient(loss, model, gradient_of(EXACT, model, batch), tolerance=1e-6)


def test_the_law_of_gradients_wants_one_for_all_that_is_trained(float64):
    model = {"a": jnp.ones(3), "b": jnp.ones(2), "c": lnz.Frozen(jnp.ones(2))}

    def loss(model):
        return jnp.sum(model["a"] ** 2) * jnp.sum(model["b"])

    gradient = jax.grad(loss)(model) | {"c": None}
    testing.check_gradient(loss, model, gradient, tolerance=1e-6)
    gradient["b"] = None
    with pytest.raises(AssertionError, match=r"has a gradient; none for model\['b'\]"):
        testing.check_gradient(loss, model, gradient, tolerance=1e-6)

    def only_a(model):
        return {"a": True, "b": False, "c": False}

    testing.check_gradient(loss, model, gradient, tolerance=1e-6, filter=only_a)
    with pytest.raises(AssertionError, match="something in the model to be trained"):
        testing.check_gradient(loss, lnz.Frozen(model), None, tolerance=1e-6)


def test_exact_gradient_of_an_rbm_is_data_minus_model(float64):
    """dL/dW = <v h'>_data - <v h'>_model, by enumerating all 2**7 joint states."""
    model, batch = table.rbm(), data()
    states, _ = lnz.Binary(7).quadrature()
    v, h = states[:, :4], states[:, 4:]
    energies = jax.vmap(model.energy)(v, h)
    p = jax.nn.softmax(-energies)
    negative = jnp.einsum("s,si,sj->ij", p, v, h)
    h_data = jax.vmap(lambda v: model.hidden_given_visible(v).probs)(batch)
    positive = jnp.einsum("ni,nj->ij", batch, h_data) / len(batch)
    gradient = gradient_of(EXACT, model, batch)
    np.testing.assert_allclose(gradient.W, negative - positive, atol=1e-12)
    np.testing.assert_allclose(gradient.b, p @ v - batch.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(gradient.c, p @ h - h_data.mean(axis=0), atol=1e-12)


def test_pcd_with_exact_chains_averages_to_the_exact_gradient():
    """Chains that start from exact draws stay exact, so the mean PCD gradient is the likelihood's."""
    model, batch = table.rbm(), data()
    joint = model.condition  # hidden layer given visible, to complete exact draws of v

    @eqx.filter_jit
    def one(key):
        key_v, key_h, key_loss = jr.split(key, 3)
        v = lnz.normalizers.exact_samples(key_v, model, 100)
        h = jax.vmap(lambda k, v: joint(v).visible.distribution(joint(v).b).sample(k))(jr.split(key_h, 100), v)
        return gradient_of(PCD(1), model, batch, key_loss, (h, v))

    gradients = jax.vmap(one)(jr.split(jr.key(1), 400))
    exact = gradient_of(EXACT, model, batch)
    for name in ("W", "b", "c"):
        sampled = getattr(gradients, name)
        error = sampled.std(axis=0) / np.sqrt(400)
        pulls = jnp.abs(sampled.mean(axis=0) - getattr(exact, name)) / error
        assert float(pulls.max()) < 5  # 19 numbers: a false alarm in about 1 of 90,000 keys


def test_cd_is_biased_and_approaches_the_exact_gradient():
    model, batch = table.rbm(scale=1.5), data()
    exact = gradient_of(EXACT, model, batch).W

    def bias(k):
        one = eqx.filter_jit(lambda key: gradient_of(CD(k), model, jnp.repeat(batch, 50, axis=0), key).W)
        mean = jax.lax.map(one, jr.split(jr.key(k), 100)).mean(axis=0)
        return float(jnp.linalg.norm(mean - exact))

    first, twentieth = bias(1), bias(20)
    assert first > 0.05
    assert twentieth < 0.25 * first


def cd_samples(model, batch, key):
    """The negative samples of `CD(1)`, from the keys that it uses."""
    first, _, last = jr.split(key, 3)
    blocks = lnz.objectives._contrastive._draw(first, model, jax.vmap(model.split)(batch), (0,))
    return lnz.objectives._contrastive._draw(last, model, blocks, (1,))[1]


def test_last_hidden_layer_enters_as_probabilities(float64):
    """The CD gradient is <v h'> at (v_k, p(h|v_k)) minus that at (data, p(h|data))."""
    model, batch = table.rbm(), data()
    gradient = gradient_of(CD(1), model, batch, jr.key(5))

    def correlation(v):
        h = jax.vmap(lambda v: model.hidden_given_visible(v).probs)(v)
        return jnp.einsum("ni,nj->ij", v, h) / len(v)

    negative = cd_samples(model, batch, jr.key(5))
    np.testing.assert_allclose(gradient.W, correlation(negative) - correlation(batch), atol=1e-12)


@pytest.mark.parametrize("objective", [CD(1), CD(3), PCD(1, 32), PCD(3, 32)], ids=["CD1", "CD3", "PCD1", "PCD3"])
def test_an_update_needs_2k_plus_3_products(objective):
    """Counted in the compiled program, a sweep inside a loop counting as often as it runs."""
    model = lnz.energy.RBM(24, 16, key=jr.key(0))
    batch = jnp.zeros((32, 24))
    state = objective.init(jr.key(0), model, batch)

    @jax.jit
    def update(key, W, b, c, state, batch):
        machine = lnz.modules._module.replace(model, W=W, b=b, c=c)
        return gradient_of(objective, machine, batch, key, state)

    compiled = update.lower(jr.key(0), model.W, model.b, model.c, state, batch).compile().as_text()
    assert _count_products(compiled, objective.k) == 2 * objective.k + 3


def _count_products(hlo: str, k: int) -> int:
    """Matrix-matrix products in optimised HLO; those in the loop over sweeps count k - 1 times."""
    products = [line for line in hlo.splitlines() if re.search(r"\[\d\d+,\d\d+\]\{[\d,]+\} dot\(", line)]
    return sum(k - 1 if "/while/body/" in line else 1 for line in products)


def test_centred_gradient_by_its_definition(float64):
    """Melchior et al.: the update in coordinates v - mu, h - lambda, mapped back."""
    model, positive, negative = table.rbm(), data(), 1 - data(8)

    def statistics(v):
        h = jax.vmap(lambda v: model.hidden_given_visible(v).probs)(v)
        return v, h

    (v0, h0), (v1, h1) = statistics(positive), statistics(negative)
    mu, lam = 0.5 * (v0.mean(axis=0) + v1.mean(axis=0)), 0.5 * (h0.mean(axis=0) + h1.mean(axis=0))

    def centred(v, h):
        return jnp.einsum("ni,nj->ij", v - mu[None], h - lam[None]) / len(v)

    W = centred(v1, h1) - centred(v0, h0)
    b = (v1.mean(axis=0) - v0.mean(axis=0)) - W @ lam
    c = (h1.mean(axis=0) - h0.mean(axis=0)) - W.T @ mu

    def contrast(machine):
        log_data = jnp.mean(jax.vmap(machine.log_density)(positive))
        return jnp.mean(jax.vmap(machine.log_density)(negative)) - log_data

    plain = eqx.filter_grad(contrast)(model)
    result = centred_gradient(model, plain, positive, negative)
    np.testing.assert_allclose(result.W, W, atol=1e-12)
    np.testing.assert_allclose(result.b, b, atol=1e-12)
    np.testing.assert_allclose(result.c, c, atol=1e-12)


def test_preconditioned_objective_has_the_preconditioned_gradient(float64):
    """Through CD: same negative samples, centred gradient; and the reported parts are unchanged."""
    model, batch = table.rbm(), data()
    plain, centred = CD(1), CD(1, precondition=centred_gradient)
    key = jr.key(2)
    negative = cd_samples(model, batch, key)
    expected = centred_gradient(model, gradient_of(plain, model, batch, key), batch, negative)
    got = gradient_of(centred, model, batch, key)
    np.testing.assert_allclose(got.W, expected.W, atol=1e-12)
    np.testing.assert_allclose(got.b, expected.b, atol=1e-12)
    assert plain.loss(key, model, (), batch)[0] == pytest.approx(centred.loss(key, model, (), batch)[0])


@pytest.mark.parametrize("objective", [CD(1), PCD(1, 100), PCD(1, 100, precondition=centred_gradient)])
def test_training_improves_the_likelihood_of_bars_and_stripes(objective):
    splits = lnz.data.load("bars_and_stripes")
    model = lnz.energy.RBM(16, 8, key=jr.key(0))
    before = lnz.evaluate(jr.key(0), model, splits.test).value
    method = lnz.Gradient(objective, optax.sgd(0.2))
    fit = lnz.fit(jr.key(1), model, method, splits.train, steps=1500, batch_size=100)
    after = lnz.evaluate(jr.key(0), fit.model, splits.test)
    assert after.bound == "exact"
    # Independent fair bits give -16 log 2 = -11.09; the entropy of the source is -3.29 or so.
    assert before == pytest.approx(-16 * np.log(2), abs=0.05)
    assert after.value > -7.5


def test_every_family_trains_by_exact_likelihood_or_its_bound():
    def improves(model, objective, batch, steps=150, rate=0.05):
        method = lnz.Gradient(objective, optax.adam(rate))
        history = lnz.fit(jr.key(0), model, method, batch, steps=steps).history
        name = next(part for part in history[0] if part in ("log_likelihood", "elbo"))
        return history[-1][name] - history[0][name]

    assert improves(lnz.energy.DBM(4, 3, 2, key=jr.key(0)), EXACT, data(20)) > 0.1
    assert improves(table.two_site_field(), EXACT, jnp.array([[0, 1], [3, 2], [1, 1]])) > 0.5
    flow = lnz.Transformed(lnz.Normal.standard(2), lnz.flows.affine(lnz.Euclidean(2), key=jr.key(0)))
    shifted = 3 + table.normal(1, 50, 2)
    assert improves(flow, MaximumLikelihood(), shifted) > 1
    assert improves(table.linear_vae("diagonal"), ELBO(2), 3 + table.normal(2, 50, 3)) > 1


def test_flow_by_maximum_likelihood_finds_the_sample_moments(float64):
    """The affine flow's optimum is the sample mean and covariance: a closed form."""
    x = table.normal(3, 200, 2) @ jnp.array([[1.0, 0.4], [0.0, 0.5]]) + jnp.array([[2.0, -1.0]])
    flow = lnz.Transformed(lnz.Normal.standard(2), lnz.flows.affine(lnz.Euclidean(2), key=jr.key(0)))

    method = lnz.Gradient(MaximumLikelihood(), optax.adam(optax.linear_schedule(0.05, 0.0, 3000)))
    model = lnz.fit(jr.key(0), flow, method, x, steps=3000).model
    tril = model.bijection.tril
    np.testing.assert_allclose(model.bijection.loc, x.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(tril @ tril.T, jnp.cov(x.T, bias=True), atol=1e-4)


def test_linear_vae_by_elbo_reaches_the_optimum_of_probabilistic_pca():
    """Tipping and Bishop (1999): the likelihood optimum has a closed form from the sample covariance."""
    source = table.normal(4, 500, 1) * 2.0
    x = source @ jnp.array([[1.0, 0.5, -0.5]]) + 0.5 * table.normal(5, 500, 3)
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(np.asarray(x).T, bias=True)))[::-1]
    noise = eigenvalues[1:].mean()
    best = -0.5 * (3 * np.log(2 * np.pi) + np.log(eigenvalues[0]) + 2 * np.log(noise) + 3)
    decoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(0.1 * table.normal(6, 3, 1), jnp.zeros(3)), 1.0
    )
    encoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(0.1 * table.normal(7, 1, 3), jnp.zeros(1)), 1.0
    )
    vae = lnz.latent.VAE(lnz.Normal.standard(1), decoder, encoder)
    method = lnz.Gradient(ELBO(8), optax.adam(optax.linear_schedule(0.03, 0.0, 3000)))
    fit = lnz.fit(jr.key(0), vae, method, x, steps=3000)
    result = lnz.evaluate(jr.key(1), fit.model, x, hidden=lnz.normalizers.Importance(200))
    assert result.bound == "lower"
    assert result.value == pytest.approx(best, abs=0.02)  # the optimiser's distance to the optimum


def test_reverse_kl_of_the_right_family_recovers_the_posterior(float64):
    model, batch = table.conjugate(), table.conjugate_data()
    objective = ReverseKL(lnz.condition(model, batch), num_samples=16)
    method = lnz.Gradient(objective, optax.adam(optax.linear_schedule(0.05, 0.0, 2000)))
    fit = lnz.fit(jr.key(0), lnz.Normal.standard(1), method, None, steps=2000)
    exact = model.posterior(batch)
    np.testing.assert_allclose(fit.model.loc, exact.loc, atol=0.02)
    np.testing.assert_allclose(fit.model.log_scale, exact.log_scale, atol=0.05)
    elbo = -float(objective.loss(jr.key(1), exact, (), None)[0])
    assert elbo == pytest.approx(float(model.log_evidence(batch)), abs=1e-9)


def _without_encoder():
    return lnz.modules._module.replace(table.linear_vae(), encoder=None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CD(0), "k=.*at least 1"),
        (lambda: PCD(1, 0), "num_chains"),
        (lambda: CD(1).init(jr.key(0), lnz.Normal.standard(2), jnp.zeros((3, 2))), "RBM"),
        (lambda: ELBO().loss(jr.key(0), _without_encoder(), (), jnp.zeros((2, 3))), "encoder"),
    ],
)
def test_bad_arguments_are_explained(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_draws_without_a_pathwise_gradient_are_refused():
    """The gradient through a mixture's or a bit's draw would silently miss the score-function part."""
    target = lnz.Normal.standard(1)
    with pytest.raises(TypeError, match="Mixture are not a differentiable function"):
        ReverseKL(target).loss(jr.key(0), table.mixture_of_normals(), (), None)
    bits = lnz.latent.VAE(
        lnz.Bernoulli(jnp.zeros(2)),
        lnz.distributions.ConditionalNormal(lnz.nets.Linear.from_parameters(jnp.ones((3, 2)), jnp.zeros(3)), 1.0),
        lnz.distributions.ConditionalBernoulli(lnz.nets.Linear.from_parameters(jnp.ones((2, 3)), jnp.zeros(2))),
    )
    with pytest.raises(TypeError, match="Bernoulli are not a differentiable function"):
        ELBO().loss(jr.key(0), bits, (), jnp.zeros((2, 3)))
    with pytest.raises(TypeError, match="latent-variable model"):
        ELBO().loss(jr.key(0), table.rbm(), (), data())


def test_elbo_gradient_equals_finite_differences_of_the_exact_bound(float64):
    """Linear-Gaussian: the ELBO has a closed form up to quadrature, and the pathwise gradient averages to its own."""
    vae, x = table.linear_vae("diagonal"), table.normal(93, 3)
    vae = lnz.modules._module.replace(
        vae, encoder=lnz.modules._module.replace(vae.encoder, log_scale=vae.encoder.log_scale + 0.3)
    )
    z, log_w = lnz.Euclidean(2).quadrature(241, (-8.0, 8.0))

    def exact(vae):
        q, joint = vae.posterior(x), lnz.condition(vae, x)
        log_q = jax.vmap(q.log_prob)(z)
        return -jnp.sum(jnp.exp(log_q + log_w) * (jax.vmap(joint.log_density)(z) - log_q))

    params, rest = eqx.partition(vae, lnz.trainable(vae))
    truth = jax.grad(lambda p: exact(eqx.combine(p, rest)))(params)
    one = jax.jit(lambda key: gradient_of(ELBO(1, analytic_kl=False), vae, x[None], key))
    draws = jax.vmap(one)(jr.split(jr.key(1), 20_000))
    for sampled, mean in zip(jax.tree.leaves(draws), jax.tree.leaves(truth), strict=True):
        error = sampled.std(axis=0) / np.sqrt(20_000) + 1e-9
        assert float(jnp.max(jnp.abs(sampled.mean(axis=0) - mean) / error)) < 5  # false alarm: 1 key in 70,000


def test_iwae_with_one_sample_is_the_elbo(float64):
    vae, x = table.linear_vae("diagonal"), table.normal(1, 5, 3)
    elbo = ELBO(1, analytic_kl=False)
    assert IWAE(1).loss(jr.key(0), vae, (), x)[0] == pytest.approx(float(elbo.loss(jr.key(0), vae, (), x)[0]))
