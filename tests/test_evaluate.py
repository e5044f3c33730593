"""The verbs that answer: likelihoods with their errors and bounds, comparisons, samples."""

import dataclasses
import json
import math
import warnings
from collections.abc import Callable

import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table
from jax.scipy.special import logsumexp

import lnz
from lnz import testing
from lnz.core import likelihood_from_json, to_json
from lnz.files import DamagedError
from lnz.normalizers import AIS, BAR, Importance, Quadrature, ReverseAIS

KEY = jr.key(0)


class Says(lnz.AbstractNormalizer):
    """A normaliser that makes an estimate of the density's value at 0."""

    say: Callable = eqx.field(static=True)
    name = "Says"

    def cost(self, density):
        return 1

    def __call__(self, key, density):
        return self.say(density.log_density(jnp.zeros(density.space.shape)))


class Hard(lnz.AbstractModel):
    """A model with `sum(x)` as its numerator and 0 as its denominator, neither known without a method."""

    space: lnz.AbstractSpace

    def numerator(self, x, observed=None):
        return lnz.density(lnz.Euclidean(1), lambda z: jnp.sum(x) + jnp.sum(z))

    def denominator(self):
        return lnz.density(lnz.Euclidean(1), jnp.sum)


def weighed(x):
    """The effective sample size that the example says, of 100 weights."""
    return lnz.Estimate(jnp.zeros(()), jnp.ones(()), "lower", weights=lnz.Weights(num=jnp.asarray(100), ess=x))


def nothing(x):
    return lnz.Estimate.exact(jnp.zeros(()))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ([], None),
        ([9.5], None),  # below 10 in one of 40: as likely by chance as told
        ([9.5, 9.4, 9.3], "3 of 43 examples have too few effective weights"),
        ([1.9], "1 of 41 examples have an effective sample size below 2, first row 40"),
        ([50.0, 0.0, 1.0], "2 of 43 examples have an effective sample size below 2, first row 41"),
    ],
)
def test_a_row_with_useless_weights_is_told_however_many_are_well(last, words):
    rows = np.float32([*np.linspace(50.0, 60.0, 40), *last])[:, None]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = lnz.evaluate(KEY, Hard(lnz.Euclidean(1)), rows, hidden=Says(weighed), partition=Says(nothing))
    assert len(told) == len(result.warnings) == (words is not None)
    if words is not None:
        assert words in result.warnings[0]
        assert words in str(result)
    np.testing.assert_array_equal(result.unreliable_rows, rows[:, 0] < 10)


PRIOR = Importance(1000, lnz.Normal.standard(2))  # bounded weights: their k is negative
BITS = (np.random.RandomState(0).uniform(size=(9, 4)) < 0.5).astype(np.float32)
ROWS = np.random.RandomState(1).normal(scale=0.5, size=(6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def exact():
    return lnz.evaluate(KEY, lnz.Bernoulli(jnp.array([0.3, -1.0, 0.0, 2.0])), BITS)


@pytest.fixture(scope="module")
def machine():
    return table.rbm()


@pytest.fixture(scope="module")
def by_enumeration(machine):
    return lnz.evaluate(KEY, machine, BITS)


@pytest.fixture(scope="module")
def by_ais(machine):
    return lnz.evaluate(KEY, machine, BITS, partition=AIS(50, 20))


@pytest.fixture(scope="module")
def by_importance():
    return lnz.evaluate(KEY, table.linear_vae(), ROWS, hidden=PRIOR)


def test_value_and_data_error_by_hand(exact):
    logits = np.array([0.3, -1.0, 0.0, 2.0])
    by_hand = (BITS * logits - np.log1p(np.exp(logits))).sum(axis=1)
    np.testing.assert_allclose(exact.per_example, by_hand, rtol=1e-5)
    assert exact.value == pytest.approx(by_hand.mean(), rel=1e-6)
    assert exact.value == exact.per_example.mean()
    assert exact.data_error == pytest.approx(by_hand.std(ddof=1) / 3, rel=1e-5)  # the root of 9
    assert exact.monte_carlo_error == 0.0
    assert exact.bound == "exact"
    assert exact.num == 9
    assert exact.bits_per_dimension == pytest.approx(-by_hand.mean() / math.log(2) / 4, rel=1e-5)
    assert exact.warnings == ()
    assert exact.assumes == ()


def test_one_example_has_no_data_error():
    result = lnz.evaluate(KEY, lnz.Bernoulli(jnp.zeros(4)), BITS[:1])
    assert math.isnan(result.data_error)
    assert result.value == pytest.approx(-4 * math.log(2))


def test_rbm_is_enumerated_by_default(machine, by_enumeration):
    states, _ = machine.space.quadrature()
    log_z = float(logsumexp(jax.vmap(machine.log_density)(states)))
    by_hand = np.asarray(jax.vmap(machine.log_density)(jnp.asarray(BITS))) - log_z
    np.testing.assert_allclose(by_enumeration.per_example, by_hand, atol=1e-5)
    assert by_enumeration.bound == "exact"
    assert by_enumeration.monte_carlo_error == 0.0
    assert by_enumeration.how.endswith("numerator exact; denominator exact (Quadrature)")


def test_error_of_the_denominator_is_shared(machine, by_ais, by_enumeration):
    log_z = lnz.log_normalizer(KEY, machine, AIS(50, 20))
    # The same size of error for every number of examples, and the same error for all of them.
    assert by_ais.monte_carlo_error == float(by_ais.denominator.standard_error)
    assert by_ais.monte_carlo_error == pytest.approx(float(log_z.standard_error), rel=0.5)
    fewer = lnz.evaluate(KEY, machine, BITS[:3], partition=AIS(50, 20))
    assert fewer.monte_carlo_error == by_ais.monte_carlo_error
    shift = by_ais.per_example - by_enumeration.per_example
    np.testing.assert_allclose(shift, shift[0], atol=1e-5)
    assert abs(shift[0]) < 5 * by_ais.monte_carlo_error
    assert by_ais.bound == "upper"


def test_error_of_the_numerators_averages_out(by_importance):
    vae = table.linear_vae()
    key_hidden, _ = jr.split(KEY)

    @jax.jit
    def numerator(key, x):
        return PRIOR(key, lnz.condition(vae, x)).standard_error

    errors = [float(numerator(k, jnp.asarray(x))) for k, x in zip(jr.split(key_hidden, 6), ROWS, strict=True)]
    assert by_importance.monte_carlo_error == pytest.approx(math.sqrt(sum(e**2 for e in errors)) / 6, rel=1e-4)
    assert float(by_importance.denominator.standard_error) == 0.0
    assert by_importance.bound == "lower"
    exact = np.asarray(jax.vmap(table.linear_vae_marginal().log_prob)(jnp.asarray(ROWS)))
    assert by_importance.value == pytest.approx(exact.mean(), abs=5 * by_importance.monte_carlo_error)


def of_error_6(x):
    return lnz.Estimate(x, jnp.asarray(0.6), "lower")


def by_luck(x):
    return lnz.Estimate(jnp.asarray(2.0), jnp.asarray(0.15), "lower", assumes=("luck",))


def test_each_example_has_its_own_error(by_importance, by_ais, exact):
    errors = by_importance.per_example_error
    assert errors.shape == (by_importance.num,)
    assert (errors > 0).all()
    assert np.sqrt((errors**2).sum()) / by_importance.num == pytest.approx(by_importance.numerator_error)
    assert not exact.per_example_error.any()
    assert not by_ais.per_example_error.any()  # that of log Z is shared
    assert float(by_ais.denominator.standard_error) > 0


def test_bits_a_dimension_of_many_values_turn_the_bound(by_importance, exact):
    result = lnz.evaluate(KEY, lnz.DiscretisedLogistic(jnp.full(4, 0.5), 0.3, 17), BITS)
    assert str(result).endswith(f") = {-result.value / 4 / math.log(2):.4f} bits/dim (exact)")
    lower = dataclasses.replace(result, numerators=lnz.modules.replace(result.numerators, bound="lower"))
    assert lower.in_bits is not None
    assert lower.in_bits.endswith(" bits/dim (upper bound)")
    assert lower.kind == "lower bound"
    for other in (exact, by_importance):  # bits, and a density
        assert other.in_bits is None
        assert "bits/dim" not in str(other)


def test_both_errors_join_in_quadrature():
    result = lnz.evaluate(KEY, Hard(lnz.Binary(4)), BITS, hidden=Says(of_error_6), partition=Says(by_luck))
    assert result.numerator_error == pytest.approx(0.6 / 3)
    assert float(result.denominator.standard_error) == pytest.approx(0.15)
    assert result.monte_carlo_error == pytest.approx(0.25)
    assert result.bound == "estimate"
    assert result.assumes == ("luck",)
    np.testing.assert_allclose(result.per_example, BITS.sum(axis=1) - 2)


def test_dbm_by_two_estimates_is_an_estimate():
    result = lnz.evaluate(KEY, table.dbm(3, 2, 2), BITS[:4, :3], hidden=AIS(20, 10), partition=AIS(20, 10))
    assert result.bound == "estimate"
    assert result.monte_carlo_error > 0
    assert "hidden: ESS" in str(result)
    assert "partition: ESS" in str(result)
    assert "numerator AIS(num_chains=20, betas=10); denominator AIS(num_chains=20, betas=10)" in result.how


def test_much_work_is_said_before_it_is_done(monkeypatch):
    """By annealing for each example: of 3 rows, 10 chains, 5 intervals, over the 23 numbers of this machine."""
    machine, rows = table.dbm(3, 3, 2), np.zeros((3, 3))
    work = 3 * 10 * 5 * 23
    assert sum(leaf.size for leaf in jax.tree.leaves(machine)) == 23
    done = []
    monkeypatch.setattr(lnz.evaluation._evaluate, "_numerators", lambda *arguments: done.append(arguments))
    monkeypatch.setattr(lnz.evaluation._evaluate, "_denominator", lambda *arguments: None)

    def evaluate(hidden, observed=None):
        with pytest.raises(AttributeError):  # of the estimates that were not made
            lnz.evaluate(KEY, machine, rows, hidden=hidden, partition=Quadrature(), observed=observed)

    def words(num):
        return rf"each of 3 examples makes {num} sweeps over a model of 23 numbers"

    forward, reverse = AIS(10, jnp.linspace(0, 1, 6)), ReverseAIS(10, 5)
    monkeypatch.setattr(lnz.evaluation._evaluate, "_MUCH_WORK", work)
    for hidden in (AIS(10, 5), forward, Importance(10), Quadrature()):
        evaluate(hidden)  # a warning would be an error
    monkeypatch.setattr(lnz.evaluation._evaluate, "_MUCH_WORK", work - 1)
    for hidden in (AIS(10, 5), forward, reverse):
        with pytest.warns(UserWarning, match=words(150)):
            evaluate(hidden)
    with pytest.warns(UserWarning, match=words(300)):
        evaluate(BAR(AIS(10, 5), reverse))
    with pytest.warns(UserWarning, match=words(150)):
        evaluate(AIS(10, 5), observed=np.ones((3, 3), bool))
    for hidden in (Importance(10), Quadrature()):
        evaluate(hidden)
    assert len(done) == 11


def test_usual_work_is_done_without_a_word():
    """A row of the digits by the default, over 8384 numbers, takes about 0.15 s."""
    small, large = lnz.energy.RBM(64, 128, key=KEY), lnz.energy.RBM(784, 500, key=KEY)
    warn = lnz.evaluation._evaluate._warn_of_much_work
    warn(AIS(), lambda: small, small, 100)
    with pytest.warns(UserWarning, match=r"each of 2000 examples makes 200,000,000 sweeps"):
        warn(AIS(), lambda: small, small, 2000)
    with pytest.warns(UserWarning, match="minutes"):
        warn(AIS(), lambda: large, large, 100)


def test_reverse_ais_turns_the_bound(machine):
    assert lnz.evaluate(KEY, machine, BITS, partition=ReverseAIS(20, 10)).bound == "lower"


def test_batch_size_does_not_change_the_numbers(by_importance):
    again = lnz.evaluate(KEY, table.linear_vae(), ROWS, hidden=PRIOR, batch_size=4)
    # Products of other sizes may be summed in another order.
    np.testing.assert_allclose(again.per_example, by_importance.per_example, atol=1e-5)


@pytest.fixture
def compilations():
    """A list that grows with each program that JAX compiles."""
    found = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("name", ["flow", "vae"])
def test_another_number_of_rows_compiles_nothing_and_changes_no_row(name, compilations):
    """Few rows are filled up to a power of two, more go by whole batches; each row has a key of its own."""
    model, hidden, batch_size = {
        "flow": (table.affine_flow(), None, None),
        "vae": (table.linear_vae(), Importance(20, lnz.Normal.standard(2)), 16),
    }[name]
    rows = np.random.RandomState(2).normal(size=(600, model.space.size)).astype(np.float32)

    def evaluate(num):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lnz.UnreliableEstimateWarning)
            return lnz.evaluate(KEY, model, rows[:num], hidden=hidden, batch_size=batch_size)

    whole = evaluate(600)
    assert compilations  # the counter counts
    evaluate(100)
    num_programs = len(compilations)
    for num in (101, 65, 513, 128):
        found = evaluate(num)
        # Programs for other numbers of rows may sum in another order.
        np.testing.assert_allclose(found.per_example, whole.per_example[:num], atol=1e-4)
        np.testing.assert_allclose(found.per_example_error, whole.per_example_error[:num], atol=1e-4)
    assert len(compilations) == num_programs


def test_progress_is_told_after_each_batch_and_changes_no_numbers(by_importance):
    told = []
    again = lnz.evaluate(
        KEY, table.linear_vae(), ROWS, hidden=PRIOR, batch_size=4, progress=lambda *counts: told.append(counts)
    )
    assert told == [(4, 6), (6, 6)]
    np.testing.assert_allclose(again.per_example, by_importance.per_example, atol=1e-5)
    np.testing.assert_allclose(again.per_example_error, by_importance.per_example_error, rtol=1e-5)


def test_defaults_are_as_documented(monkeypatch):
    """Small is enumerated; latent variables get `Importance(5000)`; large denominators get `AIS()`."""
    monkeypatch.setattr(lnz.normalizers, "AIS", lambda: AIS(20, 5))  # the default one is slow
    protocols = {
        "dbm": lnz.evaluate(KEY, table.dbm(3, 2, 2), BITS[:2, :3]).how,
        "vae": lnz.evaluate(KEY, table.linear_vae(), ROWS[:2]).how,
        "rbm": lnz.evaluate(KEY, table.rbm(22, 21, scale=0.01), np.zeros((2, 22))).how,
    }
    assert "numerator exact (Quadrature); denominator exact (Quadrature)" in protocols["dbm"]
    assert "numerator Importance(num_samples=5000, chunk_size=128); denominator exact" in protocols["vae"]
    assert "numerator exact; denominator AIS(num_chains=20, betas=5)" in protocols["rbm"]
    assert lnz.log_normalizer(KEY, table.rbm(22, 3)).bound == "exact"


def test_default_ais_is_the_documented_one():
    ais = AIS()
    assert (ais.num_chains, ais.betas) == (100, 1000)


def test_protocol_and_fingerprint(by_ais):
    assert by_ais.how == ("9 examples of Binary(shape=(4,)); numerator exact; denominator AIS(num_chains=50, betas=20)")
    assert (by_ais.of.space, by_ais.of.base_measure) == ("Binary(shape=(4,))", "counting")
    assert by_ais.protocol == lnz.Protocol(
        numerator="exact", denominator="AIS(num_chains=50, betas=20)", estimators=("AIS",)
    )
    array = lnz.evaluate(KEY, table.rbm(), BITS, partition=AIS(50, jnp.linspace(0.0, 1.0, 21)))
    assert "betas=array of 21" in array.how


def test_json_gives_what_was_written(exact, by_ais, by_importance):
    for result in (exact, by_ais, by_importance, by_ais.with_warnings(["A sentence."]).with_notes("seed 0")):
        tree = json.loads(json.dumps(to_json(result)))
        assert (tree["version"], tree["bound"], len(tree["per_example"])) == (1, result.bound, result.num)
        again = likelihood_from_json(tree, "here")
        assert (again.of, again.protocol, again.warnings) == (result.of, result.protocol, result.warnings)
        assert (again.bound, again.assumes, str(again)) == (result.bound, result.assumes, str(result))
        for name in ("value", "monte_carlo_error", "data_error", "per_example", "per_example_error", "unreliable_rows"):
            np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
        for side in ("numerators", "denominator"):
            one, other = (getattr(r, side).weights.measured() for r in (again, result))
            assert one.keys() == other.keys()
            for name, value in other.items():
                np.testing.assert_array_equal(one[name], np.asarray(value, float))


REVERSE = ReverseAIS(20, 10, num_warm_up=5)


@pytest.mark.parametrize(
    ("method", "name", "cost"),
    [
        (AIS(20, 10), "AIS", 200),
        (AIS(20, jnp.linspace(0.0, 1.0, 11)), "AIS", 200),
        (REVERSE, "ReverseAIS", 300),
        (BAR(AIS(20, 10), REVERSE), "BAR", 500),
        (Importance(30), "IWAE-30", 30),
        (Importance(30, lnz.Normal.standard(2)), "Importance", 30),
        (lnz.normalizers.Bound(10), "ELBO", 10),
        (lnz.normalizers.Bound(10, num_weights=3), "IWAE-3", 30),
        (Quadrature(), "Quadrature", 8),  # of the smaller layer
    ],
)
def test_a_normaliser_says_its_name_and_cost(method, name, cost):
    assert (method.name, method.cost(table.rbm(5, 3))) == (name, cost)


@pytest.mark.parametrize("stored", [np.uint8, bool, np.float64, jnp.float32])
def test_fingerprint_does_not_depend_on_the_number_type(exact, stored):
    data = jnp.asarray(BITS, stored) if stored is jnp.float32 else BITS.astype(stored)
    again = lnz.evaluate(KEY, lnz.Bernoulli(jnp.array([0.3, -1.0, 0.0, 2.0])), data)
    assert again.of == exact.of
    np.testing.assert_array_equal(again.per_example, exact.per_example)


@pytest.mark.filterwarnings("ignore:The data are whole numbers")
def test_fingerprint_depends_on_values_order_and_space(exact):
    prints = [
        exact.of,
        lnz.evaluate(KEY, lnz.Bernoulli(jnp.zeros(4)), 1 - BITS).of,
        lnz.evaluate(KEY, lnz.Bernoulli(jnp.zeros(4)), BITS[::-1]).of,
        lnz.evaluate(KEY, lnz.Normal.standard(4), BITS).of,
        lnz.evaluate(KEY, lnz.Bernoulli(jnp.zeros((2, 2))), BITS.reshape(9, 2, 2)).of,
    ]
    assert len(set(prints)) == len(prints)


def result_of(per_example, error=0.0, **about):
    return by_hand.likelihood(per_example, error=error, **about)


def test_compare_by_hand():
    results = {
        "worse": result_of([-3.0, -5.0, -4.0], 0.3),
        "best": result_of([-2.0, -3.0, -2.5], 0.4),
        "middle": result_of([-2.5, -3.5, -3.0]),
    }
    comparison = lnz.compare(results)
    assert [row.name for row in comparison.rows] == ["best", "middle", "worse"]
    best, middle, worse = comparison.rows
    assert best.difference is None
    assert best.difference_error is None
    assert middle.difference == pytest.approx(-0.5)
    # Every paired difference is -0.5, so only the Monte Carlo error of the best row is left.
    assert middle.difference_error == pytest.approx(0.4)
    assert worse.difference == pytest.approx(-1.5)  # of -1, -2 and -1.5
    assert worse.difference_error == pytest.approx(math.sqrt(0.25 / 3 + 0.3**2 + 0.4**2))
    assert worse.bits_per_dimension == pytest.approx(4 / (2 * math.log(2)))
    lines = str(comparison).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("best ")
    assert lines[1].endswith("highest")  # by 0.5, which is less than two errors
    assert lines[2].endswith("-0.500 (0.400)")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("data", r"data \(2 examples each, with other values or in another order\)"),
        ("space", r"space \(s and other\)"),
        ("base_measure", r"base measure \(counting, of probabilities and other\)"),
    ],
)
def test_compare_refuses_different_things(what, said):
    words = rf"'first' and 'second' are not likelihoods of the same thing. They differ in {said}\. .* the same examples"
    with pytest.raises(ValueError, match=words):
        lnz.compare({"first": result_of([-1.0, -2.0]), "second": result_of([-1.0, -2.0], **{what: "other"})})


def test_compare_refuses_other_data_of_real_models(exact):
    other = lnz.evaluate(KEY, lnz.Bernoulli(jnp.zeros(4)), 1 - BITS)
    with pytest.raises(ValueError, match=r"They differ in data \(9 examples each, with other values"):
        lnz.compare({"a": exact, "b": other})


def test_compare_says_everything_that_differs():
    results = {"a": result_of([-1.0, -2.0]), "b": result_of([-1.0], space="r", base_measure="Lebesgue")}
    words = r"space \(s and r\); in base measure \(counting, of .* and Lebesgue, of densities\); in data \(2 and 1 ex"
    with pytest.raises(ValueError, match=words):
        lnz.compare(results)


def test_compare_one_row_and_none():
    (row,) = lnz.compare({"alone": result_of([-1.0])}).rows
    assert row.difference is None
    assert "alone" in str(lnz.compare({"alone": result_of([-1.0])}))
    with pytest.raises(ValueError, match="at least one row"):
        lnz.compare({})


def test_evaluate_warns_and_says_so_when_weights_are_few():
    with pytest.warns(lnz.UnreliableEstimateWarning, match=r"partition: effective sample size .* is below 4"):
        result = lnz.evaluate(KEY, table.rbm(12, 6, scale=2.0), np.zeros((3, 12)), partition=AIS(8, 2))
    assert "UNRELIABLE" in str(result)
    assert result.warnings[0].startswith("partition: effective sample size")
    with pytest.warns(lnz.UnreliableEstimateWarning, match=r"hidden: 3 of 3 examples have too few effective weights"):
        lnz.evaluate(KEY, table.linear_vae(), 10 * ROWS[:3], hidden=Importance(30, lnz.Normal.standard(2)))


def test_log_normalizer_warns():
    with pytest.warns(lnz.UnreliableEstimateWarning, match="AIS of RBM: effective sample size"):
        lnz.log_normalizer(KEY, table.rbm(12, 6, scale=2.0), AIS(8, 2))


def test_samples_of_a_distribution_and_a_machine():
    for model in (lnz.Bernoulli(jnp.array([0.5, -1.0])), table.rbm(3, 2)):
        draws = lnz.sample(jr.key(1), model, 4000, num_steps=20)
        assert draws.shape == (4000, *model.space.shape)
        testing.check_follows(draws, model)


def test_samples_of_a_latent_model():
    draws = lnz.sample(jr.key(2), table.linear_vae(), 20_000)
    assert draws.shape == (20_000, 3)
    exact = table.linear_vae_marginal()
    error = jnp.sqrt(jnp.diagonal(exact.covariance) / 20_000)
    assert float(jnp.max(jnp.abs(draws.mean(axis=0) - exact.loc) / error)) < 5
    # The error of a covariance is at most sqrt(2 / n) times the product of the scales: 1%; five of those.
    scale = jnp.sqrt(jnp.diagonal(exact.covariance))
    assert float(jnp.max(jnp.abs(jnp.cov(draws.T) - exact.covariance) / jnp.outer(scale, scale))) < 0.05


def test_samples_of_a_dbm_are_of_its_visible_layer():
    machine = table.dbm(2, 2, 1)
    draws = lnz.sample(jr.key(3), machine, 4000, num_steps=20)
    assert draws.shape == (4000, 2)
    states, _ = machine.joint().space.quadrature()
    log_p = jax.vmap(machine.joint().log_density)(states)
    log_p = log_p - logsumexp(log_p)
    points, _ = machine.space.quadrature()
    for x in points:
        p = float(jnp.sum(jnp.where(jnp.all(states[:, :2] == x[None], axis=1), jnp.exp(log_p), 0.0)))
        seen = float(jnp.mean(jnp.all(draws == x[None], axis=1)))
        assert abs(seen - p) < 5 * math.sqrt(p * (1 - p) / 4000)


def test_samples_start_where_they_are_told(machine):
    start = jnp.ones((5, 4))
    draws = lnz.sample(KEY, machine, 5, num_steps=1, start=start)
    assert draws.shape == (5, 4)
    with pytest.raises(ValueError, match="`start` must have one row for each of the 6 draws; got 5"):
        lnz.sample(KEY, machine, 6, num_steps=1, start=start)


def test_bayesian_models_define_no_distribution_of_data_yet(untyped):
    model = table.conjugate()
    with pytest.raises(TypeError, match=r"Sample its posterior, `lnz.condition\(model, data\)`"):
        lnz.sample(KEY, model, 3)
    with pytest.raises(TypeError, match=r"got NormalMean\. A Bayesian model is evaluated by its predictive"):
        lnz.evaluate(KEY, model, np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: lnz.evaluate(0, table.rbm(), BITS), TypeError, r"`key` must be a JAX random key; got the number 0"),
        (lambda: lnz.evaluate(KEY, "rbm", BITS), TypeError, "`model` must be a model with a likelihood of examples"),
        (lambda: lnz.evaluate(KEY, table.rbm(), BITS[:, :3]), ValueError, r"`data` must have shape \(n, 4\)"),
        (lambda: lnz.evaluate(KEY, table.rbm(), BITS, batch_size=0), ValueError, "`batch_size` must be"),
        (lambda: lnz.evaluate(KEY, table.rbm(), BITS, partition=100), TypeError, "`partition` must be a normaliser"),
        (lambda: lnz.evaluate(KEY, table.linear_vae(), ROWS, hidden=AIS), TypeError, "`hidden` must be a normaliser"),
        (lambda: lnz.evaluate(KEY, table.rbm(), BITS, hidden=AIS()), ValueError, "`hidden=AIS.* no effect"),
        (lambda: lnz.evaluate(KEY, lnz.Bernoulli(jnp.zeros(4)), BITS, partition=AIS()), ValueError, "`partition=AIS"),
        (lambda: lnz.evaluate(KEY, table.linear_vae(), ROWS, partition=AIS()), ValueError, "this VAE is normalised"),
        (lambda: lnz.log_normalizer(KEY, table.linear_vae()), TypeError, r"use `lnz.condition\(model, x\)`"),
        (lambda: lnz.log_normalizer(KEY, table.rbm(), "ais"), TypeError, "`method` must be a normaliser"),
        (lambda: lnz.bracket(KEY, table.rbm(), lower=3), TypeError, "`lower` must be a normaliser"),
        (lambda: lnz.bracket(KEY, table.rbm(), upper=3), TypeError, "`upper` must be a normaliser"),
        (lambda: lnz.sample(KEY, table.rbm(), 0), ValueError, "`num` must be a whole number"),
        (lambda: lnz.sample(KEY, table.rbm(), 1, num_steps=0), ValueError, "`num_steps` must be a whole number"),
        (lambda: lnz.sample(KEY, "rbm", 1), TypeError, r"needs a model or a density; got str"),
        (lambda: lnz.condition(lnz.Normal.standard(1), jnp.zeros(1)), TypeError, "its `log_prob.x.` is already exact"),
    ],
)  # fmt: skip
def test_bad_arguments(untyped, call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_quadrature_refuses_what_is_too_large():
    with pytest.raises(ValueError, match=r"above `max_points=1024`. Use `lnz.normalizers.AIS`"):
        lnz.evaluate(KEY, table.rbm(12, 12), np.zeros((2, 12)), partition=Quadrature(max_points=1024))


def test_real_numbers_have_no_bits_per_dimension_anywhere():
    """Another unit of theirs would move the number: none in words, tables or files."""
    normal, counts = lnz.Normal(jnp.zeros(2), 1.0), lnz.Poisson(jnp.zeros(1))
    mixed = lnz.evaluate(KEY, lnz.ProductDistribution(a=normal, n=counts), np.zeros((3, 3)))
    for result, has_bits in (
        (mixed, False),
        (lnz.evaluate(KEY, normal, np.array([[0.5, 1.0], [1.5, 0.25], [-1.0, 0.0]])), False),
        (lnz.evaluate(KEY, counts, np.zeros((3, 1), int)), True),
    ):
        form = to_json(result)
        assert ("bits" in str(result)) == has_bits
        assert ("bits_per_dimension" in form) == has_bits
        assert ("bits" in str(lnz.compare({"a": result}))) == has_bits
        assert likelihood_from_json(form, "a.json").bits_per_dimension == result.bits_per_dimension
        other = {**form, "bits_per_dimension": 1.0}
        with pytest.raises(DamagedError, match="bits_per_dimension"):
            likelihood_from_json(other, "a.json")
