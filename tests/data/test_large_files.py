"""Files that are mapped from disk, or converted once: the same numbers as in memory."""

import os
from contextlib import nullcontext

import numpy as np
import pytest
from writers import (
    columns_of,
    csv_text,
    parts_of,
    pictures,
    table,
    write,
    write_gzip,
    write_npy,
    write_parquet,
)

import lnz
import lnz.data._large as large
import lnz.data._prepare as prepare


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, and blocks of a few rows."""
    monkeypatch.setenv("LNZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lnz.data._checks._BLOCK_BYTES", 100)
    monkeypatch.setattr("lnz.data._parquet._BLOCK_BYTES", 100)
    monkeypatch.setattr("lnz.data._csv._BLOCK_BYTES", 400)
    return tmp_path / "cache" / "tables"


def bits(num=50):
    return np.random.RandomState(0).randint(0, 2, (num, 4))


MAPPED = {
    "float32": table(50),
    "float64": table(50).astype(np.float64),
    "bytes": pictures(50).reshape(50, 20),
    "images": pictures(50),
    "bits": bits().astype("u1"),
}
CONVERTED = {
    "big_endian": lambda folder: write_npy(folder / "x.npy", table(50).astype(">f4")),
    "fortran": lambda folder: write_npy(folder / "x.npy", np.asfortranarray(table(50))),
    "fortran_images": lambda folder: write_npy(folder / "x.npy", np.asfortranarray(pictures(50))),
    "integers": lambda folder: write_npy(folder / "x.npy", pictures(50).reshape(50, 20).astype(np.int64)),
    "bits_of_floats": lambda folder: write_npy(folder / "x.npy", bits().astype(np.float32)),
    "bits_of_bools": lambda folder: write_npy(folder / "x.npy", bits().astype(bool)),
    "csv": lambda folder: write(folder / "x.csv", csv_text(table(50), ["a", "b", "c"])),
    "csv_gz": lambda folder: write_gzip(folder / "x.csv.gz", csv_text(table(50))),
    "csv_bits": lambda folder: write(folder / "x.csv", csv_text(bits())),
    "parquet": lambda folder: write_parquet(folder / "x.parquet", **columns_of(table(50), "abc")),
    "parquet_bytes": lambda folder: write_parquet(
        folder / "x.parquet", **columns_of(MAPPED["bytes"], "abcdefghijklmnopqrst")
    ),
}


def check_like_resident(path, **options):
    """The mapped set has the rows of the resident one, in the order of the file."""
    rows = lnz.data.load(path, **options)
    splits = lnz.data.load(path, resident_limit=99, **options)
    assert isinstance(splits.train, np.memmap)
    assert not splits.train.flags.writeable
    assert not isinstance(splits.valid, np.memmap)
    assert (splits.space, splits.columns, splits.image_shape) == (rows.space, rows.columns, rows.image_shape)
    assert splits.source_digest == rows.source_digest
    assert [len(part) for part in parts_of(splits)] == [35, 5, 10]
    order = np.random.RandomState(options.get("seed", 0)).permutation(50)
    x = np.concatenate(parts_of(splits))
    for part, numbers in zip(parts_of(rows), (order[15:], order[10:15], order[:10]), strict=True):
        assert part.dtype == x.dtype
        np.testing.assert_array_equal(part, x[numbers])
    assert "rows not shuffled before the split, valid and test are its last rows: 35 train / 5 valid / 10 test" in (
        splits.protocol
    )
    assert splits.protocol.split("10 test")[1] == rows.protocol.split("10 test")[1]
    return splits


@pytest.mark.parametrize("name", MAPPED)
def test_arrays_are_mapped_as_they_are(tmp_path, cache, name):
    splits = check_like_resident(write_npy(tmp_path / "x.npy", MAPPED[name]))
    assert splits.train.filename == str(tmp_path / "x.npy") or os.fspath(splits.train.filename) == str(
        tmp_path / "x.npy"
    )
    assert not cache.exists()


@pytest.mark.parametrize("make", CONVERTED.values(), ids=CONVERTED)
def test_others_are_converted_once(tmp_path, cache, monkeypatch, make):
    path = make(tmp_path)
    check_like_resident(path)
    (file,) = cache.iterdir()
    time = file.stat().st_mtime_ns
    monkeypatch.setattr(large, "_survey", None)  # the second time nothing is gone through
    check_like_resident(path)
    assert [file.stat().st_mtime_ns for file in cache.iterdir()] == [time]


@pytest.mark.parametrize("how", ["threshold", "sample"])
@pytest.mark.parametrize("kind", ["bytes", "images", "floats", "csv"])
def test_bits_are_made_while_converting(tmp_path, cache, how, kind):
    unit = np.random.RandomState(0).rand(50, 4).astype(np.float32)
    if kind == "csv":
        path = write(tmp_path / "x.csv", csv_text(unit))
    else:
        path = write_npy(tmp_path / "x.npy", unit if kind == "floats" else MAPPED[kind])
    options = {"binarize": how, **({"threshold": 0.3} if how == "threshold" else {})}
    splits = check_like_resident(path, **options, seed=4)
    assert splits.space == lnz.Binary(splits.train.shape[1])
    assert splits.train.dtype == np.uint8
    check_like_resident(path, **options, seed=5)
    check_like_resident(path)
    assert len(list(cache.iterdir())) == 2 + (kind == "csv")


@pytest.mark.parametrize("make", [CONVERTED["csv_bits"], CONVERTED["bits_of_bools"]])
def test_what_is_binary_already_is_converted_once(tmp_path, cache, make):
    path = make(tmp_path)
    for how in ("threshold", "sample", "none", "threshold"):
        assert "binary where" not in check_like_resident(path, binarize=how).protocol
    assert len(list(cache.iterdir())) == 1


def test_a_converted_table_is_known_by_its_content(tmp_path, cache):
    """Neither by its time and size, which a changed file may share, nor by its name, which a moved one does not."""
    path = write(tmp_path / "x.csv", csv_text(table(50)))
    check_like_resident(path)
    state = path.stat()
    changed = path.read_text().replace("1", "2")
    assert len(changed) == state.st_size
    path.write_text(changed)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_mtime_ns == state.st_mtime_ns
    check_like_resident(path)
    files = {file.name for file in cache.iterdir()}
    assert len(files) == 2
    (tmp_path / "elsewhere").mkdir()
    path.rename(tmp_path / "elsewhere" / "x.csv")
    check_like_resident(tmp_path / "elsewhere" / "x.csv")
    assert {file.name for file in cache.iterdir()} == files


def test_a_table_that_changes_while_it_is_converted_is_refused(tmp_path, cache, monkeypatch):
    path = write(tmp_path / "x.csv", csv_text(table(50)))
    survey = large._survey

    def survey_and_change(*arguments):
        found = survey(*arguments)
        path.write_text(path.read_text().replace("1", "2"))
        return found

    monkeypatch.setattr(large, "_survey", survey_and_change)
    with pytest.raises(ValueError, match="changed while it was read"):
        lnz.data.load(path, resident_limit=99)
    assert list(cache.iterdir()) == []


def test_precision_is_kept_and_part_of_the_key(tmp_path, cache, precision):
    x = 1.7e9 + np.random.RandomState(0).randn(50, 3)
    splits = check_like_resident(write(tmp_path / "x.csv", csv_text(x)))
    np.testing.assert_array_equal(np.concatenate(parts_of(splits)), x)
    huge = write(tmp_path / "huge.csv", csv_text(x * 1e200))  # refused where JAX computes in float32
    with pytest.raises(ValueError, match="too large for float32") if precision == "float32" else nullcontext():
        lnz.data.load(huge, resident_limit=99)


def test_the_limit_decides_not_the_cache(tmp_path, cache):
    path = write(tmp_path / "x.csv", csv_text(table(50)))
    check_like_resident(path)
    assert not isinstance(lnz.data.load(path, resident_limit=50 * 3 * 8).train, np.memmap)
    assert isinstance(lnz.data.load(path, resident_limit=50 * 3 * 8 - 1).train, np.memmap)


def test_held_out_rows_are_capped(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "MAX_HELD_OUT", 3)
    x = table(50)
    splits = lnz.data.load(write_npy(tmp_path / "x.npy", x), resident_limit=0)
    np.testing.assert_array_equal(splits.train, x[:44])
    np.testing.assert_array_equal(splits.valid, x[44:47])
    np.testing.assert_array_equal(splits.test, x[47:])
    assert "44 train / 3 valid / 3 test" in splits.protocol


def test_rows_to_score_can_be_mapped(tmp_path, monkeypatch):
    x = table(50)
    path = write(tmp_path / "x.csv", csv_text(x, "abc"))
    monkeypatch.setattr("lnz.data._load.Options", lambda *_, **__: large.Options(resident_limit=10))
    rows = lnz.data.read_rows(path, columns=["c", "a"])
    assert isinstance(rows.array, np.memmap)
    np.testing.assert_array_equal(rows.array, x[:, [2, 0]])
    np.testing.assert_array_equal(lnz.data.read_rows(path).array, x)


@pytest.mark.parametrize("kind", ["npy", "csv", "parquet"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"COLUMN has missing values \(.* in PLACE\)"),
        (np.inf, r"COLUMN has infinite values \(inf in PLACE\)"),
        (1e60, r"has the value 1e\+60 at PLACE, COLUMN, too large for float32: rescale the column"),
    ],
)
def test_values_are_checked_in_blocks(tmp_path, cache, kind, value, words):
    x = table(50).astype(np.float64)
    x[41, 1] = value
    if kind == "npy":
        path = write_npy(tmp_path / "x.npy", x)
    elif kind == "csv":
        path = write(tmp_path / "x.csv", csv_text(x, "abc"))
    else:
        path = write_parquet(tmp_path / "x.parquet", **columns_of(x, "abc"))
    # A text table counts lines from 1, its header among them.
    words = words.replace("PLACE", "line 43" if kind == "csv" else "row 41")
    words = words.replace("COLUMN", "column 1" if kind == "npy" else 'column "b"')
    for limit in (0, 2**30):
        with pytest.raises(ValueError, match=words):
            lnz.data.load(path, resident_limit=limit)
    assert not cache.exists() or not list(cache.iterdir())  # nothing half-made stays


def test_other_mistakes_are_found_in_blocks(tmp_path):
    x = table(50)
    x[:, 1] = 2.5
    with pytest.raises(ValueError, match=r"the same value 2.5 in all 35 training rows of column 1"):
        lnz.data.load(write_npy(tmp_path / "x.npy", x), resident_limit=0)
    text = csv_text(table(50), "abc").splitlines()
    text[45] = "1,many,2"
    with pytest.raises(ValueError, match=r'column "b" has text \(\'many\' in line 46\)'):
        lnz.data.load(write(tmp_path / "x.csv", "\n".join(text)), resident_limit=0)
    text[45] = "1,2"
    with pytest.raises(ValueError, match=r"2 cells in line 46, but 3"):
        lnz.data.load(write(tmp_path / "x.csv", "\n".join(text)), resident_limit=0)


def test_a_disk_that_is_too_small_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "x.csv", csv_text(table(50)))
    monkeypatch.setattr(large.shutil, "disk_usage", lambda folder: large.shutil._ntuple_diskusage(10, 0, 10))
    with pytest.raises(OSError, match=r"needs .* GiB in .*: set LNZ_CACHE to a folder on a larger disk"):
        lnz.data.load(path, resident_limit=0)


def test_the_checks_of_blocks_see_several(tmp_path):
    """The block sizes of this file are small enough to have many blocks of every kind."""
    path = write(tmp_path / "x.csv", csv_text(table(50)))
    from lnz.data._csv import open_csv
    from lnz.data._parquet import open_parquet

    assert len(list(open_csv(path).read())) > 3
    path = write_parquet(tmp_path / "x.parquet", **columns_of(table(50), "abc"))
    assert len(list(open_parquet(path).read())) > 3


def test_cells_with_line_breaks_may_lie_across_blocks(tmp_path):
    x = table(50)
    lines = [f'{a},"text {i},\nmore",{c}' for i, (a, _, c) in enumerate(x.astype(np.float64).tolist())]
    path = write(tmp_path / "x.csv", "\n".join(["a,b,c", *lines]) + "\n")
    np.testing.assert_array_equal(lnz.data.read_rows(path, columns=("a", "c")).array, x[:, [0, 2]])
