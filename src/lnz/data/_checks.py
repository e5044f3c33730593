"""What every reader checks, and how it says so: one sentence with the file, the place and what to try."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .._mapped import forget_pages

_BLOCK_BYTES = 2**23


class Refusal(ValueError):
    """A file that was refused in our own words; readers pass it through and translate everything else."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged bytes into one sentence that names the file."""
    try:
        yield
    except (Refusal, ImportError, FileNotFoundError, PermissionError):
        raise
    # Broad on purpose: what decoders raise on hostile bytes (struct.error, KeyError, zlib.error, ...) is documented
    # for none of them, and differs between versions.
    except Exception as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise Refusal(
            f"`{path}` cannot be read as {kind} ({reason}): it may be damaged or cut off; "
            "try to fetch or write it again."
        ) from error


def missing_extra(what: str) -> str:
    return f'{what} needs `pip install "lnz[app]"`.'


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The number of its first row and a block of rows, for blocks of a few megabytes, as views."""
    num_rows = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), num_rows):
        yield start, array[start : start + num_rows]
        forget_pages(array)


def place(row: int, column: int, columns: Sequence[str] | None = None) -> str:
    """`row 3, column 2 ("height")`."""
    return f"row {row}, column {column}" + (f' ("{columns[column]}")' if columns else "")


def check_kind(shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    """Refuse what is no table of real numbers, before any of it is read."""
    if dtype.hasobject:
        raise Refusal(f"{where} holds Python objects, which are never unpickled here: save it as plain numbers.")
    if dtype.kind not in "biuf":
        raise Refusal(f"{where} must hold real numbers; got dtype {dtype}: convert it to float32 or uint8 first.")
    if len(shape) < 2:
        raise Refusal(
            f"{where} must have examples in rows, shape (n, d); got shape {short(shape)}: "
            "try `reshape(-1, 1)` for numbers, `reshape(1, -1)` for a single example."
        )
    if 0 in shape:
        raise Refusal(f"{where} is empty: it has shape {short(shape)}, and at least one row and one column are needed.")


def check_finite(x: np.ndarray, where: str, columns: Sequence[str] | None = None, first_row: int = 0) -> None:
    """Refuse missing (nan) and infinite values in rows `[n, d]`."""
    if x.dtype.kind != "f":
        return
    for start, block in blocks(x):
        bad = ~np.isfinite(block)
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            missing_value(block[row, column], where, place(first_row + start + row, column, columns))


def missing_value(value: object, where: str, spot: str) -> None:
    what = "an infinite value" if value in (np.inf, -np.inf) else "a missing value"
    raise Refusal(
        f"{where} has {what} ({value}) at {spot}, but every value must be a finite number: "
        "remove or fill in such rows or columns."
    )


def check_varies(x: np.ndarray, where: str, columns: Sequence[str] | None = None) -> None:
    """Refuse a column that is constant over the training rows of continuous data, whose density has no upper bound.

    So is one whose values differ by less than float32 can hold.
    """
    varies = np.zeros(x.shape[1], bool)
    for _, block in blocks(x):
        with np.errstate(over="ignore"):
            varies |= (np.abs(block - x[0]) > np.finfo(np.float32).tiny).any(axis=0)
        if varies.all():
            return
    column = int(np.argmin(varies))
    name = f' ("{columns[column]}")' if columns else ""
    raise Refusal(
        f"{where} has the same value {x[0, column]} in all {len(x)} training rows of column {column}{name}, where a "
        "density of continuous data has no upper bound: remove the column, add noise to it, or save grey values as "
        "uint8."
    )


def short(shape: tuple[int, ...]) -> str:
    """A shape for a message; damaged headers claim very long ones."""
    text = str(shape)
    return text if len(text) <= 60 else text[:60] + "...)"


def tidy(text: str, limit: int = 40) -> str:
    """Text of a file for a message: no line breaks or control characters, not too long."""
    text = re.sub(r"[\x00-\x1f\x7f]", "?", text)
    return repr(text if len(text) <= limit else text[:limit] + "...")
