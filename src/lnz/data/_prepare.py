"""Turns the arrays of a file into three parts of rows in a space."""

import dataclasses
import itertools

import numpy as np

from ..spaces import AbstractSpace, Binary
from ._binarize import check_both, check_scale, full_scale, in_words, to_bits
from ._checks import Refusal, check_finite, check_kind, check_varies
from ._contents import PARTS, Contents
from ._options import Options
from ._rows import are_unit, check_size, infer_space, layout, stored_dtype, within
from ._splits import Splits, shuffled

_FEWEST_COUNTED, _MOST_COUNTED = 5, 1000  # rows looked at
MAX_HELD_OUT = 10_000  # rows of a mapped file for each of valid and test, which are copied to memory


@dataclasses.dataclass(frozen=True)
class Typed:
    """Rows of all parts, and their space."""

    space: AbstractSpace
    rows: dict[str, np.ndarray]
    image_shape: tuple[int, int] | None
    notes: tuple[str, ...]
    observed: dict[str, np.ndarray] | None = None


def typed_rows(contents: Contents, options: Options) -> Typed:
    """Checks, flattens and converts the arrays of a file, with zeros for missing entries."""
    path, cells = f"`{contents.path}`", contents.cells
    first = contents.arrays["train"]
    rows: dict[str, np.ndarray] = {}
    observed: dict[str, np.ndarray] = {}
    for part, x in contents.arrays.items():
        where = contents.where(part)
        check_kind(x.shape, x.dtype, where)
        if x.shape[1:] != first.shape[1:]:
            raise Refusal(f"{where} has examples of shape {x.shape[1:]}, but those of `train` have {first.shape[1:]}.")
        rows[part] = x.reshape(len(x), -1)
        if options.missing == "mask":
            rows[part], observed[part] = _without_missing(rows[part])
        if not contents.is_mapped:
            check_finite(rows[part], where, cells)
            check_size(rows[part], where, cells)
    arrays = list(rows.values())
    counted = _counted(contents)
    image_shape, notes = layout(first.shape, first.dtype, lambda: within(arrays, are_unit), path)
    binarize = "none" if contents.is_mapped else options.binarize  # mapped arrays were made into bits already
    space = infer_space(arrays, path, binarize, contents.are_pixels)
    if not contents.is_mapped:
        dtype = stored_dtype(space, np.result_type(*arrays))
        rows = {part: x.astype(dtype, copy=False) for part, x in rows.items()}
    typed = Typed(space, rows, image_shape, contents.notes + notes + counted)
    if all(known.all() for known in observed.values()):
        return typed
    known = np.mean(np.concatenate([known.reshape(-1) for known in observed.values()]))
    note = f"{1 - known:.2%} of entries missing"
    _check_some_known(observed["train"], contents)
    return dataclasses.replace(typed, observed=observed, notes=(*typed.notes, note))


def _counted(contents: Contents) -> tuple[str, ...]:
    """A note on a first column that counts the rows from 0 or 1."""
    x = contents.arrays["train"]
    if x.ndim != 2 or x.shape[1] < 2 or len(x) < _FEWEST_COUNTED:
        return ()
    column = x[:_MOST_COUNTED, 0].astype(np.float64)
    if column[0] not in (0, 1) or not np.array_equal(column, column[0] + np.arange(len(column))):
        return ()
    return (f"{contents.cells.column(0)} counts the rows from {column[0]:g}: leave it out if it is an index",)


def _without_missing(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with zeros in place of nan, and the mask of known entries."""
    if x.dtype.kind != "f":
        return x, np.ones(x.shape, bool)
    known = ~np.isnan(x)
    return (x if known.all() else np.where(known, x, np.zeros((), x.dtype))), known


def _check_some_known(observed: np.ndarray, contents: Contents) -> None:
    unknown = np.flatnonzero(~observed.any(axis=0))
    if len(unknown):
        column = contents.cells.column(int(unknown[0]))
        raise Refusal(f"{contents.where('train')} has no known value at all in {column}: remove the column.")


def split(contents: Contents, options: Options) -> Splits:
    """Rows of a file in three parts, as bits if that was asked for. The protocol says all that was done."""
    typed = typed_rows(contents, options)
    wants_bits = options.binarize != "none"
    if wants_bits and contents.are_pixels:
        check_scale(typed.rows.values(), f"`{contents.path}`", options)
    typed = as_bits(typed, contents, options)
    name, num, shape = contents.path.name, sum(map(len, typed.rows.values())), typed.image_shape
    parts, labels, how = (_contiguous if contents.is_mapped else _completed)(typed.rows, contents, options)
    train, valid, test = (parts[part] for part in PARTS)
    if wants_bits:
        largest = None if contents.is_mapped else max(float(x.max()) for x in contents.arrays.values())
        check_both(train, contents.where("train"), largest, options)
    if typed.space.measure.is_continuous:
        check_varies(train, contents.where("train"), contents.cells)
    what = f"images of {shape[0]} x {shape[1]}" if shape else f"rows of {typed.space.size} columns"
    sizes = f"{len(train)} train / {len(valid)} valid / {len(test)} test"
    protocol = ", ".join([f"{name}: {num} {what}", f"{how}: {sizes}", *typed.notes])
    triple = (labels["train"], labels["valid"], labels["test"]) if labels else None
    splits = Splits(name, typed.space, train, valid, test, shape, protocol, triple)
    if typed.observed is not None:
        known, _, _ = _completed(typed.observed, contents, options)
        splits = dataclasses.replace(splits, observed=(known["train"], known["valid"], known["test"]))
    lengths = {part: len(x) for part, x in typed.rows.items()}
    ends = itertools.accumulate(lengths.values())
    of_file = {part: np.arange(end - size, end) for (part, size), end in zip(lengths.items(), ends, strict=True)}
    in_test = (_contiguous if contents.is_mapped else _completed)(of_file, contents, options)[0]["test"]
    cells = contents.cells.of_parts(lengths).chosen(in_test)
    return dataclasses.replace(splits, label_names=contents.label_names, columns=contents.columns, cells=cells)


def as_bits(typed: Typed, contents: Contents, options: Options) -> Typed:
    """Rows as bits, if that was asked for and they are not bits yet.

    **Raises:** `ValueError` for bytes with a full scale below 255. Image files may be dark.
    """
    if options.binarize != "none" and not contents.are_pixels and (typed.space.num_values or 0) > 2:
        check_scale(typed.rows.values(), f"`{contents.path}`", options)
    if contents.grey is not None:
        check_scale(contents.grey(), f"`{contents.path}`", options)
    if options.binarize == "none" or typed.space.num_values == 2:
        return typed
    scale = full_scale(typed.space)
    rows = {part: to_bits(x, scale, options, contents.where(part), contents.cells) for part, x in typed.rows.items()}
    notes = (*typed.notes, in_words(scale, options))
    return Typed(Binary(typed.space.shape), rows, typed.image_shape, notes, typed.observed)


_Parts = tuple[dict[str, np.ndarray], dict[str, np.ndarray], str]


def _completed(rows: dict[str, np.ndarray], contents: Contents, options: Options) -> _Parts:
    """Splits the parts that a file lacks off its training part."""
    missing = [part for part in PARTS if part not in rows]
    labels = dict(contents.labels)
    if not missing:
        return rows, labels, "split as in the file"
    num_valid, num_test = _sizes(len(rows["train"]), missing, contents, options)
    order: dict[str, np.ndarray] = dict(
        zip(PARTS, shuffled(len(rows["train"]), num_valid, num_test, options.seed), strict=True)
    )
    result = dict(rows) | {part: rows["train"][order[part]] for part in ("train", *missing)}
    if labels:
        labels |= {part: contents.labels["train"][order[part]] for part in ("train", *missing)}
    if len(missing) == 2:
        return result, labels, f"shuffled and split with seed {options.seed}"
    return result, labels, f"{missing[0]} split off train with seed {options.seed}, the rest as in the file"


def _contiguous(rows: dict[str, np.ndarray], contents: Contents, options: Options) -> _Parts:
    """Cuts a mapped file into blocks without shuffling: train is a view, valid and test are copies."""
    x = rows["train"]
    num_valid, num_test = (min(n, MAX_HELD_OUT) for n in _sizes(len(x), ["valid", "test"], contents, options))
    first_test = len(x) - num_test
    first_valid = first_test - num_valid
    parts = {
        "train": x[:first_valid],
        "valid": np.array(x[first_valid:first_test]),
        "test": np.array(x[first_test:]),
    }
    return parts, {}, "mapped from disk, rows not shuffled before the split, valid and test are its last rows"


def _sizes(num: int, missing: list[str], contents: Contents, options: Options) -> tuple[int, int]:
    fractions = {"valid": options.valid_fraction, "test": options.test_fraction}
    num_valid, num_test = (max(1, round(num * fractions[p])) if p in missing else 0 for p in ("valid", "test"))
    if num_valid + num_test >= num:
        raise Refusal(
            f"{contents.where('train')} has {num} {'row' if num == 1 else 'rows'}, too few to train on "
            f"beside {num_valid} for valid and {num_test} for test: use more rows or smaller fractions."
        )
    return num_valid, num_test
