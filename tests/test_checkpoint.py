"""Training that was stopped goes on as if it never had been, bit for bit."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import by_hand
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from test_fit import BITS, bytes_of, diverge, fit_noisy

import lnz
from lnz.energy import RBM
from lnz.files import held
from lnz.objectives import PCD
from lnz.training._checkpoint import Snapshot, newest_checkpoint, save_checkpoint

STEPS = 40
METHOD = lnz.Gradient(PCD(1, num_chains=8), optax.adam(0.05))  # one object: equal fits share one program


def train(folder=None, resume=False, progress=lambda record: None, every=0.0, log_every=3, label="", **changes):
    """A machine with chains, momentum, validation, the best model and an average: every kind of state."""
    valid = lnz.Validation(changes.pop("valid", BITS[:8]), every=7, keep=changes.pop("keep", "best"))
    options = dict(steps=STEPS, batch_size=5, valid=valid, average=0.9, watch=lnz.Watch(log_every, progress))
    return lnz.fit(
        jr.key(0),
        changes.pop("model", RBM(6, 4, key=jr.key(1))),
        changes.pop("method", METHOD),
        **{"data": BITS, **options, **changes},
        checkpoints=None if folder is None else lnz.Checkpoints(folder, every, label=label, resume=resume),
    )


def timeless(history):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def assert_same(result, expected):
    assert bytes_of((result.model, result.state)) == bytes_of((expected.model, expected.state))
    assert timeless(result.history) == timeless(expected.history)
    assert result.status == expected.status


@pytest.fixture(scope="module")
def unbroken():
    return train()


class Stop:
    """Presses Ctrl-C at a step."""

    def __init__(self, step):
        self.step = step

    def __call__(self, record):
        if record["step"] >= self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [1, 3, 7, 21, 40])
def test_interrupted_and_resumed_equals_unbroken(step, unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=Stop(step))
    assert_same(train(tmp_path, resume=True), unbroken)


def test_many_interruptions_change_nothing(unbroken, tmp_path):
    for step in (2, 4, 11, 12, 30):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, resume=True, progress=Stop(step))
    assert_same(train(tmp_path, resume=True), unbroken)


def test_resumed_training_tells_the_earlier_records_again(unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=Stop(20))
    told = []
    train(tmp_path, resume=True, progress=told.append)
    assert timeless(told) == timeless(unbroken.history)


def test_resuming_a_finished_training_returns_it(unbroken, tmp_path):
    train(tmp_path)
    assert_same(train(tmp_path, resume=True), unbroken)


def test_resume_without_checkpoints_starts_from_the_start(unbroken, tmp_path):
    assert_same(train(tmp_path / "new", resume=True), unbroken)


@pytest.mark.parametrize("steps", [20, 21, 18, 25])  # at a record, a validation, both (of 3 and 7), neither
def test_longer_training_goes_on_from_a_shorter_one(steps, unbroken, tmp_path):
    train(tmp_path, steps=steps)
    assert_same(train(tmp_path, resume=True), unbroken)


def test_a_new_training_is_not_mixed_up_with_old_checkpoints(tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match="holds those of another training"):
        train(tmp_path)


def test_damaged_newest_checkpoint_does_not_stay_the_newest(unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=Stop(30))
    checkpoints = lnz.Checkpoints(tmp_path)
    checkpoints.files()[0].write_bytes(b"damaged")
    with pytest.warns(lnz.ResumeWarning, match="damaged"), pytest.raises(KeyboardInterrupt):
        train(tmp_path, resume=True, progress=Stop(0))
    assert_same(train(tmp_path, resume=True), unbroken)  # without another warning


def test_an_error_of_the_callers_own_loses_nothing(unbroken, tmp_path):
    def fail(record):
        if record["step"] == 21:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        train(tmp_path, progress=fail, every=1e9)
    assert len(lnz.Checkpoints(tmp_path).files()) == 1
    assert_same(train(tmp_path, resume=True), unbroken)


def test_leftovers_of_a_kill_while_writing_are_removed(tmp_path):
    (tmp_path / ".step-000000003.ckpt.0123456789abcdef").write_bytes(b"half")
    train(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_interruption_without_throw_returns_what_there_is(tmp_path):
    result = train(progress=Stop(9), throw=False)
    assert result.status.startswith("interrupted at step ")
    assert result.history[-1]["step"] < STEPS


class Sends:
    """Sends this process a signal at a step, once; in a destructor Python swallows what a handler raises."""

    def __init__(self, number, step, swallowed):
        self.number, self.step, self.swallowed = number, step, swallowed

    def __call__(self, record):
        if record["step"] >= self.step:
            self.step = float("inf")
            _Dying(self.number) if self.swallowed else os.kill(os.getpid(), self.number)


class _Dying:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("step", [9, STEPS])
def test_a_signal_ends_and_saves_even_where_python_swallows_it(number, error, step, swallowed, unbroken, tmp_path):
    before = signal.getsignal(number)
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, usual)
    try:
        with pytest.raises(error) as raised:
            train(tmp_path, progress=Sends(number, step, swallowed))
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    assert error is KeyboardInterrupt or raised.value.code == 143
    assert_same(train(tmp_path, resume=True), unbroken)


def test_a_handler_of_the_callers_own_stays(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        train(tmp_path, progress=Sends(signal.SIGTERM, 9, False))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1]


def test_a_second_training_on_one_folder_is_refused(unbroken, tmp_path):
    refused = []

    def another(record):
        if record["step"] == 21:
            with pytest.raises(ValueError, match=r"`checkpoints`: another training is at work in .*another folder"):
                train(tmp_path, resume=True)
            refused.append(record)

    assert_same(train(tmp_path, progress=another), unbroken)
    assert len(refused) == 1
    train(tmp_path, resume=True)  # the lock ended with the training


def test_the_lock_of_a_process_ends_with_it(tmp_path):
    code = "import sys; from pathlib import Path; from lnz.files._lock import held\n"
    code += "with held(Path(sys.argv[1]), ''): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="taken"), held(tmp_path, "taken"):
            pass
        process.kill()
    with held(tmp_path, "taken") as folder:
        folder.check()


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_folder_deleted_while_training_ends_it(tmp_path, is_made_anew):
    folder = tmp_path / "run" / "checkpoints"

    def delete(record):
        if record["step"] == 9:
            shutil.rmtree(tmp_path / "run")
            if is_made_anew:
                folder.mkdir(parents=True)

    with pytest.raises(FileNotFoundError, match=r"checkpoints' was deleted or moved while it was in use"):
        train(folder, progress=delete)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert folder.exists() == is_made_anew


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, monkeypatch, unbroken):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(record):
        if record["step"] == 21:
            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left") as error:
        train(tmp_path, progress=fill)
    assert error.value.filename.startswith(str(tmp_path / "step-0000000"))
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*"))
    assert_same(train(tmp_path, resume=True), unbroken)


def test_only_the_newest_are_kept(tmp_path):
    train(tmp_path)
    names = [path.name for path in lnz.Checkpoints(tmp_path).files()]
    assert names[0] == "step-000000040.ckpt"
    assert len(names) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)  # and no temporary file


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],  # one bit
        lambda content: content.replace(b"lnz checkpoint 1", b"lnz checkpoint 9"),
    ],
    ids=["truncated", "empty", "one bit", "other format"],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(damage, unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=Stop(30))
    newest, *older = lnz.Checkpoints(tmp_path).files()
    assert older
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(lnz.ResumeWarning, match=rf"{newest.name} is damaged .*trying the one before"):
        resumed = train(tmp_path, resume=True)
    assert_same(resumed, unbroken)


def test_no_readable_checkpoint_is_an_error(tmp_path):
    train(tmp_path)
    for path in lnz.Checkpoints(tmp_path).files():
        path.write_bytes(b"nonsense")
    with (
        pytest.warns(lnz.ResumeWarning, match="damaged"),
        pytest.raises(ValueError, match=r"None of the 3 checkpoints .* Train from the start"),
    ):
        train(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 4}, r"another `batch_size`: 5 then, 4 now"),
        ({"data": 1 - BITS}, r"another `data`"),
        ({"log_every": 4}, r"another `Watch\(every=...\)`: 3 then, 4 now"),
        ({"keep": "last"}, r"another `Validation\(keep=...\)`: best then, last now"),
        ({"valid": BITS[:7]}, r"another `valid`"),
        ({"label": "rate 0.1"}, r"another `label`:  then, rate 0.1 now"),
        ({"method": lnz.Gradient(PCD(1, num_chains=8), optax.adam(0.04))}, "with another method.*learning rate"),
        ({"method": lnz.Gradient(PCD(2, num_chains=8), optax.adam(0.05))}, "with another method.*number of samples"),
        ({"average": 0.8}, r"another `average`: 0.9 then, 0.8 now"),
        ({"model": RBM(6, 3, key=jr.key(1))}, r"holds .*, but the present model and method have"),
        ({"steps": 4}, r"is from step 5, beyond `steps=4`"),
    ],
)
def test_resuming_another_training_is_an_error(changes, words, tmp_path):
    train(tmp_path, steps=5)
    with pytest.raises(ValueError, match=words):
        train(tmp_path, resume=True, **{"steps": 5, **changes})


def test_an_equal_method_goes_on_after_another_compilation(unbroken, tmp_path):
    """Another object, traced anew, as in another process."""
    train(tmp_path, steps=STEPS // 2)
    jax.clear_caches()
    again = lnz.Gradient(PCD(1, num_chains=8), optax.adam(0.05))
    assert_same(train(tmp_path, resume=True, method=again), unbroken)


def test_another_environment_warns(tmp_path, monkeypatch, unbroken):
    with monkeypatch.context() as patch:
        patch.setattr(
            lnz.training._checkpoint, "environment", lambda: {**lnz.files._environment.environment(), "cores": "96"}
        )
        train(tmp_path, steps=STEPS // 2)
    cores = lnz.files._environment.num_cores()
    with pytest.warns(lnz.ResumeWarning, match=rf"last bits may differ.*: cores was 96, is {cores}\."):
        resumed = train(tmp_path, resume=True)
    assert bytes_of(resumed.model) == bytes_of(unbroken.model)


def test_every_kind_of_number_survives(tmp_path):
    arrays = {
        "key": jr.key(3),
        "keys": jr.split(jr.key(4), 3),
        "half": jnp.asarray([1.5, jnp.nan], jnp.bfloat16),
        "flag": jnp.asarray([True, False]),
        "none": jnp.zeros((0, 3)),
        "scalar": jnp.asarray(-0.0),
        "int": jnp.asarray([[1, -2]], jnp.int8),
    }
    checkpoints = lnz.Checkpoints(tmp_path)
    history = ({"step": 1, "seconds": 0.25, "loss": float("nan"), "valid": float("-inf")},)
    sums = {"loss": jnp.asarray(1.0)}, {"loss": jnp.asarray(1e-9)}
    saved = Snapshot(arrays, sums, None, step=2, since=1, seconds=0.5, history=history)
    save_checkpoint(checkpoints, saved, {"key": "k"})
    zeros = {"loss": jnp.asarray(0.0)}
    blank = Snapshot(jax.tree.map(lambda leaf: leaf, arrays), (zeros, zeros), None)
    loaded = newest_checkpoint(checkpoints, blank, {"key": "k"})
    assert loaded is not None
    assert str(loaded.history) == str(history)
    assert (loaded.step, loaded.since, loaded.seconds) == (2, 1, 0.5)
    assert [float(part["loss"]) for part in loaded.sums] == [1.0, float(jnp.asarray(1e-9))]
    for name, leaf in arrays.items():
        got = loaded.arrays[name]
        assert (got.dtype, got.shape) == (leaf.dtype, leaf.shape)
        assert bits(got) == bits(leaf)


def bits(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jr.key_data(leaf) if is_key else leaf).tobytes()


def test_divergence_saves_the_step_before_and_resuming_diverges_there_again(tmp_path):
    with pytest.raises(FloatingPointError, match="at step 2") as first:
        diverge(steps=20, checkpoints=lnz.Checkpoints(tmp_path))
    assert [path.name for path in lnz.Checkpoints(tmp_path).files()] == ["step-000000001.ckpt"]
    with pytest.raises(FloatingPointError) as again:
        diverge(steps=20, checkpoints=lnz.Checkpoints(tmp_path, resume=True))
    assert str(again.value) == str(first.value)


class Explodes(lnz.AbstractMethod):
    """Finite until one step in the middle of a stretch."""

    at: int

    def init(self, key, model, data):
        return model, jnp.zeros((), jnp.int32)

    def step(self, key, model, state, batch):
        loss = jnp.where(state == self.at, jnp.nan, state.astype(jnp.float32))
        return lnz.Bernoulli(model.logits + 1), state + 1, {"loss": loss, "constant": jnp.asarray(2.0)}


@pytest.mark.parametrize("at", [0, 1, 613, 998, 999])
def test_replay_finds_the_one_bad_step_of_a_long_stretch(at):
    model = lnz.Bernoulli(jnp.zeros(6))
    result = lnz.fit(jr.key(0), model, Explodes(at), BITS, steps=1000, watch=lnz.Watch(1000), throw=False)
    assert f"diverged at step {at + 1}: " in result.status
    assert "constant = 2, loss = nan" in result.status or "loss = nan, constant = 2" in result.status
    assert result.model.logits.tolist() == [float(at)] * 6  # the model before that step


class Sinks(lnz.AbstractMethod):
    """Finite, then minus infinity, which may be, then not a number, which may not."""

    def init(self, key, model, data):
        return model, jnp.zeros((), jnp.int32)

    def step(self, key, model, state, batch):
        logits = jnp.where(state < 5, model.logits, jnp.where(state < 9, -jnp.inf, jnp.nan))
        return lnz.Bernoulli(logits), state + 1, {"nothing": jnp.zeros(())}


@pytest.mark.parametrize("log_every", [1, 7, 20])
def test_not_a_number_after_minus_infinity_is_a_divergence(log_every):
    model = lnz.Bernoulli(jnp.zeros(6))
    result = lnz.fit(jr.key(0), model, Sinks(), BITS, steps=20, watch=lnz.Watch(log_every), throw=False)
    assert "diverged at step 10: nothing = 0. The update made .logits" in result.status
    assert result.model.logits.tolist() == [-np.inf] * 6


def test_means_of_very_many_steps_do_not_drift():
    class Constant(lnz.AbstractMethod):
        def init(self, key, model, data):
            return model, ()

        def step(self, key, model, state, batch):
            return model, state, {"loss": jnp.asarray(100.3)}

    fit = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(6)), Constant(), BITS, steps=200_000, watch=lnz.Watch(200_000))
    assert fit.history[-1]["loss"] == pytest.approx(float(np.float32(100.3)), abs=1e-5)  # 100.32 without compensation


def test_average_leaves_what_does_not_change_alone():
    start = lnz.Bernoulli(jr.normal(jr.key(0), (6,)))

    class Stay(lnz.AbstractMethod):
        def init(self, key, model, data):
            return model, ()

        def step(self, key, model, state, batch):
            return model, state, {"nothing": jnp.zeros(())}

    averaged = lnz.fit(jr.key(0), start, Stay(), BITS, steps=50, average=0.9).model
    assert bytes_of(averaged) == bytes_of(start)


def test_pulses_and_stretches_do_not_change_the_bits(monkeypatch):
    expected = fit_noisy(steps=50, watch=lnz.Watch(50))
    monkeypatch.setattr(lnz.training._training, "next_num_steps", lambda num_steps, seconds: 1)
    pulses, records = [], []
    result = fit_noisy(steps=50, watch=lnz.Watch(50, progress=records.append, pulse=pulses.append))
    assert bytes_of(result.model) == bytes_of(expected.model)
    assert timeless(result.history) == timeless(expected.history) == timeless(records)
    assert [pulse["step"] for pulse in pulses] == list(range(1, 50))


def test_pace_is_half_a_second():
    assert lnz.training._training.next_num_steps(1, 0.001) == 4
    assert lnz.training._training.next_num_steps(1000, 1.0) == 500
    assert lnz.training._training.next_num_steps(1, 60.0) == 1


def test_plateau_stops_early():
    scores = iter([-3.0, -2.0, -2.5, -1.99, -2.2, -2.1, -2.0, -1.0])

    def evaluator(key, model, valid):
        return by_hand.likelihood([next(scores)])

    result = fit_noisy(steps=80, valid=lnz.Validation(BITS, 10, evaluator, "best", patience=3, min_gain=0.1))
    assert result.status == "stopped early at step 50: the validation score no longer rises"
    assert [record["valid"] for record in result.history if "valid" in record][-1] == -2.2


def test_average_is_the_moving_average_of_the_parameters():
    logits = []

    class Watch(lnz.AbstractMethod):
        def init(self, key, model, data):
            return model, jnp.zeros(())

        def step(self, key, model, state, batch):
            return lnz.Bernoulli(model.logits + jr.normal(key, (6,))), state, {"first": model.logits[0]}

    for steps in range(1, 13):
        fit = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(6)), Watch(), BITS, steps=steps)
        logits.append(np.asarray(fit.model.logits, np.float64))
    averaged = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(6)), Watch(), BITS, steps=12, average=0.7)
    expected = np.zeros(6)
    for step, now in enumerate(logits):
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * now
    np.testing.assert_allclose(averaged.model.logits, expected, rtol=1e-5)  # float32 against float64


def test_accumulated_gradients_equal_those_of_one_large_batch(float64):
    data = np.asarray(np.random.RandomState(0).normal(size=(24, 2)))
    model = lnz.Normal.standard(2)

    def run(optimizer, steps, batch_size):
        method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optimizer)
        return lnz.fit(jr.key(0), model, method, data, steps=steps, batch_size=batch_size).model

    accumulated = run(optax.MultiSteps(optax.sgd(0.1), every_k_schedule=4), 4, 6)
    np.testing.assert_allclose(
        accumulated.loc, run(optax.sgd(0.1), 1, None).loc, rtol=1e-6
    )  # Optax averages in float32


def test_equal_fits_share_one_compiled_program_and_few_are_kept():
    model, method = RBM(6, 4, key=jr.key(1)), lnz.Gradient(PCD(1, num_chains=8), optax.sgd(0.1))
    lnz.fit(jr.key(0), model, method, BITS, steps=3)
    before = lnz.training._loop._program.cache_info()
    lnz.fit(jr.key(5), RBM(6, 4, key=jr.key(2)), method, 1 - BITS, steps=5)
    after = lnz.training._loop._program.cache_info()
    assert after.misses == before.misses
    assert after.hits > before.hits
    assert after.maxsize == 8


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: lnz.Checkpoints("a", every=-1), ValueError, r"`Checkpoints\(every=...\)` must be a number of seconds"),
        (lambda: lnz.Checkpoints("a", keep=0), ValueError, r"`Checkpoints\(keep=...\)` must be a whole number"),
        (lambda: lnz.Validation(BITS, patience=0), ValueError, r"`Validation\(patience=...\)` must be a whole number"),
        (lambda: lnz.Validation(BITS, every=0), ValueError, r"`Validation\(every=...\)` must be a whole number"),
        (lambda: lnz.Validation(BITS, min_gain=-1.0), ValueError, r"must not be negative; got -1"),
        (lambda: lnz.Validation(BITS, keep="first"), ValueError, r"must be 'last' or 'best'; got 'first'"),
        (lambda: lnz.Validation(BITS, min_gain=1.0), ValueError, r"min_gain=...\)` has no effect without `patience`"),
        (lambda: lnz.Watch(progress=5), TypeError, r"`Watch\(progress=...\)` must be a function"),
        (lambda: lnz.Watch(every=0), ValueError, r"`Watch\(every=...\)` must be a whole number"),
        (
            lambda: fit_noisy(checkpoints="runs"),
            TypeError,
            r"`checkpoints` must be a `lnz.Checkpoints`, such as `lnz.Checkpoints\(",
        ),
        (lambda: fit_noisy(average=1.0), ValueError, r"`average` must be a decay between 0 and 1"),
    ],
)
def test_bad_arguments(untyped, make, error, words):
    with pytest.raises(error, match=words):
        make()
