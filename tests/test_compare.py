"""What a comparison says of its rows: the direction of each number, and what may be called best."""

import itertools

import by_hand
import numpy as np
import pytest

import lnz
from lnz.core import flip_bound

BOUNDS = ("exact", "unbiased", "lower", "upper", "estimate")


def result(value, bound="exact", warnings=(), base_measure="counting"):
    rows = value + np.linspace(-1, 1, 5)
    return by_hand.likelihood(rows, bound, warnings=warnings, base_measure=base_measure)


def rows_of(*results):
    return lnz.compare({f"row {i}": row for i, row in enumerate(results)}).rows


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_single_row_is_not_best(bound):
    comparison = lnz.compare({"only": result(-1.0, bound)})
    assert comparison.rows[0].standing == ""
    assert "best" not in str(comparison)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(BOUNDS, BOUNDS)))
def test_what_may_not_be_the_highest_is_not_best(first, second):
    top, below = rows_of(result(-1.0, first), result(-2.0, second))
    may_err_upwards = flip_bound(first) in ("lower", "estimate")
    other_may_be_higher = second in ("lower", "estimate")
    is_open = first != second and (may_err_upwards or other_may_be_higher)
    assert top.standing == ("highest" if is_open else "best")
    assert below.standing == ""


def noisy(lead, error, num=100, bound="exact"):
    """A result that is above one of zeros by `lead`, with this error of the difference."""
    z = np.random.RandomState(0).normal(size=num)
    z = (z - z.mean()) / max(z.std(), 1e-9)
    return by_hand.likelihood(lead + error * np.sqrt(max(num - 1, 1)) * z, bound)


NOISE = {
    "a tie": (noisy(0.0, 0.0), False),
    "a tie of means": (noisy(0.0, 0.1), False),
    "one error": (noisy(0.1, 0.1), False),
    "nearly two": (noisy(0.199, 0.1), False),
    "more than two": (noisy(0.201, 0.1), True),
    "no error": (noisy(1e-6, 0.0), True),
    "one example": (noisy(5.0, 0.1, num=1), False),
    "a lower bound above an exact value by noise": (noisy(0.1, 0.1, bound="lower"), False),
    "a lower bound above an exact value": (noisy(0.3, 0.1, bound="lower"), True),
}


@pytest.mark.parametrize(("first", "is_best"), NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("num_more", [0, 1])
def test_best_is_what_leads_by_more_than_noise(first, is_best, num_more):
    zeros = by_hand.likelihood(np.zeros(first.num))
    more = [by_hand.likelihood(np.full(first.num, value)) for value in (-10.0, -np.inf, np.nan)] * num_more
    top, second, *others = rows_of(first, zeros, *more)
    assert top.standing == ("best" if is_best else "highest")
    assert second.is_clear == is_best
    assert all(row.is_clear for row in others if row.result.value < np.inf) or first.num == 1


@pytest.mark.parametrize("bound", BOUNDS)
def test_warnings_stay_with_their_number(bound):
    rows = rows_of(result(-1.0, bound, ["Whole numbers."]), result(-2.0, bound))
    assert [row.warnings for row in rows] == [["Whole numbers."], []]
    assert rows[0].standing == "highest"
    assert [row.marked_bound for row in rows] == [f"{bound} (!)", bound]
    assert f"{bound} (!)" in str(lnz.compare({"a": result(-1.0, bound, ["Whole numbers."])}))
    assert result(-1.0, bound, ["Whole numbers."]).kind.endswith(", with a warning")


@pytest.mark.parametrize("bound", BOUNDS)
def test_bits_carry_their_own_direction(bound):
    (row,) = rows_of(result(-2 * np.log(2), bound))
    sign = {"upper": "<=", "lower": ">=", "estimate": "~"}.get(flip_bound(bound), "")
    assert row.bits() == f"{sign}1.000"


def test_densities_have_no_bits():
    comparison = lnz.compare({"a": result(-1.0, base_measure="Lebesgue"), "b": result(-2.0, base_measure="Lebesgue")})
    assert [row.bits_per_dimension for row in comparison.rows] == [None, None]
    assert "bits" not in str(comparison)
