"""Checks that the number type of a model resolves the data: differences between examples must survive the cast."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..modules import model_dtype
from ..spaces import AbstractSpace, has_ends, innermost

if TYPE_CHECKING:  # `_local` imports this module
    from ._local import Local

_STEPS = 1000  # steps of the number type that one standard deviation must have
_STEPS_NEAR = (
    250  # the same for neighbours: of many, the closest are closer than those in the middle of a normal column
)
_FEWEST = 4  # a column is judged as a whole from this many different values on
_NUM_NEIGHBOURS, _SHARE = 10, 0.01  # the spread of this many neighbours, or this share of a column, is judged
_SHARE_OF_DRAWS, _ENOUGH_DRAWS = 0.04, 20  # the spread of this share of the draws is judged, from so many draws on
# Steps required of a column with two or three values. These may be close by chance: about one in 10,000 columns of
# kelvin, 300 +- 1, is as close as this.
_STEPS_OF_FEW = {2: 4, 3: 400}
_NORMAL = 2.5  # width of a normal, in standard deviations, if it were as dense everywhere as in its middle
_OF_DISTANCE = 0.01  # this relative change of the distance to an end changes a log-density by about 0.01 nats


def check_resolved(
    space: AbstractSpace,
    rows: Any,
    model: "Local",
    argument: str = "data",
    by_gradient: bool = False,
    advice: str | None = None,
) -> None:
    """Refuse columns of numbers that the model's number type does not resolve, with a `ValueError`.

    A step is the distance between neighbouring numbers of the type. Columns are refused:

    - Far from zero, such as Unix seconds of 1.7e9 +- 60: the standard deviation is below 1000 steps at the mean.
    - In clusters far from each other: some neighbouring values (one percent of the different values, and at least ten)
      spread over fewer steps than in a normal column with a standard deviation of 250 steps.
    - Near an end of the space: in more than one percent of the rows the cast changes the distance to the end by more
      than one percent, or it rounds some row onto the end.

    Columns that the type holds exactly pass, such as whole numbers and columns stored in that type. With `by_gradient`
    they are refused too, because a parameter that moves by less than half a step stays in place.

    - `rows`: a selection of the rows `[n, *space.shape]`, in data coordinates; NaN for missing entries.
    - `advice`: what to try for columns far from zero, if a layer of the model does not help.
    """
    if not space.measure.is_continuous or not len(rows):
        return
    dtype = model_dtype(model.model)
    is_cut = not np.can_cast(rows.dtype, dtype, "safe")
    if not is_cut and not by_gradient:
        return
    rows = np.asarray(rows)
    wide = rows.astype(np.float64) - (0 if model.origin is None else model.origin)
    with np.errstate(over="ignore", under="ignore"):
        image = wide.astype(dtype)
    if is_cut:
        check_ends(space, rows, image, argument)
        _check_distances(space, wide, image, argument)
    cut = ((image.astype(np.float64) != wide) & ~np.isnan(wide)).any(axis=0)
    judged = ((cut | by_gradient) & space.real_entries).reshape(-1)
    wide = wide.reshape(len(wide), -1)
    origin = np.zeros(wide.shape[1]) if model.origin is None else model.origin.reshape(-1)
    found = _first_coarse(wide, origin, judged, dtype)
    if found is None:
        return
    if advice is None:
        advice = _advice_far_from_zero(space, model, *_column(wide, origin, found.column), dtype)
    if not by_gradient:
        advice += f" Where such small differences mean nothing, pass `{argument}.astype(np.{np.dtype(dtype)})`."
    name = _name_of(tuple(map(int, np.unravel_index(found.column, space.shape))))
    raise ValueError(
        f"`{argument}`: column {name} {found.words}, where {np.dtype(dtype)} has steps of {found.step:.2g}: too "
        f"coarse. {advice}"
    )


def coarse_draws(space: AbstractSpace, draws: Any, model: "Local") -> str | None:
    """A sentence about the first column of draws that the number type does not resolve, with advice; else `None`.

    It reports a column far from zero if the standard deviation is below 1000 steps of the number type at the mean; a
    column in clusters if 4% of the draws spread over fewer steps than in the middle of such a normal column; and a
    column near an end of the space if more than 1% of the draws are at the last number inside. Fewer than four draws
    give `None`.

    - `draws`: `[n, *space.shape]` in data coordinates; non-finite entries are skipped.
    """
    if not space.measure.is_continuous or len(draws) < _FEWEST:
        return None
    dtype, draws = model_dtype(model.model), np.array(draws, np.float64)
    draws[~np.isfinite(draws)] = np.nan
    wide = (draws - (0 if model.origin is None else model.origin)).reshape(len(draws), -1)
    origin = np.zeros(wide.shape[1]) if model.origin is None else model.origin.reshape(-1)
    found = _first_coarse(wide, origin, space.real_entries.reshape(-1), dtype, are_drawn=True)
    if (found is None or found.is_cluster) and (at_ends := _at_ends(space, draws, dtype)) is not None:
        return at_ends
    if found is None:
        return None
    advice = _advice_far_from_zero(space, model, *_column(wide, origin, found.column), dtype)
    name = _name_of(tuple(map(int, np.unravel_index(found.column, space.shape))))
    more = f" (and {found.num_others} more columns)" if found.num_others else ""
    return f"column {name}{more} {found.words}, where {np.dtype(dtype)} has steps of {found.step:.2g}. {advice}"


def _at_ends(space: AbstractSpace, draws: np.ndarray, dtype: Any) -> str | None:
    for part, _, first, _, image in _bounded(space, draws, draws.astype(dtype)):
        low, high = _insides(part, dtype)
        share = ((image <= low) | (image >= high)).mean(axis=0)
        if np.max(share, initial=0) > _SHARE:
            column = np.unravel_index(int(np.argmax(share)), share.shape)
            num, name = round(float(share[column]) * len(draws)), (*map(int, column[:-1]), int(column[-1]) + first)
            return (
                f"{num} of {len(draws)} draws of column {_name_of(name)} lie at an end of {part}, or so near that "
                f"{np.dtype(dtype)} does not tell the difference. {_advice_at_ends(part)}"
            )
    return None


def check_ends(space: AbstractSpace, rows: np.ndarray, image: np.ndarray, argument: str, first_row: int = 0) -> None:
    """Refuse `rows` inside a space if their cast to another number type, `image`, cannot be told from an end of it.

    **Raises:** `ValueError`, naming row and column.
    """
    for part, ends, first, of_rows, of_image in _bounded(space, rows, image):
        low, high = _insides(part, image.dtype)
        inside = (of_rows > ends[0]) & (of_rows < ends[1])
        lost = inside & ((of_image < low) | (of_image > high))
        if lost.any():
            row, *column = np.argwhere(lost)[0].tolist()
            value = float(of_rows[(row, *column)])
            raise ValueError(
                f"`{argument}` has the value {value!r} at row {first_row + row}, column "
                f"{_name_of((*column[:-1], column[-1] + first) if column else ())}, which {image.dtype} does not tell "
                f"from an end of {part}. {_advice_at_ends(part)}{_or_rounded(part, argument)}"
            )


def other_rounding(rows: np.ndarray, image: np.ndarray) -> np.ndarray | None:
    """Round `rows` in the other direction than `image` does, to its neighbour; `None` if all of `image` is exact."""
    below, above = image < rows, image > rows
    if not (below | above).any():
        return None
    towards = np.where(below, np.inf, -np.inf).astype(image.dtype)
    return np.where(below | above, np.nextafter(image, towards), image)


def _check_distances(space: AbstractSpace, wide: np.ndarray, image: np.ndarray, argument: str) -> None:
    for part, ends, _, of_rows, of_image in _bounded(space, wide, image):
        for end in filter(math.isfinite, ends):
            distance = np.abs(of_rows - end)
            cast = np.abs(of_image - np.asarray(end, image.dtype)).astype(np.float64)
            changed = (np.abs(cast - distance) > _OF_DISTANCE * distance) & (distance > 0)
            num = int(changed.reshape(len(wide), -1).any(axis=1).sum())
            if num > _SHARE * len(wide):
                raise ValueError(
                    f"`{argument}`: {num} of {len(wide)} rows lie so near the end {end:g} of {part} that {image.dtype} "
                    "changes their distance by more than a hundredth. "
                    f"{_advice_at_ends(part)}{_or_rounded(part, argument)}"
                )


class _Coarse(NamedTuple):
    """An unresolved column (as a whole or in a cluster), with the reason and the step of the number type."""

    column: int
    words: str
    step: float
    num_others: int
    is_cluster: bool = False


def _first_coarse(
    wide: np.ndarray, origin: np.ndarray, judged: np.ndarray, dtype: Any, are_drawn: bool = False
) -> _Coarse | None:
    """The first column of `wide [n, columns]` that spreads over too few steps, as a whole or among neighbours.

    Data may have few different values, so repeated values count once. Draws from a density should all differ, so all
    of them count.
    """
    values, num = _in_order(wide) if are_drawn else _different(wide, origin)
    share, steps = (_SHARE_OF_DRAWS, _STEPS) if are_drawn else (_SHARE, _STEPS_NEAR)
    reach = np.minimum(num - 1, np.maximum(_NUM_NEIGHBOURS, np.ceil(share * num).astype(int)))
    if are_drawn:
        reach = np.where(num < _ENOUGH_DRAWS, 0, reach)
    last = np.arange(len(values))[:, None] + reach
    upper = np.take_along_axis(values, np.clip(last, 0, len(values) - 1), axis=0)
    step = _step(np.maximum(np.abs(values), np.abs(upper)), dtype)
    # The steps that these neighbours would cover in the middle of a normal column of `num` different values.
    needed = steps * _NORMAL * reach / np.maximum(num, 1)
    for few, least in () if are_drawn else _STEPS_OF_FEW.items():
        needed = np.where(num == few, least, needed)
    bad = (last < num) & (reach > 0) & judged & (upper - values < needed * step)
    size = np.maximum(np.sum(~np.isnan(wide), axis=0), 1)
    mean = np.nansum(wide, axis=0) / size
    sd = np.sqrt(np.nansum((wide - mean) ** 2, axis=0) / size)
    at_mean = _step(np.abs(mean), dtype)
    far = judged & ((size if are_drawn else num) >= _FEWEST) & (at_mean > sd / _STEPS)
    found = far | bad.any(axis=0)
    if not found.any():
        return None
    column, num_others = int(np.argmax(found)), int(found.sum()) - 1
    if far[column] or num[column] < _FEWEST:
        words = f"lies at {mean[column] + origin[column]:.10g} with a standard deviation of {sd[column]:.3g}"
        return _Coarse(column, words, float(at_mean[column]), num_others)
    first = int(np.argmax(bad[:, column]))
    low, width = values[first, column], upper[first, column] - values[first, column]
    what = "draws" if are_drawn else "different values"
    words = f"has {reach[column] + 1} {what} within {width:.3g} of {low + origin[column]:.10g}"
    return _Coarse(column, words, float(step[first, column]), num_others, is_cluster=True)


def _column(wide: np.ndarray, origin: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
    """One column minus its mean, `[n, 1]`, and the location of that mean in data coordinates."""
    mean = np.nanmean(wide[:, [column]], axis=0)
    return wide[:, [column]] - mean, origin[[column]] + mean


def _in_order(wide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted values of each column, followed by NaN, and their number."""
    return np.sort(wide, axis=0), np.sum(~np.isnan(wide), axis=0)


def _different(wide: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted different values of each column, followed by NaN, and their number.

    Values that differ only by rounding in float64 count as one.
    """
    ordered, _ = _in_order(wide)
    rounding = 4 * np.finfo(np.float64).eps * np.abs(ordered + origin)
    with np.errstate(invalid="ignore"):
        is_new = np.diff(ordered, axis=0) > rounding[1:]
    return _in_order(np.where(np.concatenate([~np.isnan(ordered[:1]), is_new]), ordered, np.nan))


def _step(size: np.ndarray, dtype: Any) -> np.ndarray:
    """The distance between neighbouring numbers of a type at numbers of this size."""
    info = jnp.finfo(dtype)
    return float(info.eps) * np.exp2(np.floor(np.log2(np.maximum(size, float(info.tiny)))))


def _bounded(space: AbstractSpace, *rows: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """Each part with ends of a space: the part, its ends, the index of its first variable, its columns of `rows`."""
    pieces = zip(*(space.split(array, -1) for array in rows), strict=True)
    first = 0
    for part, piece in zip(space.parts, pieces, strict=True):
        if has_ends(part):
            yield part, part.ends, first, *piece
        first += part.size


def _name_of(column: tuple[int, ...]) -> int | tuple[int, ...]:
    return column[0] if len(column) == 1 else column


def _insides(part: AbstractSpace, dtype: Any) -> tuple[float, float]:
    ends = part.ends or (-np.inf, np.inf)
    low, high = (inside if np.isfinite(end) else end for end, inside in zip(ends, innermost(*ends, dtype), strict=True))
    return low, high


def _advice_far_from_zero(
    space: AbstractSpace, model: "Local", centred: np.ndarray, mean: np.ndarray, dtype: Any
) -> str:
    if model.origin is not None or _first_coarse(centred, mean, np.ones(1, bool), dtype) is not None:
        return (
            "Shifting the column does not help, because its values lie in clusters far from each other: use the rows "
            "of one cluster, or turn on `jax_enable_x64`."
        )
    if has_ends(space):
        return "Subtract a constant from the column and from the ends of the space, or turn on `jax_enable_x64`."
    return (
        "End the model with `lnz.flows.standardise(data)`, such as `lnz.Transformed(base, lnz.bijections.Chain(flow, "
        "lnz.flows.standardise(data)))`, with the data in float64; or subtract a constant from the column."
        + (" `standardise` takes `observed` or a masked array, as this verb does." if np.isnan(centred).any() else "")
    )


def _advice_at_ends(part: AbstractSpace) -> str:
    if not _is_bounded(part):
        return "Rescale the column, model its logarithm, or turn on `jax_enable_x64`."
    return (
        "Use coordinates in which the end is far, such as `np.log(x - low) - np.log(high - x)`, or turn on "
        "`jax_enable_x64`."
    )


def _or_rounded(part: AbstractSpace, argument: str) -> str:
    return "" if not _is_bounded(part) else f" `{argument}.astype(np.float32)` takes the rounded values."


def _is_bounded(part: AbstractSpace) -> bool:
    return part.ends is not None and all(map(math.isfinite, part.ends))
