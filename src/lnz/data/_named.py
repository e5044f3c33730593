import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

from .._check import unknown_name
from .._space import AbstractSpace, Binary, Categorical


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set in three parts, `[n, *space.shape]` each, as they are stored (bits as bytes).

    `image_shape` says how to show one example as a picture; `labels` holds class labels of the
    three parts where there are any; `protocol` says how the numbers were made.
    """

    name: str
    space: AbstractSpace
    train: Shaped[np.ndarray, "train ..."]
    valid: Shaped[np.ndarray, "valid ..."]
    test: Shaped[np.ndarray, "test ..."]
    image_shape: tuple[int, ...] | None
    protocol: str
    labels: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


def load(name: str) -> Splits:
    """A named data set with fixed, seeded splits, the same on every machine.

    - `"digits"`: 1797 grey 8 x 8 digits of scikit-learn, intensities 0 to 16 (needs `lnz[app]`).
    - `"binary_digits"`: the same with a pixel set where its intensity is at least 8, half of the largest.
    - `"bars_and_stripes"`: 4 x 4 pictures of full rows or full columns, each line on with probability 1/2.
    - `"shifter"`: 8 random bits, the same shifted by -1, 0 or 1 around the ring, and the shift in 3 bits.

    **Returns:** `Splits(train, valid, test, ...)`.

    **Raises:** `TypeError` if `name` is no text; `ValueError` for an unknown name; `ImportError` if an extra is
    missing, naming it.

    Source: Hinton and Sejnowski (1986), section 4 (shifter); MacKay (2003), section 43.3 (bars and stripes).
    """
    if not isinstance(name, str):
        raise TypeError(f"`load(name)` needs the name of a data set, such as 'digits'; got {name!r}.")
    if name not in _LOADERS:
        raise ValueError(unknown_name("data set", name, _LOADERS))
    return _LOADERS[name]()


def names() -> list[str]:
    """The names that `load` knows."""
    return sorted(_LOADERS)


def _split(name, space, x, image_shape, protocol, num_valid, num_test, labels=None) -> Splits:
    # RandomState, whose stream is frozen for all versions of NumPy; Generator's is not.
    order = np.random.RandomState(0).permutation(len(x))
    test, valid, train = np.split(order, [num_test, num_test + num_valid])
    parts = None if labels is None else (labels[train], labels[valid], labels[test])
    return Splits(name, space, x[train], x[valid], x[test], image_shape, protocol, parts)


@functools.cache
def _digits() -> Splits:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('The digits come with scikit-learn: `pip install "lnz[app]"`.') from error
    x, labels = load_digits(return_X_y=True)
    x = np.asarray(x, np.uint8)
    protocol = "scikit-learn digits, intensities 0 to 16, 1257 train / 180 valid / 360 test"
    return _split("digits", Categorical(64, 17), x, (8, 8), protocol, 180, 360, np.asarray(labels))


@functools.cache
def _binary_digits() -> Splits:
    digits = _digits()
    train, valid, test = ((part >= 8).astype(np.uint8) for part in (digits.train, digits.valid, digits.test))
    protocol = digits.protocol + ", binary where the intensity is at least 8"
    return Splits("binary_digits", Binary(64), train, valid, test, (8, 8), protocol, digits.labels)


@functools.cache
def _bars_and_stripes() -> Splits:
    random = np.random.RandomState(1)
    lines = random.randint(0, 2, (3000, 4)).astype(np.uint8)
    rows = np.repeat(lines[:, :, None], 4, axis=2)
    is_row = random.randint(0, 2, 3000).astype(bool)
    x = np.where(is_row[:, None, None], rows, rows.transpose(0, 2, 1)).reshape(-1, 16)
    protocol = "3000 draws of 4 x 4 bars and stripes, 2000 train / 500 valid / 500 test"
    return _split("bars_and_stripes", Binary(16), x, (4, 4), protocol, 500, 500)


@functools.cache
def _shifter() -> Splits:
    random = np.random.RandomState(2)
    bits = random.randint(0, 2, (3000, 8)).astype(np.uint8)
    shift = random.randint(0, 3, 3000)
    moved = np.stack([np.roll(row, s - 1) for row, s in zip(bits, shift, strict=True)])
    x = np.concatenate([bits, moved, np.eye(3, dtype=np.uint8)[shift]], axis=1)
    protocol = "3000 draws of the 8-bit shifter with its label, 2000 train / 500 valid / 500 test"
    return _split("shifter", Binary(19), x, None, protocol, 500, 500)


_LOADERS: dict[str, Callable[[], Splits]] = {
    "bars_and_stripes": _bars_and_stripes,
    "binary_digits": _binary_digits,
    "digits": _digits,
    "shifter": _shifter,
}
