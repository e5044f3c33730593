"""Tools of latent spaces, against models whose answer is known: linear decoders, and the geometry of circles."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

import lnz
from lnz import latent
from lnz.latent._logistic import LogisticRegression

DIM = 4
PIXELS = 8


def linear_model(seed=0):
    """`x = A z + noise` with orthonormal columns of A, and the encoder that inverts it."""
    A = jnp.linalg.qr(jr.normal(jr.key(seed), (PIXELS, DIM)))[0]
    decoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(A, jnp.ones(PIXELS)), 0.1 * jnp.ones(PIXELS)
    )
    encoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(A.T, -A.T @ jnp.ones(PIXELS)), 0.1 * jnp.ones(DIM)
    )
    return latent.VAE(lnz.Normal.standard(DIM), decoder, encoder), np.asarray(A)


@functools.cache
def planted(num=2000):
    """Rows of a linear model, whose latent 0 carries an attribute and latent 1 another, correlated with it."""
    model, A = linear_model()
    random = np.random.default_rng(0)
    smile = random.random(num) < 0.5
    other = np.where(random.random(num) < 0.9, smile, ~smile)
    z = random.standard_normal((num, DIM)) * np.array([0.5, 0.5, 1, 1])
    z[:, 0] += np.where(smile, 1.5, -1.5)
    z[:, 1] += np.where(other, 1.5, -1.5)
    x = z @ A.T + 1 + 0.05 * random.standard_normal((num, PIXELS))
    return model, x.astype(np.float32), smile, other


# Embedding and decoding


def test_embedding_inverts_a_linear_decoder_in_any_chunks():
    model, A = linear_model()
    z = np.random.default_rng(0).standard_normal((7, DIM)).astype(np.float32)
    x = latent.decode(model, z)
    np.testing.assert_allclose(x, z @ A.T + 1, atol=1e-5)
    np.testing.assert_allclose(latent.embed(model, x), z, atol=1e-5)
    np.testing.assert_allclose(latent.embed(model, x, batch_size=3), z, atol=1e-5)
    drawn = latent.reconstruct(model, x, key=jr.key(0))
    np.testing.assert_array_equal(drawn, latent.reconstruct(model, x, key=jr.key(0), batch_size=2))
    assert 0.01 < np.std(drawn - x) < 0.2  # of the posterior's scale 0.1 half of the pixels' directions see a part
    assert len(np.unique(drawn - x)) == x.size  # each row has noise of its own


def test_means_without_closed_form_are_averages():
    """A posterior pushed through exp: the mean of a log-normal."""
    model, _ = linear_model()
    encoder = lnz.Conditional(
        lnz.Transformed(lnz.Normal(jnp.zeros(DIM), 0.3), lnz.bijections.Exp(lnz.Positive(DIM))),
        eqx.nn.Lambda(lambda x: jnp.zeros(2 * DIM)),
    )
    model = latent.VAE(
        lnz.Transformed(lnz.Normal.standard(DIM), lnz.bijections.Exp(lnz.Positive(DIM))), model.decoder, encoder
    )
    x = np.zeros((2, PIXELS), np.float32)
    with pytest.raises(ValueError, match=r"embed\(key=None\).*no closed form"):
        latent.embed(model, x)
    means = latent.embed(model, x, key=jr.key(0), num_draws=4000)
    error = np.exp(0.045) * np.sqrt(np.expm1(0.09) / 4000)
    np.testing.assert_allclose(means, np.exp(0.045), atol=4 * error)  # 8 numbers: a false alarm in 2000


def test_models_without_latents_are_refused(untyped):
    no_latents: Any = lnz.Normal.standard(2)
    with pytest.raises(TypeError, match="needs a model with latents"):
        latent.embed(no_latents, np.zeros((1, 2)))
    model, _ = linear_model()
    blind = latent.VAE(model.prior, model.decoder, None)
    with pytest.raises(TypeError, match="needs an encoder"):
        latent.embed(blind, np.zeros((1, PIXELS)))
    assert latent.decode(blind, np.zeros((1, DIM))).shape == (1, PIXELS)
    with pytest.raises(ValueError, match=r"latents \[n, 4\]; got shape \(1, 3\)"):
        latent.decode(model, np.zeros((1, 3)))


# Paths


@functools.partial(jax.jit, static_argnums=0)
def along(path, z0, z1, ts):
    return jax.vmap(lambda t: path(z0, z1, t))(ts)


TS = jnp.linspace(0, 1, 9)
PAIRS = {
    "any": ([1.0, 2.0, -1.0], [0.3, -1.0, 2.0]),
    "near": ([1.0, 2.0, -1.0], [1.0, 2.0, -1.0001]),
    "parallel": ([1.0, 2.0, -1.0], [2.0, 4.0, -2.0]),
    "opposite": ([1.0, 2.0, -1.0], [-1.0, -2.0, 1.0]),
    "almost opposite": ([1.0, 2.0, -1.0], [-1.0, -2.0, 1.001]),
    "huge": ([1e30, 0.0, 0.0], [0.0, 1e30, 0.0]),
    "tiny": ([1e-30, 0.0, 0.0], [0.0, 1e-30, 0.0]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_slerp_turns_evenly_and_its_norm_changes_evenly(name, precision):
    z0, z1 = (jnp.array(z) for z in PAIRS[name])
    path = np.asarray(along(latent.slerp, z0, z1, TS.astype(z0.dtype)), np.float64)
    np.testing.assert_array_equal(path[0], np.asarray(z0, np.float64))
    np.testing.assert_array_equal(path[-1], np.asarray(z1, np.float64))
    norms = np.linalg.norm(path, axis=1)
    eps = float(jnp.finfo(z0.dtype).eps)
    np.testing.assert_allclose(norms, norms[0] + np.asarray(TS) * (norms[-1] - norms[0]), rtol=20 * eps)
    units = path / norms[:, None]
    # Angles between neighbours, by chords: arccos would lose them near zero.
    steps = 2 * np.arcsin(np.linalg.norm(np.diff(units, axis=0), axis=1) / 2)
    ends = 2 * np.arctan2(np.linalg.norm(units[0] - units[-1]), np.linalg.norm(units[0] + units[-1]))
    np.testing.assert_allclose(steps, ends / 8, atol=200 * eps)


def test_slerp_in_the_plane_is_a_circle():
    path = along(latent.slerp, jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), TS)
    angles = np.pi / 2 * np.asarray(TS)
    np.testing.assert_allclose(path, np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=1e-6)


def test_slerp_is_a_line_where_there_is_no_circle():
    for z0, z1 in (([0.0, 0.0], [1.0, 2.0]), ([2.0], [-1.0])):
        z0, z1 = jnp.array(z0), jnp.array(z1)
        np.testing.assert_allclose(along(latent.slerp, z0, z1, TS), along(latent.lerp, z0, z1, TS), atol=1e-6)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(latent.slerp(z, jnp.zeros(2), 0.5))))(jnp.array([1.0, 2.0]))
    assert jnp.all(jnp.isfinite(gradient))


def test_lerp_has_its_ends_exactly():
    z0, z1 = jnp.array([0.1, 1e8]), jnp.array([1e-8, 0.7])
    path = along(latent.lerp, z0, z1, TS)
    assert jnp.array_equal(path[0], z0)
    assert jnp.array_equal(path[-1], z1)
    np.testing.assert_allclose(path[4], 0.5 * (z0 + z1), rtol=1e-6)


@pytest.mark.parametrize("path", [latent.slerp, latent.lerp])
def test_paths_between_whole_numbers_are_those_between_floats(path):
    z0, z1 = jnp.array([0, 3]), jnp.array([10, -4])
    whole, floats = along(path, z0, z1, TS), along(path, z0.astype(float), z1.astype(float), TS)
    np.testing.assert_array_equal(whole, floats)


@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_interpolation_decodes_the_path(method):
    model, A = linear_model()
    z0, z1 = np.random.default_rng(0).standard_normal((2, DIM)).astype(np.float32)
    x0, x1 = latent.decode(model, np.stack([z0, z1]))
    images = latent.interpolate(model, x0, x1, 5, method=method)
    path = along(getattr(latent, method), jnp.asarray(z0), jnp.asarray(z1), jnp.linspace(0, 1, 5))
    np.testing.assert_allclose(images, path @ A.T + 1, atol=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        latent.interpolate(model, x0, x1, 1)


def test_traversal_changes_one_latent():
    model, A = linear_model()
    images = latent.traverse(model, 2, [-1.0, 0.5], z=np.ones(DIM))
    np.testing.assert_allclose(images[1] - images[0], 1.5 * A[:, 2], atol=1e-5)
    from_x = latent.traverse(model, 2, [-1.0, 0.5], x=latent.decode(model, np.ones((1, DIM)))[0])
    np.testing.assert_allclose(from_x, images, atol=1e-5)
    np.testing.assert_array_equal(latent.traverse(model, 2, [-1.0, 0.5], z=np.ones(DIM, int)), images)
    with pytest.raises(ValueError, match="either an example"):
        latent.traverse(model, 0, [0.0])
    with pytest.raises(ValueError, match="below 4"):
        latent.traverse(model, 4, [0.0], z=np.ones(DIM))


# Attributes


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_a_planted_direction_is_recovered_where_others_go_with_it():
    model, x, smile, other = planted()
    z = latent.embed(model, x)
    planted_direction = np.eye(DIM)[0]
    mixed = latent.attribute_vector(z, smile)
    # The other attribute agrees in 90% of the rows, so 0.8 of its own difference comes with the first.
    assert abs(cosine(mixed, planted_direction) - 1 / np.hypot(1, 0.8)) < 0.02
    balanced = latent.attribute_vector(z, smile, method="balanced", other=other)
    # Groups of 100 rows give each other number of the vector an error of 0.1 at most, of a length of 3.
    assert cosine(balanced, planted_direction) > 0.99
    assert abs(balanced[0] - 3) < 0.2
    classified = latent.attribute_vector(z, smile, method="linear_classifier")
    assert cosine(classified, planted_direction) > 0.95
    assert cosine(classified, mixed) < cosine(classified, planted_direction)


def test_manipulation_moves_along_the_vector():
    model, A = linear_model()
    x = latent.decode(model, np.zeros((2, DIM)))
    images = latent.manipulate(model, x, np.eye(DIM)[1], [-1.0, 0.0, 2.0])
    assert images.shape == (2, 3, PIXELS)
    np.testing.assert_allclose(images[:, 1], x, atol=1e-5)
    np.testing.assert_allclose(images[1, 2] - images[1, 1], 2 * A[:, 1], atol=1e-5)
    with pytest.raises(ValueError, match=r"shape \(4,\); got \(3,\)"):
        latent.manipulate(model, x, np.ones(3), [1.0])


def test_quality_sees_flips_leakage_and_identity():
    model, x, smile, other = planted()
    train, test = slice(0, 1000), slice(1000, 1400)
    z = latent.embed(model, x[train])
    quality = functools.partial(
        latent.attribute_quality,
        model,
        data=x[test],
        labels=smile[test],
        train=(x[train], smile[train]),
        others={"glasses": (x[train], other[train])},
        penalty=1e-4,
    )
    balanced = quality(latent.attribute_vector(z, smile[train], method="balanced", other=other[train]), strength=1.0)
    mixed = quality(latent.attribute_vector(z, smile[train]), strength=1.0)
    still = quality(np.zeros(DIM), strength=1.0)
    assert balanced.accuracy > 0.98
    assert balanced.flip_rate > 0.95
    assert balanced.leakage["glasses"] < 0.1 < 0.5 < mixed.leakage["glasses"]
    assert (still.flip_rate, still.leakage["glasses"], still.identity, still.distance) == (0.0, 0.0, 1.0, 0.0)
    assert 0 < balanced.distance < mixed.distance
    assert "glasses" in str(balanced)
    assert balanced.num == 400 >= balanced.num_judged > 380


def test_quality_by_classifiers_of_ones_own():
    model, x, smile, other = planted()
    vector = latent.attribute_vector(latent.embed(model, x[:1000]), smile[:1000])
    test, has = x[1000:1400], smile[1000:1400]
    judges = [
        LogisticRegression.fit(np.asarray(x[:1000], float), labels[:1000], 1e-2).predict for labels in (smile, other)
    ]
    pairs = [(x[:1000], labels[:1000]) for labels in (smile, other)]
    qualities = [
        latent.attribute_quality(model, vector, test, has, train=own, others={"glasses": glasses})
        for own, glasses in (judges, pairs)
    ]
    assert qualities[0] == qualities[1]
    never = latent.attribute_quality(model, vector, test, has, train=lambda rows: np.zeros(len(rows)))
    assert (never.flip_rate, never.num_judged) == (0.0, int((~has.astype(bool)).sum()))
    with pytest.raises(ValueError, match=r"`train\(rows\)` must say for each of the 400 rows"):
        latent.attribute_quality(model, vector, test, has, train=lambda rows: rows)


def test_logistic_regression_is_at_the_optimum_also_with_more_columns_than_rows():
    random = np.random.default_rng(0)
    for num, dim in ((60, 3), (12, 30)):
        x = random.standard_normal((num, dim)) * np.linspace(1, 3, dim) + 5
        x[:, 0] = 7  # a column that says nothing
        labels = x[:, 1] + random.standard_normal(num) > 5
        found = LogisticRegression.fit(x, labels, 0.01)
        scale = np.where(np.arange(dim) == 0, 1, x.std(axis=0))
        p = 1 / (1 + np.exp(-(x @ found.weights + found.bias)))
        slope = (x - x.mean(axis=0)).T @ (p - labels) / num / scale + 0.01 * found.weights * scale
        np.testing.assert_allclose(slope, 0, atol=1e-6)
        assert abs(np.mean(p - labels)) < 1e-6
        assert found.weights[0] == pytest.approx(0)


def test_classes_that_can_be_separated_have_finite_weights():
    x = np.linspace(-1, 1, 20)[:, None]
    found = LogisticRegression.fit(x, x[:, 0] > 0, 1e-6)
    assert np.isfinite(found.weights).all()
    assert (found.predict(x) == (x[:, 0] > 0)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [1, 1, 1]}, "rows without"),
        ({"labels": [0, 1]}, "each of the 3 rows"),
        ({"labels": [0, 3, 1]}, "labels == 3"),
        ({"labels": [0, 1, 1], "method": "balanced"}, "needs it"),
        ({"labels": [0, 1, 1], "other": [0, 1, 1]}, "is for `method='balanced'`"),
        ({"labels": [0, 1, 1], "other": [0, 1, 1], "method": "balanced"}, "nothing is balanced"),
        ({"labels": [0, 1, 1], "method": "best"}, "'mean_difference', 'balanced' or 'linear_classifier'"),
    ],
)
def test_attribute_vectors_refuse(arguments, message, untyped):
    with pytest.raises(ValueError, match=message):
        latent.attribute_vector(np.zeros((3, 2)), **arguments)


def test_a_classifier_does_not_walk_along_a_latent_that_hardly_varies():
    """A tenth of the units of another, it separates as well, with ten times its weight."""
    random = np.random.default_rng(0)
    has = np.arange(400) % 2 == 0
    z = np.where(has, 1.0, -1.0)[:, None] * [1.0, 0.1] + random.standard_normal((400, 2)) * [1.0, 0.1]
    vector = latent.attribute_vector(z, has, method="linear_classifier")
    np.testing.assert_allclose(vector, [2, 0.2], rtol=0.25)


def test_rates_of_none_or_all_of_a_few_have_an_error():
    """Under a uniform prior a rate of 0 of 7 has the distribution Beta(1, 8)."""
    shared = {"identity": 1.0, "distance": 0.5, "accuracy": 1.0, "strength": 1.0, "num": 7, "num_judged": 7}
    words = str(latent.AttributeQuality(flip_rate=0.0, leakage={"glasses": 2 / 7}, **shared))
    errors = [stats.beta(1 + num, 8 - num).std() for num in (0, 2, 7)]
    for rate, error in zip((0, 2 / 7, 1), errors, strict=True):
        assert f"{rate:.3f} ± {error:.3f}" in words
