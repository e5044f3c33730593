"""Recipes of variational autoencoders, in small."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lnz
from lnz import recipes

SMALL = {"model.num_latent": 2, "train.steps": 12, "train.batch_size": 10, "train.valid_every": 6}
SMALL |= {"evaluate.num_samples": 400}
FEW_LAYERS = {"model.posterior.num_layers": 2}
FEW_COMPONENTS = {"model.prior.num_components": 5, "model.num_latent": 4}
NAMES = {
    "vae_digits": {},
    "vae_mnist": {"model.posterior": "full", "model.prior": "mixture", "model.prior.num_components": 3},
    "vae_mnist_conv": {},
    "iwae_mnist": {"model.objective.num_samples": 5, "model.prior": "flow", "model.prior.width": 4},
    "vae_mnist_planar": FEW_LAYERS,
    "vae_mnist_iaf": {**FEW_LAYERS, "model.posterior.width": 4},
    "vampprior_mnist": FEW_COMPONENTS,
    "hvae_mnist": {**FEW_COMPONENTS, "model.layers.width": 6},
    "vae_frey": {"model.likelihood.radius": 1, "model.likelihood.width": 4},
    "vae_gaussian": {"model.layers": "two", "model.layers.width": 6, "model.layers.depth": 1},
}


def pictures(kind, path):
    """Four by four bits, grey values, or four columns of numbers that depend on each other."""
    random = np.random.RandomState(0)
    if kind == "vae_gaussian":
        z = random.randn(80, 1)
        rows = 1000 + 30 * (z @ random.randn(1, 4) + 0.5 * random.randn(80, 4))
        np.savez(path, train=rows[:60], test=rows[60:])
        return
    num_values = 256 if kind == "vae_frey" else 2
    parts = {"train": 60, "test": 20}
    np.savez(path, **{part: random.randint(0, num_values, (num, 4, 4), np.uint8) for part, num in parts.items()})


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_runs_in_small(name, tmp_path):
    pictures(name, tmp_path / "data.npz")
    recipe = getattr(recipes, name)
    defaults = recipe.settings.model
    warm_up = {"model.objective.num_warm_up": 3} if getattr(defaults.objective, "num_warm_up", 0) else {}
    narrow = {} if defaults.network.kind == "conv" else {"model.network.width": 6}
    settings = recipe.resolve({**SMALL, **warm_up, **narrow, **NAMES[name], "data.source": str(tmp_path / "data.npz")})
    splits = recipe.load(settings)
    recipe.check(settings, splits)
    with warnings.catch_warnings():  # few draws will do while training, as on the command line
        warnings.simplefilter("ignore", lnz.UnreliableEstimateWarning)
        fit = recipe.fit(splits, settings)
        (row,) = recipe.judge(fit.model, splits.test, settings).values()
    assert [record["step"] for record in fit.history if "valid" in record] == [6, 12]
    assert row.bound == "lower"
    # 12 steps learn nothing: it starts at the rates of the columns, from which the posterior takes little.
    train, test = (np.asarray(part, float) for part in (splits.train, splits.test))
    if name == "vae_frey":
        scale = train.std(axis=0) * np.sqrt(3) / np.pi
        u = (test[:, None] + np.array([[[1.0], [0.0]]]) - train.mean(axis=0) - 0.5) / scale
        cells = 1 / (1 + np.exp(-u))
        cells[:, 0][test == 255], cells[:, 1][test == 0] = 1, 0
        baseline = np.log(cells[:, 0] - cells[:, 1]).sum(axis=1)
    elif name == "vae_gaussian":
        mean, scale = train.mean(axis=0), train.std(axis=0)
        baseline = (-0.5 * ((test - mean) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi))).sum(axis=1)
    else:
        rates = (train.sum(axis=0) + 1) / (len(train) + 2)
        baseline = (test * np.log(rates) + (1 - test) * np.log(1 - rates)).sum(axis=1)
    assert abs(row.value - baseline.mean()) < 1.0


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("model.likelihood", "pixelcnn", "independent, autoregressive"),
        ("model.posterior", "gaussian", "normal, full, planar, iaf"),
        ("model.prior", "vamp", "normal, mixture, vampprior, flow"),
        ("model.network", "cnn", "mlp, gated, conv"),
        ("model.objective", "vae", "elbo, iwae"),
        ("model.layers", "three", "one, two"),
        ("model.objective.gradient", "dreg", "reparameterised, doubly_reparameterised, sticking_the_landing"),
    ],
)
def test_wrong_words_are_answered_by_what_there_is(setting, value, words):
    with pytest.raises(ValueError, match=f"`{setting}` must be one of {words}; got '{value}'"):
        recipes.vae_digits.resolve({setting: value})


def test_bits_have_no_scales_that_a_network_could_move(tmp_path):
    pictures("bits", tmp_path / "data.npz")
    recipe = recipes.vae_digits
    changes = {"model.likelihood": "autoregressive", "data.source": str(tmp_path / "data.npz")}
    settings = recipe.resolve({**SMALL, **changes})
    with pytest.raises(ValueError, match=r"`model.likelihood=autoregressive` needs grey values; .* is of Binary"):
        recipe.start(recipe.load(settings), settings)


@pytest.mark.parametrize("network", ["gated", "conv"])
def test_latents_move_the_place_and_the_context_of_each_pixel(network, tmp_path):
    pictures("vae_frey", tmp_path / "data.npz")
    recipe = recipes.vae_frey
    changes = {"model.network": network, "model.likelihood.num_context": 3, "data.source": str(tmp_path / "data.npz")}
    settings = recipe.resolve({**SMALL, "model.objective.num_warm_up": 3, **changes})
    splits = recipe.load(settings)

    def moved():
        _, model, _ = recipe.start(splits, settings)
        likelihoods = jax.vmap(model.likelihood)(jnp.arange(4.0).reshape(2, 2))
        return [jnp.ptp(part, axis=0) for part in (likelihoods.loc, likelihoods.context, likelihoods.log_scale)]

    loc, context, log_scale = jax.jit(moved)()
    assert loc.shape == (16,)
    assert context.shape == (3, 16)
    assert bool(jnp.all(loc > 0))
    assert bool(jnp.all(context > 0))
    assert bool(jnp.all(log_scale == 0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"prior.num_components": 500},
            "=500` belongs to `model.prior=mixture` or `model.prior=vampprior`; with `model.prior=normal` it means",
        ),
        ({"prior.width": 8}, "`model.prior.width=8` belongs to `model.prior=flow`; with `model.prior=normal` it"),
        ({"posterior.num_layers": 8}, "belongs to `model.posterior=planar` or `model.posterior=iaf`; with"),
        ({"likelihood.radius": 2}, "`model.likelihood.radius=2` belongs to `model.likelihood=autoregressive`"),
        ({"objective.free_bits": 0.5}, "belongs to `model.objective=elbo`; with `model.objective=iwae` it"),
        ({"objective.gradient": "sticking_the_landing", "objective": "elbo"}, "belongs to `model.objective=iwae`"),
        ({"network.width": 8, "network": "conv"}, "belongs to `model.network=mlp` or `model.network=gated`; with"),
        ({"layers.width": 8}, "belongs to `model.layers=two`"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        recipes.vae_digits.resolve({f"model.{name}": value for name, value in changes.items()})


def test_settings_mean_something_where_they_belong():
    resolve = recipes.vae_digits.resolve
    resolve({"model.prior": "vampprior", "model.prior.num_components": 20})
    resolve({"model.prior": "flow", "model.prior.width": 20})
    resolve({"model.network": "conv", "model.layers": "two", "model.posterior": "normal", "model.layers.width": 20})
    # What a run was made with is no change: what means nothing any more is gone.
    mixed = resolve({"model.prior": "mixture", "model.prior.num_components": 20})
    assert resolve(base=mixed) == mixed
    assert resolve({"model.prior": "normal"}, mixed) == resolve()
    assert recipes.vae_mnist.resolve({"model.objective": "iwae"}).model.objective.num_samples == 1


def test_a_warm_up_that_never_ends_is_warned_of(tmp_path):
    pictures("bits", tmp_path / "data.npz")
    recipe = recipes.vae_mnist
    settings = recipe.resolve({**SMALL, "data.source": str(tmp_path / "data.npz")})
    with pytest.warns(UserWarning, match=r"`model.objective.num_warm_up=10000` is not over after `train.steps=12`"):
        recipe.start(recipe.load(settings), settings)
