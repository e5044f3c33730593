"""Figures of latent spaces: reconstructions, paths, maps, and active latent variables."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ._figures import image_grid, style
from ._html import shortened
from ._pixels import montage, shades

_DPI = 100
_STRIP_PIXELS = 900  # smallest length of the longer side of the images
_ACTIVE = 0.01
_USED, _UNUSED = "#2f7fd1", "#9aa5b1"
_MARKERS = "os^vDP*X<>"


def reconstructions(
    originals: Any,
    reconstructed: Any,
    image_shape: tuple[int, int],
    *,
    num_columns: int = 12,
    low: float = 0.0,
    high: float = 1.0,
) -> Figure:
    """Lines of examples, with the reconstruction of each below it.

    **Arguments:**

    - `originals`, `reconstructed`: `[n, ...]` each, such as `data` and `lnz.latent.reconstruct(model, data, key=key)`.
    - `image_shape`: number of rows and columns of one image.
    - `num_columns`: pairs in a line.
    - `low`, `high`: values of the lightest and the darkest grey.
    """
    originals, reconstructed = _flat(originals), _flat(reconstructed)
    if originals.shape != reconstructed.shape or len(originals) == 0:
        raise ValueError(
            "`reconstructions(...)` needs as many reconstructions as originals, at least one; got shapes "
            f"{originals.shape} and {reconstructed.shape}."
        )
    columns = min(num_columns, len(originals))
    # Images missing from the last line are NaN, which is transparent.
    lines = math.ceil(len(originals) / columns)
    pairs = np.full((lines, 2, columns, originals.shape[1]), np.nan)
    for i, pair in enumerate(zip(originals, reconstructed, strict=True)):
        pairs[i // columns, :, i % columns] = pair
    images = pairs.reshape(-1, originals.shape[1])
    return image_grid(images, image_shape, num_columns=columns, low=low, high=high)


def strips(
    images: Any,
    image_shape: tuple[int, int],
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    title: str = "",
    low: float = 0.0,
    high: float = 1.0,
    ink: str = "black",
) -> Figure:
    """Paths of images, one per line from left to right: interpolations, traversals, walks along an attribute vector.

    **Arguments:**

    - `images`: `[n, num, ...]`, such as `np.stack` of several `lnz.latent.interpolate`, or `lnz.latent.manipulate`.
    - `image_shape`: number of rows and columns of one image.
    - `rows`, `columns`: names of the paths, and of the steps, such as strengths.
    - `title`: names the change from left to right.
    - `low`, `high`: values of the lightest and the darkest grey.
    - `ink`: colour of the text.
    """
    images = np.asarray(images)
    if images.ndim < 3 or images.shape[0] == 0 or images.shape[1] == 0:
        raise ValueError(f"`strips(images)` needs paths of images, [n, num, ...]; got shape {images.shape}.")
    num_rows, num_columns = images.shape[:2]
    for name, names, num in (("rows", rows, num_rows), ("columns", columns, num_columns)):
        if names is not None and len(names) != num:
            raise ValueError(f"`strips({name}=...)` needs {num} names; got {len(names)}.")
    picture = montage(images.reshape(num_rows * num_columns, -1), image_shape, num_columns)
    height, width = picture.shape
    scale = math.ceil(_STRIP_PIXELS / max(height, width))
    left = 0.15 + 0.1 * max((len(shortened(name, 24)) for name in rows or ()), default=0)
    top = 0.15 + (0.25 if columns is not None else 0) + (0.3 if title else 0)
    inner_width, inner_height = width * scale / _DPI, height * scale / _DPI
    figure_width, figure_height = inner_width + left + 0.15, inner_height + top + 0.15
    figure = Figure(figsize=(figure_width, figure_height), dpi=_DPI)
    axes = figure.add_axes(
        (left / figure_width, 0.15 / figure_height, inner_width / figure_width, inner_height / figure_height)
    )
    axes.imshow(picture, **shades(low, high), interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.patch.set_alpha(0)
    tile_height, tile_width = image_shape[0] + 1, image_shape[1] + 1
    if columns is not None:
        centres = np.arange(num_columns) * tile_width + (image_shape[1] - 1) / 2
        axes.set_xticks(centres.tolist(), [shortened(name, 12) for name in columns], parse_math=False)
    if rows is not None:
        centres = np.arange(num_rows) * tile_height + (image_shape[0] - 1) / 2
        axes.set_yticks(centres.tolist(), [shortened(name, 24) for name in rows], parse_math=False)
    axes.tick_params(length=0, colors=ink, labelsize=11, top=False, labeltop=True, bottom=False, labelbottom=False)
    if title:
        figure.text(left / figure_width, 1 - 0.1 / figure_height, title, va="top", color=ink, parse_math=False)
    return figure


def latent_map(
    z: Any, labels: Any = None, names: Sequence[str] | None = None, *, ink: str = "black", num_most: int = 5000
) -> Figure:
    """Embedded examples in the plane, coloured by label: the two latents, or the first two principal components.

    With principal components, the axes state the share of the variance of each.

    **Arguments:**

    - `z`: latents `[n, ...]`, such as `lnz.latent.embed(model, data)`.
    - `labels`: classes 0, 1, ... `[n]`.
    - `names`: names of the classes.
    - `ink`: colour of text and axes.
    - `num_most`: the most points drawn; of more rows, evenly spaced ones.
    """
    z = _flat(z)
    if len(z) < 2:
        raise ValueError(f"`latent_map(z)` needs at least two rows; got {len(z)}.")
    classes = np.zeros(len(z), int) if labels is None else np.asarray(labels)
    if classes.shape != (len(z),):
        raise ValueError(f"`latent_map(labels=...)` needs a class for each of {len(z)} rows; got {classes.shape}.")
    points, axis_names = _plane(z)
    chosen = np.arange(len(z))[:: math.ceil(len(z) / num_most)]
    points, classes = points[chosen], classes[chosen]
    figure = Figure(figsize=(5.0, 4.4), dpi=2 * _DPI, layout="constrained")
    axes = figure.add_subplot()
    values = np.unique(classes)
    colours = colormaps["tab10" if len(values) <= 10 else "turbo"]
    for i, (value, marker) in enumerate(zip(values, itertools.cycle(_MARKERS), strict=False)):
        colour = colours(i % 10) if len(values) <= 10 else colours(i / (len(values) - 1))
        name = str(value) if names is None else shortened(names[int(value)], 20)
        marked = points[classes == value]
        axes.plot(
            *marked.T, marker, color=colour, alpha=0.6, markersize=3, markeredgewidth=0, label=name.replace("$", r"\$")
        )
    for set_label, name in zip((axes.set_xlabel, axes.set_ylabel), axis_names, strict=True):
        set_label(name, color=ink)
    style(axes, ink)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if labels is not None:
        legend = figure.legend(loc="outside right upper", frameon=False, labelcolor=ink, fontsize=9, markerscale=2)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1)
    return figure


def active_units(variances: Any, *, ink: str = "black") -> Figure:
    """The variance over examples of the posterior mean of each latent variable, most active first.

    Variables above 0.01 count as active; a variable far below does not depend on the example.

    **Arguments:**

    - `variances`: variances of the means, `[*latent]`: `lnz.diagnose(...).variances`, or from `lnz.latent.embed`.
    - `ink`: colour of text and axes.

    Source: Burda, Grosse and Salakhutdinov (2016), section 4; arXiv:1509.00519.
    """
    values = np.sort(np.ravel(np.asarray(variances, float)))[::-1]
    if len(values) == 0:
        raise ValueError("`active_units(variances)` needs at least one latent variable.")
    is_active = values > _ACTIVE
    drawn = np.maximum(values, 1e-6)  # a logarithmic axis has no zero
    figure = Figure(figsize=(4.4, 2.8), dpi=2 * _DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.bar(np.arange(1, len(values) + 1), drawn, color=np.where(is_active, _USED, _UNUSED).tolist(), width=0.8)
    axes.axhline(_ACTIVE, color=ink, linewidth=1, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylim(min(1e-4, 0.5 * float(drawn.min())), max(2.0, 2 * float(drawn.max())))
    axes.set_title(f"{int(is_active.sum())} of {len(values)} active", loc="left", fontsize=10, color=ink)
    axes.set_xlabel("latent variable, most active first", color=ink)
    axes.set_ylabel("variance of the mean", color=ink)
    style(axes, ink)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def _plane(z: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "n 2"], tuple[str, str]]:
    if z.shape[1] == 1:
        return np.column_stack([z[:, 0], np.random.default_rng(0).random(len(z))]), ("latent 1", "(scattered)")
    if z.shape[1] == 2:
        return z, ("latent 1", "latent 2")
    centred = z - z.mean(axis=0)
    _, singular, basis = np.linalg.svd(centred, full_matrices=False)
    shares = singular**2 / max(float(np.sum(singular**2)), np.finfo(float).tiny)
    # Signs of singular vectors are arbitrary, so make the largest weight of each axis positive.
    basis = basis[:2] * np.sign(basis[:2][[0, 1], np.abs(basis[:2]).argmax(axis=1)])[:, None]
    names = tuple(f"component {i + 1}: {shares[i]:.0%} of the variance" for i in range(2))
    return centred @ basis.T, (names[0], names[1])


def _flat(rows: Any) -> Float[np.ndarray, "n d"]:
    rows = np.asarray(rows, float)
    return rows.reshape(len(rows), -1)
