"""Conversion of arrays to pictures: montages of images, and PNG files with few colours."""

import io
import math
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap
from PIL import Image

# The lightest grey is not white, so that tiles stand out from a white page, which shows in the gaps between them.
GREYS = LinearSegmentedColormap.from_list("ink on paper", ["#e9edf2", "#10151c"])
SIGNED = colormaps["RdBu_r"]

_CLEAR = 255  # the index of the transparent colour


def montage(
    images: Any, image_shape: tuple[int, int], num_columns: int | None = None
) -> Float[np.ndarray, "rows columns"]:
    """All images in one picture, with a pixel of NaN (transparent) between neighbours."""
    images = np.asarray(images)
    if len(image_shape) != 2 or images.size != len(images) * math.prod(image_shape) or len(images) == 0:
        raise ValueError(
            f"`images` must be [n, ...] with at least one image of shape `image_shape={image_shape}` "
            f"(rows, columns); got an array of shape {images.shape}."
        )
    height, width = image_shape
    num_columns = min(num_columns or math.ceil(math.sqrt(len(images))), len(images))
    num_rows = math.ceil(len(images) / num_columns)
    picture = np.full((num_rows * (height + 1) - 1, num_columns * (width + 1) - 1), np.nan)
    for i, image in enumerate(images.reshape(-1, height, width)):
        top, left = (i // num_columns) * (height + 1), (i % num_columns) * (width + 1)
        picture[top : top + height, left : left + width] = image
    return picture


def encode(pixels: np.ndarray, low: float, high: float, *, colours: Colormap = GREYS, size: int = 400) -> bytes:
    """A PNG of 255 colours from `low` to `high`, which may be smaller than `low`. Non-finite values are transparent.

    Every number becomes a square of pixels, so that the longer side has at least `size` pixels. One byte per pixel,
    instead of Matplotlib's four, makes a page of noisy pictures several times smaller.
    """
    span = high - low if high != low else 1.0
    finite = np.isfinite(pixels)
    levels = np.clip((np.where(finite, pixels, low) - low) / span, 0, 1)
    index = np.where(finite, np.rint(levels * (_CLEAR - 1)), _CLEAR).astype(np.uint8)
    scale = max(1, math.ceil(size / max(index.shape)))
    image = Image.fromarray(np.kron(index, np.ones((scale, scale), np.uint8)))
    palette = np.rint(255 * colours(np.linspace(0, 1, _CLEAR))[:, :3]).astype(np.uint8)
    image.putpalette([*palette.flatten().tolist(), 0, 0, 0])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, transparency=_CLEAR)
    return buffer.getvalue()


def grey_scale(*values: Any) -> tuple[float, float]:
    """The lightest and darkest value for these pictures: 0 and 1 for bits, otherwise 0 and the largest intensity."""
    numbers = np.concatenate([np.ravel(np.asarray(value, float)) for value in values])
    numbers = numbers[np.isfinite(numbers)]
    if numbers.size == 0 or np.isin(numbers, (0, 1)).all():
        return 0.0, 1.0
    low, high = min(0.0, float(numbers.min())), float(numbers.max())
    return (low, high) if low < high else (low, low + 1.0)


def paper_and_ink(*values: Any) -> tuple[float, float]:
    """`grey_scale`, reversed for photographs, in which large values are light.

    Drawings and writing are mostly empty paper, of value zero. In a photograph, half of the pixels are above a quarter
    of the largest value.
    """
    low, high = grey_scale(*values)
    median = float(np.median(np.concatenate([np.ravel(np.asarray(value, float)) for value in values])))
    return (high, low) if (low, high) != (0.0, 1.0) and median > low + 0.25 * (high - low) else (low, high)


def shades(low: float, high: float) -> dict[str, Any]:
    """Arguments of Matplotlib's `imshow` for greys from `low`, the lightest, to `high`, which may be smaller."""
    if low <= high:
        return {"cmap": GREYS, "vmin": low, "vmax": high}
    return {"cmap": GREYS.reversed(), "vmin": high, "vmax": low}


def signed_limit(W: Any) -> float:
    """The end of a colour scale of weights: their 99.5th percentile, so one large weight does not bleach the rest."""
    return float(np.quantile(np.abs(np.asarray(W)), 0.995)) or 1.0
