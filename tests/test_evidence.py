"""The evidence of Bayesian models by default, against closed forms and quadrature in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special
import scipy.stats

import lnz
from lnz.normalizers import LaplaceImportance


class Regression(lnz.AbstractBayesianModel):
    """Three weights, known noise: rows are features and then the response."""

    prior: lnz.Normal
    noise: float = eqx.field(static=True)

    def log_likelihood(self, theta, batch):
        residual = batch[:, -1] - batch[:, :-1] @ theta
        return jnp.sum(-0.5 * (residual / self.noise) ** 2 - jnp.log(self.noise) - 0.5 * jnp.log(2 * jnp.pi))


class Coin(lnz.AbstractBayesianModel):
    prior: lnz.AbstractDistribution

    def log_likelihood(self, theta, batch):
        return jnp.sum(batch * jnp.log(theta[None]) + (1 - batch) * jnp.log1p(-theta[None]))


class Rate(lnz.AbstractBayesianModel):
    """Poisson counts with a rate on `Positive(1)`."""

    prior: lnz.AbstractDistribution

    def log_likelihood(self, theta, batch):
        return jnp.sum(batch * jnp.log(theta[None]) - theta[None] - jax.lax.lgamma(batch + 1))


class Square(lnz.AbstractBayesianModel):
    """Only the square of theta is seen: two modes far apart."""

    prior: lnz.Normal

    def log_likelihood(self, theta, batch):
        return jnp.sum(-0.5 * (batch - theta[None] ** 2) ** 2)


class Nothing(lnz.AbstractBayesianModel):
    """Data say nothing, so the evidence is one; the prior's peak has no curvature."""

    prior: lnz.Laplace

    def log_likelihood(self, theta, batch):
        return jnp.zeros(())


def regression():
    """Weights of sizes 300 to 0.03, a prior wide beside the posterior."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)) * np.array([0.01, 1.0, 30.0])
    y = X @ np.array([100.0, -2.0, 0.05]) + 0.5 * rng.normal(size=60)
    scale = np.array([300.0, 10.0, 1.0])
    covariance = 0.25 * np.eye(60) + (X * scale**2) @ X.T
    model = Regression(lnz.Normal(jnp.zeros(3), jnp.asarray(scale, jnp.result_type(float))), 0.5)
    data = jnp.asarray(np.column_stack([X, y]), jnp.result_type(float))
    return model, data, scipy.stats.multivariate_normal(np.zeros(60), covariance).logpdf(y)


def coin():
    data = np.array([1, 1, 1, 0, 1, 1, 1, 1], float)[:, None]
    exact = scipy.special.betaln(1 + 7, 1 + 1)
    return Coin(lnz.Uniform(1)), jnp.asarray(data, jnp.result_type(float)), exact


def rate():
    counts = np.array([3.0, 5.0, 2.0, 4.0])
    exact = scipy.special.gammaln(15) - 15 * np.log(5) - scipy.special.gammaln(counts + 1).sum()
    prior = lnz.density(lnz.Positive(1), lambda x: jnp.zeros(())).path().start
    return Rate(prior), jnp.asarray(counts, jnp.result_type(float))[:, None], exact


def two_modes():
    data = np.array([24.0, 25.5])
    theta = np.linspace(-60, 60, 2_000_001)
    log_p = scipy.stats.norm(1, 10).logpdf(theta) - 0.5 * ((data[:, None] - theta**2) ** 2).sum(axis=0)
    exact = scipy.special.logsumexp(log_p) + np.log(theta[1] - theta[0])
    return Square(lnz.Normal(jnp.ones(1), 10.0)), jnp.asarray(data, jnp.result_type(float))[:, None], exact


EVIDENCE = {"regression": regression, "coin": coin, "rate": rate, "two_modes": two_modes}


@pytest.mark.parametrize("make", EVIDENCE.values(), ids=EVIDENCE.keys())
def test_evidence_by_default(make):
    model, data, exact = make()
    posterior = lnz.condition(model, data)
    estimates = [lnz.log_normalizer(jr.key(seed), posterior) for seed in range(20)]
    assert all("modes (Laplace)" in str(estimate) and estimate.reliable for estimate in estimates)
    assert all(estimate.protocol.startswith("started") for estimate in estimates)
    pulls = np.array([(float(e.value) - exact) / float(e.standard_error) for e in estimates])
    assert np.mean(np.abs(pulls) < 2) >= 0.75  # 15 of 20: false alarm one key of 1,000
    assert abs(pulls.mean()) < 4 / np.sqrt(20)
    assert max(float(e.standard_error) for e in estimates) < 0.05


def test_where_there_is_no_curvature_it_anneals_from_the_prior():
    posterior = lnz.condition(Nothing(lnz.Laplace(jnp.zeros(2), 1.0)), jnp.zeros((3, 1)))
    estimate = lnz.log_normalizer(jr.key(0), posterior)
    assert "annealed from the prior, because at the modes (Laplace) no search found a mode" in str(estimate)
    assert abs(float(estimate.value)) < 1e-4
    # Told to do it all the same, it is importance sampling from the prior.
    told = lnz.log_normalizer(jr.key(0), posterior, LaplaceImportance(100))
    assert float(told.weights.converged) == 0
    assert abs(float(told.value)) < 1e-4


def test_derivatives_of_importance_at_modes_are_those_of_log_z():
    """`log int exp(-e^a x^2 / 2) dx = (log(2 pi) - a) / 2`, whose second derivative is zero."""
    method = LaplaceImportance(1000, 2)

    def value(a):
        return method(jr.key(1), lnz.density(lnz.Euclidean(1), lambda x: -0.5 * jnp.exp(a) * jnp.sum(x**2))).value

    found = jax.jit(lambda a: (value(a), jax.grad(value)(a), jax.grad(jax.grad(value))(a)))(jnp.asarray(0.7))
    # Standard errors of 0.025 and 0.06 with as many draws of the density itself.
    np.testing.assert_allclose(found, [0.5 * np.log(2 * np.pi) - 0.35, -0.5, 0.0], atol=0.25)


def test_inside_a_compiled_function_it_anneals():
    model, data, _ = coin()
    made = jax.make_jaxpr(lambda key: lnz.log_normalizer(key, lnz.condition(model, data)).value)(jr.key(0))
    assert "eigh" not in str(made)


def test_an_encoder_and_rows_keep_their_default():
    import table

    posterior = lnz.condition(table.linear_vae("diagonal"), table.normal(90, 3))
    assert not lnz.evaluation._normalize._has_modes(posterior)
    model, data, _ = coin()
    assert lnz.evaluation._normalize._has_modes(lnz.condition(model, data))


@pytest.mark.parametrize("space", [lnz.Torus(1), lnz.Binary(2), lnz.Product(lnz.Torus(1), lnz.Positive(1))])
def test_spaces_without_modes_on_a_plane(space):
    with pytest.raises(TypeError, match=r"LaplaceImportance` needs a space.*AIS\(\)"):
        lnz.log_normalizer(jr.key(0), lnz.density(space, lambda x: jnp.zeros(())), LaplaceImportance())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_samples": 1}, "at least 2"), ({"num_starts": 0}, "num_starts"), ({"df": 0.0}, "df=...")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LaplaceImportance(**arguments)
