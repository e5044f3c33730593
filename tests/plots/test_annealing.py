"""Histograms of annealing: signs, limits and words agree with the run."""

import re

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from made_runs import bars, make_run, small_rbm
from matplotlib.colors import to_hex

import lnz
from lnz.plots import _annealing


@pytest.fixture(scope="module")
def run():
    """A machine small enough to be enumerated, with AIS from both sides."""
    rbm = small_rbm()
    results = {
        "made": lnz.evaluate(jr.key(0), rbm, bars()),
        "made (AIS)": lnz.evaluate(jr.key(1), rbm, bars(), partition=lnz.normalizers.AIS(200, 50)),
    }
    bracket = lnz.bracket(jr.key(2), rbm, lnz.normalizers.AIS(200, 50), lnz.normalizers.ReverseAIS(200, 50))
    return make_run(rbm, results=results, bracket=bracket)


@pytest.fixture(scope="module")
def exact():
    return float(lnz.log_normalizer(jr.key(0), small_rbm(), lnz.normalizers.Quadrature()).value)


def log_mean_exp(values):
    top = values.max()
    return float(top + np.log(np.mean(np.exp(values - top))))


def estimate(log_weights, value=0.0, bound="lower", assumes=(), **measured):
    arrays = {name: jnp.asarray(number) for name, number in {**measured, "log_weights": log_weights}.items()}
    return lnz.Estimate(jnp.asarray(value), jnp.asarray(0.1), bound, assumes, lnz.Weights(**arrays))


def one_sided(weights, value=None):
    weights = np.asarray(weights, float)
    value = log_mean_exp(weights) if value is None else value
    return _annealing.LogZ({"forward": weights}, {"forward": value}, (value - 0.1, value + 0.1))


def counts(figure):
    """Heights of the bars of each histogram, by its colour."""
    found = {}
    for bar in figure.axes[0].patches:
        if hasattr(bar, "get_height") and bar.get_label() != "claimed interval":
            found.setdefault(to_hex(bar.get_facecolor()), []).append(bar.get_height())
    return {colour: np.array(heights) for colour, heights in found.items()}


def test_signs_of_forward_and_reverse(run, exact):
    log_z = _annealing.describe_bracket(run.bracket, None)
    # 200 weights a side with a standard error below 0.02: six of them; about 1 false alarm in 10**9.
    assert log_mean_exp(log_z.weights["forward"]) == pytest.approx(exact, abs=0.12)
    assert -log_mean_exp(-log_z.weights["reverse"]) == pytest.approx(exact, abs=0.12)
    assert log_z.lines["forward"] == pytest.approx(log_mean_exp(log_z.weights["forward"]), abs=1e-4)
    assert log_z.lines["reverse"] == pytest.approx(-log_mean_exp(-log_z.weights["reverse"]), abs=1e-4)
    # Jensen: on the scale of log Z, forward weights lie below it on average and reverse ones above.
    assert np.mean(log_z.weights["forward"]) < np.mean(log_z.weights["reverse"])


def test_exact_log_z_is_found_where_it_was_computed(run, exact):
    assert _annealing.exact_log_z(run) == pytest.approx(exact, abs=1e-4)
    only_ais = make_run(run.model, results={"made": run.rows["made (AIS)"]})
    assert _annealing.exact_log_z(only_ais) is None


def test_numbers_of_the_bracket_are_quoted(run, exact):
    words = re.sub(r'"data:[^"]*"', "", _annealing.annealing(run)).replace("−", "-")
    low, high = run.bracket.interval
    for number in (f"{low:.4f}", f"{high:.4f}", f"{run.bracket.width:.2g}", f"exact value is {exact:.4f}"):
        assert number in words
    for side in (run.bracket.lower, run.bracket.upper):
        assert f"ESS {float(side.weights.ess):.1f} of 200, Pareto k {float(side.weights.pareto_k):.2f}" in words
    assert "assumes nothing but enough chains" in words
    assert words.count("<figure>") == 1  # the row's own weights are not shown as well


def test_row_is_shown_without_a_bracket(run):
    row = run.rows["made (AIS)"]
    words = _annealing.annealing(make_run(run.model, results={"made": row})).replace("−", "-")
    assert "log Z of made, by AIS" in words
    assert f"{float(row.denominator.value):.4f} nats" in words
    assert f"ESS {float(row.denominator.weights.ess):.1f} of 200" in words


def test_runs_without_annealing_have_no_section(run):
    assert _annealing.annealing(make_run(run.model, results={"made": run.rows["made"]})) == ""


def test_assumptions_and_contradictions_are_told():
    lower = estimate([2.0, 2.1, 2.2], value=9.0, ess=2.5, pareto_k=np.nan, num=3)
    upper = estimate([-2.0, -2.1], value=2.0, bound="estimate", assumes=("stationary <start>",), ess=2.0, num=2)
    words = _annealing.annealing(make_run(small_rbm(), bracket=lnz.Bracket(lower, upper)))
    assert "assumes a stationary &lt;start&gt;" in words
    assert "one of them is wrong" in words
    assert "effective sample size 2.5 is below 2.55, so its error bar is too small" in words
    assert "Pareto k not available" in words


def test_exact_sides_have_words_and_no_picture():
    side = lnz.Estimate.exact(jnp.asarray(3.0))
    words = _annealing.annealing(make_run(small_rbm(), bracket=lnz.Bracket(side, side)))
    assert "forward 3.0000 (exact) and reverse 3.0000 (exact)" in words
    assert "<img" not in words


def test_every_weight_is_counted(run):
    figure = _annealing.log_weights(_annealing.describe_bracket(run.bracket, 0.0))
    heights = counts(figure)
    assert [bars.sum() for bars in heights.values()] == [200, 200]
    axes = figure.axes[0]
    assert axes.get_xlabel() == "log weight (nats)"
    assert [line.get_label() for line in axes.lines] == ["forward estimate", "reverse estimate", "exact log Z"]
    assert axes.lines[0].get_xdata()[0] == float(run.bracket.lower.value)
    assert axes.lines[1].get_xdata()[0] == float(run.bracket.upper.value)


def claims(low, high, forward, reverse):
    return _annealing.LogZ({}, {"forward": forward, "reverse": reverse}, (low, high))


@pytest.mark.parametrize(
    "log_z",
    [
        claims(1.0, 1.01, 1.002, 1.008),
        claims(-304.2, -304.1, -304.15, -304.12),
        claims(1.0, 2.0, 1.9, 1.1),  # sides that cross
        claims(2.0, 1.0, 1.9, 1.1),
        claims(1.0, 1.1, 0.5, 1.3),
    ],
)
def test_the_interval_is_enlarged_with_both_sides_in_it(log_z):
    weights = {"forward": np.linspace(-30, 0, 50), "reverse": np.linspace(0, 30, 50)}
    log_z = _annealing.LogZ({name: 1.0 + values for name, values in weights.items()}, log_z.lines, log_z.interval)
    figure = _annealing.log_weights(log_z)
    axes = figure.axes[1]
    low, high = axes.get_xlim()
    drawn = [line.get_xdata()[0] for line in axes.lines]
    assert drawn == list(log_z.lines.values())
    points = [*drawn, *log_z.interval]
    assert low < min(points) <= max(points) < high
    assert max(points) - min(points) > 0.8 * (high - low)  # and fill the picture
    (span,) = axes.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx(sorted(log_z.interval))
    figure.canvas.draw()


@pytest.mark.parametrize("interval", [(1.0, 1.0), (-np.inf, np.inf), (np.nan, np.nan)])
def test_an_interval_that_is_none_is_not_enlarged(interval):
    figure = _annealing.log_weights(claims(*interval, 1.0, 2.0))
    assert len(figure.axes) == 1


@pytest.mark.parametrize("spread", [0.0, 1e-7])
def test_equal_weights_are_one_bar(spread):
    weights = 129.0 + spread * np.arange(20)
    log_z = one_sided(weights)
    figure = _annealing.log_weights(log_z)
    (heights,) = counts(figure).values()
    assert sorted(heights)[-1] == 20
    low, high = figure.axes[0].get_xlim()
    assert low < 128.9
    assert high > 129.1
    assert "All forward weights are equal" in _annealing._section("t", "", log_z, [])


def test_negligible_weights_do_not_hide_the_others():
    weights = np.concatenate([[-1000.0], np.linspace(99, 101, 99)])
    log_z = one_sided(weights)
    low, high = _annealing.log_weights(log_z).axes[0].get_xlim()
    assert low > 80
    assert high > 101
    assert "1 forward weights lie outside the picture" in _annealing._section("t", "", log_z, [])


def test_a_weight_that_rules_the_average_is_shown():
    weights = np.concatenate([[1000.0], np.linspace(99, 101, 99)])
    _, high = _annealing.log_weights(one_sided(weights)).axes[0].get_xlim()
    assert high > 1000


@pytest.mark.parametrize("bad", [-np.inf, np.nan])
def test_weights_that_are_not_finite_are_counted(bad):
    log_z = one_sided([1.0, 2.0, 3.0, bad], value=2.0)
    words = _annealing._section("t", "", log_z, [])
    assert "1 of 4 forward weights are not finite and not shown" in words
    (heights,) = counts(_annealing.log_weights(log_z)).values()
    assert sum(heights) == 3


def test_nothing_finite_is_still_a_picture():
    log_z = one_sided([np.nan, np.nan], value=np.nan)
    assert "2 of 2 forward weights are not finite" in _annealing._section("t", "", log_z, [])


def test_long_ticks_are_written_out():
    figure = _annealing.log_weights(one_sided(1234.5 + 1e-3 * np.arange(100)))
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert all(label.startswith("1234.") for label in labels)
    assert figure.axes[0].xaxis.get_offset_text().get_text() == ""


def test_bracket_of_a_stored_run_is_the_same(run, tmp_path):
    run.write(tmp_path)
    stored = type(run).read(tmp_path)
    assert _annealing.annealing(stored) == _annealing.annealing(run)
