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
    with pytest.raises(ValueError, match="no space of lnz is the support of Dirichlet"):
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
