"""Tells whether the first row of a text table holds column names or data.

Names may be numbers, such as years, doses or wavelengths.
"""

import decimal
import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ._checks import Refusal, tidy
from ._table import check_counts, numbered
from ._text import MISSING, PLAIN, count_up, is_number

NUM_BELOW = 1000  # rows that the first one is compared with
_MOST_CELLS = 100_000
_NUM_MADE = 10_000  # rows drawn from the columns
_MOST_MADE = 2**20  # cells
_RARE = 5e-4
_FAR = 3  # ranges
_ENOUGH = 50
_YEARS = (1800, 2200)
_BEFORE_COMMA = re.compile(r"[+-]?(0|[1-9][0-9]*)?")


def num_compared(num_columns: int) -> int:
    """How many rows below the first one `are_names` needs: fewer for wide tables."""
    return max(100, min(NUM_BELOW, _MOST_CELLS // num_columns))


def find_names(
    path: Path, first: list[str], rows_below: Callable[[], list[list[str]]]
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The names in the first row, or `None` if it is data, and notes on what was judged.

    `rows_below()` reads rows below the first one that have as many cells.

    **Raises:** `ValueError` if the first row may be either, or if the columns of a table without names count its rows
    or hold the two parts of decimal commas.
    """
    if not all(is_number(cell) or cell in MISSING for cell in first):
        _check_text(path, first, rows_below)
        return tuple(first), ()
    below = [[cell.strip() for cell in row] for row in rows_below()]
    has_index = first[0] == ""
    if _are_by_pandas(first[has_index:], has_index, below):
        notes = check_counts(path, [row[has_index:] for row in below], '`header="yes"` (`--set data.header=yes`)')
        counted = () if has_index else ("its first row 0, 1, 2, ... taken for column names",)
        return tuple(first), (*counted, *notes)
    _check_numbers(path, first, below)
    rows = [first, *below]
    _check_decimal_commas(path, rows)
    return None, check_counts(path, rows, '`header="no"` (`--set data.header=no`)')


def _check_text(path: Path, first: list[str], rows_below: Callable[[], list[list[str]]]) -> None:
    """**Raises:** `ValueError` if a first row with text looks like data with an odd cell, such as `5.1,?,1.4`."""
    numbers = [place for place, cell in enumerate(first) if is_number(cell)]
    odd = [place for place, cell in enumerate(first) if place not in numbers and cell not in MISSING]
    is_named = all(any(map(str.isalpha, first[place])) for place in odd)
    if not numbers or (is_named and count_up([first[place] for place in numbers])):
        return
    x = _numbers_of(rows_below(), len(first))
    if np.isnan(x[:, odd]).all(axis=0).any():  # other rows have text too, which is refused later
        return
    if is_named and are_names([first[place] for place in numbers], x[:, numbers]):
        return
    raise Refusal(
        f"`{path}` has {tidy(first[odd[0]])} beside {first[numbers[0]]} in its first row, which may be column names, "
        'or data with a cell that is not a number: say which by `header="yes"` or `header="no"` (`--set '
        "data.header=yes` or `no`)."
    )


def _are_by_pandas(names: list[str], has_index: bool, below: list[list[str]]) -> bool:
    """Whether `names`, after the empty cell above an index or not, are those that pandas gives to columns: 0, 1, 2, ...

    Three cells or more are, since data would hardly begin so. Fewer are if an index 0, 1, ... stands below the empty
    cell; or, without an empty cell, if no number below is written like the names, without a point.
    """
    if not names or tuple(names) != numbered(len(names)):
        return False
    if has_index + len(names) > 2:
        return True
    if has_index:
        return len(below) > 0 and count_up([row[0] for row in below], (0,))
    return _are_written_unlike(below)


def _are_written_unlike(below: list[list[str]]) -> bool:
    """Whether 10 rows or more are all numbers, and none is written like a whole number, without a point."""
    cells = [cell for row in below for cell in row if cell not in MISSING]
    return len(below) >= 10 and all(is_number(cell) and not PLAIN.fullmatch(cell) for cell in cells)


def _check_numbers(path: Path, first: list[str], below: list[list[str]]) -> None:
    """**Raises:** `ValueError` if a first row of numbers looks like column names, such as years above measurements."""
    start = next((place for place, cell in enumerate(first) if cell not in MISSING), 0)  # leading nameless columns
    numbers = first[start:]
    if any(cell in MISSING for cell in numbers):
        return
    are_plain = start == 0 and len(below) >= 30 and all(map(PLAIN.fullmatch, first))
    if not (are_plain and _are_written_unlike(below)):
        below = [row[start:] for row in below]
        if len(numbers) < 2 or not all(is_number(cell) or cell in MISSING for row in below for cell in row):
            return
        if not are_names(numbers, _numbers_of(below, len(numbers))):
            return
    cells = ", ".join(first[:3]) + (", ..." if len(first) > 3 else "")
    raise Refusal(
        f"`{path}` has {cells} in its first row, which may be column names or data: say which by "
        '`header="yes"` or `header="no"` (`--set data.header=yes` or `no`).'
    )


def _check_decimal_commas(path: Path, rows: list[list[str]]) -> None:
    """**Raises:** `ValueError` for pairs of whole numbers such as `20,05`, the second one with a leading zero."""
    whole, behind = [[cells[start::2] for cells in rows] for start in (0, 1)]
    if len(rows[0]) % 2 or not all(_BEFORE_COMMA.fullmatch(cell) for row in whole for cell in row):
        return
    if not all(cell.isascii() and cell.isdigit() for row in behind for cell in row):
        return
    pairs = list(zip(itertools.chain(*whole), itertools.chain(*behind), strict=True))
    with_zero = [len(cell) > 1 and cell[0] == "0" for _, cell in pairs]
    num = len(behind[0])
    if all(any(with_zero[column::num]) for column in range(num)) and num:
        pair = pairs[with_zero.index(True)]
        raise Refusal(
            f"`{path}` has {','.join(pair)} in a row, one number with a decimal comma or two numbers: write decimals "
            f"with '.' instead, {'.'.join(pair)}, or say that they are two by `header=\"no\"` (`--set "
            "data.header=no`)."
        )


def _numbers_of(rows: list[list[str]], num_columns: int) -> np.ndarray:
    """Rows as floats `[n, num_columns]`; text, missing and infinite values are nan."""
    cells = (cell.strip() for row in rows for cell in row)
    x = np.array([float(cell) if is_number(cell) else math.nan for cell in cells]).reshape(-1, num_columns)
    return np.where(np.isinf(x), np.nan, x)


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
