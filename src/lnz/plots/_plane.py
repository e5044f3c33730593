"""Figures of models in the plane: the log-density, and the rings of a flow's base as the flow bends them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..core import AbstractDistribution, local
from ..distributions import MultivariateNormal, Normal, Transformed
from ..modules import model_dtype
from ..runs import Run
from ..spaces import Euclidean
from ._draws import as_rows, column_names
from ._figures import style
from ._html import drawing, joined, shortened

_NUM_PIXELS = 240
_NATS_SHOWN = 8.0  # below the largest
_RADII = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
_NUM_SPOKES = 24
_NUM_ON_LINE = 400
_BLUE, _ORANGE = "#2f7fd1", "#e07b39"
# From transparent to blue, for white and black pages.
_DENSITY = LinearSegmentedColormap.from_list("density", [(0.18, 0.5, 0.82, 0.0), (0.18, 0.5, 0.82, 1.0)])


def plane(run: Run) -> str:
    """The panels of a normalised model of two continuous columns; empty for other models."""
    model = run.model
    if not isinstance(model, AbstractDistribution) or model.space != Euclidean(2):
        return ""
    rows = np.concatenate([as_rows(values) for values in run.examples.values.values()])
    names = column_names(run.examples, 2)
    limits = _limits(rows)
    words = f"log p down to {_NATS_SHOWN:g} nats below its largest value, darker is more; crosses are test rows"
    panels = drawing("Density", words, lambda ink: density(model, rows, names, limits, ink=ink))
    if isinstance(model, Transformed) and isinstance(model.base, Normal | MultivariateNormal):
        words = (
            f"rings of the base, at {', '.join(f'{radius:g}' for radius in _RADII)} standard deviations from its "
            "centre (orange: 1, 2, 3), and spokes, mapped by the flow. A flow is one-to-one: no two rings and no two "
            "spokes may cross"
        )
        return joined([panels, drawing("Warp", words, lambda ink: warp(model, names, ink=ink))])
    return panels


def density(
    model: AbstractDistribution,
    rows: Float[np.ndarray, "n 2"],
    names: list[str],
    limits: tuple[tuple[float, float], tuple[float, float]],
    *,
    ink: str = "black",
) -> Figure:
    """`log p` in the plane as shades, with rows of data on top."""
    x, y = (np.linspace(*limit, _NUM_PIXELS) for limit in limits)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    there = local(model)
    log_p = np.asarray(_log_probs(there.model, jnp.asarray(there.to_local(points))), float).reshape(len(y), len(x))
    figure, axes = _axes(names, ink)
    finite = log_p[np.isfinite(log_p)]
    if len(finite):
        top = finite.max()
        shown = np.where(np.isfinite(log_p), np.maximum(log_p, top - _NATS_SHOWN), top - _NATS_SHOWN)
        extent = (*limits[0], *limits[1])
        image = axes.imshow(
            shown,
            cmap=_DENSITY,
            vmin=top - _NATS_SHOWN,
            vmax=top,
            extent=extent,
            origin="lower",
            aspect="auto",
            interpolation="bilinear",
        )
        bar = figure.colorbar(image, ax=axes, location="bottom", aspect=40, pad=0.02, ticks=MaxNLocator(5))
        bar.set_label("log p (nats)", color=ink)
        bar.ax.tick_params(colors=ink, labelsize=9)
        bar.outline.set_edgecolor(ink)  # pyright: ignore[reportCallIssue]
    axes.plot(*rows.T, "x", color=_ORANGE, markersize=4, markeredgewidth=1.2)
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    return figure


def warp(model: Transformed, names: list[str], *, ink: str = "black") -> Figure:
    """The rings and spokes of a flow's base, mapped by the flow."""
    angles = np.linspace(0, 2 * np.pi, _NUM_ON_LINE)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    rings = np.asarray(_RADII)[:, None, None] * circle
    along = np.linspace(0, _RADII[-1], _NUM_ON_LINE)
    directions = np.linspace(0, 2 * np.pi, _NUM_SPOKES, endpoint=False)
    spokes = along[None, :, None] * np.stack([np.cos(directions), np.sin(directions)], axis=-1)[:, None]
    figure, axes = _axes(names, ink)
    for line in _pushed(model, spokes):
        axes.plot(*line.T, color=ink, alpha=0.35, linewidth=0.6)
    for radius, line in zip(_RADII, _pushed(model, rings), strict=True):
        axes.plot(*line.T, color=_ORANGE if radius % 1 == 0 else _BLUE, linewidth=1.3)
    return figure


def _pushed(model: Transformed, lines: Float[np.ndarray, "lines n 2"]) -> Float[np.ndarray, "lines n 2"]:
    """Points of a standard normal, mapped by the base and then by the flow."""
    base = model.base
    assert isinstance(base, Normal | MultivariateNormal)
    scale = jnp.diag(base.scale) if isinstance(base, Normal) else base.scale_tril
    z = jnp.asarray(lines.reshape(-1, 2), model_dtype(model)) @ scale.T + base.loc[None]
    there = local(model)
    return np.asarray(there.to_data(_forward(there.model, z)), float).reshape(lines.shape)


@eqx.filter_jit
def _forward(model: Transformed, z: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
    return jax.vmap(lambda z: model.bijection.forward_and_log_det(z)[0])(z)


@eqx.filter_jit
def _log_probs(model: AbstractDistribution, points: Float[Array, "n 2"]) -> Float[Array, " n"]:
    return jax.lax.map(model.log_prob, points, batch_size=4096)


def _limits(rows: Float[np.ndarray, "n 2"]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Axis limits a little beyond the rows on every side."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    margin = np.where(high > low, 0.12 * (high - low), 0.5)
    (x0, y0), (x1, y1) = (low - margin).tolist(), (high + margin).tolist()
    return (x0, x1), (y0, y1)


def _axes(names: list[str], ink: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 4.4), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(shortened(names[0], 40), color=ink, parse_math=False)
    axes.set_ylabel(shortened(names[1], 40), color=ink, parse_math=False)
    style(axes, ink)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, axes
