"""The commands of latent spaces, on a run whose autoencoder is not trained: what they write, and what they refuse."""

import dataclasses
import json
import re

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from PIL import Image
from test_commands import call

import lnz
from lnz.recipes import find_recipe
from lnz.runs import Examples, Run

DIM = 3


def write_run(folder, model, recipe="independent_digits"):
    chosen = find_recipe(recipe)
    test = lnz.data.load("binary_digits").test
    row = lnz.evaluate(jr.key(0), lnz.Bernoulli(jnp.zeros(64)), test[:20])
    examples = Examples((8, 8), None, {"some": [0, 1]}, {"some": test[:2].tolist()})
    folder.mkdir()
    Run(
        recipe,
        "made by hand",
        chosen.settings.model_dump(),
        None,
        {},
        model,
        [],
        "completed",
        {recipe: row},
        None,
        examples,
        "none",
        3,
        {"train": 0.0, "compile": 0.0, "evaluate": 0.0},
    ).write(folder)
    return folder


def arrays(path):
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run, and its model."""
    keys = jr.split(jr.key(0), 2)
    decoder = lnz.distributions.ConditionalBernoulli(
        lnz.nets.Linear.from_parameters(jr.normal(keys[0], (64, DIM)), jnp.zeros(64))
    )
    net = lnz.nets.Linear.from_parameters(0.3 * jr.normal(keys[1], (DIM, 64)), jnp.zeros(DIM))
    model = lnz.latent.VAE(lnz.Normal.standard(DIM), decoder, lnz.distributions.ConditionalNormal(net, jnp.ones(DIM)))
    return write_run(tmp_path_factory.mktemp("runs") / "vae", model), model


def test_embed_writes_the_posterior_means(made, monkeypatch, tmp_path, capsys):
    folder, model = made
    splits = lnz.data.load("binary_digits")
    assert splits.labels is not None
    assert call(monkeypatch, "embed", folder, "--out", tmp_path / "z.npz") == 0
    found = arrays(tmp_path / "z.npz")
    expected = lnz.latent.embed(model, splits.test)
    np.testing.assert_allclose(found["z"], expected, atol=1e-5)
    np.testing.assert_array_equal(found["labels"], splits.labels[2])
    assert "360 rows of the test split, 3 latents each" in capsys.readouterr().out
    np.save(tmp_path / "own.npy", splits.test[5:9])
    assert call(monkeypatch, "embed", folder, "--data", tmp_path / "own.npy", "--out", tmp_path / "z.csv") == 0
    table = np.genfromtxt(tmp_path / "z.csv", delimiter=",", names=True)
    assert table.dtype.names == ("row", "z0", "z1", "z2")
    np.testing.assert_allclose(table["z1"], expected[5:9, 1], atol=1e-5)
    (tmp_path / "pictures").mkdir()
    for name, bits in zip(("img10", "img2"), splits.test[5:7].reshape(2, 8, 8), strict=True):
        Image.fromarray(bits).save(tmp_path / "pictures" / f"{name}.png")
    assert call(monkeypatch, "embed", folder, "--data", tmp_path / "pictures", "--out", tmp_path / "z.npz") == 0
    found = arrays(tmp_path / "z.npz")
    assert found["names"].tolist() == ["img2.png", "img10.png"]
    np.testing.assert_allclose(found["z"], expected[[6, 5]], atol=1e-5)


def test_interpolate_writes_paths(made, monkeypatch, tmp_path, capsys):
    folder, model = made
    test = lnz.data.load("binary_digits").test
    arguments = ["--rows", "3,4", "--rows", "5,0", "--num", "4", "--out", tmp_path / "paths.npz"]
    assert call(monkeypatch, "interpolate", folder, *arguments) == 0
    found = arrays(tmp_path / "paths.npz")
    assert found["images"].shape == (2, 4, 64)
    assert found["rows"].tolist() == [[3, 4], [5, 0]]
    np.testing.assert_allclose(found["images"][1], lnz.latent.interpolate(model, test[5], test[0], 4), atol=1e-5)
    assert call(monkeypatch, "interpolate", folder, "--method", "lerp", "--num", "4") == 0
    with Image.open(folder / "interpolation.png") as picture:
        assert picture.width > 3 * picture.height
    assert "1 path of 4 steps (lerp)" in capsys.readouterr().out


def test_manipulate_moves_along_a_class_and_says_how_well(made, monkeypatch, tmp_path, capsys):
    folder, _ = made
    out = tmp_path / "more.npz"
    assert call(monkeypatch, "manipulate", folder, "--attribute", "3", "--strengths=-1,0,2", "--out", out) == 0
    found = arrays(out)
    splits = lnz.data.load("binary_digits")
    assert splits.labels is not None
    assert found["images"].shape == (6, 3, 64)
    assert (splits.labels[2][found["rows"]] == 3).tolist() == [False] * 3 + [True] * 3
    printed = capsys.readouterr().out
    words = f"learnt from {len(splits.train)} rows (training split) and measured on 360 others (test split)"
    assert f"3 (mean_difference), vector and classifiers {words}" in printed
    assert re.search(r"flip rate .* of the \d+ reconstructions that were classified correctly", printed)
    assert "leakage         not measured: no other attributes were given" in printed
    assert "identity kept" in printed


def test_manipulate_takes_labels_from_a_table(made, monkeypatch, tmp_path, capsys):
    folder, _ = made
    splits = lnz.data.load("binary_digits")
    assert splits.labels is not None
    np.save(tmp_path / "rows.npy", splits.test)
    labels = splits.labels[2]
    lines = [f"{int(label > 4)},{int(label % 2)},{label / 7}" for label in labels]
    (tmp_path / "labels.csv").write_text("\n".join(["large,odd,size", *lines]) + "\n")
    arguments = ["--data", tmp_path / "rows.npy", "--labels", tmp_path / "labels.csv"]
    balanced = ["--attribute", "large", "--method", "balanced", "--other", "odd", "--rows", "1,2"]
    out = tmp_path / "rows.npz"
    assert call(monkeypatch, "manipulate", folder, *arguments, *balanced, "--strengths=0", "--out", out) == 0
    found = arrays(out)
    assert found["rows"].tolist() == [1, 2]
    model = lnz.load(folder / "model.lnz")
    expected = lnz.latent.decode(model, lnz.latent.embed(model, splits.test[1:3]))
    np.testing.assert_allclose(found["images"][:, 0], expected, atol=1e-5)
    capsys.readouterr()
    assert call(monkeypatch, "manipulate", folder, *arguments, *balanced) == 0
    printed = capsys.readouterr().out
    files = f"of {tmp_path / 'rows.npy'}, by {tmp_path / 'labels.csv'}"
    assert (
        f"large (balanced), vector and classifiers learnt from 252 rows ({files}) and measured on 108 others" in printed
    )
    assert "of all 108 reconstructions change their class in odd" in printed
    assert "class in size" not in printed  # not of 0 and 1
    assert (folder / "manipulation.png").is_file()
    assert call(monkeypatch, "manipulate", folder, *arguments) == 2
    assert "must name one of the 3 columns" in capsys.readouterr().err
    assert call(monkeypatch, "manipulate", folder, *arguments, "--attribute", "lage") == 2
    assert "Did you mean 'large'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["interpolate", "--rows", "0,1000"], "'1000' is not a row number; rows go from 0 to 359"),
        (["interpolate", "--rows", "3"], "two row numbers"),
        (["interpolate", "--method", "arc"], "'slerp' or 'lerp'"),
        (["interpolate", "--num", "1"], "at least 2"),
        (["interpolate", "--out", "a.jpg"], "must end in one of .png, .npz"),
        (["embed", "--out", "a.png"], "must end in one of .npz, .csv, .parquet"),
        (["manipulate"], "needs `--attribute NAME`"),
        (["manipulate", "--attribute", "33"], "Unknown class '33'"),
        (["manipulate", "--attribute", "3", "--strengths", "0,b"], "numbers with commas between them"),
        (["manipulate", "--attribute", "3", "--method", "best"], "'mean_difference', 'balanced'"),
        (["manipulate", "--labels", "a.csv"], "give that file with `--data FILE`"),
        (["embed", "--out", "z.npz", "--set", "data.header=yes"], "give them with `--data FILE`"),
        (["interpolate", "--set", "data.missing=mask"], "only how `--data FILE` is read (data.binarize, data.header)"),
        (["manipulate", "--attribute", "3", "--other", "4"], "exclude one another"),
    ],
)
def test_mistakes_are_told_in_a_sentence(made, monkeypatch, capsys, untyped, arguments, message):
    command, *rest = arguments
    assert call(monkeypatch, command, made[0], *rest) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_models_without_latents_are_refused(monkeypatch, tmp_path, capsys):
    folder = write_run(tmp_path / "coins", lnz.Bernoulli(jnp.zeros(64)))
    for command in (["embed", "--out", "z.npz"], ["interpolate"], ["manipulate", "--attribute", "3"]):
        name, *rest = command
        assert call(monkeypatch, name, folder, *rest) == 2
        assert "(Bernoulli) has no latents" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::lnz.UnreliableEstimateWarning")  # of a model that has learned nothing
def test_evaluate_takes_the_bound_apart(made, monkeypatch, capsys, tmp_path):
    from lnz.cli import _use

    monkeypatch.setattr(_use, "_MOST_DIAGNOSED", 6)
    monkeypatch.setattr(_use, "_NUM_SIMULATED", 2)
    folder, _ = made
    assert call(monkeypatch, "evaluate", folder, "--diagnose") == 0
    out = capsys.readouterr().out
    for words in (
        "ELBO",
        "reconstruction",
        "KL(q(z|x) || p(z))",
        "active units",
        "annealing the model's own examples from both sides: 2 rows\n",
        "\nmean log p(x) of 2 examples drawn from the model itself: [",
    ):
        assert words in out
    bits = write_run(tmp_path / "bits", lnz.Bernoulli(jnp.zeros(64)))
    assert call(monkeypatch, "evaluate", bits, "--diagnose") != 0
    assert "`--diagnose` needs a model with latents" in capsys.readouterr().err


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """The folder of a run with one latent, and its model, whose encoder is the prior."""
    to_pixels = lnz.nets.Linear.from_parameters(0.5 * jr.normal(jr.key(0), (64, 1)), jnp.zeros(64))
    to_latent = lnz.nets.Linear.from_parameters(jnp.zeros((1, 64)), jnp.zeros(1))
    decoder, encoder = (
        lnz.distributions.ConditionalBernoulli(to_pixels),
        lnz.distributions.ConditionalNormal(to_latent, jnp.ones(1)),
    )
    model = lnz.latent.VAE(lnz.Normal.standard(1), decoder, encoder)
    return write_run(tmp_path_factory.mktemp("runs") / "narrow", model), model


def test_evaluate_anneals_beside_importance_sampling(narrow, monkeypatch, tmp_path, capsys):
    """Two rows of the same examples, both at the integral over the latent within their errors."""
    folder, model = narrow
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    out = tmp_path / "rows.json"
    options = ["--num-rows", "20", "--num-chains", "16", "--num-betas", "30", "--out", out]
    assert call(monkeypatch, "evaluate", folder, "--ais", *options) == 0
    printed = " ".join(capsys.readouterr().out.split())
    test = lnz.data.load("binary_digits").test
    rows = test[np.arange(20) * len(test) // 20]
    exact = lnz.evaluate(jr.key(0), model, rows, hidden=lnz.normalizers.Quadrature(bounds=(-8.0, 8.0)))
    found = json.loads(out.read_text())
    assert list(found) == ["independent_digits", "independent_digits (AIS)"]
    for row in found.values():
        assert row["bound"] == "lower"
        assert row["of"] == dataclasses.asdict(exact.of)
        assert abs(row["value"] - exact.value) < 4 * row["monte_carlo_error"] < 0.2
    for words in (
        "20 rows, evenly spaced, of: test part of binary_digits",
        "AIS(num_chains=16, betas=30, sampler=HMC(step_size=",
        "annealed from q(z | x)",
        "narrow (AIS) minus narrow: ",
        "annealing: 20 rows",
    ):
        assert words in printed
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before


@pytest.mark.filterwarnings("ignore::lnz.UnreliableEstimateWarning")  # of two chains
def test_evaluate_keeps_an_annealed_row_of_the_whole_test_split(narrow, monkeypatch, capsys):
    monkeypatch.setattr("lnz.plots.write_report", lambda path, runs: None)
    folder, _ = narrow
    options = ["--num-rows", "360", "--num-chains", "2", "--num-betas", "2"]
    assert call(monkeypatch, "evaluate", folder, "--ais", *options) == 0
    assert list(Run.read(folder).rows) == ["independent_digits", "independent_digits (AIS)"]
    capsys.readouterr()
    assert call(monkeypatch, "compare", folder) == 0
    assert "narrow (AIS) minus narrow: " in capsys.readouterr().out


def without_latents(folder):
    return write_run(folder, lnz.Bernoulli(jnp.zeros(64)))


def in_a_box(folder):
    flow = lnz.Transformed(lnz.Normal.standard(64), lnz.bijections.ToSupport(lnz.Interval(64, 0.0, 2.0)))
    return write_run(folder, lnz.latent.Dequantised(flow, lnz.Binary(64)))


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (without_latents, ["--ais"], "`--ais` needs a model with latents"),
        (in_a_box, ["--ais"], "moves latents by HMC, which needs a Euclidean space"),
        (None, ["--num-chains", "5"], "`--num-chains` belongs to `--ais`"),
        (None, ["--ais", "--num-chains", "1"], "`--num-chains` must be at least 2"),
        (None, ["--ais", "--num-betas", "0"], "`--num-betas` must be at least 1"),
        (None, ["--num-rows", "361"], "`--num-rows` must be from 1 to 360"),
    ],
)
def test_what_cannot_be_annealed_is_told_in_a_sentence(narrow, monkeypatch, tmp_path, capsys, make, options, words):
    folder = narrow[0] if make is None else make(tmp_path / "other")
    assert call(monkeypatch, "evaluate", folder, *options) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
