"""Named data sets: fixed splits, legal examples, and help with names."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import lnz

# The first digits of the SHA-256 of train, valid and test as stored: they must never change, on any machine.
HASHES = {
    "bars_and_stripes": ("7de9d3b61a02", "b01c1b33f9e5", "327c3a52d4a3"),
    "binary_digits": ("aee85df30e8d", "8797431ae537", "95e9806a6cbd"),
    "digits": ("09b003cb677d", "2d2c5ebb2b2b", "da0c4ce567dd"),
    "shifter": ("4d4e910fffdd", "f5514acaaf27", "6d2922eccde8"),
}
SIZES = {
    "bars_and_stripes": (2000, 500, 500),
    "binary_digits": (1257, 180, 360),
    "digits": (1257, 180, 360),
    "shifter": (2000, 500, 500),
}
NAMES = sorted(SIZES)
PUBLIC = ["binary_mnist", "caltech_silhouettes", "faces", "frey", "mnist", "omniglot_small"]
PUBLIC += ["miniboone_sample", "uci_kin40k", "uci_parkinsons", "uci_protein"]
ENERGIES = [f"energy_{number}" for number in (1, 2, 3, 4)]


def parts_of(splits):
    return splits.train, splits.valid, splits.test


@pytest.mark.parametrize("name", NAMES)
def test_splits_never_change(name):
    parts = parts_of(lnz.data.load(name))
    hashes = tuple(hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest()[:12] for part in parts)
    assert hashes == HASHES[name]
    assert tuple(len(part) for part in parts) == SIZES[name]


@pytest.mark.parametrize("name", NAMES)
def test_examples_live_in_their_space(name):
    splits = lnz.data.load(name)
    assert splits.name == name
    for part in parts_of(splits):
        assert part.dtype == np.uint8
        assert splits.space.check_data(part) is part
    if splits.image_shape is not None:
        assert np.prod(splits.image_shape) == splits.space.size
    for size in SIZES[name]:
        assert str(size) in splits.protocol


def test_digits_are_split_without_overlap():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    splits = lnz.data.load("digits")
    together = np.concatenate(parts_of(splits))
    labels = np.concatenate(splits.labels)
    # All 1797 digits are different pictures, so rows identify examples.
    number_of = {row.astype(np.uint8).tobytes(): i for i, row in enumerate(bunch.data)}
    numbers = [number_of[row.tobytes()] for row in together]
    assert sorted(numbers) == list(range(1797))
    np.testing.assert_array_equal(labels, bunch.target[numbers])
    assert [len(part) for part in splits.labels] == list(SIZES["digits"])


def test_binary_digits_are_digits_at_half_intensity():
    digits, binary = lnz.data.load("digits"), lnz.data.load("binary_digits")
    for grey, bits in zip(parts_of(digits), parts_of(binary), strict=True):
        np.testing.assert_array_equal(bits, grey >= 8)
    assert binary.space == lnz.Binary(64)
    assert digits.space.num_categories == 17
    assert digits.train.max() == 16
    assert 0.3 < binary.train.mean() < 0.36


def test_bars_and_stripes_are_full_lines():
    splits = lnz.data.load("bars_and_stripes")
    pictures = np.concatenate(parts_of(splits)).reshape(-1, 4, 4)
    rows = (pictures == pictures[:, :, :1]).all(axis=(1, 2))
    columns = (pictures == pictures[:, :1, :]).all(axis=(1, 2))
    assert (rows | columns).all()
    # 16 pictures of rows, 16 of columns, of which all on and all off are the same: 30, all of which occur.
    assert len(np.unique(pictures.reshape(-1, 16), axis=0)) == 30
    # Five standard errors of 3000 draws of four lines each, whose mean has variance 1/16.
    assert pictures.mean() == pytest.approx(0.5, abs=5 * 0.25 / np.sqrt(3000))
    assert rows.mean() == pytest.approx(0.5 + 1 / 16, abs=5 * 0.5 / np.sqrt(3000))


def test_shifter_examples_are_shifts():
    x = np.concatenate(parts_of(lnz.data.load("shifter")))
    bits, moved, label = x[:, :8], x[:, 8:16], x[:, 16:]
    np.testing.assert_array_equal(label.sum(axis=1), 1)
    for row in range(len(x)):
        np.testing.assert_array_equal(moved[row], np.roll(bits[row], int(label[row].argmax()) - 1))
    assert label.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=5 * np.sqrt(2 / 9 / 3000))
    assert bits.mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(8 * 3000))


def test_loading_twice_gives_the_same():
    assert lnz.data.load("shifter") is lnz.data.load("shifter")


@pytest.mark.parametrize(("name", "near"), [("digit", "digits"), ("bars", None), ("binary-digits", "binary_digits")])
def test_unknown_names(name, near):
    with pytest.raises(ValueError, match=f"Unknown data set '{name}'") as error:
        lnz.data.load(name)
    if near:
        assert f"Did you mean '{near}'?" in str(error.value)
    assert str(error.value).endswith(f"Known: {', '.join(lnz.data.names())}.")


@pytest.mark.parametrize(
    ("path", "near"),
    [("shiftr.csv", "shifter"), ("./digit", "digits"), (Path("mnst"), "mnist"), ("~/frey/x.npz", "bars_and_stripes")],
)
def test_files_that_do_not_exist(path, near):
    with pytest.raises(FileNotFoundError, match=f"There is no file .*nearest named data set is '{near}'"):
        lnz.data.load(path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        lnz.data.read_rows(Path(path))


def test_names_have_no_rows_to_read():
    with pytest.raises(ValueError, match=r"`read_rows` reads files: for 'digits' take a part of `lnz.data.load"):
        lnz.data.read_rows("digits")


def test_a_file_with_a_similar_name_is_named(tmp_path):
    (tmp_path / "my digits.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*mydigits.csv', but '.*my digits.csv'"):
        lnz.data.load(tmp_path / "mydigits.csv")


@pytest.mark.parametrize("source", [3, None, b"digits", ["digits"]])
def test_what_is_neither_name_nor_path(untyped, source):
    with pytest.raises(TypeError, match="needs the name of a data set, such as 'digits', or the path of a file; got"):
        lnz.data.load(source)


@pytest.mark.parametrize("source", ["", "a\0b", "a\0b.csv", "x" * 5000])
def test_odd_names_are_unknown(source):
    with pytest.raises((ValueError, FileNotFoundError), match=r"Unknown data set|There is no file"):
        lnz.data.load(source)


def test_every_name_is_described():
    assert lnz.data.names() == sorted([*NAMES, *ENERGIES, "two_moons", *PUBLIC])
    for name in lnz.data.names():
        line = lnz.data.describe(name)
        assert line
        assert "\n" not in line
        assert ("LNZ_DATA" in line) == (name in PUBLIC)
    with pytest.raises(ValueError, match="Did you mean 'mnist'"):
        lnz.data.describe("mnis")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"binarize": "treshold"}, r"`load\(binarize=...\)` must be one of 'none', 'sample', 'threshold'; got 'tresh"),
        ({"missing": "drop"}, r"`load\(missing=...\)` must be one of 'error', 'mask'; got 'drop'"),
        ({"threshold": 0.0}, r"`load\(threshold=...\)` must be more than 0 and at most 1; got 0.0"),
        ({"threshold": float("nan")}, r"`load\(threshold=...\)` must be more than 0"),
        ({"valid_fraction": 0.0}, r"`load\(valid_fraction=...\)` must be more than 0 and less than 1; got 0.0"),
        ({"test_fraction": 1.0}, r"`load\(test_fraction=...\)` must be more than 0 and less than 1; got 1.0"),
        ({"test_fraction": "a"}, r"`load\(test_fraction=...\)` must be more than 0 and less than 1; got 'a'"),
        ({"valid_fraction": 0.5, "test_fraction": 0.5}, r"must leave rows to train on; got 0.5 and 0.5"),
        ({"seed": -1}, r"`load\(seed=...\)` must be a whole number from 0 to 4294967295; got -1"),
        ({"seed": True}, r"`load\(seed=...\)` must be a whole number"),
        ({"resident_limit": 1.5}, r"`load\(resident_limit=...\)` must be a whole number"),
        ({"seed": 3}, r"`load\('digits'\)` has a split of its own, which `seed` does not change"),
        ({"threshold": 0.3}, "belongs to `binarize='threshold'`; with `binarize='none'` it means nothing"),
        (
            {"valid_fraction": 0.2},
            r"`load\('digits'\)` has a split of its own, which `valid_fraction` does not change",
        ),
    ],
)
def test_options_say_what_is_wrong(untyped, options, words):
    with pytest.raises(ValueError, match=words):
        lnz.data.load("digits", **options)


def test_two_moons_are_two_half_circles():
    splits = lnz.data.load("two_moons")
    assert [len(part) for part in parts_of(splits)] == [2000, 500, 500]
    assert splits.space.check_data(splits.train).dtype == np.float32
    centres = np.array([[1.0, 0.5], [0.0, 0.0]])[splits.labels[0]]
    radius = np.linalg.norm(splits.train - centres, axis=1)
    # E r = 1 + 0.1**2 / 2 to second order, s.e. 0.1 / sqrt(2000): five standard errors, a false alarm in 2 million.
    assert radius.mean() == pytest.approx(1.005, abs=0.011)
    assert radius.std() == pytest.approx(0.1, abs=0.01)


def test_splits_show_their_sizes_and_not_their_arrays():
    splits = lnz.data.load("bars_and_stripes")
    sizes = f"{len(splits.train)} train / {len(splits.valid)} valid / {len(splits.test)} test"
    assert repr((splits,)) == f"(Splits('bars_and_stripes', {splits.space}, {sizes}),)"
