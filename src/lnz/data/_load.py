"""`load`: a known name or a path to examples in three parts."""

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..data import _named, _public
from ..modules import kind_of, unknown_name
from ..spaces import Binary
from ._binarize import binarize_splits
from ._files import ending_of, load_file, rows_of
from ._options import Options, options_without_effect
from ._splits import Rows, Splits

_SETS: dict[str, tuple[Callable[[], Splits], str]] = {
    "bars_and_stripes": (_named.bars_and_stripes, "4 x 4 pictures of full rows or full columns, binary, generated"),
    "binary_digits": (_named.binary_digits, "8 x 8 digits of scikit-learn, a bit where the intensity is at least 8"),
    "binary_mnist": (_public.binary_mnist, "28 x 28 digits drawn once as bits, given split (needs LNZ_DATA)"),
    "caltech_silhouettes": (_public.caltech_silhouettes, "28 x 28 outlines of 101 kinds of objects (needs LNZ_DATA)"),
    "digits": (_named.digits, "8 x 8 digits of scikit-learn, intensities 0 to 16"),
    "energy_1": (_named.energy_1, "2 columns: exact draws of the paper's first energy, two crescents"),
    "energy_2": (_named.energy_2, "2 columns: exact draws of the second energy, a wave"),
    "energy_3": (_named.energy_3, "2 columns: exact draws of the third energy, a wave that forks for a while"),
    "energy_4": (_named.energy_4, "2 columns: exact draws of the fourth energy, a wave that forks for good"),
    "faces": (_public.faces, "64 x 64 grey faces, smiling or neutral (needs LNZ_DATA)"),
    "frey": (_public.frey, "28 x 20 grey frames of a video of one face (needs LNZ_DATA)"),
    "miniboone_sample": (_public.miniboone_sample, "43 columns of MINIBOONE, its first 1523 rows (needs LNZ_DATA)"),
    "mnist": (_public.mnist, "28 x 28 grey digits with labels (LNZ_DATA, or downloaded)"),
    "omniglot_small": (_public.omniglot_small, "28 x 28 grey characters of 8 alphabets (needs LNZ_DATA)"),
    "two_moons": (_named.two_moons, "2 columns: two half circles with noise, continuous, generated"),
    "uci_kin40k": (_public.uci_kin40k, "9 columns: a simulated robot arm (needs LNZ_DATA)"),
    "uci_parkinsons": (_public.uci_parkinsons, "18 columns: measurements of voices (needs LNZ_DATA)"),
    "uci_protein": (_public.uci_protein, "9 columns: properties of protein structures (needs LNZ_DATA)"),
    "shifter": (_named.shifter, "8 random bits, the same shifted around a ring, and the shift, binary, generated"),
}


def load(
    source: str | os.PathLike,
    *,
    binarize: str = "none",
    threshold: float = 0.5,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    missing: str = "error",
    resident_limit: int = 2**30,
    header: str = "auto",
) -> Splits:
    """A named data set, or a file or folder of your own, as rows in three parts, the same on every machine.

    Names, see `names()` and `describe(name)`, come before files: for a folder called `digits` write `./digits`.
    They have splits of their own. The public ones are read from the folder named by the environment variable
    `LNZ_DATA`; `mnist` is downloaded if it is not there.

    Files, by the ending of their names:

    - `.npz`: arrays `train`, `valid`, `test`; or `x_train`, `x_valid`, `x_test`; or exactly one array. Labels are
      `y_train`, `y_valid`, `y_test`, or `y` beside one array.
    - `.npy`: one array `[n, d]`, or pictures `[n, height, width]`, or colour pictures `[n, height, width, 3]`.
    - `.csv`, `.csv.gz`, `.tsv`, `.tsv.gz`: numbers, with or without a first row of names, see `header`; empty cells
      are missing.
    - `.parquet`: columns of numbers. The index of pandas is left out of tables, which the protocol says.
    - `.idx`, `-ubyte`, plain or with `.gz`: the format of MNIST.
    - `.zip`, or a folder: PNG, JPEG, BMP or PGM images of one size, made grey, sorted by name (`img2` before
      `img10`); sub-folders, one level deep, are class labels.

    With `binarize`, bytes count up to 255 in every row, and the bits of a row depend on that row alone: with `"sample"`
    equal rows have equal bits. Files of bytes 0 and 1 alone, which may be bits already, are refused, except images,
    whose pixels they are. `load` also refuses files without a byte above 31, which count up to something smaller, and
    training rows of which every bit is the same; `read_rows` takes both.

    Zeros and ones become `Binary(d)`, other bytes `Categorical(d, 256)`, both stored as `uint8`; all other numbers
    `Euclidean(d)`, stored as `float32` where the file has that (or less), otherwise as `float64`: columns far from zero
    keep their digits until `lnz.flows.standardise` has centred them. No reader runs anything in a file.

    **Arguments:**

    - `source`: a name or a path.
    - `binarize`: `"none"`; `"threshold"`, a one where the value is at least `threshold` times the full scale, which is
      255 for bytes and 1 for floats; or `"sample"`, a one with probability value / full scale, drawn once by
      `seed` and row.
    - `valid_fraction`, `test_fraction`: of the training rows, for parts that a file does not have.
    - `seed`: of the split of a file, and of `binarize="sample"`. Splits of named sets never change, and take no other.
    - `missing`: `"error"`, or `"mask"`: empty cells of a table and nan in any file are missing entries, marked in
      `Splits.observed` and stored as zeros, for `lnz.fit(observed=...)` and `lnz.evaluate(observed=...)`. The file must
      fit into memory.
    - `resident_limit`: a `.npy`, CSV or Parquet file of more bytes, decoded, is not read into memory: `train` is then a
      memory map, made once in the cache folder (`LNZ_CACHE`, or the usual one) unless the file can be mapped
      itself. Its rows are not shuffled: valid and test are its last rows, at most 10000 each.
    - `header`: whether the first row of a CSV file has the names of its columns: `"yes"`, `"no"`, or `"auto"`, if
      it is not all numbers, or counts 0, 1, 2, ... Other numbers that look like names, such as years, doses or
      wavelengths above measurements, are refused with `"auto"`: far from the rows below, or more regular than them.

    **Returns:** `Splits(train, valid, test, ...)`, whose `protocol` says in words what was done.

    **Raises:** `ValueError` for an unknown name, and for files that are damaged, or whose numbers are missing,
    infinite, text or constant, with all such columns and the first row of each (of a text table its line, counted
    from 1 with the header; of others the row, from 0); `FileNotFoundError` if there is no such file, and `OSError` if
    it cannot be downloaded; `ImportError` if an extra is missing, naming it; `TypeError` if `source` is no text or
    path.

    Source: Hinton and Sejnowski (1986), section 4 (shifter); MacKay (2003), section 43.3 (bars and stripes).
    """
    options = Options(binarize, threshold, valid_fraction, test_fraction, seed, missing, resident_limit, header)
    if isinstance(source, str) and source in _SETS:
        return _named_set(source, options)
    return load_file(_existing(source), options)


def names() -> list[str]:
    """The names that `load` knows."""
    return sorted(_SETS)


def describe(name: str) -> str:
    """One line about a named data set, without loading it.

    **Raises:** `ValueError` for an unknown name.
    """
    if name not in _SETS:
        raise ValueError(unknown_name("data set", name, _SETS))
    return _SETS[name][1]


def read_rows(
    path: str | os.PathLike,
    *,
    columns: Sequence[str] | None = None,
    binarize: str = "none",
    threshold: float = 0.5,
    seed: int = 0,
    missing: str = "error",
    header: str = "auto",
) -> Rows:
    """All examples of a file of your own, `[n, d]`, in its order and without a split: what a model is to score.

    - `columns`: names of the columns of a table to take, in this order; others may hold anything. A file without
      names, such as an `.npy`, must have as many columns. All for `None`.
    - `binarize`, `threshold`, `seed`, `missing`, `header`: as in `load`.

    Parts of an `.npz` follow each other: train, valid, test. More than 1 GiB of a table is a memory map, as in `load`.

    **Raises:** as `load`, but constant columns are fine, and known names are not.
    """
    if isinstance(path, str) and path in _SETS and not os.path.exists(path):
        raise ValueError(f"`read_rows` reads files: for {path!r} take a part of `lnz.data.load({path!r})`.")
    wanted = None if columns is None else tuple(columns)
    return rows_of(_existing(path), wanted, Options(binarize, threshold, seed=seed, missing=missing, header=header))


def _named_set(name: str, options: Options) -> Splits:
    for option in options_without_effect(is_file=False, binarize=options.binarize):
        if getattr(options, option) != getattr(Options(), option):
            also = " (It seeds the bits that `binarize='sample'` draws, and the split of files.)"
            raise ValueError(
                f"`load({name!r})` has a split of its own, which no `{option}` changes: leave it out."
                f"{also if option == 'seed' else ''}"
            )
    splits = _SETS[name][0]()
    if options.binarize == "none" or splits.space.num_values == 2:
        return splits
    (train, valid, test), done = binarize_splits(splits, options)
    space, protocol = Binary(splits.space.shape), f"{splits.protocol}, {done}"
    return dataclasses.replace(splits, space=space, train=train, valid=valid, test=test, protocol=protocol)


def _existing(source: Any) -> Path:
    """The path of a file or folder that is there, or an error with the nearest name."""
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise TypeError(
            "`load(name)` needs the name of a data set, such as 'digits', or the path of a file; got "
            f"{kind_of(source)}."
        )
    text = os.fspath(source)
    path = Path(os.path.expanduser(text))  # which, like `os.path.exists`, takes any text without an error
    if text and os.path.exists(path):
        return path
    if isinstance(source, str) and not path.suffix and not ending_of(path) and not set(text) & {"/", os.sep, "\0"}:
        raise ValueError(unknown_name("data set", source, _SETS))
    beside = difflib.get_close_matches(path.name, os.listdir(path.parent) if os.path.isdir(path.parent) else [], n=1)
    hint = f", but {str(path.parent / beside[0])!r}" if beside else f", seen from the folder {str(Path.cwd())!r}"
    near = difflib.get_close_matches(path.name.split(".")[0], _SETS, n=1) or names()[:1]
    raise FileNotFoundError(
        f"There is no file {text!r}{hint}; of the named data sets, {near[0]!r} is the nearest: "
        f"known are {', '.join(names())}."
    )
