"""Columns far from zero and in any unit: the same fit, the same nats, the same draws, moved and scaled."""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import lnz
import lnz.recipes
from lnz.objectives import MaximumLikelihood, ReverseKL
from lnz.recipes._fitting import all_but_standardisation

KEY = jr.key(0)
Z = np.random.RandomState(0).normal(size=(400, 2))
# In standard deviations: kelvin, Unix seconds, and as far as float64 itself has digits for.
FAR = [(0.0, 1.0), (3e2, 1e-6), (1e5, 1e6), (1.7e9 / 60, 60.0), (-1e9, 1e-3)]
UNIX = 1.7e9 + 60 * Z


def moved(z, far, unit):
    return unit * (z + np.array([far, 0.3]))


def standard(data, *layers):
    bijection = lnz.bijections.Chain(*layers, lnz.flows.standardise(data))
    return lnz.Transformed(lnz.Normal.standard(2), bijection)


@pytest.mark.parametrize(("far", "unit"), FAR)
def test_nats_are_those_of_the_normal_wherever_it_lies(far, unit):
    x = moved(Z, far, unit)
    result = lnz.evaluate(KEY, standard(x[:200]), x[200:])
    centred = (Z[200:] - Z[:200].mean(axis=0)) / Z[:200].std(axis=0)
    exact = -0.5 * (centred**2).sum(axis=1) - np.log(2 * np.pi) - np.log(unit * Z[:200].std(axis=0)).sum()
    # At a mean of 1e9 float32 has steps of 64, so that an example lies up to 35 from the origin, where it has 4e-6.
    np.testing.assert_allclose(result.per_example, exact, atol=1e-4)


def test_draws_keep_their_digits():
    near, far = (lnz.sample(KEY, standard(x), 1000) for x in (Z, UNIX))
    assert isinstance(far, np.ndarray)
    assert far.dtype == np.float64
    assert len(np.unique(far[:, 0])) > 990
    np.testing.assert_allclose((far - 1.7e9) / 60, near, atol=2e-5)


# One method, so that one program is compiled for all places. Steps on the standardisation itself depend on its unit.
SGD = lnz.Gradient(MaximumLikelihood(), optax.sgd(0.1, 0.9), all_but_standardisation)


def trained(x, **options):
    start = standard(x[:300], lnz.bijections.TriangularAffine(jnp.zeros(2), jnp.eye(2)))
    fit = lnz.fit(KEY, start, SGD, x[:300], steps=30, batch_size=50, log_every=10, **options)
    return fit.model, [record["log_likelihood"] for record in fit.history]


def test_gradient_steps_are_the_same_wherever_the_data_lie(tmp_path):
    model, history = trained(moved(Z, 0.0, 1.0))
    expected = lnz.evaluate(KEY, model, moved(Z, 0.0, 1.0)[300:]).per_example
    for far, unit in FAR[1:]:
        x = moved(Z, far, unit)
        other, records = trained(x)
        np.testing.assert_allclose(np.array(records) + 2 * np.log(unit), history, atol=1e-3)
        found = lnz.evaluate(KEY, other, x[300:]).per_example + 2 * np.log(unit)
        np.testing.assert_allclose(found, expected, atol=2e-3)
    lnz.save(tmp_path / "model.lnz", other)
    again = lnz.load(tmp_path / "model.lnz")
    np.testing.assert_array_equal(lnz.evaluate(KEY, again, x[300:]).per_example + 2 * np.log(unit), found)
    assert lnz.local(again).origin is not None


def test_a_layer_without_origin_makes_the_same_steps():
    """As before there was one: with an origin of zero bit for bit, else up to rounding."""
    x = (Z + np.array([3.0, -1.0]))[:100]
    mean, sd = x[:50].mean(axis=0), x[:50].std(axis=0)

    def after(layer):
        start = lnz.Transformed(lnz.Normal.standard(2), layer)
        method = lnz.Gradient(MaximumLikelihood(), optax.sgd(0.1))
        layer = lnz.fit(KEY, start, method, x, steps=20).model.bijection
        return np.asarray(layer.loc), np.asarray(layer.log_scale)

    plain = after(lnz.bijections.Affine(mean, sd))
    np.testing.assert_array_equal(after(lnz.bijections.Affine(mean, sd, np.zeros(2))), plain)
    np.testing.assert_allclose(after(lnz.flows.standardise(x[:50])), plain, atol=1e-5)


def test_streams_and_resumed_runs_are_moved_too(tmp_path):
    np.save(tmp_path / "x.npy", UNIX[:300])
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    checkpoints = lnz.Checkpoints(tmp_path / "checkpoints", every=0.0)
    start = standard(UNIX[:300], lnz.bijections.Affine(jnp.ones(2), 2.0))

    def fit(data, steps, **options):
        return lnz.fit(KEY, start, SGD, data, steps=steps, batch_size=30, log_every=10, valid_every=10, **options)

    streamed = fit(on_disk, 20)
    fit(on_disk, 10, checkpoints=checkpoints)
    resumed = fit(on_disk, 20, checkpoints=checkpoints, resume=True)
    assert eqx.tree_equal(resumed.model, streamed.model)
    # The same rows in another order: 20 steps end near the optimum, and not a million nats below it.
    values = [lnz.evaluate(KEY, fit.model, UNIX).value for fit in (streamed, fit(UNIX[:300], 20))]
    assert values[0] == pytest.approx(values[1], abs=0.2)
    by_rows, by_blocks = (lnz.evaluate(KEY, start, data) for data in (UNIX[:300], on_disk))
    np.testing.assert_array_equal(by_rows.per_example, by_blocks.per_example)
    assert by_rows.stats["fingerprint"] == by_blocks.stats["fingerprint"]


def table_of(x):
    space = lnz.Euclidean(2)
    return lnz.data.Splits("made.csv", space, x[:300], x[300:350], x[350:], None, "made", columns=("t", "y"))


SMALL = {
    "normal": {},
    "mixture_of_normals": {"model.num_components": 3},
    "flow_tabular": {"model.num_layers": 1, "model.width": 4, "model.num_bins": 4, "train.batch_size": 50},
    "vae_gaussian": {"model.width": 4, "model.num_latent": 2, "train.batch_size": 50},
    "vae_gaussian of two layers": {"model.width": 4, "model.num_latent": 2, "model.num_layers": 2},
}


@pytest.mark.parametrize("name", SMALL)
def test_recipes_of_tables_train_wherever_the_data_lie(name):
    recipe = getattr(lnz.recipes, name.split(" ")[0])
    changes = {"train.steps": 10, "train.valid_every": 10, **SMALL[name]}
    if "vae" in name:
        changes |= {"evaluate.num_samples": 20, "evaluate.num_samples_while_training": 20}
        warnings.simplefilter("ignore", lnz.UnreliableEstimateWarning)  # which 20 draws are
    settings = recipe.resolve(changes)
    found = []
    for far, unit in ((0.0, 1.0), (1.7e9 / 60, 60.0)):
        splits = table_of(moved(Z, far, unit))
        key, model, built = recipe.start(splits, settings)
        method = built if not found else method  # the same, so that it is compiled once
        fit = recipe.fit(splits, settings, start=(key, model, method))
        score = recipe.score(fit.model, splits.test, settings)
        found.append((fit.history[-1]["valid"] + 2 * np.log(unit), score.per_example + 2 * np.log(unit)))
        draws = lnz.sample(KEY, fit.model, 200)
        assert len(np.unique(draws[:, 0])) > 190
    np.testing.assert_allclose(found[1][0], found[0][0], atol=2e-3)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=5e-3)


def autoencoder(x, mean, prior=None):
    decoder = lnz.Conditional.of(lnz.Transformed(lnz.Normal(jnp.zeros(2), 1.0), lnz.flows.standardise(x)), 1, key=KEY)
    net = lnz.nets.Standardised(lnz.nets.MLP(2, 2, key=KEY, width=4, depth=1), mean, x.std(axis=0))
    encoder = lnz.Conditional(lnz.Normal.standard(1), net)
    return lnz.latent.VAE(lnz.Normal.standard(1) if prior is None else prior, decoder, encoder)


NOT_LOCAL = {
    "no such layer": lambda: lnz.Normal(jnp.zeros(2), 1.0),
    "not the last": lambda: lnz.Transformed(
        lnz.Normal.standard(2),
        lnz.bijections.Chain(lnz.flows.standardise(UNIX), lnz.bijections.Affine(jnp.zeros(2), 1.0)),
    ),
    "the other way": lambda: lnz.Transformed(
        lnz.Normal.standard(2), lnz.bijections.Inverse(lnz.flows.standardise(UNIX))
    ),
    "an encoder of other units": lambda: autoencoder(UNIX, UNIX.mean(axis=0) + 1e4),
    "a prior of examples": lambda: autoencoder(
        UNIX, UNIX.mean(axis=0), lnz.latent.VampPrior.of(lnz.Euclidean(2), 3, key=KEY)
    ),
}


@pytest.mark.parametrize("name", NOT_LOCAL)
def test_a_model_with_another_last_layer_takes_examples_as_they_are(name):
    model = NOT_LOCAL[name]()
    there = lnz.local(model)
    assert there.origin is None
    assert there.model is model
    with pytest.raises(
        ValueError, match=r"column 0 lies at 1\d{9} with a .* deviation of 59.3.*steps of 1.3e\+02.*stand"
    ):
        lnz.evaluate(KEY, model, UNIX)


def test_an_autoencoder_is_local_with_its_encoder():
    there = lnz.local(autoencoder(UNIX, UNIX.mean(axis=0)))
    np.testing.assert_allclose(there.origin, 1.7e9, atol=64)
    near = autoencoder(UNIX - there.origin, UNIX.mean(axis=0) - there.origin)
    rows = there.rows(UNIX)
    np.testing.assert_array_equal(rows, (UNIX - there.origin).astype(np.float32))
    x = jnp.asarray(rows[0])
    np.testing.assert_allclose(there.model.posterior(x).loc, near.posterior(x).loc, rtol=1e-5)
    z = jnp.ones(1)
    np.testing.assert_allclose(there.model.likelihood(z).log_prob(x), near.likelihood(z).log_prob(x), rtol=1e-5)
    np.testing.assert_array_equal(there.back(rows), rows + there.origin)
    assert eqx.tree_equal(there.whole(there.model), autoencoder(UNIX, UNIX.mean(axis=0)))


def test_objectives_that_know_places_stay_in_data_coordinates():
    """The energy of `ReverseKL` does not move with the data."""
    target = lnz.Normal(jnp.array([2.0, -1.0]), 0.5)
    x = Z + np.array([2.0, -1.0])
    method = lnz.Gradient(ReverseKL(target, 16), optax.adam(1e-9))
    fit = lnz.fit(KEY, standard(x), method, x, steps=1)
    assert fit.history[-1]["elbo"] > -5  # a divergence: about 6 where the flow is taken to lie at zero instead


# (rows, dtype in which they are given): whole numbers and what float32 holds are not changed by it.
GIVEN = {
    "unix seconds": (UNIX, np.float64, True),
    "whole unix seconds": (np.round(UNIX), np.int64, True),
    "julian dates": (2459000.5 + 0.2 * Z, np.float64, True),
    "kelvin": (300 + Z, np.float64, False),
    "years": (2015 + np.round(3 * Z), np.int64, False),
    "whole numbers that float32 holds": (1e7 + np.round(3 * Z), np.int64, False),
    "float32 given as such": (UNIX, np.float32, False),
    "two rows": (UNIX[:2], np.float64, False),
    "a constant": (np.full((400, 2), 0.1), np.float64, False),
}


@pytest.mark.parametrize("name", GIVEN)
def test_columns_that_would_be_cut_are_refused(name):
    rows, dtype, is_refused = GIVEN[name]
    rows = rows.astype(dtype)
    model = lnz.Transformed(lnz.Normal.standard(2), lnz.bijections.Affine(jnp.full(2, rows.mean()), 100.0))
    verbs = [lambda: lnz.evaluate(KEY, model, rows), lambda: lnz.fit(KEY, model, Still(), rows, steps=1)]
    for verb in verbs:
        if is_refused:
            with pytest.raises(ValueError, match=r"`data`: column 0 lies at .*`lnz.flows.standardise\(data\)`"):
                verb()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of atoms
                verb()


class Still(lnz.AbstractMethod):
    """Changes nothing."""

    def init(self, key, model, data):
        return model, ()

    def step(self, key, model, state, batch):
        return model, state, {"mean": batch.mean()}


def test_gradients_need_parameters_that_can_move():
    """At 1000 standard deviations they do; a step of less than 64 leaves 1.7e9 as it is, whatever the data are in."""
    method = lnz.Gradient(MaximumLikelihood(), optax.sgd(0.3))
    near, far = (
        lnz.fit(KEY, lnz.Normal(jnp.full(2, c + 0.5), 2.0), method, Z + c, steps=20).model for c in (0.0, 1000.0)
    )
    np.testing.assert_allclose(far.loc - 1000, near.loc, atol=1e-3)
    np.testing.assert_allclose(far.log_scale, near.log_scale, atol=1e-3)
    model = lnz.Normal(jnp.full(2, 1.7e9), 60.0)
    with pytest.raises(ValueError, match=r"column 0 lies at .* float32 has steps of 1.3e\+02: too coarse"):
        lnz.fit(KEY, model, method, UNIX.astype(np.float32), steps=1)


def test_numbers_beyond_float32_are_named():
    x = UNIX.copy()
    x[7, 1] = 1e39
    with pytest.raises(ValueError, match=r"`data` has the value 1e\+39 at row 7, column \(1,\), too large for float32"):
        lnz.evaluate(KEY, standard(UNIX), x)


def test_fingerprints_are_of_the_numbers_given():
    x = np.arange(12.0).reshape(6, 2) / 8 + 1

    def fingerprint(x):
        return lnz.evaluate(KEY, standard(Z), x).stats["fingerprint"]["data"]

    assert fingerprint(x) == fingerprint(x.astype(np.float32)) == fingerprint(jnp.asarray(x, jnp.float32))
    assert fingerprint(x) != fingerprint(x + 2e-9)  # which float32 does not hold
    assert lnz.data.Resident(x).fingerprint == lnz.data.Resident(x.astype(np.float32)).fingerprint
    assert lnz.data.Resident(x).fingerprint != lnz.data.Resident(x + 2e-9).fingerprint


def test_jitted_functions_take_data_coordinates():
    flow, x = standard(300 + Z), 300 + Z[0]
    there = lnz.local(flow)
    given = jax.jit(lambda x: flow.log_prob(x))(jnp.asarray(x, jnp.float32))
    moved = there.model.log_prob(jnp.asarray(there.rows(x[None])[0]))
    assert float(given) == pytest.approx(float(moved), abs=1e-3)
    assert dataclasses.is_dataclass(there)
