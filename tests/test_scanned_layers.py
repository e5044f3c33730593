"""Bijections with axes of layers (inside `Scan`, after loading) or of examples (under `vmap`) in their arrays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table

import lnz
from lnz.bijections import (
    ActNorm,
    Affine,
    Chain,
    Elementwise,
    Exp,
    Flip,
    Householder,
    Inverse,
    InvertibleConv,
    LULinear,
    OnFirst,
    Planar,
    Power,
    Radial,
    Scan,
    Sigmoid,
    SigmoidalTransformer,
    Softplus,
    Stack,
    Sylvester,
    Tanh,
    ToSupport,
    TriangularAffine,
    Vmap,
)
from lnz.numerics import positive_tril, understands_batches


def lu(key, num=3):
    key_loc, key_matrix = jr.split(key)
    return LULinear(jr.normal(key_loc, (num,)), jr.orthogonal(key_matrix, num))


def triangular(key):
    return TriangularAffine(jr.normal(key, (3,)), jnp.eye(3) + 0.3 * jnp.tril(jr.normal(key, (3, 3)), -1))


def sylvester(key):
    keys = jr.split(key, 4)
    R, S = jr.normal(keys[1], (2, 2)), jr.normal(keys[2], (2, 2))
    return Sylvester(jr.normal(keys[0], (2, 3)), R, S, jr.normal(keys[3], (2,)))


def actnorm(key):
    return eqx.tree_at(lambda norm: norm.log_scale, ActNorm(lnz.Euclidean(3)), 0.3 * jr.normal(key, (3,)))


def planar(key):
    return Planar(jr.normal(key, (3,)), jnp.array([0.5, -1.0, 0.3]), jr.normal(key))


def powers(key):
    return Power(jnp.exp(0.3 * jr.normal(key, (3,))))


# All that own arrays, each of a space to itself.
LAYERS = {
    "affine": lambda key: Affine(jr.normal(key, (3,)), 2.0),
    "affine_of_images": lambda key: Affine(jr.normal(key, (3, 2)), 2.0),
    "triangular": triangular,
    "lu": lu,
    "conv": lambda key: InvertibleConv(lu(key), 2, 2),
    "householder": lambda key: Householder(jr.normal(key, (2, 3))),
    "planar": planar,
    "inverse_planar": lambda key: Inverse(planar(key)),
    "radial": lambda key: Radial(jr.normal(key, (3,)), jr.normal(key), -jr.normal(key)),
    "sylvester": sylvester,
    "actnorm": actnorm,
    "power": powers,
    "elementwise": lambda key: Elementwise(SigmoidalTransformer(2), jr.normal(key, (6, 3))),
    "stack": lambda key: Stack(Affine(jr.normal(key, (3,)), 2.0), lu(key)),
    "vmap": lambda key: Vmap.of(triangular, jr.split(key, 2)),
    "on_first_affine": lambda key: OnFirst(Affine(jr.normal(key, (2,)), 2.0), 3),
    "on_first_triangular": lambda key: OnFirst(triangular(key), 4),
    "on_first_lu": lambda key: OnFirst(lu(key, 2), 3),
    "on_first_planar": lambda key: OnFirst(planar(key), 4),
}


def points(bijection, num):
    x = table.normal(7, num, *bijection.domain.shape)
    return jnp.exp(x) if isinstance(bijection.domain, lnz.Positive) else x


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_layers_inside_a_scan_come_back_from_a_file(make):
    def layer(key):
        bijection = make(key)
        return Chain(bijection, Flip(bijection.domain))

    scan = Scan.of(layer, jr.split(jr.key(0), 2))
    assert scan.domain == make(jr.key(0)).domain == scan.layers.domain
    assert scan.codomain == make(jr.key(0)).codomain == scan.layers.codomain
    lnz.testing.check_save(scan)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_parameters_for_each_example(make, float64):
    """Together under `vmap`, where parameters have batch axes, and one after the other: the same numbers."""
    keys = jr.split(jr.key(0), 5)  # more than any axis is long
    bijections = eqx.filter_vmap(make)(keys)
    assert understands_batches(bijections)  # so that they are not taken one by one
    x = points(make(keys[0]), 5)

    def both(bijection, x):
        return bijection.forward_and_log_det(x), bijection.inverse_and_log_det(x)

    together = eqx.filter_jit(eqx.filter_vmap(both))(bijections, x)
    alone_of = eqx.filter_jit(both)
    for i, key in enumerate(keys):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone_of(make(key), x[i])), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-9)


def test_triangular_factors_of_each_example(precision):
    """Batch axes last; a diagonal that overflows makes no NaN beside it."""
    raw = table.normal(8, 3, 3, 2).at[1, 1, 0].set(1000.0)
    L = np.asarray(jax.jit(positive_tril)(raw))
    for i in range(2):
        with np.errstate(over="ignore"):
            diagonal = np.diag(np.exp(np.diag(raw[..., i])))
        np.testing.assert_allclose(L[..., i], np.tril(raw[..., i], -1) + diagonal, rtol=1e-6)


def test_a_scan_of_layers_for_each_example(float64):
    """Axes of layers and of examples at once."""

    def scan(key):
        return Scan.of(lambda key: Chain(powers(key), Inverse(powers(key)), powers(key)), jr.split(key, 2))

    keys = jr.split(jr.key(0), 5)
    x = jnp.exp(table.normal(7, 5, 3))
    together = eqx.filter_vmap(lambda bijection, x: bijection.forward_and_log_det(x))(eqx.filter_vmap(scan)(keys), x)
    for i, key in enumerate(keys):
        for a, b in zip(together, scan(key).forward_and_log_det(x[i]), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Householder(jnp.ones(3)), "Householder"),
        (lambda: Planar(jnp.ones(3), jnp.ones(2), 0.0), "u and w of shape"),
        (lambda: Radial(jnp.ones(3), jnp.ones(3), 0.0), "two numbers"),
        (lambda: Sylvester(jnp.ones((2, 3)), jnp.ones((2, 2)), jnp.ones((2, 1)), jnp.ones(2)), "needs shapes"),
        (lambda: Sylvester(jnp.ones((2, 1)), jnp.ones((2, 2)), jnp.ones((2, 2)), jnp.ones(2)), "do not fit"),
    ],
    ids=["householder", "planar", "radial", "sylvester", "directions"],
)
def test_shapes_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Ends of spaces.

BOUNDED = {
    "to_interval": lambda: ToSupport(lnz.Interval(1, -1.0, 0.0)),
    "sigmoid": lambda: Sigmoid(lnz.Interval(1, -1.0, 0.0)),
    "sigmoid_rounded": lambda: Sigmoid(lnz.Interval(1, 0.1, 0.7)),
    "tanh": lambda: Tanh(lnz.Euclidean(1)),
    "to_positive": lambda: ToSupport(lnz.Positive(1)),
    "softplus": lambda: Softplus(lnz.Positive(1)),
    "exp": lambda: Exp(lnz.Positive(1)),
    "power": lambda: Power(jnp.array([30.0])),
    "root": lambda: Inverse(Power(jnp.array([1 / 30]))),
}


@pytest.mark.parametrize("kind", [ToSupport, Sigmoid])
def test_digits_near_both_ends(kind, precision):
    """`x = log(u / (1 - u))` where u or 1 - u is 1e-8."""
    exact = np.log(1 - 1e-8) - np.log(1e-8)
    for low, high, y in ((-1.0, 0.0, -1e-8), (0.0, 1.0, 1e-8)):
        bijection, sign = kind(lnz.Interval(1, low, high)), 1 if low else -1
        x, log_det = bijection.inverse_and_log_det(jnp.array([y]))
        assert float(x[0]) == pytest.approx(sign * exact, rel=1e-6)
        assert float(log_det) == pytest.approx(-np.log(1e-8) - np.log(1 - 1e-8), rel=1e-6)
        back, _ = bijection.forward_and_log_det(x)
        assert float(back[0]) == pytest.approx(y, rel=1e-5)


@pytest.mark.parametrize("make", BOUNDED.values(), ids=BOUNDED.keys())
def test_forward_stays_inside(make, precision):
    bijection = make()
    x = jnp.asarray([*np.linspace(-120, 120, 241), -1e8, 1e8], jnp.result_type(float))
    if isinstance(bijection.domain, lnz.Positive):
        x = jnp.exp(jnp.clip(x, -80, 80))
    y, log_det = jax.vmap(bijection.forward_and_log_det)(x[:, None])
    assert bool(jnp.all(jax.vmap(bijection.codomain.contains)(y)))
    assert bool(jnp.all(jnp.isfinite(log_det)))
    assert bool(jnp.all(jnp.diff(y[:241, 0]) >= 0))


@pytest.mark.parametrize("make", BOUNDED.values(), ids=BOUNDED.keys())
def test_the_density_is_zero_outside(make, precision):
    """And gradients are finite on both sides of an end."""
    bijection = make()
    y = jnp.asarray([-1e8, -1.5, -1.0, -1e-6, 0.0, 1e-30, 0.1, 0.3, 0.7, 1.0, 1.5, 1e8, np.inf], jnp.result_type(float))
    x, log_det = jax.vmap(bijection.inverse_and_log_det)(y[:, None])
    slopes = jax.vmap(jax.jacfwd(bijection.inverse_and_log_det))(y[:, None])
    inside = jax.vmap(bijection.codomain.contains)(y[:, None])
    assert bool(jnp.any(inside))
    assert not bool(jnp.all(inside))
    np.testing.assert_array_equal(jnp.isfinite(log_det), inside)
    assert bool(jnp.all(jnp.where(inside, True, log_det == -jnp.inf)))
    assert all(bool(jnp.all(jnp.isfinite(a))) for a in (x, *slopes))


def test_a_map_of_positive_numbers_knows_its_domain(precision):
    """Forward too: it is the inverse of `Inverse(Power(...))`."""
    log_dets = jax.vmap(Power(jnp.array([2.0])).forward_and_log_det)(jnp.array([[-1.0], [0.0], [3.0]]))[1]
    np.testing.assert_allclose(log_dets, [-np.inf, -np.inf, np.log(6.0)], rtol=1e-6)
