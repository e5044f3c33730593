"""Columns of a table that are no draws of a density: single values have a probability of their own."""

import numpy as np

# A column with fewer different values, for each of its rows, is a discrete one.
_FEW_VALUES = 0.05
# So is one whose most frequent value holds more than this share of the rows, and not by the chance of a small table.
_LARGE_SHARE, _FEW_ROWS = 0.02, 3


def describe_atoms(column: np.ndarray) -> str | None:
    """Why `column` has no density, in a few words; `None` if nothing says that it has not."""
    values, counts = np.unique(column, return_counts=True)
    if len(values) < _FEW_VALUES * len(column):
        return f"only {len(values)} different values"
    most = int(np.argmax(counts))
    if counts[most] >= _FEW_ROWS and counts[most] > _LARGE_SHARE * len(column):
        return f"the value {values[most]:g} in {counts[most]}"
    return None
