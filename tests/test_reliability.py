"""Numbers that are not finite are never passed on as if all were well; walls, and error bars of few draws."""

import math
import re
import warnings

import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
import table

import lnz
from lnz import Bracket, Estimate, testing
from lnz.core import resolve_path
from lnz.core._student import student_quantile
from lnz.evaluation._normalize import check_repeats
from lnz.normalizers import AIS, ReverseAIS, acceptance_ratio, exact_samples
from lnz.numerics import add_compensated
from lnz.samplers import HMC

INF, NAN = math.inf, math.nan


class Poisoned(lnz.AbstractBlockDensity):
    """Three fair bits, whose density is `bad` where the first two are 1, or everywhere."""

    bad: jax.Array
    everywhere: jax.Array
    num_blocks = 1

    @property
    def space(self):
        return lnz.Binary(3)

    def log_density(self, x):
        is_bad = self.everywhere | ((x[0] == 1) & (x[1] == 1))
        return jnp.where(is_bad, self.bad, jnp.zeros(()))

    def path(self):
        return PoisonedPath(self)

    def split(self, x):
        return (x,)

    def join(self, blocks):
        return blocks[0]

    def conditional(self, index, blocks):
        return lnz.Bernoulli(jnp.zeros(3))


class PoisonedPath(lnz.AbstractPath):
    """Fair bits all the way for the sampler, with the weights of the geometric path."""

    target: Poisoned

    @property
    def start(self):
        return lnz.Bernoulli(jnp.zeros(3))

    def at(self, beta):
        return self.target

    def log_ratio(self, beta0, beta1, x):
        return lnz.GeometricPath(self.start, self.target).log_ratio(beta0, beta1, x)


BAD = {"one_nan": (NAN, False), "one_plus_infinity": (INF, False), "all_minus_infinity": (-INF, True)}


NORMALIZERS = {**table.NORMALIZERS, "bound": (lambda: lnz.normalizers.Bound(100, num_weights=2), "lower", {})}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_no_normalizer_passes_on_weights_that_are_not_numbers(name):
    make_normalizer, bound, _ = NORMALIZERS[name]
    run = jax.jit(lambda bad, everywhere: make_normalizer()(jr.key(0), Poisoned(bad, everywhere)))
    for bad, (value, everywhere) in BAD.items():
        estimate = run(jnp.asarray(value), jnp.asarray(everywhere))
        if bound == "exact" and bad == "all_minus_infinity":
            assert float(estimate.value) == -INF  # a true zero, by enumeration
            assert estimate.reliable
        else:
            assert not estimate.reliable
            assert "UNRELIABLE" in str(estimate)
            assert "UNRELIABLE" in repr(estimate)
    good = run(jnp.asarray(0.0), jnp.asarray(False))
    assert float(good.value) == pytest.approx(3 * np.log(2), abs=1e-4)
    assert good.reliable


class PoisonedReal(lnz.AbstractDensity):
    """A standard normal whose density is `bad` above 0.5, or everywhere."""

    bad: jax.Array
    everywhere: jax.Array

    @property
    def space(self):
        return lnz.Euclidean(1)

    def log_density(self, x):
        return jnp.where(self.everywhere | (x[0] > 0.5), self.bad, lnz.Normal.standard(1).log_prob(x))

    def path(self):
        return lnz.GeometricPath(lnz.Normal.standard(1), self)


def test_modes_of_a_density_that_is_not_a_number():
    method = lnz.normalizers.LaplaceImportance(200, 3)
    run = jax.jit(lambda bad, everywhere: method(jr.key(0), PoisonedReal(bad, everywhere)))
    for value, everywhere in BAD.values():
        assert not run(jnp.asarray(value), jnp.asarray(everywhere)).reliable


def with_bad(bad, num):
    log_w = np.random.RandomState(0).normal(scale=0.3, size=num)
    value, everywhere = BAD[bad]
    return jnp.asarray(np.full(num, value) if everywhere else np.append(log_w[1:], value), jnp.result_type(float))


@jax.jit
def combinations(log_w, good):
    """Every kind of estimate that some weights enter, beside others that are well."""
    one, well = lnz.log_mean_exp(log_w), lnz.log_mean_exp(good)
    both_ways = acceptance_ratio(log_w, -good), acceptance_ratio(good, log_w)
    sums = one + well, well - one, well + both_ways[0], both_ways[1] - well, Estimate.exact(1.0) - one
    return lnz.pareto_k(log_w), one, well, (*both_ways, *sums)


@pytest.mark.parametrize("num", [15, 400])
def test_no_average_of_weights_passes_on_what_is_not_a_number(num, precision):
    good = with_bad("one_nan", num).at[-1].set(0.0)
    for bad in BAD:
        k, one, well, others = combinations(with_bad(bad, num), good)
        assert float(k) == INF
        assert well.reliable
        for estimate in (one, *others, Bracket(one, -well), Bracket(well, -one)):
            assert not estimate.reliable
            assert "UNRELIABLE" in str(estimate)
            assert "UNRELIABLE" in repr((estimate, estimate))
        assert f"effective sample size 0.0 is below {7.5 if num == 15 else 10}" in str(one)


def likelihood(*rows):
    return by_hand.likelihood(rows, base_measure="Lebesgue", num_dimensions=1)


@pytest.mark.parametrize(
    ("value", "error", "bound", "reliable"),
    [
        (0.0, 0.1, "lower", True),
        (-INF, 0.0, "exact", True),
        (-INF, 0.1, "lower", False),
        (INF, 0.0, "exact", False),
        (NAN, 0.0, "exact", False),
        (NAN, 0.1, "upper", False),
        (0.0, NAN, "unbiased", False),
        (0.0, INF, "estimate", False),
    ],
)
def test_an_estimate_that_is_not_finite_is_not_reliable(value, error, bound, reliable):
    one = Estimate(jnp.asarray(value), jnp.asarray(error), bound)
    assert one.reliable == reliable
    several = Estimate(jnp.asarray([0.5, value]), jnp.asarray([0.1, error]), bound)
    np.testing.assert_array_equal(several.unreliable_rows(), [False, not reliable])
    assert several.reliable == reliable
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        lnz.core._estimate.warn_if_unreliable(one, "AIS")
    assert len(told) == (not reliable)


def test_diagnostics_that_are_not_numbers_break_their_rule():
    for measured in (
        {"ess": NAN, "num": 100},
        {"overlap": NAN},
        {"edge_mass": NAN},
        {"grid_error": NAN},
        {"pareto_k": INF, "num": 100},
    ):
        weights = lnz.Weights(**{name: jnp.asarray(x) for name, x in measured.items()})
        one = Estimate(jnp.zeros(()), jnp.ones(()), "lower", (), weights)
        assert not one.reliable
        assert not (one + one).reliable


@pytest.mark.parametrize("name", ["edge_mass", "grid_error"])
def test_the_fault_of_either_grid_is_seen_in_a_sum(name):
    inside, outside = (
        Estimate(jnp.zeros(()), jnp.ones(()), "estimate", (), lnz.Weights(**{name: jnp.asarray(x)})) for x in (0.0, 0.2)
    )
    assert not (inside + outside).reliable
    assert not (outside + inside).reliable


def test_rows_that_are_not_finite_are_told_by_evaluate():
    model = lnz.Normal(jnp.zeros(2), 1e-3)
    rows = np.zeros((5, 2), np.float32)
    rows[3] = 3e38, -3e38
    with pytest.warns(lnz.UnreliableEstimateWarning, match="1 of 5 rows have probability zero, first row 3"):
        result = lnz.evaluate(jr.key(0), model, rows)
    assert result.value == -INF
    assert "WARNING: 1 of 5 rows have probability zero, first row 3" in str(result)
    assert "WARNING" in repr(result)
    broken = eqx.tree_at(lambda m: m.loc, model, jnp.array([0.0, NAN]))
    with pytest.warns(lnz.UnreliableEstimateWarning, match="5 of 5 rows .* NaN or plus infinity, first row 0"):
        assert math.isnan(lnz.evaluate(jr.key(0), broken, rows).value)
    with pytest.warns(lnz.UnreliableSampleWarning, match="4 of 4 draws are not finite, first row 0"):
        lnz.sample(jr.key(0), broken, 4)


def test_diagnose_names_rows_that_are_not_finite():
    vae = table.linear_vae("diagonal")
    rows = np.asarray(lnz.sample(jr.key(0), vae, 3)).copy()
    rows[1] = 3e38
    result = lnz.diagnose(jr.key(0), vae, rows, num_samples=2, refine_steps=0)
    assert any("of 3 rows have" in warning and "first row 1" in warning for warning in result.warnings)
    assert not any("collapsed" in warning for warning in result.warnings)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_compare_never_ranks_what_is_not_a_number_first(bad):
    rows = {"bad": likelihood(bad, 1.0), "low": likelihood(-3.0, -2.0), "zero": likelihood(-INF, 0.0)}
    rows["high"] = likelihood(-1.0, -2.0)
    compared = lnz.compare(rows)
    assert [row.name for row in compared.rows] == ["high", "low", "zero", "bad"]
    assert [row.difference is None for row in compared.rows] == [True, False, False, False]
    assert "bad: warning: 1 of 2 rows have a log-probability that is NaN or plus infinity, first row 0" in str(compared)
    alone = lnz.compare({"bad": rows["bad"]})
    assert "best" not in str(alone).splitlines()[1]


def test_load_names_a_parameter_that_is_not_finite(tmp_path):
    broken = eqx.tree_at(lambda m: m.W, table.rbm(), table.rbm().W.at[0, 0].set(NAN))
    lnz.save(tmp_path / "a.lnz", broken)
    with pytest.warns(UserWarning, match=r"1 of 12 numbers of the parameter RBM\.W are NaN or infinite"):
        lnz.load(tmp_path / "a.lnz")
    lnz.save(tmp_path / "b.lnz", lnz.Categorical(jnp.array([[0.0, -INF]])))
    lnz.load(tmp_path / "b.lnz")  # what is impossible is said by infinity


# Walls.


@pytest.mark.parametrize("name", ["walled", "hard_core"])
def test_log_ratio_beyond_walls_is_minus_infinity_and_never_nan(name, precision):
    density = table.PATHS[name]()
    path = density.path()
    x = path.start.sample(jr.key(1), (20,))
    betas = [0.0, 0.3, 0.3, 0.8, 0.8, 1.0, 1.0]

    @eqx.filter_jit
    def ratios(density, path, x):
        def along(path):
            low, high = jnp.asarray(betas[:-1]), jnp.asarray(betas[1:])
            return jax.vmap(lambda b0, b1: jax.vmap(lambda x: path.log_ratio(b0, b1, x))(x))(low, high)

        return along(path), along(lnz.ReversedPath(path)), jax.vmap(density.log_density)(x) == -jnp.inf

    found, back, is_out = map(np.asarray, ratios(density, path, x))
    assert 0 < is_out.sum() < len(x)
    assert not np.isnan(found).any()
    assert not np.isnan(back).any()
    assert (found[[1, 3, 5]] == 0).all()
    assert (back[[1, 3, 5]] == 0).all()
    assert (found[[0, 2, 4]][:, is_out] == -INF).all()
    assert np.isfinite(found[:, ~is_out]).all()


def test_a_compensated_sum_stays_minus_infinity(precision):
    total = lost = jnp.zeros(2)
    for term in ([0.5, 0.5], [-INF, 1.0], [0.25, 2.0], [-INF, 1e-9]):
        total, lost = add_compensated(total, lost, jnp.asarray(term, total.dtype))
    np.testing.assert_allclose(total, [-INF, 3.5])
    total, _ = add_compensated(jnp.full(2, NAN), lost, jnp.ones(2))
    assert np.isnan(total).all()


def test_annealing_with_hard_walls_agrees_with_enumeration(float64):
    field = table.hard_core()
    exact = testing.exact_log_normalizer(field)
    transfer = np.exp(-np.array([[0.1, -0.2], [-0.2, INF]]))
    assert exact == pytest.approx(np.log(np.trace(np.linalg.matrix_power(transfer, 8))), abs=1e-9)
    estimates = testing.repeat_normalizer(jr.key(0), AIS(1000, 10), field, 50)
    testing.check_normalizer(estimates, exact, coverage=None)
    assert not np.isnan(np.asarray(estimates.value)).any()
    # 0.04 is the stated error of one run, whose mean over 50 has a seventh of it.
    assert float(jnp.mean(estimates.value)) == pytest.approx(exact, abs=5 * 0.04 / 7)
    pulls = (np.asarray(estimates.value) - exact) / np.asarray(estimates.standard_error)
    assert np.mean(np.abs(pulls) < 2) >= 0.8  # expect 0.95; fewer than 40 of 50 in fewer than one of 10,000 cases


class Box(lnz.AbstractDensity):
    """z is standard normal, and x = 0.5 uniform within 1 of z: `log p(x) = log (Phi(1.5) - Phi(-0.5)) / 2`."""

    @property
    def space(self):
        return lnz.Euclidean(1)

    def log_density(self, z):
        inside = jnp.all(jnp.abs(z - 0.5) < 1)
        return lnz.Normal.standard(1).log_prob(z) + jnp.where(inside, -np.log(2), -jnp.inf).astype(z.dtype)

    def path(self):
        return lnz.GeometricPath(lnz.Normal.standard(1), self)


def test_annealing_of_a_bounded_likelihood_agrees_with_the_normal_distribution():
    exact = np.log((scipy.stats.norm.cdf(1.5) - scipy.stats.norm.cdf(-0.5)) / 2)
    estimate = lnz.log_normalizer(jr.key(0), Box(), AIS(1000, 20, sampler=lnz.samplers.HMC(0.5, 4)))
    assert estimate.reliable
    assert float(estimate.value) == pytest.approx(exact, abs=5 * float(estimate.standard_error))


@pytest.mark.filterwarnings("ignore::lnz.UnreliableEstimateWarning")
def test_annealing_under_a_uniform_likelihood():
    vae = lnz.latent.VAE(lnz.Normal.standard(1), lambda z: lnz.Uniform(1, 0.0, 2.0), lambda x: lnz.Normal(x, 1.0))
    inside, outside = (lnz.condition(vae, jnp.array([x])) for x in (0.5, 2.5))
    method = AIS(50, 5, sampler=lnz.samplers.HMC(0.5, 2))
    estimate = lnz.log_normalizer(jr.key(0), inside, method)
    assert float(estimate.value) == pytest.approx(-np.log(2), abs=5 * float(estimate.standard_error) + 1e-5)
    estimate = lnz.log_normalizer(jr.key(0), outside, method)
    assert float(estimate.value) == -INF
    assert not estimate.reliable


def test_a_field_of_2_to_the_64_states():
    """Its number of states does not fit into a number of NumPy."""
    rng = np.random.RandomState(0)
    tables = rng.normal(size=(4, 2, 2))
    field = lnz.energy.MarkovField(64, 2, [(0, 1), (1, 2), (7, 63), (30, 31)], list(tables))
    x = rng.randint(0, 2, size=64)
    path = field.path()
    energy = sum(t[x[a], x[b]] for t, (a, b) in zip(tables, field.cliques, strict=True))
    assert float(path.log_ratio(0.0, 1.0, jnp.asarray(x))) == pytest.approx(-energy + 64 * np.log(2), rel=1e-6)
    assert float(path.at(0.0).log_density(jnp.asarray(x))) == pytest.approx(-64 * np.log(2), rel=1e-6)


# Error bars of few draws, brackets, paths and grids.


@pytest.mark.parametrize("level", [0.5, 0.9, 0.954, 0.999])
def test_student_quantile_against_scipy(level):
    degrees = np.array([1, 1.3, 2, 3.7, 4, 9, 29.5, 100, 999, 1001, 1e5, 1e9, INF])
    expected = scipy.stats.t.ppf(0.5 + level / 2, degrees)
    np.testing.assert_allclose(student_quantile(degrees, level), expected, rtol=1e-8)
    assert math.isnan(student_quantile(NAN, level))
    assert float(student_quantile(INF)) == pytest.approx(2.0, abs=1e-9)


def test_intervals_of_few_draws_cover(float64):
    """2000 averages of 2 to 10 log-normal weights of small spread, and their sums and differences with another."""
    sizes, truth = (2, 3, 5, 10), 0.02**2 / 2
    draws = [jnp.asarray(0.02 * np.random.RandomState(num).normal(size=(2, 2000, num))) for num in sizes]

    @jax.jit
    @jax.vmap
    def estimates(pair):
        one, other = (lnz.log_mean_exp(log_w) for log_w in pair)
        return one, one + other, one - other

    for num, pair in zip(sizes, draws, strict=True):
        found = estimates(jnp.swapaxes(pair, 0, 1))
        for estimate, exact in zip(found, (truth, 2 * truth, 0.0), strict=True):
            low, high = estimate.interval()
            covered = np.mean((low <= exact) & (exact <= high))
            # The standard error of the fraction is 0.0047: 5 of them. Of sums of so few, Welch's degrees are too few.
            assert 0.9545 - 0.024 < covered < (0.9545 + 0.024 if estimate is found[0] or num > 4 else 0.999)
        with_two = np.mean(np.abs(found[0].value - truth) <= 2 * found[0].standard_error)
        assert with_two < {2: 0.75, 3: 0.86, 5: 0.92, 10: 0.95}[num]  # 0.70, 0.82, 0.88, 0.92


def estimate(value, error, bound, num=None):
    weights = lnz.Weights() if num is None else lnz.Weights(num=jnp.asarray(num), ess=jnp.asarray(float(num)))
    return Estimate(jnp.asarray(value), jnp.asarray(error), bound, (), weights)


def test_few_draws_are_printed_with_their_interval():
    few = estimate(1.0, 0.1, "lower", 3)
    t = scipy.stats.t.ppf(0.97724987, 2)
    assert few.interval() == pytest.approx((1 - 0.1 * t, 1 + 0.1 * t))
    assert f"s.e. 0.1, two-sigma interval +-{0.1 * t:.2g}" in str(few)
    assert "widened by 4.5 and 2 s.e." in str(Bracket(few, estimate(2.0, 0.1, "upper", 1000)))
    assert "two-sigma" not in str(estimate(1.0, 0.1, "lower", 100))
    (low, high), sharp = few.interval(0.5), Estimate.exact(1.0)
    assert high - low == pytest.approx(0.2 * scipy.stats.t.ppf(0.75, 2))
    assert sharp.interval() == (1.0, 1.0)
    assert float((few + sharp).degrees_of_freedom) == float((sharp - few).degrees_of_freedom) == 2
    with pytest.raises(ValueError, match="`level` must be a probability"):
        few.interval(95.0)


@pytest.mark.parametrize(
    ("lower", "upper", "interval"),
    [((-2.66, 0.1), (-304.1, 50.0), (-404.1, -2.46)), ((5.0, 0.1), (3.0, 0.2), (2.6, 5.2))],
)
def test_sides_that_cross_are_no_interval(lower, upper, interval):
    crossed = Bracket(estimate(*lower, "lower", 10**6), estimate(*upper, "upper", 10**6))
    low, high = crossed.interval
    assert low < high
    if lower[0] - 2 * lower[1] > upper[0] + 2 * upper[1]:
        assert (low, high) == pytest.approx(interval, abs=1e-3)
        assert not crossed.reliable
        assert "the hull of both sides" in str(crossed)
        assert "UNRELIABLE: the lower side lies" in str(crossed)
        assert "UNRELIABLE" in repr(crossed)


def test_sides_that_cross_by_rounding_agree():
    crossed = Bracket(Estimate.exact(jnp.float32(100.00001)), estimate(100.0, 0.0, "upper", 100))
    assert crossed.reliable
    assert crossed.width >= 0


@pytest.mark.parametrize(("spread", "reliable"), [(0.5, 0.9), (1.0, 0.65), (2.5, 0.0)])
def test_log_weights_that_spread_too_far_for_their_number_are_told(spread, reliable, float64):
    """100 chains through few temperatures, 500 times: the truth is missed unseen in fewer than 9 of 100 runs."""
    draws = spread * np.random.RandomState(3).normal(size=(500, 100))
    estimates = jax.jit(jax.vmap(lambda log_w: lnz.normalizers._ais._with_weights(log_w, {})))(jnp.asarray(draws))
    is_trusted = ~estimates.unreliable_rows()
    low, high = estimates.interval()
    missed = (spread**2 / 2 < low) | (high < spread**2 / 2)
    assert is_trusted.mean() >= reliable
    assert (is_trusted & missed).mean() < 0.09
    if spread == 2.5:
        assert missed.mean() > 0.25
        assert is_trusted.mean() < 0.02
        assert "too few temperatures" in str(jax.tree.map(lambda a: a[0], estimates))


def normal_weights(spread):
    return lambda random, size: spread * random.normal(size=size) - spread**2 / 2


def prior_weights(num_dimensions, narrower):
    """Draws of a standard normal for a target that is narrower: bounded weights, mostly tiny."""

    def draw(random, size):
        squares = random.chisquare(num_dimensions, size)
        return -0.5 * (narrower**2 - 1) * squares + num_dimensions * np.log(narrower)

    return draw


SHAPES = {  # log weights of mean one, their number, the least and the largest share of averages to be trusted
    "normal_1": (normal_weights(1.0), 1000, 0.98, 1),
    "normal_2.5": (normal_weights(2.5), 1000, 0, 0.08),
    "normal_3": (normal_weights(3.0), 1000, 0, 0.02),
    "narrow_target": (prior_weights(1, 10), 1000, 0.98, 1),
    "window": (lambda random, size: np.where(random.uniform(size=size) < 0.05, np.log(20), -60.0), 1000, 0.98, 1),
    "two_groups": (
        lambda random, size: (
            np.where(random.uniform(size=size) < 0.3, -np.log(0.3), -20.0) + normal_weights(0.3)(random, size)
        ),
        100,
        0.9,
        1,
    ),
    "narrow_in_ten": (prior_weights(10, 2), 5000, 0.2, 0.7),
}


@pytest.mark.parametrize("name", SHAPES)
def test_averages_are_trusted_where_they_cover_and_not_otherwise(name):
    """400 averages by `log_mean_exp`, which all importance sampling ends in: at most 7% are wrong and trusted.

    Of a binomial number of 400 with share 0.045, more than 28 occur in fewer than one of 100 keys; this one is fixed.
    """
    draw, num, least, most = SHAPES[name]
    log_w = draw(np.random.RandomState(5), (400, num))
    estimates = jax.jit(jax.vmap(lnz.log_mean_exp))(jnp.asarray(log_w, jnp.float32))
    is_trusted = ~estimates.unreliable_rows()
    low, high = estimates.interval()
    assert least <= is_trusted.mean() <= most
    assert (is_trusted & ((high < 0) | (low > 0))).mean() <= 0.07


def test_short_representations():
    both = (estimate(1.0, 0.1, "lower", 100), Bracket(estimate(1.0, 0.0, "exact"), estimate(2.0, 0.0, "exact")))
    assert repr(both) == "(Estimate(1.0000 nats, lower bound, s.e. 0.1), Bracket([1.0000, 2.0000] nats))"
    assert repr([likelihood(-1.0, -2.0)]) == "[LogLikelihood(-1.500 nats per example, exact, n = 2, data s.e. 0.5)]"
    assert repr(estimate(1.0, 0.1, "lower", 5)).endswith("two-sigma interval +-0.29)")
    one_of_five = lnz.Weights(num=jnp.asarray(5), ess=jnp.asarray(1.0))
    few = Estimate(jnp.asarray(1.0), jnp.asarray(0.1), "lower", (), one_of_five)
    assert repr(few).endswith("two-sigma interval +-0.29, UNRELIABLE)")
    traced = []
    jax.jit(lambda e: traced.append(repr(e)) or e.value)(both[0])
    assert traced[0].startswith("Estimate(")


def test_positions_of_one_row_do_not_start_the_chains_of_others():
    vae = table.linear_vae("diagonal")
    x = np.asarray(lnz.sample(jr.key(0), vae, 2))
    start = vae.prior.sample(jr.key(1), (4,))
    reverse = ReverseAIS(betas=3, positions=start, sampler=lnz.samplers.HMC(0.3, 2))
    for hidden in (reverse, lnz.normalizers.BAR(AIS(4, 3, sampler=reverse.sampler), reverse)):
        with pytest.raises(ValueError, match=r"for the others the result would not be a bound.*simulated_bracket"):
            lnz.evaluate(jr.key(0), vae, x, hidden=hidden)


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        (np.full((4, 4), 0.5), "4 of 4 positions are outside .*first that of chain 0"),
        (np.array([[0.0] * 4, [0, 1, 0, -1]]), "1 of 2 positions are outside .*first that of chain 1"),
        (np.array([[NAN] * 4, [0.0] * 4]), "1 of 2 positions are outside"),
        (np.ones((3, 2)), "3 positions, only 1 distinct"),
        (np.array([[0.0, INF], [0.0, 1.0]]), "1 of 2 positions are outside"),
    ],
)
def test_positions_that_are_no_exact_draws_are_refused(positions, words):
    density = table.rbm() if positions.shape[1] == 4 else lnz.density(lnz.Euclidean(2), lambda x: -jnp.sum(x**2))
    reverse = ReverseAIS(betas=3, positions=jnp.asarray(positions))
    for method in (reverse, lnz.normalizers.BAR(AIS(4, 3), reverse)):
        with pytest.raises(ValueError, match=words):
            lnz.log_normalizer(jr.key(0), density, method)


@pytest.mark.parametrize("num_copies", [3, 5])
def test_draws_of_a_discrete_density_that_repeat_too_often_are_refused(num_copies):
    """Twelve draws among a million states, each given several times, as method of every verb that takes one."""
    machine = table.rbm(20, 5)
    draws = lnz.sample(jr.key(0), machine, 12, num_steps=50)
    assert len(np.unique(draws, axis=0)) == 12
    partition = ReverseAIS(betas=3, positions=jnp.repeat(draws, num_copies, axis=0))
    words = f"{12 * num_copies} positions, only 12 distinct. .* equal pairs"
    with pytest.raises(ValueError, match=words):
        lnz.log_normalizer(jr.key(0), machine, partition)
    with pytest.raises(ValueError, match=words):
        lnz.evaluate(jr.key(0), machine, draws[:4], partition=partition)


def test_independent_draws_of_a_discrete_density_may_repeat():
    """600 sets of 5 or 40 draws among 16 states, of even and of very uneven probability: none is refused."""
    for machine in (table.rbm(), eqx.tree_at(lambda m: m.W, table.rbm(), 3 * table.rbm().W)):
        exact = lnz.log_normalizer(jr.key(0), machine)
        for num in (5, 40):
            sets = jax.vmap(lambda key: exact_samples(key, machine, num))(jr.split(jr.key(1), 150))  # noqa: B023
            for positions in sets:
                check_repeats(ReverseAIS(betas=3, positions=positions), machine, exact)


def test_a_path_that_ends_elsewhere_is_seen_where_one_draw_is_blind():
    """One weight of 1000 is off: most draws of the start do not touch it."""
    machine = table.rbm(20, 5)
    moved = eqx.tree_at(lambda m: m.W, machine, machine.W.at[3, 2].add(0.5))
    rates = jnp.full(20, 0.3)
    resolve = eqx.filter_jit(lambda path, density: resolve_path(path, density).start_b)
    with pytest.raises(Exception, match="ends at another density"):
        resolve(machine.path(rates), moved)
    resolve(machine.path(rates), machine)
    with pytest.raises(TypeError, match="the function returned RBM"):
        resolve_path(lambda rbm: rbm, machine)


def test_grids_draw_with_many_random_bits(monkeypatch):
    """One point of 2**14 with nearly all the mass, the others with 2.5e-8 of it each: of 20,000 draws 8.2 are expected
    among them, and 0.4 with 23 bits. That takes 3e8 random numbers; here it is seen that all choices have 46."""
    modes, categorical = [], jax.random.categorical

    def recorded(*args, **options):
        modes.append(options.get("mode"))
        return categorical(*args, **options)

    monkeypatch.setattr(jax.random, "categorical", recorded)
    draws = lnz.Binary(3).quadrature().sample(jr.key(0), lambda x: jnp.where(jnp.sum(x) == 3, 0.0, -jnp.inf), 8, 4)
    assert set(modes) == {"high"}
    assert (np.asarray(draws) == 1).all()


def test_directions_that_contradict_each_other_are_told():
    """Forward weights say log Z = 30, reverse ones -30: Bennett's ratio of both is no estimate of anything."""
    noise = 0.3 * jr.normal(jr.key(7), (2, 100))
    assert not any("contradict" in doubt for doubt in acceptance_ratio(noise[0], noise[1]).doubts)
    assert any("contradict" in doubt for doubt in acceptance_ratio(noise[0] + 30, noise[1] + 30).doubts)


def box(x):
    return jnp.where(jnp.all(jnp.abs(x) < 1), 0.0, -jnp.inf)


def test_chains_find_where_the_density_is_not_zero():
    """A half-normal, an exponential and a normal in a box, all walls by minus infinity."""

    def log_density(x):
        inside = (x[0] > 0) & (x[1] > 0) & (jnp.abs(x[2]) < 2)
        return jnp.where(inside, -0.5 * x[0] ** 2 - x[1] - 2 * (x[2] - 1.5) ** 2, -jnp.inf)

    draws = np.asarray(lnz.sample(jr.key(0), lnz.density(lnz.Euclidean(3), log_density), 1500), float)
    laws = scipy.stats.halfnorm, scipy.stats.expon, scipy.stats.truncnorm(-7, 1, 1.5, 0.5)
    for column, law in zip(draws.T, laws, strict=True):
        assert scipy.stats.kstest(column, law.cdf).pvalue > 1e-4  # a false alarm once in 3000 keys


def test_gibbs_leaves_states_that_are_impossible():
    """The 162 colourings of a grid of two by four with three colours are equally likely, from an impossible start."""
    edges = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (0, 4), (1, 5), (2, 6), (3, 7)]
    field = lnz.energy.MarkovField(8, 3, edges, [np.where(np.eye(3) > 0, INF, 0.0)] * len(edges))
    start = jnp.tile(jnp.asarray([0, 0, 1, 1, 2, 2, 0, 0]), (2000, 1))
    draws = np.asarray(lnz.sample(jr.key(0), field, 2000, num_steps=150, start=start))
    assert all((draws[:, a] != draws[:, b]).all() for a, b in edges)
    _, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(counts) == 162
    assert scipy.stats.chisquare(counts).pvalue > 1e-4  # a false alarm once in 10,000 keys


def colourings(num_rows, num_columns, rings, num_colours=3, field=0.0):
    """Of a grid whose rows are closed or not, neighbours in different colours."""
    sites = range(num_rows * num_columns)
    edges = [(i, i + 1) for i in sites if (i + 1) % num_columns] + [(i - num_columns, i) for i in sites[num_columns:]]
    edges += [(i, i + num_columns - 1) for i in sites[::num_columns] if rings]
    table = np.where(np.eye(num_colours) > 0, INF, 0.0)
    return lnz.energy.MarkovField(
        len(sites), num_colours, [*edges, (0,)], [table] * len(edges) + [np.arange(num_colours) * field]
    )


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (colourings(1, 5, rings=True), "of 30 possible states, .* to only 15"),  # clockwise or not
        (colourings(1, 3, rings=True), "of 6 possible states, .* to only 1"),
        (colourings(2, 4, rings=False), None),  # all 162, as by the test above
        (colourings(1, 4, rings=True), None),
        (colourings(1, 5, rings=True, num_colours=4), None),
        (colourings(4, 4, rings=False), "too many states"),
        (table.hard_core(200), None),  # each site may be empty
        (table.hard_core(3), None),
        (lnz.energy.MarkovField(2, 2, [(1, 0)], [[[0, INF], [INF, 0]]]), "of 2 possible states, .* to only 1"),
        (lnz.energy.MarkovField(100, 2, [(0, 1)], [[[0, 1], [2, 0]]]), None),
    ],
)
def test_states_that_changes_of_one_site_do_not_connect(field, words):
    assert (field.not_connected() is None) == (words is None)
    assert words is None or re.search(words, field.not_connected())


def test_sample_tells_of_states_that_are_not_connected_and_its_advice_helps():
    """Two equal bits, ones nine times as likely, all from zeros."""
    bits = lnz.energy.MarkovField(2, 2, [(1, 0), (0,)], [[[0, INF], [INF, 0]], [0.0, -math.log(9)]])
    with pytest.warns(lnz.UnreliableSampleWarning, match=r"of 2 possible .*`sampler=lnz.samplers.ParallelTempering"):
        lnz.sample(jr.key(0), bits, 4, num_steps=4)
    start = jnp.zeros((400, 2), jnp.int32)
    draws = lnz.sample(jr.key(0), bits, 400, num_steps=200, sampler=lnz.samplers.ParallelTempering(10), start=start)
    assert np.all(draws[:, 0] == draws[:, 1])
    assert abs(np.mean(draws[:, 0]) - 0.9) < 4 * 0.015  # a false alarm once in 16,000 keys


def test_draws_of_probability_zero_are_told():
    density = lnz.density(lnz.Euclidean(1), box)
    start = jnp.where(jnp.arange(8) < 5, 0.0, 50.0)[:, None]
    with pytest.warns(lnz.UnreliableSampleWarning, match=r"3 of 8 draws have probability zero .* row 5: .*`start="):
        lnz.sample(jr.key(0), density, 8, num_steps=20, sampler=HMC(0.1), start=start)
    with pytest.raises(ValueError, match=r"all 8 draws have probability zero .*`start="):
        lnz.sample(jr.key(0), density, 8, num_steps=20, sampler=HMC(0.1), start=start + 50)


def test_parameters_are_not_blamed_for_draws_that_overflow():
    model = lnz.Normal(jnp.zeros(2), 1e30)
    wide = lnz.Transformed(model, lnz.bijections.Affine(jnp.zeros(2), jnp.full(2, 1e30)))
    with pytest.warns(lnz.UnreliableSampleWarning, match="4 of 4 draws are not finite.* parameters .* are finite"):
        lnz.sample(jr.key(0), wide, 4)


def test_trust_adapts_to_few_weights():
    """Normal log weights, 4000 averages of each number and spread: the error of a share is below 0.008."""
    rng, run = np.random.default_rng(0), jax.jit(jax.vmap(lnz.log_mean_exp))
    for num in (3, 5, 10):
        spread = np.repeat([0.1, 0.5, 1.0, 1.5, 2.0, 3.0], 4000)
        found = run(jnp.asarray(spread[:, None] * rng.normal(size=(len(spread), num)), jnp.float32))
        low, high = found.interval()
        covered = ((low <= spread**2 / 2) & (spread**2 / 2 <= high)).reshape(6, -1)
        trusted = ~found.unreliable_rows().reshape(6, -1)
        assert trusted[0].mean() > 0.99  # annealing has converged: no alarm
        assert covered[0].mean() > 0.93
        assert (trusted & ~covered).mean(axis=1).max() < 0.13  # as of 30 weights
        assert trusted[-1].mean() < 0.05


def test_one_row_beyond_the_grid_is_told():
    """A few rows' weights may be bad by chance; of a grid nothing is."""
    decoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(jnp.full((1, 1), 2.0), jnp.zeros(1)), jnp.full(1, 0.5)
    )
    vae = lnz.latent.VAE(lnz.Normal.standard(1), decoder, None)
    x = np.random.RandomState(0).normal(size=(60, 1)) * math.sqrt(4.25)
    quadrature = lnz.normalizers.Quadrature()
    right = lnz.evaluate(jr.key(0), vae, x, hidden=quadrature)
    np.testing.assert_allclose(right.per_example, scipy.stats.norm.logpdf(x[:, 0], 0, math.sqrt(4.25)), atol=1e-3)
    assert right.warnings == ()
    x[7] = 40.0
    with pytest.warns(lnz.UnreliableEstimateWarning, match="1 of 60 examples have mass on the edge of the grid"):
        lnz.evaluate(jr.key(0), vae, x, hidden=quadrature)


@pytest.mark.parametrize("start", [None, 0.0])
@pytest.mark.parametrize("scales", [(0.01, 10.0), (1e-3, 1e3), (1.0, 2.0)], ids=str)
def test_chains_that_still_spread_are_told(scales, start):
    """One step size for two scales: it follows the smaller, and the larger takes longer than the steps there are."""
    scale = jnp.asarray(scales)
    density = lnz.density(lnz.Euclidean(2), lambda x: -0.5 * jnp.sum((x / scale) ** 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draws = lnz.sample(jr.key(0), density, 1000, start=None if start is None else jnp.full((1000, 2), start))
    is_right = all(scipy.stats.kstest(x / s, "norm").pvalue > 1e-6 for x, s in zip(draws.T, scales, strict=True))
    assert is_right == (scales == (1.0, 2.0))
    assert bool(caught) == (not is_right)
    for warning in caught:
        assert re.search("draws of 1 of 2 variables still (depend|move on)", str(warning.message))


def test_independent_draws_are_not_taken_for_unsettled(monkeypatch):
    """Starts and ends that know nothing of each other, of rare and frequent bits, counts and numbers with far ones."""
    told = []
    monkeypatch.setattr(lnz.evaluation._sample.warnings, "warn", lambda *words, **_: told.append(words))
    random = np.random.default_rng(0)
    for num in (30, 100, 1000, 3000):
        rates = random.choice([0.001, 0.01, 0.1, 0.3, 0.5], size=300)
        for draw in (
            lambda: random.random((num, 300)) < rates,  # noqa: B023 (called at once)
            lambda: random.poisson(20 * rates, (num, 300)),  # noqa: B023
            lambda: random.standard_cauchy((num, 300)),  # noqa: B023
        ):
            start, halfway, end = (np.asarray(draw(), float) for _ in range(3))
            lnz.evaluation._sample._check_settled(start, halfway, end)
            lnz.evaluation._sample._check_settled(0 * start, halfway, end)
    assert not told


@pytest.mark.parametrize(
    ("start", "memory", "num", "least", "most"),
    [
        (0.0, 0.99, 100, 0.8, 1),  # all start in one place: 0.2 of the right standard deviation
        (0.0, 0.9, 300, 0.99, 1),
        (0.3, 0.99, 100, 0.99, 1),
        (0.0, 0.78, 1000, 0.99, 1),  # 0.79 of the right one
        (0.0, 0.3, 1000, 0, 0.01),  # 0.996 of it
        (1.0, 0.9, 100, 0.99, 1),
        (1.0, 0.4, 1000, 0, 0.1),  # right, from right starts that are not quite forgotten
        (1.0, 0.0, 50, 0, 0.01),
    ],
)
def test_wrong_spreads_are_told_wherever_chains_start(start, memory, num, least, most, monkeypatch):
    """Random walks, drawn to zero, in one of five variables; `memory` is their correlation over half of the steps."""
    told = []
    monkeypatch.setattr(lnz.evaluation._sample.warnings, "warn", lambda *words, **_: told.append(words))
    random, keep, count = np.random.default_rng(0), memory * np.eye(5)[0], 0
    for _ in range(60):
        places = [start * random.normal(size=(num, 5))]
        for _ in range(2):
            places.append(keep * places[-1] + np.sqrt(1 - keep**2) * random.normal(size=(num, 5)))
        told.clear()
        lnz.evaluation._sample._check_settled(*places)
        count += bool(told)
    assert least <= count / 60 <= most
