"""A density says little of values with a probability of their own: when the verbs warn, and when not."""

import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import lnz
from lnz._atoms import data_warnings, smallest_gaps, warn_of_whole_numbers

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
        with pytest.warns(UserWarning, match="can grow without bound") as found:
            warn_of_whole_numbers(space, rows, stacklevel=1)
        assert len(found) == 1
    warn_of_whole_numbers(lnz.Binary(rows.shape[1]), rows, stacklevel=1)  # which has probabilities


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not(name):
    rows = OTHERS[name]
    warn_of_whole_numbers(lnz.Euclidean(rows.shape[1]), rows, stacklevel=1)  # a warning would be an error


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
}


@pytest.mark.parametrize("name", ATOMS)
def test_atoms_are_a_part_of_the_result(name):
    rows, words = ATOMS[name]
    observed = None if np.isfinite(rows).all() else ~np.isnan(rows)
    space = lnz.Interval(4, -9.0, 9.0) if "end" in name else lnz.Euclidean(4)
    assert any(words in sentence for sentence in data_warnings(space, rows))
    assert data_warnings(lnz.Binary(4), rows) == []
    model = lnz.Uniform(4, -9.0, 9.0) if "end" in name else lnz.Normal.standard(4)
    with pytest.warns(UserWarning, match=words):
        result = lnz.evaluate(jr.key(0), model, rows, observed=observed)
    assert any(words in sentence for sentence in result.warnings)


@pytest.mark.parametrize("rows", [TABLE, TABLE.astype(np.float32) + 3e4, np.ones((5, 4)), TABLE[:3].repeat(2, axis=0)])
def test_tables_without_atoms_have_no_warnings(rows):
    assert data_warnings(lnz.Euclidean(4), rows) == []


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
