"""Residual flows: Lipschitz by construction, an inverse of a stated error, log-determinants without bias."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.bijections import Inverse, Residual
from lnz.core import exact_log_det
from lnz.nets import LipschitzMLP, spectral_bound

SPACE = lnz.Euclidean(3)


def layer(num=3, scale=1.0, **options):
    net = LipschitzMLP(num, key=jr.key(1), width=6, activation=options.pop("activation", "lipswish"))
    return Residual(lnz.Euclidean(num), table.away_from_identity(net, scale), **options)


def flow(**options):
    return lnz.Transformed(lnz.Normal.standard(2), table.flow("residual", 2, **options))


MATRICES = {
    "tall": lambda: table.normal(1, 7, 3),
    "wide": lambda: table.normal(2, 3, 7),
    "huge": lambda: 1e30 * table.normal(3, 4, 4),
    "tiny": lambda: 1e-30 * table.normal(4, 4, 4),
    "rank_one": lambda: jnp.outer(table.normal(5, 4), table.normal(6, 5)),
    "all_equal": lambda: -3.0 * jnp.eye(5),
    "zero": lambda: jnp.zeros((3, 4)),
}


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES.keys())
def test_the_bound_on_a_spectral_norm_is_one(make, precision):
    W = make()
    exact = np.linalg.norm(np.asarray(W, np.float64), 2)
    bound, gradient = jax.jit(jax.value_and_grad(spectral_bound))(W)
    eps = jnp.finfo(W.dtype).eps
    assert exact * (1 - 200 * eps) <= float(bound) <= exact * min(W.shape) ** (1 / 128) * (1 + 200 * eps)
    assert jnp.all(jnp.isfinite(gradient))
    # Euler: the bound is homogeneous of degree one. The scales are out of the sum, lest it overflow.
    assert float(jnp.sum(gradient * (W / max(exact, 1e-37)))) == pytest.approx(float(exact > 0), rel=0.04)


@pytest.mark.parametrize("activation", ["lipswish", "elu", "tanh"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_network_is_a_contraction_whatever_its_parameters(activation, scale):
    net = layer(scale=scale, activation=activation).net
    most = net.coefficient ** (1 / 3)
    for W in net.normalised():
        assert np.linalg.norm(np.asarray(W, np.float64), 2) <= most * (1 + 1e-4)  # 100 roundings of float32
    x = 10.0 ** jnp.linspace(-2, 2, 50)[:, None] * table.normal(2, 50, 3)
    slopes = jax.jit(jax.vmap(lambda x: jnp.linalg.norm(jax.jacfwd(net)(x), 2)))(x)
    assert float(jnp.max(slopes)) <= net.coefficient * (1 + 1e-4)


def test_the_slope_of_lipswish_is_at_most_one():
    x = np.linspace(-30, 30, 2_000_001)
    sigmoid = 1 / (1 + np.exp(-x))
    assert np.max(np.abs(sigmoid * (1 + x * (1 - sigmoid)))) / 1.1 < 1


@pytest.mark.parametrize("size", [1.0, 1e8])
def test_the_inverse_errs_by_no_more_than_it_says(size, precision):
    bijection = layer(tolerance=1e-4)
    y = size * table.normal(3, 5, 3)
    x, log_det = jax.jit(jax.vmap(bijection.inverse_and_log_det))(y)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, bijection)
        y64 = jnp.asarray(np.asarray(y, np.float64))
        step = jax.jit(lambda _, x: y64 - jax.vmap(wide.net)(x))
        root = jax.lax.fori_loop(0, 400, step, y64)  # 0.9^400 is 5e-19
        errors = np.linalg.norm(np.asarray(x, np.float64) - root, axis=1)
        allowed = 1e-4 * (1 + np.linalg.norm(y64, axis=1))
    assert np.all(errors < allowed)
    assert np.all(np.isfinite(log_det))


def test_the_inverse_has_the_gradient_of_finite_differences(float64):
    bijection, y, weights = layer(), table.normal(4, 3), table.normal(5, 3)
    params, rest = eqx.partition(bijection, eqx.is_inexact_array)

    @jax.jit
    def value(params, y):
        x, log_det = eqx.combine(params, rest).inverse_and_log_det(y)
        return weights @ x + log_det

    direction = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), (params, y))

    def along(t):
        return value(*jax.tree.map(lambda a, d: a + t * d, (params, y), direction))

    gradient = jax.grad(value, argnums=(0, 1))(params, y)
    inner = sum(jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    h = 1e-4
    # Fourth order: the error of h^4 is 1e-16 times the fifth derivative.
    differences = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    assert float(inner) == pytest.approx(float(differences), rel=1e-7)
    second = (along(h) - 2 * along(0.0) + along(-h)) / h**2
    assert float(jax.jvp(jax.grad(along), (0.0,), (1.0,))[1]) == pytest.approx(float(second), rel=1e-4)


class Strong(eqx.Module):
    """`g(x) = W tanh(x)` with a norm of W near its bound: a network of one's own."""

    W: jax.Array
    lipschitz: float = eqx.field(static=True, default=0.8)

    def __call__(self, x):
        return self.W @ jnp.tanh(x)


@pytest.mark.parametrize("options", [{}, {"num_terms": 1, "continuation": 0.7}], ids=str)
def test_estimated_log_determinants_and_gradients_are_unbiased(options, float64):
    num = 20_000
    W = table.normal(20, 3, 3)
    net = Strong(0.79 * W / jnp.linalg.norm(W, 2)) if options else layer(activation="elu").net
    exact, estimated = Residual(SPACE, net), Residual(SPACE, net, "unbiased", **options)
    x = 0.3 * table.normal(6, 3)

    def value(bijection, x, key=None):
        return bijection.forward_and_log_det(x, key=key)[1]

    def value_and_slopes(bijection, x, key=None):
        """The log-determinant, its gradient, and the gradient for all the parameters."""
        params, rest = eqx.partition(bijection, eqx.is_inexact_array)
        f, gradient = jax.value_and_grad(lambda p, x: value(eqx.combine(p, rest), x, key), (0, 1))(params, x)
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves((f, gradient))])

    truth = value_and_slopes(exact, x)
    jacobian = jax.jacfwd(lambda x: exact.forward_and_log_det(x)[0])(x)
    assert float(truth[0]) == pytest.approx(float(jnp.linalg.slogdet(jacobian)[1]), rel=1e-12)
    assert float(jnp.linalg.norm(jacobian - jnp.eye(3))) > (0.5 if options else 0.1)  # far from the identity
    draws = jax.jit(jax.vmap(lambda key: value_and_slopes(estimated, x, key)))(jr.split(jr.key(0), num))
    error = jnp.std(draws, axis=0) / np.sqrt(num)
    pulls = np.abs(np.asarray((jnp.mean(draws, axis=0) - truth) / jnp.maximum(error, 1e-12)))
    # The first number within 4 standard errors (false alarm: 6e-5). Of the about 90 others, 5 is 5e-5 in all.
    assert pulls[0] < 4
    assert pulls.max() < 5
    assert float(jnp.max(error)) < 0.05 * float(jnp.max(jnp.abs(truth)))


def test_keys_make_the_noise():
    bijection = layer(log_det="unbiased")
    x = jnp.broadcast_to(table.normal(7, 3), (4, 3))
    keys = jr.split(jr.key(0), 4)
    by_key = jax.vmap(lambda k, x: bijection.forward_and_log_det(x, key=k)[1])(keys, x)
    one_by_one = jnp.stack([bijection.forward_and_log_det(x[0], key=key)[1] for key in keys])
    np.testing.assert_allclose(by_key, one_by_one, rtol=1e-5)
    assert len(np.unique(np.asarray(by_key))) == 4
    shared = jax.vmap(lambda x: bijection.forward_and_log_det(x, key=keys[0])[1])(x)
    np.testing.assert_allclose(shared, one_by_one[0], rtol=1e-5)
    legacy = bijection.forward_and_log_det(x[0], key=jr.key_data(keys[0]))[1]
    np.testing.assert_allclose(legacy, one_by_one[0], rtol=1e-5)


def test_without_a_key_the_error_says_what_to_do():
    model, x = flow(log_det="unbiased"), jnp.zeros(2)
    for call in (model.log_prob, model.log_density, layer(2, log_det="unbiased").forward_and_log_det):
        with pytest.raises(ValueError, match=r"needs a key: pass `key=`"):
            call(x)
    assert model.log_prob(x, key=jr.key(0)).shape == ()
    np.testing.assert_allclose(exact_log_det(model).log_prob(x), flow().log_prob(x), rtol=1e-6)


def test_evaluate_says_that_the_likelihood_is_unbiased():
    model = flow(log_det="unbiased")
    data = np.asarray(table.normal(8, 40, 2))
    estimated = lnz.evaluate(jr.key(1), model, data)
    exact = lnz.evaluate(jr.key(1), exact_log_det(model), data)
    assert (exact.bound, estimated.bound) == ("exact", "unbiased")
    assert 0 < estimated.monte_carlo_error < 0.05
    # Chance of a false alarm: 6e-5, a little more for an error from 4 draws each.
    assert abs(estimated.value - exact.value) < 4 * estimated.monte_carlo_error
    assert "unbiased estimate, n = 40" in str(estimated)
    assert "numerator estimated without bias (4 draws for each example)" in estimated.how
    assert np.isnan(float(lnz.core.integral(jr.key(0), model.numerator(jnp.zeros(2))).standard_error))
    table_of_both = lnz.compare({"estimated": estimated, "exact": exact})
    assert "unbiased" in str(table_of_both)


def test_maximum_likelihood_trains_it_by_estimates():
    model = flow(log_det="unbiased")
    data = np.asarray(table.normal(9, 256, 2)) * np.array([0.3, 1.0]) + np.array([1.0, 0.0])
    data = (data + np.sign(data[:, 1:]) * np.array([0.0, 1.0])).astype(np.float32)
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.adam(1e-2))
    fit = lnz.fit(jr.key(2), model, method, data, steps=150, batch_size=64)
    before, after = (lnz.evaluate(jr.key(1), exact_log_det(m), data) for m in (model, fit.model))
    assert after.value > before.value + 1


def test_draws_and_files(tmp_path):
    model = flow(log_det="unbiased")
    x, log_prob = model.sample_and_log_prob(jr.key(3), (5,))
    assert x.shape == (5, 2)
    assert bool(jnp.all(jnp.isfinite(log_prob)))
    lnz.save(tmp_path / "flow.lnz", model)
    again = lnz.load(tmp_path / "flow.lnz")
    assert float(again.log_prob(x[0], key=jr.key(4))) == float(model.log_prob(x[0], key=jr.key(4)))
    assert "Chen, Ricky T. Q." in lnz.cite(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Residual(SPACE, lnz.nets.MLP(3, 3, key=jr.key(0))), r"`lipschitz` constant below one; got MLP"),
        (
            lambda: Residual(SPACE, LipschitzMLP(3, key=jr.key(0), coefficient=1.0)),
            r"below one; got LipschitzMLP with 1",
        ),
        (lambda: layer(log_det="rough"), r"'exact' or 'unbiased'; got 'rough'"),
        (lambda: layer(num_terms=0), r"num_terms=...\)` must be at least 1"),
        (lambda: layer(continuation=1.0), r"between 0 and 1; got 1.0"),
        (lambda: layer(tolerance=0.0), r"must be positive; got 0.0"),
        (lambda: LipschitzMLP(3, key=jr.key(0), activation="relu"), r"'lipswish', 'elu' or 'tanh'; got 'relu'"),
        (lambda: LipschitzMLP(3, key=jr.key(0), coefficient=0.0), r"must be positive; got 0.0"),
    ],
)
def test_errors(make, message, untyped):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_inverse_class_turns_it():
    bijection, x = layer(), table.normal(10, 3)
    there = bijection.forward_and_log_det(x)
    back = Inverse(bijection).inverse_and_log_det(x)
    np.testing.assert_array_equal(there[0], back[0])
