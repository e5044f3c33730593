"""Likelihoods and posterior families: against SciPy, at extreme parameters, and as parts of an autoencoder."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
import table

import lnz

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
PLACES = np.array([-400.0, -30.0, -2.0, -0.2, 0.3, 1.0, 7.5, 200.0])


@pytest.mark.parametrize(("make", "log_prob"), REFERENCES.values(), ids=REFERENCES.keys())
def test_agrees_with_scipy(make, log_prob, precision):
    # Absolute, for numbers near one; 600 standard deviations are 2e5 nats, of which float32 holds 7 digits.
    rtol = 2e-13 if precision == "float64" else 2e-6
    ours = jax.jit(jax.vmap(make().log_prob))(jnp.asarray(PLACES, jnp.result_type(float))[:, None])
    np.testing.assert_allclose(ours, log_prob(PLACES), rtol=rtol, atol=10 * rtol)


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
    num, step = (100_001, 3e-3) if distribution.space.num_dimensions == 1 else (321, 1e-3)
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
