"""Recipes of flows, in small: what they build, what they warn of, and what stays as it is."""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import lnz
import lnz.recipes
from lnz.plots import _plane

SMALL = {"model.flow.num_layers": "2", "model.flow.width": "8", "model.flow.num_bins": "4", "train.steps": "30"}


def train(recipe, **changes):
    settings = recipe.resolve({**SMALL, **changes})
    splits = recipe.load(settings)
    recipe.check(settings, splits)
    return splits, settings, recipe.fit(splits, settings)


def test_moons_learn_an_exact_density_in_the_units_of_the_file():
    recipe = lnz.recipes.flow_moons
    splits, settings, fit = train(recipe, **{"train.steps": "200", "train.valid_every": "50"})
    row = recipe.judge(fit.model, splits.test, settings)["flow_moons"]
    assert row.bound == "exact"
    # One normal with a full covariance has -1.918 nats on this split.
    assert row.value > -1.8
    scale = fit.model.bijection.bijections[-1]
    np.testing.assert_allclose(scale.loc, splits.train.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(scale.scale, splits.train.std(axis=0), rtol=1e-5)
    integral = fit.model.space.quadrature(301, (-4.0, 5.0)).log_integral(fit.model.log_prob)
    assert abs(float(integral)) < 0.01  # half a grid cell of 0.03 in a density with edges of 0.1


@pytest.mark.parametrize("kind", ["realnvp", "masked_autoregressive", "coupling_spline", "planar"])
def test_other_architectures_by_a_setting(kind):
    recipe = lnz.recipes.flow_moons
    small = {name: value for name, value in SMALL.items() if name in _used_by(kind)}
    settings = recipe.resolve({**small, "model.flow": kind})
    _, model, _ = recipe.start(recipe.load(settings), settings)
    assert jnp.isfinite(model.log_prob(jnp.zeros(2)))
    for unused in SMALL.keys() - small.keys():
        with pytest.raises(ValueError, match=f"`{unused}=.*belongs to .*; with `model.flow={kind}` it means nothing"):
            recipe.resolve({unused: "4", "model.flow": kind})
    with pytest.raises(ValueError, match=r"`model\.flow` must be one of coupling_spline"):
        recipe.resolve({"model.flow": "glow"})


def _used_by(kind):
    nets, splines = {"model.flow.width"}, {"model.flow.num_bins"}
    used = {"planar": set(), "coupling_spline": nets | splines}.get(kind, nets)
    return {"model.flow.num_layers", "train.steps", *used}


def test_energies_are_learned_without_their_rows():
    """Other rows, the same flow: they are for the test alone."""
    recipe = lnz.recipes.flow_energy
    splits, settings, fit = train(recipe, **{"data.source": "energy_2", "model.num_samples": "16"})
    other = dataclasses.replace(splits, train=splits.train[::-1] + 1)
    again = recipe.fit(other, settings)
    assert eqx.tree_equal(fit.model, again.model)
    assert "elbo" in fit.history[-1]
    assert recipe.judge(fit.model, splits.test, settings)["flow_energy"].bound == "exact"


def test_energies_take_no_batches():
    with pytest.raises(ValueError, match=r"Unknown setting of flow_energy 'train\.batch_size'"):
        lnz.recipes.flow_energy.resolve({"train.batch_size": "10"})


def test_energies_need_an_energy():
    recipe = lnz.recipes.flow_energy
    settings = recipe.resolve({"data.source": "two_moons"})
    with pytest.raises(ValueError, match=r"must be energy_1, .* got 'two_moons'"):
        recipe.start(recipe.load(settings), settings)


def splits_of(train, columns=None):
    rows = np.asarray(train, np.float32)
    parts = rows[:-20], rows[-20:-10], rows[-10:]
    return lnz.data.Splits("mine", lnz.Euclidean(rows.shape[1]), *parts, None, "", columns=columns)


def start(splits):
    recipe = lnz.recipes.flow_tabular
    return recipe.start(splits, recipe.resolve(SMALL))


def test_repeated_rows_and_discrete_columns_are_warned_of():
    x = np.random.RandomState(0).normal(size=(200, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start(splits_of(x))
    x[:, 1] = np.round(x[:, 1])
    x[100:103], x[199] = x[:3], x[3]
    with pytest.warns(UserWarning, match="4 of 200 rows repeat another") as caught:
        start(splits_of(x, ("length", "rings", "weight")))
    assert "of 177 different training rows 'rings' has only" in str(caught[0].message)
    assert "no bound" in str(caught[0].message)


@pytest.mark.parametrize("name", ["mixture_of_normals", "vae_gaussian"])
def test_other_densities_without_a_bound_are_warned_of_labels(name):
    x = np.random.RandomState(2).normal(size=(100, 3))
    recipe = getattr(lnz.recipes, name)
    settings = recipe.resolve({"model.network.width": 4} if name == "vae_gaussian" else {"model.num_components": 2})
    recipe.start(splits_of(x), settings)  # warnings are errors
    x[:, 2] = x[:, 2] > 0
    with pytest.warns(UserWarning, match="'label' has .*leave discrete columns out"):
        recipe.start(splits_of(x, ("length", "weight", "label")), settings)


@pytest.mark.parametrize("num", [45, 1000])
def test_atoms_among_many_values_are_warned_of(num):
    """A column half zeros, and bits: in a small table even two different values are many for each row."""
    random = np.random.RandomState(1)
    x = random.normal(size=(num, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start(splits_of(x))
    x[::2, 0], x[:, 2] = 0, random.randint(0, 2, num)
    with pytest.warns(UserWarning, match="'rain' has the value 0 in ") as caught:
        start(splits_of(x, ("rain", "weight", "sex")))
    assert "'sex' has " in str(caught[0].message)
    assert "'weight'" not in str(caught[0].message)


@pytest.mark.parametrize(
    ("recipe", "setting", "value", "words"),
    [
        ("flow_moons", "model.flow.bound", "-1", "a finite number, more than 0, such as 5.0; got -1"),
        ("flow_moons", "model.flow.width", "0", "at least 1, such as 32"),
        ("flow_moons", "model.flow.depth", "0", "at least 1"),
        ("flow_moons", "model.flow.num_bins", "1", "at least 2, such as 8"),
        ("flow_moons", "model.learning_rate", "nan", "a finite number, more than 0, such as 0.002; got nan"),
        ("flow_energy", "model.learning_rate", "-1", "more than 0"),
        ("flow_moons", "model.learning_rate", "0", "more than 0"),
        ("flow_energy", "model.start_scale", "0", "more than 0"),
        ("flow_moons", "model.weight_decay", "-3", "at least 0"),
        ("normal", "model.floor", "-1", "a finite number, at least 0, such as 0.1; got -1"),
        ("flow_digits", "model.noise_width", "0", "at least 1"),
        ("flow_digits", "evaluate.num_repeats", "1", "at least 2, such as 3; .*so that there is an error bar"),
        ("flow_digits", "evaluate.num_samples_while_training", "0", "at least 2"),
        ("flow_digits", "evaluate.num_samples_while_training", "1", "at least 2"),
    ],
)
def test_wrong_numbers_are_named_by_their_setting(recipe, setting, value, words):
    with pytest.raises(ValueError, match=f"^`{setting}` must be .*{words}"):
        getattr(lnz.recipes, recipe).resolve({setting: value})


def test_every_recipe_of_a_flow_draws_and_scores():
    for recipe in (lnz.recipes.flow_moons, lnz.recipes.flow_energy):
        settings = recipe.resolve(SMALL)
        _, model, _ = recipe.start(recipe.load(settings), settings)
        x, log_p = model.sample_and_log_prob(jr.key(0), (20,))
        np.testing.assert_allclose(jax.vmap(model.log_prob)(x), log_p, atol=1e-3)


def made(model, rows):
    from lnz.runs import Examples

    class Made:
        examples = Examples(None, None, {"some": [0, 1]}, {"some": rows})

    Made.model = model
    return Made


def test_pictures_of_the_plane():
    flow = lnz.Transformed(
        lnz.Normal(jnp.ones(2), jnp.array([1.0, 2.0])),
        lnz.bijections.Affine(jnp.array([3.0, 0.0]), jnp.array([2.0, 1.0])),
    )
    panels = _plane.plane(made(flow, [[0.0, 1.0], [4.0, -1.0]]))
    assert panels.count("<picture>") == 2
    assert "Density" in panels
    assert "Warp" in panels
    # The ring of radius one of the base: centre (1, 1), half axes 1 and 2, and then the flow.
    circle = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_allclose(_plane._pushed(flow, circle), [[[7.0, 1.0], [5.0, 3.0]]], rtol=1e-6)
    mixture = lnz.Mixture(jnp.zeros(2), lnz.Normal(jnp.zeros((2, 2)), jnp.ones((2, 2))))
    assert _plane.plane(made(mixture, [[0.0, 1.0]])).count("<picture>") == 1
    assert _plane.plane(made(lnz.Normal.standard(3), [[0.0, 1.0, 0.0]])) == ""
    assert _plane.plane(made(lnz.Bernoulli(jnp.zeros(2)), [[0.0, 1.0]])) == ""


def test_a_density_that_is_nowhere_finite_still_has_axes():
    broken = lnz.Normal(jnp.full(2, jnp.nan), 1.0)
    figure = _plane.density(broken, np.zeros((1, 2)), ["a", "b"], ((-1.0, 1.0), (-1.0, 1.0)))
    assert len(figure.axes) == 1
