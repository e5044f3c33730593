"""Public data sets, read from files in the folder named by `LNZ_DATA`, or downloaded."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from ..spaces import Binary, Categorical, Euclidean
from ._atoms import describe_atoms
from ._checks import Refusal
from ._download import fetch
from ._files import digest_of
from ._images import read_image_zip
from ._npy import open_npy, read_npz_arrays
from ._splits import Splits, split_shuffled

# The file and checksum of Keras (keras/src/datasets/mnist.py).
MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def _find(name: str, file_name: str, source: str) -> Path:
    """The file in the folder of `LNZ_DATA`."""
    folder = os.environ.get("LNZ_DATA")
    path = Path(os.path.expanduser(folder or ".")) / file_name
    if folder and path.is_file():
        return path
    tried = f"the folder `{folder}` of LNZ_DATA has none" if folder else "LNZ_DATA is not set"
    raise FileNotFoundError(
        f"`{name}` needs the file {file_name} ({source}), but {tried}: set LNZ_DATA to a folder that has it."
    )


def _arrays(path: Path, **row_shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays of whole numbers from an `.npz`, after a check that their rows have the known shapes."""
    arrays = read_npz_arrays(path)
    for key, row_shape in row_shapes.items():
        x = arrays.get(key)
        if x is None or x.shape[1:] != row_shape or not x.size or x.dtype.kind not in "iu":
            got = "none" if x is None else f"shape {x.shape} of {x.dtype}"
            raise Refusal(f"`{path}` must have whole numbers `{key}` with rows of shape {row_shape}; got {got}.")
    return [arrays[key] for key in row_shapes]


def _unpack(bits: np.ndarray) -> np.ndarray:
    return np.unpackbits(bits, axis=1)[:, :784]


def _need_rows(path: Path, x: np.ndarray, num: int) -> None:
    if len(x) <= num:
        raise Refusal(f"`{path}` must have more than {num} images; got {len(x)}: is it the right file?")


def _sizes(*parts: np.ndarray) -> str:
    return "{} train / {} valid / {} test".format(*map(len, parts))


def mnist() -> Splits:
    """Grey digits, with the last 10000 training images for validation; labels 0 to 9."""
    try:
        path = _find("mnist", "mnist.npz", "LeCun, Bottou, Bengio and Haffner (1998), as Keras has it")
    except FileNotFoundError:
        path = fetch("mnist", "mnist.npz", MNIST_URL, MNIST_SHA256)
    x, y, x_test, y_test = _arrays(path, x_train=(28, 28), y_train=(), x_test=(28, 28), y_test=())
    _need_rows(path, x, 10_000)
    x, x_test = x.reshape(-1, 784), x_test.reshape(-1, 784)
    parts = x[:-10_000], x[-10_000:], x_test
    protocol = f"MNIST, intensities 0 to 255, {_sizes(*parts)}, valid is the last 10000 of the training images"
    labels = y[:-10_000], y[-10_000:], y_test
    return Splits("mnist", Categorical(784, 256), *parts, (28, 28), protocol, labels, source_digest=digest_of(path))


def binary_mnist() -> Splits:
    """Digits as bits that were drawn once; no labels."""
    source = "MNIST as bits, Salakhutdinov and Murray (2008), the .amat files of Larochelle packed 98 bytes an image"
    path = _find("binary_mnist", "binarized_mnist.npz", source)
    train, valid, test = map(_unpack, _arrays(path, train=(98,), valid=(98,), test=(98,)))
    protocol = (
        f"binarized MNIST of Salakhutdinov and Murray (2008), {_sizes(train, valid, test)} as given, "
        "not in the order of MNIST"
    )
    digest = digest_of(path)
    return Splits("binary_mnist", Binary(784), train, valid, test, (28, 28), protocol, source_digest=digest)


def omniglot_small() -> Splits:
    """Characters of 8 alphabets, ink 255, each drawn by 20 people; labels number the characters."""
    source = "brendenlake/omniglot, python/images_background_small1.zip and small2.zip, averaged to 28 x 28"
    path = _find("omniglot_small", "omniglot_small.npz", source)
    x, y, drawer = _arrays(path, x28=(28, 28), y=(), drawer=())
    x, rows = x.reshape(-1, 784), (drawer <= 13, (drawer > 13) & (drawer <= 15), drawer > 15)
    train, valid, test = (x[part] for part in rows)
    protocol = (
        f"the two small background sets of Omniglot (8 of 50 alphabets), averaged to 28 x 28, ink 255, "
        f"{_sizes(train, valid, test)} by drawers 1-13 / 14-15 / 16-20, not the split of published 28 x 28 results"
    )
    labels = y[rows[0]], y[rows[1]], y[rows[2]]
    space, digest = Categorical(784, 256), digest_of(path)
    return Splits("omniglot_small", space, train, valid, test, (28, 28), protocol, labels, source_digest=digest)


def caltech_silhouettes() -> Splits:
    """Outlines of objects; labels 0 to 100 with names."""
    source = "Caltech-101 Silhouettes, Marlin and others (2010), caltech101_silhouettes_28.mat packed 98 bytes an image"
    path = _find("caltech_silhouettes", "caltech101_silhouettes_28.npz", source)
    x, y = _arrays(path, x=(98,), y=())
    _need_rows(path, x, 4100 + 2264)
    label_names = read_npz_arrays(path).get("classnames")
    x = _unpack(x)
    whole = Splits("caltech_silhouettes", Binary(784), x, x, x, (28, 28), "", source_digest=digest_of(path))
    splits = split_shuffled(whole, 2264, len(x) - 4100 - 2264, y.astype(np.int64) - 1)
    protocol = (
        f"Caltech-101 silhouettes, {_sizes(splits.train, splits.valid, splits.test)}, own split of the unsplit file, "
        "shuffled with seed 0 (not the published split), duplicates kept, 1 = background and 0 = object"
    )
    names = None if label_names is None else tuple(map(str, label_names))
    return dataclasses.replace(splits, protocol=protocol, label_names=names)


def frey() -> Splits:
    """Frames of a video of a face, in order."""
    path = _find("frey", "frey_faces.npz", "Frey faces, Roweis, from jmtomczak/vae_vampprior")
    (x,) = _arrays(path, x=(28, 20))
    _need_rows(path, x, 400)
    x = x.reshape(-1, 560)
    parts = x[:-400], x[-400:-200], x[-200:]
    protocol = (
        f"Frey faces, intensities 0 to 255, {_sizes(*parts)}, contiguous blocks of the video in this order "
        "(neighbouring frames are alike, so the parts differ more than shuffled ones)"
    )
    return Splits("frey", Categorical(560, 256), *parts, (28, 20), protocol, source_digest=digest_of(path))


def faces() -> Splits:
    """Crops of press photographs; labels 0 neutral, 1 smile."""
    path = _find("faces", "faces_smile.zip", "hromi/SMILEsmileD, 3690 faces of each kind in folders smile and neutral")
    contents = read_image_zip(path)
    x, labels = contents.arrays["train"], contents.labels.get("train")
    if labels is None or x.shape[1:] != (64, 64):
        raise Refusal(f"`{path}` must have folders of images of 64 x 64; got images of {x.shape[2]} x {x.shape[1]}.")
    x = x.reshape(len(x), -1)
    whole = Splits("faces", Categorical(64 * 64, 256), x, x, x, (64, 64), "", source_digest=digest_of(path))
    splits = split_shuffled(whole, max(1, len(x) // 10), max(1, len(x) // 5), labels)
    protocol = (
        f"SMILEsmileD faces, 64 x 64, intensities 0 to 255, {_sizes(splits.train, splits.valid, splits.test)}, "
        "own split, shuffled with seed 0"
    )
    return dataclasses.replace(splits, protocol=protocol, label_names=contents.label_names)


def uci_protein() -> Splits:
    """Physicochemical properties of protein structures; the last column is the target."""
    return _uci("protein", 10)


def uci_kin40k() -> Splits:
    """Angles and the distance of a simulated robot arm."""
    return _uci("kin40k", 9)


def uci_parkinsons() -> Splits:
    """Measurements of voices at home, many of each of 42 people."""
    splits = _uci("parkinsons", 21)
    warning = "rows of the same 42 people are in all parts, so that the test is not of new people"
    return dataclasses.replace(splits, protocol=f"{splits.protocol}, {warning}")


def _uci(key: str, num_columns: int) -> Splits:
    """A table on which a density can be learned, without repeated rows and without discrete or constant columns."""
    name = f"uci_{key}"
    path = _find(name, "uci_regression_small.npz", "regression tables of UCI, as treforevans/uci_datasets has them")
    x = read_npz_arrays(path).get(key)
    if x is None or x.ndim != 2 or x.shape[1] != num_columns or x.dtype.kind != "f" or not np.isfinite(x).all():
        got = "none" if x is None else f"shape {x.shape} of {x.dtype}"
        raise Refusal(f"`{path}` must have finite numbers `{key}` in {num_columns} columns; got {got}.")
    _, first = np.unique(x, axis=0, return_index=True)
    num_repeated, x = len(x) - len(first), x[np.sort(first)]
    kept = np.array([describe_atoms(column) is None for column in x.T])
    dropped = ", ".join(map(str, np.flatnonzero(~kept))) or "none"
    if len(x) < 30 or not kept.any():
        raise Refusal(f"`{path}`: `{key}` has too few rows or only discrete columns: is it the right file?")
    columns = tuple(f"column {i}" for i in np.flatnonzero(kept))
    x = np.ascontiguousarray(x[:, kept], np.float32)
    whole = Splits(name, Euclidean(x.shape[1]), x, x, x, None, "", columns=columns, source_digest=digest_of(path))
    splits = split_shuffled(whole, len(x) // 10, len(x) // 10)
    protocol = (
        f"UCI {key} with its target, {_sizes(splits.train, splits.valid, splits.test)}, own split, shuffled "
        f"with seed 0, {num_repeated} repeated rows and the discrete columns left out ({dropped}), not standardised"
    )
    return dataclasses.replace(splits, protocol=protocol)


def miniboone_sample() -> Splits:
    """The first rows of MINIBOONE in 43 columns, to try things out; published results use all rows."""
    path = _find("miniboone_sample", "miniboone_first1523.npy", "MINIBOONE as Papamakarios and others (2017) made it")
    x = np.array(open_npy(path))
    if x.ndim != 2 or x.shape[1] != 43 or x.dtype.kind != "f" or len(x) < 30 or not np.isfinite(x).all():
        raise Refusal(f"`{path}` must have finite numbers in 43 columns; got shape {x.shape} of {x.dtype}.")
    num_test = len(x) // 10
    num_valid = (len(x) - num_test) // 10
    train, valid, test = np.split(x.astype(np.float32), [len(x) - num_test - num_valid, len(x) - num_test])
    protocol = (
        f"the first {len(x)} rows of MINIBOONE, {_sizes(train, valid, test)} in the order of the file, test the last "
        "tenth and valid the last tenth of the rest, not standardised; published results are of 36488 rows"
    )
    digest = digest_of(path)
    return Splits("miniboone_sample", Euclidean(43), train, valid, test, None, protocol, source_digest=digest)
