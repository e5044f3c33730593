"""What readers hand over: the arrays of a file, before anything is decided about them."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ._checks import UNNAMED, Cells

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Contents:
    """The arrays of a file by part, as they were stored, `[n, ...]`.

    A file with a single array has it under `"train"`. `labels` has the same keys where there are labels.
    `cells` says how the file names rows and columns, `left_out` which columns it has beside those that were taken.
    `notes` are words for the protocol. `are_pixels`: bytes are grey values of image files, from 0 to 255. Arrays that
    are mapped from disk were checked, and are stored as they stay; `grey` gives the bytes, in blocks, that they were
    made of where they are bits. `digest` is that of the file, if the reader needed it.
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

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self.cells.columns

    def where(self, part: str) -> str:
        """How messages call an array."""
        return f"`{self.path}`" + (f" (part `{part}`)" if len(self.arrays) > 1 else "")
