"""Closed forms keep their digits: values in float32 against NumPy and SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import lnz

RANDOM = np.random.RandomState(0)


@pytest.mark.parametrize("size", [1.0, 12.0, 60.0])
def test_mixtures_of_bits(size, precision):
    """Of sharp pixels a sum of logits and a sum of their softplus are thousands, and their difference is tens."""
    dtype = np.dtype(precision)
    logits, logs = (size * RANDOM.normal(size=(5, 784))).astype(dtype), RANDOM.normal(size=5).astype(dtype)
    x = (RANDOM.uniform(size=(20, 784)) < scipy.special.expit(logits[np.arange(20) % 5])).astype(np.uint8)
    mixture = lnz.Mixture(jnp.asarray(logs), lnz.Bernoulli(jnp.asarray(logits)))
    found = jax.vmap(mixture.log_prob)(jnp.asarray(x, dtype))
    sign = 1 - 2 * x.astype(np.float64)
    terms = -np.logaddexp(0, sign[:, None] * logits.astype(np.float64)).sum(axis=2)
    expected = np.logaddexp.reduce(
        terms + logs.astype(np.float64) - np.logaddexp.reduce(logs.astype(np.float64)), axis=1
    )
    # Rounding of 784 terms of one sign.
    np.testing.assert_allclose(found, expected, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("prior_scale", "mean"), [(10.0, 1000.0), (1.0, 0.3), (1e3, 1e5), (1e-2, 1.0)], ids=lambda value: f"{value:g}"
)
def test_evidence_of_a_normal_mean(prior_scale, mean, precision):
    dtype = np.dtype(precision)
    data = (mean + RANDOM.normal(size=(500, 1))).astype(dtype)
    model = lnz.bayes.NormalMean(lnz.Normal(jnp.zeros(1, dtype), prior_scale), 1.0)
    covariance = np.eye(500) + np.float64(dtype.type(prior_scale)) ** 2
    expected = scipy.stats.multivariate_normal(np.zeros(500), covariance).logpdf(data[:, 0].astype(np.float64))
    assert float(model.log_evidence(jnp.asarray(data))) == pytest.approx(expected, rel=1e-5 if dtype == "f4" else 1e-9)
    total = prior_scale**-2 + 500
    posterior = model.posterior(jnp.asarray(data))
    off = abs(float(posterior.loc[0]) - data.astype(np.float64).sum() / total) * np.sqrt(total)
    assert off < max(1e-3, 4 * np.spacing(dtype.type(mean)) * np.sqrt(total))


def test_a_posterior_moves_with_its_data(precision):
    """Prior and data together by 1e5 standard deviations: evidence and posterior move with them."""
    dtype = np.dtype(precision)
    data = (1e5 + np.round(RANDOM.normal(size=(50, 1)) * 64) / 64).astype(dtype)  # which float32 keeps
    near, far = (lnz.bayes.NormalMean(lnz.Normal(jnp.full(1, c, dtype), 2.0), 0.7) for c in (0.0, 1e5))
    moved = jnp.asarray(data), jnp.asarray(data - dtype.type(1e5))
    assert float(far.log_evidence(moved[0])) == pytest.approx(float(near.log_evidence(moved[1])), rel=1e-5)
    at_zero, at_far = near.posterior(moved[1]), far.posterior(moved[0])
    rounding = 0.5 * float(np.spacing(dtype.type(1e5))) + 1e-6
    assert float(at_far.loc[0]) - 1e5 == pytest.approx(float(at_zero.loc[0]), abs=rounding)
    np.testing.assert_array_equal(at_far.scale, at_zero.scale)
