"""A density says nothing of whole numbers: whom the verbs warn, and whom not."""

import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import lnz
from lnz._whole_numbers import warn_of_whole_numbers

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


def test_with_noise_there_is_nothing_to_warn_of():
    bits, grey = lnz.Bernoulli(jnp.zeros(4)).space, lnz.latent.Dequantised(lnz.Uniform(4, 0.0, 2.0), lnz.Binary(4))
    assert grey.space == bits
    assert lnz.evaluate(jr.key(0), grey, BITS, hidden=lnz.normalizers.Importance(30)).bound == "lower"
