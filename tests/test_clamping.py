"""Boltzmann machines with some visible units held fixed, against enumeration."""

import itertools
import re
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table
from scipy import stats

import lnz
from lnz import testing
from lnz.energy import RBM, CategoricalUnits
from lnz.modules import Frozen, replace
from lnz.normalizers import AIS, Quadrature, ReverseAIS

MACHINES = {
    "rbm": lambda: table.rbm(5, 3),
    "rbm_few_visible": lambda: table.rbm(4, 6),
    "potts_rbm": table.potts_rbm,
    "dbm": lambda: table.dbm(4, 3, 2),
}


def all_states(space):
    num_categories = getattr(space, "num_categories", 2)
    return np.array(list(itertools.product(range(num_categories), repeat=space.shape[0])))


def log_numerators(model, states):
    """`log p~(x)` of every visible state."""
    cast = [model.space.cast(x, jnp.result_type(float)) for x in states]
    return np.array([float(lnz.log_normalizer(jr.key(0), model.numerator(x)).value) for x in cast])


def example_and_mask(model):
    (num,) = model.space.shape
    values = np.random.RandomState(3).randint(0, getattr(model.space, "num_categories", 2), num)
    mask = np.arange(num) % 2 == 0
    return values, mask


@pytest.fixture(params=MACHINES)
def machine(request, float64):
    model = MACHINES[request.param]()
    values, mask = example_and_mask(model)
    states = all_states(model.space)
    log_p = log_numerators(model, states)
    agree = (states[:, mask] == values[mask]).all(axis=1)
    return model, values, mask, states, log_p, agree


def test_the_log_normaliser_is_the_sum_over_the_free_units(machine):
    model, values, mask, _, log_p, agree = machine
    exact = np.logaddexp.reduce(log_p[agree])
    clamped = model.clamp(model.space.cast(values, float), jnp.asarray(mask))
    assert float(lnz.log_normalizer(jr.key(0), clamped, Quadrature()).value) == pytest.approx(exact, abs=1e-10)


def test_draws_follow_the_conditional_distribution(machine):
    model, values, mask, states, log_p, agree = machine
    draws = np.asarray(lnz.sample(jr.key(1), model, 4000, num_steps=40, clamp=(values, mask))).astype(int)
    assert (draws[:, mask] == values[mask]).all()
    probs = np.exp(log_p[agree] - np.logaddexp.reduce(log_p[agree]))
    counts = np.array([(draws == state).all(axis=1).sum() for state in states[agree]])
    assert stats.chisquare(counts, 4000 * probs).pvalue > 1e-4


@pytest.mark.parametrize(("name", "direction"), [("rbm", "reverse"), ("potts_rbm", "forward"), ("dbm", "forward")])
def test_annealing_covers_the_clamped_sum(name, direction):
    model = MACHINES[name]()
    values, mask = example_and_mask(model)
    clamped = model.clamp(model.space.cast(values, jnp.float32), jnp.asarray(mask))
    exact = float(lnz.log_normalizer(jr.key(0), clamped, Quadrature()).value)
    normalizer = AIS(100, 60) if direction == "forward" else ReverseAIS(100, 60)
    testing.check_normalizer(testing.repeat_normalizer(jr.key(2), normalizer, clamped), exact)


@pytest.mark.parametrize("num_rows", [1, 600])
def test_clamped_chains_that_have_not_settled_are_told(num_rows):
    """One free unit is on in 98 of 100 draws, but the chains, which start anywhere, seldom turn it on.

    What depends on its start could depend on the values that are clamped, unless these are the same in every row.
    """
    model = RBM.from_parameters(np.array([[0.0], [0], [12]]), np.array([0.0, 0, -4]), np.full(1, -4.0))
    model = replace(model, base_rates=Frozen(jnp.full(3, 0.5)))
    values = np.zeros((num_rows, 3))
    values[: num_rows // 2, 0] = 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lnz.sample(
            jr.key(0), model, 600, num_steps=20, clamp=(values[0] if num_rows == 1 else values, [True, True, False])
        )
    told = [str(warning.message) for warning in caught]
    assert any(
        re.search(r"of 1 of 3 variables still move on: .* place went up in .* \(variable 2\)", words) for words in told
    )
    assert any("where their chains started" in words for words in told) == (num_rows == 1)


def test_rows_may_each_have_values_and_masks_of_their_own():
    model = table.rbm(5, 3)
    random = np.random.RandomState(0)
    values, mask = random.randint(0, 2, (7, 5)), random.rand(7, 5) < 0.5
    draws = lnz.sample(jr.key(0), model, 7, num_steps=5, clamp=(values, mask))
    np.testing.assert_array_equal(np.where(mask, draws, 0), np.where(mask, values, 0))


def test_nothing_clamped_is_the_machine_itself(float64):
    model = table.rbm(5, 3)
    free = model.clamp(jnp.zeros(5), jnp.zeros(5, bool))
    x = jnp.asarray([0.0, 1, 1, 0, 1])
    np.testing.assert_allclose(free.log_density(x), model.log_density(x), rtol=1e-12)
    np.testing.assert_allclose(testing.exact_log_normalizer(free), testing.exact_log_normalizer(model), rtol=1e-12)


def test_states_that_contradict_the_clamp_are_impossible():
    clamped = table.rbm(4, 3).clamp(jnp.asarray([1.0, 0, 0, 0]), jnp.asarray([True, False, False, False]))
    assert float(clamped.log_density(jnp.zeros(4))) == -np.inf
    assert np.isfinite(float(clamped.log_density(jnp.asarray([1.0, 0, 1, 0]))))


def test_gradient_of_a_clamped_sum_is_finite_and_right(float64):
    model = table.rbm(4, 3)
    values, mask = jnp.asarray([1.0, 0, 0, 1]), jnp.asarray([True, False, True, False])

    def log_p(model):
        return Quadrature()(jr.key(0), model.clamp(values, mask)).value

    testing.check_gradient(log_p, model, jax.grad(log_p)(model), tolerance=1e-6)


@pytest.mark.filterwarnings("ignore:.* rows have no known entry:UserWarning")
@pytest.mark.parametrize("name", ["rbm", "dbm"])
def test_partly_observed_rows_are_evaluated_with_the_rest_summed_out(name, float64):
    model = MACHINES[name]()
    states = all_states(model.space)
    log_p = log_numerators(model, states)
    log_z = np.logaddexp.reduce(log_p)
    random = np.random.RandomState(1)
    data = random.randint(0, 2, (6, *model.space.shape)).astype(float)
    data[random.rand(*data.shape) < 0.4] = np.nan
    data[0] = np.nan  # nothing known: probability one
    known = ~np.isnan(data)
    result = lnz.evaluate(jr.key(0), model, data, observed=known, hidden=Quadrature(), partition=Quadrature())
    exact = [
        np.logaddexp.reduce(log_p[(states[:, mask] == row[mask]).all(axis=1)]) - log_z
        for row, mask in zip(data, known, strict=True)
    ]
    np.testing.assert_allclose(result.per_example, exact, atol=1e-9)
    assert result.per_example[0] == pytest.approx(0, abs=1e-9)
    assert result.bound == "exact"
    assert result.of.num_dimensions == pytest.approx(known.sum() / 6)


def test_what_is_not_known_has_no_part_in_the_result():
    model = table.rbm(5, 3)
    known = np.random.RandomState(0).rand(4, 5) < 0.5
    data = np.random.RandomState(1).randint(0, 2, (4, 5))
    first, second = (lnz.evaluate(jr.key(0), model, np.where(known, data, other), observed=known) for other in (0, 1))
    np.testing.assert_array_equal(first.per_example, second.per_example)
    assert first.of == second.of
    whole = lnz.evaluate(jr.key(0), model, data)
    assert whole.of.data != first.of.data


RBM_5, BITS_5 = table.rbm(5, 3), lnz.Bernoulli(jnp.zeros(5))
KNOWN = np.ones((2, 5), bool)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: RBM_5.clamp(jnp.zeros(4), jnp.zeros(5, bool)), ValueError, r"values=...\)` must have shape \(5,\)"),
        (lambda: RBM_5.clamp(jnp.zeros(5), jnp.zeros(5)), TypeError, "must be true and false"),
        (lambda: RBM_5.clamp(jnp.full(5, 2.0), jnp.ones(5, bool)), ValueError, "value outside Binary"),
        (
            lambda: lnz.sample(jr.key(0), RBM_5, 2, clamp=(np.zeros(4), KNOWN[0])),
            ValueError,
            "values must have",
        ),
        (lambda: lnz.sample(jr.key(0), RBM_5, 2, clamp=(np.zeros(5), np.zeros(5))), TypeError, "astype"),
        (lambda: lnz.sample(jr.key(0), RBM_5, 2, clamp=(np.full(5, 3), np.ones(5, bool))), ValueError, "value 3"),
        (lambda: lnz.sample(jr.key(0), lnz.Bernoulli(jnp.zeros(5)), 2, clamp=(0, 0)), TypeError, "such as an RBM"),
        (lambda: lnz.evaluate(jr.key(0), RBM_5, np.zeros((2, 5)), observed=np.ones((2, 4), bool)), ValueError, "isnan"),
        (
            lambda: lnz.evaluate(
                jr.key(0), lnz.Bernoulli(jnp.zeros(5)), np.zeros((2, 5)), observed=np.ones((2, 5), bool)
            ),
            TypeError,
            "such as an RBM",
        ),
    ],
)
def test_bad_arguments(untyped, call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_clamped_machines_are_saved_whole(tmp_path):
    machine = RBM(CategoricalUnits(2, 3), 2, key=jr.key(0)).clamp(jnp.asarray([2, 0]), jnp.asarray([True, False]))
    lnz.save(tmp_path / "x.lnz", machine)
    loaded = lnz.load(tmp_path / "x.lnz")
    assert testing.exact_log_normalizer(loaded) == testing.exact_log_normalizer(machine)
