"""A density says little of values with a probability of their own: when the verbs warn, and when not."""

import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import lnz
from lnz.data import data_warnings, smallest_gaps

RANDOM = np.random.RandomState(0)
BITS = RANDOM.randint(0, 2, (50, 4))
TABLE = RANDOM.randn(50, 4)

WHOLE = {
    "bits": BITS,
    "bits as floats": BITS.astype(float),
    "grey values": RANDOM.randint(0, 256, (20, 64)).astype(np.uint8),
    "one row of bits": BITS[:1].repeat(16, axis=1),
    "counts": RANDOM.poisson(3, (500, 1)),
    "negative ones": -BITS,
    "bits in half precision": jnp.asarray(BITS, jnp.bfloat16),
    "bits with unknown ones": np.where(np.arange(200).reshape(50, 4) % 7 == 0, np.nan, BITS),
    "bits and infinity": np.where(np.arange(200).reshape(50, 4) == 7, np.inf, BITS),
    "more than are looked at": RANDOM.randint(0, 2, (2**18 + 1, 2)),
}
OTHERS = {
    "a table": TABLE,
    "a column of whole numbers in a table": np.where(np.arange(4) == 1, BITS, TABLE),
    "amounts that hardly repeat": RANDOM.randint(0, 10**6, (300, 2)),
    "one value": np.ones((50, 4)),
    "half steps": BITS / 2,
    "three rows": np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]]),
    "nothing known": np.full((50, 4), np.nan),
    "a table in half precision": jnp.asarray(np.round(8 * TABLE) / 16, jnp.bfloat16),
    "whole numbers before a table": np.concatenate([RANDOM.randint(0, 2, (2**18, 1)), RANDOM.randn(2**10, 1)]),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_warned_of(name):
    rows = WHOLE[name]
    for space in (lnz.Euclidean(rows.shape[1]), lnz.Interval(rows.shape[1], -1.0, 256.0)):
        (sentence,) = data_warnings(space, rows)
        assert "whole numbers" in sentence
        assert "can grow without bound" in sentence
    assert data_warnings(lnz.Binary(rows.shape[1]), rows) == []  # which has probabilities


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not(name):
    rows = OTHERS[name]
    assert not any("whole numbers" in sentence for sentence in data_warnings(lnz.Euclidean(rows.shape[1]), rows))


def test_both_verbs_warn_once():
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(0.1))
    for verb in (
        lambda: lnz.evaluate(jr.key(0), lnz.Normal.standard(4), BITS),
        lambda: lnz.fit(jr.key(0), lnz.Normal.standard(4), method, BITS, steps=1),
    ):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            verb()
        (warning,) = found
        assert "2 different ones, and Euclidean(shape=(4,)) has densities" in str(warning.message)


def with_atoms(num_rows, values, num_each):
    """A normal column, in which `num_each` rows have each of the values."""
    return np.concatenate([np.repeat(values, num_each), RANDOM.randn(num_rows - len(values) * num_each)])[:, None]


X = RANDOM.randn(400, 3)
ATOMS = {
    "a column of bits": (np.where(np.arange(4) == 1, BITS, TABLE), "column 1 has only 2 different values"),
    "half zeros": (np.where(np.arange(200).reshape(50, 4) % 8 == 0, 0, TABLE), "column 0 has the value 0 in 25"),
    "many such columns": (np.where(np.arange(4) == 1, TABLE, BITS), "column 3 has only 2 different values"),
    "repeated rows": (np.concatenate([TABLE, TABLE[:5]]), "5 of 55 rows repeat another one"),
    "a value at an end": (
        np.where(np.arange(200).reshape(50, 4) == 7, -9.0, TABLE),
        "1 of 50 rows have a value exactly",
    ),
    "unknown entries": (np.where(np.arange(4) == 1, np.where(BITS, 1, np.nan), TABLE), "column 1 has only 1 different"),
    "repeated rows with unknown entries": (
        np.where(np.arange(4) == 1, np.nan, np.concatenate([TABLE, TABLE[:5]])),
        "5 of 55 rows repeat another one",
    ),
    "a stuck sensor": (np.concatenate([X[:, :2], np.full((40, 2), 1.5)]), "39 of 440 rows repeat another one"),
    "zeros in 1.9% of the rows": (with_atoms(5000, np.zeros(1), 95), "column 0 has the value 0 in 95"),
    "many small atoms": (
        with_atoms(1000, np.arange(20) / 7, 19),
        "column 0 has 20 values that repeat, such as 0, in 380",
    ),
    "heaps of a rounded column": (
        np.concatenate([np.round(RANDOM.randn(3000, 1), 3), np.repeat([[0.5], [1.0]], 45, axis=0)]),
        "column 0 has 2 values that repeat, such as 0.5, in 9",
    ),
    "a copied column": (X[:, [0, 1, 0]], "Column 2 follows from column 0"),
    "two units of temperature": (np.stack([X[:, 0], 1.8 * X[:, 0] + 32], axis=1), "Column 1 follows from column 0"),
    "with unknown entries": (
        np.where(RANDOM.rand(400, 3) < [0.2, 0, 0.2], np.nan, np.stack([X[:, 0], X[:, 1], 1.8 * X[:, 0]], axis=1)),
        "Column 2 follows from column 0",
    ),
    "percentages": (100 * RANDOM.dirichlet([2.0, 3.0, 4.0], 400), "Column 2 follows from the columns before it"),
    "a sum far from zero": (
        np.concatenate([X, X.sum(axis=1, keepdims=True)], axis=1) * [1, 100, 0.01, 1] + [1e4, 0, 0, 5],
        "Column 3 follows from the columns before it",
    ),
    "an hour as cosine and sine": (
        np.stack([np.cos(3 * X[:, 0]), X[:, 1], np.sin(3 * X[:, 0])], axis=1),
        "Column 0 and column 2 fulfil one equation",
    ),
    "a square": (np.stack([X[:, 0], X[:, 0] ** 2], axis=1), "Column 1 follows from column 0"),
    "a logarithm": (np.stack([np.exp(3 * X[:, 0]), X[:, 0]], axis=1), "Column 1 follows from column 0"),
}


@pytest.mark.parametrize("name", ATOMS)
def test_atoms_are_a_part_of_the_result(name):
    rows, words = ATOMS[name]
    observed = None if np.isfinite(rows).all() else ~np.isnan(rows)
    num = rows.shape[1]
    space = lnz.Interval(num, -9.0, 9.0) if "end" in name else lnz.Euclidean(num)
    for dtype in (np.float32, np.float64):
        assert any(words in sentence for sentence in data_warnings(space, rows.astype(dtype)))
    assert data_warnings(lnz.Binary(num), rows) == []
    model = lnz.Uniform(num, -9.0, 9.0) if "end" in name else lnz.Normal.standard(num)
    with pytest.warns(UserWarning, match=words):
        result = lnz.evaluate(jr.key(0), model, rows, observed=observed)
    assert any(words in sentence for sentence in result.warnings)


A, B, C = RANDOM.normal(size=(3, 2000))
HEIGHT, WEIGHT = 1.72 + 0.09 * A, 75 + 12 * B
ANGLE = RANDOM.uniform(0, 7, 2000)


def columns(*given):
    return np.stack(given, axis=1)


def on_sphere(num):
    z = RANDOM.normal(size=(2000, num))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


TIED = {
    "an hour among others": (columns(A, np.cos(ANGLE), B, np.sin(ANGLE), C), "Column 1 and column 3 fulfil one"),
    "sixty hours": (columns(np.cos(ANGLE), np.sin(ANGLE))[:60], "Column 0 and column 1 fulfil one equation"),
    "unit vectors": (on_sphere(3), "Column 0, column 1 and column 2 fulfil one equation"),
    "many unit vectors": (on_sphere(12), "column 10 and column 11 fulfil one equation"),
    "body mass index": (columns(WEIGHT, HEIGHT, WEIGHT / HEIGHT**2, C), "Column 0, column 1 and column 2 fulfil one"),
    "a product": (columns(A, B, A * B), "Column 0, column 1 and column 2 fulfil one equation"),
    "a ratio": (columns(np.exp(A), np.exp(B), np.exp(A - B)), "Column 0, column 1 and column 2 fulfil one equation"),
    "a distance": (columns(A, B, np.hypot(A, B)), "Column 0, column 1 and column 2 fulfil one equation"),
    "the larger one": (columns(A, B, np.maximum(A, B)), "Column 0, column 1 and column 2 fulfil one equation"),
    "equal in half of the rows": (columns(A, C, np.where(B > 0, A, B)), "Column 2 equals column 0 in "),
    "shifted in few rows": (columns(A, np.where(B > 1.8, A - 7, C)), "Column 1 is column 0 plus -7 in "),
    "with unknown entries": (
        np.where(RANDOM.uniform(size=(2000, 3)) < 0.1, np.nan, columns(A, B, A * B)),
        "Column 0, column 1 and column 2 fulfil one equation",
    ),
}


@pytest.mark.parametrize("name", TIED)
def test_columns_that_follow_from_several_are_told(name):
    rows, words = TIED[name]
    for dtype in (np.float32, np.float64):
        (sentence,) = data_warnings(lnz.Euclidean(rows.shape[1]), rows.astype(dtype))
        assert words in sentence


CONTINUOUS = {
    "an hour with noise": columns(np.cos(ANGLE), np.sin(ANGLE)) * (1 + 1e-3 * A[:, None]),
    "an index with noise": columns(WEIGHT, HEIGHT, WEIGHT / HEIGHT**2 * (1 + 1e-3 * C)),
    "a product with noise": columns(A, B, A * B + 1e-3 * C),
    "the smaller and the larger": columns(np.minimum(A, B), np.maximum(A, B)),
    "correlated": columns(A, 0.999 * A + 0.0447 * B, C),
    "two clusters, and two": columns(np.where(A > 0, 1, 0), np.where(B > 0, 1, 0))
    + 1e-2 * RANDOM.normal(size=(2000, 2)),
    "one scale for all columns": RANDOM.normal(size=(2000, 3)) * np.exp(3 * RANDOM.normal(size=(2000, 1))),
    "skewed": RANDOM.gamma(0.3, size=(2000, 4)),
    "ten columns": RANDOM.standard_t(2, size=(2000, 10)),
    "twenty columns": RANDOM.normal(size=(2000, 20)),
    "forty rows": RANDOM.standard_cauchy((40, 2)),
    "twenty rows": RANDOM.uniform(size=(20, 3)),
    "tenths that go together": np.round(10 * (A[:, None] + 0.1 * RANDOM.normal(size=(2000, 3))), 1),
    "a table": TABLE,
    "far from zero": TABLE.astype(np.float32) + 3e4,
    "few rows": np.ones((5, 4)),
    "few rows twice": TABLE[:3].repeat(2, axis=0),
    "in thousandths": np.round(RANDOM.randn(5000, 2), 3),
    "in three digits": np.array([[float(f"{x:.3g}")] for x in np.exp(2 * RANDOM.randn(2000))]),
    "rounded, then another unit": 1.8 * np.round(10 * RANDOM.randn(2000, 1), 1) + 32,
    "heavy tails": RANDOM.standard_cauchy((2000, 3)),
    "heavier tails": np.exp(9 * RANDOM.randn(2000, 3)),
    "nearly proportional": np.stack([X[:, 0], X[:, 0] + 0.004 * X[:, 1]], axis=1),
    "fewer rows than columns": RANDOM.randn(30, 50),
    "hardly anything known": np.where(RANDOM.rand(400, 3) < 0.9, np.nan, X),
    "nothing known of one": np.where(np.arange(4) == 1, np.nan, TABLE),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_tables_without_atoms_have_no_warnings(name):
    rows = CONTINUOUS[name]
    for dtype in (np.float32, np.float64):
        assert data_warnings(lnz.Euclidean(rows.shape[1]), rows.astype(dtype)) == []


def test_no_equation_is_found_among_random_columns():
    """100 tables of 20 to 1000 rows of many shapes and mixtures of them."""
    for seed in range(100):
        random = np.random.RandomState(seed)
        num, size = int(np.exp(random.uniform(3, 7))), random.randint(2, 6)
        shapes = (
            random.normal(size=(num, size)),
            random.standard_cauchy((num, size)),
            np.exp(random.uniform(0, 3) * random.normal(size=(num, size))),
            random.uniform(size=(num, size)) ** random.uniform(0.2, 8),
        )
        rows = shapes[seed % 4] @ (random.normal(size=(size, size)) if seed % 3 else np.eye(size))
        assert data_warnings(lnz.Euclidean(size), rows.astype(np.float32 if seed % 2 else np.float64)) == []


def test_smallest_gaps_are_those_of_the_rounding():
    columns = [
        RANDOM.randint(0, 9, 200),
        0.25 * RANDOM.randint(0, 9, 200),
        np.full(200, 3.0),
        RANDOM.randint(0, 9, 200) / 10,
    ]
    rows = np.stack(columns, axis=1).astype(np.float32)
    rows[0, 3] = np.nextafter(np.float32(0.3), np.float32(1))  # the same value, by another way of rounding
    np.testing.assert_allclose(smallest_gaps(rows), [1, 0.25, np.inf, 0.1], rtol=1e-5)
    rows[::3, 0] = np.nan
    assert smallest_gaps(rows)[0] == 1
    assert smallest_gaps(RANDOM.normal(size=(1000, 1)))[0] < 1e-3


def test_with_noise_there_is_nothing_to_warn_of():
    bits, grey = lnz.Bernoulli(jnp.zeros(4)).space, lnz.latent.Dequantised(lnz.Uniform(4, 0.0, 2.0), lnz.Binary(4))
    assert grey.space == bits
    assert lnz.evaluate(jr.key(0), grey, BITS, hidden=lnz.normalizers.Importance(30)).bound == "lower"
