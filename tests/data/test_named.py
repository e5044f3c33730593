"""Named data sets: fixed splits, legal examples, and help with names."""

import hashlib

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
        assert np.prod(splits.image_shape) == splits.space.num_dimensions
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
    assert str(error.value).endswith("Known: bars_and_stripes, binary_digits, digits, shifter.")
