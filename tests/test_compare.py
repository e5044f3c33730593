"""What a comparison says of its rows: the direction of each number, and what may be called best."""

import itertools

import numpy as np
import pytest

import lnz
from lnz.core import flip_bound
from lnz.evaluation import bits_with_direction, marked_bound

BOUNDS = ("exact", "unbiased", "lower", "upper", "estimate")


def result(value, bound="exact", warnings=(), base_measure="counting"):
    stats = {
        "num_dimensions": 2,
        "protocol": "by hand",
        "warnings": list(warnings),
        "fingerprint": {"data": "a", "space": "b", "base_measure": base_measure},
    }
    return lnz.LogLikelihood(value, 0.1, 0.2, bound, value + np.linspace(-1, 1, 5), stats)


def rows_of(*results):
    return lnz.compare({f"row {i}": row for i, row in enumerate(results)}).rows


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_single_row_is_not_best(bound):
    comparison = lnz.compare({"only": result(-1.0, bound)})
    assert comparison.rows[0]["standing"] == ""
    assert "best" not in str(comparison)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(BOUNDS, BOUNDS)))
def test_what_may_not_be_the_highest_is_not_best(first, second):
    top, below = rows_of(result(-1.0, first), result(-2.0, second))
    may_err_upwards = flip_bound(first) in ("lower", "estimate")
    other_may_be_higher = second in ("lower", "estimate")
    is_open = first != second and (may_err_upwards or other_may_be_higher)
    assert top["standing"] == ("highest" if is_open else "best")
    assert below["standing"] == ""


@pytest.mark.parametrize("bound", BOUNDS)
def test_warnings_stay_with_their_number(bound):
    rows = rows_of(result(-1.0, bound, ["Whole numbers."]), result(-2.0, bound))
    assert [row["warnings"] for row in rows] == [["Whole numbers."], []]
    assert rows[0]["standing"] == "highest"
    assert [marked_bound(row) for row in rows] == [f"{bound} (!)", bound]
    assert f"{bound} (!)" in str(lnz.compare({"a": result(-1.0, bound, ["Whole numbers."])}))
    assert result(-1.0, bound, ["Whole numbers."]).kind.endswith(", with a warning")


@pytest.mark.parametrize("bound", BOUNDS)
def test_bits_carry_their_own_direction(bound):
    (row,) = rows_of(result(-2 * np.log(2), bound))
    sign = {"upper": "<=", "lower": ">=", "estimate": "~"}.get(flip_bound(bound), "")
    assert bits_with_direction(row) == f"{sign}1.000"


def test_densities_have_no_bits():
    comparison = lnz.compare({"a": result(-1.0, base_measure="Lebesgue"), "b": result(-2.0, base_measure="Lebesgue")})
    assert [row["bits_per_dimension"] for row in comparison.rows] == [None, None]
    assert "bits" not in str(comparison)
