"""Figures of annealing: log weights, and the estimates of log Z based on them."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..core import Bracket, Estimate, LogLikelihood, Weights, unreliable_reasons
from ..runs import Run
from ._figures import style
from ._html import captioned, drawing, joined, number, pieces

_COLOURS = {"forward": "#2f7fd1", "reverse": "#e07b39"}
_NUM_BINS = 31  # odd, so that equal weights, in the middle, lie inside a bin and not on an edge
_FENCE = 8  # weights beyond this many interquartile ranges are cut


@dataclasses.dataclass(frozen=True)
class LogZ:
    """The results of annealing for one log Z, in nats.

    - `weights`: log weights by name, on the scale of log Z. For reverse annealing, whose weights have the mean 1/Z,
      these are the negative log weights.
    - `lines`: estimates by name.
    - `interval`: the claimed interval.
    """

    weights: dict[str, Float[np.ndarray, " chains"]]
    lines: dict[str, float]
    interval: tuple[float, float]


def annealing(run: Run) -> str:
    """Histograms of log weights with conclusions in words; empty for a run without AIS or bracket."""
    parts = []
    exact = exact_log_z(run)
    if run.bracket is not None:
        parts.append(_bracket(run.bracket, exact))
        if describe_bracket(run.bracket, exact).weights:
            return joined(parts)
    parts += [
        _row(name, row, exact) for name, row in run.rows.items() if row.denominator.weights.log_weights is not None
    ]
    return joined(parts)


def exact_log_z(run: Run) -> float | None:
    """The exact log Z from a row of the run that did not estimate it, or `None`."""
    for row in run.rows.values():
        if row.denominator.bound == "exact":
            return float(row.denominator.value)
    return None


def describe_bracket(bracket: Bracket, exact: float | None) -> LogZ:
    """The content of the figure of a bracket."""
    weights, lines = {}, {}
    for side, sign, direction in ((bracket.lower, 1, "forward"), (bracket.upper, -1, "reverse")):
        if side.weights.log_weights is not None:
            weights[direction] = sign * np.asarray(side.weights.log_weights, float)
        lines[direction] = float(side.value)
    return LogZ(weights, _with_exact(lines, exact), bracket.interval)


def describe_row(row: LogLikelihood, exact: float | None) -> LogZ:
    """The content of the figure of one row's denominator."""
    log_z = row.denominator
    weights = {"forward": np.asarray(log_z.weights.log_weights, float)}
    return LogZ(weights, _with_exact({"forward": float(log_z.value)}, exact), log_z.interval())


def log_weights(log_z: LogZ, *, ink: str = "black") -> Figure:
    """Histograms of log weights, without those that are too small to affect the average.

    The claimed interval is often too narrow to be visible, so a second panel enlarges it, with the estimates.
    """
    has_interval = all(map(math.isfinite, log_z.interval)) and log_z.interval[0] != log_z.interval[1]
    figure = Figure(figsize=(4.4, 4.4 if has_interval else 3.3), dpi=200, layout="constrained")
    axes, *enlarged = figure.subplots(
        2 if has_interval else 1, 1, height_ratios=(5, 1)[: 1 + has_interval], squeeze=False
    )[:, 0]
    low, high = _limits(log_z)
    edges = np.linspace(low, high, _NUM_BINS + 1)
    for name, values in log_z.weights.items():
        shown = values[(values >= low) & (values <= high)]
        axes.hist(shown, edges.tolist(), color=_COLOURS[name], alpha=0.55, label=f"{name} weights")
    if all(map(math.isfinite, log_z.interval)):
        axes.axvspan(*sorted(log_z.interval), color=ink, alpha=0.13, linewidth=0, label="claimed interval")
    _draw_lines(axes, log_z, ink)
    axes.set_xlim(low, high)
    axes.set_xlabel("log weight (nats)", color=ink)
    axes.set_ylabel("chains", color=ink)
    style(axes, ink)
    _label_few_numbers(axes)
    if enlarged:
        _enlarge_interval(enlarged[0], log_z, ink)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        labelcolor=ink,
        fontsize=9,
    )
    return figure


def _draw_lines(axes: Axes, log_z: LogZ, ink: str) -> None:
    for name, value in log_z.lines.items():
        if math.isfinite(value):
            dashes = {"forward": "-", "reverse": "--"}.get(name, ":")
            label = f"{name} estimate" if name in _COLOURS else name
            axes.axvline(value, color=_COLOURS.get(name, ink), linestyle=dashes, linewidth=1.8, label=label)


def _enlarge_interval(axes: Axes, log_z: LogZ, ink: str) -> None:
    """The claimed interval and all estimates of log Z, enlarged."""
    axes.axvspan(*sorted(log_z.interval), color=ink, alpha=0.13, linewidth=0)
    _draw_lines(axes, log_z, ink)
    points = [value for value in (*log_z.lines.values(), *log_z.interval) if math.isfinite(value)]
    margin = 0.1 * (max(points) - min(points))
    axes.set_xlim(min(points) - margin, max(points) + margin)
    axes.set_xlabel("the interval, enlarged: log Z (nats)", color=ink)
    axes.set_yticks([])
    style(axes, ink)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="x", useOffset=False, style="plain")


def _limits(log_z: LogZ) -> tuple[float, float]:
    """Limits that include everything except weights too small to count: far below the others, or above in reverse."""
    points = [value for value in (*log_z.lines.values(), *log_z.interval) if math.isfinite(value)]
    for name, values in log_z.weights.items():
        values = values[np.isfinite(values)]
        if len(values):
            lower, upper = np.quantile(values, (0.25, 0.75))
            fence = _FENCE * (upper - lower)
            is_cut = fence > 0
            points += [
                max(values.min(), lower - fence) if is_cut and name == "forward" else values.min(),
                min(values.max(), upper + fence) if is_cut and name == "reverse" else values.max(),
            ]
    low, high = (float(min(points)), float(max(points))) if points else (0.0, 0.0)
    # Weights that differ only by rounding would fill the picture with noise.
    margin = 0.05 * (high - low) if high - low > 1e-6 * max(1.0, abs(low)) else 0.5
    return low - margin, high + margin


def _label_few_numbers(axes: Axes) -> None:
    """A few ticks in plain numbers: by default Matplotlib writes 129.01 as 0.01 with an offset of 1.29e2."""
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="x", useOffset=False, style="plain")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _with_exact(lines: dict[str, float], exact: float | None) -> dict[str, float]:
    return lines if exact is None else {**lines, "exact log Z": exact}


def _bracket(bracket: Bracket, exact: float | None) -> str:
    low, high = bracket.interval
    sides = (("forward", bracket.lower), ("reverse", bracket.upper))
    described = " and ".join(_side(name, side) for name, side in sides)
    assumes = " and ".join(f"a {what}" for what in bracket.assumes) or "nothing but enough chains"
    words = (
        f"log Z between {number(low, '.4f')} and {number(high, '.4f')} nats (width {number(bracket.width, '.2g')}; "
        f"{bracket.how}): {described}. This assumes {assumes}."
    )
    problems = [f"{name}: {doubt}, so its error bar is too small." for name, side in sides for doubt in side.doubts]
    if bracket.disagreement is not None:
        problems.append(f"{bracket.disagreement}.")
    log_z = describe_bracket(bracket, exact)
    return _section("Bracket of log Z", words + _exact_words(exact), log_z, problems)


def _row(name: str, row: LogLikelihood, exact: float | None) -> str:
    log_z = describe_row(row, exact)
    low, high = log_z.interval
    weights = row.denominator.weights
    words = (
        f"log Z = {number(log_z.lines['forward'], '.4f')} nats, two standard errors to each side (more for few chains) "
        f"from {number(low, '.4f')} to {number(high, '.4f')}{_diagnostics(weights)}; in expectation not above the "
        "truth."
    )
    problems = [f"{reason}, so its error bar is too small." for reason in unreliable_reasons(weights)]
    by = f", by {row.protocol.estimators[-1]}" if row.protocol.estimators else ""  # the denominator's is last
    return _section(f"log Z of {name}{by}", words + _exact_words(exact), log_z, problems)


def _section(title: str, words: str, log_z: LogZ, problems: list[str]) -> str:
    notes = pieces().warned(problems)
    words += "".join(_counts(name, values, *_limits(log_z)) for name, values in log_z.weights.items())
    if not log_z.weights:
        return captioned(title, words, notes)
    return pieces().box("", joined([drawing(title, words, lambda ink: log_weights(log_z, ink=ink)), notes]))


def _counts(name: str, values: np.ndarray, low: float, high: float) -> str:
    """Remarks, in words, on weights that the histogram cannot show."""
    finite = values[np.isfinite(values)]
    outside, lost = int(np.sum((finite < low) | (finite > high))), len(values) - len(finite)
    words = ""
    if len(finite) > 1 and np.ptp(finite) <= 1e-6 * max(1.0, abs(finite[0])):
        words += f" All {name} weights are equal."
    if outside:
        words += f" {outside} {name} weights lie outside the picture: too small to count."
    if lost:
        words += f" {lost} of {len(values)} {name} weights are not finite and not shown."
    return words


def _side(name: str, estimate: Estimate) -> str:
    value = f"{name}{'' if estimate.weights.log_weights is None else ' AIS'} {number(float(estimate.value), '.4f')}"
    if estimate.bound == "exact":
        return f"{value} (exact)"
    return f"{value} (s.e. {number(float(estimate.standard_error), '.2g')}{_diagnostics(estimate.weights)})"


def _diagnostics(weights: Weights) -> str:
    words = ""
    if weights.ess is not None and weights.num is not None:
        words += f", ESS {number(float(weights.ess), '.1f')} of {int(weights.num)}"
    if weights.pareto_k is not None:
        k = float(weights.pareto_k)
        words += f", Pareto k {number(k, '.2f')}" if math.isfinite(k) else ", Pareto k not available"
    return words


def _exact_words(exact: float | None) -> str:
    return "" if exact is None else f" The exact value is {number(exact, '.4f')}."
