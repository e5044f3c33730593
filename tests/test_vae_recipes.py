"""Recipes of variational autoencoders, in small."""

import warnings

import numpy as np
import pytest

import lnz
from lnz import recipes

SMALL = {"model.width": 6, "model.num_latent": 2, "train.steps": 12, "train.batch_size": 10, "train.valid_every": 6}
SMALL |= {"evaluate.num_samples": 400}
FEW_LAYERS = {"model.num_flow_layers": 2, "model.flow_width": 4}
FEW_COMPONENTS = {"model.num_components": 5, "model.num_latent": 4}
NAMES = {
    "vae_digits": {},
    "vae_mnist": {"model.posterior": "full", "model.prior": "mixture", "model.num_components": 3},
    "vae_mnist_conv": {},
    "iwae_mnist": {"model.num_samples": 5, "model.prior": "flow", "model.flow_width": 4},
    "vae_mnist_planar": FEW_LAYERS,
    "vae_mnist_iaf": FEW_LAYERS,
    "vampprior_mnist": FEW_COMPONENTS,
    "hvae_mnist": FEW_COMPONENTS,
    "vae_frey": {},
    "vae_gaussian": {"model.num_layers": 2},
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
    warm_up = {"model.warm_up": 3} if recipe.settings["model"]["warm_up"] else {}
    settings = recipe.resolve({**SMALL, **warm_up, **NAMES[name], "data.source": str(tmp_path / "data.npz")})
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
        ("model.posterior", "gaussian", "normal, full, planar, iaf"),
        ("model.prior", "vamp", "normal, mixture, vampprior, flow"),
        ("model.network", "cnn", "mlp, gated, conv"),
        ("model.objective", "vae", "elbo, iwae, dreg"),
        ("model.num_layers", 3, "must be 1, or 2"),
        ("model.free_bits", 0.5, "`model.free_bits=0.5` is an option of `model.objective=elbo`; got 'iwae'"),
    ],
)
def test_wrong_settings_are_answered_by_what_there_is(setting, value, words, tmp_path):
    pictures("bits", tmp_path / "data.npz")
    recipe = recipes.vae_digits
    settings = recipe.resolve({**SMALL, setting: value, "data.source": str(tmp_path / "data.npz")})
    splits = recipe.load(settings)
    with pytest.raises(ValueError, match=words):
        recipe.start(splits, settings)


def test_a_warm_up_that_never_ends_is_warned_of(tmp_path):
    pictures("bits", tmp_path / "data.npz")
    recipe = recipes.vae_mnist
    settings = recipe.resolve({**SMALL, "data.source": str(tmp_path / "data.npz")})
    with pytest.warns(UserWarning, match=r"`model.warm_up=10000` is not over after `train.steps=12`"):
        recipe.start(recipe.load(settings), settings)
