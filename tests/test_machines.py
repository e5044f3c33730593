"""Fast weights, and what is watched while a Boltzmann machine trains."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz import testing
from lnz.energy import RBM, free_energy_gap, pseudo_log_likelihood, reconstruction_error
from lnz.objectives import FPCD, PCD

BITS = np.random.RandomState(0).randint(0, 2, (20, 4)).astype(np.float32)


def gradient_of(objective, model, state, batch):
    """The gradient of an objective, and its next state."""

    def loss(model):
        return objective.loss(jr.key(5), model, state, batch)

    gradient, (state, _) = jax.grad(loss, has_aux=True)(model)
    return gradient, state


def test_fast_weights_without_learning_are_pcd(float64):
    model, batch = table.rbm(), jnp.asarray(BITS, float)
    fast = FPCD(2, num_chains=6, fast_learning_rate=0.0)
    slow = PCD(2, num_chains=6)
    state, plain = fast.init(jr.key(1), model, batch), slow.init(jr.key(1), model, batch)
    for _ in range(3):
        gradient, state = gradient_of(fast, model, state, batch)
        expected, plain = gradient_of(slow, model, plain, batch)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), gradient, expected)
        jax.tree.map(np.testing.assert_array_equal, state[0], plain)


def test_fast_weights_follow_their_equation(float64):
    """Against NumPy: the chains' half of the gradient is taken at theta + fast."""
    model, batch = table.rbm(), jnp.asarray(BITS, float)
    objective = FPCD(1, num_chains=6, fast_learning_rate=0.3, decay=0.9)
    chains, fast = objective.init(jr.key(1), model, batch)
    fast = jax.tree.map(lambda p: p + 0.1, fast)
    gradient, ((_, v), new_fast) = gradient_of(objective, model, (chains, fast), batch)

    def statistics(W, c, v):
        h = 1 / (1 + np.exp(-(v @ W + c)))
        return v.T @ h / len(v), v.mean(axis=0), h.mean(axis=0)

    W, c = np.asarray(model.W), np.asarray(model.c)
    up = statistics(W, c, np.asarray(batch))
    down = statistics(W + 0.1, c + 0.1, np.asarray(v))
    for name, positive, negative in zip("Wbc", up, down, strict=True):
        np.testing.assert_allclose(getattr(gradient, name), negative - positive, atol=1e-12)
        np.testing.assert_allclose(getattr(new_fast, name), 0.09 - 0.3 * (negative - positive), atol=1e-12)


def test_fast_weights_train_to_the_maximum_of_the_likelihood():
    data = np.random.RandomState(1).rand(400, 4) < [0.2, 0.5, 0.8, 0.6]
    data[:, 3] = data[:, 0]
    method = lnz.Gradient(FPCD(1, 200, 0.003), optax.adam(optax.linear_schedule(0.05, 0.0, 1500)))
    start = RBM(4, 4, key=jr.key(0))
    fit = lnz.fit(jr.key(1), start, method, data.astype(np.uint8), steps=1500)
    # The best there is: the entropy of the empirical distribution.
    counts = np.unique(data, axis=0, return_counts=True)[1] / 400
    best = (counts * np.log(counts)).sum()
    value = lnz.evaluate(jr.key(2), fit.model, data.astype(np.uint8)).value
    assert lnz.evaluate(jr.key(2), start, data.astype(np.uint8)).value < best - 0.4
    assert best - 0.05 < value < best


@pytest.mark.parametrize("make", [table.rbm, lambda: table.rbm(4, 6)])
def test_pseudo_likelihood_is_the_sum_of_conditionals(make, float64):
    model = make()
    states = np.asarray(testing.enumerate_states(model.space))
    log_p = np.array([float(model.log_density(jnp.asarray(x))) for x in states])
    x = states[5]
    exact = 0.0
    for i in range(len(x)):
        others = np.delete(states, i, axis=1) == np.delete(x, i)
        exact += log_p[5] - np.logaddexp.reduce(log_p[others.all(axis=1)])
    assert float(pseudo_log_likelihood(model, jnp.asarray(x))) == pytest.approx(exact, abs=1e-10)


def test_pseudo_likelihood_of_independent_bits_is_the_likelihood(float64):
    model = lnz.Bernoulli(jnp.asarray([0.3, -2.0, 1.0]))
    x = jnp.asarray([1.0, 0.0, 0.0])
    assert float(pseudo_log_likelihood(model, x)) == pytest.approx(float(model.log_prob(x)), abs=1e-12)


def test_reconstruction_error_in_closed_form(float64):
    model = table.rbm()
    v = np.array([1.0, 0, 1, 1])
    h = 1 / (1 + np.exp(-(v @ model.W + model.c)))
    p = 1 / (1 + np.exp(-(model.b + model.W @ h)))
    exact = -(v * np.log(p) + (1 - v) * np.log(1 - p)).sum()
    assert float(reconstruction_error(model, jnp.asarray(v))) == pytest.approx(exact, abs=1e-12)


def test_free_energy_gap_is_the_difference_of_likelihoods(float64):
    model = table.rbm()
    gap = free_energy_gap(model, BITS[:12], BITS[12:])
    train, valid = (lnz.evaluate(jr.key(0), model, rows) for rows in (BITS[:12], BITS[12:]))
    assert float(gap.value) == pytest.approx(train.value - valid.value, abs=1e-5)
    assert float(gap.standard_error) == pytest.approx(np.hypot(train.data_error, valid.data_error), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: FPCD(0), ValueError, r"FPCD\(k=...\)"),
        (lambda: FPCD(decay=1.0), ValueError, "less than 1; got 1.0"),
        (lambda: FPCD(fast_learning_rate=-1), ValueError, "must not be negative; got -1"),
        (lambda: pseudo_log_likelihood(table.potts_rbm(), jnp.zeros(2)), TypeError, "needs bits"),
        (lambda: free_energy_gap(table.rbm(), BITS[:1], BITS), ValueError, r"free_energy_gap\(train=...\)"),
    ],
)
def test_bad_arguments(untyped, call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_training_starts_at_the_base_rates_unless_biases_were_set():
    """Zero biases are no choice: with zeros and ones exchanged, persistent chains would learn nothing from there."""
    data = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1]], np.uint8)
    method = lnz.Gradient(lnz.objectives.PCD(1, num_chains=2), optax.sgd(0.0))
    start = RBM(3, 2, key=jr.key(0))
    rates = np.array([4, 3, 3]) / 5  # one of two pseudo-observations is a one
    b = lnz.fit(jr.key(1), start, method, data, steps=1).model.b
    np.testing.assert_allclose(b, np.log(rates / (1 - rates)), rtol=1e-5)
    chosen = RBM.from_parameters(start.W, np.array([0.0, 0.5, 0.0]), start.c)
    np.testing.assert_array_equal(lnz.fit(jr.key(1), chosen, method, data, steps=1).model.b, chosen.b)
    even = RBM(3, 2, key=jr.key(0), base_rates=jnp.full(3, 0.5))
    np.testing.assert_array_equal(lnz.fit(jr.key(1), even, method, data, steps=1).model.b, np.zeros(3))


def test_a_constant_energy_moves_log_z_by_itself():
    """Also where the first row is impossible, at which energies with and without the constant have no difference."""
    table, constant = np.array([[0.0, np.inf], [3, 2]]), 2.0**20
    field = lnz.energy.MarkovField(2, 2, [(), (0, 1)], [constant, table])
    with pytest.warns(lnz.UnreliableEstimateWarning, match="probability zero"):
        result = lnz.evaluate(jr.key(0), field, np.array([[0, 1], [1, 0]]))
    log_z = np.log(np.exp(-table).sum())
    np.testing.assert_allclose(result.per_example, [-np.inf, -3 - log_z], rtol=1e-6)
    assert float(result.denominator.value) == pytest.approx(log_z - constant, abs=0.1)  # a rounding of 2**20: 0.06


def test_a_constant_energy_changes_no_likelihood():
    """It cancels between numerator and denominator, and is whole, so that these tables hold it without rounding."""
    tables = [np.array([[0.0, 1], [3, 2]]), np.array([[0.0, 4], [1, np.inf]])]
    x = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])

    @jax.jit
    def log_probs(constant, offset):
        shifted = [jnp.asarray(table, jnp.result_type(float)) + offset for table in tables]
        field = lnz.energy.MarkovField(3, 2, [(), (0, 1), (1, 2)], [constant, *shifted], temperature=0.7)
        method, key = lnz.normalizers.Quadrature(), jr.key(0)
        log_z = method(key, field.denominator()).value
        return jax.vmap(lambda x: field.numerator(x).value)(jnp.asarray(x)) - log_z

    expected = log_probs(0.0, 0.0)
    states = np.array(list(np.ndindex(2, 2, 2)))
    energies = np.array([tables[0][a, b] + tables[1][b, c] for a, b, c in states]) / 0.7
    by_hand = np.array([-(tables[0][a, b] + tables[1][b, c]) / 0.7 for a, b, c in x]) - np.log(np.exp(-energies).sum())
    np.testing.assert_allclose(expected, by_hand, rtol=1e-5)
    for constant, each in ((1e7, 0.0), (-3e6, 2.0**20)):
        np.testing.assert_allclose(log_probs(constant, each), expected, rtol=1e-6)


@pytest.mark.parametrize("offset", [-1e8, 1e6])
def test_tables_of_energies_keep_their_digits_wherever_they_lie(offset):
    """Differences of 1 beside 1e8, which float32 cuts to multiples of 8."""
    tables = np.random.RandomState(0).normal(size=(3, 3, 3))
    cliques, states = [(0, 1), (1, 2), (2, 3)], np.array(list(np.ndindex(3, 3, 3, 3)))
    energies = sum(tables[i][states[:, i], states[:, i + 1]] for i in range(3))
    field = lnz.energy.MarkovField(4, 3, cliques, list(tables + offset))
    found = lnz.evaluate(jr.key(0), field, states)
    np.testing.assert_allclose(found.per_example, -energies - np.log(np.exp(-energies).sum()), atol=1e-5)
    assert float(found.denominator.value) == pytest.approx(np.log(np.exp(-energies).sum()) - 3 * offset, rel=1e-6)
