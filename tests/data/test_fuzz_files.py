"""Damaged bytes of every kind of file: read as other numbers, or refused in one sentence; never anything else."""

import gzip

import jaxtyping
import numpy as np
import pytest
from writers import (
    columns_of,
    csv_text,
    idx_bytes,
    image_bytes,
    pictures,
    table,
    write,
    write_folder,
    write_npy,
    write_npz,
    write_parquet,
    write_zip,
)

import lnz

NUM = 40  # of each kind; ten times as many were tried by hand


def picture_files():
    return {f"{number}.png": image_bytes(picture) for number, picture in enumerate(pictures(5, 12, 9))}


def written(make):
    """A writer of bytes from one of files."""

    def content(folder):
        return make(folder / "whole").read_bytes()

    return content


WHOLE = {
    "npy": written(lambda path: write_npy(path, table())),
    "npz": written(lambda path: write_npz(path.with_suffix(".npz"), x=table(), y=np.arange(40))),
    "csv": lambda folder: csv_text(table(), "abc").encode(),
    "csv.gz": lambda folder: gzip.compress(csv_text(table()).encode()),
    "parquet": written(lambda path: write_parquet(path, **columns_of(table(), "abc"))),
    "idx": lambda folder: idx_bytes(pictures()),
    "idx.gz": lambda folder: gzip.compress(idx_bytes(pictures())),
    "zip": written(lambda path: write_zip(path, picture_files())),
}
# In folders: the check sums of a zip would keep damage from the decoders.
PICTURES = {
    "PNG": {},
    "JPEG": {"quality": 90},
    "BMP": {},
    "PPM": {},
}
OUR_FAULTS = (jaxtyping.TypeCheckError, NameError, AttributeError, AssertionError, Warning)


def damaged(content, random):
    """A few bytes changed, a piece cut out, or the end cut off."""
    content = bytearray(content)
    kind = random.randint(4)
    if kind == 0:
        return bytes(content[: random.randint(len(content))])
    if kind == 1:
        first, last = sorted(random.randint(0, len(content), 2))
        return bytes(content[:first] + content[last:])
    # Half of the time near the ends, where headers and directories are.
    places = random.randint(0, len(content), random.randint(1, 6))
    if kind == 2:
        places = np.where(random.rand(len(places)) < 0.5, places % 128, -1 - places % 256)
    for place in places:
        content[place % len(content)] = random.randint(256)
    return bytes(content)


def check(path, content, name):
    """Load a file or folder; whether it was refused, as it should be."""
    write(path / name if name else path, content)
    try:
        splits = lnz.data.load(path)
    except (ValueError, OSError) as error:
        refusal = error
    else:
        splits.space.check_data(splits.train)
        return False
    assert str(refusal).startswith(f"`{path}"), repr(refusal)
    assert "\n" not in str(refusal)
    assert len(str(refusal)) < len(str(path)) + 420
    assert not isinstance(refusal.__cause__, OUR_FAULTS), repr(refusal.__cause__)
    return True


@pytest.mark.parametrize("ending", WHOLE)
def test_damaged_files(tmp_path, ending):
    content, random = WHOLE[ending](tmp_path), np.random.RandomState(0)
    path = tmp_path / f"x.{ending}"
    assert not check(path, content, "")
    assert sum(check(path, damaged(content, random), "") for _ in range(NUM)) > NUM // 4


@pytest.mark.parametrize("kind", PICTURES)
def test_damaged_images(tmp_path, kind):
    contents = [image_bytes(picture, kind, **PICTURES[kind]) for picture in pictures(4, 12, 9)]
    random = np.random.RandomState(0)
    path = write_folder(tmp_path / "x", {f"{number}.img": content for number, content in enumerate(contents)})
    assert not check(path, contents[2], "2.img")
    assert sum(check(path, damaged(contents[2], random), "2.img") for _ in range(NUM)) > NUM // 4
