"""What waits for a GPU runs, in small, without one: nobody should find out there that it does not."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import lnz
from lnz import recipes

CHAINS_GPU = Path(__file__).parents[1] / "benchmarks" / "chains_gpu.py"
SIZES = {"chains": 20, "visible": 12, "hidden": 10, "sweeps": 6, "rounds": 3}


def test_sweeps_are_compared_with_their_products():
    sizes = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]
    done = subprocess.run([sys.executable, CHAINS_GPU, *sizes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, environment = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "default",
        "tensorfloat32",
        "BF16_BF16_F32_X3",
        "BF16_BF16_F32_X6",
        "highest",
    ]
    assert "ratio" in lines[0]
    assert "ratio" in lines[-1]
    for line in lines:
        if "not on this device" in line:
            continue
        assert float(line.rsplit(" ", 1)[1]) < 1e-6  # of an input, in float32
    assert "'device'" in environment


PICTURES = {
    "flow_digits": (2, {"model.num_layers": 1, "model.width": 8, "model.noise_width": 4}),
    "flow_mnist": (256, {"model.num_levels": 1, "model.num_steps": 1, "model.width": 4}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_flows_of_pictures_run_in_small(name, tmp_path):
    num_values, small = PICTURES[name]
    random = np.random.RandomState(0)
    images = {part: random.randint(0, num_values, (num, 2, 2), np.uint8) for part, num in (("train", 60), ("test", 20))}
    np.savez(tmp_path / "images.npz", **images)
    recipe = getattr(recipes, name)
    small = small | {"train.steps": 12, "train.batch_size": 10, "train.valid_every": 6}
    settings = recipe.resolve({**small, "data.source": str(tmp_path / "images.npz")})
    splits = recipe.load(settings)
    recipe.check(settings, splits)
    with warnings.catch_warnings():  # few draws will do while training, as on the command line
        warnings.simplefilter("ignore", lnz.UnreliableEstimateWarning)
        fit = recipe.fit(splits, settings)
    assert [record["step"] for record in fit.history if "valid" in record] == [6, 12]
    (row,) = recipe.judge(fit.model, splits.test, settings).values()
    assert row.bound == "lower"
    assert not row.warnings
    if name == "flow_digits":  # of four bits: the bounds are tight, and probabilities sum to one
        every = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(np.uint8)
        total = np.exp(recipe.score(fit.model, every, settings).per_example).sum()
        assert abs(total - 1) < 0.05
    else:
        assert abs(row.value + 4 * np.log(256)) < 4  # noise, of which nothing can be learned in 12 steps


@pytest.mark.parametrize("recipe", [recipes.rbm_mnist, recipes.rbm_mnist_pcd25], ids=lambda recipe: recipe.name)
def test_long_recipes_run_in_small(recipe, tmp_path):
    random = np.random.RandomState(0)
    np.savez(tmp_path / "bits.npz", train=random.randint(0, 2, (60, 12)), test=random.randint(0, 2, (20, 12)))
    small = {"model.num_hidden": 6, "model.num_chains": 20, "train.steps": 12, "train.batch_size": 10}
    small |= {"train.valid_every": 6, "evaluate.num_chains": 20, "evaluate.num_betas": 100, "evaluate.num_warm_up": 20}
    settings = recipe.resolve({**small, "data.source": str(tmp_path / "bits.npz")})
    splits = recipe.load(settings)
    recipe.check(settings, splits)
    fit = recipe.fit(splits, settings)
    assert [record["step"] for record in fit.history if "valid" in record] == [6, 12]
    (row,) = recipe.judge(fit.model, splits.test, settings).values()
    exact = lnz.evaluate(lnz.runs._recipe._keys(settings)[2], fit.model, splits.test)
    assert row.bound == "upper"
    assert exact.bound == "exact"
    assert abs(row.value - exact.value) < 5 * row.monte_carlo_error + 1e-3
    bracket = recipe.bracket_log_z(fit.model, settings)
    assert bracket is not None
    assert "stationary start" in str(bracket)
