"""Expectation maximisation: monotone, right by hand, and able to find what was planted, wherever it lies."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
import table

import lnz
from lnz.data import UnboundedDensityWarning, smallest_gaps

RANDOM = np.random.RandomState(0)
BITS = (RANDOM.uniform(size=(60, 4)) < 0.5).astype(np.uint8)
NUMBERS = np.concatenate([RANDOM.normal(-1.0, 0.5, size=(40, 1)), RANDOM.normal(1.5, 1.0, size=(20, 1))])


# Correlated, in two clusters.
PLANE = (
    RANDOM.normal(size=(300, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]]) + np.where(np.arange(300) < 120, 8, 0)[:, None]
)
HOLES = RANDOM.uniform(size=PLANE.shape) < 0.7  # some rows have no known entry


def full(num):
    """As many normals of full covariance in the plane."""
    return jax.vmap(lnz.MultivariateNormal)(jnp.zeros((num, 2)), jnp.tile(jnp.eye(2), (num, 1, 1)))


REAL = {
    "normal": lambda: lnz.Normal(jnp.zeros(2), 1.0),
    "multivariate_normal": lambda: lnz.MultivariateNormal(jnp.zeros(2), jnp.eye(2)),
    "mixture_of_normals": lambda: lnz.Mixture(jnp.zeros(2), lnz.Normal(jnp.zeros((2, 2)), jnp.ones((2, 2)))),
    "mixture_of_multivariate_normals": lambda: lnz.Mixture(jnp.zeros(2), full(2)),
}
real = pytest.mark.parametrize("name", REAL)


def squared(factors):
    return factors @ factors.swapaxes(1, 2)


def components(model):
    """Means and covariances, in order of the first mean."""
    parts = model.components if isinstance(model, lnz.Mixture) else model
    loc = np.asarray(parts.loc, np.float64).reshape(-1, 2)
    if isinstance(parts, lnz.Normal):
        covariance = np.stack([np.diag(scale**2) for scale in np.asarray(parts.scale, np.float64).reshape(-1, 2)])
    elif isinstance(model, lnz.Mixture):
        covariance = squared(np.asarray(eqx.filter_vmap(lambda part: part.scale_tril)(parts), np.float64))
    else:
        covariance = squared(np.asarray(parts.scale_tril, np.float64)[None])
    order = np.argsort(loc[:, 0])
    return loc[order], covariance[order]


@pytest.mark.parametrize("unit", [1.0, 1e-20, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1e5])
@real
def test_a_fit_moves_with_its_data(name, offset, unit, precision):
    """Offsets in standard deviations; units whose squares underflow in float32. Nothing is rescaled in silence."""
    dtype = np.dtype(precision)
    moved = (unit * (PLANE + offset)).astype(dtype)
    fit = lnz.fit(jr.key(0), REAL[name](), lnz.EM(), moved, steps=20)
    still = lnz.fit(jr.key(0), REAL[name](), lnz.EM(), PLANE.astype(dtype), steps=20)
    tolerance = max(1e-3, 4 * float(np.spacing(dtype.type(offset))))  # of a standard deviation of one
    (loc, covariance), (still_loc, still_covariance) = components(fit.model), components(still.model)
    np.testing.assert_allclose(loc / unit - offset, still_loc, atol=tolerance)
    np.testing.assert_allclose(covariance / unit**2, still_covariance, atol=2 * tolerance * still_covariance.max())
    value = lnz.evaluate(jr.key(1), fit.model, moved).value + 2 * np.log(unit)
    assert value == pytest.approx(lnz.evaluate(jr.key(1), still.model, PLANE.astype(dtype)).value, abs=2 * tolerance)
    if name in ("normal", "multivariate_normal"):
        truth = np.cov(moved.astype(np.float64).T, ddof=0)
        truth = np.diag(np.diag(truth)) if name == "normal" else truth
        np.testing.assert_allclose(covariance[0], truth, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "data", "observed"),
    [
        (table.mixture_of_bernoullis, BITS, None),
        (table.mixture_of_normals, NUMBERS, None),
        (REAL["mixture_of_normals"], PLANE, HOLES),
        (REAL["multivariate_normal"], PLANE, HOLES),
        (REAL["mixture_of_multivariate_normals"], PLANE, HOLES),
    ],
    ids=["bits", "normals", "normals with holes", "full covariance with holes", "full covariances with holes"],
)
def test_log_likelihood_never_falls(make, data, observed, float64):
    history = lnz.fit(jr.key(0), make(), lnz.EM(), data, observed=observed, steps=30, watch=lnz.Watch(1)).history
    values = np.array([record["log_likelihood"] for record in history])
    assert np.all(np.diff(values) >= -1e-12)
    assert values[-1] > values[0] + 0.01


def test_one_step_on_bits_is_laplaces_rule(precision):
    model = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(2.0), BITS, steps=1).model
    np.testing.assert_allclose(model.probs, (BITS.sum(0) + 1) / (60 + 2), rtol=1e-6)


def test_a_second_step_on_one_family_changes_nothing():
    one, two = (lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(), BITS, steps=n).model for n in (1, 2))
    np.testing.assert_allclose(two.probs, one.probs, rtol=1e-6)
    np.testing.assert_allclose(one.probs, BITS.mean(axis=0), rtol=1e-5)


def test_one_step_on_categories_by_hand():
    data = np.array([[0, 2], [0, 1], [1, 2]])
    model = lnz.fit(jr.key(0), lnz.Categorical(jnp.zeros((2, 3))), lnz.EM(3.0), data, steps=1).model
    # Three pseudo-observations of three equally likely categories: one of each.
    counts = np.array([[2, 1, 0], [0, 1, 2]]) + 1
    np.testing.assert_allclose(jnp.exp(model.logits), counts / 6, rtol=1e-5)


def test_one_step_on_normals_by_hand():
    model = lnz.fit(jr.key(0), lnz.Normal.standard(1), lnz.EM(), NUMBERS, steps=1).model
    assert float(model.loc[0]) == pytest.approx(NUMBERS.mean(), rel=1e-5)
    assert float(model.scale[0]) == pytest.approx(NUMBERS.std(), rel=1e-5)


def test_one_step_on_a_mixture_by_hand(float64):
    start = table.mixture_of_bernoullis()
    _, state = lnz.EM(2.0).init(jr.key(0), start, jnp.asarray(BITS))
    model, _, metrics = lnz.EM(2.0).step(jr.key(0), start, state, jnp.asarray(BITS, float))
    weights, probs = np.asarray(start.weights), np.asarray(start.components.probs)
    joint = weights * np.prod(np.where(BITS[:, None, :] == 1, probs, 1 - probs), axis=2)  # [n, components]
    responsibility = joint / joint.sum(axis=1, keepdims=True)
    counts = responsibility.sum(axis=0)
    np.testing.assert_allclose(model.components.probs, (responsibility.T @ BITS + 1) / (counts[:, None] + 2))
    np.testing.assert_allclose(model.weights, (counts + 2) / (60 + 6))
    assert float(metrics["log_likelihood"]) == pytest.approx(np.log(joint.sum(axis=1)).mean())


def test_a_planted_mixture_is_found():
    probs = np.array([[0.9] * 6 + [0.1] * 6, [0.1] * 6 + [0.9] * 6])
    label = np.arange(400) < 280
    data = (RANDOM.uniform(size=(400, 12)) < probs[label.astype(int)]).astype(np.uint8)
    start = lnz.Mixture(jnp.zeros(2), lnz.Bernoulli(jnp.zeros((2, 12))))
    model = lnz.fit(jr.key(0), start, lnz.EM(1.0), data, steps=50).model
    order = np.argsort(np.asarray(model.weights))
    # Errors: sqrt(0.7 0.3 / 400) = 0.023 of a weight, sqrt(0.9 0.1 / 120) = 0.027 of a probability (and 24 of
    # them): four and five of those.
    np.testing.assert_allclose(np.asarray(model.weights)[order], [0.3, 0.7], atol=0.1)
    np.testing.assert_allclose(np.asarray(model.components.probs)[order], probs, atol=0.14)


def test_more_components_than_rows():
    start = lnz.Mixture(jnp.zeros(5), lnz.Bernoulli(jnp.zeros((5, 4))))
    model = lnz.fit(jr.key(0), start, lnz.EM(1.0), BITS[:3], steps=3).model
    assert bool(jnp.all(jnp.isfinite(model.components.logits)))


def test_a_pixel_that_is_never_on_has_probability_zero():
    """The likelihood's optimum, exactly; smoothing keeps test examples possible."""
    data = BITS.copy()
    data[:, 0] = 0
    fit = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(), data, steps=1)
    assert fit.model.probs[0] == 0
    assert np.all(np.isfinite(jax.vmap(fit.model.log_prob)(jnp.asarray(data, float))))
    assert fit.model.log_prob(jnp.array([1.0, 0.0, 0.0, 0.0])) == -jnp.inf
    smooth = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(1.0), data, steps=1)
    assert np.isfinite(smooth.model.log_prob(jnp.array([1.0, 0.0, 0.0, 0.0])))


@pytest.mark.parametrize("make", [table.rbm, table.DISTRIBUTIONS["laplace"]], ids=["rbm", "laplace"])
def test_em_says_what_it_trains(make):
    model = make()
    data = np.zeros((5, *model.space.shape), np.float32)
    with pytest.raises(TypeError, match=rf"`MultivariateNormal` and mixtures of these, .*; got {type(model).__name__}"):
        lnz.fit(jr.key(0), model, lnz.EM(), data, steps=1)


def test_negative_smoothing():
    with pytest.raises(ValueError, match=r"`EM\(smoothing=...\)` must not be negative; got -1.0"):
        lnz.EM(-1.0)


def test_clusters_are_found_from_every_seed():
    """Eight standard deviations apart; from random rows three seeds of eight found them."""
    x = np.concatenate([RANDOM.normal(size=(300, 1)), 8 + RANDOM.normal(size=(300, 1))]).astype(np.float32)
    start = lnz.Mixture(jnp.zeros(2), lnz.Normal(jnp.zeros((2, 1)), jnp.ones((2, 1))))
    log_prob = scipy.stats.norm(np.array([0.0, 8.0])).logpdf(x.astype(np.float64))
    best = np.mean(np.logaddexp(*log_prob.T) - np.log(2))
    for seed in range(8):
        history = lnz.fit(jr.key(seed), start, lnz.EM(), x, steps=20, watch=lnz.Watch(20)).history
        assert history[-1]["log_likelihood"] > best - 0.01


ROUNDED = np.round(RANDOM.normal(size=(200, 2)) * 3, 1) + 20.0


@pytest.mark.parametrize("name", ["mixture_of_normals", "mixture_of_multivariate_normals"])
def test_a_floor_has_no_effect_on_continuous_columns(name, precision):
    free, held = (lnz.fit(jr.key(0), REAL[name](), method, PLANE, steps=10) for method in (lnz.EM(floor=0), lnz.EM()))
    for one, other in zip(jax.tree.leaves(free.model), jax.tree.leaves(held.model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert held.history[-1]["scales_at_floor"] == 0


@pytest.mark.parametrize("make", [lambda: lnz.Normal(jnp.zeros((20, 2)), jnp.ones((20, 2))), lambda: full(20)])
def test_no_component_is_narrower_than_a_tenth_of_the_rounding(make, precision):
    with pytest.warns(UnboundedDensityWarning):
        fit = lnz.fit(
            jr.key(0), lnz.Mixture(jnp.zeros(20), make()), lnz.EM(), ROUNDED[:60], steps=60, watch=lnz.Watch(1)
        )
    told = re.search(r"(\d+) of 40 standard deviations of the model are below a tenth", fit.warnings[-1])
    assert told is not None
    assert 0 < int(told[1]) <= fit.history[-1]["scales_at_floor"]
    scales = np.asarray(eqx.filter_vmap(lambda p: p.scales)(fit.model.components))
    # float32 keeps 20.1 to five digits of a hundredth.
    assert scales.min() >= 0.01 * (1 - 1e-4)
    assert fit.history[-1]["scales_at_floor"] == np.sum(scales < 0.01 * (1 + 1e-4)) > 0


def test_repeated_rows_break_nothing():
    """A sensor that got stuck, and more components than there are different rows."""
    x = np.concatenate([RANDOM.normal(size=(300, 2)), np.full((40, 2), 1.5)]).astype(np.float32)
    ten = lnz.Mixture(jnp.zeros(10), lnz.Normal(jnp.zeros((10, 2)), jnp.ones((10, 2))))
    with pytest.warns(UnboundedDensityWarning):
        fit = lnz.fit(jr.key(0), ten, lnz.EM(), x, steps=100)
    assert "39 of 340 rows repeat another one" in fit.warnings[0]
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(fit.model.components))
    with pytest.warns(UnboundedDensityWarning):
        result = lnz.evaluate(jr.key(1), fit.model, x)
    assert result.warnings == tuple(fit.warnings)
    assert result.kind == "exact, with a warning"
    with pytest.warns(UnboundedDensityWarning, match="20 of 20 standard deviations"):
        few = lnz.fit(jr.key(0), ten, lnz.EM(), np.repeat(x[:3], 5, axis=0), steps=20).model
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(few.components))


@pytest.mark.parametrize("name", ["fewer rows than columns", "half as many components as rows", "the same with holes"])
def test_a_fit_that_sits_on_single_rows_says_so(name, precision):
    """Continuous data with nothing wrong, and a model with room for each row."""
    x = RANDOM.normal(size=(8, 20) if "columns" in name else (120, 2)).astype(precision) + 50
    observed = HOLES[:120] if "holes" in name else None
    base = lnz.MultivariateNormal(jnp.zeros(20), jnp.eye(20))
    if "columns" not in name:
        base = lnz.Mixture(jnp.zeros(60), lnz.Normal(jnp.zeros((60, 2)), jnp.ones((60, 2))))
    for model in (base, lnz.Transformed(base, lnz.flows.standardise(x))):
        with pytest.warns(UnboundedDensityWarning):
            fit = lnz.fit(jr.key(0), model, lnz.EM(), x, observed=observed, steps=100, watch=lnz.Watch(100))
        with pytest.warns(UnboundedDensityWarning):
            result = lnz.evaluate(jr.key(1), fit.model, x, observed=observed)
        assert "standard deviations of the model are below a tenth" in fit.warnings[0]
        assert fit.warnings[0] in result.warnings
        assert "with a warning" in result.kind


def test_what_has_no_bound_is_refused_with_advice_that_works():
    x = PLANE.astype(np.float32).copy()
    x[:, 1] = 7
    with pytest.raises(ValueError, match=r"column 1 has one value only, 7, .* give `EM\(floor=...\)`"):
        lnz.fit(jr.key(0), REAL["normal"](), lnz.EM(), x, steps=1)
    with pytest.warns(UserWarning, match="column 1 has only 1 different value"):
        model = lnz.fit(jr.key(0), REAL["normal"](), lnz.EM(floor=0.5), x, steps=1).model
    assert float(model.scale[1]) == pytest.approx(0.5)
    for name in REAL:
        with pytest.raises(ValueError, match=r"`EM\(smoothing=1.0\)`: .*Leave `smoothing` out.*`EM\(floor=0.1\)`"):
            lnz.fit(jr.key(0), REAL[name](), lnz.EM(smoothing=1.0), PLANE, steps=1)
        lnz.fit(jr.key(0), REAL[name](), lnz.EM(floor=0.1), PLANE, steps=1)
    with pytest.raises(ValueError, match=r"needs one number, or the shape of an example, \(2,\); got \(3,\)"):
        lnz.fit(jr.key(0), REAL["normal"](), lnz.EM(floor=jnp.ones(3)), PLANE, steps=1)
    with pytest.raises(ValueError, match="must be finite standard deviations"):
        lnz.EM(floor=-1.0)
    with pytest.raises(ValueError, match="is for normals; a Mixture of Bernoulli has no scale"):
        lnz.fit(jr.key(0), table.mixture_of_bernoullis(), lnz.EM(floor=0.1), BITS, steps=1)


def log_prob_of_known(model, x, known):
    """By SciPy, in float64."""
    loc, covariance = components(model)
    order = np.argsort(np.asarray(model.components.loc)[:, 0]) if isinstance(model, lnz.Mixture) else [0]
    weights = np.asarray(model.weights)[order] if isinstance(model, lnz.Mixture) else [1.0]
    total = 0.0
    for weight, mean, square in zip(weights, loc, covariance, strict=True):
        part = scipy.stats.multivariate_normal(mean[known], square[np.ix_(known, known)]) if known.any() else None
        total += weight * (part.pdf(x[known]) if part else 1.0)
    return np.log(total)


@real
def test_missing_entries_are_integrated_out(name, precision):
    fit = lnz.fit(jr.key(0), REAL[name](), lnz.EM(), PLANE, observed=HOLES, steps=40)
    with pytest.warns(UnboundedDensityWarning, match="of 300 rows have no known entry, first row"):
        result = lnz.evaluate(jr.key(1), fit.model, np.where(HOLES, PLANE, np.nan), observed=HOLES)
    expected = [log_prob_of_known(fit.model, x, known) for x, known in zip(PLANE, HOLES, strict=True)]
    np.testing.assert_allclose(result.per_example, expected, atol=2e-4 if precision == "float32" else 1e-9)
    assert result.bound == "exact"
    complete = lnz.evaluate(jr.key(1), fit.model, PLANE, observed=np.ones_like(HOLES)).value
    assert complete == pytest.approx(lnz.evaluate(jr.key(1), fit.model, PLANE).value, abs=1e-4)


@real
def test_a_fit_with_missing_entries_is_a_maximum(name, float64):
    """Of the likelihood of the known entries: no direction is left to climb."""
    model = lnz.fit(jr.key(0), REAL[name](), lnz.EM(), PLANE, observed=HOLES, steps=400).model

    @eqx.filter_grad
    def slope(model):
        return jnp.mean(jax.vmap(model.marginal_log_prob)(jnp.where(HOLES, PLANE, 0), HOLES))

    for leaf in jax.tree.leaves(slope(model)):
        np.testing.assert_allclose(leaf, np.zeros(leaf.shape), atol=1e-5)


@pytest.mark.parametrize("observed", [None, HOLES | (np.arange(2) == 0)], ids=["complete", "holes"])
def test_in_standard_units_it_is_the_same_fit(observed, precision):
    """Far from zero: the base is trained, and the affine map stays."""
    x = 1e3 + 50 * PLANE
    affine = lnz.flows.standardise(x)
    flow = lnz.Transformed(REAL["multivariate_normal"](), affine)
    fits = [lnz.fit(jr.key(0), model, lnz.EM(), x, observed=observed, steps=60) for model in (flow, flow.base)]
    assert eqx.tree_equal(fits[0].model.bijection, affine)
    values = [lnz.evaluate(jr.key(1), fit.model, x, observed=observed).value for fit in fits]
    assert values[0] == pytest.approx(values[1], abs=2e-3)
    assert fits[0].history[-1]["log_likelihood"] == pytest.approx(values[0], abs=2e-3)


def test_families_without_marginals_refuse_missing_entries():
    with pytest.raises(TypeError, match=r"as normals and mixtures of normals can; got Bernoulli.*objectives\.Imputed"):
        lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(4)), lnz.EM(), BITS, observed=BITS == 0, steps=1)
    laplace = table.DISTRIBUTIONS["laplace"]()
    with pytest.raises(TypeError, match=r"`observed`, or a masked array, needs a model .*; got Laplace"):
        lnz.evaluate(jr.key(0), laplace, np.ones((3, 1)), observed=np.ones((3, 1), bool))


def test_a_floor_is_narrower_than_clusters_far_apart():
    """Two clusters of sd 0.01 whose distance is 1e5, and float32 steps of one of them wider than its spread."""
    z = 0.01 * np.random.RandomState(0).normal(size=(200, 1))
    x = np.concatenate([z, z[:100] + 1e5]).astype(np.float32)
    gaps = smallest_gaps(x)
    assert gaps[0] < 0.001
    far = np.concatenate([1e9 + 6000 * z, 2e9 + 6000 * z])
    assert smallest_gaps(far)[0] < 10
    assert smallest_gaps(far.astype(np.float32))[0] < 300  # the steps of float32, not the distance of the clusters


def test_an_array_on_disk_is_read_into_memory(tmp_path):
    np.save(tmp_path / "x.npy", PLANE)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    for data in (on_disk, on_disk[:200]):
        fitted = lnz.fit(jr.key(0), REAL["normal"](), lnz.EM(), data, steps=1).model
        np.testing.assert_allclose(fitted.loc, np.mean(data, axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"`EM` needs all rows at every step, .* give `fit` the array itself"):
        lnz.fit(jr.key(0), REAL["normal"](), lnz.EM(), lnz.data.Stream(on_disk), steps=1, batch_size=10)
