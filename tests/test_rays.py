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
from lnz.normalizers._rays import _remedian, look_along_rays

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


def poisson(n, rate):
    n = n.astype(float)
    return jnp.sum(n * jnp.log(rate) - jax.scipy.special.gammaln(n + 1.0) - rate)


def zeros_or(n, rate):
    """All zero with probability one half."""
    return jnp.logaddexp(jnp.where(jnp.all(n == 0), 0.0, -jnp.inf), poisson(n, rate)) - math.log(2)


# Log density, the law of its draws, and draws of chains that have missed a part of it.
COUNTS = {
    "poisson": (
        lambda n: poisson(n, jnp.array([3.0, 400.0])),
        lambda rng, shape: rng.poisson([3, 400], shape),
        lambda rng, shape: rng.poisson([3, 360], shape),
    ),
    "heavy": (  # of mean 99 and standard deviation 313
        lambda n: lnz.NegativeBinomial(jnp.full(2, math.log(99.0)), math.log(0.1)).log_prob(n),
        lambda rng, shape: rng.negative_binomial(0.1, 1 / 991, shape),
        lambda rng, shape: np.zeros(shape, int),
    ),
    "zeros or far, each": (
        lambda n: zeros_or(n[:1], 400.0) + zeros_or(n[1:], 3.0),
        lambda rng, shape: rng.poisson([400, 3], shape) * (rng.random(shape) < 0.5),
        lambda rng, shape: rng.poisson([0, 3], shape) * (rng.random(shape) < 0.5),
    ),
    "hardly ever above zero": (
        lambda n: poisson(n, 0.003),
        lambda rng, shape: rng.poisson(0.003, shape),
        lambda rng, shape: 1 + rng.poisson(0.003, shape),
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_shares_along_lines_of_counts_are_those_of_the_right_distribution(name):
    """40 sets of 100 exact draws of two counts, and of chains that miss a part of the mass."""
    log_density, exact, wrong = COUNTS[name]
    target = lnz.density(lnz.Counts(2), log_density)

    @jax.jit
    @jax.vmap
    def look(positions):
        zeros = jnp.zeros(100)
        return look_along_rays(target.path(), jnp.asarray(0.99), positions, zeros, zeros)

    rng = np.random.default_rng(0)
    found, missed = (look(jnp.asarray(draw(rng, (40, 100, 2)), jnp.int32))["off_centre"] for draw in (exact, wrong))
    # One pair of deviates in 5000 has one above 3.9: two of 40 by one key in 30,000.
    assert np.sum(np.asarray(found) > 3.9) <= 1
    assert np.mean(np.asarray(missed) > 3.9) >= 0.95


def test_counts_that_no_chain_has_reached_are_told():
    target = lnz.density(lnz.Counts(()), lambda n: zeros_or(n, 400.0))
    estimate = eqx.filter_jit(AIS(50, 20))(jr.key(0), target)
    assert float(estimate.value) < -0.3  # of 0
    assert any("distances from their centre" in doubt for doubt in estimate.doubts)


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


NORMAL = jax.scipy.stats.norm.logpdf
# Log density of a variable, number of variables and draws, scale of the normal proposal, and whether it is wide enough.
PROPOSALS = {
    "cauchy": (jax.scipy.stats.cauchy.logpdf, 1, 1000, 3.0, False),
    "student": (lambda x: jax.scipy.stats.t.logpdf(x, 3), 5, 1000, 1.0, False),
    "laplace": (jax.scipy.stats.laplace.logpdf, 5, 5000, 1.0, False),
    "wider": (NORMAL, 5, 1000, 1.3, True),
    "equal": (NORMAL, 5, 1000, 1.0, True),
    "hardly_narrower": (NORMAL, 1, 1000, 0.9, True),
    "few": (NORMAL, 5, 100, 1.05, True),
}


@pytest.mark.parametrize("name", PROPOSALS)
def test_proposals_of_lighter_tails_are_told_and_others_are_not(name):
    """100 estimates each, of a target whose integral is 1, by draws of a normal."""
    log_p, size, num, scale, is_wide = PROPOSALS[name]
    target = lnz.density(lnz.Euclidean(size), lambda x: jnp.sum(log_p(x)))
    method = lnz.normalizers.Importance(num, lnz.Normal(jnp.zeros(size), scale))
    found = jax.jit(lambda keys: jax.lax.map(lambda key: method(key, target), keys))(jr.split(jr.key(0), 100))
    low, high = found.interval()
    covered, trusted = (low <= 1e-5) & (high >= -1e-5), ~found.unreliable_rows()
    if is_wide:
        assert (np.abs(found.weights.beyond) > 0.7).sum() == 0
        assert covered.sum() >= 88  # of 95.4: a false alarm once in 800 keys
    else:
        assert (trusted & ~covered).sum() <= 10
        assert trusted.sum() < 60


class Forwards(lnz.bijections.AbstractBijection):
    """A bijection of the line whose inverse is not to be used."""

    @property
    def domain(self):
        return lnz.Euclidean(2)

    @property
    def codomain(self):
        return lnz.Euclidean(2)

    def forward_and_log_det(self, x, *, key=None):
        return jnp.sinh(x), jnp.sum(jnp.log(jnp.cosh(x)))

    def inverse_and_log_det(self, y, *, key=None):
        raise AssertionError("an inverse, which may be sequential")


def to_support(space, loc, scale, df):
    base = lnz.distributions.StudentT(jnp.full(2, loc), scale, df)
    return lnz.Transformed(base, lnz.bijections.ToSupport(space))


# Log density of a variable and the proposal: whether its tails are wide enough.
ON_SPACES = {
    "gamma": (lambda x: 2 * jnp.log(x) - x - math.log(2), to_support(lnz.Positive(2), 2.0, 1.5, 4.0), True),
    "beta": (lambda x: jnp.log(x) + jnp.log1p(-x) + math.log(6), to_support(lnz.Interval(2), 0.0, 1.2, 10.0), True),
    "flow": (NORMAL, lnz.Transformed(lnz.Normal(jnp.zeros(2), 0.8), Forwards()), True),
    "narrow_flow": (
        lambda x: jax.scipy.stats.cauchy.logpdf(x),
        lnz.Transformed(lnz.Normal(jnp.zeros(2), 0.8), Forwards()),
        False,
    ),
    "counts": (lambda n: poisson(n, 1.5), lnz.Reference(lnz.Counts(2)), True),
    "heavy_counts": (lambda n: n.astype(float) * math.log(0.8) + math.log(0.2), lnz.Poisson(jnp.zeros(2)), False),
    "far_counts": (lambda n: zeros_or(n, 400.0), lnz.Reference(lnz.Counts(2)), False),
    "far_counts_by_a_mixture": (
        lambda n: jnp.logaddexp(poisson(n, 1.5), poisson(n, 40.0)) - math.log(2),
        lnz.ProductDistribution(
            **{name: lnz.Mixture(jnp.zeros(2), lnz.Poisson(jnp.log(jnp.array([[1.5], [42.0]])))) for name in "ab"}
        ),
        True,
    ),
    "box": (NORMAL, lnz.Transformed(lnz.Uniform(2, -1.5, 1.5), lnz.bijections.Affine(jnp.zeros(2), 1.0)), False),
}


@pytest.mark.parametrize("name", ON_SPACES)
def test_rays_through_draws_of_flows_and_on_other_spaces(name):
    """Positive numbers and those of an interval under Student's t, flows, a box that is too small, and counts."""
    log_p, proposal, is_wide = ON_SPACES[name]
    target = lnz.density(proposal.space, lambda x: jnp.sum(jax.vmap(log_p)(x)))
    method = lnz.normalizers.Importance(1000, proposal)
    found = jax.jit(lambda keys: jax.lax.map(lambda key: method(key, target), keys))(jr.split(jr.key(0), 20))
    if is_wide:
        assert (np.abs(found.weights.beyond) < 0.7).all()
        assert (np.abs(found.value) < 5 * found.standard_error).all()
    else:
        assert (np.abs(found.weights.beyond) > 0.7).sum() >= 15


def test_no_rays_where_there_are_no_tails():
    discrete = lnz.normalizers.Importance(100)(jr.key(0), lnz.density(lnz.Binary(2), lambda x: 1.0 * jnp.sum(x)))
    assert discrete.weights.beyond is None


def test_medians_of_medians_are_near_the_median():
    """81 draws of Cauchy numbers, 500 times: in the middle, with a spread near that of medians."""
    x = np.random.default_rng(0).standard_cauchy((81, 500)) + 3
    found = np.asarray(_remedian(jnp.asarray(x)))
    assert abs(np.median(found) - 3) < 0.06  # 5 standard errors
    assert np.std(found) < 1.7 * np.std(np.median(x, axis=0))


def test_draws_of_the_base_are_those_that_a_flow_maps():
    flow = lnz.Transformed(lnz.Normal(jnp.zeros(2), 0.8), Forwards())
    z = flow.sample_base(jr.key(1), (3,))
    np.testing.assert_allclose(jnp.sinh(z), flow.sample(jr.key(1), (3,)), rtol=1e-6)


def test_chains_behind_walls_raise_no_doubt():
    """Three rods on a line: many chains start where they overlap, and their rays meet no mass."""
    width = 0.2

    def log_density(x):
        gaps = jnp.abs(x[jnp.array([0, 0, 1])] - x[jnp.array([1, 2, 2])])
        return jnp.where(jnp.all(gaps > width), 0.0, -jnp.inf)

    estimates = [
        lnz.log_normalizer(jr.key(i), lnz.density(lnz.Interval(3), log_density), AIS(100, 100)) for i in (0, 1)
    ]
    for estimate in estimates:
        assert not estimate.doubts
        # Of the lengths that the rods leave free, to the third power; 4 standard errors of about 0.2.
        error = float(estimate.value) - 3 * math.log(1 - 2 * width)
        assert abs(error) < 4 * float(estimate.standard_error) < 1.2
