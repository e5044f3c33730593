"""Figures of data, parameters and training. Each is a new `matplotlib.figure.Figure`; pyplot is not used."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ._html import shortened
from ._pixels import SIGNED, montage, shades, signed_limit

_DPI = 100
_PICTURE_PIXELS = 800  # smallest length of the longer side of a grid
# Distinguishable on white and on black, and for colour-blind readers.
_LINES = {"train": "#2f7fd1", "valid": "#e07b39"}
_OTHER_LINES = ("#3f9e6b", "#b04a9d", "#9a7b1f", "#6b7f95")


def image_grid(
    images: Shaped[np.ndarray, "n ..."] | Shaped[Array, "n ..."],
    image_shape: tuple[int, int],
    *,
    num_columns: int | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Figure:
    """A grid of images with transparent lines between them. Each pixel covers a whole number of screen pixels.

    **Arguments:**

    - `images`: `[n, ...]`, each with as many numbers as `image_shape` has pixels.
    - `image_shape`: number of rows and columns of one image.
    - `num_columns`: images in a row; by default the grid is about square.
    - `low`, `high`: values of the lightest and the darkest grey. For photographs let `low` be the larger one.

    **Raises:** `ValueError` if there is no image, or if the images do not have this shape.
    """
    picture = montage(images, image_shape, num_columns)
    scale = math.ceil(_PICTURE_PIXELS / max(picture.shape))
    height, width = (size * scale / _DPI for size in picture.shape)
    figure = Figure(figsize=(width, height), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, **shades(low, high), interpolation="nearest")
    axes.set_axis_off()
    return figure


def filters(
    W: Float[np.ndarray, "visible hidden"] | Float[Array, "visible hidden"],
    image_shape: tuple[int, int],
    *,
    num_columns: int | None = None,
    ink: str = "black",
) -> Figure:
    """The weights of every hidden unit, a column of `W`, as an image: red above zero and blue below.

    All images share one colour scale. It ends at the 99.5th percentile of the absolute weights, so that one large
    weight does not bleach the rest.

    **Arguments:**

    - `W`: weights `[visible, hidden]`, such as `rbm.W`.
    - `image_shape`: number of rows and columns of the visible image.
    - `num_columns`: filters in a row; by default the grid is about square.
    - `ink`: colour of the text.
    """
    picture = montage(np.asarray(W).T, image_shape, num_columns)
    limit = signed_limit(W)
    height, width = picture.shape
    figure = Figure(figsize=(4.4, 4.4 * height / width + 0.6), dpi=2 * _DPI, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(picture, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_axis_off()
    bar = figure.colorbar(image, ax=axes, location="bottom", extend="both", aspect=40, pad=0.02)
    bar.set_label("weight", color=ink)
    bar.ax.tick_params(colors=ink)
    bar.outline.set_edgecolor(ink)  # pyright: ignore[reportCallIssue]
    return figure


def training_curves(history: Sequence[dict[str, int | float]], *, ink: str = "black") -> Figure:
    """Likelihoods during training, in nats per example, and the other records in a panel below.

    A `log_likelihood` is drawn as "train", beside "valid": higher is better. The second panel shows parts of an
    objective, such as free energies, which have no meaning by themselves. The axes fit the values after the first
    twentieth of the steps, so a steep beginning may be cut off.

    **Arguments:**

    - `history`: the records of `lnz.fit`.
    - `ink`: colour of text and axes.

    **Raises:** `ValueError` if there are no records.
    """
    if not history:
        raise ValueError("`training_curves(history)` needs at least one record.")
    likelihoods, others = _series(history)
    panels = [(name, lines) for name, lines in (("log-likelihood", likelihoods), ("objective", others)) if lines]
    figure = Figure(figsize=(4.4, 1.1 + 1.7 * len(panels)), dpi=2 * _DPI, layout="constrained")
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, lines) in zip(all_axes, panels, strict=True):
        for (name, (steps, values)), other in zip(lines.items(), itertools.cycle(_OTHER_LINES), strict=False):
            marker = "o" if len(steps) < 30 else None
            colour = _LINES.get(name, other)
            axes.plot(steps, values, label=name, color=colour, marker=marker, markersize=3.5, linewidth=1.6)
        axes.set_title(title, loc="left", fontsize=10, color=ink)
        axes.set_ylabel("nats per example", color=ink)
        _fit_to_later_part(axes, list(lines.values()))
        style(axes, ink)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.legend(frameon=False, labelcolor=ink, fontsize=9)
    all_axes[-1].set_xlabel("step", color=ink)
    return figure


def marginals(
    samples: Float[np.ndarray, "n columns"],
    rows: Float[np.ndarray, "m columns"],
    names: Sequence[str],
    *,
    ink: str = "black",
) -> Figure:
    """A histogram of samples for each column, with rows of data as ticks along the axis.

    The axis leaves out the outermost half percent of the samples on each side, unless the data reach as far.
    """
    num_rows = math.ceil(len(names) / 2)
    figure = Figure(figsize=(4.4, 0.5 + 1.5 * num_rows), dpi=2 * _DPI, layout="constrained")
    all_axes = figure.subplots(num_rows, 2, squeeze=False).flatten()
    for axes, name, drawn, row_values in zip(all_axes, names, samples.T, rows.T, strict=False):
        edges = np.linspace(*_reach(drawn, row_values), 31)
        axes.hist(
            drawn[np.isfinite(drawn)], edges.tolist(), color=_LINES["train"], alpha=0.6, label="samples of the model"
        )
        axes.plot(
            row_values,
            np.full(len(row_values), 0.04),
            "|",
            transform=axes.get_xaxis_transform(),
            color=_LINES["valid"],
            markersize=7,
            label="test rows",
        )
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(shortened(name, 24), color=ink, fontsize=9, parse_math=False)
        style(axes, ink)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
    for axes in all_axes[len(names) :]:
        axes.set_axis_off()
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, labelcolor=ink, fontsize=9)
    return figure


def scatter(
    samples: Float[np.ndarray, "n 2"], rows: Float[np.ndarray, "m 2"], names: Sequence[str], *, ink: str = "black"
) -> Figure:
    """Samples and rows of data in the plane. Up to half a percent of samples on each side may lie outside the axes."""
    figure = Figure(figsize=(4.4, 4.0), dpi=2 * _DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*samples.T, ".", color=_LINES["train"], alpha=0.4, markersize=3, label="samples of the model")
    axes.plot(*rows.T, "x", color=_LINES["valid"], markersize=5, markeredgewidth=1.5, label="test rows")
    axes.set_xlim(*_reach(samples[:, 0], rows[:, 0]))
    axes.set_ylim(*_reach(samples[:, 1], rows[:, 1]))
    axes.set_xlabel(shortened(names[0], 40), color=ink, parse_math=False)
    axes.set_ylabel(shortened(names[1], 40), color=ink, parse_math=False)
    style(axes, ink)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=ink, fontsize=9)
    return figure


def _reach(drawn: Float[np.ndarray, " n"], rows: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """The ends of an axis, which holds all rows, and all samples but the outermost half percent on each side."""
    drawn, rows = drawn[np.isfinite(drawn)], rows[np.isfinite(rows)]
    points = np.concatenate([np.quantile(drawn, (0.005, 0.995)) if len(drawn) else drawn, rows])
    low, high = (float(points.min()), float(points.max())) if len(points) else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _series(history: Sequence[dict[str, int | float]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`{name: (steps, values)}` for log-likelihoods and for the other records."""
    likelihoods, others = {}, {}
    for name in dict.fromkeys(name for record in history for name in record):
        if name in ("step", "seconds"):
            continue
        records = [record for record in history if name in record]
        steps = [record["step"] for record in records]
        values = np.array([record[name] for record in records])
        if name == "log_likelihood":
            likelihoods["train"] = steps, values
        elif name == "valid":
            likelihoods["valid"] = steps, values
        else:
            others[name.replace("_", " ").strip().replace("$", r"\$")] = steps, values
    return likelihoods, others


def _fit_to_later_part(axes: Axes, lines: Sequence[tuple[list[float], np.ndarray]]) -> None:
    last = max(steps[-1] for steps, _ in lines)
    later = np.concatenate([values[np.asarray(steps) >= 0.05 * last] for steps, values in lines])
    later = later[np.isfinite(later)]
    if len(later) == 0:  # training that diverged
        return
    low, high = float(later.min()), float(later.max())
    margin = 0.08 * (high - low) or 0.5
    axes.set_ylim(low - margin, high + margin)


def style(axes: Axes, ink: str) -> None:
    """Draws axes in one colour of ink, without a background, for white or black pages."""
    axes.tick_params(colors=ink, labelsize=9)
    axes.grid(color=ink, alpha=0.15, linewidth=0.6)
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
