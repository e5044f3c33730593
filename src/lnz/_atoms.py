"""Values with a probability of their own, where a density has no bound."""

import warnings
from typing import Any

import numpy as np

from ._mapped import forget_pages
from ._space import AbstractSpace

_NUM_CHECKED = 2**18  # numbers
_NUM_SORTED = 2**22  # numbers, in the search for gaps
_MANY = 5
# A column with fewer different values, for each of its rows, is a discrete one.
_FEW_VALUES = 0.05
# So is one whose most frequent value holds more than this share of the rows, and not by the chance of a small table.
_LARGE_SHARE, _FEW_ROWS = 0.02, 3
# Fewer rows say nothing of single values.
_ENOUGH_ROWS = 20
_REMEDY = "a density can grow there without bound, so that its nats mean little"


class AtomsWarning(UserWarning):
    """A density says little of these data; the result of `evaluate` says it too."""


def describe_atoms(column: np.ndarray) -> str | None:
    """Why `column` has no density, in a few words; `None` if nothing says that it has not."""
    values, counts = np.unique(column, return_counts=True)
    if len(values) < _FEW_VALUES * len(column):
        return f"only {len(values)} different value{'s' if len(values) > 1 else ''}"
    most = int(np.argmax(counts))
    if counts[most] >= _FEW_ROWS and counts[most] > _LARGE_SHARE * len(column):
        return f"the value {values[most]:g} in {counts[most]}"
    return None


def data_warnings(space: AbstractSpace, rows: Any) -> list[str]:
    """Sentences on why a density on `space` says little of `rows`; none where nothing is wrong.

    On spaces with Lebesgue measure: data of whole numbers throughout, columns with few values or one frequent value,
    rows that repeat others, and rows at the ends of the space. Of more than 2**18 numbers, evenly spaced rows are
    looked at. Unknown entries are nan.
    """
    if space.base_measure != "Lebesgue":
        return []
    some = _some_rows(rows, _NUM_CHECKED)
    whole = _whole_numbers(space, some)
    if whole is not None:
        return [whole]
    found = [_at_ends(space, some)]
    if len(some) >= _ENOUGH_ROWS:
        found += [_discrete_columns(some), _repeated_rows(some)]
    return [sentence for sentence in found if sentence is not None]


def warn_of_whole_numbers(space: AbstractSpace, rows: Any, stacklevel: int) -> None:
    """A `UserWarning` if `rows` have probabilities, and models on `space` densities.

    That is where every number is whole, there are two or more different ones, and each occurs five times on average,
    among 2**18 numbers: of more, only those in evenly spaced rows are looked at.
    """
    if space.base_measure != "Lebesgue":
        return
    sentence = _whole_numbers(space, _some_rows(rows, _NUM_CHECKED))
    if sentence is not None:
        warnings.warn(sentence, stacklevel=stacklevel + 1)


def smallest_gaps(rows: Any) -> np.ndarray:
    """The smallest distance between two different values of each column, `[*shape]`; infinite where there is but one.

    Numbers that differ by rounding alone are one value. Of columns of continuous numbers it is a tiny number; of
    rounded ones it is the unit that they are rounded to. Of more than 2**22 numbers, evenly spaced rows are looked at.
    """
    some = _some_rows(rows, _NUM_SORTED)
    rounding = np.finfo(some.dtype).eps if some.dtype.kind == "f" else 0
    ordered = np.sort(some.astype(np.float64), axis=0)  # with nan last
    gaps = np.diff(ordered, axis=0)
    sizes = np.maximum(np.abs(ordered[1:]), np.abs(ordered[:-1]))
    differ = gaps > 4 * rounding * sizes
    smallest = np.min(gaps, axis=0, initial=np.inf, where=differ)
    # Where most neighbours differ by rounding alone, as in clusters far from zero, no coarser unit rounded them.
    by_rounding = (gaps > 0) & ~differ
    is_fine = np.sum(by_rounding, axis=0) > 0.5 * np.sum(gaps > 0, axis=0)
    return np.where(is_fine, np.min(gaps, axis=0, initial=np.inf, where=gaps > 0), smallest)


def _some_rows(rows: Any, most_numbers: int) -> np.ndarray:
    numbers_per_row = int(np.prod(rows.shape[1:]))
    most_rows = max(1, most_numbers // max(1, numbers_per_row))
    some = np.array(rows[:: max(1, -(-len(rows) // most_rows))])
    forget_pages(rows)
    return some if some.dtype.kind in "biuf" else some.astype(np.float32)  # bfloat16


def _whole_numbers(space: AbstractSpace, some: np.ndarray) -> str | None:
    if some.dtype.kind == "f" and (some != np.floor(some)).any():  # also where there is none, nan
        return None
    num = len(np.unique(some))
    if not 2 <= num <= some.size // _MANY:
        return None
    return (
        f"The data are whole numbers, {num} different ones, and {space} has densities: a density at whole "
        "numbers can grow without bound, so that its nats mean nothing. Add uniform noise "
        "(`lnz.latent.Dequantised(flow, space)`), or use a likelihood of bits, categories or counts."
    )


def _discrete_columns(some: np.ndarray) -> str | None:
    columns = some.reshape(len(some), -1).astype(np.float64)
    if columns.shape[1] > 1:
        columns = np.unique(columns, axis=0)  # a row that is repeated makes no column discrete
    whys = [describe_atoms(column[~np.isnan(column)]) for column in columns.T]
    found = [(index, why) for index, why in enumerate(whys) if why is not None]
    if not found:
        return None
    words = ", ".join(f"column {index} has {why}" for index, why in found[:3])
    more = f", and so on for {len(found) - 3} more" if len(found) > 3 else ""
    remedy = "Leave such columns out, or add uniform noise as wide as their steps."
    return f"Of {len(columns)} different rows, {words}{more}: {_REMEDY}. {remedy}"


def _repeated_rows(some: np.ndarray) -> str | None:
    flat = some.reshape(len(some), -1)
    if flat.shape[1] < 2:
        return None  # a column, of which single values were judged
    num_repeated = len(some) - len(np.unique(flat, axis=0))
    if num_repeated < _FEW_ROWS or num_repeated <= _LARGE_SHARE * len(some):
        return None
    return f"{num_repeated} of {len(some)} rows repeat another one: {_REMEDY}. Remove the repeated rows."


def _at_ends(space: AbstractSpace, some: np.ndarray) -> str | None:
    floats = some if some.dtype.kind == "f" else some.astype(np.float64)
    is_inside = np.asarray(space.elements_within(floats))
    at_end = np.zeros(is_inside.shape, bool)
    for beyond in (-np.inf, np.inf):
        at_end |= is_inside & ~np.asarray(space.elements_within(np.nextafter(floats, floats.dtype.type(beyond))))
    num = int(at_end.reshape(len(some), -1).any(axis=1).sum())
    if not num:
        return None
    return (
        f"{num} of {len(some)} rows have a value exactly at an end of {space}: {_REMEDY}. Remove these rows, or take a "
        "wider space."
    )
