"""Planar, radial and Sylvester maps, linear ones, scalar ones and monotone networks, beside the laws of the table."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table
from jax.test_util import check_grads

import lnz
from lnz.bijections import (
    ActNorm,
    Affine,
    Chain,
    Coupling,
    Elementwise,
    Exp,
    Householder,
    Inverse,
    InvertibleConv,
    LeakyReLU,
    LULinear,
    Planar,
    Power,
    Radial,
    Scan,
    Sigmoid,
    SigmoidalTransformer,
    Softplus,
    Sylvester,
    Tanh,
)
from lnz.modules import trainable
from lnz.numerics import increasing_root


def planar(u=(0.7, -0.4, 0.2), w=(0.5, 1.1, -0.3), b=0.3):
    return Planar(jnp.array(u), jnp.array(w), jnp.asarray(b))


def sylvester(scale=1.0):
    R, S = scale * table.normal(11, 2, 2), scale * table.normal(12, 2, 2)
    return Sylvester(table.normal(10, 2, 3), R, S, table.normal(13, 2))


def sigmoidal(scale=1.0, num=2):
    return Elementwise(SigmoidalTransformer(3), scale * table.normal(14, 9, num))


# Closed forms, written as in the papers.


def test_planar_determinant(float64):
    bijection, x = planar(), table.normal(1, 3)
    u, w = bijection.constrained_u, bijection.w
    expected = jnp.log(1 + w @ u * (1 - jnp.tanh(w @ x + bijection.b) ** 2))
    y, log_det = bijection.forward_and_log_det(x)
    np.testing.assert_allclose(log_det, expected, rtol=1e-13)
    np.testing.assert_allclose(y, x + u * jnp.tanh(w @ x + bijection.b), rtol=1e-13)


def test_radial_determinant(float64):
    bijection, x = Radial(table.normal(2, 3), jnp.asarray(0.4), jnp.asarray(-0.8)), table.normal(1, 3)
    alpha, beta, r = bijection.alpha, bijection.beta, jnp.linalg.norm(x - bijection.center)
    h, dh = 1 / (alpha + r), -1 / (alpha + r) ** 2
    y, log_det = bijection.forward_and_log_det(x)
    np.testing.assert_allclose(y, x + beta * h * (x - bijection.center), rtol=1e-13)
    np.testing.assert_allclose(log_det, 2 * jnp.log(1 + beta * h) + jnp.log(1 + beta * h + beta * dh * r), rtol=1e-12)
    assert float(beta) < 0


def test_sylvester_is_the_planar_map_of_one_direction(float64):
    """With one direction Q = q, R = r and S = s: u = q r and w = q s."""
    v = table.normal(3, 1, 3)
    one = Sylvester(v, jnp.array([[0.8]]), jnp.array([[1.3]]), jnp.array([0.2]))
    q = jnp.zeros(3).at[0].set(1) - 2 * v[0] * v[0, 0] / (v[0] @ v[0])
    same = Planar(0.8 * q, 1.3 * q, jnp.asarray(0.2))
    x = table.normal(1, 3)
    for ours, theirs in zip(one.forward_and_log_det(x), same.forward_and_log_det(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_linear_maps_are_their_matrices(float64):
    matrix, loc, x = table.normal(4, 4, 4), table.normal(5, 4), table.normal(6, 4)
    linear = LULinear(loc, matrix)
    np.testing.assert_allclose(linear.matrix, matrix, rtol=1e-12)
    y, log_det = linear.forward_and_log_det(x)
    np.testing.assert_allclose(y, matrix @ x + loc, rtol=1e-12)
    np.testing.assert_allclose(log_det, jnp.linalg.slogdet(matrix)[1], rtol=1e-12)
    reflection = Householder(table.normal(7, 3, 4))
    Q = jax.jacfwd(lambda x: reflection.forward_and_log_det(x)[0])(x)
    expected = jnp.eye(4)
    for v in reflection.vectors:
        expected = expected @ (jnp.eye(4) - 2 * jnp.outer(v, v) / (v @ v))
    np.testing.assert_allclose(Q, expected, atol=1e-12)
    image = table.normal(8, 4, 3, 2)
    y, log_det = InvertibleConv(linear, 3, 2).forward_and_log_det(image)
    np.testing.assert_allclose(y, jnp.einsum("ij,jhw->ihw", matrix, image) + loc[:, None, None], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_det, 6 * jnp.linalg.slogdet(matrix)[1], rtol=1e-12)


def test_sigmoidal_transformer_is_its_equation(float64):
    transformer, raw, x = SigmoidalTransformer(3), table.normal(14, 9, 5), table.normal(15, 5)
    a = jnp.exp(raw[3:6] / (1 + jnp.abs(raw[3:6]) / 4))
    b = raw[6:] + jnp.array([-1.0, 0.0, 1.0])[:, None]

    def equation(x):
        total = jnp.sum(jax.nn.softmax(raw[:3], axis=0) * jax.nn.sigmoid(a * x[None] + b), axis=0)
        return jnp.log(total) - jnp.log1p(-total)

    y, log_derivative = transformer.forward(raw, x)
    np.testing.assert_allclose(y, equation(x), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(log_derivative, jnp.log(jnp.diag(jax.jacfwd(equation)(x))), rtol=1e-10, atol=1e-11)


def test_sigmoidal_transformer_starts_near_the_identity(float64):
    x = jnp.linspace(-30, 30, 601)
    for num, most in ((1, 1e-12), (2, 0.44), (8, 0.22)):
        transformer = SigmoidalTransformer(num)
        y, _ = transformer.forward(jnp.zeros((transformer.num_params, 1)), x)
        assert float(jnp.max(jnp.abs(y - x))) < most


def test_sigmoidal_units_part():
    """With equal units, their gradients would be equal for ever."""
    transformer = SigmoidalTransformer(3)
    slope = jax.grad(lambda raw: jnp.sum(transformer.forward(raw, jnp.array([0.3]))[0]))(jnp.zeros((9, 1)))
    parts = np.asarray(slope[:, 0]).reshape(3, 3)
    assert (np.abs(np.diff(parts, axis=1)) > 1e-3).all()


# Constraints hold whatever the numbers are.


@pytest.mark.parametrize("scale", [1e-20, 0.1, 1.0, 30.0, 1e8])
def test_planar_constraint(scale, precision):
    """`w·u >= -(1 - min_slope)`, and u stays where it was allowed."""
    u, w = scale * table.normal(20, 400, 3), table.normal(21, 400, 3)
    moved = jax.vmap(lambda u, w: Planar(u, w, jnp.zeros(())).constrained_u)(u, w)
    product = np.asarray(jnp.sum(u * w, axis=1), np.float64)
    new = np.asarray(jnp.sum(moved * w, axis=1), np.float64)
    # Rounding of u itself, seen through the product.
    rounding = 8 * float(jnp.finfo(u.dtype).eps) * np.asarray(jnp.sum(jnp.abs(moved * w), axis=1) + jnp.abs(product))
    assert (new >= -(1 - 1e-3) - rounding).all()
    allowed = product >= 0
    assert allowed.any()
    np.testing.assert_array_equal(moved[allowed], u[allowed])
    if scale >= 1:
        assert (product < -1).any()


def test_planar_maps_keep_order_along_w(precision):
    """The map along w is increasing for any u: the derivative of automatic differentiation, not the stored one."""
    u, w = 30 * table.normal(22, 100, 2), table.normal(23, 100, 2)

    def determinant(u, w, x):
        return jnp.linalg.det(jax.jacfwd(lambda x: Planar(u, w, jnp.zeros(())).forward_and_log_det(x)[0])(x))

    det = jax.jit(jax.vmap(determinant))(u, w, 0.1 * table.normal(24, 100, 2))
    assert float(jnp.min(det)) > 0


def test_sylvester_constraint():
    R, S = 30 * table.normal(25, 50, 3, 3), table.normal(26, 50, 3, 3)

    def log_det(R, S):
        return Sylvester(table.normal(27, 3, 4), R, S, jnp.zeros(3)).forward_and_log_det(jnp.zeros(4))[1]

    # At zero every derivative is 1 + R_ii S_ii, at least min_slope, so the determinant is at least its cube.
    assert float(jnp.min(jax.vmap(log_det)(R, S))) >= 3 * np.log(1e-3) - 1e-4


# Inverses.

STRONG = {
    "planar": lambda: planar((8.0, 5.0, -3.0), (3.0, -2.0, 1.0)),
    "planar_squeezed": lambda: planar((-30.0, 4.0, 0.0), (2.0, 0.3, 0.1), 0.0),
    "radial": lambda: Radial(jnp.zeros(3), jnp.asarray(1.0), jnp.asarray(-20.0)),
    "radial_out": lambda: Radial(jnp.zeros(3), jnp.asarray(-5.0), jnp.asarray(30.0)),
    "sylvester": lambda: sylvester(6.0),
    "sigmoidal": lambda: sigmoidal(3.0, 3),
}


@pytest.mark.parametrize("name", STRONG)
def test_inverse_of_strong_maps(name, precision):
    """f(f^-1(y)) is y to rounding, and f^-1(f(x)) to rounding times how much the map squeezes there."""
    bijection = STRONG[name]()
    x = table.normal(30, 50, *bijection.domain.shape) * jnp.asarray(np.resize([0.01, 1.0, 5.0], (50, 1)))
    forward, inverse = (jax.jit(jax.vmap(f)) for f in (bijection.forward_and_log_det, bijection.inverse_and_log_det))
    y, _ = forward(x)
    back, _ = inverse(y)
    again, _ = forward(back)
    eps = float(jnp.finfo(x.dtype).eps)
    # Sizes that are added on the way: the parameters of `planar` reach 9, products of those of `sylvester` 150.
    size = 1 + float(jnp.max(jnp.abs(y))) + (150 if name == "sylvester" else 20)
    assert float(jnp.max(jnp.abs(again - y))) < 50 * eps * size
    jacobian = jax.vmap(jax.jacfwd(lambda x: bijection.forward_and_log_det(x)[0]))(x)
    squeeze = np.linalg.norm(np.linalg.inv(np.asarray(jacobian, np.float64)), 2, axis=(1, 2))
    error = np.linalg.norm(np.asarray(back - x), axis=1)
    assert (error < 50 * eps * size * (1 + squeeze)).all()


def test_root_finder(precision):
    """Cubes have a derivative of zero at the root, where Newton's method alone is slow; exponentials overshoot."""
    c = jnp.array([-8.0, 0.0, 1e-3, 27.0])
    root = increasing_root(lambda x, c: x**3 - c, (c,), jnp.full(4, -50.0), jnp.full(4, 50.0))
    np.testing.assert_allclose(root, np.cbrt(np.asarray(c)), atol=2e-2 if root.dtype == jnp.float32 else 1e-5)
    target = jnp.array([1e-6, 1.0, 1e8])
    root = increasing_root(lambda x, target: jnp.exp(x) - target, (target,), jnp.full(3, -80.0), jnp.full(3, 80.0))
    np.testing.assert_allclose(root, np.log(np.asarray(target)), rtol=3e-6 if root.dtype == jnp.float32 else 1e-14)


# With the order of the derivatives: second ones of all would take a minute of compiling.
DIFFERENTIATED = {
    "planar": (planar, 2),
    "radial": (lambda: Radial(table.normal(2, 3), jnp.asarray(0.4), jnp.asarray(-0.8)), 1),
    "sylvester": (sylvester, 1),
    "sigmoidal": (lambda: sigmoidal(1.0, 1), 1),
    "lu": (lambda: LULinear(table.normal(5, 3), table.normal(4, 3, 3)), 1),
}


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradient_of_the_inverse(name, float64):
    """Forward and reverse mode, with respect to the point and every parameter, against finite differences.

    Second derivatives too: those of a root found by steps would be those of the last steps.
    """
    make, order = DIFFERENTIATED[name]
    bijection = make()
    params, rest = eqx.partition(bijection, eqx.is_inexact_array)

    @jax.jit
    def inverse(params, y):
        return eqx.combine(params, rest).inverse_and_log_det(y)

    check_grads(inverse, (params, table.normal(31, *bijection.codomain.shape)), order=order, rtol=1e-5, atol=1e-5)


def test_gradients_of_log_prob_through_a_scan_of_inverses(float64):
    """As in training by maximum likelihood: vmap, scan, reverse mode."""
    bijection = table.away_from_identity(lnz.flows.planar(lnz.Euclidean(2), key=jr.key(0), num_layers=2), 0.5)
    params, rest = eqx.partition(bijection, eqx.is_inexact_array)
    y = table.normal(32, 3, 2)

    @jax.jit
    def loss(params):
        flow = lnz.Transformed(lnz.Normal.standard(2), eqx.combine(params, rest))
        return jnp.mean(jax.vmap(flow.log_prob)(y))

    check_grads(loss, (params,), order=2, modes=["rev"], rtol=1e-5)


# Numbers stay right far out; that they stay finite is in `test_stress.py`.

FAR_OUT = {
    "sigmoid": Sigmoid(lnz.Interval(3, -1.0, 3.0)),
    "tanh": Tanh(lnz.Euclidean(3)),
    "softplus": Softplus(lnz.Positive(3)),
    "exp": Exp(lnz.Positive(3)),
    "leaky_relu": LeakyReLU(lnz.Euclidean(3)),
}


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("sigmoid", 1e8, -1e8 + np.log(4.0)),
        ("sigmoid", -1e8, -1e8 + np.log(4.0)),
        ("tanh", 1e8, -2e8),
        ("tanh", 3e-4, -9e-8),
        ("softplus", -1e8, -1e8),
        ("softplus", 1e8, 0.0),
        ("exp", -1e8, -1e8),
        ("leaky_relu", -1e8, np.log(0.1)),
    ],
)
def test_log_derivatives_far_out(name, x, expected):
    """Each from the limit of the formula, in float32."""
    bijection = FAR_OUT[name]
    _, log_det = bijection.forward_and_log_det(jnp.full(3, x))
    assert float(log_det) == pytest.approx(3 * expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("y", [1e8, -1e8])
def test_neural_log_derivative_in_the_tails(y):
    """Far out the flattest unit decides: the log-derivative is its log slope, without losing digits to |x|."""
    raw = jnp.array([0.3, -0.2, 0.1, 0.5, -0.5, 1.0, 0.0, 0.0, 0.0])[:, None]
    expected = -0.5 / (1 + 0.5 / 4)
    transformer = SigmoidalTransformer(3)
    assert float(transformer.forward(raw, jnp.array([y]))[1][0]) == pytest.approx(expected, rel=1e-5)
    x, log_derivative = transformer.inverse(raw, jnp.array([y]))
    assert float(log_derivative[0]) == pytest.approx(-expected, rel=1e-5)
    assert float(x[0]) == pytest.approx(y / np.exp(expected), rel=1e-5)


def test_neural_plateau():
    """Between two steep units far apart the derivative is e^-100 or so: a number, whose logarithm is exact."""
    raw = jnp.array([0.0, 0.0, 0.0, 0.0, 101.0, -101.0])[:, None]  # offsets of -1 and 1: shifts of 100 and -100
    y, log_derivative = SigmoidalTransformer(2).forward(raw, jnp.zeros(1))
    assert abs(float(y[0])) < 1e-6
    assert float(log_derivative[0]) == pytest.approx(np.log(4.0) - 100, rel=1e-6)


# ActNorm.


def image_flow(direction=lambda b: b):
    space = lnz.Euclidean((3, 2, 2))

    def layer(key):
        mix = LULinear(jnp.zeros(3), jr.orthogonal(key, 3))
        return direction(Chain(ActNorm(space), InvertibleConv(mix, 2, 2)))

    layers = Scan.of(layer, jr.split(jr.key(1), 2))
    base = lnz.Normal(jnp.zeros(space.shape), 1.0)
    return lnz.Transformed(base, Chain(direction(ActNorm(space)), layers))


@pytest.mark.parametrize("direction", [lambda b: b, Inverse], ids=["forward", "inverse"])
def test_actnorm_starts_from_what_reaches_it(direction, precision):
    """Every layer's output on the data has mean 0 and variance 1, seen from outside, layer by layer."""
    data = 3 * table.normal(40, 200, 3, 2, 2) + jnp.array([5.0, -40.0, 0.1]).reshape(1, 3, 1, 1)
    flow = image_flow(direction).initialise(jr.key(2), data)
    scan = flow.bijection.bijections[1]
    layers = [jax.tree.map(lambda leaf, i=i: leaf[i] if eqx.is_array(leaf) else leaf, scan.layers) for i in (1, 0)]
    norms, x = [], data
    for layer in layers:  # from data to base: the last layer first
        inner = layer.bijection if direction is Inverse else layer
        order = inner.bijections if direction is Inverse else inner.bijections[::-1]
        for part in order:
            x = jax.vmap(part.forward_and_log_det if direction is Inverse else part.inverse_and_log_det)(x)[0]
            norms += [x] if isinstance(part, ActNorm) else []
    norms.append(jax.vmap(flow.bijection.inverse_and_log_det)(data)[0])
    assert len(norms) == 3
    for x in norms:
        np.testing.assert_allclose(jnp.mean(x, axis=(0, 2, 3)), 0, atol=2e-5)
        np.testing.assert_allclose(jnp.var(x, axis=(0, 2, 3)), 1, atol=1e-4)


def test_actnorm_starts_once_and_lives_on():
    data = 3 * table.normal(40, 50, 3, 2, 2) + 5
    first = image_flow().initialise(jr.key(2), data)
    second = first.initialise(jr.key(3), 7 * data - 1)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    filtered = trainable(first).bijection.bijections[0]
    assert (filtered.loc, filtered.log_scale, filtered.started) == (True, True, False)
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(0.0))
    fitted = lnz.fit(jr.key(0), image_flow(), method, data, steps=1).model
    started = fitted.bijection.bijections[0]
    assert int(started.started) == 1
    z = jax.vmap(fitted.bijection.inverse_and_log_det)(data)[0]
    np.testing.assert_allclose(jnp.mean(z, axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(jnp.var(z, axis=(0, 2, 3)), 1, atol=1e-3)


def side_by_side(kind):
    """A bijection of six numbers. All but one have an `ActNorm`, some of them a shift beside it."""

    def shifted(loc):
        return Chain(Affine(loc, 1.0), ActNorm(lnz.Euclidean(2)))

    norm = ActNorm(lnz.Euclidean(2))
    if kind == "concatenate":
        return lnz.bijections.Concatenate(ActNorm(lnz.Euclidean(3)), Affine(jnp.zeros(1), 1.0), norm)
    if kind == "stack":
        return lnz.bijections.Stack(shifted(jnp.ones(2)), Inverse(norm), norm)
    return lnz.bijections.Vmap.of(shifted, jnp.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("direction", [lambda b: b, Inverse], ids=["to_data", "from_data"])
@pytest.mark.parametrize("kind", ["concatenate", "stack", "vmap"])
def test_actnorms_side_by_side_start_from_their_own_parts(kind, direction):
    """Six numbers of different means and scales: every one is normed, but for those without an `ActNorm` or shifted."""
    bijection = direction(side_by_side(kind))
    num = np.arange(6.0, dtype=np.float32)
    data = (np.asarray(table.normal(42, 100, 6)) * (1 + num) + 3 * num).reshape(100, *bijection.domain.shape)
    flow = lnz.Transformed(lnz.Normal.standard(bijection.domain.shape), bijection)
    fitted = lnz.fit(jr.key(0), flow, lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(0.0)), data, steps=1)
    z = jax.jit(jax.vmap(fitted.model.bijection.inverse_and_log_det))(data)[0].reshape(100, 6)
    mean, scale = np.zeros(6), np.ones(6)
    if kind == "concatenate":  # one place is left as it is
        mean[3], scale[3] = np.mean(data[:, 3]), np.std(data[:, 3])
    elif direction is not Inverse:  # the norm is followed by `x - 1`
        mean[:2] = -1.0
    np.testing.assert_allclose(np.mean(z, axis=0), mean, atol=1e-5 * np.max(np.abs(data)))
    np.testing.assert_allclose(np.std(z, axis=0), scale, rtol=1e-4)
    lnz.testing.check_save(fitted.model.bijection)


def test_actnorm_of_a_constant_only_shifts():
    data = jnp.stack([table.normal(41, 20), jnp.full(20, 0.1)], axis=1)
    flow = lnz.Transformed(lnz.Normal.standard(2), ActNorm(lnz.Euclidean(2))).initialise(jr.key(0), data)
    assert float(flow.bijection.log_scale[1]) == 0
    assert float(flow.bijection.loc[1]) == pytest.approx(0.1)


def test_actnorm_where_no_data_can_reach_it():
    class Wrapper(lnz.bijections.AbstractBijection):
        inner: lnz.AbstractBijection

        @property
        def domain(self):
            return self.inner.domain

        @property
        def codomain(self):
            return self.inner.codomain

        def forward_and_log_det(self, x, *, key=None):
            return self.inner.forward_and_log_det(x)

        def inverse_and_log_det(self, y, *, key=None):
            return self.inner.inverse_and_log_det(y)

    base, norm = lnz.Normal.standard(2), ActNorm(lnz.Euclidean(2))
    with pytest.raises(TypeError, match="Wrapper` takes its start from data"):
        lnz.Transformed(base, Chain(Wrapper(norm))).initialise(jr.key(0), jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"rows of shape \(4,\)"):
        lnz.Transformed(base, norm).initialise(jr.key(0), jnp.ones((3, 4)))
    plain = lnz.Transformed(base, Affine(jnp.ones(2), 2.0))
    assert plain.initialise(jr.key(0), jnp.ones((3, 4))) is plain


# A flow with parameters of its own for each example.

AMORTISED = {
    "planar": lambda: lnz.flows.planar(lnz.Euclidean(3), key=jr.key(0), num_layers=2),
    "radial": lambda: lnz.flows.radial(lnz.Euclidean(3), key=jr.key(0), num_layers=2),
    "sylvester": lambda: lnz.flows.sylvester(lnz.Euclidean(3), key=jr.key(0), num_layers=2, num_orthogonal=2),
    "linear": lambda: Chain(
        ActNorm(lnz.Euclidean(3)), LULinear(table.normal(5, 3), table.normal(4, 3, 3)), Householder(jnp.ones((1, 3)))
    ),
    "sigmoidal": lambda: sigmoidal(1.0, 3),
    "convolution": table.glow_step,
}


@pytest.mark.parametrize("name", AMORTISED)
def test_parameters_for_each_example(name, float64):
    """As an encoder of a VAE makes them: one call under `vmap` gives what a loop over examples gives."""
    bijection = AMORTISED[name]()
    params, rest = eqx.partition(bijection, eqx.is_inexact_array)
    own = jax.tree.map(lambda leaf: leaf[None] + 0.5 * table.normal(50, 4, *leaf.shape), params)
    x = table.normal(51, 4, 2, *bijection.domain.shape)

    @jax.jit
    def both(params, x):
        mine = eqx.combine(params, rest)
        return jax.vmap(mine.forward_and_log_det)(x), jax.vmap(mine.inverse_and_log_det)(x)

    together = jax.jit(jax.vmap(both))(own, x)
    for i in range(4):
        alone = both(jax.tree.map(lambda leaf, i=i: leaf[i], own), x[i])
        jax.tree.map(lambda a, c, i=i: np.testing.assert_allclose(a[i], c, rtol=1e-9, atol=1e-9), together, alone)


# Files and refusals.


@pytest.mark.parametrize("name", ["planar", "radial", "sylvester_householder", "glow_step", "power", "neural_coupling"])
def test_models_come_back_from_files(name, tmp_path):
    bijection = table.BIJECTIONS[name]()
    lnz.save(tmp_path / "flow.lnz", bijection)
    back = lnz.load(tmp_path / "flow.lnz")
    assert jax.tree.structure(back) == jax.tree.structure(bijection)
    jax.tree.map(np.testing.assert_array_equal, back, bijection)


def test_refusals(untyped):
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        Planar(jnp.zeros(2), jnp.zeros(2), jnp.zeros(()), min_slope=0.0)
    with pytest.raises(ValueError, match="3 directions do not fit into vectors of length 2"):
        Sylvester(jnp.ones((3, 2)), jnp.eye(3), jnp.eye(3), jnp.zeros(3))
    with pytest.raises(ValueError, match="singular"):
        LULinear(jnp.zeros(2), jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"`Power\(power=...\)` must be positive"):
        Power(jnp.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="at least 1"):
        SigmoidalTransformer(0)
    with pytest.raises(TypeError, match="vectors or images"):
        ActNorm(lnz.Positive(2))
    with pytest.raises(ValueError, match="not both"):
        lnz.flows.sylvester(lnz.Euclidean(2), key=jr.key(0), num_orthogonal=1, num_householder=1)
    with pytest.raises(ValueError, match="can be at most 2"):
        lnz.flows.sylvester(lnz.Euclidean(2), key=jr.key(0), num_orthogonal=3)
    with pytest.raises(ValueError, match="'density' or 'draws'"):
        lnz.flows.planar(lnz.Euclidean(2), key=jr.key(0), fast="both")


def test_neural_coupling_learns_two_modes():
    """A density with two modes, that no affine coupling of one layer can make: its exact entropy is nearly reached."""
    x = jnp.where(jr.bernoulli(jr.key(0), 0.5, (512, 1)), 3.0, -3.0) + 0.5 * table.normal(60, 512, 1)
    data = jnp.concatenate([table.normal(61, 512, 1), x], axis=1)
    transformer = SigmoidalTransformer(4)
    net = lnz.nets.MLP(1, (transformer.num_params, 1), key=jr.key(1), width=8, depth=1, last_scale=0.0)
    layer = Inverse(Coupling(lnz.Euclidean(2), 1, net, transformer))
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.adam(0.03))
    fitted = lnz.fit(jr.key(2), lnz.Transformed(lnz.Normal.standard(2), layer), method, data, steps=300).model
    nats = float(jnp.mean(jax.vmap(fitted.log_prob)(data)))
    entropy = np.log(2 * np.pi * np.e) + np.log(0.5) + np.log(2)  # of the two normals, and of which mode
    # 0.15: what training is short of, and the draws' own spread of 0.04.
    assert nats == pytest.approx(-entropy, abs=0.15)
