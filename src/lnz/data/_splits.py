"""Examples in rows, whole or in three parts."""

import dataclasses

import numpy as np
from jaxtyping import Shaped

from ..spaces import AbstractSpace
from ._checks import UNNAMED, Cells


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set in three parts, `[n, *space.shape]` each, as they are stored (bits as bytes).

    If the file is too large for memory, `train` is an `np.memmap` of rows in file order.

    - `image_shape`: the shape in which to show one example as a picture.
    - `protocol`: how the numbers were made, in words.
    - `labels`: class labels of the three parts, if any; `label_names`: the names of the labels 0, 1, ...
    - `columns`: the column names of a table.
    - `source_digest`: the first 16 hexadecimal digits of the SHA-256 of the file.
    - `observed`: masks of the known entries, in the shapes of the three parts, if some entries are missing
      (`missing="mask"`). Missing entries are stored as zeros.
    - `cells`: how the file names its rows and columns. `cells.row(i)` is its name for row `i` of `test`, such as
      `"line 17"`.
    """

    name: str
    space: AbstractSpace
    train: Shaped[np.ndarray, "train ..."]
    valid: Shaped[np.ndarray, "valid ..."]
    test: Shaped[np.ndarray, "test ..."]
    image_shape: tuple[int, ...] | None
    protocol: str
    labels: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    label_names: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    source_digest: str | None = None
    observed: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    cells: Cells = UNNAMED

    def __repr__(self) -> str:
        sizes = " / ".join(f"{len(getattr(self, part))} {part}" for part in ("train", "valid", "test"))
        return f"Splits({self.name!r}, {self.space}, {sizes})"


@dataclasses.dataclass(frozen=True)
class Rows:
    """All examples of a file, in its order.

    - `array`: the examples, `[n, d]`, stored as in `Splits`.
    - `columns`: the column names of a table.
    - `image_shape`: the shape of pictures.
    - `observed`: mask of the known entries, if some are missing.
    - `cells`: how the file names its rows and columns. `cells.row(i)` is its name for row `i`, such as `"line 17"`.
    - `left_out`: columns of the file that were not taken.
    - `notes`: what was done, in words.
    - `stored_as`: dtype of the numbers in the file, which determines the full scale of bools, bytes and floats.
    - `are_pixels`: whether they are grey values of image files, from 0 to 255.
    """

    array: Shaped[np.ndarray, "n d"]
    columns: tuple[str, ...] | None
    image_shape: tuple[int, ...] | None
    observed: np.ndarray | None = None
    cells: Cells = UNNAMED
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stored_as: np.dtype = dataclasses.field(default=np.dtype(np.float64), kw_only=True)
    are_pixels: bool = dataclasses.field(default=False, kw_only=True)


def shuffled(num: int, num_valid: int, num_test: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers of train, valid and test, the same on every machine."""
    # RandomState, whose stream is frozen for all versions of NumPy; Generator's is not.
    order = np.random.RandomState(seed).permutation(num)
    test, valid, train = np.split(order, [num_test, num_test + num_valid])
    return train, valid, test


def split_shuffled(splits: Splits, num_valid: int, num_test: int, labels: np.ndarray | None = None) -> Splits:
    """Shuffles a set whose examples are all in `train`, with seed 0, and cuts it into three parts."""
    order = shuffled(len(splits.train), num_valid, num_test, 0)
    train, valid, test = (splits.train[rows] for rows in order)
    parts = None if labels is None else (labels[order[0]], labels[order[1]], labels[order[2]])
    return dataclasses.replace(splits, train=train, valid=valid, test=test, labels=parts)
