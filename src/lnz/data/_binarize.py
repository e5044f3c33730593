"""Turns grey values into bits, and checks that data are bits."""

from collections.abc import Iterable

import numpy as np

from ..spaces import AbstractSpace
from ._checks import UNNAMED, Cells, Refusal, blocks
from ._options import Options
from ._rows import are_bits, are_unit
from ._splits import Splits


def full_scale(space: AbstractSpace) -> int:
    """The value that counts as 1: 255 for bytes, 1 for floats and bits."""
    return (space.num_values or 2) - 1


def to_bits(
    x: np.ndarray, scale: int, options: Options, where: str, cells: Cells = UNNAMED, first_row: int = 0
) -> np.ndarray:
    """Rows of values between 0 and `scale` as `uint8` zeros and ones. The bits of a row depend on that row alone."""
    bits = np.empty(x.shape, np.uint8)
    for start, block in blocks(x):
        if scale == 1:
            _check_unit(block, where, cells, first_row + start)
        if options.binarize == "threshold":
            bits[start : start + len(block)] = block >= options.threshold * scale
            continue
        num = max(1, _NUM_DRAWN // max(1, block[:1].size))
        for at in range(0, len(block), num):
            p = block[at : at + num] / scale
            bits[start + at : start + at + len(p)] = _uniform_of(p, options.seed) < p
    return bits


_NUM_DRAWN = 2**18  # numbers drawn at a time


def _uniform_of(rows: np.ndarray, seed: int) -> np.ndarray:
    """Numbers between 0 and 1 for rows `[n, d]` of floats, by SplitMix64, started from the seed and the row.

    Source: Steele, Lea and Flood (2014), section 3.
    """
    words = np.ascontiguousarray(rows + 0.0, "<f8").view(np.uint64)  # the sum turns -0.0 into 0.0
    state = _mixed(np.full(len(words), seed + 1, np.uint64))
    for column in words.T:
        state = _mixed((state ^ column) + _GAMMA)
    index = np.arange(1, words.shape[1] + 1, dtype=np.uint64)
    return (_mixed(state[:, None] + _GAMMA * index) >> np.uint64(11)) * 2.0**-53


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mixed(z: np.ndarray) -> np.ndarray:
    """A one-to-one map of 64 bits, in which each bit affects about half of the result; arithmetic is modulo `2**64`."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _check_unit(x: np.ndarray, where: str, cells: Cells, first_row: int) -> None:
    bad = ~are_unit(x)
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        advice = (
            "divide by the largest value" if x.min() >= 0 else "subtract the lowest value, then divide by the highest"
        )
        raise Refusal(
            f"{where} has the value {x[row, column]} at {cells.place(first_row + row, column)}, but floats must lie "
            f"between 0 and 1 to be binarized: {advice}, or save grey values as uint8."
        )


def in_words(scale: int, options: Options) -> str:
    """How `to_bits` makes bits, in words for the protocol."""
    if options.binarize == "threshold":
        of_scale = f" ({options.threshold} of {scale})" if scale != 1 else ""
        return f"binary where the value is at least {options.threshold * scale:g}{of_scale}"
    probability = f"value / {scale}" if scale != 1 else "the value"
    return f"bits drawn once with probability {probability} (seed {options.seed}), equal ones for equal rows"


# If no byte is above this, the full scale is something smaller than 255, such as 16 in scikit-learn's digits.
_DIM = 31


def check_scale(arrays: Iterable[np.ndarray], where: str, options: Options) -> None:
    """**Raises:** `ValueError` if no byte is above 31, so that the full scale is not 255; not if all are 0."""
    largest = 0
    for array in arrays:
        for _, block in blocks(array):
            largest = max(largest, int(block.max(initial=0)))
            if largest > _DIM:
                return
    if not largest:
        return
    raise Refusal(
        f"{where} has no byte above {largest}, but `binarize={options.binarize!r}` takes 255 as their full scale: save "
        f"them as floats, divided by {max(largest, 1)} or whatever their full scale is, or as true and false if they "
        "are bits (images: leave out `binarize`)."
    )


def check_both(bits: np.ndarray, where: str, largest: float | None, options: Options) -> None:
    """**Raises:** `ValueError` if the bits of the training rows are all 0 or all 1, so that nothing can be learnt.

    `largest` is the largest grey value that they were made from, if it is known.
    """
    has_ones = has_zeros = False
    for _, block in blocks(bits):
        has_ones, has_zeros = has_ones or bool(block.any()), has_zeros or not block.all()
        if has_ones and has_zeros:
            return
    of = "" if largest is None else f" (the largest value is {largest:g})"
    at = f", threshold={options.threshold:g}" if options.binarize == "threshold" else ""
    raise Refusal(
        f"{where} has only the bit {int(has_ones)} in all {len(bits)} training rows after "
        f"`binarize={options.binarize!r}{at}`{of}: choose another threshold, scale the values, or leave out `binarize` "
        "if they are bits."
    )


def binarize_splits(splits: Splits, options: Options) -> tuple[list[np.ndarray], str]:
    """The three parts of a named set as bits, and how they were made, in words."""
    scale = full_scale(splits.space)
    parts = [
        to_bits(part, scale, options, f"`{splits.name}` (part `{name}`)", Cells(splits.columns))
        for name, part in _parts(splits)
    ]
    return parts, in_words(scale, options)


def require_binary(splits: Splits) -> Splits:
    """Returns `splits` if they are binary, for models that need zeros and ones.

    **Raises:** `ValueError` otherwise, naming the first other value and how to turn such data into bits.
    """
    if splits.space.num_values == 2:
        return splits
    found = f"lives in {splits.space}"
    for name, part in _parts(splits):
        spot = _first_other(part, Cells(splits.columns))
        if spot:
            found = f"has the value {spot} of `{name}`"
            break
    raise ValueError(
        f"This model needs 0 and 1, but `{splits.name}` {found}: try data.binarize=threshold or data.binarize=sample "
        f"(`--set data.binarize=threshold` on the command line, "
        f'`lnz.data.load(..., binarize="threshold")` in Python).'
    )


def _parts(splits: Splits) -> list[tuple[str, np.ndarray]]:
    return [("train", splits.train), ("valid", splits.valid), ("test", splits.test)]


def _first_other(x: np.ndarray, cells: Cells) -> str | None:
    for start, block in blocks(x):
        bad = ~are_bits(block)
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            return f"{block[row, column]} at {cells.place(start + row, column)}"
    return None
