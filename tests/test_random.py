"""The generator behind Gibbs sampling: known answers, and what random numbers must look like."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from lnz._random import threefry, uniform

PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)  # digits of pi: key and counter


# From the file kat_vectors of the Random123 library, version 1.14.0.
@pytest.mark.parametrize(
    ("rounds", "counter", "key", "answer"),
    [
        (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
        (13, (2**32 - 1,) * 2, (2**32 - 1,) * 2, (0xFD36D048, 0x2D17272C)),
        (13, PI[:2], PI[2:], (0xBA3E4725, 0xF27D669E)),
        (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (20, (2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        (20, PI[:2], PI[2:], (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(rounds, counter, key, answer):
    words = [jnp.asarray(word, jnp.uint32) for word in (*key, *counter)]
    assert tuple(int(word) for word in threefry(*words, rounds=rounds)) == answer


def test_numbers_are_those_of_the_two_words():
    key = jr.key(5)
    k0, k1 = jr.key_data(key)
    words = jnp.concatenate(threefry(k0, k1, jnp.arange(4, dtype=jnp.uint32), jnp.zeros(4, jnp.uint32)))
    expected = np.asarray(words >> 9, np.float64) / 2**23
    np.testing.assert_array_equal(uniform(key, (8,)), expected)
    np.testing.assert_array_equal(uniform(key, (2, 4)).reshape(-1), expected)
    np.testing.assert_array_equal(uniform(key, (7,)), expected[:7])
    np.testing.assert_array_equal(uniform(jr.key_data(key), (8,)), expected)  # a raw key


def test_other_types_and_generators():
    assert uniform(jr.key(0), (3,), jnp.float16).dtype == jnp.float16
    other = uniform(jr.key(0, impl="rbg"), (1000,))
    assert stats.kstest(np.asarray(other), "uniform").pvalue > 1e-4


def numbers():
    """`[key, draw]`: from neighbouring keys, from keys made by splitting, and of a long draw."""
    neighbours = jax.vmap(lambda seed: uniform(jnp.stack([jnp.uint32(0), seed]), (1000,)))(
        jnp.arange(1000, dtype=jnp.uint32)
    )
    split = jax.vmap(lambda key: uniform(key, (1000,)))(jr.split(jr.key(1), 1000))
    return {"neighbours": neighbours, "split": split, "long": uniform(jr.key(2), (1000, 1000))}


@pytest.mark.parametrize(("name", "x"), numbers().items(), ids=str)
def test_statistics(name, x):
    x = np.asarray(x, np.float64)
    assert x.min() >= 0
    assert x.max() < 1
    assert stats.kstest(x.reshape(-1), "uniform").pvalue > 1e-4
    # Every bit of the 23 is fair.
    integers = (x * 2**23).astype(np.int64)
    ones = [((integers >> bit) & 1).sum() for bit in range(23)]
    assert np.abs(np.array(ones) - x.size / 2).max() < 5 * np.sqrt(x.size) / 2
    # Sums along either axis spread as those of independent numbers do.
    for axis in (0, 1):
        sums = x.sum(axis=axis)
        assert 0.8 < sums.var() / (1000 / 12) < 1.2
    # No correlation between neighbours of any kind, nor between the two words of a counter.
    y = np.sqrt(12) * (x - 0.5)
    halves = x.shape[1] // 2
    for a, b in ((y[:, :-1], y[:, 1:]), (y[:-1], y[1:]), (y[:, :halves], y[:, halves:])):
        assert abs((a * b).mean()) < 5 / np.sqrt(a.size)
    # Pairs fill a square evenly.
    counts = np.histogram2d(x[:, 0::2].reshape(-1), x[:, 1::2].reshape(-1), bins=32)[0]
    assert stats.chisquare(counts.reshape(-1)).pvalue > 1e-4
