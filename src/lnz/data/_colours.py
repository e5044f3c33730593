"""Arrays of colour pictures, made grey by the rule of image files."""

from collections.abc import Iterable

import numpy as np

from ._checks import Refusal, short
from ._rows import are_bits, are_unit, within

TURNED_GREY = "colours turned grey (ITU-R 601-2 luma)"
_LUMA = (19595, 38470, 7471)  # Pillow's weights of red, green and blue, in units of 1 / 65536


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of red, green and blue (and opacity) in `[n, h, w, 3]` or `[n, 3, h, w]`; `None` for other arrays."""
    if len(shape) != 4 or 1 in (shape[1], shape[3]):
        return None
    return next((axis for axis in (3, 1) if shape[axis] in (3, 4)), None)


def check_colours(arrays: Iterable[np.ndarray], where: str) -> None:
    """**Raises:** `ValueError` if arrays shaped like colour pictures hold nothing but 0 and 1, unless all is grey."""
    arrays = [x for x in arrays if channel_axis(x.shape) is not None]
    if arrays and within(arrays, are_bits) and not within(arrays, _are_grey):
        raise Refusal(
            f"{where} has shape {short(arrays[0].shape)}, as colour images have, but no values except 0 and 1, as "
            "lattices and one-hot codes have: flatten the examples, `x.reshape(len(x), -1)`, or, if they are colours, "
            "save them as uint8 times 255."
        )


def _are_grey(x: np.ndarray) -> np.ndarray:
    channels = np.moveaxis(x, channel_axis(x.shape) or 0, -1)
    return channels == channels[..., :1]


def to_grey(x: np.ndarray, where: str) -> np.ndarray:
    """Colour pictures of bytes, or floats from 0 to 1, as grey `[n, h, w]` of the same dtype; other arrays unchanged.

    **Raises:** `ValueError` for pictures with transparent pixels, and for colours on another scale.
    """
    axis = channel_axis(x.shape)
    if axis is None:
        return x
    if x.dtype != np.uint8 and not (x.dtype.kind == "f" and within([x], are_unit)):
        raise Refusal(
            f"{where} seems to hold colour images, shape {short(x.shape)}, but its values are neither uint8 nor floats "
            "from 0 to 1: convert them, or flatten the examples to shape (n, d) if they are not images."
        )
    channels = np.moveaxis(x, axis, -1)
    if channels.shape[-1] == 4 and (channels[..., 3] < (255 if x.dtype == np.uint8 else 1)).any():
        raise Refusal(f"{where} has images with transparent pixels: put them on a background first.")
    if x.dtype == np.uint8:
        red, green, blue = (weight * channels[..., i].astype(np.uint32) for i, weight in enumerate(_LUMA))
        return ((red + green + blue + 0x8000) >> 16).astype(np.uint8)
    grey = sum(weight / 65536 * channels[..., i].astype(np.float64) for i, weight in enumerate(_LUMA))
    return np.asarray(grey).astype(x.dtype)
