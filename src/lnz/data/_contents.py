"""The arrays of a file, as a reader returns them, before their space is chosen."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ._checks import UNNAMED, Cells

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Contents:
    """The arrays of a file by part, as they were stored, `[n, ...]`.

    - `arrays`: by part; a single array is under `"train"`.
    - `labels`: has the same keys, if there are labels.
    - `cells`: how the file names its rows and columns; `left_out`: columns that were not taken.
    - `notes`: words for the protocol.
    - `is_mapped`: whether the arrays are mapped from disk. They are then already checked and in their final dtype.
    - `grey`: the bytes, in blocks, from which mapped bits were made.
    - `are_pixels`: whether bytes are grey values of image files, from 0 to 255.
    - `digest`: digest of the file, if the reader needed it.
    - `dtype`: dtype of the rows in the file, if the arrays have another.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    labels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    label_names: tuple[str, ...] | None = None
    cells: Cells = UNNAMED
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_mapped: bool = False
    grey: Callable[[], Iterator[np.ndarray]] | None = None
    are_pixels: bool = False
    digest: str | None = None
    dtype: np.dtype | None = None

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self.cells.columns

    def where(self, part: str) -> str:
        """The name of an array in messages."""
        return f"`{self.path}`" + (f" (part `{part}`)" if len(self.arrays) > 1 else "")
