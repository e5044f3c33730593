"""The generator behind Gibbs sampling: known answers, and what random numbers must look like."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy import stats

import lnz
import lnz.distributions._bernoulli
from lnz.normalizers import AIS
from lnz.numerics import uniform
from lnz.numerics._random import threefry
from lnz.objectives import PCD
from lnz.samplers import Gibbs, ParallelTempering, run_chains

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


@pytest.fixture
def keys(monkeypatch):
    """The key of every draw of bits that a compiled program makes, as it makes it."""
    seen = []

    def spied(key, shape, dtype=None):
        jax.debug.callback(lambda words: seen.append(tuple(int(word) for word in words)), jr.key_data(key))
        return uniform(key, shape, dtype)

    monkeypatch.setattr(lnz.distributions._bernoulli, "uniform", spied)
    return seen


def train(rbm):
    data = (np.random.RandomState(0).uniform(size=(20, 9)) < 0.5).astype(np.uint8)
    lnz.fit(jr.key(3), rbm, lnz.Gradient(PCD(3, 5), optax.sgd(0.1)), data, steps=8, batch_size=10)


# Layers of 9 and 7 units, as in no other test: what was compiled without the spy cannot be met here.
@pytest.mark.parametrize(
    ("run", "num"),
    [
        # 6 chains, 10 steps, 2 layers.
        (lambda rbm: run_chains(jr.key(0), rbm, Gibbs(), jnp.zeros((6, 9)), 10), 6 * 10 * 2),
        (lambda rbm: run_chains(jr.key(0), rbm, Gibbs(4), jnp.zeros((6, 9)), 10), 6 * 10 * 4 * 2),
        # 3 temperatures above the start, which is one draw a step and a few at first: one for each chain.
        (lambda rbm: run_chains(jr.key(0), rbm, ParallelTempering(3), jnp.zeros((6, 9)), 10), 6 * 10 * (3 * 2 + 1) + 6),
        # One draw of all starts, then one step less than there are intervals.
        (lambda rbm: AIS(6, 11).log_weights(jr.key(1), rbm), 1 + 6 * 10 * 2),
        (lambda rbm: AIS(6, 11, batch_size=3).log_weights(jr.key(1), rbm), 1 + 6 * 10 * 2),
        # One draw a chain at first, then 8 updates of 3 sweeps of 5 chains.
        (train, 5 + 8 * 3 * 5 * 2),
    ],
    ids=["gibbs", "gibbs_4", "tempering", "annealing", "annealing_in_batches", "pcd"],
)
def test_streams_of_steps_chains_and_layers_are_disjoint(keys, run, num):
    """No two draws share a key, so no two share a key and counter: a false alarm once in 10**13 runs."""
    run(lnz.energy.RBM(9, 7, key=jr.key(2)))
    jax.effects_barrier()
    assert len(keys) == num
    assert len(set(keys)) == num


def test_an_unsplit_key_is_noticed(keys):
    jax.vmap(lambda logits: lnz.Bernoulli(logits).sample(jr.key(0)))(jnp.zeros((4, 9)))
    jax.effects_barrier()
    assert len(set(keys)) < 4
