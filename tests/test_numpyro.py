"""Distributions to and from NumPyro: numbers are NumPyro's own, and a flow is a site of its models."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.stats
from table import normal

import lnz

numpyro = pytest.importorskip("numpyro")
dist = numpyro.distributions


@pytest.fixture(autouse=True)
def lenient():
    """NumPyro's own code promotes ranks and dtypes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def flow(num=2):
    affine = lnz.bijections.TriangularAffine(jnp.array([1.0, -2.0]), jnp.array([[0.5, 0.0], [0.3, 1.5]]))
    return lnz.Transformed(lnz.Normal.standard(num), affine)


def as_normal():
    tril = jnp.array([[0.5, 0.0], [0.3, 1.5]])
    return dist.MultivariateNormal(jnp.array([1.0, -2.0]), scale_tril=tril)


@pytest.mark.parametrize("shape", [(), (3,), (4, 2)])
def test_log_prob_and_shapes_are_those_of_numpyro(shape):
    ours, theirs = lnz.to_numpyro(flow()), as_normal()
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
    x = ours.sample(jr.key(0), shape)
    assert x.shape == (*shape, 2)
    np.testing.assert_allclose(ours.log_prob(x), theirs.log_prob(x), rtol=1e-5)
    assert ours.has_rsample


@pytest.mark.parametrize(
    ("distribution", "support", "outside"),
    [
        (flow(), dist.constraints.real_vector, [jnp.nan, 0.0]),
        (lnz.Uniform(2, -1.0, 3.0), dist.constraints.independent(dist.constraints.interval(-1.0, 3.0), 1), [0.0, 4.0]),
        (lnz.Bernoulli(jnp.zeros(2)), dist.constraints.independent(dist.constraints.boolean, 1), [0.5, 1.0]),
        (lnz.Normal(0.0, 1.0), dist.constraints.real, jnp.inf),
        (lnz.Uniform(lnz.Torus(2)), dist.constraints.independent(dist.constraints.circular, 1), [0.0, 4.0]),
    ],
    ids=["real vector", "interval", "bits", "number", "angles"],
)
def test_support_is_the_space(distribution, support, outside):
    site = lnz.to_numpyro(distribution)
    assert site.support == support
    assert np.all(site.support(site.sample(jr.key(0), (5,))))
    assert not np.all(site.support(jnp.array(outside)))


def test_it_is_a_pytree_that_jit_and_expand_understand():
    site = lnz.to_numpyro(flow())
    x = jnp.ones((3, 2))
    np.testing.assert_allclose(jax.jit(lambda site, x: site.log_prob(x))(site, x), site.log_prob(x), rtol=1e-6)
    assert jax.tree.structure(site) == jax.tree.structure(lnz.to_numpyro(flow()))
    gradient = jax.grad(lambda site: site.log_prob(x).sum())(site)
    assert np.all(np.isfinite(gradient.distribution.bijection.loc))
    assert site.expand((3,)).log_prob(x).shape == (3,)
    assert eqx.tree_equal(site.distribution, flow())


def test_nuts_samples_a_flow():
    def model():
        numpyro.sample("x", lnz.to_numpyro(flow()))

    kernel = numpyro.infer.NUTS(model)
    mcmc = numpyro.infer.MCMC(kernel, num_warmup=100, num_samples=300, progress_bar=False)
    mcmc.run(jr.PRNGKey(0))
    x = np.asarray(mcmc.get_samples()["x"], np.float64)
    exact = as_normal()
    ess = [numpyro.diagnostics.effective_sample_size(column[None]) for column in x.T]
    error = np.sqrt(np.diag(exact.covariance_matrix) / np.asarray(ess))
    assert np.all(np.abs(x.mean(axis=0) - np.asarray(exact.loc)) < 5 * error)  # a false alarm in a million
    np.testing.assert_allclose(np.cov(x.T), exact.covariance_matrix, atol=0.6)


NUMPYRO = {
    "real": lambda: dist.StudentT(jnp.array([4.0, 6.0, 9.0]), jnp.arange(3.0), 0.7).to_event(),
    "real number": lambda: dist.Logistic(0.5, 2.0),
    "vector": as_normal,
    "positive": lambda: dist.Exponential(2.0).expand((2, 2)).to_event(),
    "interval": lambda: dist.Uniform(-2.0, jnp.full(3, 5.0)).to_event(),
    "bits": lambda: dist.Bernoulli(probs=jnp.array([0.2, 0.7])).to_event(),
    "angles": lambda: dist.VonMises(jnp.array([0.5, 3.0]), 2.0).to_event(),
    "categories": lambda: dist.Categorical(probs=jnp.full((2, 4), 0.25)).to_event(),
}


@pytest.mark.parametrize("make", NUMPYRO.values(), ids=NUMPYRO)
def test_from_numpyro_has_its_numbers(make, tmp_path):
    theirs = make()
    ours = lnz.from_numpyro(theirs)
    assert ours.space.shape == theirs.event_shape
    x, log_prob = ours.sample_and_log_prob(jr.key(1), (5,))
    assert x.shape == (5, *theirs.event_shape)
    ours.space.check_data(x)
    np.testing.assert_allclose(log_prob, theirs.log_prob(x), rtol=1e-6)
    assert ours.reparameterised == theirs.has_rsample
    lnz.save(tmp_path / "base.lnz", ours)
    np.testing.assert_array_equal(jax.vmap(lnz.load(tmp_path / "base.lnz").log_prob)(x), log_prob)


def matrix():
    return jnp.array([[0.5, 0.2], [0.2, 1.5]])


# A member of each family in the table, which are all that a model file can name.
FAMILIES = {
    "AsymmetricLaplace": lambda: dist.AsymmetricLaplace(0.3, 1.5, 0.7),
    "BernoulliLogits": lambda: dist.Bernoulli(logits=0.4),
    "BernoulliProbs": lambda: dist.Bernoulli(probs=0.4),
    "Beta": lambda: dist.Beta(0.7, 1.6),
    "BetaProportion": lambda: dist.BetaProportion(0.3, 4.0),
    "BinomialLogits": lambda: dist.Binomial(5, logits=0.4),
    "BinomialProbs": lambda: dist.Binomial(5, probs=0.4),
    "CategoricalLogits": lambda: dist.Categorical(logits=jnp.arange(3.0)),
    "CategoricalProbs": lambda: dist.Categorical(probs=jnp.array([0.2, 0.3, 0.5])),
    "Cauchy": lambda: dist.Cauchy(0.3, 1.5),
    "Chi2": lambda: dist.Chi2(3.0),
    "Exponential": lambda: dist.Exponential(2.0),
    "Gamma": lambda: dist.Gamma(0.8, 2.0),
    "GammaPoisson": lambda: dist.GammaPoisson(3.0, 2.0),
    "GeometricLogits": lambda: dist.Geometric(logits=0.3),
    "GeometricProbs": lambda: dist.Geometric(probs=0.3),
    "Gumbel": lambda: dist.Gumbel(0.3, 1.5),
    "HalfCauchy": lambda: dist.HalfCauchy(1.5),
    "HalfNormal": lambda: dist.HalfNormal(1.5),
    "InverseGamma": lambda: dist.InverseGamma(3.0, 2.0),
    "Kumaraswamy": lambda: dist.Kumaraswamy(0.7, 1.6),
    "Laplace": lambda: dist.Laplace(0.3, 1.5),
    "LogNormal": lambda: dist.LogNormal(0.3, 1.5),
    "LogUniform": lambda: dist.LogUniform(1.0, 3.0),
    "Logistic": lambda: dist.Logistic(0.3, 1.5),
    "LowRankMultivariateNormal": lambda: dist.LowRankMultivariateNormal(
        jnp.ones(2), jnp.array([[0.5], [0.2]]), jnp.array([0.3, 0.4])
    ),
    "MultivariateNormal": lambda: dist.MultivariateNormal(jnp.ones(2), covariance_matrix=matrix()),
    "MultivariateStudentT": lambda: dist.MultivariateStudentT(5.0, jnp.ones(2), jnp.linalg.cholesky(matrix())),
    "NegativeBinomial2": lambda: dist.NegativeBinomial2(3.0, 2.0),
    "NegativeBinomialLogits": lambda: dist.NegativeBinomialLogits(3.0, 0.4),
    "NegativeBinomialProbs": lambda: dist.NegativeBinomialProbs(3.0, 0.4),
    "Normal": lambda: dist.Normal(0.3, 1.5),
    "Poisson": lambda: dist.Poisson(2.5),
    "SoftLaplace": lambda: dist.SoftLaplace(0.3, 1.5),
    "StudentT": lambda: dist.StudentT(4.0, 0.3, 1.5),
    "TruncatedNormal": lambda: dist.TruncatedNormal(0.3, 1.5, low=-1.0, high=2.0),
    "TruncatedLaplace": lambda: dist.TwoSidedTruncatedDistribution(dist.Laplace(0.3, 1.5), -1.0, 2.0),
    "Uniform": lambda: dist.Uniform(-1.0, 2.0),
    "VonMises": lambda: dist.VonMises(0.3, 1.5),
    "Weibull": lambda: dist.Weibull(1.5, 0.8),
}


def test_every_family_has_the_numbers_of_numpyro_and_none_outside_its_support():
    """Draws lie in the space; the log-density is NumPyro's there and minus infinity elsewhere, with a gradient."""
    assert set(lnz.interop._numpyro._FAMILIES) <= set(FAMILIES)
    for name, make in FAMILIES.items():
        theirs, ours = make(), lnz.from_numpyro(make())
        assert ours.family == name
        x, log_prob = ours.sample_and_log_prob(jr.key(1), (50,))
        ours.space.check_data(x)
        np.testing.assert_allclose(log_prob, theirs.log_prob(x), rtol=1e-5, atol=1e-5, err_msg=name)
        assert np.all(np.isfinite(log_prob)), name
        for value in [-1, 2**30] if ours.space.kind == "int" else [-1e9, 1e9, np.inf, -np.inf, np.nan]:
            far = jnp.full(ours.space.shape, value, x.dtype)
            if not bool(ours.space.contains(far)):
                assert float(ours.log_prob(far)) == -np.inf, (name, value)
        if ours.space.kind == "float" and ours.space.shape == () and not bool(ours.space.contains(jnp.asarray(-9.0))):
            assert np.isfinite(jax.grad(ours.log_prob)(jnp.asarray(-9.0))), name


@pytest.mark.parametrize(
    ("loc", "scale", "low", "high"), [((), (), (), (3,)), ((), (3,), (2, 1), ()), ((2, 1), (), (3,), ())], ids=str
)
def test_truncated_normals_of_mixed_shapes(loc, scale, low, high):
    """Of some, NumPyro itself cannot compute a density."""
    theirs = dist.TruncatedNormal(jnp.zeros(loc), jnp.ones(scale), low=-jnp.ones(low), high=jnp.ones(high))
    ours = lnz.from_numpyro(theirs.to_event(len(theirs.batch_shape)), learn=("loc",))
    expected = scipy.stats.truncnorm.logpdf(0.3, -1, 1) * np.prod(theirs.batch_shape)
    x, log_prob = ours.sample_and_log_prob(jr.key(0), (4,))
    assert x.shape == (4, *theirs.batch_shape)
    assert np.isfinite(log_prob).all()
    np.testing.assert_allclose(ours.log_prob(jnp.full(x.shape[1:], 0.3)), expected, rtol=1e-5)


def test_ends_of_a_support_are_not_learned():
    """The space of a model is fixed, so that no end may move: one step would let mass out."""
    for make in ("LogUniform", "Uniform", "TruncatedNormal"):
        for end in ("low", "high"):
            with pytest.raises(ValueError, match=rf"\['{end}'\] of {make} would move the support.*Affine"):
                lnz.from_numpyro(FAMILIES[make](), learn=(end,))
    for learn in (("loc", "scale"), ("loc", "covariance_matrix"), ("scale_tril",)):
        family = "TruncatedNormal" if "scale" in learn else "MultivariateNormal"
        learned = lnz.from_numpyro(FAMILIES[family](), learn=learn)
        assert set(learned.learned) == set(learn)
        moved = eqx.tree_at(lambda d: d.learned, learned, jax.tree.map(lambda a: a + 0.3, learned.learned))
        assert np.isfinite(moved.log_prob(jnp.full(moved.space.shape, 0.5)))
    moved = lnz.from_numpyro(FAMILIES["TruncatedNormal"](), learn=("loc", "scale"))
    moved = eqx.tree_at(lambda d: d.learned["loc"], moved, moved.learned["loc"] + 0.7)
    middles = jnp.linspace(-1, 2, 2001)[:-1] + 0.00075
    total = np.sum(np.exp(np.asarray(jax.vmap(moved.log_prob)(middles), np.float64))) * 0.0015
    assert abs(total - 1) < 1e-5  # the midpoint rule is right to 1e-7; float32 rounds


def test_a_family_that_is_not_in_the_table_is_refused():
    """A model file cannot reach another object by the name of its family."""
    ours = lnz.from_numpyro(dist.Normal(0.0, 1.0))
    for name in ("Dirichlet", "constraints", "Distribution", "__loader__", "TruncatedGamma"):
        with pytest.raises(ValueError, match="is not one of AsymmetricLaplace"):
            lnz.modules._module.replace(ours, family=name)


def test_there_and_back():
    x = normal(0, 4, 3)
    theirs = NUMPYRO["real"]()
    np.testing.assert_allclose(lnz.to_numpyro(lnz.from_numpyro(theirs)).log_prob(x), theirs.log_prob(x), rtol=1e-6)
    theirs = NUMPYRO["angles"]()
    there = lnz.from_numpyro(theirs)
    assert there.space == lnz.Torus(2)
    assert lnz.to_numpyro(there).support == theirs.support


def test_a_flow_over_a_learned_base_trains():
    """Heavy tails: the scale is found, and the degrees of freedom, which are fixed, are left."""
    data = scipy.stats.t(3, loc=2.0, scale=0.5).rvs((4000, 1), random_state=0).astype(np.float32)
    base = lnz.from_numpyro(dist.StudentT(3.0, jnp.zeros(1), jnp.ones(1)).to_event(), learn=("loc", "scale"))
    model = lnz.Transformed(base, lnz.bijections.Affine(jnp.zeros(1), 1.0))
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.adam(0.03))
    trained = lnz.fit(jr.key(0), model, method, data, steps=300, batch_size=500).model
    distribution = trained.base.distribution.base_dist
    scale = distribution.scale * trained.bijection.scale
    loc = trained.bijection.loc + trained.bijection.scale * distribution.loc
    np.testing.assert_array_equal(trained.base.fixed["df"].value, 3.0)
    assert not np.allclose(distribution.scale, 1.0)
    np.testing.assert_allclose(scale, 0.5, atol=0.03)  # over three standard errors
    np.testing.assert_allclose(loc, 2.0, atol=0.04)


def test_what_cannot_be_taken_is_refused(untyped):
    with pytest.raises(ValueError, match=r"batch shape \(3,\).*to_event"):
        lnz.from_numpyro(dist.Normal(jnp.zeros(3), 1.0))
    mixture = dist.MixtureSameFamily(dist.Categorical(probs=jnp.full(2, 0.5)), dist.Normal(jnp.zeros(2), 1.0))
    with pytest.raises(TypeError, match=r"lnz\.Mixture"):
        lnz.from_numpyro(mixture)
    with pytest.raises(ValueError, match=r"'loc', 'scale'.*\['rate'\]"):
        lnz.from_numpyro(dist.Normal(0.0, 1.0), learn=("rate",))
    with pytest.raises(TypeError, match="Dirichlet is not one of the families"):
        lnz.from_numpyro(dist.Dirichlet(jnp.ones(3)))
    with pytest.raises(ValueError, match="no space of lnz is the support of Uniform"):
        lnz.from_numpyro(dist.Uniform(jnp.zeros(2), jnp.array([1.0, 2.0])).to_event())
    with pytest.raises(TypeError, match="needs a distribution of NumPyro; got Normal"):
        lnz.from_numpyro(lnz.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="needs a distribution of lnz; got Normal"):
        lnz.to_numpyro(dist.Normal(0.0, 1.0))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyro.distributions", None)
    with pytest.raises(ImportError, match=r'pip install "lnz\[numpyro\]"'):
        lnz.to_numpyro(flow())
