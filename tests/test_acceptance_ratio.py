"""Bennett's acceptance ratio and schedules of temperatures."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table
from scipy import optimize, special

import lnz
from lnz import testing
from lnz.normalizers import AIS, BAR, ReverseAIS, acceptance_ratio, adapted_betas, salakhutdinov_murray_betas


def gaussian_work(seed, log_z, spread, n, m):
    """Weights for which Crooks' relation holds exactly: `E[exp w] = Z` and `E[exp r] = 1 / Z`."""
    random = np.random.RandomState(seed)
    forward = random.normal(log_z - spread**2 / 2, spread, n)
    reverse = random.normal(-log_z - spread**2 / 2, spread, m)
    return forward, reverse


def test_acceptance_ratio_solves_bennetts_equation(float64):
    forward, reverse = gaussian_work(0, 3.0, 1.5, 40, 70)

    def excess(L):
        m = np.log(40 / 70)
        return special.expit(forward - L - m).sum() - special.expit(m + reverse + L).sum()

    root = optimize.brentq(excess, -20, 20, xtol=1e-13)
    assert float(acceptance_ratio(jnp.asarray(forward), jnp.asarray(reverse)).value) == pytest.approx(root, abs=1e-10)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (300, 60)])
def test_acceptance_ratio_is_unbiased_with_the_error_it_states(n, m):
    log_z = 450.0  # in float32 the weights resolve 3e-5 here
    pairs = [gaussian_work(seed, log_z, 1.0, n, m) for seed in range(300)]
    forward, reverse = (jnp.asarray(np.stack(side), jnp.float32) for side in zip(*pairs, strict=True))
    estimates = jax.jit(jax.vmap(acceptance_ratio))(forward, reverse)
    scores = (np.asarray(estimates.value, float) - log_z) / np.asarray(estimates.standard_error)
    assert abs(scores.mean()) < 4 / np.sqrt(300) + 0.1  # and the bias of order 1 / n that any ratio has
    assert 0.85 < scores.std() < 1.15


def test_acceptance_ratio_of_equal_weights_is_exact():
    estimate = acceptance_ratio(jnp.full(7, 2.5), jnp.full(4, -2.5))
    assert float(estimate.value) == pytest.approx(2.5, abs=1e-6)
    assert float(estimate.standard_error) == pytest.approx(0, abs=1e-3)
    assert float(estimate.weights.overlap) == pytest.approx(1, abs=1e-6)


def test_directions_that_do_not_meet_are_unreliable():
    estimate = acceptance_ratio(*map(jnp.asarray, gaussian_work(0, 0.0, 6.0, 100, 100)))
    assert not estimate.reliable
    assert "the two directions of annealing overlap by only" in str(estimate)
    assert acceptance_ratio(*map(jnp.asarray, gaussian_work(0, 0.0, 1.0, 100, 100))).reliable


def test_bar_is_closer_than_either_direction_and_than_their_average():
    machine = table.rbm(6, 5, scale=2)
    exact = testing.exact_log_normalizer(machine)

    def values(normalizer):
        return np.asarray(testing.repeat_normalizer(jr.key(0), normalizer, machine, num=200).value)

    def error(values):
        return float(np.sqrt(np.mean((values - exact) ** 2)))

    forward, reverse = values(AIS(50, 4)), values(ReverseAIS(50, 4))
    bar = error(values(BAR(AIS(50, 4), ReverseAIS(50, 4))))
    assert bar < 0.8 * min(error(forward), error(reverse))
    assert bar < 0.8 * error((forward + reverse) / 2)


def test_bar_over_a_sweep_that_is_not_reversible_says_so():
    estimate = lnz.log_normalizer(jr.key(0), table.markov_field(), BAR(AIS(30, 20), ReverseAIS(30, 20)))
    assert estimate.assumes == ("reversible steps",)
    assert lnz.log_normalizer(jr.key(0), table.rbm(), BAR(AIS(30, 20), ReverseAIS(30, 20))).assumes == ()


def test_draws_of_weight_zero_count():
    forward, reverse = (jnp.asarray(side) for side in gaussian_work(0, 1.0, 1.0, 50, 50))
    forward = jnp.append(forward, -jnp.inf)
    without = float(acceptance_ratio(forward[:-1], reverse).value)
    estimate = acceptance_ratio(forward, reverse)
    assert np.isfinite(float(estimate.standard_error))
    assert without - 0.2 < float(estimate.value) < without


def test_doubts_survive_arithmetic():
    bad = acceptance_ratio(*map(jnp.asarray, gaussian_work(0, 0.0, 6.0, 100, 100)))
    good = acceptance_ratio(*map(jnp.asarray, gaussian_work(0, 0.0, 1.0, 100, 100)))
    weights = lnz.log_mean_exp(jnp.asarray(gaussian_work(0, 0.0, 0.5, 400, 2)[0]))
    for total in (bad - good, good - bad, bad - weights, weights - bad, bad - weights - weights):
        assert not total.reliable
    assert (good - weights).reliable
    assert "of 100" in str(good - weights) or "of 400" in str(good - weights)


def test_bar_says_what_it_assumes():
    estimate = lnz.log_normalizer(jr.key(0), table.rbm(), BAR(AIS(30, 20), ReverseAIS(30, 20, num_warm_up=10)))
    assert estimate.bound == "estimate"
    assert estimate.assumes == ("stationary start",)


P, Q = table.rbm().path(jnp.full(4, 0.5)), table.rbm().path(jnp.full(4, 0.1))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: BAR(AIS(10, 20), ReverseAIS(10, 21)), ValueError, "the same `betas`"),
        (lambda: BAR(AIS(10, jnp.linspace(0, 1, 21)), ReverseAIS(10, 20)), ValueError, "the same `betas`"),
        (lambda: BAR(AIS(10, 20, path=P), ReverseAIS(10, 20)), ValueError, "the same `path`"),
        (lambda: BAR(AIS(10, 20, path=P), ReverseAIS(10, 20, path=Q)), ValueError, "the same `path`"),
        (lambda: BAR(AIS(10, 20, sampler=lnz.samplers.Gibbs(2)), ReverseAIS(10, 20)), ValueError, "same `sampler`"),
        (lambda: acceptance_ratio(jnp.zeros(1), jnp.zeros(5)), ValueError, "at least 2 weights a side"),
        (lambda: adapted_betas(jr.key(0), table.rbm(), 5, path="x"), TypeError, r"`adapted_betas\(path=...\)`"),
        (lambda: BAR(ReverseAIS(10, 20), ReverseAIS(10, 20)), TypeError, r"must be `lnz.normalizers.AIS\(...\)`"),
        (lambda: adapted_betas(jr.key(0), table.rbm(), 0), ValueError, "`num`"),
        (lambda: adapted_betas(jr.key(0), table.rbm(), 5, num_chains=1), ValueError, "at least 2"),
    ],
)
def test_bad_arguments(untyped, make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_published_temperatures():
    betas = np.asarray(salakhutdinov_murray_betas(), np.float64)
    assert len(betas) == 14_501
    steps = np.diff(betas)
    for part, size in ((slice(0, 500), 1e-3), (slice(500, 4500), 1e-4), (slice(4500, 14_500), 1e-5)):
        np.testing.assert_allclose(steps[part], size, atol=6e-8)  # float32 near 1
    assert (betas[0], betas[500], betas[4500], betas[-1]) == (0, 0.5, pytest.approx(0.9), 1)


def test_adapted_temperatures_spread_the_variance_evenly():
    machine = table.rbm(6, 5, scale=3)
    path = machine.path(jnp.full(6, 0.02))  # far from the machine: much of the change happens early
    points, _ = jax.vmap(machine.space.quadrature().point)(jnp.arange(2**6))

    @jax.jit
    def variance(low, high):
        """Of the log ratio of one step, by enumeration."""
        weights = jax.nn.softmax(jax.vmap(path.at(low).log_density)(points))
        ratios = jax.vmap(path.log_ratio, in_axes=(None, None, 0))(low, high, points)
        return weights @ (ratios - weights @ ratios) ** 2

    def variances(betas):
        return np.array([float(variance(low, high)) for low, high in itertools.pairwise(betas)])

    betas = adapted_betas(jr.key(0), machine, 20, path=path, num_chains=400, num_pilot=400)
    assert betas.shape == (21,)
    assert (betas[0], betas[-1]) == (0, 1)
    assert bool(jnp.all(jnp.diff(betas) > 0))
    adapted, even = variances(betas), variances(jnp.linspace(0, 1, 21))
    assert adapted.max() / adapted.mean() < 1.3
    assert even.max() / even.mean() > 2
    assert adapted.sum() < 0.9 * even.sum()
