"""Densities known as functions alone, on every kind of space: their paths, and the samplers that move there untold."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special
import scipy.stats
import table

import lnz
from lnz import testing
from lnz.normalizers import AIS, BAR, ReverseAIS
from lnz.samplers import HMC, Metropolis, adapt_step_size, default_sampler, run_chains, samplers_along
from lnz.spaces import Categorical


def test_hmc_leaves_every_kind_of_space_invariant(precision):
    """Exact draws in, exact draws out, of the default sampler with a step size adapted on chains of its own."""
    density, rng = table.every_kind(), np.random.default_rng(0)
    exact = table.EVERY_KIND.values()

    def draws(num):
        x = np.stack([law.rvs(num, random_state=rng) for law in exact], axis=1)
        x[:, 3] = (x[:, 3] + 3 + np.pi) % (2 * np.pi) - np.pi
        return jnp.asarray(x, jnp.result_type(float))

    @jax.jit
    def run(others, start):
        sampler, _ = adapt_step_size(jr.key(1), density, default_sampler(density), others, 200)
        return sampler.step_size, *run_chains(jr.key(2), density, sampler, start, 3)

    start = draws(20_000)
    step_size, end, info = run(draws(50), start)
    assert density.space.elements_within(np.asarray(end)).all()
    assert 0.7 < float(info["acceptance"]) < 0.9
    assert 0.05 < float(step_size) < 5
    assert np.mean(np.any(np.asarray(end) == np.asarray(start), axis=1)) < 0.05
    moved = np.abs(np.asarray(end - start)).mean(axis=0)
    assert np.all(moved > 0.1 * np.asarray(start).std(axis=0)), moved
    end = np.array(end, np.float64)
    end[:, 3] = (end[:, 3] - 3 + np.pi) % (2 * np.pi) - np.pi
    for (name, law), column in zip(table.EVERY_KIND.items(), end.T, strict=True):
        assert scipy.stats.kstest(column, law.cdf).pvalue > 1e-6, name  # false alarm: 4 of a million keys
    turned = np.concatenate([end[:, :3], np.cos(end[:, 3:]), np.sin(end[:, 3:])], axis=1)
    correlation = np.corrcoef(turned.T)[~np.eye(5, dtype=bool)]
    assert np.abs(correlation).max() < 6 / np.sqrt(len(end))


def log_normalizer_of_every_kind():
    gamma = scipy.special.gammaln(2.5) - 2.5 * np.log(3)
    beta = np.log(3) + scipy.special.betaln(2, 5)
    return 0.5 * np.log(2 * np.pi * 0.25) + gamma + beta + np.log(2 * np.pi * scipy.special.i0(2))


def log_normalizer_of_bits():
    """By the transfer matrix."""
    matrix = np.array([[1, np.exp(-1)], [1, np.exp(2 - 1)]])  # from one bit to the next
    return float(np.log(np.sum(np.array([1, np.exp(-1)]) @ np.linalg.matrix_power(matrix, 5))))


UNTOLD = {
    "every_kind": (table.every_kind, log_normalizer_of_every_kind),
    "coupled_counts": (table.coupled_counts, lambda: 5 + 3 + 1),
    "bits_without_blocks": (table.bits_without_blocks, log_normalizer_of_bits),
}


@pytest.mark.parametrize(("make", "exact"), UNTOLD.values(), ids=UNTOLD.keys())
def test_ais_needs_no_sampler_and_no_path(make, exact):
    """On the default path, with the default sampler, whose step sizes come from a pilot run."""
    runs = testing.repeat_normalizer(jr.key(3), AIS(50, 40), make(), num=10)
    ratio = np.exp(np.asarray(runs.value, np.float64) - exact())  # of mean one, whatever the moves
    assert abs(ratio.mean() - 1) < 5 * ratio.std(ddof=1) / np.sqrt(10)  # false alarm: about one key of 1,000
    assert ratio.std() < 0.3
    assert 0.1 < float(jnp.mean(runs.weights.acceptance)) < 0.95


def test_both_directions_make_the_same_moves():
    density = table.every_kind()
    path, betas = density.path(), jnp.linspace(0.0, 1.0, 5)

    @jax.jit
    def step_sizes():
        forward = samplers_along(jr.key(0), path, betas, HMC())
        back = samplers_along(jr.key(0), lnz.ReversedPath(path), 1 - betas[::-1], HMC())
        index = jnp.arange(3)
        return jax.vmap(lambda i: forward(i).step_size)(index), jax.vmap(lambda i: back(i).step_size)(index)

    forward, back = step_sizes()
    np.testing.assert_array_equal(forward, back[::-1])
    assert len(np.unique(forward)) == 3


STARTS = {
    "euclidean": (lnz.Euclidean((2, 2)), scipy.stats.norm()),
    "positive": (lnz.Positive(2), scipy.stats.expon()),
    "interval": (lnz.Interval(2, -1.0, 2.0), scipy.stats.uniform(-1, 3)),
    "torus": (lnz.Torus(2), scipy.stats.uniform(-np.pi, 2 * np.pi)),
    "binary": (lnz.Binary((2, 2)), scipy.stats.bernoulli(0.5)),
    "categorical": (Categorical(2, 3), scipy.stats.randint(0, 3)),
    "counts": (lnz.Counts(2), scipy.stats.geom(0.5, loc=-1)),
}


@pytest.mark.parametrize(("space", "law"), STARTS.values(), ids=STARTS.keys())
def test_default_starts(space, law):
    density = lnz.density(space, lambda x: jnp.zeros(()))
    path = density.path()
    x = np.asarray(law.rvs((3, *space.shape), random_state=np.random.default_rng(0)))
    log_p = getattr(law, "logpdf", None) or law.logpmf
    x = np.asarray(space.cast(x, jnp.float32))
    expected = log_p(x.astype(float)).reshape(3, -1).sum(axis=1)
    assert path.start.space == space
    np.testing.assert_allclose(jax.vmap(path.start.log_prob)(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-5)
    assert float(density.log_density(jnp.asarray(x[0]))) == 0
    kind = Metropolis if space.measure.is_counting else HMC
    assert type(default_sampler(path.at(0.5))) is kind


def test_a_density_of_ones_own_needs_two_names():
    class Quartic(lnz.AbstractDensity):
        space: lnz.Euclidean = lnz.Euclidean(1)

        def log_density(self, x):
            return -jnp.sum(x**4)

    exact = np.log(2 * scipy.special.gamma(1.25))
    path = Quartic().path()
    x = jnp.array([0.7])
    assert float(path.log_ratio(0.0, 1.0, x)) == pytest.approx(-(0.7**4) + 0.5 * 0.7**2 + 0.5 * np.log(2 * np.pi))
    estimate = lnz.log_normalizer(jr.key(0), Quartic(), lnz.normalizers.Importance(4000))
    assert abs(float(estimate.value) - exact) < 5 * float(estimate.standard_error)
    with pytest.raises(TypeError, match=r"takes no arguments.*GeometricPath"):
        Quartic().path(lnz.Normal.standard(1))


def test_discrete_and_continuous_variables_are_moved_in_turn():
    """Poisson counts of a gamma rate, sampled by default; false alarm about one key of a million."""
    space = lnz.Record(n=lnz.Counts(()), rate=lnz.Positive(()))

    def log_density(x):
        n, rate = x
        return n * jnp.log(rate) - rate - jax.scipy.special.gammaln(n + 1) + jnp.log(rate) - rate

    density = lnz.density(space, log_density)
    assert isinstance(default_sampler(density), lnz.samplers.InTurn)
    draws = space.unpack(lnz.sample(jr.key(1), density, 500, num_steps=60))
    assert abs(draws["rate"].mean() - 2) < 5 * np.sqrt(2 / 500)  # shape 2
    assert abs(draws["n"].mean() - 2) < 5 * np.sqrt(4 / 500)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("space", "function", "error", "message"),
    [
        (lambda x: x.sum(), lnz.Euclidean(2), TypeError, "The space comes first"),
        (2, jnp.sum, TypeError, r"density\(space=...\)` must say where.*got int"),
        (lnz.Euclidean(2), 3.0, TypeError, r"density\(function=...\)` must be a function"),
        (lnz.Euclidean(2), lambda x: x, ValueError, r"one number.*returned shape \(2,\).*Sum over"),
        (lnz.Euclidean(2), lambda x: x @ jnp.ones(3), ValueError, r"ONE example of shape \(2,\)"),
        (lnz.Euclidean(2), lambda x: np.sum(np.asarray(x)), ValueError, "written with `jax.numpy`"),
    ],
)
def test_wrong_densities(space, function, error, message):
    with pytest.raises(error, match=message):
        lnz.density(space, function)


def test_a_registered_function_is_saved(tmp_path):
    @lnz.register
    def ring(x):
        return -((jnp.linalg.norm(x) - 2) ** 2)

    density = lnz.density(lnz.Euclidean(2), ring)
    testing.check_save(density)


def test_hmc_walks_out_of_where_the_density_is_zero():
    """A wall at 1: chains that start behind it, with a gradient that is no number, come home."""
    density = lnz.density(lnz.Euclidean(1), lambda x: jnp.where(x[0] < 1, -0.5 * x[0] ** 2, -jnp.inf))
    start = jnp.full((100, 1), 3.0)
    end = jax.jit(lambda: run_chains(jr.key(0), density, HMC(0.3), start, 60)[0])()
    assert np.asarray(end < 1).mean() > 0.9


def test_bar_with_a_pilot_run_agrees():
    """One pilot for both directions, which need not have equally many chains."""
    density, rng = lnz.density(lnz.Positive(1), lambda x: 1.5 * jnp.log(x[0]) - 3 * x[0]), np.random.default_rng(1)
    positions = jnp.asarray(rng.gamma(2.5, 1 / 3, (60, 1)), jnp.float32)
    estimate = lnz.log_normalizer(jr.key(0), density, BAR(AIS(100, 20), ReverseAIS(betas=20, positions=positions)))
    assert estimate.assumes == ()
    exact = scipy.special.gammaln(2.5) - 2.5 * np.log(3)
    assert abs(float(estimate.value) - exact) < 5 * float(estimate.standard_error)
