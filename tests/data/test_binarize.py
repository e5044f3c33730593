"""Grey values to bits: exact thresholds, honest draws, and the demand for bits."""

import re

import numpy as np
import pytest
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
    write_npy,
    write_npz,
    write_parquet,
    write_zip,
)

import lnz
from lnz.data._files import rows_of
from lnz.data._options import Options


def test_threshold_of_bytes(tmp_path):
    x = np.array([[0, 127, 128, 255], [1, 126, 129, 254]] * 5, np.uint8)
    path = write_npy(tmp_path / "x.npy", x)
    splits = lnz.data.load(path, binarize="threshold")
    assert splits.space == lnz.Binary(4)
    assert splits.train.dtype == np.uint8
    np.testing.assert_array_equal(together(splits), np.tile([0, 0, 1, 1], (10, 1)))
    assert splits.protocol.endswith("7 train / 1 valid / 2 test, binary where the value is at least 127.5 (0.5 of 255)")
    np.testing.assert_array_equal(
        together(lnz.data.load(path, binarize="threshold", threshold=1.0)),
        sorted_rows((x == 255).astype(np.uint8)),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threshold_of_floats(tmp_path, dtype):
    x = np.array([[0, 0.69, 0.7, 1], [0.1, 0.5, 0.7000001, 0.9]] * 5, dtype)
    splits = lnz.data.load(write_npy(tmp_path / "x.npy", x), binarize="threshold", threshold=0.7)
    # A value of exactly 0.7 counts, although neither precision holds 0.7 exactly.
    np.testing.assert_array_equal(together(splits), np.tile([0, 0, 1, 1], (10, 1)))
    assert "binary where the value is at least 0.7" in splits.protocol


def test_image_shape_and_labels_stay(tmp_path):
    path = write_npz(tmp_path / "x.npz", x=pictures(), y=np.arange(20))
    grey, binary = lnz.data.load(path), lnz.data.load(path, binarize="threshold")
    assert binary.image_shape == grey.image_shape == (5, 4)
    for before, after, y, same in zip(parts_of(grey), parts_of(binary), grey.labels, binary.labels, strict=True):
        np.testing.assert_array_equal(after, before >= 128)
        np.testing.assert_array_equal(y, same)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_draws_have_the_right_mean(tmp_path, kind):
    values = np.array([0, 1, 64, 128, 200, 255], np.uint8)
    # Equal rows have equal bits: four more columns make the rows different.
    others = np.random.RandomState(0).randint(0, 256, (20_000, 4)).astype(np.uint8)
    x = np.concatenate([np.tile(values, (20_000, 1)), others], axis=1)
    assert len(np.unique(x, axis=0)) == len(x)
    x = x if kind == "uint8" else (x / np.float32(255)).astype(np.float32)
    path = write_npy(tmp_path / "x.npy", x)
    splits = lnz.data.load(path, binarize="sample", seed=5)
    bits = np.concatenate(parts_of(splits))[:, :6]
    p = values / 255
    assert set(np.unique(bits)) == {0, 1}
    # Five standard errors for four columns and two kinds; the seed is fixed: a change of the stream would fail
    # with chance 5e-6. The first and last columns are never and always set.
    bound = 5 * np.sqrt(p * (1 - p) / len(x))
    assert (np.abs(bits.mean(axis=0) - p) <= bound).all()
    # Columns are drawn apart from each other: their correlation is zero within five standard errors, 1e-6 by chance.
    assert abs(np.corrcoef(bits[:, 3], bits[:, 4])[0, 1]) < 5 / np.sqrt(len(x))
    scale = "value / 255" if kind == "uint8" else "the value"
    assert f"bits drawn once with probability {scale} (seed 5), equal ones for equal rows" in splits.protocol


def mixed(z):
    """The finaliser of SplitMix64 in whole numbers of Python."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def drawn(row, seed):
    gamma = 0x9E3779B97F4A7C15
    state = mixed(seed + 1)
    for value in row:
        state = mixed(((state ^ int(np.float64(value).view(np.uint64))) + gamma) % 2**64)
    words = [mixed((state + gamma * i) % 2**64) for i in range(1, len(row) + 1)]
    return np.array([word >> 11 for word in words]) * 2.0**-53 < row


def test_draws_are_those_of_the_seed(tmp_path):
    x = pictures(30, 4, 4).reshape(30, 16)
    path = write_npy(tmp_path / "x.npy", x)
    splits = lnz.data.load(path, binarize="sample", seed=7)
    bits = np.array([drawn(row / 255, 7) for row in x])
    order = np.random.RandomState(7).permutation(30)
    np.testing.assert_array_equal(splits.test, bits[order[:6]])
    np.testing.assert_array_equal(splits.train, bits[order[9:]])
    other = lnz.data.load(path, binarize="sample", seed=8)
    assert not np.array_equal(together(splits), together(other))


def test_bits_stay_as_they_are(tmp_path):
    x = np.random.RandomState(0).randint(0, 2, (20, 5))
    path = write_npy(tmp_path / "x.npy", x)
    plain = lnz.data.load(path)
    for how in ("threshold", "sample"):
        splits = lnz.data.load(path, binarize=how)
        np.testing.assert_array_equal(splits.train, plain.train)
        assert splits.protocol == plain.protocol
    assert lnz.data.load("shifter", binarize="sample") is lnz.data.load("shifter")


DARK = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]], np.uint8)
GREY_FILES = {
    "folder": lambda folder, x: write_folder(folder / "x", image_files(x)),
    "zip": lambda folder, x: write_zip(folder / "x.zip", image_files(x)),
    "npy": lambda folder, x: write_npy(folder / "x.npy", x),
    "npy of rows": lambda folder, x: write_npy(folder / "x.npy", x.reshape(len(x), -1)),
    "npy of colours": lambda folder, x: write_npy(folder / "x.npy", np.stack([x] * 3, axis=-1)),
    "npz": lambda folder, x: write_npz(folder / "x.npz", x=x),
    "idx": lambda folder, x: write(folder / "x.idx", idx_bytes(x)),
    "parquet": lambda folder, x: write_parquet(folder / "x.parquet", **columns_of(x.reshape(len(x), -1), "abcd")),
}


@pytest.mark.parametrize("limit", [2**30, 0])
@pytest.mark.parametrize("how", ["threshold", "sample"])
@pytest.mark.parametrize(("kind", "make"), GREY_FILES.items(), ids=GREY_FILES)
def test_bits_of_a_row_do_not_depend_on_other_rows(tmp_path, monkeypatch, kind, make, how, limit):
    """Bytes of 0 and 1 alone, beside brighter ones or not: 1 means 1 of 255, or is refused."""
    monkeypatch.setenv("LNZ_CACHE", str(tmp_path / "cache"))
    options = Options(how, resident_limit=limit)
    alone = make(tmp_path, DARK)
    if kind not in ("folder", "zip"):
        with pytest.raises(ValueError, match="has only bytes 0 and 1, but `binarize="):
            rows_of(alone, None, options)
        lnz.data.load(alone)
        with pytest.raises(ValueError, match="has only bytes 0 and 1, but `binarize="):
            rows_of(alone, None, options)
        (tmp_path / "black").mkdir()
        black = rows_of(make(tmp_path / "black", DARK[1:2]), None, options)
        assert not black.array.any()
        return
    (tmp_path / "beside").mkdir()
    beside = rows_of(
        make(tmp_path / "beside", np.concatenate([DARK, np.full((1, 2, 2), 255, np.uint8)])), None, options
    )
    np.testing.assert_array_equal(rows_of(alone, None, options).array, beside.array[:3])
    assert beside.array[3].all()
    with pytest.raises(ValueError, match=r"has no byte above 1, but `binarize=.*images: leave out `binarize`"):
        lnz.data.load(alone, binarize=how)
    assert lnz.data.load(alone).space == lnz.Binary(4)


@pytest.mark.parametrize("limit", [2**30, 0])
@pytest.mark.parametrize("kind", ["folder", "npy", "npy of rows", "parquet"])
def test_drawn_bits_of_a_row_depend_on_that_row_alone(tmp_path, monkeypatch, kind, limit):
    """Rows in another order, beside others, repeated, or alone."""
    monkeypatch.setenv("LNZ_CACHE", str(tmp_path / "cache"))
    x = pictures(12, 2, 2)
    options = Options("sample", seed=3, resident_limit=limit)
    bits = []
    for number, index in enumerate((np.arange(12), np.arange(12)[::-1], [5], [2, 5, 5, 5, 9])):
        (tmp_path / str(number)).mkdir()
        made = rows_of(GREY_FILES[kind](tmp_path / str(number), x[index]), None, options).array
        bits += [(row, tuple(value)) for row, value in zip(index, made, strict=True)]
    assert len(set(bits)) == 12
    assert len({value for _, value in bits}) > 6  # different rows have bits of their own


FLAT = {
    "digits up to 16": (np.arange(60).reshape(20, 3) % 17, {}, "has no byte above 16, but .* divided by 16 or"),
    "drawn from dark values": (
        np.arange(60).reshape(20, 3) % 32,
        {"binarize": "sample"},
        "has no byte above 31, but `binarize='sample'` takes 255 as their full scale",
    ),
    "below the threshold": (
        40 + np.arange(60).reshape(20, 3),
        {},
        r"the bit 0 in all 14 training rows after `binarize='threshold', threshold=0.5` \(the largest value is 99\)",
    ),
    "below a high threshold": (40 + np.arange(60).reshape(20, 3), {"threshold": 0.9}, "threshold=0.9`.* value is 99"),
    "above the threshold": (196 + np.arange(60).reshape(20, 3), {}, "has only the bit 1 in all 14 training rows"),
    "floats below": (0.4 * np.random.RandomState(0).rand(20, 3), {}, r"has only the bit 0 .* value is 0\.3\d+\)"),
    "black": (np.zeros((20, 3)), {}, "has only the bit 0 in all 14 training rows"),
}


@pytest.mark.parametrize("limit", [2**30, 0])
@pytest.mark.parametrize("name", FLAT)
def test_values_that_never_pass_the_threshold_are_refused_for_training(tmp_path, monkeypatch, name, limit):
    monkeypatch.setenv("LNZ_CACHE", str(tmp_path / "cache"))
    x, options, words = FLAT[name]
    options = {"binarize": "threshold", "resident_limit": limit, **options}
    path = write_npy(tmp_path / "x.npy", x.astype(np.uint8) if x.dtype.kind == "i" else x)
    if not limit:  # of a file that is mapped, the largest value is not kept
        words = re.sub(r"( \\\(|\.\*).*value is.*", "", words)
    for _ in range(2 if not limit else 1):  # also from the cache
        with pytest.raises(ValueError, match=words):
            lnz.data.load(path, **options)
    del options["resident_limit"]
    if "no byte" in words:  # of another scale than whatever was trained on
        with pytest.raises(ValueError, match=words):
            lnz.data.read_rows(path, **options)
    else:
        assert set(np.unique(lnz.data.read_rows(path, **options).array)) <= {0, 1}  # scored, each row by itself


def test_a_dark_folder_of_images_is_refused_for_training(tmp_path):
    path = GREY_FILES["folder"](tmp_path, np.arange(80).reshape(20, 2, 2).astype(np.uint8) % 17)
    for how in ("threshold", "sample"):
        with pytest.raises(ValueError, match=r"has no byte above 16, but .*images: leave out `binarize`"):
            lnz.data.load(path, binarize=how)


def image_files(x):
    return {f"{number}.png": image_bytes(picture) for number, picture in enumerate(x)}


@pytest.mark.parametrize("how", ["threshold", "sample"])
@pytest.mark.parametrize("value", [1.5, -0.25, 255.0])
def test_floats_outside_of_the_scale(tmp_path, how, value):
    x = np.random.RandomState(0).rand(20, 3)
    x[11, 2] = value
    path = write(tmp_path / "x.csv", csv_text(x, "abc"))
    words = rf'x.csv` has the value {value} at line 13, column "c", but floats must lie between 0 and 1'
    words += r".*: subtract the lowest value, then divide by the highest" if value < 0 else ".*: divide by the largest"
    with pytest.raises(ValueError, match=words):
        lnz.data.load(path, binarize=how)


def test_named_sets_can_be_binarized():
    grey, binary = lnz.data.load("digits"), lnz.data.load("digits", binarize="threshold")
    for part, bits in zip(parts_of(binary), parts_of(lnz.data.load("binary_digits")), strict=True):
        np.testing.assert_array_equal(part, bits)
    assert binary.space == lnz.Binary(64)
    assert "binary where the value is at least 8 (0.5 of 16)" in binary.protocol
    drawn = lnz.data.load("digits", binarize="sample")
    assert drawn.labels is grey.labels
    # Five standard errors at the fixed seed, 6e-7 by chance.
    p = np.concatenate(parts_of(grey)) / 16
    bits = np.concatenate(parts_of(drawn))
    assert abs(bits.mean() - p.mean()) < 5 * np.sqrt((p * (1 - p)).sum()) / p.size


def test_require_binary_returns_bits():
    splits = lnz.data.load("shifter")
    assert lnz.data.require_binary(splits) is splits


def test_require_binary_names_the_first_other_value(tmp_path):
    x = np.zeros((10, 3), np.uint8)
    x[6, 1] = 9
    path = write_npz(tmp_path / "x.npz", train=x[:5], valid=x[5:7], test=x[7:])
    with pytest.raises(ValueError, match=r"has the value 9 at row 1, column 1 of `valid`: try data.binarize=threshold"):
        lnz.data.require_binary(lnz.data.load(path))


def test_require_binary_names_the_column(tmp_path):
    splits = lnz.data.load(write(tmp_path / "x.csv", csv_text(table(), ["a", "b c", "d"])))
    words = re.escape(f'`x.csv` has the value {splits.train[0, 0]} at row 0, column "a" of `train`: try data.bina')
    with pytest.raises(ValueError, match=words) as error:
        lnz.data.require_binary(splits)
    for spelling in ("data.binarize=sample", "--set data.binarize=threshold", 'load(..., binarize="threshold")'):
        assert spelling in str(error.value)
