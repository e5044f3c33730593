"""Numbers with an error bar and a direction: their algebra, their printing, and when not to trust them."""

import itertools
import math

import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lnz
from lnz import Bracket, Estimate, Weights
from lnz.core import unreliable_reasons
from lnz.core._reliability import pareto_k_threshold

# Compiled whole: one by one, their small operations take longer to compile.
log_mean_exp, pareto_k = jax.jit(lnz.log_mean_exp), jax.jit(lnz.pareto_k)

BOUNDS = ("exact", "lower", "upper", "estimate", "unbiased")

# Rows: the bound of a; columns: that of b, in the order of BOUNDS. Written by hand.
SUM = {
    "exact": ("exact", "lower", "upper", "estimate", "unbiased"),
    "lower": ("lower", "lower", "estimate", "estimate", "lower"),
    "upper": ("upper", "estimate", "upper", "estimate", "upper"),
    "estimate": ("estimate", "estimate", "estimate", "estimate", "estimate"),
    "unbiased": ("unbiased", "lower", "upper", "estimate", "unbiased"),
}
DIFFERENCE = {
    "exact": ("exact", "upper", "lower", "estimate", "unbiased"),
    "lower": ("lower", "estimate", "lower", "estimate", "lower"),
    "upper": ("upper", "upper", "estimate", "estimate", "upper"),
    "estimate": ("estimate", "estimate", "estimate", "estimate", "estimate"),
    "unbiased": ("unbiased", "upper", "lower", "estimate", "unbiased"),
}


def weights(ess, k, num=100):
    return Weights(num=jnp.asarray(num), ess=jnp.asarray(ess), pareto_k=jnp.asarray(k))


def estimate(bound, value=1.5, error=0.3, **rest):
    return Estimate(jnp.asarray(value), jnp.asarray(0.0 if bound == "exact" else error), bound, **rest)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(range(5), range(5))))
def test_bounds_of_sums_and_differences(first, second):
    a, b = estimate(BOUNDS[first]), estimate(BOUNDS[second], 0.25)
    assert (a + b).bound == SUM[a.bound][second]
    assert (a - b).bound == DIFFERENCE[a.bound][second]
    assert float((a + b).value) == 1.75
    assert float((a - b).value) == 1.25


@pytest.mark.parametrize(
    ("bound", "flipped"),
    [("exact", "exact"), ("lower", "upper"), ("upper", "lower"), ("estimate", "estimate"), ("unbiased", "unbiased")],
)
def test_minus_flips_the_bound(bound, flipped):
    a = estimate(bound, assumes=("stationary start",), weights=weights(20.0, 0.1, 30))
    assert (-a).bound == flipped
    assert float((-a).value) == -1.5
    assert float((-a).standard_error) == float(a.standard_error)
    assert (-a).assumes == a.assumes
    assert eqx.tree_equal((-a).weights, a.weights)


def test_errors_add_in_quadrature():
    a, b = estimate("lower", error=0.3), estimate("upper", error=0.4)
    assert float((a + b).standard_error) == pytest.approx(0.5)
    assert float((a - b).standard_error) == pytest.approx(0.5)
    assert float((a + Estimate.exact(2.0)).standard_error) == pytest.approx(0.3)


def test_assumptions_join_without_repeats():
    a = estimate("estimate", assumes=("stationary start", "small grid"))
    b = estimate("estimate", assumes=("small grid", "finite variance"))
    assert (a + b).assumes == ("stationary start", "small grid", "finite variance")
    assert (a - b).assumes == (a + b).assumes


GOOD, FEW, HEAVY = weights(90.0, 0.1), weights(2.0, 0.1), weights(40.0, 0.9)


@pytest.mark.parametrize("bad", [FEW, HEAVY], ids=["few", "heavy"])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("error", [0.01, 1.0])
def test_a_sum_is_not_more_reliable_than_its_parts(bad, place, error):
    # An untrustworthy side may claim the smaller error: it must still be seen.
    sides = [estimate("lower", weights=GOOD), estimate("lower", error=error, weights=bad)]
    total = sides[place] + sides[1 - place]
    assert not total.reliable
    assert "UNRELIABLE" in str(total)
    assert not (sides[place] - sides[1 - place]).reliable
    assert (sides[0] + sides[0]).reliable
    assert eqx.tree_equal((sides[0] + Estimate.exact(1.0)).weights, GOOD)
    assert eqx.tree_equal((Estimate.exact(1.0) + sides[0]).weights, GOOD)


@pytest.mark.parametrize("measured", [{"overlap": 0.97}, {"pareto_k": 0.1}, {"normal_ess": 50.0}, {"beyond": 0.5}])
def test_what_only_one_side_of_a_sum_measured_raises_no_doubt(measured):
    one, other = (
        estimate("lower", weights=Weights(num=jnp.asarray(100), ess=jnp.asarray(ess), **more))
        for ess, more in ((90.0, {}), (50.0, {name: jnp.asarray(value) for name, value in measured.items()}))
    )
    for total in (one + other, other + one, one - other, other - one):
        assert total.reliable, total.doubts


def test_sums_work_under_jit():
    a, b = estimate("lower", weights=GOOD), estimate("lower", weights=FEW)
    total = jax.jit(lambda a, b: a - b)(a, b)
    assert total.bound == "estimate"
    assert not total.reliable


@pytest.mark.parametrize("other", [1.0, None, "text"])
def test_only_estimates_add(other):
    with pytest.raises(TypeError):
        estimate("lower") + other
    with pytest.raises(TypeError):
        estimate("lower") - other


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (Estimate.exact(2.0), "2.0000 nats (exact)"),
        (estimate("lower", 1.23456, 0.0123), "1.2346 nats (lower bound, s.e. 0.012)"),
        (
            estimate("estimate", -3.0, 2.0, assumes=("stationary start",)),
            "-3.0000 nats (estimate, s.e. 2, assumes stationary start)",
        ),
        (
            estimate("upper", 0.5, 0.25, weights=GOOD),
            "0.5000 nats (upper bound, s.e. 0.25, ESS 90.0 of 100, Pareto k 0.10)",
        ),
        (
            estimate("lower", 0.5, 0.25, weights=weights(2.5, 0.8)),
            "0.5000 nats (lower bound, s.e. 0.25, ESS 2.5 of 100, Pareto k 0.80, UNRELIABLE: effective sample size "
            "2.5 is below 10, UNRELIABLE: Pareto k 0.80 is above 0.50)",
        ),
        (Estimate(jnp.zeros((3, 2)), jnp.zeros((3, 2)), "lower"), "(3, 2) estimates in nats (lower bound)"),
    ],
)
def test_estimate_prints_in_one_line(one, text):
    assert str(one) == text


def log_weights(seed, num, scale):
    return np.random.RandomState(seed).normal(scale=scale, size=num)


def test_log_mean_exp_against_numpy(precision):
    """Delta method: Var(log mean w) = Var(w) / (n mean(w)^2)."""
    log_w, shift = log_weights(0, 50, 1.0), 700.0  # whose exponential overflows in float32
    w = np.exp(log_w)
    result = log_mean_exp(jnp.asarray(log_w + shift, jnp.result_type(float)))
    # float32 stores a log weight of 700 in steps of 6e-5, which moves every digit below.
    tolerance = {"rel": 1e-12} if precision == "float64" else {"rel": 1e-4}
    assert float(result.value) - shift == pytest.approx(np.log(w.mean()), abs=2e-4 if precision == "float32" else 1e-11)
    assert float(result.standard_error) == pytest.approx(w.std(ddof=1) / w.mean() / math.sqrt(50), **tolerance)
    assert float(result.weights.ess) == pytest.approx(w.sum() ** 2 / (w**2).sum(), **tolerance)
    assert int(result.weights.num) == 50
    assert result.bound == "lower"
    assert result.assumes == ()


def test_delta_method_error_against_repetition(float64):
    """The stated error equals the spread of many independent repetitions."""
    draws = np.random.RandomState(1).normal(scale=0.5, size=(2000, 200))
    results = jax.jit(jax.vmap(log_mean_exp))(jnp.asarray(draws))
    spread = float(jnp.std(results.value, ddof=1))
    # The spread of 2000 draws is known to 1/sqrt(4000) = 1.6%, the mean error better; the delta method's own
    # relative bias is of order 1/200. Four standard errors.
    assert float(jnp.mean(results.standard_error)) == pytest.approx(spread, rel=0.07)
    truth = 0.5**2 / 2
    assert float(jnp.mean(results.value)) < truth + 4 * spread / math.sqrt(2000)  # a lower bound in expectation
    covered = jnp.mean(jnp.abs(results.value - truth) < 2 * results.standard_error)
    assert 0.93 < float(covered) < 0.97  # 0.95, s.e. 0.005


def test_delta_method_error_against_bootstrap(float64):
    log_w = log_weights(2, 300, 0.8)
    rows = np.random.RandomState(3).randint(0, 300, size=(2000, 300))
    bootstrap = np.log(np.exp(log_w[rows]).mean(axis=1)).std()
    assert float(log_mean_exp(jnp.asarray(log_w)).standard_error) == pytest.approx(bootstrap, rel=0.07)


@pytest.mark.parametrize("num", [0, 1])
def test_log_mean_exp_needs_two_weights(num):
    with pytest.raises(ValueError, match=rf"`log_mean_exp\(log_w\)` needs at least 2 weights .*got {num}\."):
        log_mean_exp(jnp.zeros(num))


# k of log weights `RandomState(seed).normal(scale=scale, size=num)` by arviz-stats 0.8.0:
#   from arviz_stats.base import array_stats; array_stats.psislw(-log_w)[1]
# at sizes for which its tail of floor(n / 5) or floor(3 sqrt n) weights is that of the paper, which rounds up.
REFERENCES = [
    (0, 25, 1.5, 0.5451364924460471),
    (1, 100, 2.0, 0.7893223841773509),
    (2, 400, 0.5, 0.3271441570162506),
    (3, 900, 1.0, 0.34675248571022727),
    (4, 2500, 3.0, 1.0765346029658924),
]


@pytest.mark.parametrize(("seed", "num", "scale", "k"), REFERENCES)
def test_pareto_k_equals_arviz(seed, num, scale, k, float64):
    assert float(pareto_k(jnp.asarray(log_weights(seed, num, scale)))) == pytest.approx(k, rel=1e-12)


def test_pareto_k_in_single_precision():
    seed, num, scale, k = REFERENCES[1]
    assert float(pareto_k(jnp.asarray(log_weights(seed, num, scale), jnp.float32))) == pytest.approx(k, rel=1e-4)


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.3, 0.5, 0.7, 1.0, 1.2])
def test_pareto_k_of_generalised_pareto_weights(k, float64):
    """A tail above any cut-off of such weights has the same k."""
    u = np.random.RandomState(7).uniform(size=(30, 4000))
    w = -np.log(u) if k == 0 else (u**-k - 1) / k
    fitted = np.asarray(jax.jit(jax.vmap(pareto_k))(jnp.asarray(np.log(w))))
    # The tail has m = 190 weights. Maximum likelihood has standard error (1 + k) / sqrt(m) (Smith 1987), and the
    # prior of ten observations of 0.5 pulls by 10 / 200 of the distance; four standard errors of the mean of 30.
    expected = (190 * k + 10 * 0.5) / 200
    slack = 4 * (1 + k) / math.sqrt(190 * 30) + 0.02  # and the fit's own bias, of order 1 / m
    assert fitted.mean() == pytest.approx(expected, abs=slack)
    assert fitted.std() == pytest.approx((1 + k) / math.sqrt(190), rel=0.5)


def test_pareto_k_has_no_unit(float64):
    log_w = jnp.asarray(log_weights(1, 100, 2.0))
    assert float(pareto_k(log_w + 600)) == pytest.approx(float(pareto_k(log_w)), rel=1e-9)


@pytest.mark.parametrize(("num", "fitted"), [(2, False), (20, False), (21, True)])
def test_pareto_k_needs_five_weights_in_the_tail(num, fitted):
    assert math.isfinite(float(pareto_k(jnp.asarray(log_weights(5, num, 1.0), jnp.float32)))) == fitted


def test_pareto_k_of_equal_weights_is_minus_infinity(precision):
    assert float(pareto_k(jnp.full(100, -3.0))) == -math.inf
    result = log_mean_exp(jnp.full(100, -3.0))
    assert float(result.value) == pytest.approx(-3.0)
    # Rounding leaves at most a few units in the last place.
    assert float(result.standard_error) <= 1e-6
    assert float(result.weights.ess) == pytest.approx(100, rel=1e-5)
    assert result.reliable


def test_pareto_k_with_ties(precision):
    """Weights of a discrete space: a fit needs five above the cut-off, and ties among those do no harm."""
    few = jnp.where(jnp.arange(100) < 4, 1.0, 0.0)
    assert math.isnan(float(pareto_k(few)))
    five = jnp.where(jnp.arange(100) < 5, 1.0, 0.0)
    assert math.isfinite(float(pareto_k(five)))
    levels = jnp.asarray(np.random.RandomState(8).poisson(2.0, size=400).astype(np.float32), jnp.result_type(float))
    assert math.isfinite(float(pareto_k(0.3 * levels)))
    assert log_mean_exp(few).reliable  # no evidence either way, and the effective sample size is large


def test_pareto_k_of_weights_in_steps_is_that_of_weights_without(precision):
    """Weights of counts and categories, as heavy in their tails as those that they are rounded from."""
    many = jax.jit(jax.vmap(lnz.pareto_k))
    spread = np.random.RandomState(7).exponential(size=(30, 2000))
    for k, step in ((0.5, 0.4), (0.7, 0.64), (0.9, 0.64), (1.2, 1.0)):
        fitted, in_steps = (np.asarray(many(jnp.asarray(x))) for x in (k * spread, step * np.floor(k * spread / step)))
        # The mean of 30 fits has a standard error of 0.03, and a step of the cut-off's own size costs up to 0.1.
        assert in_steps.mean() == pytest.approx(fitted.mean(), abs=0.14), (k, step)
    # A largest weight of its own that is drawn often has no tail above it: six bits of a field, drawn uniformly.
    bits = np.random.RandomState(8).binomial(6, 0.5, size=(30, 2000))
    assert np.all(many(jnp.asarray(3.0 * bits)) < 0.5)


def test_pareto_k_under_vmap_and_gradient():
    log_w = jnp.asarray(log_weights(9, 60, 1.0).reshape(2, 30), jnp.float32)
    rows = jnp.stack([pareto_k(row) for row in log_w])
    np.testing.assert_allclose(jax.jit(jax.vmap(lnz.pareto_k))(log_w), rows, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda x: lnz.log_mean_exp(x).value))(log_w[0])
    np.testing.assert_allclose(gradient, jax.nn.softmax(log_w[0]), rtol=1e-5)


@pytest.mark.parametrize(
    ("num", "threshold"), [(1, -math.inf), (10, 0.0), (100, 0.5), (1000, 2 / 3), (2155, 0.7), (10**6, 0.7)]
)
def test_pareto_k_threshold(num, threshold):
    assert pareto_k_threshold(num) == pytest.approx(threshold, abs=1e-4)


@pytest.mark.parametrize(
    ("measured", "num_reasons"),
    [
        (Weights(), 0),
        (weights(10.0, 0.5), 0),  # at the limits, still trusted
        (weights(9.9, 0.5), 1),
        (weights(10.0, 0.51), 1),
        (weights(5.0, 0.9), 2),
        (weights(50.0, math.nan), 0),  # could not be fitted
        (weights(50.0, -math.inf), 0),
        (weights(50.0, 0.65, num=1000), 0),
        (weights(50.0, 0.72, num=10**5), 1),
    ],
)
def test_rules_of_trust(measured, num_reasons):
    assert len(unreliable_reasons(measured)) == num_reasons
    assert estimate("lower", weights=measured).reliable == (num_reasons == 0)


def test_bracket_is_widened_by_two_errors():
    both = Bracket(estimate("lower", 10.0, 0.1), estimate("upper", 10.5, 0.2))
    assert both.interval == pytest.approx((9.8, 10.9))
    assert both.width == pytest.approx(1.1)
    assert str(both) == "[9.8000, 10.9000] nats (width 1.1, each side widened by 2 s.e.)"


def test_bracket_carries_assumptions_and_warnings():
    upper = estimate("estimate", 1.0, 0.0, assumes=("stationary start",), weights=FEW)
    both = Bracket(estimate("lower", 0.0, 0.0), upper)
    assert both.assumes == ("stationary start",)
    assert str(both).endswith("assumes stationary start, UNRELIABLE: effective sample size 2.0 is below 10)")


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        ("upper", "upper", r"`Bracket\(lower=...\)` must have bound lower or exact; got 'upper'"),
        ("estimate", "upper", r"`Bracket\(lower=...\)` must have bound lower or exact; got 'estimate'"),
        ("lower", "lower", r"`Bracket\(upper=...\)` must have bound upper or exact or estimate; got 'lower'"),
        ("lower", "estimate", r"`Bracket\(upper=...\)` with bound .estimate. must say in `assumes`"),
    ],
)
def test_bracket_refuses_sides_that_point_the_wrong_way(lower, upper, words):
    with pytest.raises(ValueError, match=words):
        Bracket(estimate(lower), estimate(upper))


@pytest.mark.parametrize(("lower", "upper"), [("exact", "exact"), ("lower", "exact"), ("exact", "upper")])
def test_bracket_takes_exact_sides(lower, upper):
    assert Bracket(estimate(lower, 1.0), estimate(upper, 2.0)).width >= 1.0


def likelihood(bound="exact", error=0.0, **rest):
    """Of four examples with a standard deviation of one half, and so a data error of one quarter."""
    rows = -20 + np.sqrt(3 / 16) * np.array([-1, 1, -1, 1])
    return by_hand.likelihood(rows, bound, error, num_dimensions=64, **rest)


def test_bits_per_dimension_by_hand():
    # 20 nats are 28.8539 bits, over 64 dimensions.
    assert likelihood().bits_per_dimension == pytest.approx(28.853900817779268 / 64)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (likelihood(), "-20.000 nats per example (exact, n = 4, data s.e. 0.25)"),
        (
            likelihood("upper", 0.031, assumes=("stationary start",)),
            "-20.000 nats per example (upper bound, n = 4, data s.e. 0.25, Monte Carlo s.e. 0.031, "
            "assumes stationary start)",
        ),
        (
            likelihood("upper", 0.031, weights=weights(5.0, 0.2)),
            "-20.000 nats per example (upper bound, n = 4, data s.e. 0.25, Monte Carlo s.e. 0.031, partition: "
            "ESS 5.0 of 100, Pareto k 0.20, UNRELIABLE: effective sample size 5.0 is below 10)",
        ),
    ],
)
def test_log_likelihood_prints_in_one_line(one, text):
    assert str(one) == text


def test_unreliable_estimates_warn_with_advice():
    with pytest.warns(
        lnz.UnreliableEstimateWarning, match=r"AIS of an RBM: effective sample size 2.0 is below 10.*Use more"
    ):
        lnz.core._estimate.warn_if_unreliable(estimate("lower", weights=FEW), "AIS of an RBM")
