"""What annealing has not seen is told: targets wider than the start, heavier tails, ends that float32 cuts."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from scipy.special import gammaln

import lnz
from lnz.normalizers import AIS
from lnz.normalizers._rays import look_along_rays

NEW = ("beyond", "off_centre", "cut_mass")


class Tailed(lnz.AbstractDensity):
    """Student's t in the plane."""

    df: jax.Array
    scale: jax.Array

    @property
    def space(self):
        return lnz.Euclidean(2)

    def log_density(self, x):
        return -0.5 * (self.df + 2) * jnp.log1p(jnp.sum((x / self.scale) ** 2) / self.df)

    def log_integral(self):
        df, scale = np.asarray(self.df, float), np.asarray(self.scale, float)
        return 2 * np.log(scale) + gammaln(df / 2) - gammaln(df / 2 + 1) + np.log(df * np.pi)


# Degrees of freedom, scale, and whether the standard normal that annealing starts from is near enough.
TARGETS = [
    (50.0, 1.0, True),
    (50.0, 0.4, True),
    (50.0, 3.0, True),
    (5.0, 1.0, True),
    (50.0, 30.0, False),
    (50.0, 300.0, False),
    (50.0, 1000.0, False),
    (0.3, 1.0, False),
    (1.0, 1.0, False),
]


@pytest.fixture(scope="module")
def annealed():
    """Of every target 12 estimates by 100 chains, `[targets, runs]`."""
    targets = Tailed(*(jnp.asarray(column, jnp.float32) for column in list(zip(*TARGETS, strict=True))[:2]))

    @eqx.filter_jit
    def run(targets):
        keys = jr.split(jr.key(1), 12)
        return jax.lax.map(lambda target: jax.vmap(lambda key: AIS(100, 100)(key, target))(keys), targets)

    estimates = run(targets)
    low, high = estimates.interval()
    exact = targets.log_integral()[:, None]
    without = lnz.modules.replace(estimates.weights, **dict.fromkeys(NEW))
    before = lnz.Estimate(estimates.value, estimates.standard_error, "lower", (), without)
    return (low <= exact) & (exact <= high), ~before.unreliable_rows(), ~estimates.unreliable_rows()


@pytest.mark.parametrize("index", range(len(TARGETS)), ids=[f"df_{df}_scale_{scale}" for df, scale, _ in TARGETS])
def test_targets_wider_than_the_start_are_told_and_others_are_not(index, annealed):
    covered, trusted_before, trusted = (rows[index] for rows in annealed)
    if TARGETS[index][2]:
        assert (trusted_before & ~trusted).sum() <= 1  # alarms that are false
        assert covered.sum() >= 9  # expect 11.5
        assert trusted.sum() >= 4
    else:
        assert not (trusted & ~covered).any()


LAW = {
    "normal": (lnz.Euclidean(2), scipy.stats.norm(3, 2)),
    "skewed": (lnz.Positive(2), scipy.stats.gamma(3)),
    "interval": (lnz.Interval(2), scipy.stats.beta(2, 5)),
    "heavy": (lnz.Euclidean(2), scipy.stats.t(2)),
}


@pytest.mark.parametrize("name", LAW)
def test_shares_along_rays_are_uniform_under_the_right_distribution(name):
    """400 sets of 50 exact draws: deviates that are those of a normal. Draws that are too narrow are told."""
    space, law = LAW[name]
    draws = law.rvs(size=(400, 50, 2), random_state=3)
    middle = np.median(draws, axis=1, keepdims=True)
    narrow = middle + 0.4 * (draws - middle)
    log_densities = {
        "normal": lambda x: -0.125 * (x - 3) ** 2,
        "skewed": lambda x: 2 * jnp.log(x) - x,
        "interval": lambda x: jnp.log(x) + 4 * jnp.log1p(-x),
        "heavy": lambda x: -1.5 * jnp.log1p(x**2 / 2),
    }
    target = lnz.density(space, lambda x: jnp.sum(log_densities[name](x)))
    path = target.path()

    @jax.jit
    @jax.vmap
    def look(positions):
        zeros = jnp.zeros(50)
        return look_along_rays(path, jnp.asarray(0.99), positions, zeros, zeros)

    found = look(jnp.asarray(draws, jnp.float32))
    # Below 1.5 lie 87% of normal deviates, 75% of pairs that are independent; 3.9 is passed by one pair in 5000. The
    # standard error of such a share of 400 is 0.02.
    assert 0.67 < np.mean(np.asarray(found["off_centre"]) < 1.5) < 0.93
    assert np.mean(np.asarray(found["off_centre"]) > 3.9) <= 0.005
    assert np.median(np.asarray(look(jnp.asarray(narrow, jnp.float32))["off_centre"])) > 3.9
    assert np.max(np.asarray(found["cut_mass"])) < 0.01


@pytest.mark.parametrize(("shape", "cut"), [(0.1, True), (0.5, False), (2.0, False)])
def test_mass_that_float32_cuts_at_an_end_is_told(shape, cut):
    """Of Beta(0.1, 0.1) 9.5% lie nearer to 1 than float32 can say; of Beta(0.5, 0.5) 0.016%."""
    x = np.clip(scipy.stats.beta(shape, shape).rvs(size=(60, 1), random_state=0), 1e-30, 1 - 6e-8)
    target = lnz.density(lnz.Interval(1), lambda x: jnp.sum((shape - 1) * (jnp.log(x) + jnp.log1p(-x))))
    zeros = jnp.zeros(60)
    look = jax.jit(lambda x: look_along_rays(target.path(), jnp.asarray(0.99), x, zeros, zeros))
    assert (float(look(jnp.asarray(x, jnp.float32))["cut_mass"]) > 0.01) == cut


def test_diagnostics_of_rays_break_their_rules_in_sums_and_words():
    for name, bad in (("beyond", -1.1), ("beyond", math.nan), ("off_centre", 4.0), ("cut_mass", 0.02)):
        good, worse = (
            lnz.Estimate(jnp.zeros(()), jnp.ones(()), "lower", (), lnz.Weights(**{name: jnp.asarray(x)}))
            for x in (0.0, bad)
        )
        assert good.reliable
        for one in (worse, good + worse, worse - good):
            assert not one.reliable
            assert "UNRELIABLE" in str(one)
