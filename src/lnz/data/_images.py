"""Folders and zip archives of pictures: grey, of one size, one level of sub-folders for class labels."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ._budget import MAX_DECODED
from ._checks import Cells, Refusal, missing_extra, reading, tidy
from ._colours import TURNED_GREY
from ._contents import Contents
from ._zip import open_zip

MAX_PIXELS = 4096 * 4096
MAX_FILE_BYTES = 2**28
# Names of folders for parts of the data, not for classes.
_PARTS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
# No others, because PIL passes some formats to other programs (EPS) or to libraries that write to the terminal (TIFF).
_NETPBM = (b"P2", b"P3", b"P5", b"P6", b"P0CMYK", b"Py")  # those that state their largest value
FORMATS = ("PNG", "JPEG", "BMP", "PPM")


def read_folder(path: Path) -> Contents:
    """All pictures in a folder, `[n, height, width]` of uint8, sorted by name, `img2` before `img10`."""
    files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if not file.is_dir()}
    return _read(path, list(files), lambda name: _file_bytes(files[name], path, name))


def read_image_zip(path: Path) -> Contents:
    """All pictures in a zip archive, read like those of a folder."""
    with open_zip(path, "a zip of images") as members:

        def content(name: str) -> bytes:
            with members.open(name) as stream:
                return stream.readall()  # metered, so bounded

        return _read(path, members.names, content)


def _file_bytes(file: Path, path: Path, name: str) -> bytes:
    if not file.is_file():
        raise Refusal(f"`{path}` has {tidy(name)}, which is not a regular file: remove it.")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise Refusal(f"`{path}` has {tidy(name)}, which is too large for an image: remove or resize it.")
    return file.read_bytes()


def in_natural_order(name: str) -> tuple[list[str | int], str]:
    """For sorting: numbers within names count as numbers, so that `img2` comes before `img10`."""
    parts = re.split(r"([0-9]+)", name)  # text and digits alternate
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _is_litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in parts)


def _read(path: Path, names: list[str], content: Callable[[str], bytes]) -> Contents:
    names = sorted((name for name in names if not _is_litter(name)), key=in_natural_order)
    if not names:
        raise Refusal(f"`{path}` has no images: it must hold PNG, JPEG, BMP or PGM files.")
    classes = _classes(path, names)
    first, was_coloured = _picture(path, names[0], content(names[0]))
    if len(names) * first.size > MAX_DECODED:
        raise Refusal(
            f"`{path}` has {len(names)} images of {_size(first)} pixels, more than {MAX_DECODED >> 30} GiB: "
            "make an .npy of them."
        )
    pictures = np.empty((len(names), *first.shape), np.uint8)
    for number, name in enumerate(names):
        picture, is_coloured = _picture(path, name, content(name))
        was_coloured |= is_coloured
        if picture.shape != first.shape:
            raise Refusal(
                f"`{path}` must have images of one size; {tidy(names[0])} has {_size(first)} pixels "
                f"and {tidy(name)} has {_size(picture)}: crop or resize them."
            )
        pictures[number] = picture
    notes = (TURNED_GREY,) if was_coloured else ()
    cells = Cells(kind="file", names_of=np.array(names).__getitem__)
    if classes is None:
        return Contents(path, {"train": pictures}, cells=cells, notes=notes, are_pixels=True)
    label_names = sorted(set(classes), key=in_natural_order)
    number_of = {name: number for number, name in enumerate(label_names)}
    labels = np.array([number_of[name] for name in classes])
    return Contents(
        path, {"train": pictures}, {"train": labels}, tuple(label_names), cells=cells, notes=notes, are_pixels=True
    )


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"


def _classes(path: Path, names: list[str]) -> list[str] | None:
    """The sub-folder of each file, or `None` if all are in one folder."""
    parts = [PurePosixPath(name).parts for name in names]
    while len({part[0] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
        parts = [part[1:] for part in parts]  # a folder around all the others is not a class
    for name, part in zip(names, parts, strict=True):
        if len(part) > 2:
            raise Refusal(f"`{path}` has folders in folders, see {tidy(name)}: only one level, the classes, is read.")
    depths = {len(part) for part in parts}
    if depths == {1, 2}:
        name = next(name for name, part in zip(names, parts, strict=True) if len(part) == 1)
        raise Refusal(f"`{path}` has images in class folders and beside them, see {tidy(name)}: move it into a class.")
    if depths != {2}:
        return None
    found = sorted({part[0] for part in parts})
    if len(found) > 1 and all(name.lower() in _PARTS for name in found):
        advice = " or ".join(f"`{path / name}`" for name in found)
        raise Refusal(
            f"`{path}` has folders {', '.join(map(tidy, found))}, which are parts of the data, not classes: load one "
            f"of them, {advice}, or make an .npz with `x_train` and `x_test`."
        )
    return [part[0] for part in parts]


def _picture(path: Path, name: str, content: bytes) -> tuple[np.ndarray, bool]:
    """One picture in grey, and whether it had colours."""
    if _has_deep_colours(content):
        raise Refusal(f"`{path}` has {tidy(name)} with more than 8 bits a pixel: save it with 8, or load an .npy.")
    with _open(path, name, content) as image:
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width} x {image.height}"
            raise Refusal(f"`{path}` has {tidy(name)} of {size} pixels: resize it to 4096 x 4096 or less.")
        if image.mode.startswith(("I", "F")):
            raise Refusal(f"`{path}` has {tidy(name)} with more than 8 bits a pixel: save it with 8, or load an .npy.")
        if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
            raise Refusal(f"`{path}` has {tidy(name)} with transparent pixels: put it on a background first.")
        is_grey = image.mode in ("1", "L", "LA")
        grey = np.asarray(image.convert("L"))
        if not is_grey:
            channels = np.asarray(image.convert("RGB"))
            is_grey = bool((channels == channels[..., :1]).all())
        return grey, not is_grey


def _has_deep_colours(content: bytes) -> bool:
    """Whether a PNG or PNM has more than 8 bits for each number, which Pillow cuts off silently."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return len(content) > 24 and content[24] > 8
    if not content.startswith(_NETPBM):
        return False
    header = re.match(rb"\w+\s+\d+\s+\d+\s+(\d+)", re.sub(rb"#[^\r\n]*[\r\n]", b"", content))
    return header is not None and int(header[1]) > 255


@contextmanager
def _open(path: Path, name: str, content: bytes) -> Iterator[Any]:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(missing_extra("Reading images")) from error
    with warnings.catch_warnings(), reading(path / name, "a PNG, JPEG, BMP or PGM image"):
        warnings.simplefilter("ignore")  # about doubtful metadata, and about sizes, which are checked right after
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise Refusal(f"`{path / name}` is not a PNG, JPEG, BMP or PGM image: remove or convert it.") from error
        except Image.DecompressionBombError as error:
            raise Refusal(f"`{path}` has {tidy(name)} of far more than 4096 x 4096 pixels: resize it.") from error
        with image:
            is_fit = image.width * image.height <= MAX_PIXELS  # otherwise it is refused, not decoded
            yield ImageOps.exif_transpose(image) if is_fit else image  # rotated as its metadata say
