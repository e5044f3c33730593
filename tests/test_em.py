"""Expectation maximisation: monotone, right by hand, and able to find what was planted."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table

import lnz

RANDOM = np.random.RandomState(0)
BITS = (RANDOM.uniform(size=(60, 4)) < 0.5).astype(np.uint8)
NUMBERS = np.concatenate([RANDOM.normal(-1.0, 0.5, size=(40, 1)), RANDOM.normal(1.5, 1.0, size=(20, 1))])


@pytest.mark.parametrize(
    ("make", "data"),
    [(table.mixture_of_bernoullis, BITS), (table.mixture_of_normals, NUMBERS)],
    ids=["bits", "normals"],
)
def test_log_likelihood_never_falls(make, data, float64):
    history = lnz.fit(jr.key(0), make(), lnz.EM(), data, steps=30, log_every=1).history
    losses = np.array([record["negative_log_likelihood"] for record in history])
    assert np.all(np.diff(losses) <= 1e-12)
    assert losses[-1] < losses[0] - 0.01


def test_one_step_on_bits_is_laplaces_rule(precision):
    model = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(2.0), BITS, steps=1).model
    np.testing.assert_allclose(model.probs, (BITS.sum(0) + 1) / (60 + 2), rtol=1e-6)


def test_a_second_step_on_one_family_changes_nothing():
    one, two = (lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(), BITS, steps=n).model for n in (1, 2))
    np.testing.assert_allclose(two.probs, one.probs, rtol=1e-6)
    np.testing.assert_allclose(one.probs, BITS.mean(axis=0), rtol=1e-5)


def test_one_step_on_categories_by_hand():
    data = np.array([[0, 2], [0, 1], [1, 2]])
    model = lnz.fit(jr.key(0), lnz.Categorical(jnp.zeros((2, 3))), lnz.EM(3.0), data, steps=1).model
    # Three pseudo-observations of three equally likely categories: one of each.
    counts = np.array([[2, 1, 0], [0, 1, 2]]) + 1
    np.testing.assert_allclose(jnp.exp(model.logits), counts / 6, rtol=1e-5)


def test_one_step_on_normals_by_hand():
    model = lnz.fit(jr.key(0), lnz.Normal.standard(1), lnz.EM(), NUMBERS, steps=1).model
    assert float(model.loc[0]) == pytest.approx(NUMBERS.mean(), rel=1e-5)
    assert float(model.scale[0]) == pytest.approx(NUMBERS.std(), rel=1e-5)


def test_one_step_on_a_mixture_by_hand(float64):
    start = table.mixture_of_bernoullis()
    model, _, metrics = lnz.EM(2.0).step(jr.key(0), start, len(BITS), jnp.asarray(BITS, float))
    weights, probs = np.asarray(start.weights), np.asarray(start.components.probs)
    joint = weights * np.prod(np.where(BITS[:, None, :] == 1, probs, 1 - probs), axis=2)  # [n, components]
    responsibility = joint / joint.sum(axis=1, keepdims=True)
    counts = responsibility.sum(axis=0)
    np.testing.assert_allclose(model.components.probs, (responsibility.T @ BITS + 1) / (counts[:, None] + 2))
    np.testing.assert_allclose(model.weights, (counts + 2) / (60 + 6))
    assert float(metrics["negative_log_likelihood"]) == pytest.approx(-np.log(joint.sum(axis=1)).mean())


def test_a_planted_mixture_is_found():
    probs = np.array([[0.9] * 6 + [0.1] * 6, [0.1] * 6 + [0.9] * 6])
    label = np.arange(400) < 280
    data = (RANDOM.uniform(size=(400, 12)) < probs[label.astype(int)]).astype(np.uint8)
    start = lnz.Mixture(jnp.zeros(2), lnz.Bernoulli(jnp.zeros((2, 12))))
    model = lnz.fit(jr.key(0), start, lnz.EM(1.0), data, steps=50).model
    order = np.argsort(np.asarray(model.weights))
    # Errors: sqrt(0.7 0.3 / 400) = 0.023 of a weight, sqrt(0.9 0.1 / 120) = 0.027 of a probability (and 24 of
    # them): four and five of those.
    np.testing.assert_allclose(np.asarray(model.weights)[order], [0.3, 0.7], atol=0.1)
    np.testing.assert_allclose(np.asarray(model.components.probs)[order], probs, atol=0.14)


def test_more_components_than_rows():
    start = lnz.Mixture(jnp.zeros(5), lnz.Bernoulli(jnp.zeros((5, 4))))
    model = lnz.fit(jr.key(0), start, lnz.EM(1.0), BITS[:3], steps=3).model
    assert bool(jnp.all(jnp.isfinite(model.components.logits)))


def test_a_pixel_that_is_never_on_has_probability_zero():
    """The likelihood's optimum, exactly; smoothing keeps test examples possible."""
    data = BITS.copy()
    data[:, 0] = 0
    fit = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(), data, steps=1)
    assert fit.model.probs[0] == 0
    assert np.all(np.isfinite(jax.vmap(fit.model.log_prob)(jnp.asarray(data, float))))
    assert fit.model.log_prob(jnp.array([1.0, 0.0, 0.0, 0.0])) == -jnp.inf
    smooth = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(1.0), data, steps=1)
    assert np.isfinite(smooth.model.log_prob(jnp.array([1.0, 0.0, 0.0, 0.0])))


@pytest.mark.parametrize("make", [table.rbm, lambda: table.linear_vae_marginal()], ids=["rbm", "multivariate_normal"])
def test_em_says_what_it_trains(make):
    model = make()
    data = np.zeros((5, *model.space.shape), np.float32)
    with pytest.raises(TypeError, match=rf"exponential families and mixtures of them; got {type(model).__name__}"):
        lnz.fit(jr.key(0), model, lnz.EM(), data, steps=1)


def test_negative_smoothing():
    with pytest.raises(ValueError, match=r"`EM\(smoothing=...\)` must not be negative; got -1.0"):
        lnz.EM(-1.0)
