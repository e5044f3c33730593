"""`load`: reads a named data set, or a file, as examples in three parts."""

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
    "energy_1": (_named.energy_1, "2 columns: exact draws of PlanarEnergy(1), two crescents, generated"),
    "energy_2": (_named.energy_2, "2 columns: exact draws of PlanarEnergy(2), a wave, generated"),
    "energy_3": (_named.energy_3, "2 columns: exact draws of PlanarEnergy(3), a wave that forks and joins, generated"),
    "energy_4": (_named.energy_4, "2 columns: exact draws of PlanarEnergy(4), a wave that forks, generated"),
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
    """Reads a named data set, or a file or folder, as rows in three parts, the same on every machine.

    Named sets (see `names` and `describe`) come before files, and have their own splits. No reader runs code from a
    file. Zeros and ones become `Binary(d)`, other bytes `Categorical(d, 256)`, all other numbers `Euclidean(d)`.
    `docs/data.md` has file formats, options and errors in full.

    **Arguments:**

    - `source`: a name, or a path: `.npz`, `.npy`, `.csv`, `.tsv`, `.parquet`, `.idx`, `.zip` or folder of images.
    - `binarize`: how grey values become bits: `"none"`, `"threshold"` (by `threshold`) or `"sample"`.
    - `valid_fraction`, `test_fraction`: of the training rows, for parts that a file lacks.
    - `seed`: of a file's split and of `binarize="sample"`.
    - `missing`: `"error"`, or `"mask"` to mark missing entries in `Splits.observed`.
    - `resident_limit`: a table of more decoded bytes is mapped from disk, not shuffled.
    - `header`: whether the first row of a CSV file has column names: `"yes"`, `"no"` or `"auto"`.

    **Returns:** `Splits`, whose `protocol` says in words what was done.

    **Raises:** `ValueError` for an unknown name or an unusable file; `FileNotFoundError`; `OSError` if a download
    fails; `ImportError` if an extra is missing; `TypeError` if `source` is not text or a path.
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
    """Reads all examples of a file, `[n, d]`, in file order and without a split: the rows that a model is to score.

    The parts of an `.npz` follow each other: train, valid, test. A table of more than 1 GiB is a memory map, as in
    `load`.

    **Arguments:**

    - `columns`: names of the table columns to take, in this order; the other columns may hold anything. A file without
      names, such as an `.npy`, must have as many columns. `None` takes all.
    - `binarize`, `threshold`, `seed`, `missing`, `header`: as in `load`.

    **Raises:** as `load`, except that constant columns are accepted and names of data sets are not.
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
                f"`load({name!r})` has a split of its own, which `{option}` does not change: leave it out."
                f"{also if option == 'seed' else ''}"
            )
    splits = _SETS[name][0]()
    if options.binarize == "none" or splits.space.num_values == 2:
        return splits
    (train, valid, test), done = binarize_splits(splits, options)
    space, protocol = Binary(splits.space.shape), f"{splits.protocol}, {done}"
    return dataclasses.replace(splits, space=space, train=train, valid=valid, test=test, protocol=protocol)


def _existing(source: Any) -> Path:
    """The path of an existing file or folder; otherwise an error with the nearest name."""
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise TypeError(
            "`load(name)` needs the name of a data set, such as 'digits', or the path of a file; got "
            f"{kind_of(source)}."
        )
    text = os.fspath(source)
    path = Path(os.path.expanduser(text))  # like `os.path.exists`, this accepts any text without an error
    if text and os.path.exists(path):
        return path
    if isinstance(source, str) and not path.suffix and not ending_of(path) and not set(text) & {"/", os.sep, "\0"}:
        raise ValueError(unknown_name("data set", source, _SETS))
    beside = difflib.get_close_matches(path.name, os.listdir(path.parent) if os.path.isdir(path.parent) else [], n=1)
    hint = f", but {str(path.parent / beside[0])!r}" if beside else f", seen from the folder {str(Path.cwd())!r}"
    near = difflib.get_close_matches(path.name.split(".")[0], _SETS, n=1) or names()[:1]
    raise FileNotFoundError(
        f"There is no file {text!r}{hint}; the nearest named data set is {near[0]!r}. "
        f"Known names: {', '.join(names())}."
    )
