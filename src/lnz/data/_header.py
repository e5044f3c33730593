"""Tells whether a first row of numbers holds column names, such as years, doses or wavelengths, or data."""

import decimal
from collections.abc import Callable, Sequence

import numpy as np

NUM_BELOW = 1000  # rows that the first one is compared with
_MOST_CELLS = 100_000
_NUM_MADE = 10_000  # rows drawn from the columns
_MOST_MADE = 2**20  # cells
_RARE = 5e-4
_FAR = 3  # ranges
_ENOUGH = 50
_YEARS = (1800, 2200)


def num_compared(num_columns: int) -> int:
    """How many rows below the first one `are_names` needs: fewer for wide tables."""
    return max(100, min(NUM_BELOW, _MOST_CELLS // num_columns))


def are_names(first: Sequence[str], below: np.ndarray) -> bool:
    """Whether a first row of numbers looks like column names, unlike the rows `below [n, d]` it; nan is missing.

    It does if its numbers differ from each other and

    - lie farther from all numbers of their columns than three times the range of the column; or
    - are all years and in order, and few of the rows below are; or
    - are in order, and one of them has more decimals than any number below, in a column of whole numbers or of one or
      two decimals; or
    - are more regular than the rows below. Regular means rounded to few digits, in order, equally spaced or in
      proportion. The combination that the first row shows must be rarer than 1 in 2000, both among the rows below and
      among rows whose values are drawn from each column independently.

    If the first row begins a smooth series that goes on below, it is always data: such a series starts with whole
    numbers.
    """
    names, x = np.array(first, float), below
    if len(names) < 2 or not len(x) or not np.isfinite(names).all() or len(np.unique(names)) < len(names):
        return False
    if np.isnan(x).all(axis=0).any() or _goes_on(names, x):
        return False
    low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
    if len(x) > 2 and (np.maximum(low - names, names - high) > _FAR * (high - low)).all():
        return True
    is_ordered = bool(_are_ordered(names[None])[0])
    if is_ordered and _are_years(names[None])[0] and np.sum(_are_years(x)) <= max(1, len(x) / 50):
        return True
    finest = min(_exponent(cell) for cell in first)
    if is_ordered and len(names) > 2 and len(x) >= _ENOUGH:
        for place in range(len(names)):
            column = x[~np.isnan(x[:, place]), place, None]
            exponent = next((e for e in (0, -1, -2) if _are_multiples(column, e).all()), None)
            if exponent is not None and not _are_multiples(names[None, place, None], exponent)[0]:
                return True
    tests: list[Callable[[np.ndarray], np.ndarray]] = [_are_ordered, _are_equally_spaced, _are_in_proportion]
    passed = [test for test in (*tests, lambda rows: _are_multiples(rows, finest)) if test(names[None])[0]]
    return all(np.mean(np.all([test(rows) for test in passed], axis=0)) <= _RARE for rows in (x, _made(x)))


def _goes_on(names: np.ndarray, x: np.ndarray) -> bool:
    """Whether every column is a smooth series that begins at `names`: steps are smaller than between random rows."""
    if len(x) < 5:
        return False
    with np.errstate(invalid="ignore"):
        steps = np.abs(np.diff(x, axis=0))
        apart = np.abs(x - np.random.RandomState(0).permutation(x)).mean(axis=0)
        is_smooth = steps.mean(axis=0) < 0.5 * apart
        return bool((is_smooth & (np.abs(names - x[0]) <= 2 * steps.max(axis=0))).all())


def _made(x: np.ndarray) -> np.ndarray:
    """Rows of values that are drawn from each column independently."""
    random = np.random.RandomState(0)
    num = max(1000, min(_NUM_MADE, _MOST_MADE // x.shape[1]))
    known = (column[~np.isnan(column)] for column in x.T)
    return np.stack([values[random.randint(len(values), size=num)] for values in known], axis=1)


def _are_ordered(rows: np.ndarray) -> np.ndarray:
    steps = np.diff(rows, axis=1)
    return np.all(steps > 0, axis=1) | np.all(steps < 0, axis=1)


def _are_equally_spaced(rows: np.ndarray) -> np.ndarray:
    steps = np.diff(rows, axis=1)
    rounding = 1e-9 * np.abs(rows).max(axis=1, keepdims=True)
    is_equal = np.all(np.abs(steps - steps[:, :1]) <= rounding, axis=1)
    return is_equal & (steps[:, 0] != 0) & (rows.shape[1] > 2)


def _are_in_proportion(rows: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = rows[:, 1:] / rows[:, :-1]
        is_equal = np.all(np.abs(ratios - ratios[:, :1]) <= 1e-9 * np.abs(ratios), axis=1)
    return is_equal & (rows > 0).all(axis=1) & (ratios[:, 0] != 1) & (rows.shape[1] > 2)


def _are_years(rows: np.ndarray) -> np.ndarray:
    return ((rows % 1 == 0) & (rows >= _YEARS[0]) & (rows <= _YEARS[1])).all(axis=1)


def _are_multiples(rows: np.ndarray, exponent: int) -> np.ndarray:
    """Which rows consist of multiples of `10**exponent`."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = rows / 10.0**exponent if exponent > 0 else rows * 10.0**-exponent
        is_whole = np.abs(scaled - np.round(scaled)) <= 1e-9 * np.maximum(np.abs(scaled), 1)
    return np.all(is_whole, axis=1)


def _exponent(cell: str) -> int:
    """The exponent of the last nonzero digit: 1 for 20, 0 for 3.0, -2 for 0.25; large for 0, a multiple of all."""
    number = decimal.Decimal(cell)
    exponent = number.normalize().as_tuple().exponent if number else 300
    return exponent if isinstance(exponent, int) else 300
