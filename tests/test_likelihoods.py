"""Likelihoods and posterior families: against SciPy, at extreme parameters, and as parts of an autoencoder."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
import table

import lnz
from lnz.distributions._continuous_bernoulli import _quantile

normal = table.normal


# SciPy's `log p` of one variable, beside ours.
REFERENCES = {
    "laplace": (lambda: lnz.Laplace(jnp.array([0.3]), 0.7), scipy.stats.laplace(0.3, 0.7).logpdf),
    "logistic": (lambda: lnz.Logistic(jnp.array([0.3]), 0.7), scipy.stats.logistic(0.3, 0.7).logpdf),
    "student_cauchy": (lambda: lnz.StudentT(jnp.array([0.3]), 0.7, 1.0), scipy.stats.t(1.0, 0.3, 0.7).logpdf),
    "student_few": (lambda: lnz.StudentT(jnp.array([0.3]), 0.7, 0.01), scipy.stats.t(0.01, 0.3, 0.7).logpdf),
    "student_some": (lambda: lnz.StudentT(jnp.array([0.3]), 0.7, 39.0), scipy.stats.t(39.0, 0.3, 0.7).logpdf),
    "student_more": (lambda: lnz.StudentT(jnp.array([0.3]), 0.7, 42.0), scipy.stats.t(42.0, 0.3, 0.7).logpdf),
    "student_many": (lambda: lnz.StudentT(jnp.array([0.3]), 0.7, 1e24), scipy.stats.norm(0.3, 0.7).logpdf),
    "low_rank": (
        lambda: lnz.LowRankNormal(jnp.array([0.3]), jnp.array([[0.5, 1.2]]), 0.7),
        scipy.stats.norm(0.3, np.sqrt(0.5**2 + 1.2**2 + 0.7**2)).logpdf,
    ),
}


def negative_binomial(log_mean, log_size):
    return lnz.NegativeBinomial(jnp.array([log_mean]), log_size)


def nbinom(log_mean, log_size):
    mean, size = np.exp(log_mean), np.exp(log_size)
    return scipy.stats.nbinom(size, size / (size + mean)).logpmf


COUNTS = {
    "poisson_rare": (lambda: lnz.Poisson(jnp.array([-20.0])), scipy.stats.poisson(np.exp(-20.0)).logpmf),
    "poisson": (lambda: lnz.Poisson(jnp.array([1.0])), scipy.stats.poisson(np.exp(1.0)).logpmf),
    "poisson_many": (lambda: lnz.Poisson(jnp.array([13.0])), scipy.stats.poisson(np.exp(13.0)).logpmf),
    "negative_binomial": (lambda: negative_binomial(1.0, 0.5), nbinom(1.0, 0.5)),
    "negative_binomial_spread": (lambda: negative_binomial(2.0, -8.0), nbinom(2.0, -8.0)),
    "negative_binomial_many": (lambda: negative_binomial(13.0, 3.5), nbinom(13.0, 3.5)),
    "negative_binomial_is_poisson": (lambda: negative_binomial(1.0, 60.0), scipy.stats.poisson(np.exp(1.0)).logpmf),
}


PLACES = np.array([-400.0, -30.0, -2.0, -0.2, 0.3, 1.0, 7.5, 200.0])


@pytest.mark.parametrize(("make", "log_prob"), REFERENCES.values(), ids=REFERENCES.keys())
def test_agrees_with_scipy(make, log_prob, precision):
    # Absolute, for numbers near one; 600 standard deviations are 2e5 nats, of which float32 holds 7 digits.
    rtol = 2e-13 if precision == "float64" else 2e-6
    ours = jax.jit(jax.vmap(make().log_prob))(jnp.asarray(PLACES, jnp.result_type(float))[:, None])
    np.testing.assert_allclose(ours, log_prob(PLACES), rtol=rtol, atol=10 * rtol)


@pytest.mark.parametrize(("make", "log_prob"), COUNTS.values(), ids=COUNTS.keys())
def test_counts_agree_with_scipy(make, log_prob, precision):
    x = np.array([0, 1, 2, 7, 19, 20, 21, 150, 442_413, 443_000])
    ours = jax.jit(jax.vmap(make().log_prob))(jnp.asarray(x, jnp.int32)[:, None])
    assert ours.dtype == precision
    # SciPy subtracts logarithms of gamma functions of millions: 1e7 nats with 16 digits.
    rtol, atol = (1e-9, 3e-8) if precision == "float64" else (1e-5, 5e-4)
    np.testing.assert_allclose(ours, log_prob(x), rtol=rtol, atol=atol)


def test_low_rank_is_the_full_normal_of_its_covariance(float64):
    low = lnz.LowRankNormal(normal(600, 5), normal(601, 5, 2), jnp.exp(normal(602, 5)))
    full = lnz.MultivariateNormal.from_covariance(low.loc, low.covariance)
    x = normal(603, 7, 5)
    np.testing.assert_allclose(jax.vmap(low.log_prob)(x), jax.vmap(full.log_prob)(x), rtol=1e-12)
    np.testing.assert_allclose(low.half_log_det(), 0.5 * jnp.linalg.slogdet(low.covariance)[1], rtol=1e-12)


def test_low_rank_keeps_its_digits_where_the_noise_is_small():
    """In float32 the difference of two squares would be off by hundreds of nats here."""
    low = lnz.LowRankNormal(jnp.zeros(4), jnp.array([[1.0, 0.5], [2.0, 1.0], [0.5, -1.0], [0.1, 0.3]]), 1e-4)
    x = low.sample(jr.key(0))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), low)
        exact = wide.log_prob(x.astype(jnp.float64))
        # x is itself rounded to 1e-7, a thousandth of the noise.
    assert float(low.log_prob(x)) == pytest.approx(float(exact), abs=0.05)


FAMILIES = {
    "normal": lambda: lnz.Normal(normal(610, 1), 0.7),
    "multivariate_normal": lambda: lnz.MultivariateNormal(normal(610, 2), jnp.array([[0.7, 0.0], [0.3, 0.5]])),
    "laplace": lambda: lnz.Laplace(normal(610, 1), 0.7),
    "logistic": lambda: lnz.Logistic(normal(610, 1), 0.7),
    "student_t": lambda: lnz.StudentT(normal(610, 1), 0.7, 6.0),
    "low_rank_normal": lambda: lnz.LowRankNormal(normal(610, 2), normal(611, 2, 1), 0.7),
}


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES.keys())
def test_gradient_of_draws_is_that_of_the_mean(make, float64):
    """`d/dtheta E f(x)` by reparameterised draws, against finite differences of a quadrature.

    Within 6 standard errors of 4,000 draws: a false alarm in fewer than one of 10 million keys for each parameter.
    """
    distribution = make()
    assert distribution.reparameterised
    leaves, structure = jax.tree.flatten(distribution)

    def f(x):
        return jnp.tanh(x[0] - 0.5 * x[-1]) + jnp.sum(jnp.tanh(x) ** 2)

    def at(flat):
        parts = zip(leaves, jnp.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1]), strict=True)
        return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for leaf, part in parts])

    # Fine enough in one dimension that a kink does no harm to differences; two have none.
    num, step = (100_001, 3e-3) if distribution.space.size == 1 else (321, 1e-3)
    points, log_weights = distribution.space.quadrature(num, (-40.0, 40.0))

    @jax.jit
    def mean(flat):
        made = at(flat)
        return jnp.sum(jax.vmap(lambda x: jnp.exp(made.log_prob(x)) * f(x))(points) * jnp.exp(log_weights))

    @jax.jit
    def gradients(flat, keys):
        return jax.vmap(lambda key: jax.grad(lambda flat: f(at(flat).sample(key)))(flat))(keys)

    flat = jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
    each = gradients(flat, jr.split(jr.key(0), 4_000))
    exact = jnp.stack([(mean(flat + h) - mean(flat - h)) / (2 * step) for h in step * jnp.eye(len(flat))])
    error = jnp.std(each, axis=0) / jnp.sqrt(4_000.0)
    assert bool(jnp.all(jnp.abs(jnp.mean(each, axis=0) - exact) < 6 * error + 1e-4))


def test_cells_are_differences_of_sigmoids(float64):
    """Where neither sigmoid is near 0 or 1 their difference has all its digits; and the tails belong to the ends."""
    loc, scale, num = 0.45, 0.21, 7
    log_probs = jax.jit(lambda d: jax.vmap(d.log_prob)(jnp.arange(num)[:, None]))
    ours = log_probs(lnz.DiscretisedLogistic(jnp.array([loc]), scale, num))
    edges = scipy.stats.logistic(loc, scale).cdf(np.arange(num + 1) / num)
    edges[0], edges[-1] = 0, 1
    np.testing.assert_allclose(ours, np.log(np.diff(edges)), rtol=1e-12)
    mixture = lnz.DiscretisedLogisticMixture(jnp.zeros((1, 2)), jnp.array([[loc, 0.9]]), scale, num)
    other = log_probs(lnz.DiscretisedLogistic(jnp.array([0.9]), scale, num))
    np.testing.assert_allclose(log_probs(mixture), np.logaddexp(ours, other) - np.log(2), rtol=1e-12)


@pytest.mark.parametrize("logit", [0.0, 1e-30, 1e-3, -0.01999, 0.0201, 0.4999, -0.5001, 3.0, -40.0, 700.0])
def test_continuous_bernoulli_agrees_with_scipy(logit, precision):
    rtol = 1e-10 if precision == "float64" else 3e-6
    x, u = jnp.linspace(0.0, 1.0, 11), jnp.linspace(0.0, 0.99, 12)

    @jax.jit
    def run(t):
        one = lnz.ContinuousBernoulli(t[None])
        quantiles = jax.vmap(lambda u: _quantile(u, t))(u)
        again = one.with_expected_statistics(one.expected_statistics()).logits[0]
        return jax.vmap(lambda x: one.log_prob(x[None]))(x), quantiles, one.mean()[0], again

    log_probs, quantiles, mean, logit_again = run(jnp.asarray(logit))
    if abs(logit) < 1e-6:
        reference = scipy.stats.uniform()
    else:  # an exponential that is cut off, from the left or from the right
        reference = scipy.stats.truncexpon(abs(logit), scale=1 / abs(logit))
    flipped = logit > 1e-6
    places, levels = (1 - x, 1 - u) if flipped else (x, u)
    expected = reference.ppf(levels)
    # SciPy takes the difference of two exponentials that are near one: it loses digits where the logit is small.
    loose = rtol + 1e-15 / max(abs(logit), 1e-6)
    np.testing.assert_allclose(log_probs, reference.logpdf(np.clip(places, 0, 1)), rtol=loose, atol=10 * loose)
    np.testing.assert_allclose(quantiles, 1 - expected if flipped else expected, rtol=10 * loose, atol=loose)
    assert float(mean) == pytest.approx(1 - reference.mean() if flipped else reference.mean(), rel=100 * loose)
    if abs(logit) < 100:  # else the mean has not the digits to tell
        assert float(logit_again) == pytest.approx(logit, rel=3000 * rtol, abs=100 * rtol)


def test_continuous_bernoulli_is_smooth_at_one_half(float64):
    """Across the seams of its power series too: derivatives of draws and densities against differences."""
    t = jnp.array([-0.5, -0.02, -0.01, 0.0, 1e-8, 0.02, 0.5])

    @jax.jit
    def run(t):
        def log_prob(t):
            return lnz.ContinuousBernoulli(t[None]).log_prob(jnp.array([0.3]))

        def draw(t):
            return _quantile(jnp.asarray(0.3), t)

        first = [jax.vmap(jax.grad(f))(t) for f in (log_prob, draw)]
        step = 1e-5
        differences = [(jax.vmap(f)(t + step) - jax.vmap(f)(t - step)) / (2 * step) for f in (log_prob, draw)]
        return first, differences, jax.vmap(jax.grad(jax.grad(log_prob)))(t)

    first, differences, second = run(t)
    np.testing.assert_allclose(first, differences, atol=1e-9)
    assert float(second[3]) == pytest.approx(-1 / 12)  # minus the variance of the uniform
    assert bool(jnp.all(jnp.isfinite(second)))


def _extreme(scale, shift):
    """A network that moves scales by e to the thousands, and medians by thousands of scales."""
    made = table.autoregressive_grey(1, 3, 256)
    made = eqx.tree_at(lambda d: d.net.biases[-1], made, jnp.array([shift, shift]))
    return eqx.tree_at(lambda d: d.unit, made, lnz.Frozen(jnp.full(3, scale)))


EXTREME = {
    "discretised_narrow": lambda: lnz.DiscretisedLogistic(jnp.array([0.1, 0.5, -3.0]), jnp.exp(-25.0), 256),
    "discretised_wide": lambda: lnz.DiscretisedLogistic(jnp.array([0.1, 1e6, -1e6]), jnp.exp(60.0), 256),
    "autoregressive_narrow": lambda: _extreme(1e-3, -3e3),
    "autoregressive_far": lambda: _extreme(1e-9, 3e3),
    "mixture_narrow": lambda: lnz.DiscretisedLogisticMixture(
        jnp.array([[0.0, 90.0], [0.0, -90.0], [0.0, 0.0]]), 10 * normal(620, 3, 2), jnp.exp(-20.0), 256
    ),
    "continuous_bernoulli": lambda: lnz.ContinuousBernoulli(jnp.array([0.0, 1e4, -1e4])),
    "poisson": lambda: lnz.Poisson(jnp.array([-80.0, 0.0, 30.0])),
    "negative_binomial": lambda: lnz.NegativeBinomial(jnp.array([-80.0, 30.0, 2.0]), jnp.array([-30.0, 70.0, -70.0])),
    "categorical": lambda: lnz.Categorical(jnp.array([[1e4, 0.0], [-1e4, 0.0], [0.0, 0.0]])),
    "student_heavy": lambda: lnz.StudentT(jnp.array([0.0, 1.0, 2.0]), 1e-6, jnp.array([1e-3, 1.0, 1e15])),
    "laplace": lambda: lnz.Laplace(jnp.array([0.0, 1.0, 2.0]), 1e-20),
    "logistic": lambda: lnz.Logistic(jnp.array([0.0, 1.0, 2.0]), 1e-20),
    "low_rank": lambda: lnz.LowRankNormal(jnp.zeros(3), jnp.ones((3, 2)), jnp.exp(-12.0)),
}


@pytest.mark.parametrize("make", EXTREME.values(), ids=EXTREME.keys())
def test_extremes_are_finite(make, precision):
    distribution = make()

    @eqx.filter_jit
    def run(distribution, x):
        return jax.vmap(lambda x: eqx.filter_value_and_grad(lambda d: d.log_prob(x))(distribution))(x)

    values = [0.0, 1.0, 0.0] if distribution.space.kind == "float" else [0, 1, 255 % _num_values(distribution)]
    x = distribution.space.cast(jnp.array([values, values[::-1]]), jnp.result_type(float))
    log_probs, gradients = run(distribution, x)
    for leaf in jax.tree.leaves([log_probs, gradients]):
        assert bool(jnp.all(jnp.isfinite(leaf)))


def _num_values(distribution):
    return getattr(distribution.space, "num_categories", 1000)


@pytest.mark.parametrize("x", [[-1, 0], [0, 5]])
def test_grey_values_that_do_not_exist(x):
    one = lnz.DiscretisedLogistic(jnp.zeros(2), 1.0, 5)
    mixture = lnz.DiscretisedLogisticMixture(jnp.zeros((2, 3)), jnp.zeros((2, 3)), 1.0, 5)
    log_probs = jax.jit(lambda x: (one.log_prob(x), mixture.log_prob(x)))(jnp.array(x))
    assert log_probs == (-jnp.inf, -jnp.inf)


def test_counts_that_do_not_exist():
    for distribution in (lnz.Poisson(jnp.zeros(2)), lnz.NegativeBinomial(jnp.zeros(2), 0.0)):
        log_prob = eqx.filter_jit(distribution.log_prob)
        assert log_prob(jnp.array([-1, 0])) == log_prob(jnp.array([0.5, 0.0])) == -jnp.inf
    never = lnz.Poisson.from_rate([0.0, 1.0])
    value, gradient = jax.jit(jax.value_and_grad(lambda p: p.log_prob(jnp.array([0, 0]))))(never)
    assert float(value) == -1
    assert bool(jnp.all(jnp.isfinite(gradient.log_rate)))
    assert float(never.log_prob(jnp.array([1, 0]))) == -jnp.inf


def test_the_space_of_counts():
    space = lnz.Counts(2)
    assert space.num_points is None
    assert space.measure.is_counting
    points, log_weights = space.quadrature(3)
    np.testing.assert_array_equal(points[:4], [[0, 0], [1, 0], [2, 0], [0, 1]])
    assert points.dtype == jnp.int32
    np.testing.assert_array_equal(log_weights, np.zeros(9))
    assert bool(space.contains(jnp.array([0, 2**31 - 200])))
    assert not bool(space.contains(jnp.array([0, -1])))
    data = np.array([[0, 3], [255, 1]], np.uint8)
    assert space.check_data(data) is data
    assert space.cast(data, jnp.float32).dtype == jnp.int32
    for bad, word in ((-1.0, "-1.0"), (0.5, "0.5"), (np.inf, "inf"), (np.nan, "missing"), (3e9, "below 2")):
        with pytest.raises(ValueError, match=word):
            space.check_data(np.array([[0.0, bad]]), "x")
    with pytest.raises(ValueError, match="at least one count"):
        space.quadrature(0)


def test_quadrature_of_counts_says_what_it_misses():
    poisson = lnz.Poisson(jnp.log(jnp.array([20.0])))
    enough = lnz.log_normalizer(jr.key(0), poisson, lnz.normalizers.Quadrature(201))
    assert float(enough.value) == pytest.approx(0, abs=1e-5)
    assert enough.assumes == ("negligible mass outside the grid",)
    assert enough.reliable
    with pytest.warns(lnz.UnreliableEstimateWarning, match="edge of the grid"):
        short = lnz.log_normalizer(jr.key(0), poisson, lnz.normalizers.Quadrature(31))
    missing = scipy.stats.poisson(20.0).sf(30)
    assert float(short.value) == pytest.approx(np.log1p(-missing), abs=1e-5)
    assert float(short.standard_error) > missing


DECODERS = {
    "categorical": lambda: lnz.Categorical(normal(630, 3, 4)),
    "discretised_logistic": lambda: lnz.DiscretisedLogistic(0.5 + normal(631, 3), 0.3, 4),
    "autoregressive_logistic": lambda: table.autoregressive_grey(1, 3, 4),
    "discretised_logistic_mixture": lambda: lnz.DiscretisedLogisticMixture(
        normal(632, 3, 2), normal(633, 3, 2), 0.3, 4
    ),
    "continuous_bernoulli": lambda: lnz.ContinuousBernoulli(normal(634, 3)),
    "poisson": lambda: lnz.Poisson(normal(635, 3)),
    "negative_binomial": lambda: lnz.NegativeBinomial(normal(636, 3), 0.5),
    "laplace": lambda: lnz.Laplace(normal(637, 3), 0.5),
    "logistic": lambda: lnz.Logistic(normal(638, 3), 0.5),
    "student_t": lambda: lnz.StudentT(normal(639, 3), 0.5, 4.0),
    "low_rank_normal": lambda: lnz.LowRankNormal(normal(640, 3), normal(641, 3, 2), 0.5),
}
ENCODERS = {name: make for name, make in FAMILIES.items() if name != "normal"}


def _conditional(template, num_context, seed):
    made = lnz.Conditional.of(template, num_context, key=jr.key(seed), width=4, depth=1)
    return eqx.tree_at(lambda c: c.net, made, table.away_from_identity(made.net, 0.3, seed))


def _check_gradient(vae):
    @eqx.filter_jit
    def run(vae):
        x = vae.likelihood(jnp.zeros(vae.prior.space.shape)).sample(jr.key(1), (16,))
        objective = lnz.objectives.ELBO()
        return eqx.filter_value_and_grad(lambda vae: objective.loss(jr.key(2), vae, (), x)[0])(vae)

    loss, gradient = run(vae)
    assert bool(jnp.isfinite(loss))
    for conditional in (gradient.decoder, gradient.encoder):
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(conditional))
        for number in conditional.moved:
            leaf = jax.tree.leaves(eqx.filter(conditional.template, eqx.is_array))[number]
            if isinstance(conditional.template, lnz.MultivariateNormal) and leaf.ndim == 2:
                leaf = leaf[np.tril_indices(len(leaf))]  # what is above the diagonal is ignored
            assert bool(jnp.all(leaf != 0))


@pytest.mark.parametrize("make", DECODERS.values(), ids=DECODERS.keys())
def test_as_the_decoder_of_an_autoencoder(make):
    likelihood = make()
    encoder = _conditional(lnz.Normal.standard(1), 3, 650)
    vae = lnz.latent.VAE(lnz.Normal.standard(1), _conditional(likelihood, 1, 651), encoder)
    assert vae.space == likelihood.space
    _check_gradient(vae)


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS.keys())
def test_as_the_encoder_of_an_autoencoder(make):
    posterior = make()
    num = posterior.space.size
    decoder = _conditional(lnz.Bernoulli(normal(652, 3)), num, 653)
    vae = lnz.latent.VAE(lnz.Normal.standard(num), decoder, _conditional(posterior, 3, 654))
    _check_gradient(vae)


def test_a_full_covariance_is_positive_whatever_the_network_says(precision):
    template = lnz.MultivariateNormal(jnp.zeros(3), jnp.eye(3))
    net = lnz.nets.Linear.from_parameters(5 * normal(660, 12, 2), normal(661, 12))
    posterior = lnz.Conditional(template, net)

    @jax.jit
    def run(context):
        q = posterior(context)
        _, log_q = q.sample_and_log_prob(jr.key(0))
        return jnp.diagonal(q.scale_tril), log_q, lnz.closed_form_kl(q, lnz.Normal.standard(3))

    diagonals, log_q, divergence = jax.vmap(run)(normal(662, 50, 2))
    assert bool(jnp.all(diagonals > 0))
    assert float(jnp.min(diagonals)) < 1e-3
    assert bool(jnp.all(jnp.isfinite(log_q)))
    assert bool(jnp.all(divergence > 0))


def test_counts_to_and_from_numpyro():
    numpyro = pytest.importorskip("numpyro.distributions")
    there = lnz.to_numpyro(lnz.Poisson(jnp.log(jnp.array([0.5, 3.0]))))
    x = jnp.array([2, 3])
    expected = scipy.stats.poisson([0.5, 3.0]).logpmf(x).sum()
    assert float(there.log_prob(x)) == pytest.approx(expected, rel=1e-5)
    back = lnz.from_numpyro(numpyro.Poisson(jnp.array([0.5, 3.0])).to_event(1))
    assert back.space == lnz.Counts(2)
    assert float(back.log_prob(x)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("logit", [18.0, -18.0, 1e4, -1e4])
def test_gradient_of_a_draw_is_finite_at_the_ends(logit, precision):
    """A draw of 2**24 in float32 is at u = 0; the quantile's derivative by the logit is known there: it goes to 0."""
    info = jnp.finfo(jnp.result_type(float))
    u = jnp.array([float(info.tiny), 1e-7, 0.5, 1 - float(info.epsneg)])
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(_quantile, 1), (0, None)))(u, jnp.asarray(logit))
    assert bool(jnp.all(jnp.isfinite(value) & jnp.isfinite(slope)))
    assert bool(jnp.all((value >= 0) & (value <= 1) & (slope >= -1e-6)))
    # d/dt log(1 + u (e^t - 1)) / t, in 80 bits
    t, u = np.longdouble(logit), np.longdouble(u)
    if abs(logit) < 100:
        exact = np.log1p(u * np.expm1(t)) / t
        np.testing.assert_allclose(value, exact.astype(float), rtol=1e-5, atol=1e-6)
        by_t = u * np.exp(t) / (1 + u * np.expm1(t)) / t - exact / t
        np.testing.assert_allclose(slope, by_t.astype(float), rtol=1e-4, atol=1e-6)
