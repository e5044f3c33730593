"""Public tables: stand-ins of the right format in LNZ_DATA, with the traps of the real ones."""

import numpy as np
import pytest
from writers import parts_of, write_npz

import lnz


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LNZ_DATA", str(tmp_path))
    return tmp_path


def table(num=200, num_columns=9):
    return np.random.RandomState(0).normal(size=(num, num_columns)).astype(np.float32)


def test_repeated_rows_and_discrete_columns_are_left_out(folder):
    x = table()
    x[:, 2], x[:, 5] = np.round(x[:, 2]), 1.5
    x[50:60] = x[10:20]
    write_npz(folder / "uci_regression_small.npz", kin40k=x, wine=table(40, 3))
    splits = lnz.data.load("uci_kin40k")
    rows = np.concatenate(parts_of(splits))
    assert rows.shape == (190, 7)
    assert rows.dtype == np.float32
    assert len(np.unique(rows, axis=0)) == 190
    assert splits.space == lnz.Euclidean(7)
    assert splits.columns == tuple(f"column {i}" for i in (0, 1, 3, 4, 6, 7, 8))
    assert "152 train / 19 valid / 19 test" in splits.protocol
    assert "10 repeated rows and the discrete columns left out (2, 5)" in splits.protocol
    again = lnz.data.load("uci_kin40k")
    np.testing.assert_array_equal(rows, np.concatenate(parts_of(again)))


def test_miniboone_keeps_its_order(folder):
    x = table(100, 43)
    np.save(folder / "miniboone_first1523.npy", x)
    splits = lnz.data.load("miniboone_sample")
    assert [len(part) for part in parts_of(splits)] == [81, 9, 10]
    np.testing.assert_array_equal(np.concatenate(parts_of(splits)), x)
    assert "published results are of 36488 rows" in splits.protocol


@pytest.mark.parametrize("x", [table(200, 8), np.round(table()), table() * np.nan, table(20)])
def test_another_file_is_refused(folder, x):
    write_npz(folder / "uci_regression_small.npz", kin40k=x)
    with pytest.raises(ValueError, match="`kin40k`"):
        lnz.data.load("uci_kin40k")
    np.save(folder / "miniboone_first1523.npy", x)
    with pytest.raises(ValueError, match="43 columns"):
        lnz.data.load("miniboone_sample")


def test_a_missing_file_says_what_to_do():
    with pytest.raises(FileNotFoundError, match=r"uci_regression_small\.npz.*set LNZ_DATA"):
        lnz.data.load("uci_protein")
