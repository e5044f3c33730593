"""Columns far from zero and in any unit: the same fit, the same nats, the same draws, moved and scaled."""

import dataclasses
import functools
import itertools
import re
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

import lnz
import lnz.recipes
from lnz.core import check_resolved, coarse_draws
from lnz.objectives import MaximumLikelihood, ReverseKL
from lnz.recipes._fitting import all_but_standardisation
from lnz.spaces import innermost

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
    fit = lnz.fit(KEY, start, SGD, x[:300], steps=30, batch_size=50, watch=lnz.Watch(10), **options)
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
        return lnz.fit(KEY, start, SGD, data, steps=steps, batch_size=30, watch=lnz.Watch(10), **options)

    streamed = fit(on_disk, 20)
    fit(on_disk, 10, checkpoints=checkpoints)
    resumed = fit(on_disk, 20, checkpoints=dataclasses.replace(checkpoints, resume=True))
    assert eqx.tree_equal(resumed.model, streamed.model)
    # The same rows in another order: 20 steps end near the optimum, and not a million nats below it.
    values = [lnz.evaluate(KEY, fit.model, UNIX).value for fit in (streamed, fit(UNIX[:300], 20))]
    assert values[0] == pytest.approx(values[1], abs=0.2)
    by_rows, by_blocks = (lnz.evaluate(KEY, start, data) for data in (UNIX[:300], on_disk))
    np.testing.assert_array_equal(by_rows.per_example, by_blocks.per_example)
    assert by_rows.of == by_blocks.of


def table_of(x):
    space = lnz.Euclidean(2)
    return lnz.data.Splits("made.csv", space, x[:300], x[300:350], x[350:], None, "made", columns=("t", "y"))


SMALL = {
    "normal": {},
    "mixture_of_normals": {"model.num_components": 3},
    "flow_tabular": {
        "model.flow.num_layers": 1,
        "model.flow.width": 4,
        "model.flow.num_bins": 4,
        "train.batch_size": 50,
    },
    "vae_gaussian": {"model.network.width": 4, "model.num_latent": 2, "train.batch_size": 50},
    "vae_gaussian of two layers": {
        "model.network.width": 4,
        "model.num_latent": 2,
        "model.layers": "two",
        "model.layers.width": 4,
        "model.layers.depth": 1,
    },
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
    rows = there.to_local(UNIX)
    np.testing.assert_array_equal(rows, (UNIX - there.origin).astype(np.float32))
    x = jnp.asarray(rows[0])
    np.testing.assert_allclose(there.model.posterior(x).loc, near.posterior(x).loc, rtol=1e-5)
    z = jnp.ones(1)
    np.testing.assert_allclose(there.model.likelihood(z).log_prob(x), near.likelihood(z).log_prob(x), rtol=1e-5)
    np.testing.assert_array_equal(there.to_data(rows), rows + there.origin)
    model = autoencoder(UNIX, UNIX.mean(axis=0))
    assert eqx.tree_equal(there.in_data(there.model), model)
    there_too, at_zero = lnz.condition(model, UNIX[0]), lnz.condition(near, (UNIX - there.origin)[0])
    np.testing.assert_allclose(there_too.log_density(z), at_zero.log_density(z), rtol=1e-5)
    path = lnz.latent.interpolate(model, UNIX[0], UNIX[1], 3)
    expected = lnz.latent.interpolate(near, *(UNIX - there.origin)[:2], 3)
    np.testing.assert_allclose(path - there.origin, expected, rtol=1e-4)


def test_objectives_that_know_places_stay_in_data_coordinates():
    """The energy of `ReverseKL` does not move with the data."""
    target = lnz.Normal(jnp.array([2.0, -1.0]), 0.5)
    x = Z + np.array([2.0, -1.0])
    method = lnz.Gradient(ReverseKL(target, 16), optax.adam(1e-9))
    fit = lnz.fit(KEY, standard(x), method, x, steps=1)
    assert fit.history[-1]["elbo"] > -5  # a divergence: about 6 where the flow is taken to lie at zero instead


RANDOM = np.random.RandomState(1)
CLUSTERS = np.where(RANDOM.uniform(size=(400, 2)) < 0.5, 1e9, 2e9) + 60 * Z
# (rows, dtype in which they are given, refused): whole numbers and what float32 holds are not changed by it.
GIVEN = {
    "unix seconds": (UNIX, np.float64, True),
    "whole unix seconds": (np.round(UNIX), np.int64, True),
    "julian dates": (2459000.5 + 0.2 * Z, np.float64, True),
    "kelvin": (300 + Z, np.float64, False),
    "a thousand steps in a standard deviation": (1e4 + Z, np.float64, False),
    "many kelvin": (300 + RANDOM.normal(size=(60_000, 2)), np.float64, False),
    "years": (2015 + np.round(3 * Z), np.int64, False),
    "whole numbers that float32 holds": (1e7 + np.round(3 * Z), np.int64, False),
    "float32 given as such": (UNIX, np.float32, False),
    "two clusters of unix seconds": (CLUSTERS, np.float64, True),
    "zeros beside unix seconds": (np.where(np.arange(400)[:, None] % 50, UNIX, 0.0), np.float64, True),
    "unix seconds beside zeros": (np.where(np.arange(400)[:, None] % 20, Z, UNIX), np.float64, True),
    "clusters that float32 tells": (np.where(CLUSTERS > 1.5e9, 300.0, 0.0) + Z, np.float64, False),
    "of all sizes": (np.exp(5 * RANDOM.normal(size=(5000, 2))), np.float64, False),
    "without a variance": (300 + np.tan(1.57 * RANDOM.uniform(-1, 1, size=(5000, 2))), np.float64, False),
    "tenths by two ways of rounding": (np.where(Z > 0, 0.1 * np.round(9 * Z), np.round(9 * Z) / 10), np.float64, False),
    "one row": (UNIX[:1], np.float64, False),  # of which `evaluate` warns
    "two rows": (UNIX[:2], np.float64, True),
    "two rows of kelvin": (300 + Z[:2], np.float64, False),
    "three rows": (UNIX[:3], np.float64, True),
    "a constant": (np.full((400, 2), 0.1), np.float64, False),
}

REMEDIES = dict.fromkeys(("two clusters of unix seconds", "unix seconds beside zeros"), "Shifting")
REMEDIES |= {"zeros beside unix seconds": "standardise|Shifting"}


@pytest.mark.parametrize("name", GIVEN)
def test_columns_that_would_be_cut_are_refused(name):
    rows, dtype, is_refused = GIVEN[name]
    rows = rows.astype(dtype)
    model = lnz.Transformed(lnz.Normal.standard(2), lnz.bijections.Affine(jnp.full(2, rows.mean()), 100.0))
    bayes = lnz.bayes.NormalMean(lnz.Normal(jnp.full(2, rows.mean()), 100.0), 100.0)
    method = Still()
    verbs = {
        "data": lambda: check_resolved(model.space, rows, lnz.local(model)),
        "x": lambda: lnz.condition(bayes, rows),
    }
    if len(rows) == 400:  # one program for all
        verbs |= {"data, too": lambda: lnz.evaluate(KEY, model, rows)}
        verbs |= {"data, of fit": lambda: lnz.fit(KEY, model, method, rows, steps=1)}
        verbs |= {
            "valid": lambda: lnz.fit(KEY, model, method, Z, valid=lnz.Validation(rows, evaluator=lambda *_: 0), steps=1)
        }
    for argument, verb in verbs.items():
        if is_refused:
            remedy = "Subtract" if argument == "x" else REMEDIES.get(name, r"`lnz.flows.standardise\(data\)`")
            words = f": column 0 (lies at|has \\d+ different values within) .*too coarse. .*{remedy}"
            with pytest.raises(ValueError, match=f"`{argument.split(',')[0]}`{words}"):
                verb()
        elif argument != "valid":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of atoms
                verb()


@pytest.mark.parametrize("verb", ["embed", "reconstruct", "interpolate", "diagnose"])
def test_what_an_encoder_reads_is_refused_too(verb):
    model = autoencoder(UNIX, UNIX.mean(axis=0) + 1e4)  # without an origin
    calls = {
        "embed": lambda: lnz.latent.embed(model, UNIX),
        "reconstruct": lambda: lnz.latent.reconstruct(model, UNIX, key=KEY),
        "interpolate": lambda: lnz.latent.interpolate(model, UNIX[0], UNIX[1]),
        "diagnose": lambda: lnz.diagnose(KEY, model, UNIX),
    }
    with pytest.raises(ValueError, match=r"column 0 lies at 1\d{9} .*`lnz.flows.standardise\(data\)`"):
        calls[verb]()


def steps(*sizes, at=1.0):
    """Draws of normals, as many steps of float32 wide, in turn."""
    z = np.random.RandomState(1).normal(size=(2000, 1))
    return at * (1 + np.resize(sizes, 2000)[:, None] * z * 2.0**-23)


# Draws of a density: the space, float64 numbers that are rounded to float32, and what is said of them.
DRAWN = {
    "unix seconds": (lnz.Euclidean(1), 1.7e9 + 60 * Z[:, :1], "column 0 lies at 1699999996 .*standardise"),
    "one value for all": (lnz.Interval(1, 1.7e9, 1.7e9 + 60), 1.7e9 + 5 * np.ones((50, 1)), "Subtract a constant"),
    "two columns": (lnz.Euclidean(3), 1e8 * np.arange(3) + np.repeat(Z[:, :1], 3, axis=1), r"column 1 \(and 1 more"),
    "four unix seconds": (lnz.Euclidean(1), 1.7e9 + 60 * Z[:4, :1], "column 0 lies at"),
    "five hundred steps": (lnz.Euclidean(1), steps(500), "column 0 lies at 1.00000"),
    "as one component": (lnz.Euclidean(1), steps(300, 1e6, at=37.0), "column 0 has 81 draws within .* of 3[67]"),
    "at an end": (lnz.Interval(1), 1 - RANDOM.uniform(size=(2000, 1)) ** 5, r"draws of column 0 lie at an end"),
    "at an end of a part": (
        lnz.Product(lnz.Euclidean(1), lnz.Positive(1)),
        np.stack([Z[:, 0], np.exp(-90 * Z[:, 1] ** 2)], axis=1),
        "draws of column 1 lie at an end .*logarithm",
    ),
    "standard normal": (lnz.Euclidean(2), Z, None),
    "two thousand steps": (lnz.Euclidean(1), steps(2000), None),
    "kelvin": (lnz.Euclidean(2), 300 + Z, None),
    "five of kelvin": (lnz.Euclidean(2), 300 + Z[:5], None),
    "three unix seconds": (lnz.Euclidean(1), 1.7e9 + 60 * Z[:3, :1], None),
    "heavy tails": (lnz.Euclidean(1), 300 + np.tan(1.57 * RANDOM.uniform(-1, 1, size=(5000, 1))), None),
    "of all sizes": (lnz.Positive(1), np.exp(5 * RANDOM.normal(size=(5000, 1))), None),
    "uniform": (lnz.Interval(1), RANDOM.uniform(size=(5000, 1)), None),
    "near both ends": (lnz.Interval(1), RANDOM.beta(0.5, 0.5, size=(5000, 1)), None),
    "whole numbers": (lnz.Counts(1), np.round(1.7e9 + 60 * Z[:, :1]), None),
    "not finite": (lnz.Euclidean(1), np.where(Z[:, :1] > 0, np.nan, np.inf), None),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_that_are_rounded_are_told_and_others_are_not(name):
    space, rows, words = DRAWN[name]
    with np.errstate(under="ignore"):
        rows = rows.astype(np.float32)
    part = space.spaces[-1] if isinstance(space, lnz.Product) else space
    if isinstance(part, lnz.Interval | lnz.Positive):  # a sampler stays inside
        low, high = part.ends
        low, high = innermost(low, high if high < np.inf else 1.0, np.float32)
        rows[:, -1] = np.clip(rows[:, -1], low, high if isinstance(part, lnz.Interval) else None)
    found = coarse_draws(space, rows, lnz.local(lnz.Normal.standard(1)))
    assert (found is None) == (words is None)
    assert words is None or re.search(words, found)


def test_sample_tells_draws_that_are_rounded():
    with pytest.warns(lnz.UnreliableSampleWarning, match=r"the draws are rounded: column 0 .*`lnz.flows.standardise"):
        lnz.sample(KEY, lnz.Normal(jnp.full(2, 1.7e9), 60.0), 400)
    assert len(np.unique(lnz.sample(KEY, standard(UNIX), 400)[:, 0])) == 400  # warnings are errors
    assert len(np.unique(lnz.sample(KEY, standard(CLUSTERS), 3)[:, 0])) == 3


def test_one_shift_does_not_help_clusters_far_from_each_other():
    with pytest.raises(ValueError, match=r"column 0 has \d+ different values .*Shifting the column does not help"):
        lnz.evaluate(KEY, standard(CLUSTERS), CLUSTERS)


U = RANDOM.uniform(size=(4000, 1))
LOGITS = RANDOM.normal(size=(4000, 1))
INTERVAL, WIDE = lnz.Interval(1), lnz.Interval(1, 0.0, 100.0)
BOTH = lnz.Product(lnz.Euclidean(1), lnz.Interval(1))
# (space, rows, what is said of them)
AT_ENDS = {
    "even ones": (INTERVAL, U, None),
    "near the lower end": (INTERVAL, U**7, None),
    "near the upper end": (INTERVAL, 1 - 10 ** (2 * U - 7), r"\d+ of 4000 rows lie so near the end 1 of Interval"),
    "logits of 10 +- 3": (INTERVAL, scipy.special.expit(3 * LOGITS + 10), "1 of 4000 rows|does not tell from an end"),
    "one beside the upper end": (
        WIDE,
        np.where(np.arange(4000)[:, None] == 7, 100 * (1 - 1e-9), 100 * U),
        r"`data` has the value 99.9999999 at row 7, column 0, which float32 does not tell from an end of Interval",
    ),
    "one at the upper end": (WIDE, np.where(np.arange(4000)[:, None] == 7, 100, 100 * U), None),  # of atoms
    "p-values": (
        INTERVAL,
        10 ** (-90 * U),
        "which float32 does not tell from an end of Interval.*logarithm|coordinates",
    ),
    "p-values, positive": (lnz.Positive(1), 10 ** (-90 * U), "not tell from an end of Positive.*model its logarithm"),
    "small ones": (lnz.Positive(1), 10 ** (-30 * U), None),
    "in a product": (BOTH, np.append(LOGITS, 1 - 1e-9 * U, 1), "row 0, column 1, which float32 does not tell"),
    "far from zero": (lnz.Interval(1, 1e9, 1e9 + 99), 1e9 + 99 * U, "from an end of Interval.*enable_x64"),
    "an interval that float32 does not hold": (lnz.Interval(1, 0.0, 0.1), 0.1 * U, None),
}


@pytest.mark.parametrize("name", AT_ENDS)
def test_rows_too_near_an_end_are_refused(name):
    space, rows, words = AT_ENDS[name]
    model = lnz.Transformed(lnz.Normal.standard(space.shape), lnz.bijections.ToSupport(space))
    resolved = functools.partial(check_resolved, space, rows, lnz.local(model))
    moved = functools.partial(lnz.local(model).to_local, rows)
    if words is None:
        resolved()
        np.testing.assert_array_equal(moved(), rows.astype(np.float32))
        return
    with pytest.raises(ValueError, match=words):
        resolved()
    if "lie so near" not in words:  # which is known of some rows together
        with pytest.raises(ValueError, match=words):
            moved()
    check_resolved(space, rows[:0], lnz.local(model))
    check_resolved(space, rows.astype(np.float32), lnz.local(model))


PLACES = [0.0, 1e3, 1e5, 1e7, 1.7e9]


def test_no_number_is_wrong_by_rounding_without_saying_so():
    """However many rows, wherever they lie: right within 0.05 nats and 1e-4, refused, or with a warning."""
    mixture = lnz.Mixture(jnp.zeros(2), lnz.Normal(jnp.zeros((2, 1)), jnp.ones((2, 1))))
    num_right = 0
    for num, place, sd in itertools.product((1, 2, 30, 1000), PLACES, (1e-2, 1.0, 60.0)):
        locs, rows = np.array([place, 2 * place]), place + sd * RANDOM.normal(size=(num, 1))
        rows[::3] += place
        model = eqx.tree_at(lambda m: m.components, mixture, lnz.Normal(jnp.asarray(locs[:, None]), sd))
        both = scipy.stats.norm.logpdf(rows, np.float32(locs), np.float32(sd)) + np.log(0.5)
        right = scipy.special.logsumexp(both, axis=1)
        num_right += is_right_or_told(model, rows, right)
    assert num_right > 20
    for num, loc, sd in itertools.product((1, 30, 1000), (-30.0, 0.0, 8.0, 14.0), (0.5, 4.0)):
        logits = loc + sd * RANDOM.normal(size=(num, 1))
        rows = scipy.special.expit(logits)
        model = lnz.Transformed(lnz.Normal(jnp.full(1, loc), sd), lnz.bijections.ToSupport(INTERVAL))
        log_slope = np.log(rows) + np.log1p(-np.minimum(rows, np.nextafter(1, 0)))
        num_right += is_right_or_told(
            model, rows, (scipy.stats.norm.logpdf(scipy.special.logit(rows), loc, sd) - log_slope)[:, 0]
        )
    assert num_right > 30


def is_right_or_told(model, rows, right):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            result = lnz.evaluate(KEY, model, rows)
    except ValueError as error:
        assert "float32" in str(error)  # noqa: PT017
        return False
    if not result.warnings:
        np.testing.assert_allclose(result.per_example, right, rtol=1e-4, atol=0.05)
    return not result.warnings


def test_a_single_row_is_told_that_its_digits_are_cut():
    words = r"float32 does not hold the digits of the data: 1 of 1 checked rows change by up to .* nats.*first row 0"
    with pytest.warns(lnz.UnreliableEstimateWarning, match=words):
        result = lnz.evaluate(KEY, lnz.Normal(jnp.array([1.7e9]), 60.0), np.array([[1.7e9 + 45]]))
    assert len(result.warnings) == 1


# (place of the data, of the prior, whether float32 holds the posterior, and the predictive distribution)
CONJUGATE = {
    "near zero": (0.0, 0.0, True, True),
    "kelvin": (300.0, 0.0, True, True),
    "far from the prior": (1.7e9, 0.0, False, False),
    "with the prior": (1.7e9, 1.7e9, False, False),
    "one distribution of the two": (1e7, 1e7, True, True),
}


@pytest.mark.parametrize("name", CONJUGATE)
def test_evidence_of_a_normal_mean_keeps_the_digits_of_its_data(name):
    place, prior, *held = CONJUGATE[name]
    data, scale = place + 60 * Z[:50], max(100.0, 2 * abs(place - prior))
    model = lnz.bayes.NormalMean(lnz.Normal(jnp.full(2, prior), scale), 60.0)
    expected, loc, variance = 0.0, np.full(2, prior), np.float64(np.float32(scale)) ** 2
    for y in data:  # one after the other, each given those before it
        expected += scipy.stats.norm.logpdf(y, loc, np.sqrt(variance + 60.0**2)).sum()
        loc, variance = loc + variance / (variance + 60.0**2) * (y - loc), 1 / (1 / variance + 1 / 60.0**2)
    assert float(model.log_evidence(data)) == pytest.approx(expected, rel=1e-5)
    verbs = (model.posterior, np.sqrt(variance), held[0]), (model.predictive, np.sqrt(variance + 60.0**2), held[1])
    for verb, sd, is_held in verbs:
        if is_held:
            np.testing.assert_allclose(verb(data).loc, loc, atol=0.13 * sd)
            np.testing.assert_allclose(verb(data).scale, sd, rtol=1e-5)
        else:
            with pytest.raises(ValueError, match=r"float32 has steps of 1.3e\+02: too coarse. Subtract a constant"):
                verb(data)


@pytest.mark.parametrize("given", [UNIX, (UNIX, Z), {"y": Z, "t": UNIX[:, 0]}], ids=["array", "tuple", "dict"])
def test_data_sets_that_would_be_cut_are_refused(given):
    model = lnz.bayes.NormalMean(lnz.Normal(jnp.full(2, 1.7e9), 100.0), 60.0)
    with pytest.raises(ValueError, match=r"`x`: column .* lies at 1\d{9} .* too coarse"):
        lnz.condition(model, given)


@pytest.mark.parametrize("data", [Z[:, 0], Z[:0], np.where(Z > 2, np.nan, Z)], ids=["shape", "no rows", "missing"])
def test_methods_of_a_normal_mean_check_their_data(data):
    model = lnz.bayes.NormalMean(lnz.Normal(jnp.zeros(2), 1.0), 1.0)
    for verb in (model.posterior, model.predictive, model.log_evidence):
        with pytest.raises(ValueError, match="`data`"):
            verb(data)


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
        return lnz.evaluate(KEY, standard(Z), x).of.data

    assert fingerprint(x) == fingerprint(x.astype(np.float32)) == fingerprint(jnp.asarray(x, jnp.float32))
    assert fingerprint(x) != fingerprint(x + 2e-9)  # which float32 does not hold
    assert lnz.data.Resident(x).fingerprint == lnz.data.Resident(x.astype(np.float32)).fingerprint
    assert lnz.data.Resident(x).fingerprint != lnz.data.Resident(x + 2e-9).fingerprint


def test_jitted_functions_take_data_coordinates():
    flow, x = standard(300 + Z), 300 + Z[0]
    there = lnz.local(flow)
    given = jax.jit(lambda x: flow.log_prob(x))(jnp.asarray(x, jnp.float32))
    moved = there.model.log_prob(jnp.asarray(there.to_local(x[None])[0]))
    assert float(given) == pytest.approx(float(moved), abs=1e-3)
    assert dataclasses.is_dataclass(there)


@pytest.mark.parametrize("part", ["layer", "network", "draws"])
def test_constants_of_a_program_keep_both_parts_of_a_place(part):
    """As constants of one program the two parts of a mean were folded into one, 48 too large or small."""
    mean, scale, x = np.array([1.7e9 + 48]), np.array([64.0]), jnp.asarray([1.7e9], jnp.float32)
    flow = lnz.Transformed(lnz.Normal.standard(1), lnz.flows.standardise(mean + scale * np.array([[-1.0], [1.0]])))
    if part == "layer":
        function, right = flow.log_prob, scipy.stats.norm.logpdf(1.7e9, mean[0], scale[0])
    elif part == "network":
        net = lnz.nets.Standardised(lambda z: z, mean, scale)
        function, right = lambda x: net(x)[0], (1.7e9 - mean[0]) / scale[0]
    else:  # half the step of float32 is 64, so that this draw is rounded up
        function, right = lambda x: (flow.bijection.forward_and_log_det(0.9 * x / x)[0] - 1.7e9)[0], 128
    assert float(function(x)) == pytest.approx(right, rel=1e-5)
    assert float(jax.jit(function)(x)) == pytest.approx(right, rel=1e-5)
    assert float(jax.jit(jax.vmap(function))(x[None])[0]) == pytest.approx(right, rel=1e-5)
