"""Grey values to bits, and the demand for bits."""

import numpy as np

from ..spaces import AbstractSpace, Binary, Categorical
from ._checks import UNNAMED, Cells, Refusal, blocks
from ._options import Options
from ._rows import are_bits, are_unit
from ._splits import Splits


def random_of(options: Options) -> np.random.RandomState:
    """The stream of `binarize="sample"`, apart from that of the split with the same seed."""
    return np.random.RandomState([options.seed, 1])


def full_scale(space: AbstractSpace) -> int:
    """The value that counts as 1: 255 for bytes, 1 for floats and bits."""
    return space.num_categories - 1 if isinstance(space, Categorical) else 1


def to_bits(
    x: np.ndarray,
    scale: int,
    options: Options,
    random: np.random.RandomState,
    where: str,
    cells: Cells = UNNAMED,
    first_row: int = 0,
) -> np.ndarray:
    """Rows of values between 0 and `scale` as zeros and ones of `uint8`; the draws go through rows in order."""
    bits = np.empty(x.shape, np.uint8)
    for start, block in blocks(x):
        if scale == 1:
            _check_unit(block, where, cells, first_row + start)
        if options.binarize == "threshold":
            bits[start : start + len(block)] = block >= options.threshold * scale
        else:
            bits[start : start + len(block)] = random.random_sample(block.shape) < block / scale
    return bits


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
    """What `to_bits` did, for the protocol."""
    if options.binarize == "threshold":
        of_scale = f" ({options.threshold} of {scale})" if scale != 1 else ""
        return f"binary where the value is at least {options.threshold * scale:g}{of_scale}"
    probability = f"value / {scale}" if scale != 1 else "the value"
    return f"bits drawn once with probability {probability} (seed {options.seed})"


def binarize_splits(splits: Splits, options: Options) -> tuple[list[np.ndarray], str]:
    """The three parts of a named set as bits, and what was done in words."""
    scale, random = full_scale(splits.space), random_of(options)
    parts = [
        to_bits(part, scale, options, random, f"`{splits.name}` (part `{name}`)", Cells(splits.columns))
        for name, part in _parts(splits)
    ]
    return parts, in_words(scale, options)


def require_binary(splits: Splits) -> Splits:
    """`splits`, if they are binary, for models that need zeros and ones.

    **Raises:** `ValueError` otherwise, naming the first other value and how to turn such data into bits.
    """
    if isinstance(splits.space, Binary):
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
