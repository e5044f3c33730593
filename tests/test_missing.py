"""Training on examples of which some entries are missing, against the exact likelihood of the known ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.energy import RBM
from lnz.normalizers import Quadrature
from lnz.objectives import PCD, Imputed, MaximumLikelihood


def holes(data, fraction, seed=0):
    return np.random.RandomState(seed).uniform(size=data.shape) >= fraction


@pytest.mark.parametrize("make", [table.rbm, table.potts_rbm])
def test_average_gradient_is_that_of_the_known_entries(make, float64):
    model = make()
    random = np.random.RandomState(0)
    data = random.randint(0, getattr(model.space, "num_categories", 2), (5, *model.space.shape))
    observed = holes(data, 0.5)
    observed[0] = False  # an example of which nothing is known says nothing, and changes nothing
    coded = model.space.cast(lnz._missing.mark_missing(model.space, data, observed), jnp.float64)
    params, rest = eqx.partition(model, lnz.trainable(model))

    def exact_loss(params):
        model = eqx.combine(params, rest)
        values = [
            Quadrature()(jr.key(0), model.clamp(model.space.cast(x, jnp.float64), jnp.asarray(m))).value
            for x, m in zip(data, observed, strict=True)
        ]
        return Quadrature()(jr.key(0), model).value - jnp.mean(jnp.stack(values))

    expected = jax.grad(exact_loss)(params)
    objective = Imputed(MaximumLikelihood(partition=Quadrature()), num_sweeps=60)

    @eqx.filter_jit
    def gradients(keys):
        def one(key):
            return jax.grad(lambda p: objective.loss(key, eqx.combine(p, rest), (), coded)[0])(params)

        return jax.lax.map(one, keys, batch_size=50)

    many = gradients(jr.split(jr.key(1), 2000))
    for name in ("W", "b", "c"):
        values = np.asarray(getattr(many, name))
        # 6 standard errors, over fewer than 50 numbers: a false alarm in 10 million.
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values)) + 1e-12
        np.testing.assert_array_less(np.abs(values.mean(axis=0) - np.asarray(getattr(expected, name))), 6 * error)


def test_known_entries_are_never_changed(float64):
    model = table.rbm(6, 3)
    data = np.random.RandomState(0).randint(0, 2, (50, 6)).astype(np.uint8)
    observed = holes(data, 0.4)
    coded = model.space.cast(lnz._missing.mark_missing(model.space, data, observed), jnp.float64)
    filled = np.asarray(Imputed(PCD(1), num_sweeps=3)._complete(jr.key(0), model, coded))
    np.testing.assert_array_equal(filled[observed], data[observed])
    assert set(np.unique(filled[~observed])) == {0.0, 1.0}


def test_base_rates_are_those_of_the_known_entries():
    data = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]], np.uint8)
    observed = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]], bool)
    method = lnz.Gradient(Imputed(PCD(1, num_chains=4)), optax.sgd(0.0))
    rbm = lnz.fit(jr.key(0), RBM(3, 2, key=jr.key(1)), method, data, observed=observed, steps=1).model
    # One of two pseudo-observations is a one.
    np.testing.assert_allclose(
        rbm.base_rates.value, [(4 + 1) / (4 + 2), (1 + 1) / (2 + 2), (1 + 1) / (1 + 2)], rtol=1e-6
    )


def test_learning_from_what_is_known_beats_filling_in_zeros():
    """A third of the pixels of bars and stripes is missing: the likelihood of complete test examples."""
    splits = lnz.data.load("bars_and_stripes")
    observed = holes(splits.train, 1 / 3)
    zeros = np.where(observed, splits.train, 0).astype(np.uint8)

    def train(objective, data, **options):
        method = lnz.Gradient(objective, optax.sgd(optax.linear_schedule(0.2, 0.0, 3000)))
        rbm = RBM(16, 12, key=jr.key(1))
        model = lnz.fit(jr.key(0), rbm, method, data, steps=3000, batch_size=50, **options).model
        return lnz.evaluate(jr.key(2), model, splits.test)

    complete = train(PCD(1), splits.train)
    known = train(Imputed(PCD(1)), splits.train, observed=observed)
    filled = train(PCD(1), zeros)
    assert known.value > filled.value + 1  # ten standard errors
    assert complete.value > known.value - 0.2
    assert known.value > complete.value - 2.5


def test_what_stands_in_a_hole_does_not_matter():
    data = np.random.RandomState(0).randint(0, 2, (20, 4)).astype(np.uint8)
    observed = holes(data, 0.3)
    method = lnz.Gradient(Imputed(PCD(1, num_chains=5)), optax.sgd(0.1))
    models = [
        lnz.fit(jr.key(0), table.rbm(), method, rows, observed=observed, steps=5).model
        for rows in (data, np.where(observed, data.astype(float), np.nan))
    ]
    for one, other in zip(jax.tree.leaves(models[0]), jax.tree.leaves(models[1]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_wrong_arguments_are_named(tmp_path):
    data = np.zeros((4, 4), np.uint8)
    observed = np.ones((4, 4), bool)
    plain, imputed = (lnz.Gradient(objective, optax.sgd(0.1)) for objective in (PCD(1), Imputed(PCD(1))))

    def fit(method, data=data, observed=observed, model=None):
        return lnz.fit(jr.key(0), model or table.rbm(), method, data, observed=observed, steps=1)

    with pytest.raises(TypeError, match=r"lnz\.objectives\.Imputed"):
        fit(plain)
    with pytest.raises(TypeError, match=r"lnz\.objectives\.Imputed"):
        fit(lnz.EM(), model=lnz.Bernoulli(jnp.zeros(4)))
    with pytest.raises(ValueError, match="true and false in the shape of the data"):
        fit(imputed, observed=observed.astype(int))
    with pytest.raises(ValueError, match=r"value 2.0 at row 1, column \(?2"):
        fit(imputed, data=np.where(np.arange(16).reshape(4, 4) == 6, 2.0, data))
    with pytest.raises(TypeError, match="held fixed"):
        fit(imputed, model=table.markov_field())
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (4, 4))
    with pytest.raises(ValueError, match="data in memory"):
        fit(imputed, data=mapped)
    with pytest.raises(TypeError, match=r"must be one of lnz\.objectives|AbstractObjective"):
        Imputed(PCD)
    with pytest.raises(ValueError, match="num_sweeps"):
        Imputed(PCD(1), num_sweeps=0)
    missing = np.where(np.eye(4, dtype=bool), np.nan, 0.0)
    with pytest.raises(ValueError, match="missing"):  # unless it was said that some are
        lnz.fit(jr.key(0), table.rbm(), imputed, missing, steps=1)
