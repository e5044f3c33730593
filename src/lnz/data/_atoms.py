"""Finds data on which a density is unbounded: repeated values (atoms), and columns that determine each other."""

import itertools
import math
import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ..files import forget_pages
from ..spaces import AbstractSpace

_NUM_CHECKED = 2**18  # numbers looked at
_NUM_SORTED = 2**22  # numbers looked at in the search for gaps
# Search for functions of one column: numbers looked at, numbers over all pairs of columns, and most columns.
_NUM_PAIRED, _NUM_PAIRS, _MOST_PAIRED = 2**16, 2**20, 128
# Whole numbers are discrete if there are at least this many of them for each different value.
_MANY = 5
# A column with fewer different values per row is discrete.
_FEW_VALUES = 0.05
# So is a column whose most frequent value holds more than this share of the rows, and at least this many rows, so that
# chance in a small table does not count.
_LARGE_SHARE, _FEW_ROWS = 0.02, 3
# Smaller atoms count together: they are reported above this share of the rows.
_SHARE_OF_ATOMS = 0.005
# Neighbouring values of a rounded column are about equally frequent. A value this many times more frequent than this
# many neighbours on each side is an atom.
_EXCESS, _NUM_BESIDE = 5, 5
# Values closer to each other than this many steps of their dtype may repeat through rounding.
_FINE = 30
# With fewer rows, single values are not judged.
_ENOUGH_ROWS = 20
# A column that follows from several others, or from one, to within these fractions of its spread has no noise of its
# own.
_DETERMINED_BY_MANY, _DETERMINED_BY_ONE = 1e-5, 1e-4
# Search for equations between columns: most monomials, fewest rows for each of them, and rows used if that suffices.
_MOST_MONOMIALS, _ROWS_PER_MONOMIAL, _NUM_TIED = 300, 4, 1000
# Columns are not judged if rounding is a larger fraction of their spread, in the direction of least spread.
_COARSE = 1e-3
# Rows fulfil an equation if their distance from its surface is below this fraction of their distance from each other,
# measured on this many rows.
_CLOSER, _NUM_NEIGHBOURS = 0.1, 500
# Search for pairs of columns that are equal in some rows: numbers over all pairs.
_NUM_DIFFERENCES = 2**20
# Rows farther out, in quartile distances, are left out: a few of them would make all columns look alike.
_FAR_OUT = 20
# No column with a density needs a model scale below this fraction of the smallest gap between its values.
SMALLEST_SCALE = 0.1
_REMEDY = "a density can grow there without bound, so that its nats mean little"


class UnboundedDensityWarning(UserWarning):
    """A density can be unbounded on these data, so its value says little. The result of `evaluate` says so too."""


def describe_atoms(column: np.ndarray) -> str | None:
    """Why `column` has no density, in a few words; `None` if no reason was found."""
    values, counts = np.unique(column, return_counts=True)
    if len(values) < _FEW_VALUES * len(column):
        return f"only {len(values)} different value{'s' if len(values) > 1 else ''}"
    most = int(np.argmax(counts))
    if counts[most] >= _FEW_ROWS and counts[most] > _LARGE_SHARE * len(column):
        return f"the value {values[most]:g} in {counts[most]}"
    return None


def describe_small_atoms(column: np.ndarray) -> str | None:
    """The repeated values of an otherwise continuous column, in a few words; `None` if there are none.

    In a rounded column all values may repeat about as often as their neighbours; these do not count.
    """
    values, counts = np.unique(column, return_counts=True)
    is_atom = _is_excessive(counts)
    if not _is_rounded(values):
        is_atom |= counts >= _FEW_ROWS
    num_atoms, num_rows = int(is_atom.sum()), int(counts[is_atom].sum())
    if not num_rows > _SHARE_OF_ATOMS * len(column):
        return None
    most = int(np.argmax(np.where(is_atom, counts, 0)))
    if num_atoms == 1:
        return f"the value {values[most]:g} in {num_rows}"
    return f"{num_atoms} values that repeat, such as {values[most]:g}, in {num_rows}"


def _is_excessive(counts: np.ndarray) -> np.ndarray:
    """Whether each value occurs far more often than its neighbours."""
    padded = np.pad(counts.astype(np.float64), _NUM_BESIDE, mode="edge" if len(counts) <= _NUM_BESIDE else "reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NUM_BESIDE + 1).sum(axis=1)
    return counts > _EXCESS * (around - counts) / (2 * _NUM_BESIDE) + 2


def _is_rounded(values: np.ndarray) -> bool:
    """Whether the sorted values have few digits or are multiples of one unit, as far as their dtype can tell."""
    wide = values.astype(np.float64)
    gaps = np.diff(wide)
    steps = np.spacing(np.abs(values)).astype(np.float64)[1:] if values.dtype.kind == "f" else np.zeros(len(gaps))
    if not len(gaps) or np.median(gaps) < _FINE * np.median(steps):
        return True
    digits = 10 ** (np.floor(np.log10(np.abs(np.where(wide == 0, 1, wide)))) - 3)
    if np.all(np.abs(np.round(wide / digits) * digits - wide) <= 4 * _rounding(values) * np.abs(wide)):
        return True
    rounding = _rounding(values) * np.max(np.abs(wide))
    smallest = np.min(gaps, initial=np.inf, where=gaps > 64 * rounding)
    return any(_are_multiples(gaps, smallest / number) for number in range(1, 11))


def _are_multiples(gaps: np.ndarray, unit: float) -> bool:
    near = gaps < 100 * unit
    unit = float(gaps[near].sum() / max(1, np.round(gaps[near] / unit).sum()))  # more precisely
    if not unit > 0:
        return False
    place = np.cumsum(gaps)
    return bool(np.all(np.abs(place / unit - np.cumsum(np.round(gaps / unit))) < 1 / 8))


def _rounding(rows: np.ndarray) -> float:
    return float(np.finfo(rows.dtype).eps) if rows.dtype.kind == "f" else 0.0


def data_warnings(space: AbstractSpace, rows: Any) -> list[str]:
    """Sentences on why a density on `space` says little of `rows`; empty if nothing is wrong.

    On spaces with Lebesgue measure, it finds data that are all whole numbers, columns with few or repeated values, rows
    that repeat others, columns that follow from others, and rows at the ends of the space. If there are more than 2**18
    numbers, it looks at evenly spaced rows. Unknown entries are nan.

    It does not find

    - a column that follows from several others by an equation other than a polynomial of degree 3, such as an angle
      beside the coordinates;
    - an equation with noise or rounding above about 1e-5 of the columns' spread;
    - columns that are tied in only some of the rows, unless they differ by one number there;
    - values that repeat in fewer than 0.5% of the rows.
    """
    if not space.measure.is_continuous:
        return []
    some = _some_rows(rows, _NUM_CHECKED)
    is_real = space.real_entries
    whole = _whole_numbers(space, some if is_real.all() else some[:, is_real])
    if whole is not None:
        return [whole]
    found = [_at_ends(space, some)]
    if len(some) >= _ENOUGH_ROWS:
        flat = some.reshape(len(some), -1)
        # A repeated row does not make its columns discrete. With a single column, repeats are of values, not rows.
        different = without_repeats(flat) if flat.shape[1] > 1 else flat
        discrete = discrete_columns(different, is_real.reshape(-1))
        found += [_discrete_columns(different, discrete), _repeated_rows(flat, different)]
        if is_real.all() and space.dimension == space.size:  # else the space itself ties entries to each other
            found += [_determined_columns(different, discrete)]
    return [sentence for sentence in found if sentence is not None]


def warn_of_data(space: AbstractSpace, rows: Any, stacklevel: int) -> list[str]:
    """Returns `data_warnings`, and issues each of them as an `UnboundedDensityWarning`."""
    found = data_warnings(space, rows)
    for sentence in found:
        warnings.warn(sentence, UnboundedDensityWarning, stacklevel=stacklevel + 1)
    return found


def smallest_gaps(rows: Any) -> np.ndarray:
    """The smallest distance between two different values of each column, `[*shape]`; infinite if there is only one.

    Numbers that differ only by rounding count as one value. The distance is tiny for continuous columns; for rounded
    columns it is the unit of rounding. If there are more than 2**22 numbers, it looks at evenly spaced rows.
    """
    some = _some_rows(rows, _NUM_SORTED)
    rounding = np.finfo(some.dtype).eps if some.dtype.kind == "f" else 0
    ordered = np.sort(some.astype(np.float64), axis=0)  # with nan last
    gaps = np.diff(ordered, axis=0)
    sizes = np.maximum(np.abs(ordered[1:]), np.abs(ordered[:-1]))
    differ = gaps > 4 * rounding * sizes
    smallest = np.min(gaps, axis=0, initial=np.inf, where=differ)
    # If most neighbours differ only by rounding, as in clusters far from zero, the column has no coarser unit.
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
    if some.dtype.kind == "f":
        some = some[~np.isnan(some)]
        if (some != np.floor(some)).any():
            return None
    num = len(np.unique(some))
    if not 2 <= num <= some.size // _MANY:
        return None
    return (
        f"The data are whole numbers, {num} different ones, and {space} has densities: a density at whole "
        "numbers can grow without bound, so that its nats mean nothing. Add uniform noise "
        "(`lnz.latent.Dequantised(flow, space)`), or use a likelihood of bits, categories or counts."
    )


def without_repeats(rows: np.ndarray) -> np.ndarray:
    """The different rows of `[n, d]`. Unknown entries (nan) are equal; rows with at most one known entry all stay."""
    is_unknown = np.isnan(rows) if rows.dtype.kind == "f" else np.zeros(rows.shape, bool)
    if not is_unknown.any():
        return np.unique(rows, axis=0)
    is_row = np.sum(~is_unknown, axis=1) > 1
    told_apart = np.concatenate([np.where(is_unknown, 0, rows), is_unknown[:, is_unknown.any(axis=0)]], axis=1)[is_row]
    return np.concatenate([rows[is_row][np.unique(told_apart, axis=0, return_index=True)[1]], rows[~is_row]])


def discrete_columns(rows: np.ndarray, among: np.ndarray | None = None) -> dict[int, str]:
    """The columns of `[n, d]`, or of those `among [d]`, that have no density, each with the reason in a few words."""
    found: dict[int, str] = {}
    for index in range(rows.shape[1]) if among is None else np.flatnonzero(among).tolist():
        column = rows[:, index]
        known = column[~np.isnan(column)] if column.dtype.kind == "f" else column
        why = (describe_atoms(known) or describe_small_atoms(known)) if len(known) else None
        if why is not None:
            found[index] = why
    return found


def _discrete_columns(different: np.ndarray, found: dict[int, str]) -> str | None:
    if not found:
        return None
    words = ", ".join(f"column {index} has {why}" for index, why in list(found.items())[:3])
    more = f", and so on for {len(found) - 3} more" if len(found) > 3 else ""
    remedy = "Leave such columns out, or add uniform noise as wide as their steps."
    return f"Of {len(different)} different rows, {words}{more}: {_REMEDY}. {remedy}"


def _repeated_rows(rows: np.ndarray, different: np.ndarray) -> str | None:
    num = len(rows) - len(different)
    if num < _FEW_ROWS or num <= _LARGE_SHARE * len(rows):
        return None
    return f"{num} of {len(rows)} rows repeat another one: {_REMEDY}. Remove the repeated rows."


def _determined_columns(different: np.ndarray, discrete: Collection[int]) -> str | None:
    words = describe_tied_columns(different, discrete)
    if words is None:
        return None
    return f"{words[0].upper()}{words[1:]}: {_REMEDY}. Leave one of these columns out."


def describe_tied_columns(
    rows: np.ndarray, discrete: Collection[int], name_of: Callable[[int], str] = "column {}".format
) -> str | None:
    """Names columns of `[n, d]` that follow from others, in a few words; `None` if none were found.

    The rows then lie on a surface, on which a density is unbounded. It finds

    - smooth functions of one column, such as its square or its logarithm, if the rows lie close enough;
    - linear functions of several columns, such as percentages that add up to 100;
    - polynomial equations of degree 3, such as between cosine and sine of one angle, or in unit vectors, ratios or a
      maximum. The degree is 2 for more than 10 columns, or fewer than four rows for each monomial; more than 23 columns
      are not searched;
    - pairs of columns that differ by the same number in more than 2% of the rows.

    **Arguments:**

    - `rows`: no row may repeat another. Unknown entries are nan.
    - `discrete`: columns without a density of their own, which only the first two searches include.
    """
    wide, rounding = rows.astype(np.float64), _rounding(rows)
    wide[~np.isfinite(wide)] = np.nan
    if (pair := _function_of_one(wide, rounding)) is not None:
        return f"{name_of(pair[0])} follows from {name_of(pair[1])}"
    if (column := _linear_function(wide, rounding)) is not None:
        return f"{name_of(column)} follows from the columns before it"
    others = np.array([column for column in range(wide.shape[1]) if column not in discrete], int)
    if tied := _equation(wide, rounding, others):
        names = [name_of(column) for column in tied]
        return f"{', '.join(names[:-1])} and {names[-1]} fulfil one equation"
    if (found := _equal_columns(wide, rounding, others)) is not None:
        first, second, shift, num = found
        relation = f"equals {name_of(first)}" if shift == 0 else f"is {name_of(first)} plus {shift:g}"
        return f"{name_of(second)} {relation} in {num} of {len(wide)} rows"
    return None


def _function_of_one(rows: np.ndarray, rounding: float) -> tuple[int, int] | None:
    """A column and the one it follows from: interpolates each row between its neighbours in the other's order."""
    num = rows.shape[1]
    if not 2 <= num <= _MOST_PAIRED:
        return None
    rows = rows[:: -(-len(rows) // min(_NUM_PAIRED // num, _NUM_PAIRS // num**2))]
    rows = np.random.RandomState(0).permutation(rows)  # ties in one column must not be in the order of another
    columns = np.flatnonzero(np.sum(~np.isnan(rows), axis=0) >= _ENOUGH_ROWS)
    if len(columns) < 2:
        return None
    rows = rows[:, columns]
    low, middle, high = np.nanquantile(rows, [0.25, 0.5, 0.75], axis=0)
    width = np.where(high > low, high - low, np.nan)
    noise = 8 * rounding * np.abs(middle) / width
    for number, by in enumerate(rows.T):
        known = ~np.isnan(by)
        ordered = rows[known][np.argsort(by[known], kind="stable")]
        before, here, after = ordered[:-2], ordered[1:-1], ordered[2:]
        span = (after - before)[:, number]
        share = np.where(span > 0, (here - before)[:, number] / np.where(span > 0, span, 1), 0.5)
        error = np.abs(here - before - share[:, None] * (after - before))
        enough = np.sum(~np.isnan(error), axis=0) >= _ENOUGH_ROWS - 2
        enough[number] = False
        if not enough.any():
            continue
        typical = np.nanmedian(error[:, enough], axis=0) / width[enough]
        limit = np.clip(np.fmax(noise[enough], noise[number]), _DETERMINED_BY_ONE, 1e-2)
        bad = np.flatnonzero(enough)[typical < limit]
        if len(bad):
            return int(columns[bad[0]]), int(columns[number])
    return None


def _in_quartiles(rows: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns that vary, in quartile distances from their medians; rows with unknown or far-out values are left out.

    Returns the columns, their numbers, and the rounding of their values in this unit.
    """
    rows = rows[~np.isnan(rows).any(axis=1)]
    if not len(rows):
        return np.zeros((0, 0)), np.zeros(0, int), np.zeros(0)
    columns = np.flatnonzero(np.ptp(rows, axis=0) > 0)
    rows = rows[:, columns]
    low, middle, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    width = np.where(high > low, high - low, np.std(rows, axis=0))
    scaled = (rows - middle) / width
    scaled = scaled[(np.abs(scaled) <= _FAR_OUT).all(axis=1)]
    largest = np.max(np.abs(scaled), axis=0, initial=0)
    return scaled, columns, rounding * (np.abs(middle) / width + largest)


def _linear_function(rows: np.ndarray, rounding: float) -> int | None:
    scaled, columns, noise = _in_quartiles(rows, rounding)
    num, num_columns = scaled.shape
    if num_columns < 2 or num < max(_ENOUGH_ROWS, num_columns + 2):
        return None
    centred = scaled - scaled.mean(axis=0)
    sd = np.sqrt((centred**2).mean(axis=0))
    if not np.all(sd > 0):
        return None
    rest = np.abs(np.diagonal(np.linalg.qr(centred / sd, mode="r"))) / np.sqrt(num)
    bad = np.flatnonzero(rest < np.clip(8 * np.max(noise / sd), _DETERMINED_BY_MANY, 1e-2))
    return int(columns[bad[0]]) if len(bad) else None


def _equation(rows: np.ndarray, rounding: float, among: np.ndarray) -> list[int]:
    """The fewest columns that a polynomial equation ties together; empty if there is no equation."""
    scaled, columns, noise = _in_quartiles(rows[:, among], rounding)
    if not _are_tied(scaled, noise):
        return []
    kept = list(range(len(columns)))
    for column in reversed(range(len(columns))):
        fewer = [other for other in kept if other != column]
        if _are_tied(scaled[:, fewer], noise[fewer]):
            kept = fewer
    return among[columns[kept]].tolist()


def _are_tied(scaled: np.ndarray, noise: np.ndarray) -> bool:
    """Whether some polynomial vanishes on all rows, for another reason than that they lie in a few clusters."""
    num, num_columns = scaled.shape
    degree = next((degree for degree in (3, 2) if _is_affordable(num, num_columns, degree)), 0)
    if num_columns < 2 or not degree:
        return False
    num_used = max(_NUM_TIED, _ROWS_PER_MONOMIAL * math.comb(num_columns + degree, degree))
    some = scaled[:: -(-num // num_used)]
    # In principal axes, where columns that are nearly proportional are not nearly equal.
    some = some - some.mean(axis=0)
    variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(some, rowvar=False)))
    if not variances[0] > 0:
        return False
    rounding = 2 * np.max(noise) / np.sqrt(variances[0])
    if rounding > _COARSE:
        return False
    some = some @ axes / np.sqrt(variances)
    table = _monomials(some, degree)
    table /= np.sqrt((table**2).mean(axis=0))
    triangle = np.linalg.qr(table / np.sqrt(len(table)), mode="r")
    if np.min(np.abs(np.diagonal(triangle))) > _COARSE:  # an upper bound on the smallest singular value
        return False
    _, sizes, combinations = np.linalg.svd(triangle)
    is_small = sizes[-1] <= max(rounding, _DETERMINED_BY_MANY)
    return bool(is_small and np.median(np.abs(table @ combinations[-1])) < _CLOSER * _distance_between(some))


def _is_affordable(num: int, num_columns: int, degree: int) -> bool:
    num_monomials = math.comb(num_columns + degree, degree)
    return num_monomials <= _MOST_MONOMIALS and num >= max(_ENOUGH_ROWS, _ROWS_PER_MONOMIAL * num_monomials)


def _monomials(rows: np.ndarray, degree: int) -> np.ndarray:
    """All products of up to `degree` columns, in ascending degree."""
    chosen = [
        choice
        for size in range(degree + 1)
        for choice in itertools.combinations_with_replacement(range(rows.shape[1]), size)
    ]
    return np.stack([np.prod(rows[:, list(choice)], axis=1) for choice in chosen], axis=1)


def _distance_between(rows: np.ndarray) -> float:
    """The median distance of a row from its nearest neighbour."""
    some = rows[:: -(-len(rows) // _NUM_NEIGHBOURS)]
    squares = np.sum(some**2, axis=1)
    distances = squares[:, None] + squares - 2 * some @ some.T
    np.fill_diagonal(distances, np.inf)
    return float(np.sqrt(np.median(np.maximum(distances.min(axis=1), 0))))


def _equal_columns(rows: np.ndarray, rounding: float, among: np.ndarray) -> tuple[int, int, float, int] | None:
    """Two columns that differ by one number in many rows: both, second minus first, and the number of such rows."""
    if not 2 <= len(among) <= _MOST_PAIRED:
        return None
    step = -(-len(rows) // max(_ENOUGH_ROWS, _NUM_DIFFERENCES // math.comb(len(among), 2)))
    some, eps = rows[::step], 8 * max(rounding, float(np.finfo(np.float64).eps))
    sizes = np.abs(some)
    for first, second in itertools.combinations(among.tolist(), 2):
        differences, size = some[:, second] - some[:, first], np.maximum(sizes[:, first], sizes[:, second])
        is_known = ~np.isnan(differences)
        differences, size = differences[is_known], size[is_known]
        unit = eps * np.max(size, initial=0)
        if len(differences) < _ENOUGH_ROWS or not unit > 0:
            continue
        values, places, counts = np.unique(np.round(differences / unit), return_inverse=True, return_counts=True)
        most = int(np.argmax(counts))
        shift = 0.0 if values[most] == 0 else float(np.median(differences[places.reshape(-1) == most]))
        # Each row has its own tolerance. With one for all rows, set by the largest numbers of a heavy tail, all small
        # numbers would count as equal.
        num = int(np.sum(np.abs(differences - shift) <= eps * np.maximum(size, abs(shift))))
        if num > _LARGE_SHARE * len(differences) and _is_excessive(counts)[most]:
            return first, second, float(f"{shift:.6g}"), num * step
    return None


def _at_ends(space: AbstractSpace, some: np.ndarray) -> str | None:
    floats = some if some.dtype.kind == "f" else some.astype(np.float64)
    is_inside = np.asarray(space.elements_within(floats))
    at_end = np.zeros(is_inside.shape, bool)
    for beyond in (-np.inf, np.inf):
        at_end |= is_inside & ~np.asarray(space.elements_within(np.nextafter(floats, floats.dtype.type(beyond))))
    num = int((at_end & space.real_entries).reshape(len(some), -1).any(axis=1).sum())
    if not num:
        return None
    return (
        f"{num} of {len(some)} rows have a value exactly at an end of {space}: {_REMEDY}. Remove these rows, or take a "
        "wider space."
    )
