"""The verb `fit`: which rows it visits, what it returns, and what it refuses."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import lnz
from lnz.energy import RBM
from lnz.objectives import CD, PCD, MaximumLikelihood, ReverseKL

BITS = (np.random.RandomState(0).uniform(size=(32, 6)) < 0.4).astype(np.float32)
SGD = optax.sgd(0.1)


def bytes_of(tree):
    """Every array of a tree, bit for bit."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]


def machine(**options):
    return RBM(6, 4, key=jr.key(1), **options)


def fit_rbm(**options):
    # 32 rows in batches of 5: six steps an epoch, two rows left over.
    return lnz.fit(
        jr.key(0), machine(), lnz.Gradient(PCD(1, num_chains=8), SGD), BITS, steps=20, batch_size=5, **options
    )


@pytest.fixture(scope="module")
def trained():
    return fit_rbm()


class Noisy(lnz.AbstractMethod):
    """Follows the data with random steps: everything that the loop must keep in order, and quick to compile."""

    def init(self, key, model, data):
        return model, jnp.zeros(())

    def step(self, key, model, state, batch):
        noise = 0.1 * jr.normal(key, model.logits.shape)
        logits = 0.9 * model.logits + batch.mean(axis=0) + noise
        return lnz.Bernoulli(logits), state + noise[0], {"noise": noise[0]}


def fit_noisy(key=None, data=BITS, steps=20, **options):
    key = jr.key(0) if key is None else key
    return lnz.fit(key, lnz.Bernoulli(jnp.zeros(6)), Noisy(), data, steps=steps, **options)


@pytest.fixture(scope="module")
def noisy():
    return fit_noisy()


class Shrink(lnz.AbstractObjective):
    """Half the sum of squares of the weights and biases of a machine."""

    def init(self, key, model, data):
        return ()

    def loss(self, key, model, state, batch):
        loss = 0.5 * (jnp.sum(model.W**2) + jnp.sum(model.b**2) + jnp.sum(model.c**2))
        return loss, (state, {"loss": loss})


class Recording(lnz.AbstractMethod):
    """Writes down every row that it sees; the first column of the data is the row's number."""

    num_steps: int
    rows: int

    def init(self, key, model, data):
        return model, (jnp.full((self.num_steps, self.rows), -1), jnp.zeros((), jnp.int32))

    def step(self, key, model, state, batch):
        seen, t = state
        return model, (seen.at[t].set(batch[:, 0].astype(seen.dtype)), t + 1), {"rows": jnp.sum(batch)}


def rows_seen(num_rows, batch_size, steps, seed=0, **options):
    data = np.arange(num_rows, dtype=np.float32)[:, None]
    method = Recording(steps, num_rows if batch_size is None else batch_size)
    result = lnz.fit(jr.key(seed), lnz.Normal.standard(1), method, data, steps=steps, batch_size=batch_size, **options)
    return np.asarray(result.state[0])


@pytest.mark.parametrize("log_every", [1, 7, 100])
def test_chunking_does_not_change_the_bits(noisy, log_every):
    again = fit_noisy(watch=lnz.Watch(log_every))
    assert bytes_of(again.model) == bytes_of(noisy.model)
    assert bytes_of(again.state) == bytes_of(noisy.state)


def test_chunking_does_not_change_the_bits_of_a_machine_or_its_chains(trained):
    again = fit_rbm(watch=lnz.Watch(7))
    assert bytes_of(again.model) == bytes_of(trained.model)
    assert bytes_of(again.state) == bytes_of(trained.state)


def test_key_decides_the_bits(noisy):
    assert bytes_of(fit_noisy(key=jr.key(0)).model) == bytes_of(noisy.model)
    assert bytes_of(fit_noisy(key=jr.key(1)).model) != bytes_of(noisy.model)


def test_model_to_start_from_is_not_changed():
    start = machine()
    before = bytes_of(start)
    end = lnz.fit(jr.key(0), start, lnz.Gradient(Shrink(), SGD), BITS, steps=2).model
    assert bytes_of(start) == before
    assert bytes_of(end.W) != bytes_of(start.W)


def test_epoch_visits_each_example_once():
    seen = rows_seen(12, 3, 12)
    epochs = seen.reshape(3, 12)
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 3  # each epoch in an order of its own
    # Stretches of 5 steps begin in the middle of epochs of 4: the order does not depend on them.
    np.testing.assert_array_equal(rows_seen(12, 3, 12, watch=lnz.Watch(5)), seen)
    assert not np.array_equal(rows_seen(12, 3, 12, seed=1), seen)


def test_rows_are_shuffled_once_an_epoch_and_not_again_for_each_stretch(monkeypatch):
    shuffles = []
    permutation = jr.permutation

    def counted(key, num):
        jax.debug.callback(lambda: shuffles.append(num))
        return permutation(key, num)

    monkeypatch.setattr(jr, "permutation", counted)
    # A learning rate of its own, so that no compiled program of another test is taken.
    method = lnz.Gradient(Shrink(), optax.sgd(0.0371))
    lnz.fit(jr.key(0), machine(), method, BITS, steps=30, batch_size=5, watch=lnz.Watch(1))
    jax.effects_barrier()
    assert shuffles == [32] * 5  # six whole batches an epoch


def test_what_an_epoch_leaves_over_waits_for_another():
    epochs = rows_seen(10, 3, 15).reshape(5, 9)  # three whole batches and one row over
    left = [set(range(10)) - set(epoch) for epoch in epochs]
    assert all(len(rows) == 1 for rows in left)
    assert len(set.union(*left)) > 1


def test_no_batch_size_means_all_rows_in_order():
    np.testing.assert_array_equal(rows_seen(7, None, 3), np.tile(np.arange(7), (3, 1)))


def test_reverse_kl_without_data_recovers_conjugate_posterior():
    model = lnz.bayes.NormalMean(lnz.Normal(jnp.array([0.5]), 1.5), 0.8)
    data = jnp.array([[1.1], [0.3], [1.9], [0.8]])
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 400))
    method = lnz.Gradient(ReverseKL(lnz.condition(model, data), 16), optimizer)
    q = lnz.fit(jr.key(0), lnz.Normal.standard(1), method, None, steps=400).model
    exact = model.posterior(data)
    # 16 draws a step, averaged over the last hundred: about 0.4 / sqrt(1600) = 0.01; five of those.
    assert float(q.loc[0]) == pytest.approx(float(exact.loc[0]), abs=0.05)
    assert float(q.scale[0]) == pytest.approx(float(exact.scale[0]), rel=0.1)


def scores(values):
    """An evaluator that answers from a list, in the order of its calls."""
    left = list(values)
    return lambda key, model, valid: SimpleNamespace(value=left.pop(0))


def test_keep_best_returns_the_model_with_the_highest_score():
    def fit(keep):
        return fit_noisy(steps=6, valid=lnz.Validation(BITS[:4], 2, scores([-3.0, -1.0, -2.0]), keep))

    best = fit("best")
    assert [record["valid"] for record in best.history if "valid" in record] == [-3.0, -1.0, -2.0]
    assert bytes_of(best.model) == bytes_of(fit_noisy(steps=4).model)
    assert bytes_of(fit("last").model) == bytes_of(fit_noisy(steps=6).model)


def test_history_has_records_and_validation_where_promised(noisy):
    seen = []
    valid = lnz.Validation(BITS[:4], 4, scores([-1.0, -2.0, -3.0]))
    history = fit_noisy(steps=10, valid=valid, watch=lnz.Watch(5, seen.append)).history
    assert [record["step"] for record in history] == [4, 5, 8, 10]
    assert [record["step"] for record in history if "valid" in record] == [4, 8, 10]
    assert seen == history
    assert all(set(record) >= {"seconds", "noise"} for record in history)
    seconds = [record["seconds"] for record in history]
    assert seconds == sorted(seconds)
    assert noisy.compile_seconds > 0
    assert noisy.status == "completed"


def test_default_evaluator_is_evaluate():
    result = fit_noisy(steps=1, valid=BITS[:4])
    assert result.history[-1]["valid"] == pytest.approx(lnz.evaluate(jr.key(0), result.model, BITS[:4]).value)


def test_metrics_are_means_over_the_stretch():
    data = np.arange(6, dtype=np.float32)[:, None]
    result = lnz.fit(
        jr.key(0), lnz.Normal.standard(1), Recording(4, 3), data, steps=4, batch_size=3, watch=lnz.Watch(2)
    )
    assert [record["rows"] for record in result.history] == [7.5, 7.5]  # 0 + ... + 5 in two batches


@pytest.mark.parametrize("stored", [np.uint8, bool, np.float64])
def test_number_type_of_the_data_does_not_change_the_bits(noisy, stored):
    assert bytes_of(fit_noisy(data=BITS.astype(stored)).model) == bytes_of(noisy.model)


def test_frozen_arrays_are_left_alone_even_by_weight_decay():
    rbm = machine(base_rates=jnp.full(6, 0.3))
    method = lnz.Gradient(Shrink(), optax.adamw(0.1, weight_decay=0.5))
    model = lnz.fit(jr.key(0), rbm, method, BITS, steps=3).model
    assert bytes_of(model.base_rates) == bytes_of(rbm.base_rates)
    assert not np.array_equal(model.b, rbm.b)


def test_filter_chooses_what_is_trained():
    rbm = machine()

    def biases_only(model):
        return lnz.modules._module.replace(lnz.trainable(model), W=False)

    method = lnz.Gradient(Shrink(), optax.adamw(0.1, weight_decay=0.5), filter=biases_only)
    rbm = lnz.modules._module.replace(rbm, b=jnp.ones(6))
    model = lnz.fit(jr.key(0), rbm, method, BITS, steps=3).model
    assert bytes_of(model.W) == bytes_of(rbm.W)
    assert not np.array_equal(model.b, rbm.b)


def test_base_rates_of_the_data_are_stored_and_start_the_path(trained):
    rates = (BITS.sum(0) + 1) / (len(BITS) + 2)
    np.testing.assert_allclose(trained.model.base_rates.value, rates, rtol=1e-6)
    np.testing.assert_allclose(trained.model.path().start.probs, rates, rtol=1e-5)
    # A second fit, on other data, keeps those of the first.
    again = lnz.fit(jr.key(0), trained.model, lnz.Gradient(Shrink(), SGD), 1 - BITS, steps=1).model
    assert bytes_of(again.base_rates) == bytes_of(trained.model.base_rates)


def diverge(**options):
    data = np.random.RandomState(0).normal(size=(20, 2)).astype(np.float32)
    method = lnz.Gradient(MaximumLikelihood(), optax.sgd(1e3))
    return lnz.fit(jr.key(0), lnz.Normal.standard(2), method, data, **options)


def test_base_rates_of_many_rows_are_their_smoothed_mean():
    rows = np.random.RandomState(0).randint(0, 2, (20_000, 6)).astype(np.uint8)  # two whole chunks and a rest
    machine = RBM(6, 2, key=jr.key(0)).initialise(jr.key(0), jnp.asarray(rows))
    np.testing.assert_allclose(machine.base_rates.value, (rows.sum(axis=0) + 1) / 20_002, rtol=1e-6)


def test_divergence_raises_with_the_steps_and_advice():
    with pytest.raises(FloatingPointError, match=r"diverged at step 2: .*smaller learning rate") as error:
        diverge(steps=20, watch=lnz.Watch(10))
    assert "log_likelihood = " in str(error.value)
    assert "The update made .log_scale of the model infinite, not a number, or too large" in str(error.value)
    assert "clip_by_global_norm" in str(error.value)


@pytest.mark.parametrize("log_every", [1, 10])
def test_divergence_without_throw_returns_the_last_good_model(log_every):
    result = diverge(steps=20, watch=lnz.Watch(log_every), throw=False)
    assert "diverged" in result.status
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(result.model))
    assert [record["step"] for record in result.history] == list(range(1, len(result.history) + 1))


def test_a_last_update_that_breaks_the_model_does_not_go_unseen():
    good = diverge(steps=20, watch=lnz.Watch(1), throw=False)
    steps = len(good.history) + 1  # the metrics of this step are finite: only its update overflows
    with pytest.raises(FloatingPointError, match=f"at step {steps}: log_likelihood = -?[0-9]"):
        diverge(steps=steps, watch=lnz.Watch(1))


class Grows(lnz.AbstractMethod):
    """Logits of a size that the loss does not show, from step 5 on."""

    size: float

    def init(self, key, model, data):
        return model, jnp.zeros((), jnp.int32)

    def step(self, key, model, state, batch):
        logits = jnp.where(state >= 4, jnp.asarray(self.size, model.logits.dtype), model.logits)
        return lnz.Bernoulli(logits), state + 1, {"loss": jnp.asarray(0.5, model.logits.dtype)}


@pytest.mark.parametrize("size", [1e30, -1e30, 1e18])
def test_weights_whose_squares_are_infinite_count_as_divergence(size, tmp_path):
    method, checkpoints = Grows(size), lnz.Checkpoints(tmp_path)
    options = {"steps": 20, "checkpoints": checkpoints, "throw": False}
    result = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(6)), method, BITS, **options)
    if abs(size) < 1e19:
        assert result.status == "completed"
        return
    assert re.match(r"Training diverged at step 5: .*\.logits of the model .* too large to be squared", result.status)
    np.testing.assert_array_equal(result.model.logits, 0.0)
    assert result.history[-1]["step"] == 4
    assert [path.name for path in checkpoints.files()] == ["step-000000004.ckpt"]
    # Numbers that the model had from the start may stay.
    start = lnz.Bernoulli(jnp.full(6, size))
    assert lnz.fit(jr.key(0), start, method, BITS, steps=2).status == "completed"


def test_a_fit_shows_its_numbers_and_not_its_arrays():
    fit = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(6)), Grows(1.0), BITS, steps=3)
    assert repr(fit) == "Fit(Bernoulli, 'completed', step 3, loss 0.5)"
    assert repr((fit,)) == f"({fit!r},)"


def test_infinite_numbers_that_the_model_started_with_are_no_divergence():
    model = lnz.Mixture(jnp.array([0.0, -jnp.inf]), lnz.Bernoulli(jnp.zeros((2, 3))))  # a component switched off

    class Stay(lnz.AbstractMethod):
        def init(self, key, model, data):
            return model, ()

        def step(self, key, model, state, batch):
            return model, state, {"nothing": jnp.zeros(())}

    assert lnz.fit(jr.key(0), model, Stay(), BITS[:, :3], steps=3).status == "completed"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"key": 0}, TypeError, r"`key` must be a JAX random key; got the number 0. Try `jax.random.key\(0\)`"),
        ({"key": None}, TypeError, r"got NoneType"),
        ({"key": "split"}, ValueError, r"must be one key; got an array of 3"),
        ({"steps": 0}, ValueError, r"`steps` must be a whole number, at least 1; got 0"),
        ({"steps": 2.5}, ValueError, r"`steps` must be a whole number, at least 1; got 2.5"),
        ({"steps": True}, ValueError, r"`steps` must be"),
        ({"method": PCD(1)}, TypeError, r"`method` must be a method, such as `lnz.Gradient\(objective, .*got PCD"),
        ({"method": SGD}, TypeError, r"`method` must be a method"),
        ({"batch_size": 33}, ValueError, r"`batch_size=33` is larger than the data \(32 rows\). Use `batch_size=None`"),
        ({"batch_size": 0}, ValueError, r"`batch_size` must be a whole number"),
        ({"watch": print}, TypeError, r"`watch` must be a `lnz.Watch`, such as `lnz.Watch\(progress=print\)`"),
        (
            {"data": BITS[0]},
            ValueError,
            r"`data` must have shape \(n, 6\).*got \(6,\).*single example try `data\[None\]`",
        ),
        ({"data": BITS[:, :5]}, ValueError, r"`data` must have shape \(n, 6\).*got \(32, 5\)"),
        ({"data": 0.5 * BITS}, ValueError, r"`data` has the value 0.5 at row \d+, column \(\d\)"),
        ({"data": np.array([["a"] * 6])}, TypeError, r"`data` must be an array of numbers"),
        ({"valid": BITS[:, :5]}, ValueError, r"`valid` must have shape \(n, 6\)"),
    ],
)
def test_bad_arguments(untyped, changes, error, words):
    arguments = {"key": jr.key(0), "method": lnz.Gradient(CD(1), SGD), "data": BITS, "steps": 2, **changes}
    key, method, data = (arguments.pop(name) for name in ("key", "method", "data"))
    key = jr.split(jr.key(0), 3) if isinstance(key, str) else key
    with pytest.raises(error, match=words):
        lnz.fit(key, machine(), method, data, **arguments)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lnz.Gradient(SGD, SGD), r"`Gradient\(objective=...\)` must be one of lnz.objectives"),
        (lambda: lnz.Gradient(CD(1), 0.1), r"`Gradient\(optimizer=...\)` must come from Optax.*got 0.1"),
        (lambda: lnz.Gradient(CD(1), optax.sgd), r"`Gradient\(optimizer=...\)` must come from Optax"),
    ],
)
def test_gradient_says_what_it_takes(untyped, make, words):
    with pytest.raises(TypeError, match=words):
        make()


def test_contrastive_divergence_needs_an_energy_model():
    with pytest.raises(TypeError, match=r"`CD` needs an energy model.*got Normal"):
        lnz.fit(jr.key(0), lnz.Normal.standard(1), lnz.Gradient(CD(1), SGD), np.zeros((3, 1)), steps=1)


@pytest.mark.parametrize(
    "method",
    [
        lnz.EM(),
        lnz.Gradient(lnz.objectives.ELBO(), optax.sgd(0.1)),
        lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(0.1)),
        lnz.Gradient(lnz.objectives.CD(1), optax.sgd(0.1)),
        lnz.Gradient(lnz.objectives.PCD(1), optax.sgd(0.1)),
    ],
    ids=["EM", "ELBO", "MaximumLikelihood", "CD", "PCD"],
)
def test_methods_that_learn_from_data_say_so(method):
    with pytest.raises(ValueError, match="learns from data"):
        lnz.fit(jr.key(0), lnz.energy.RBM(3, 2, key=jr.key(0)), method, None, steps=1)
