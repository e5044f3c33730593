"""Rows from disk in shuffled blocks: each seen once an epoch, in an order that is a function of key and step."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from test_checkpoint import Stop, timeless
from test_fit import bytes_of

import lnz
from lnz.data import Resident, Stream

# Rows are numbered in one column, and the other one is constant.
pytestmark = pytest.mark.filterwarnings("ignore:Of .* different rows, column 1 has only 1:UserWarning")


@pytest.fixture
def on_disk(tmp_path):
    def write(rows):
        np.save(tmp_path / "rows.npy", rows)
        return np.load(tmp_path / "rows.npy", mmap_mode="r")

    return write


def numbered(num):
    return np.stack([np.arange(num), np.ones(num)], axis=1).astype(np.float32)


@pytest.mark.parametrize(("num", "block_bytes"), [(1000, 8 * 64), (1003, 8 * 100), (40, 10**6), (5, 1), (7, 10**6)])
def test_an_epoch_sees_no_row_twice_and_leaves_out_few(num, block_bytes, on_disk):
    stream = Stream(on_disk(numbered(num)), block_bytes)
    per_epoch = num // stream.block_rows
    for epoch in range(3):
        blocks = [stream.block(jr.key(0), epoch * per_epoch + i) for i in range(per_epoch)]
        assert all(block.shape == (stream.block_rows, 2) for block in blocks)
        seen = np.concatenate(blocks)[:, 0]
        assert len(set(seen)) == len(seen)
        assert num - len(seen) < stream.block_rows


def test_every_row_is_seen_sooner_or_later_and_epochs_differ(on_disk):
    stream = Stream(on_disk(numbered(1003)), 8 * 320)
    per_epoch = 1003 // stream.block_rows
    epochs = [
        np.concatenate([stream.block(jr.key(0), e * per_epoch + i) for i in range(per_epoch)])[:, 0] for e in range(40)
    ]
    assert set(np.concatenate(epochs)) == set(range(1003))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_block_is_a_function_of_key_and_index(on_disk):
    rows = on_disk(numbered(500))
    one, other = Stream(rows, 8 * 64), Stream(rows, 8 * 64)
    one.block(jr.key(0), 3)
    np.testing.assert_array_equal(one.block(jr.key(0), 8), other.block(jr.key(0), 8))
    assert one.block(jr.key(0), 8).tolist() != one.block(jr.key(1), 8).tolist()


class Collect(lnz.AbstractMethod):
    """Counts how often it saw each row."""

    num: int

    def init(self, key, model, data):
        return model, jnp.zeros(self.num, jnp.int32)

    def step(self, key, model, state, batch):
        state = state.at[batch[:, 0].astype(jnp.int32)].add(1)
        return lnz.Normal(0.9 * model.loc + batch.mean(axis=0), model.scale), state, {"mean": batch[:, 0].mean()}


def collect(data, steps, batch_size=10, **options):
    model = lnz.Normal(jnp.zeros(2), 1.0)
    return lnz.fit(jr.key(0), model, Collect(500), data, steps=steps, batch_size=batch_size, **options)


def test_fit_streams_each_row_once_an_epoch(on_disk):
    data = Stream(on_disk(numbered(500)), 8 * 100)
    per_epoch = 500 // data.block_rows * (data.block_rows // 10)
    counts = np.asarray(collect(data, per_epoch).state)
    assert counts.max() == 1
    assert counts.sum() == 10 * per_epoch


def test_fit_streams_a_memory_map_unasked_and_resumes_bit_for_bit(on_disk, tmp_path):
    data = on_disk(numbered(500))
    expected = collect(data, 200, watch=lnz.Watch(7))
    checkpoints = lnz.Checkpoints(tmp_path / "checkpoints", every=0.0, resume=True)
    for step in (7, 77, 133):
        with pytest.raises(KeyboardInterrupt):
            collect(data, 200, watch=lnz.Watch(7, progress=Stop(step)), checkpoints=checkpoints)
    resumed = collect(data, 200, watch=lnz.Watch(7), checkpoints=checkpoints)
    assert bytes_of((resumed.model, resumed.state)) == bytes_of((expected.model, expected.state))
    assert timeless(resumed.history) == timeless(expected.history)


def test_a_small_stream_holds_what_the_file_holds(on_disk):
    """One block of all rows, in another order."""
    data = on_disk(numbered(320))
    stream = Stream(data)
    block = np.asarray(stream.block(jr.key(0), 0))
    assert sorted(block[:, 0]) == list(range(320))
    assert Resident(data).block(jr.key(0), 5).shape == (320, 2)


def test_bits_stay_bytes_until_the_step(on_disk):
    stream = Stream(on_disk(np.ones((64, 3), np.uint8)))
    assert stream.block(jr.key(0), 0).dtype == jnp.uint8


def test_a_bad_value_is_found_wherever_it_is(on_disk):
    rows = numbered(500)
    rows[432, 1] = np.nan
    with pytest.raises(ValueError, match=r"`data` has the value nan at row 432, column \(1\)"):
        collect(Stream(on_disk(rows), 8 * 64), 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda rows: Stream(rows[:0]), r"needs rows, `\[n, ...\]`; got an array of shape \(0, 2\)"),
        (lambda rows: Stream(rows, block_bytes=0), r"`block_bytes` must be a whole number"),
        (lambda rows: collect(Stream(rows, 8), 3, 33), r"`batch_size=33` is larger than a block of the .* \(32 rows\)"),
        (
            lambda rows: lnz.fit(jr.key(0), lnz.Normal(jnp.zeros(2), 1.0), Collect(500), Stream(rows), steps=1),
            r"needs a `batch_size`",
        ),
    ],
)
def test_bad_arguments(make, words, on_disk):
    with pytest.raises(ValueError, match=words):
        make(on_disk(numbered(500)))


def test_reading_ends_with_the_training(on_disk):
    import threading

    collect(on_disk(numbered(500)), 3)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lnz-feed")]


def test_reading_a_copy_on_write_map_does_not_undo_its_changes(on_disk, tmp_path):
    on_disk(numbered(64))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="c")
    rows[:] = 7
    assert float(Stream(rows).block(jr.key(0), 0).mean()) == 7
    assert float(rows.mean()) == 7


def test_resuming_with_blocks_of_another_size_is_an_error(on_disk, tmp_path):
    rows = on_disk(numbered(500))
    checkpoints = lnz.Checkpoints(tmp_path / "checkpoints")
    collect(Stream(rows, 8 * 100), 5, checkpoints=checkpoints)
    for other in (Stream(rows, 8 * 200), np.array(rows)):
        with pytest.raises(ValueError, match="another `data`"):
            collect(other, 5, checkpoints=dataclasses.replace(checkpoints, resume=True))


def test_divergence_while_streaming_is_found_in_its_block(on_disk):
    rows = numbered(500)
    model = lnz.Normal.standard(2)

    class Explodes(lnz.AbstractMethod):
        def init(self, key, model, data):
            return model, jnp.zeros((), jnp.int32)

        def step(self, key, model, state, batch):
            return model, state + 1, {"loss": jnp.where(state == 77, jnp.inf, batch.mean())}

    stream = Stream(on_disk(rows), 8 * 100)
    result = lnz.fit(jr.key(0), model, Explodes(), stream, steps=200, batch_size=10, throw=False)
    assert "diverged at step 78: loss = inf" in result.status
