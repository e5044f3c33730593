"""Couplings, autoregressive maps and splines: structure, stress, and what the laws of bijections do not say."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table
from jax.flatten_util import ravel_pytree

import lnz
from lnz.bijections import (
    AffineTransformer,
    Chain,
    Elementwise,
    Inverse,
    MaskedAutoregressive,
    Permutation,
    Scan,
    ShiftTransformer,
    SoftplusAffineTransformer,
    SplineTransformer,
)
from lnz.nets import MLP, MaskedMLP

TRANSFORMERS = {
    "affine": AffineTransformer(),
    "softplus_affine": SoftplusAffineTransformer(),
    "shift": ShiftTransformer(),
    "spline": SplineTransformer(6, -3.0, 3.0),
    "spline_off_centre": SplineTransformer(3, 0.5, 2.0),
    "circular": SplineTransformer(5, -np.pi, np.pi, circular=True),
}


def numbers_that_hurt(transformer):
    """Far out, at and beside the ends, zero, the smallest numbers there are."""
    dtype = jnp.result_type(float)
    low, high = getattr(transformer, "low", -3.0), getattr(transformer, "high", 3.0)
    ends = [np.nextafter(np.asarray(e, dtype), np.asarray(d, dtype)) for e in (low, high) for d in (-9.0, 9.0)]
    small = [np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).eps]
    plain = [0.0, low, high, 1e8, 1e4, 10.0, 1.0, 0.3]
    values = np.array([*plain, *small, *map(float, ends)], dtype)
    return jnp.asarray(np.concatenate([values, -values]))


@pytest.mark.parametrize("transformer", TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
def test_no_input_and_no_parameter_makes_a_number_that_is_not_finite(transformer, precision):
    x = numbers_that_hurt(transformer)
    unit = table.normal(1, transformer.num_params, len(x))

    @jax.jit
    def everything(raw, x):
        out = []
        for function in (transformer.forward, transformer.inverse):

            def both(raw, x, function=function):
                y, log_derivative = function(raw, x)
                return jnp.sum(y) + jnp.sum(log_derivative)

            per_example = jax.vmap(jax.value_and_grad(both, (0, 1)), (1, 0))(raw, x)
            out += [function(raw, x), jax.grad(both, (0, 1))(raw, x), per_example]
        return out

    for size in (0.0, 1.0, 30.0, 1e4, 1e8):
        for leaf in jax.tree.leaves(everything(size * unit, x)):
            assert np.all(np.isfinite(leaf)), size


def test_at_knots_both_bins_agree(float64):
    """Value and derivative are continuous, also where a bin is chosen by rounding."""
    spline = SplineTransformer(4, -2.0, 2.0)
    raw = table.normal(2, spline.num_params, 1)
    knots = -2 + 4 * np.cumsum(np.asarray(spline._parts(raw[:4])), axis=0)[:, 0]
    for knot in knots:
        for function, x in (
            (spline.forward, knot),
            (spline.inverse, float(spline.forward(raw, jnp.array([knot]))[0][0])),
        ):
            y, log_derivative = function(raw, x + jnp.array([-1e-9, 0.0, 1e-9]))
            assert np.ptp(np.asarray(y)) < 1e-7
            assert np.ptp(np.asarray(log_derivative)) < 1e-6


def test_spline_follows_its_equation(float64):
    """Against the formula with the bin found by NumPy."""
    spline = SplineTransformer(5, -1.0, 3.0)
    raw = table.normal(3, spline.num_params)
    widths, heights = (np.exp(r) / np.exp(r).sum() for r in np.split(np.asarray(raw[:10]), 2))
    x_k, y_k = (-1 + 4 * np.concatenate([[0], np.cumsum(1e-3 + (1 - 5e-3) * p)]) for p in (widths, heights))
    inner = 1e-3 + np.log1p(np.exp(np.asarray(raw[10:]) + np.log(np.expm1(1 - 1e-3))))
    d = np.concatenate([[1], inner, [1]])
    for x in np.linspace(-0.99, 2.99, 23):
        k = np.searchsorted(x_k, x) - 1
        xi, s = (x - x_k[k]) / (x_k[k + 1] - x_k[k]), (y_k[k + 1] - y_k[k]) / (x_k[k + 1] - x_k[k])
        denominator = s + (d[k + 1] + d[k] - 2 * s) * xi * (1 - xi)
        y = y_k[k] + (y_k[k + 1] - y_k[k]) * (s * xi**2 + d[k] * xi * (1 - xi)) / denominator
        slope = s**2 * (d[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + d[k] * (1 - xi) ** 2) / denominator**2
        ours, log_derivative = spline.forward(raw[:, None], jnp.array([x]))
        assert float(ours[0]) == pytest.approx(y, abs=1e-12)
        assert float(log_derivative[0]) == pytest.approx(np.log(slope), abs=1e-12)


@pytest.mark.parametrize("transformer", TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
def test_raw_zero_is_the_identity(transformer, precision):
    x = numbers_that_hurt(transformer)
    y, log_derivative = transformer.forward(jnp.zeros((transformer.num_params, len(x))), x)
    np.testing.assert_allclose(y, x, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(log_derivative, 0, atol=2e-6)


def test_circular_spline_has_one_derivative_at_the_joint(float64):
    spline = TRANSFORMERS["circular"]
    raw = table.normal(4, spline.num_params, 1)
    ends = jnp.array([spline.low, spline.high]) + jnp.array([1e-12, -1e-12])
    _, log_derivative = spline.forward(raw, ends)
    assert abs(float(log_derivative[0])) > 0.01
    assert float(log_derivative[0]) == pytest.approx(float(log_derivative[1]), abs=1e-9)


def jacobian(make, x):
    """Of the function that `make()` returns, built and differentiated in one compiled program."""
    return np.asarray(jax.jit(lambda x: jax.jacfwd(make())(x))(x))


@pytest.mark.parametrize("num", range(1, 9))
def test_masked_networks_see_only_what_comes_before(num, float64):
    """Exact zeros, and nothing allowed is cut off; every other one with residual connections."""

    def make():
        net = MaskedMLP(num, 2, key=jr.key(num), width=11, depth=3, residual=num % 2 == 0, activation=jnp.tanh)
        return table.away_from_identity(net)

    seen = np.abs(jacobian(make, table.normal(5, num))).sum(axis=0)
    assert np.array_equal(seen != 0, np.tril(np.ones((num, num)), -1).astype(bool))


@pytest.mark.parametrize(("num", "width"), [(1, 5), (2, 7), (3, 2), (8, 20), (9, 3)])
def test_products_in_parts_are_the_whole_products(num, width, float64):
    """With inputs, hidden units and outputs in two parts, also where one of them is empty; as on a GPU, in one part."""

    def written_out(net, x):
        *inner, last = net.masked()
        h = x
        for i, (W, b) in enumerate(zip(inner, net.biases[:-1], strict=True)):
            after = jax.nn.relu(W @ h + b[:, None])
            h = h + after if net.residual and i else after
        return jnp.tensordot(last, h, 1) + net.biases[-1][..., None]

    @eqx.filter_jit
    def both(residual, x, weights):
        net = MaskedMLP(num, 2, key=jr.key(3), width=width, depth=3, residual=residual)
        # Derivatives take other products than values do.
        gradients = (
            eqx.filter_grad(lambda part, f: jnp.sum(weights * f(*part)))((net, x), f) for f in (calls, written_out)
        )
        tangent = jax.jvp(net.call_batch_last, (x,), (jnp.cos(x),))[1]
        same_tangent = jax.jvp(lambda x: written_out(net, x), (x,), (jnp.cos(x),))[1]
        return (net.call_batch_last(x), tangent, *gradients), (written_out(net, x), same_tangent)

    def calls(net, x):
        return net.call_batch_last(x)

    for residual in (False, True):
        (found, tangent, gradient, same), (whole, same_tangent) = both(
            residual, table.normal(12, num, 4), table.normal(13, 2, num, 4)
        )
        assert found.shape == (2, num, 4)
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-14)
        np.testing.assert_allclose(tangent, same_tangent, rtol=0, atol=1e-14)
        for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(same), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


def test_derivatives_in_one_argument_compute_no_products_of_the_other():
    """A velocity's derivative in x, of fixed weights, has the products of one pass twice, not thrice."""
    net, x = MaskedMLP(9, 2, key=jr.key(0), width=40), table.normal(1, 9, 30)

    def work(function):
        return jax.jit(function).lower(x).compile().cost_analysis()["flops"]

    forward = work(lambda x: net._whole(x))
    assert 1.8 * forward < work(lambda x: jax.jvp(net.call_batch_last, (x,), (x,))) < 2.1 * forward


@pytest.mark.parametrize("num", range(2, 9))
def test_flow_jacobians_have_the_structure_they_declare(num, float64):
    space, x, transformer = lnz.Euclidean(num), table.normal(6, num), AffineTransformer()
    kept = num // 2

    def make():
        net = table.away_from_identity(MaskedMLP(num, 2, key=jr.key(0), width=9))
        masked = MaskedAutoregressive(space, net, transformer)
        net = table.away_from_identity(MLP(kept, (2, num - kept), key=jr.key(0), width=9))
        coupling = lnz.bijections.Coupling(space, kept, net, transformer)
        maps = [masked.forward_and_log_det, coupling.forward_and_log_det]
        if num == 6:  # two blocks and a rest would take long to compile for every size
            maps.append(masked.inverse_and_log_det)
        return lambda x: [f(x)[0] for f in maps]

    forward, coupled, *inverse = jax.jit(lambda x: jax.jacfwd(make())(x))(x)
    for J in (forward, *inverse):
        assert not np.triu(J, 1).any()
        assert np.all(np.diagonal(J) != 0)
    assert np.array_equal(coupled[:kept], np.eye(num)[:kept])
    assert np.array_equal(np.asarray(coupled)[kept:, kept:] != 0, np.eye(num - kept, dtype=bool))


@pytest.mark.parametrize(
    ("num", "options"), [(5, {}), (8, {"width": 3, "depth": 1}), (9, {"residual": True, "depth": 3}), (17, {})]
)
def test_substitution_is_the_inverse_by_whole_passes(num, options, float64):
    """Also where there are fewer hidden units than variables, and where the last block is not full."""
    transformer = SplineTransformer(4)
    net = MaskedMLP(num, transformer.num_params, key=jr.key(1), **{"width": 20, **options})
    flow = table.away_from_identity(MaskedAutoregressive(lnz.Euclidean(num), net, transformer))
    y = table.normal(7, 6, num)
    x, log_det = jax.jit(lambda y: jax.vmap(flow.inverse_and_log_det)(y))(y)
    slow, log_derivative = jax.jit(lambda y: flow._one_by_one(y))(y.T)
    np.testing.assert_allclose(x, slow.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(log_det, log_derivative.sum(axis=0), rtol=0, atol=1e-12)
    one = jax.jit(lambda y: flow.inverse_and_log_det(y))(y[0])[0]
    np.testing.assert_allclose(one, x[0], rtol=0, atol=1e-12)


def test_gradient_through_the_sequential_direction(float64):
    flow = table.flow("masked_autoregressive", 6)
    x, direction = table.normal(8, 6), table.normal(9, 6)

    def f(t):
        y, log_det = flow.forward_and_log_det(x + t * direction)
        return jnp.sum(jnp.sin(y)) + log_det

    step = 1e-6
    assert float(jax.grad(f)(0.0)) == pytest.approx(float((f(step) - f(-step)) / (2 * step)), rel=1e-6)


@pytest.mark.parametrize("name", ["coupling_spline", "autoregressive_spline"])
def test_gradients_out_of_bounds_are_finite_differences(name, float64):
    flow = lnz.Transformed(lnz.Normal.standard(3), table.flow(name, 3, bound=2.0))
    params, static = eqx.partition(flow, lnz.trainable(flow))
    flat, unflatten = ravel_pytree(params)
    direction = table.normal(10, len(flat))
    for x in (jnp.array([0.3, -5.0, 1.0]), jnp.array([2.0, -2.0, 40.0]), jnp.array([1.9, 0.2, -1.7])):

        def f(t, x=x):
            return eqx.combine(unflatten(flat + t * direction), static).log_prob(x)

        numeric = (f(1e-6) - f(-1e-6)) / 2e-6
        assert float(jax.grad(f)(0.0)) == pytest.approx(float(numeric), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["coupling_spline", "masked_autoregressive"])
def test_scan_is_its_layers_one_by_one_with_and_without_jit(name, precision):
    scan = table.flow(name, 5, order="random")
    layers = [jax.tree.map(lambda leaf, i=i: leaf[i] if eqx.is_array(leaf) else leaf, scan.layers) for i in range(2)]
    again = Scan.stack(layers)
    assert eqx.tree_equal(scan, again)
    x = table.normal(11, 4, 5)
    tolerance = 1e-12 if precision == "float64" else 1e-5
    for direction in ("forward_and_log_det", "inverse_and_log_det"):
        ours = jax.vmap(getattr(scan, direction))(x)
        for other in (
            jax.vmap(getattr(Chain(*layers), direction))(x),
            jax.jit(jax.vmap(getattr(scan, direction)))(x),
            jax.tree.map(lambda *rows: jnp.stack(rows), *[getattr(scan, direction)(row) for row in x]),
        ):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, other)


def test_a_network_of_equinox_will_do(precision):
    net = eqx.nn.MLP(2, 4, 8, 1, key=jr.key(0))
    coupling = lnz.bijections.Coupling(lnz.Euclidean(4), 2, lambda x: net(x).reshape(2, 2), AffineTransformer())
    lnz.testing.check_bijection(coupling, table.normal(12, 3, 4))


def test_training_leaves_the_order_of_variables_alone():
    flow = lnz.Transformed(lnz.Normal.standard(3), lnz.flows.realnvp(lnz.Euclidean(3), key=jr.key(0), num_layers=2))
    order = flow.bijection.layers.bijections[1].order
    assert not any(leaf is order for leaf in jax.tree.leaves(eqx.filter(flow, lnz.trainable(flow))))


def test_draws_need_no_keys_for_layers_that_use_none():
    flow = lnz.Transformed(lnz.Normal.standard(2), Inverse(Permutation(jnp.array([1, 0], jnp.int32), lnz.Euclidean(2))))
    jaxpr = str(jax.make_jaxpr(lambda key: flow.sample(key, (1000,)))(jr.key(0)))
    assert "key<fry>[1000]" not in jaxpr


def test_flow_is_trained_by_fit():
    """A coupling flow learns what a normal cannot: log-likelihood above the best normal's by many standard errors."""
    data = lnz.data.load("two_moons")
    moons = np.asarray(data.train[:1000], np.float32)
    flow = lnz.Transformed(
        lnz.Normal.standard(2),
        Inverse(lnz.flows.coupling_spline(lnz.Euclidean(2), key=jr.key(0), num_layers=4, width=32)),
    )
    fit = lnz.fit(
        jr.key(1),
        flow,
        lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.adam(3e-3)),
        moons,
        steps=300,
        batch_size=200,
    )
    ours = lnz.evaluate(jr.key(2), fit.model, data.test)
    assert ours.bound == "exact"
    covariance = np.cov(moons.T)
    normal = lnz.MultivariateNormal.from_covariance(moons.mean(axis=0), jnp.asarray(covariance, jnp.float32))
    assert ours.value > lnz.evaluate(jr.key(2), normal, data.test).value + 0.3


@pytest.mark.usefixtures("untyped")
def test_wrong_calls_say_what_to_try():
    key, space = jr.key(0), lnz.Euclidean(3)
    with pytest.raises(TypeError, match="Euclidean"):
        lnz.flows.masked_autoregressive(3, key=key)
    with pytest.raises(TypeError, match="at least 2 variables"):
        lnz.flows.realnvp(lnz.Euclidean(1), key=key)
    with pytest.raises(ValueError, match="'reverse' or 'random'"):
        lnz.flows.realnvp(space, key=key, order="shuffled")
    with pytest.raises(ValueError, match="'density' or 'draws'"):
        lnz.flows.autoregressive(space, AffineTransformer(), key=key, fast="both")
    with pytest.raises(ValueError, match=r"`MaskedAutoregressive\(tolerance=...\)` must be positive; got 0.0"):
        MaskedAutoregressive(lnz.Euclidean(2), MaskedMLP(2, 2, key=jr.key(0)), AffineTransformer(), tolerance=0.0)
    with pytest.raises(ValueError, match="'substitution' or 'fixed_point'"):
        lnz.flows.masked_autoregressive(space, key=key, inversion="newton")
    with pytest.raises(ValueError, match=r"num_layers=\.\.\.\).* at least 1"):
        lnz.flows.realnvp(space, key=key, num_layers=0)
    with pytest.raises(ValueError, match="num_bins"):
        SplineTransformer(1)
    with pytest.raises(ValueError, match="low < high"):
        SplineTransformer(4, 1.0, -1.0)
    with pytest.raises(ValueError, match="one example of shape"):
        Elementwise(SplineTransformer(4), jnp.zeros((11, 3))).forward_and_log_det(jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match="has 2 inputs"):
        MaskedAutoregressive(space, MaskedMLP(2, 2, key=key), AffineTransformer())
    with pytest.raises(ValueError, match="only in the values of their arrays"):
        Scan.stack(
            [Elementwise(AffineTransformer(), jnp.zeros((2, 3))), Elementwise(ShiftTransformer(), jnp.zeros((1, 3)))]
        )


@pytest.mark.parametrize("order", ["reverse", "random"])
def test_two_couplings_change_every_variable(order):
    """A random order alone would leave each variable as it is with probability one in four."""
    for num in (2, 3, 7):
        flow = lnz.flows.realnvp(lnz.Euclidean(num), key=jr.key(num), num_layers=2, width=4, order=order)
        moved = table.away_from_identity(flow, 0.3)
        assert np.all(np.asarray(jax.jit(lambda x, flow=moved: flow.forward_and_log_det(x)[0])(jnp.zeros(num))) != 0)


@pytest.mark.parametrize("transformer", TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
@pytest.mark.parametrize("size", [0.0, 1.0])
def test_derivatives_are_the_reported_ones_at_knots_and_ends_too(transformer, size, float64):
    """By automatic differentiation; at raw = 0 the knots are known, and zero is one of them."""
    low, high = getattr(transformer, "low", -3.0), getattr(transformer, "high", 3.0)
    knots = np.linspace(low, high, getattr(transformer, "num_bins", 6) + 1)[1:-1]
    x = jnp.asarray(np.concatenate([knots, [0.0, 0.1, low + 1e-12, high - 1e-12, low - 1, high + 1]]))
    raw = size * table.normal(13, transformer.num_params, len(x))
    for function in (transformer.forward, transformer.inverse):
        slopes = jax.jit(jax.vmap(jax.grad(lambda x, raw, f=function: f(raw, x)[0]), (0, 1)))(x, raw)
        np.testing.assert_allclose(jnp.log(slopes), function(raw, x)[1], rtol=1e-9, atol=1e-9)


def test_untrained_flows_obey_the_law_at_zero(precision):
    flow = lnz.flows.coupling_spline(lnz.Euclidean(2), key=jr.key(0), num_layers=2, width=4)
    lnz.testing.check_bijection(flow, jnp.zeros((2, 2)))


@pytest.mark.parametrize("name", ["realnvp", "masked_autoregressive"])
def test_an_ensemble_of_flows_is_its_members(name):
    """`vmap` over whole flows, orders of variables included."""

    def make(key):
        flow = getattr(lnz.flows, name)(lnz.Euclidean(4), key=key, num_layers=2, width=5, order="random")
        return lnz.Transformed(lnz.Normal.standard(4), table.away_from_identity(flow, 0.2))

    keys, x = jr.split(jr.key(0), 3), table.normal(14, 4)
    together = eqx.filter_jit(eqx.filter_vmap(lambda flow: flow.log_prob(x)))(eqx.filter_vmap(make)(keys))
    alone = [eqx.filter_jit(make(key).log_prob)(x) for key in keys]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-5)


def test_concatenated_maps_act_side_by_side(precision):
    affine, spline = lnz.bijections.Affine(jnp.ones(2), 3.0), lnz.bijections.Softplus(lnz.Positive(1))
    both = lnz.bijections.Concatenate(affine, spline)
    assert both.codomain == lnz.Product(lnz.Euclidean(2), lnz.Positive(1))
    lnz.testing.check_bijection(both, table.normal(15, 4, 3))
    y, log_det = both.forward_and_log_det(jnp.array([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(y, [4.0, 7.0, np.log(2)], rtol=1e-6)
    assert float(log_det) == pytest.approx(2 * np.log(3) + np.log(0.5), rel=1e-6)
    with pytest.raises(ValueError, match="vectors"):
        lnz.bijections.Concatenate(lnz.bijections.Affine(jnp.ones(()), 2.0))


def test_stacked_maps_act_on_slices(precision):
    """By hand, and a `Vmap` is the `Stack` of its parts, also with keys for each."""
    parts = [lnz.bijections.Affine(table.normal(i, 3), 2.0 + i) for i in range(2)]
    stack = lnz.bijections.Stack(*parts)
    x = table.normal(15, 2, 3)
    y, log_det = stack.forward_and_log_det(x)
    np.testing.assert_allclose(y, [2 * x[0] + parts[0].loc, 3 * x[1] + parts[1].loc], rtol=1e-6)
    assert float(log_det) == pytest.approx(3 * np.log(6), rel=1e-6)
    nets = [Shrink(table.normal(i, 3)) for i in (3, 4)]
    layers = [Inverse(lnz.bijections.Residual(lnz.Euclidean(3), net, "unbiased")) for net in nets]
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *layers)
    both = lnz.bijections.Stack(*layers), lnz.bijections.Vmap(stacked, 2)
    ours, theirs = (eqx.filter_jit(f.inverse_and_log_det)(x, key=jr.key(0)) for f in both)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    assert float(ours[1]) == pytest.approx(float(theirs[1]), rel=1e-5)
    positive = lnz.bijections.Vmap(lnz.bijections.Exp(lnz.Positive(3)), 2)
    assert (positive.domain, positive.codomain) == (lnz.Euclidean((2, 3)), lnz.Positive((2, 3)))
    with pytest.raises(ValueError, match=r"the same domain and codomain; number 0 .* number 1 .*`Concatenate"):
        lnz.bijections.Stack(parts[0], lnz.bijections.Exp(lnz.Positive(3)))
    product = lnz.Product(lnz.Euclidean(1), lnz.Positive(1))
    with pytest.raises(ValueError, match=r"`Vmap\(parts\)` needs a space that may have any shape; got Product"):
        lnz.bijections.Vmap.of(lambda order: Permutation(order, product), jnp.array([[1, 0]]))


def test_vmap_needs_parts_that_are_stacked_once():
    """Else a vector's own axis would pass for that of the parts, without a word."""
    affine = lnz.bijections.Affine(jnp.arange(3.0), 2.0)
    again = {num: jax.tree.map(lambda leaf, num=num: jnp.stack([leaf] * num), affine) for num in (2, 3)}
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), again[3])
    elementwise = lnz.bijections.Elementwise(lnz.bijections.AffineTransformer(), jnp.zeros((2, 3)))
    for parts, num in [(affine, 3), (again[2], 3), (twice, 3), (elementwise, 2), (Inverse(affine), 3)]:
        with pytest.raises(ValueError, match=rf"`Vmap\(parts, num={num}\)` needs .* stacked along one new first axis"):
            lnz.bijections.Vmap(parts, num)
    assert lnz.bijections.Vmap(again[3], 3).domain == lnz.Euclidean((3, 3))
    inner = lnz.bijections.Vmap.of(lambda loc: lnz.bijections.Affine(loc, 2.0), jnp.zeros((2, 3)))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), inner)  # two maps, each with an axis of its own parts
    assert lnz.bijections.Vmap(stacked, 2).domain == lnz.Euclidean((2, 2, 3))
    with pytest.raises(ValueError, match="got Vmap with arrays"):
        lnz.bijections.Vmap(inner, 2)


class Shrink(eqx.Module):
    """`tanh(x w) / 2` in each variable, of a slope below one half."""

    w: jax.Array
    lipschitz: float = eqx.field(static=True, default=0.5)

    def __call__(self, x):
        return jnp.tanh(x * jnp.tanh(self.w)) / 2


def test_a_base_that_would_not_integrate_to_one_is_refused():
    to_positive = lnz.bijections.Power(jnp.ones(1))
    with pytest.raises(ValueError, match="would not integrate to one"):
        lnz.Transformed(lnz.Normal.standard(1), to_positive)
    with pytest.raises(ValueError, match="counting measure"):
        lnz.Transformed(lnz.Bernoulli(jnp.zeros(1)), lnz.bijections.Affine(jnp.zeros(1), 2.0))


def test_one_program_for_a_flow_called_again():
    """Without `jit` too: what is called is compiled once, not at every call."""
    flow = lnz.Transformed(lnz.Normal.standard(3), table.flow("realnvp", 3))
    xs = table.normal(16, 5, 3)
    jax.vmap(flow.log_prob)(xs)
    before = lnz.numerics._batch_last._compiled._cache_size()
    jax.vmap(flow.log_prob)(xs + 1)
    assert lnz.numerics._batch_last._compiled._cache_size() == before


@pytest.mark.parametrize(
    "net", [lnz.nets.GatedMLP, lambda num_in, out, **options: MLP(num_in, out, **options, depth=1)]
)
def test_a_flow_takes_networks_of_any_kind(net):
    """The log-determinant is that of the Jacobian, by `jax.jacfwd`."""
    made = lnz.flows.realnvp(lnz.Euclidean(3), key=jr.key(0), num_layers=2, net=net, width=4)
    flow, x = table.away_from_identity(made), table.normal(3, 3)
    y, log_det = flow.forward_and_log_det(x)
    expected = np.linalg.slogdet(np.asarray(jax.jacfwd(flow.forward)(x), np.float64))[1]
    assert float(log_det) == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(flow.inverse(y), x, atol=1e-5)
    assert abs(expected) > 1e-3
