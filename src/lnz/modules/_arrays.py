"""Conversion of users' arrays, tables and lists to plain numbers, with errors that say how to repair the input.

Tables of pandas, polars and pyarrow, and sparse matrices of SciPy, are recognised by their attributes, so that none of
these packages is imported.
"""

import decimal
import numbers
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_KINDS = {
    "U": "text",
    "S": "text",
    "M": "dates",
    "m": "time differences",
    "c": "complex numbers",
    "V": "raw bytes",
}
_BITS = "true and false"
_LARGE = "whole numbers beyond 2**53, which floats round"
_REMEDIES = {
    "text": "text as whole numbers, one for each category (or `x.astype(float)` where it spells numbers)",
    "dates": "dates as seconds since the first, `(x - x.min()) / np.timedelta64(1, 's')`",
    "time differences": "time differences as seconds, `x / np.timedelta64(1, 's')`",
    "complex numbers": "complex numbers as two columns, `x.real` and `x.imag`",
    _BITS: "true and false as 0 and 1, `x.astype(float)`",
    _LARGE: "large numbers as differences from a constant",
}


def as_numbers(data: Any, argument: str = "data") -> np.ndarray | Array:
    """`data` as an array of booleans, whole or floating-point numbers in the byte order of this machine.

    Missing cells of tables and lists become nan. Types that NumPy lacks, such as bfloat16, are widened. JAX arrays stay
    on their device.

    **Raises:** `TypeError` or `ValueError`, naming `argument` and every bad column, for masked entries, sparse
    matrices, records, text, dates, and whole numbers that float64 would round.
    """
    if isinstance(data, jax.Array):
        return _native(data, argument)
    _refuse_strangers(data, argument)
    names = column_names(data)
    if names is not None:
        return _from_columns([_column_of(data, i) for i in range(len(names))], names, data, argument)
    data = _with_mask(data)
    if isinstance(data, np.ma.MaskedArray) and data.dtype.names is None:
        mask = np.ma.getmaskarray(data)
        if mask.any():
            raise ValueError(
                f"`{argument}` is a masked array with {int(mask.sum())} masked entries, the first at "
                f"{_place(np.argwhere(mask)[0])}, and would be used without its mask. Drop the rows that have them, "
                f"`{argument}[~np.ma.getmaskarray({argument}).any(axis=1)]`; or, where a verb takes `observed`, pass "
                f"`{argument}.data` and `observed=~{argument}.mask`."
            )
        data = data.data
    array = _read(data, argument)
    if array.dtype.names is not None:
        raise TypeError(_about_fields(array, argument))
    if array.dtype.kind == "O" and array.ndim:
        return _from_objects(array, data, argument)
    return _native(array, argument)


def unmasked(data: Any, observed: Any, argument: str = "data") -> tuple[Any, Any]:
    """Split a masked array into `data` and `observed`: its masked entries are unobserved.

    **Raises:** `ValueError` for a masked array together with `observed`.
    """
    data = _with_mask(data)
    if not isinstance(data, np.ma.MaskedArray) or data.dtype.names is not None or not np.ma.getmaskarray(data).any():
        return data, observed
    if observed is not None:
        raise ValueError(
            f"`{argument}` is a masked array and `observed` is given too. Pass one: the masked array alone, or "
            f"`{argument}.data` and `observed`."
        )
    return data.data, ~np.ma.getmaskarray(data)


def column_names(data: Any) -> list[Any] | None:
    """The names of the columns of a table, or `None` for anything else."""
    if isinstance(data, np.ndarray):
        return None
    if hasattr(data, "column_names") and hasattr(data, "to_pydict"):  # pyarrow
        return list(data.column_names)
    if hasattr(data, "columns") and hasattr(data, "dtypes") and hasattr(data, "to_numpy"):  # pandas and polars
        return list(data.columns)
    return None


def check_same_columns(data: Any, other: Any, argument: str = "data", other_argument: str = "observed") -> None:
    """Raise a `ValueError` for two tables with different names or orders of columns: columns are matched by place."""
    names, others = column_names(data), column_names(other)
    if names is None or others is None or names == others:
        return
    if set(names) == set(others) and len(names) == len(others):
        order = f"list({argument}.{'column_names' if hasattr(data, 'column_names') else 'columns'})"
        chosen = f"[{order}]" if hasattr(other, "iloc") else f".select({order})"
        advice = f"the same columns in another order. Try `{other_argument}{chosen}`."
    else:
        place = next((i for i, pair in enumerate(zip(names, others, strict=False)) if pair[0] != pair[1]), None)
        differ = (
            f"{len(others)} columns instead of {len(names)}"
            if place is None
            else f"column {others[place]!r} where `{argument}` has {names[place]!r}"
        )
        advice = f"{differ}. Columns are matched by their place: give both the same names, or pass plain arrays."
    raise ValueError(f"`{argument}` and `{other_argument}` are tables, and `{other_argument}` has {advice}")


def is_real(dtype: Any) -> bool:
    """Whether numbers of this type are real: floating-point, whole or boolean."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, np.bool_))


def rounded_by_floats(x: np.ndarray) -> np.ndarray:
    """Mask of the whole numbers that float64 does not hold: their odd part is beyond 2**53."""
    if x.dtype.kind not in "iu" or x.dtype.itemsize < 8 or not x.size or -(2**53) <= x.min() <= x.max() <= 2**53:
        return np.zeros(x.shape, bool)
    size = np.where(x < 0, -x.astype(np.uint64), x.astype(np.uint64)) if x.dtype.kind == "i" else x.astype(np.uint64)
    lowest_bit = size & (~size + np.uint64(1))
    return size // np.maximum(lowest_bit, np.uint64(1)) > 2**53


def _refuse_strangers(data: Any, argument: str) -> None:
    if all(hasattr(data, part) for part in ("train", "valid", "test")):
        kind, name = type(data).__name__, getattr(data, "name", "data")
        raise TypeError(f"`{argument}` must be an array of examples: pass `{name}.train`, not the whole {kind}.")
    if isinstance(data, str | os.PathLike):
        read = f"lnz.data.load({os.fspath(data)!r}).train"
        raise TypeError(f"`{argument}` must be an array of examples, not the name of a file or data set: try `{read}`.")
    if isinstance(data, np.ndarray):
        return
    if hasattr(data, "toarray") and hasattr(data, "nnz"):
        raise TypeError(
            f"`{argument}` is a sparse matrix, {data.shape}. Pass all of its numbers, `{argument}.toarray()`."
        )
    if hasattr(data, "todense"):
        raise TypeError(
            f"`{argument}` is a sparse array, {data.shape}. Pass all of its numbers, `{argument}.todense()`."
        )
    if hasattr(data, "collect") and hasattr(data, "collect_schema"):
        raise TypeError(f"`{argument}` is a {type(data).__name__}, not read yet. Pass `{argument}.collect()`.")


def _column_of(data: Any, i: int) -> np.ndarray:
    if hasattr(data, "iloc"):
        return np.asarray(data.iloc[:, i])
    return np.asarray(data.column(i) if hasattr(data, "column_names") else data[:, i])


def _with_mask(data: Any) -> Any:
    """Stack a list of masked arrays into one masked array: `numpy.asarray` would lose the masks."""
    if isinstance(data, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in data):
        return np.ma.stack([np.ma.asarray(row) for row in data])
    return data


def _read(data: Any, argument: str) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError as error:  # NumPy's own message is about "inhomogeneous" sequences
        if not isinstance(data, list | tuple):
            raise ValueError(f"`{argument}` ({type(data).__name__}) cannot be read as an array: {error}") from error
        hint = " Pass the examples alone, without labels." if isinstance(data, tuple) else ""
        raise ValueError(f"`{argument}` must be an array, but its rows have different lengths.{hint}") from error
    except Exception as error:  # from a tensor on another device, say; its message says what to do
        raise TypeError(f"`{argument}` ({type(data).__name__}) cannot be read as an array: {error}") from error


def _native(array: Any, argument: str) -> Any:
    """An array of numbers in the byte order of this machine and of a width that NumPy knows."""
    dtype = array.dtype
    kind = getattr(dtype, "kind", "")
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(f"`{argument}` must be an array of numbers; got random keys.")
    if kind == "V" and jnp.issubdtype(dtype, jnp.floating):  # bfloat16 and narrower types
        return array.astype(np.float32)
    if kind == "V" and jnp.issubdtype(dtype, jnp.integer):  # 4-bit integers
        return array.astype(np.int8)
    if kind not in "biuf" or not kind:
        word = _KINDS.get(kind, type(array.item()).__name__ if array.ndim == 0 else str(dtype))
        remedy = f" Write {_REMEDIES[word]}." if word in _REMEDIES else ""
        raise TypeError(f"`{argument}` must be an array of numbers; got {word} ({dtype}).{remedy}")
    if isinstance(array, np.ndarray):
        rounded = rounded_by_floats(array)
        if rounded.any():
            index = np.argwhere(rounded)[0]
            raise ValueError(
                f"`{argument}` has the whole number {array[tuple(index)]} at {_place(index) if len(index) else 'all'}, "
                "which floats round, like many beyond 2**53. Subtract a constant, or leave out numbers that are names."
            )
        if dtype.itemsize > 8:  # more precision than JAX has
            return array.astype(np.float64)
        if not dtype.isnative:
            return array.astype(dtype.newbyteorder("="))
    return array


def _from_objects(array: np.ndarray, data: Any, argument: str) -> np.ndarray:
    """Convert an array of Python objects, column by column."""
    if array.ndim == 1:
        name = getattr(data, "name", None)
        return _from_columns([array], None if name is None else [name], data, argument)[:, 0]
    columns = list(array.reshape(-1, array.shape[-1]).T)
    return _from_columns(columns, None, data, argument).reshape(array.shape)


def _from_columns(columns: list[np.ndarray], names: list[Any] | None, data: Any, argument: str) -> np.ndarray:
    """The columns as one array `[n, columns]`; an error names every column without numbers."""
    made = [_column(values) for values in columns]
    bad = {i: word for i, word in enumerate(made) if isinstance(word, str)}
    bits = {i for i, values in enumerate(columns) if _are_bits(values)}
    if len(bits) < len(made):  # if all columns are bits, they are numbers
        bad |= dict.fromkeys(bits, _BITS)
    if bad:
        raise TypeError(_about_columns(bad, names, data, argument))
    if not made:
        raise ValueError(f"`{argument}` has no columns.")
    return np.stack([values for values in made if isinstance(values, np.ndarray)], axis=-1)


def _column(values: np.ndarray) -> np.ndarray | str:
    """One column as numbers, with NaN for missing cells, or else words for the kinds of its values."""
    if values.dtype.kind in "biuf":
        if rounded_by_floats(values).any():
            return _LARGE
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind != "O":
        return _KINDS.get(values.dtype.kind, str(values.dtype))
    numbers_of, words = np.full(len(values), np.nan), set()
    for i, value in enumerate(values):
        if _is_missing(value):
            continue
        word = _word_for(value)
        words.add(word)
        if word in ("numbers", _BITS):
            numbers_of[i] = float(value)
        if word == "numbers" and isinstance(value, int | np.integer) and int(numbers_of[i]) != int(value):
            return _LARGE
    if words <= {"numbers"}:
        return numbers_of
    if words == {_BITS}:
        return numbers_of if np.isnan(numbers_of).any() else numbers_of.astype(bool)
    return " and ".join(sorted(words - {"numbers"}))


def _are_bits(values: np.ndarray) -> bool:
    """Whether a column holds true and false, and perhaps missing cells."""
    return values.dtype == bool or (values.dtype.kind == "O" and any(_word_for(value) == _BITS for value in values))


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _word_for(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return _BITS
    if isinstance(value, numbers.Real | decimal.Decimal):
        return "numbers"
    if isinstance(value, str | bytes):
        return "text"
    if isinstance(value, numbers.Complex):
        return "complex numbers"
    if hasattr(value, "isoformat") and hasattr(value, "year"):
        return "dates"
    return "time differences" if hasattr(value, "total_seconds") else f"cells of type {type(value).__name__}"


def _about_columns(bad: dict[int, str], names: list[Any] | None, data: Any, argument: str) -> str:
    called = [repr(names[i]) if names is not None else str(i) for i in sorted(bad)]
    found = ", ".join(f"column {name} holds {bad[i]}" for name, i in zip(called, sorted(bad), strict=True))
    remedies = "; ".join(_REMEDIES[word] for word in dict.fromkeys(bad.values()) if word in _REMEDIES)
    if remedies and names is not None:
        remedies = f"{remedies}, where `x = np.asarray({argument}[{called[0]}])`"
    if names is None or not hasattr(data, "drop"):
        drop = "Drop such columns"
    else:
        chosen = f"[{', '.join(called)}]"
        drop = f"Drop them, `{argument}.drop({'columns=' if hasattr(data, 'iloc') else ''}{chosen})`"
    return f"`{argument}` must be numbers, but {found}. {drop}" + (f"; or write {remedies}." if remedies else ".")


def _about_fields(array: np.ndarray, argument: str) -> str:
    names = array.dtype.names or ()
    good = [name for name in names if array.dtype[name].kind in "biuf"]
    bad = [f"{name!r} ({_KINDS.get(array.dtype[name].kind, array.dtype[name])})" for name in names if name not in good]
    left_out = f" without {', '.join(bad)}" if bad else ""
    return (
        f"`{argument}` has records with the fields {', '.join(map(repr, names))}. Stack those that are numbers"
        f"{left_out}: `np.stack([{argument}[name] for name in {good}], axis=-1)`."
    )


def _place(index: np.ndarray) -> str:
    row, *column = index.tolist()
    return f"row {row}" + (f", column {column[0] if len(column) == 1 else tuple(column)}" if column else "")
