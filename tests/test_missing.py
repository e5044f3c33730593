"""Training on examples of which some entries are missing, against the exact likelihood of the known ones."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.stats
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
    coded = model.space.cast(lnz.data._missing.mark_missing(model.space, data, observed), jnp.float64)
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
    coded = model.space.cast(lnz.data._missing.mark_missing(model.space, data, observed), jnp.float64)
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
        method = lnz.Gradient(objective, optax.sgd(optax.linear_schedule(0.2, 0.0, 10_000)))
        rbm = RBM(16, 12, key=jr.key(1))
        model = lnz.fit(jr.key(0), rbm, method, data, steps=10_000, batch_size=50, **options).model
        return lnz.evaluate(jr.key(2), model, splits.test)

    known = train(Imputed(PCD(1), num_sweeps=3), splits.train, observed=observed)
    filled = train(PCD(1), zeros)
    # The data's own entropy is at least log 30 = 3.4 nats; independent pixels have 16 log 2 = 11.1.
    assert known.value > -6
    assert known.value > filled.value + 2  # twenty standard errors


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
    with pytest.raises(TypeError, match="`observed` must be true and false"):
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


@pytest.fixture
def table_with_holes(tmp_path):
    """Bits of 64 columns, a tenth of the cells empty, in three formats."""
    x = np.asarray(lnz.data.load("binary_digits").train[:400])
    known = holes(x, 0.1)
    cells = np.where(known, x.astype(str), "")
    path = tmp_path / "holes.csv"
    path.write_text("\n".join([",".join(f"p{i}" for i in range(64)), *(",".join(row) for row in cells)]) + "\n")
    return path, x, known


def test_empty_cells_are_missing_only_when_asked_for(table_with_holes, tmp_path):
    path, x, known = table_with_holes
    with pytest.raises(ValueError, match=r'columns "p0", .* have missing values .* `missing="mask"`'):
        lnz.data.load(path)
    splits = lnz.data.load(path, missing="mask", seed=3)
    assert splits.space == lnz.Binary(64)
    assert splits.observed is not None
    assert f"{1 - known.mean():.2%} of entries missing" in splits.protocol
    order = lnz.data._splits.shuffled(400, 40, 80, 3)
    parts = zip((splits.train, splits.valid, splits.test), splits.observed, order, strict=True)
    for rows, observed, index in parts:
        np.testing.assert_array_equal(observed, known[index])
        np.testing.assert_array_equal(rows, np.where(known, x, 0)[index])
    # Other formats say the same.
    floats = np.where(known, x, np.nan).astype(np.float32)
    np.save(tmp_path / "holes.npy", floats)
    np.savez(tmp_path / "holes.npz", floats)
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {f"p{i}": pyarrow.array(np.where(known[:, i], x[:, i], 0), mask=~known[:, i]) for i in range(64)}
    pq.write_table(pyarrow.table(columns), tmp_path / "holes.parquet")
    for name in ("holes.npy", "holes.npz", "holes.parquet"):
        other = lnz.data.load(tmp_path / name, missing="mask", seed=3)
        np.testing.assert_array_equal(other.train, splits.train)
        np.testing.assert_array_equal(other.observed[0], splits.observed[0])


def test_a_table_without_holes_has_no_mask(tmp_path):
    np.save(tmp_path / "x.npy", np.random.RandomState(0).normal(size=(40, 3)))
    splits = lnz.data.load(tmp_path / "x.npy", missing="mask")
    assert splits.observed is None
    assert "missing" not in splits.protocol


def test_infinite_values_and_empty_columns_are_still_refused(tmp_path):
    x = np.random.RandomState(0).normal(size=(40, 3))
    x[2, 1] = np.inf
    np.save(tmp_path / "inf.npy", x)
    with pytest.raises(ValueError, match="infinite value"):
        lnz.data.load(tmp_path / "inf.npy", missing="mask")
    x[:, 1] = np.nan
    np.save(tmp_path / "column.npy", x)
    with pytest.raises(ValueError, match="no known value at all in column 1"):
        lnz.data.load(tmp_path / "column.npy", missing="mask")
    with pytest.raises(ValueError, match="resident_limit"):
        lnz.data.load(tmp_path / "inf.npy", missing="mask", resident_limit=10)


def test_a_recipe_trains_and_scores_with_holes(table_with_holes, tmp_path, monkeypatch, capsys):
    from lnz.cli import main

    path, x, known = table_with_holes
    monkeypatch.chdir(tmp_path)

    def lnz_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["lnz", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr()

    small = ["--set", "model.num_hidden=6", "--set", "train.steps=50", "--set", "evaluate.num_betas=50"]
    small += ["--set", "train.valid_every=50", "--set", "evaluate.num_chains=10", "--set", "data.missing=mask"]
    code, said = lnz_command("train", "rbm_digits_exact", "--data", str(path), "--out", "run", *small)
    assert not code, said.err
    code, said = lnz_command("score", "run", "--data", str(path), "--out", "scores.csv")
    assert not code, said.err
    scores = np.loadtxt("scores.csv", delimiter=",", skiprows=1, usecols=(0, 1))
    # Against the exact likelihood of the known entries of a few rows.
    model = lnz.load("run/model.lnz")
    log_z = float(Quadrature()(jr.key(0), model).value)
    for row in (0, 7):
        clamped = model.clamp(jnp.asarray(x[row], jnp.float32), jnp.asarray(known[row]))
        exact = float(Quadrature()(jr.key(0), clamped).value) - log_z
        assert scores[row, 1] == pytest.approx(exact, abs=2e-3)  # float32 sums of numbers near 40
    code, said = lnz_command(
        "train", "mixture_digits", "--data", str(path), "--out", "other", "--set", "data.missing=mask"
    )
    assert code == 2
    assert "missing entries" in said.err


@pytest.mark.filterwarnings("ignore:.* rows have no known entry:UserWarning")
@pytest.mark.parametrize("name", ["normal", "mixture_of_normals"])
def test_recipes_of_tables_learn_from_known_cells(name):
    slope = 2.0 if name == "normal" else 0.0  # two components of independent columns hold no strong correlation
    x = np.random.RandomState(0).normal(size=(300, 2)) @ np.array([[3.0, slope], [0.0, 0.5]]) + [1e5, -5.0]
    known = [holes(part, 0.3, seed) for seed, part in enumerate((x[:200], x[200:250], x[250:]))]
    parts = [np.where(mask, part, 0) for mask, part in zip(known, (x[:200], x[200:250], x[250:]), strict=True)]
    splits = lnz.data.Splits("made.csv", lnz.Euclidean(2), *parts, None, "made", observed=tuple(known))
    recipe = getattr(lnz.recipes, name)
    settings = recipe.resolve({"train.steps": 30} | ({"model.num_components": 2} if "mix" in name else {}))
    model = recipe.fit(splits, settings).model
    score = recipe.score(model, splits.test, settings, splits.observed[2])
    assert score.bound == "exact"
    assert "no scale below 0.1 of the smallest gap" in score.how
    # Of the right normal; a model that took holes for zeros would lie at 7e4.
    right = scipy.stats.multivariate_normal([1e5, -5.0], [[9.0, 3 * slope], [3 * slope, slope**2 + 0.25]])
    expected = []
    for row, mask in zip(x[250:], known[2], strict=True):
        index = np.flatnonzero(mask)
        part = (
            scipy.stats.multivariate_normal(right.mean[index], right.cov[np.ix_(index, index)]) if len(index) else None
        )
        expected.append(part.logpdf(row[index]) if part else 0.0)
    assert score.value == pytest.approx(np.mean(expected), abs=0.15)
