"""Files of the user: every format gives the same rows, in the same split, in the right space."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from writers import (
    columns_of,
    csv_text,
    idx_bytes,
    image_bytes,
    parts_of,
    pictures,
    sorted_rows,
    table,
    together,
    write,
    write_folder,
    write_gzip,
    write_npy,
    write_npz,
    write_parquet,
    write_zip,
)

import lnz

ORDER = np.random.RandomState(0).permutation(40)  # 8 rows of test, 4 of valid, 28 of train
NAMES = ["height", "width", "a long name, with a comma"]


TABLES = {
    "npy": lambda folder, x: write_npy(folder / "x.npy", x),
    "npy_fortran": lambda folder, x: write_npy(folder / "x.npy", np.asfortranarray(x)),
    "npy_version_2": lambda folder, x: write_npy(folder / "x.npy", x, version=(2, 0)),
    "npy_big_endian": lambda folder, x: write_npy(folder / "x.npy", x.astype(">f8")),
    "npy_float64": lambda folder, x: write_npy(folder / "x.npy", x.astype(np.float64)),
    "npz": lambda folder, x: write_npz(folder / "x.npz", anything=x),
    "npz_train": lambda folder, x: write_npz(folder / "x.npz", train=x),
    "npz_fortran": lambda folder, x: write_npz(folder / "x.npz", x_train=np.asfortranarray(x)),
    "csv": lambda folder, x: write(folder / "x.csv", csv_text(x)),
    "csv_upper_case": lambda folder, x: write(folder / "X.CSV", csv_text(x)),
    "csv_windows": lambda folder, x: write(folder / "x.csv", "\ufeff" + csv_text(x, "abc").replace("\n", "\r\n")),
    "csv_header": lambda folder, x: write(folder / "x.csv", csv_text(x, ['"a"', "b c", "1"])),
    "csv_blank_lines": lambda folder, x: write(folder / "x.csv", "\n\n" + csv_text(x, "abc") + "\n\n"),
    "csv_pandas": lambda folder, x: write(folder / "x.csv", csv_text(x, "012")),
    "csv_gz": lambda folder, x: write_gzip(folder / "x.csv.gz", csv_text(x, "abc")),
    "csv_gz_upper_case": lambda folder, x: write_gzip(folder / "X.CSV.GZ", csv_text(x, "abc")),
    "csv_of_a_tsv": lambda folder, x: write(folder / "x.tsv.csv", csv_text(x, "abc")),
    "tsv_upper_case": lambda folder, x: write(folder / "X.TSV", csv_text(x, "abc", "\t")),
    "tsv": lambda folder, x: write(folder / "x.tsv", csv_text(x, "abc", "\t")),
    "tsv_gz": lambda folder, x: write_gzip(folder / "x.tsv.gz", csv_text(x, None, "\t")),
    "parquet": lambda folder, x: write_parquet(folder / "x.parquet", **columns_of(x, NAMES)),
    "parquet_float64": lambda folder, x: write_parquet(folder / "x.parquet", **columns_of(x.astype(np.float64), NAMES)),
    "idx": lambda folder, x: write(folder / "x.idx", idx_bytes(x)),
    "idx_gz_upper_case": lambda folder, x: write_gzip(folder / "X.IDX.GZ", idx_bytes(x)),
    "idx_gz": lambda folder, x: write_gzip(folder / "x-idx2-ubyte.gz", idx_bytes(x)),
}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_every_format_of_tables_gives_the_same_rows(tmp_path, make):
    x = table()
    path = make(tmp_path, x)
    splits = lnz.data.load(path)
    assert splits.space == lnz.Euclidean(3)
    for part, rows in zip(parts_of(splits), (ORDER[12:], ORDER[8:12], ORDER[:8]), strict=True):
        assert part.dtype in (np.float32, np.float64)  # as in the file; text is read in float64
        np.testing.assert_array_equal(part, x[rows])
    assert splits.name == path.name
    assert splits.image_shape is None
    assert splits.source_digest == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    words = f"{path.name}: 40 rows of 3 columns, shuffled and split with seed 0: 28 train / 4 valid / 8 test"
    assert splits.protocol.startswith(words)
    rows = lnz.data.read_rows(str(path))
    np.testing.assert_array_equal(rows.array, x)
    assert rows.image_shape is None
    assert rows.columns == splits.columns


IMAGES = {
    "npy": lambda folder, x: write_npy(folder / "x.npy", x),
    "npy_channel_last": lambda folder, x: write_npy(folder / "x.npy", x[..., None]),
    "npy_channel_first": lambda folder, x: write_npy(folder / "x.npy", x[:, None]),
    "npz": lambda folder, x: write_npz(folder / "x.npz", x=x),
    "idx": lambda folder, x: write(folder / "x.idx", idx_bytes(x)),
    "idx_gz": lambda folder, x: write_gzip(folder / "train-images-idx3-ubyte.gz", idx_bytes(x)),
    "idx_plain_name": lambda folder, x: write(folder / "train-images-idx3-ubyte", idx_bytes(x)),
    "zip": lambda folder, x: write_zip(folder / "x.zip", image_files(x)),
    "zip_stored": lambda folder, x: write_zip(folder / "x.zip", image_files(x), compression=0),
    "zip_of_a_folder": lambda folder, x: write_zip(
        folder / "x.zip", {f"top/{k}": v for k, v in image_files(x).items()}
    ),
    "folder": lambda folder, x: write_folder(folder / "x", image_files(x)),
    "folder_bmp": lambda folder, x: write_folder(folder / "x", image_files(x, "BMP")),
    "folder_pgm": lambda folder, x: write_folder(folder / "x", image_files(x, "PPM")),
    "folder_rgb": lambda folder, x: write_folder(folder / "x", image_files(np.stack([x] * 3, axis=-1))),
    "folder_with_litter": lambda folder, x: write_folder(
        folder / "x", image_files(x) | {".hidden": b"a", ".DS_Store": b"b", "Thumbs.db": b"c", "__MACOSX/0.png": b"d"}
    ),
}


def image_files(x, kind="PNG"):
    return {f"{number:03d}.{kind.lower()}": image_bytes(picture, kind) for number, picture in enumerate(x)}


@pytest.mark.parametrize("make", IMAGES.values(), ids=IMAGES)
def test_every_format_of_images_gives_the_same_rows(tmp_path, make):
    x = pictures()
    path = make(tmp_path, x)
    splits = lnz.data.load(path)
    assert splits.space.num_categories == 256
    assert splits.space.shape == (20,)
    assert splits.image_shape == (5, 4)
    assert "20 images of 5 x 4" in splits.protocol
    assert "grey" not in splits.protocol
    assert splits.labels is None
    assert len(splits.source_digest) == 16
    rows = lnz.data.read_rows(path)
    np.testing.assert_array_equal(rows.array, x.reshape(20, 20))
    assert rows.array.dtype == splits.train.dtype == np.uint8
    assert rows.image_shape == (5, 4)
    np.testing.assert_array_equal(splits.train, rows.array[np.random.RandomState(0).permutation(20)[6:]])


def numbered_files(x):
    return {f"img{number}.png": image_bytes(picture) for number, picture in enumerate(x, 1)}


@pytest.mark.parametrize("is_zip", [False, True])
def test_pictures_come_in_natural_order(tmp_path, is_zip):
    x = pictures(12)
    files = numbered_files(x)
    path = write_zip(tmp_path / "x.zip", files) if is_zip else write_folder(tmp_path / "x", files)
    rows = lnz.data.read_rows(path)
    np.testing.assert_array_equal(rows.array, x.reshape(12, 20))
    assert rows.cells.row(9) == "file 'img10.png'"
    assert rows.cells.names_of(np.array([11, 0])).tolist() == ["img12.png", "img1.png"]
    files = {f"{10 - i % 2}/{i:02d}.png": image_bytes(picture) for i, picture in enumerate(x)}
    assert lnz.data.load(write_folder(tmp_path / "y", files)).label_names == ("9", "10")


COLOURS = {
    "npy": lambda folder, x: write_npy(folder / "x.npy", x),
    "npy_fortran": lambda folder, x: write_npy(folder / "x.npy", np.asfortranarray(x)),
    "npy_channel_first": lambda folder, x: write_npy(folder / "x.npy", np.moveaxis(x, -1, 1)),
    "npy_opaque": lambda folder, x: write_npy(folder / "x.npy", np.concatenate([x, 255 + 0 * x[..., :1]], axis=-1)),
    "npz": lambda folder, x: write_npz(folder / "x.npz", x=x),
    "idx": lambda folder, x: write(folder / "x.idx", idx_bytes(x)),
}


@pytest.mark.parametrize("limit", [2**30, 0])
@pytest.mark.parametrize("make", COLOURS.values(), ids=COLOURS)
def test_arrays_of_colour_pictures_turn_grey_as_files_do(tmp_path, monkeypatch, make, limit):
    monkeypatch.setenv("LNZ_CACHE", str(tmp_path / "cache"))
    x = np.random.RandomState(0).randint(0, 256, (10, 5, 6, 3)).astype(np.uint8)
    expected = lnz.data.read_rows(write_folder(tmp_path / "x", image_files(x)))
    splits = lnz.data.load(make(tmp_path, x), resident_limit=limit)
    np.testing.assert_array_equal(together(splits), sorted_rows(expected.array))
    assert splits.image_shape == (5, 6)
    assert splits.train.dtype == np.uint8
    assert "colours turned grey (ITU-R 601-2 luma)" in splits.protocol
    assert "colours turned grey" in expected.notes[0]


def test_black_colour_pictures_are_grey(tmp_path):
    x = np.zeros((3, 5, 6, 3), np.uint8)
    assert lnz.data.read_rows(write_npy(tmp_path / "x.npy", x)).array.shape == (3, 30)


@pytest.mark.parametrize("start", [0, 1])
def test_a_first_column_that_counts_rows_is_noted(tmp_path, start):
    x = table(8)
    x[:, 0] = start + np.arange(8)
    files = {
        "column 0": write_npy(tmp_path / "x.npy", x),
        'column "id"': write(tmp_path / "x.csv", csv_text(x, ["id", "a", "b"])),
        'column "t"': write_parquet(tmp_path / "x.parquet", **columns_of(x, "tab")),
    }
    for name, path in files.items():
        assert f"{name} counts the rows from {start}: leave it out" in lnz.data.load(path).protocol
    x[7, 0] += 1
    assert "counts" not in lnz.data.load(write_npy(tmp_path / "y.npy", x)).protocol


def test_colours_from_zero_to_one_turn_grey_too(tmp_path):
    x = np.random.RandomState(0).randint(0, 256, (10, 5, 6, 3)).astype(np.uint8)
    expected = lnz.data.read_rows(write_npy(tmp_path / "x.npy", x)).array / 255
    rows = lnz.data.read_rows(write_npy(tmp_path / "y.npy", (x / 255).astype(np.float32)))
    np.testing.assert_allclose(rows.array, expected, atol=0.51 / 255)  # a byte is rounded
    assert rows.image_shape == (5, 6)


def test_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(16), 8 * np.arange(16)).astype(np.uint8)
    write_folder(tmp_path / "x", {f"{i}.jpg": image_bytes(smooth + np.uint8(i), "JPEG", quality=95) for i in range(5)})
    x = lnz.data.read_rows(tmp_path / "x").array.reshape(5, 16, 16)
    assert np.abs(x[0].astype(int) - smooth).max() <= 4  # what JPEG at this quality may lose


# What an orientation asks of whoever looks at the picture.
TURNED = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_are_turned_as_their_metadata_say(tmp_path, kind):
    x = np.repeat(np.repeat([[0, 80, 160], [240, 120, 40]], 8, axis=0), 8, axis=1).astype(np.uint8)
    for orientation, turned in TURNED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        folder = tmp_path / str(orientation)
        rows = lnz.data.read_rows(write_folder(folder, {"a.x": image_bytes(x, kind, exif=exif)}))
        assert rows.image_shape == turned(x).shape
        difference = rows.array.reshape(rows.image_shape).astype(int) - turned(x)
        assert np.abs(difference).max() <= (0 if kind == "PNG" else 4), orientation


def test_colours_turn_grey_and_say_so(tmp_path):
    red = np.zeros((4, 3, 3, 3), np.uint8)
    red[..., 0] = 200 + np.arange(4)[:, None, None]
    splits = lnz.data.load(write_folder(tmp_path / "x", image_files(red)))
    np.testing.assert_array_equal(np.unique(together(splits)), [60, 61])  # 0.299 of red
    assert "colours turned grey" in splits.protocol


@pytest.mark.parametrize("is_zip", [False, True])
def test_sub_folders_are_labels(tmp_path, is_zip):
    x = pictures(12)
    files = {f"{'cat' if i % 3 else 'ape'}/{i:02d}.png": image_bytes(picture) for i, picture in enumerate(x)}
    files |= {"cat/.hidden": b"", ".DS_Store": b""}
    path = write_zip(tmp_path / "x.zip", files) if is_zip else write_folder(tmp_path / "x", files)
    splits = lnz.data.load(path)
    assert splits.label_names == ("ape", "cat")
    is_ape = {picture.tobytes(): i % 3 == 0 for i, picture in enumerate(x)}
    for part, labels in zip(parts_of(splits), splits.labels, strict=True):
        assert [is_ape[row.tobytes()] for row in part] == [label == 0 for label in labels]


def test_digest_of_a_folder_sees_names_and_contents(tmp_path):
    x = pictures(6)
    files = image_files(x)
    digests = {lnz.data.load(write_folder(tmp_path / "a", files)).source_digest}
    digests.add(lnz.data.load(write_folder(tmp_path / "b", files)).source_digest)
    assert len(digests) == 1
    digests.add(lnz.data.load(write_folder(tmp_path / "c", {f"x{k}": v for k, v in files.items()})).source_digest)
    digests.add(lnz.data.load(write_folder(tmp_path / "d", image_files(x[::-1]))).source_digest)
    assert len(digests) == 3


def test_parts_of_an_npz_stay_as_they_are(tmp_path):
    x = table(30)
    path = write_npz(tmp_path / "x.npz", train=x[:20], valid=x[20:24], test=x[24:])
    splits = lnz.data.load(path)
    for part, rows in zip(parts_of(splits), (x[:20], x[20:24], x[24:]), strict=True):
        np.testing.assert_array_equal(part, rows)
    assert "split as in the file: 20 train / 4 valid / 6 test" in splits.protocol
    np.testing.assert_array_equal(lnz.data.read_rows(path).array, x)


@pytest.mark.parametrize(("given", "missing"), [("test", "valid"), ("valid", "test")])
def test_missing_parts_are_split_off_train(tmp_path, given, missing):
    x, y = table(30), np.arange(30)
    arrays = {"x_train": x[:20], f"x_{given}": x[20:], "y_train": y[:20], f"y_{given}": y[20:]}
    splits = lnz.data.load(write_npz(tmp_path / "x.npz", **arrays), valid_fraction=0.25, test_fraction=0.25, seed=3)
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    labels = dict(zip(parts, splits.labels, strict=True))
    np.testing.assert_array_equal(parts[given], x[20:])
    np.testing.assert_array_equal(labels[given], y[20:])
    order = np.random.RandomState(3).permutation(20)
    np.testing.assert_array_equal(parts[missing], x[order[:5]])
    for name, part in parts.items():
        np.testing.assert_array_equal(part, x[labels[name]])
    assert f"{missing} split off train with seed 3, the rest as in the file" in splits.protocol


def test_labels_beside_one_array(tmp_path):
    x, y = table(30), np.array(list("abc") * 10)
    splits = lnz.data.load(write_npz(tmp_path / "x.npz", x=x, y=y))
    name_of = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
    for part, labels in zip(parts_of(splits), splits.labels, strict=True):
        assert [name_of[row.tobytes()] for row in part] == labels.tolist()


def test_split_depends_on_the_seed_alone(tmp_path):
    path = write_npy(tmp_path / "x.npy", table())
    first, again, other = (lnz.data.load(path, seed=seed) for seed in (1, 1, 2))
    for part, same in zip(parts_of(first), parts_of(again), strict=True):
        np.testing.assert_array_equal(part, same)
    assert not np.array_equal(first.test, other.test)
    np.testing.assert_array_equal(together(first), together(other))
    sizes = [len(part) for part in parts_of(lnz.data.load(path, valid_fraction=0.001, test_fraction=0.5))]
    assert sizes == [19, 1, 20]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64])
def test_zeros_and_ones_are_binary(tmp_path, dtype):
    x = np.random.RandomState(0).randint(0, 2, (20, 6)).astype(dtype)
    splits = lnz.data.load(write_npy(tmp_path / "x.npy", x))
    assert splits.space == lnz.Binary(6)
    assert splits.train.dtype == np.uint8
    np.testing.assert_array_equal(together(splits), sorted_rows(x.astype(np.uint8)))
    assert splits.space.check_data(splits.train) is splits.train


def test_binary_tables_and_images(tmp_path):
    x = np.random.RandomState(0).randint(0, 2, (20, 3, 4))
    flat = x.reshape(20, -1).astype(np.float32)
    for path in (
        write(tmp_path / "x.csv", csv_text(flat)),
        write_parquet(tmp_path / "x.parquet", **{str(i): flat[:, i].astype(bool) for i in range(12)}),
        write_npy(tmp_path / "float.npy", x.astype(np.float32)),
        write_npy(tmp_path / "byte.npy", x.astype(np.uint8)),
    ):
        splits = lnz.data.load(path)
        assert splits.space == lnz.Binary(12)
        assert splits.image_shape == ((3, 4) if path.suffix == ".npy" else None)
        np.testing.assert_array_equal(together(splits), sorted_rows(flat))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float16, np.float64])
def test_other_numbers_are_continuous(tmp_path, dtype):
    x = np.random.RandomState(0).randint(0, 100, (20, 3)).astype(dtype)
    splits = lnz.data.load(write_npy(tmp_path / "x.npy", x))
    assert splits.space == lnz.Euclidean(3)
    assert splits.train.dtype == (np.float64 if dtype in (np.int64, np.float64) else np.float32)
    np.testing.assert_array_equal(together(splits), sorted_rows(x.astype(np.float32)))


def test_bytes_of_a_parquet_file(tmp_path):
    x = pictures(20, 2, 2).reshape(20, 4)
    splits = lnz.data.load(write_parquet(tmp_path / "x.parquet", **columns_of(x, "abcd")))
    assert splits.train.dtype == np.uint8
    assert splits.space.num_categories == 256


def test_double_precision_is_kept(tmp_path, precision):
    """Columns far from zero need it until they are centred."""
    x = 1.7e9 + np.random.RandomState(0).randn(20, 3)
    splits = lnz.data.load(write_npy(tmp_path / "x.npy", x))
    assert splits.train.dtype == np.float64
    np.testing.assert_array_equal(together(splits), sorted_rows(x))
    np.testing.assert_array_equal(together(lnz.data.load(write(tmp_path / "x.csv", csv_text(x)))), sorted_rows(x))
    assert lnz.data.load(write_npy(tmp_path / "y.npy", table())).train.dtype == np.float32
    if precision == "float64":
        huge = write_npy(tmp_path / "huge.npy", x * 1e290)
        assert np.isfinite(lnz.data.load(huge).train).all()


def test_axes_of_what_is_no_picture_are_flattened(tmp_path):
    x = np.random.RandomState(0).randn(20, 2, 5)
    splits = lnz.data.load(write_npy(tmp_path / "x.npy", x))
    assert splits.image_shape is None
    assert "examples of shape (2, 5) flattened to rows" in splits.protocol
    assert lnz.data.load(write_npy(tmp_path / "y.npy", x > 0)).image_shape == (2, 5)
    grey = 1 / (1 + np.exp(-x))
    assert lnz.data.load(write_npy(tmp_path / "z.npy", grey)).image_shape == (2, 5)


def test_constant_pixels_are_fine(tmp_path):
    x = pictures()
    x[:, 0] = 7
    for name, kept in (("x.npy", x), ("y.npy", x > 100)):
        splits = lnz.data.load(write_npy(tmp_path / name, kept))
        assert splits.train.shape[1:] == (kept[0].size,)
        assert len(np.unique(splits.train.reshape(-1, *kept.shape[1:])[:, 0])) == 1


def test_names_of_columns(tmp_path):
    x = table()
    assert lnz.data.load(write(tmp_path / "a.csv", csv_text(x))).columns == ("0", "1", "2")
    assert lnz.data.load(write(tmp_path / "b.csv", csv_text(x, ["a", '"b,c"', "1"]))).columns == ("a", "b,c", "1")
    pandas = lnz.data.load(write(tmp_path / "c.csv", csv_text(x, "012")))
    assert pandas.columns == ("0", "1", "2")
    assert "first row 0, 1, 2, ... taken for column names" in pandas.protocol
    assert lnz.data.load(write_parquet(tmp_path / "d.parquet", **columns_of(x, NAMES))).columns == tuple(NAMES)
    assert lnz.data.load(write_npy(tmp_path / "x.npy", x)).columns is None


def with_index(x, name, values):
    lines = [f"{value},{line}" for value, line in zip(values, csv_text(x).splitlines(), strict=True)]
    return "\n".join([f"{name},a,b,c", *lines]) + "\n"


def parquet_of_pandas(path, x, index, described):
    """As pandas writes it: the index is a column, which only the metadata tell from the others."""
    table = pa.table({**columns_of(x, "abc"), index: np.arange(len(x))})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(described)}), path)
    return path


INDEXED = {
    "csv": ("", lambda folder, x: write(folder / "x.csv", with_index(x, "", range(len(x))))),
    "csv_shuffled": ("", lambda folder, x: write(folder / "x.csv", with_index(x, "", ORDER))),
    "csv_dates": (
        "",
        lambda folder, x: write(folder / "x.csv", with_index(x, "", [f"2020-01-{i:02d}" for i in range(len(x))])),
    ),
    "csv_read_again": (
        "Unnamed: 0",
        lambda folder, x: write(folder / "x.csv", with_index(x, "Unnamed: 0", range(len(x)))),
    ),
    "csv_read_and_written_again": (
        "Unnamed: 0",
        lambda folder, x: write(folder / "x.csv", with_index(x, ",Unnamed: 0", [f"{i},{i}" for i in range(len(x))])),
    ),
    "csv_read_twice": (
        "Unnamed: 0",
        lambda folder, x: write(
            folder / "x.csv", with_index(x, "Unnamed: 0.1,Unnamed: 0", [f"{i},{j}" for i, j in enumerate(ORDER)])
        ),
    ),
    "csv_of_two_indices": (
        "Unnamed: 1",
        lambda folder, x: write(
            folder / "x.csv", with_index(x, "Unnamed: 0,Unnamed: 1", [f"{i // 5},{i}" for i in range(len(x))])
        ),
    ),
    "csv_default_name": ("index", lambda folder, x: write(folder / "x.csv", with_index(x, "index", range(len(x))))),
    "csv_default_name_behind_an_index": (
        "index",
        lambda folder, x: write(folder / "x.csv", with_index(x, ",index", [f"{i},{j}" for j, i in enumerate(ORDER)])),
    ),
    "csv_default_names": (
        "index",
        lambda folder, x: write(folder / "x.csv", with_index(x, "level_0,index", [f"{i},{i}" for i in range(len(x))])),
    ),
    "parquet_default_name": (
        "index",
        lambda folder, x: write_parquet(folder / "x.parquet", index=np.arange(len(x)), **columns_of(x, "abc")),
    ),
    "parquet_of_a_csv_file": (
        "Unnamed: 0",
        lambda folder, x: write_parquet(
            folder / "x.parquet", **{"Unnamed: 0": np.arange(len(x)), **columns_of(x, "abc")}
        ),
    ),
    "parquet": (
        "__index_level_0__",
        lambda folder, x: parquet_of_pandas(
            folder / "x.parquet", x, "__index_level_0__", {"index_columns": ["__index_level_0__"]}
        ),
    ),
    "parquet_named": (
        "time",
        lambda folder, x: parquet_of_pandas(folder / "x.parquet", x, "time", {"index_columns": ["time"]}),
    ),
    "parquet_strange": (
        "__index_level_0__",
        lambda folder, x: parquet_of_pandas(folder / "x.parquet", x, "__index_level_0__", [7]),
    ),
}


@pytest.mark.parametrize(("name", "make"), INDEXED.values(), ids=INDEXED)
def test_the_index_of_pandas_is_named_and_left_out(tmp_path, name, make):
    x = table()
    path = make(tmp_path, x)
    splits = lnz.data.load(path)
    assert splits.columns == ("a", "b", "c")
    np.testing.assert_array_equal(together(splits), sorted_rows(x))
    assert f"the index column {name!r} left out" in splits.protocol
    rows = lnz.data.read_rows(path, columns=["c", "a"])
    np.testing.assert_array_equal(rows.array, x[:, [2, 0]])
    assert rows.left_out == ("b",)


def test_numbered_columns_beside_an_index(tmp_path):
    x = table()
    text = with_index(x, "", range(len(x))).replace(",a,b,c", ",0,1,2", 1)
    splits = lnz.data.load(write(tmp_path / "x.csv", text))
    assert splits.columns == ("0", "1", "2")
    np.testing.assert_array_equal(together(splits), sorted_rows(x))


LINES = {
    "header": ("a,b\n1,2\n3,4\n5,6\n", [2, 3, 4]),
    "no header": ("1,2\n3,4\n5,6\n", [1, 2, 3]),
    "windows": ("\ufeffa,b\r\n1,2\r\n3,4\r\n\r\n5,6\r\n", [2, 3, 5]),
    "empty lines": ("\n\na,b\n\n1,2\n3,4\n\n\n5,6\n\n", [5, 6, 9]),
    "one column": ("a\n1\n3\n5\n", [2, 3, 4]),
    "one column and empty lines at the end": ("a\n1\n3\n5\n\n\r\n", [2, 3, 4]),
    "one column without names": ("1\r\n3\r\n5\r\n\r\n", [1, 2, 3]),
    "quotes": ('a,t,b\n"1","x",2\n3,"x\ny\n",4\n5,"",6\n', [2, 3, 6]),
}


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(("text", "lines"), LINES.values(), ids=LINES)
def test_rows_of_a_text_table_are_lines_of_the_file(tmp_path, text, lines, is_packed):
    path = write_gzip(tmp_path / "x.csv.gz", text) if is_packed else write(tmp_path / "x.csv", text)
    rows = lnz.data.read_rows(path, columns=["a"] if "a" in text else ["0"])
    np.testing.assert_array_equal(rows.array[:, 0], [1, 3, 5])
    np.testing.assert_array_equal(rows.cells.names_of(np.arange(3)), lines)
    np.testing.assert_array_equal(rows.cells.names_of(np.array([2, 0])), [lines[2], lines[0]])
    assert [rows.cells.row(row) for row in range(3)] == [f"line {line}" for line in lines]


@pytest.mark.parametrize("limit", [2**30, 10])
def test_rows_of_the_test_split_are_lines_of_the_file(tmp_path, monkeypatch, limit):
    monkeypatch.setenv("LNZ_CACHE", str(tmp_path / "cache"))
    text = "\n" + csv_text(table(), "abc")
    splits = lnz.data.load(write(tmp_path / "x.csv", text), resident_limit=limit)
    lines = [int(splits.cells.row(i).removeprefix("line ")) for i in range(8)]
    found = [[float(cell) for cell in text.split("\n")[line - 1].split(",")] for line in lines]
    np.testing.assert_array_equal(splits.test, found)


def test_rows_of_a_given_test_part_are_its_own(tmp_path):
    path = write_npz(tmp_path / "x.npz", train=table(), test=table(9))
    splits, rows = lnz.data.load(path), lnz.data.read_rows(path)
    assert [splits.cells.row(i) for i in (0, 8)] == ["row 'test[0]'", "row 'test[8]'"]
    place = rows.cells.names_of(np.arange(len(rows.array))).tolist().index("test[8]")
    np.testing.assert_array_equal(rows.array[place], splits.test[8])


def test_header_of_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("LNZ_CACHE", str(tmp_path / "cache"))
    x = table(6)
    path = write(tmp_path / "x.csv", csv_text(x, ["2019", "2020", "2021"]))
    assert len(lnz.data.read_rows(path, header="no").array) == 7
    rows_alike = write(tmp_path / "z.csv", "2019,2020\n2020,2021\n2021,2022\n1,2\n")
    assert len(lnz.data.read_rows(rows_alike).array) == 4  # years in columns of years
    rows = lnz.data.read_rows(path, header="yes")
    np.testing.assert_array_equal(rows.array, x)
    assert rows.columns == lnz.data.load(path, header="yes").columns == ("2019", "2020", "2021")
    path = write(tmp_path / "y.csv", csv_text(x, "012"))
    assert len(lnz.data.read_rows(path, header="no").array) == 7
    assert "taken for column names" not in lnz.data.load(path, header="no").protocol
    # The converted tables of large files are told apart, too.
    for header, num in (("auto", 6), ("no", 7), ("auto", 6)):
        splits = lnz.data.load(path, header=header, resident_limit=10, valid_fraction=0.2)
        assert len(splits.train) + len(splits.valid) + len(splits.test) == num
    with pytest.raises(ValueError, match=r"`load\(header=...\)` must be one of 'auto', 'yes', 'no'; got 'maybe'"):
        lnz.data.load(path, header="maybe")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_chosen_columns(tmp_path, kind):
    x = table(7)
    if kind == "csv":
        lines = [f"{a!r},text,{b!r},{c!r}" for a, b, c in x.tolist()]
        path = write(tmp_path / "x.csv", "a,name,b.b,c\n" + "\n".join(lines))
    else:
        path = write_parquet(tmp_path / "x.parquet", a=x[:, 0], name=["text"] * 7, **{"b.b": x[:, 1]}, c=x[:, 2])
    rows = lnz.data.read_rows(path, columns=["c", "b.b"])
    assert rows.columns == ("c", "b.b")
    np.testing.assert_array_equal(rows.array, x[:, [2, 1]])
    with pytest.raises(ValueError, match=r"has no column 'cc'"):
        lnz.data.read_rows(path, columns=["cc"])
    with pytest.raises(ValueError, match=r"has no column 'nam': did you mean \"name\"\?"):
        lnz.data.read_rows(path, columns=["nam"])


def test_chosen_columns_of_a_file_without_names(tmp_path):
    path = write_npy(tmp_path / "x.npy", table(7))
    assert lnz.data.read_rows(path, columns=["a", "b", "c"]).columns == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"has 3 columns without names, but 2 were asked for"):
        lnz.data.read_rows(path, columns=["a", "b"])


def test_constant_columns_can_be_scored(tmp_path):
    path = write_npy(tmp_path / "x.npy", np.full((1, 3), 2.5))
    np.testing.assert_array_equal(lnz.data.read_rows(path).array, np.full((1, 3), 2.5))


def test_a_name_comes_before_a_folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "bars_and_stripes", image_files(pictures()))
    monkeypatch.chdir(tmp_path)
    assert lnz.data.load("bars_and_stripes") is lnz.data.load("bars_and_stripes")
    assert lnz.data.load("./bars_and_stripes").image_shape == (5, 4)
    assert lnz.data.load(Path("bars_and_stripes")).image_shape == (5, 4)


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_npy(tmp_path / "x.npy", table())
    assert len(lnz.data.load("~/x.npy").train) == 28


def test_text_tables_are_read_by_arrow_itself(tmp_path, monkeypatch):
    """Its thread would wait for Python in a file of Python's, and abort the program that ends meanwhile."""
    import pyarrow
    from pyarrow import csv

    open_csv, given = csv.open_csv, []

    def watch(file, *arguments):
        given.append(file)
        return open_csv(file, *arguments)

    monkeypatch.setattr(csv, "open_csv", watch)
    write(tmp_path / "ä.csv", csv_text(table(), "abc"))
    lnz.data.read_rows(tmp_path / "ä.csv")
    assert given
    assert all(isinstance(file, pyarrow.NativeFile) for file in given)


def test_missing_cells_may_have_a_blank_as_others_have(tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n1, \n2, 3\n4, NA\n")
    rows = lnz.data.read_rows(path, missing="mask")
    np.testing.assert_array_equal(rows.observed, [[True, False], [True, True], [True, False]])
    np.testing.assert_array_equal(rows.array, [[1, 0], [2, 3], [4, 0]])
    with pytest.raises(ValueError, match=r'column "b" has missing values \(the first in line 2\)'):
        lnz.data.read_rows(path)
