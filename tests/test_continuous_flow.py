"""Continuous flows: closed forms, errors that fall with the tolerance, unbiased traces, flow matching."""

import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.bijections import Affine, Chain, Continuous, Inverse, Residual
from lnz.core import exact_log_det

pytest.importorskip("diffrax", reason="continuous flows need the extra `ode`")

SPACE = lnz.Euclidean(2)
A = np.array([[0.3, -1.2], [0.9, -0.5]])


@lnz.register
class LinearField(eqx.Module):
    """`(1 + t) A x`: at time 1 `expm(1.5 A) x`, with the log-determinant 1.5 tr A."""

    A: jax.Array

    def __call__(self, t, x):
        return (1 + t) * (self.A @ x)


def linear(**options):
    return Continuous(SPACE, LinearField(jnp.asarray(A, jnp.result_type(float))), **options)


def curved(num=2, width=6, scale=0.3, **options):
    bijection = lnz.flows.continuous(lnz.Euclidean(num), key=jr.key(1), width=width, depth=1, **options)
    return table.away_from_identity(bijection, scale)


def test_a_linear_field_is_a_matrix_exponential(float64):
    bijection, x = linear(rtol=1e-11, atol=1e-11, solver="dopri8"), table.normal(1, 2)
    y, log_det = eqx.filter_jit(bijection.forward_and_log_det)(x)
    expm = jax.scipy.linalg.expm(1.5 * jnp.asarray(A))
    np.testing.assert_allclose(y, expm @ x, rtol=1e-9)
    assert float(log_det) == pytest.approx(1.5 * np.trace(A), rel=1e-9)
    back, inverse_log_det = eqx.filter_jit(bijection.inverse_and_log_det)(y)
    np.testing.assert_allclose(back, x, rtol=1e-9)
    assert float(inverse_log_det) == pytest.approx(-1.5 * np.trace(A), rel=1e-9)


def test_the_error_falls_with_the_tolerance(float64):
    x = table.normal(2, 6, 2)

    def results(tolerance):
        bijection = curved(scale=0.8, rtol=tolerance, atol=tolerance)
        y, log_det = jax.vmap(bijection.forward_and_log_det)(x)
        back, inverse_log_det = jax.vmap(bijection.inverse_and_log_det)(y)
        return y, log_det, jnp.max(jnp.abs(back - x)), jnp.max(jnp.abs(log_det + inverse_log_det))

    tolerances = [1e-3, 1e-5, 1e-7, 1e-9]
    solved = [jax.jit(lambda t=t: results(t))() for t in tolerances]
    y, log_det, *_ = jax.jit(lambda: results(1e-12))()
    errors = np.array(
        [
            [float(jnp.max(jnp.abs(r[0] - y))), float(jnp.max(jnp.abs(r[1] - log_det))), float(r[2]), float(r[3])]
            for r in solved
        ]
    )
    # Each hundredth of the tolerance is at least a tenth of the error, and the error is of its size.
    assert np.all(errors[1:] < errors[:-1] / 10)
    assert np.all(errors < 100 * np.array(tolerances)[:, None])


def test_the_log_determinant_is_that_of_the_jacobian_in_reverse_mode(float64):
    bijection, x = curved(3, scale=0.5, rtol=1e-10, atol=1e-10), table.normal(3, 3)
    jacobian = jax.jit(jax.jacrev(lambda x: bijection.forward_and_log_det(x)[0]))(x)
    assert float(jnp.linalg.norm(jacobian - jnp.eye(3))) > 0.3
    log_det = eqx.filter_jit(bijection.forward_and_log_det)(x)[1]
    assert float(log_det) == pytest.approx(float(jnp.linalg.slogdet(jacobian)[1]), abs=1e-8)


@pytest.mark.parametrize("adjoint", ["checkpoint", "backsolve"])
def test_gradients_are_those_of_finite_differences(adjoint, float64):
    flow = lnz.Transformed(lnz.Normal.standard(2), curved(scale=0.5, rtol=1e-9, atol=1e-9, adjoint=adjoint))
    x = table.normal(4, 2)
    params, rest = eqx.partition(flow, eqx.is_inexact_array)
    value = jax.jit(lambda params, x: eqx.combine(params, rest).log_prob(x))
    direction = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), (params, x))

    def along(t):
        return value(*jax.tree.map(lambda a, d: a + t * d, (params, x), direction))

    gradient = jax.jit(jax.grad(value, argnums=(0, 1)))(params, x)
    inner = sum(jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    h = 1e-3
    differences = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    # The solution itself is known to about 1e-8; divided by h that is 1e-5.
    assert float(inner) == pytest.approx(float(differences), rel=1e-5, abs=1e-5)


def test_the_estimated_trace_is_unbiased(float64):
    options = {"scale": 0.5, "rtol": 1e-8, "atol": 1e-8}
    estimated, x = curved(3, divergence="hutchinson", **options), table.normal(5, 3)
    num = 1000
    draws = jax.jit(jax.vmap(lambda key: estimated.forward_and_log_det(x, key=key)[1]))(jr.split(jr.key(0), num))
    y, log_det = eqx.filter_jit(exact_log_det(estimated).forward_and_log_det)(x)
    error = float(jnp.std(draws)) / np.sqrt(num)
    assert 1e-4 < error < 0.1
    assert abs(float(jnp.mean(draws) - log_det)) < 4 * error  # false alarm: 6e-5
    np.testing.assert_allclose(estimated.forward_and_log_det(x, key=jr.key(1))[0], y, rtol=1e-6)
    with pytest.raises(ValueError, match=r"Continuous\(divergence='hutchinson'\)` estimates .* needs a key"):
        estimated.inverse_and_log_det(x)


def test_it_works_inside_other_bijections():
    flow = Chain(Affine(jnp.ones(2), 2.0), Inverse(curved()))
    x = table.normal(6, 4, 2)
    params, rest = eqx.partition(flow, eqx.is_inexact_array)

    def loss(params, f):
        return jnp.sum(f(eqx.combine(params, rest), x))

    def batched(flow, x):
        return jax.vmap(flow.inverse_and_log_det)(x)[1]

    def one_by_one(flow, x):
        return jnp.stack([flow.inverse_and_log_det(row)[1] for row in x])

    batch = jax.jit(jax.value_and_grad(lambda p: loss(p, batched)))(params)
    loop = jax.jit(jax.value_and_grad(lambda p: loss(p, one_by_one)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), batch, loop)


@pytest.fixture(scope="module")
def mixture():
    """Four corners: far from the base, which is the flow at the start."""
    corners = jnp.asarray([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
    return lnz.Mixture(jnp.zeros(4), lnz.Normal(corners, jnp.full((4, 2), 0.5)))


@pytest.fixture(scope="module")
def matched(mixture):
    flow = lnz.Transformed(
        lnz.Normal.standard(2), lnz.flows.continuous(SPACE, key=jr.key(1), width=32, rtol=1e-4, atol=1e-4)
    )
    method = lnz.Gradient(lnz.objectives.FlowMatching(), optax.adam(5e-3))
    data = np.asarray(mixture.sample(jr.key(2), (4000,)))
    return flow, lnz.fit(jr.key(3), flow, method, data, steps=1500, batch_size=128)


def test_flow_matching_trains_an_exact_likelihood(mixture, matched):
    flow, fit = matched
    test = np.asarray(mixture.sample(jr.key(4), (200,)))
    before, after = lnz.evaluate(jr.key(0), flow, test), lnz.evaluate(jr.key(0), fit.model, test)
    truth = lnz.evaluate(jr.key(0), mixture, test)
    assert (before.bound, after.bound, truth.bound) == ("exact", "exact", "exact")
    # Exact but for the solver's error, which is said wherever the number is.
    assert after.assumes == ("ODE error near the tolerance 0.0001",)
    assert "(exact, n = 200" in str(after)
    assert "assumes ODE error near the tolerance 0.0001" in str(after)
    assert "numerator exact, assuming ODE error" in after.how
    assert truth.assumes == ()
    # The base stands 2.9 nats below the truth; the flow makes up most of that.
    assert after.value > before.value + 2
    assert after.value < truth.value + 4 * truth.data_error


def test_what_is_solved_to_a_tolerance_is_assumed():
    """Also by estimates without bias, by models of which only a part is solved, and by nobody else."""

    def numerator(bijection):
        flow = lnz.Transformed(lnz.Normal.standard(2), bijection)
        return jax.eval_shape(lambda: lnz.core.integral(jr.key(0), flow.numerator(jnp.zeros(2))))

    estimated = numerator(linear(divergence="hutchinson", rtol=1e-3, atol=1e-4))
    said = "ODE error near the tolerance 0.001 (relative) and 0.0001"
    assert (estimated.bound, estimated.assumes) == ("unbiased", (said,))
    residual = Residual(SPACE, lnz.nets.LipschitzMLP(2, key=jr.key(0), width=2, depth=1))
    coarse = Residual(SPACE, residual.net, tolerance=1e-3)
    assert numerator(Inverse(residual)).assumes == ()
    assert numerator(Chain(Inverse(coarse), coarse)).assumes == (
        "inverses of residual layers, if any, to the tolerance 0.001",
    )
    masked = lnz.flows.masked_autoregressive(SPACE, key=jr.key(0), num_layers=1, width=2)
    assert numerator(masked).assumes == ()
    repeated = lnz.flows.masked_autoregressive(SPACE, key=jr.key(0), num_layers=1, width=2, inversion="fixed_point")
    assert numerator(repeated).assumes == (
        "inverses of autoregressive layers, if any, by repetition to the tolerance 1e-06",
    )
    prior = lnz.Transformed(lnz.Normal.standard(2), coarse)
    decoder = lnz.distributions.ConditionalBernoulli(lnz.nets.Linear.from_parameters(jnp.ones((3, 2)), jnp.zeros(3)))
    encoder = lnz.distributions.ConditionalNormal(lnz.nets.Linear.from_parameters(jnp.ones((2, 3)), jnp.zeros(2)), 1.0)
    vae = lnz.latent.VAE(prior, decoder, encoder)
    result = lnz.evaluate(jr.key(0), vae, np.zeros((2, 3)), hidden=lnz.normalizers.Bound(2))
    assert (result.bound, result.assumes) == ("lower", numerator(coarse).assumes)


def test_flow_matching_sees_through_preprocessing(float64):
    inner = lnz.Transformed(lnz.Normal.standard(2), curved())
    outer = lnz.Transformed(inner, Affine(jnp.ones(2), 3.0))
    objective, batch = lnz.objectives.FlowMatching(), table.normal(8, 16, 2)

    def loss(model, batch):
        return objective.loss(jr.key(0), model, (), batch)[0]

    assert float(loss(outer, 3 * batch + 1)) == pytest.approx(float(loss(inner, batch)), rel=1e-12)
    gradient = eqx.filter_grad(loss)(outer, 3 * batch + 1)
    assert not np.any(np.asarray(gradient.bijection.log_scale))
    assert any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(gradient.base.bijection))
    with pytest.raises(TypeError, match=r"got Transformed over Affine"):
        loss(lnz.Transformed(lnz.Normal.standard(2), Affine(jnp.ones(2), 3.0)), batch)
    with pytest.raises(TypeError, match=r"got Bernoulli"):
        loss(lnz.Bernoulli(jnp.zeros(2)), batch)


def test_flow_matching_of_one_normal_to_another(float64):
    """Between independent normals the least loss has a closed form: the spread of the lines through a point."""
    sigma, s = 0.7, 0.1

    class Best(eqx.Module):
        """`E[x_1 - (1 - s) x_0 | x_t]` of a line from N(0, 1) to N(0, sigma^2)."""

        def __call__(self, t, x):
            a = 1 - (1 - s) * t
            return (t * sigma**2 - (1 - s) * a) / (a**2 + t**2 * sigma**2) * x

    flow = lnz.Transformed(lnz.Normal.standard(1), Continuous(lnz.Euclidean(1), Best()))
    batch = sigma * table.normal(9, 50_000, 1)
    loss = lnz.objectives.FlowMatching(sigma_min=s).loss(jr.key(0), flow, (), batch)[0]
    t = (np.arange(2000) + 0.5) / 2000
    a = 1 - (1 - s) * t
    covariance = t * sigma**2 - (1 - s) * a
    least = np.mean(sigma**2 + (1 - s) ** 2 - covariance**2 / (a**2 + t**2 * sigma**2))
    # The standard error of 50,000 squares is about 0.4% of their mean; 4 of them.
    assert float(loss) == pytest.approx(least, rel=0.02)


def test_files_and_references(tmp_path):
    flow = lnz.Transformed(lnz.Normal.standard(2), curved(divergence="hutchinson"))
    lnz.save(tmp_path / "flow.lnz", flow)
    again = lnz.load(tmp_path / "flow.lnz")
    assert float(again.log_prob(jnp.ones(2), key=jr.key(4))) == float(flow.log_prob(jnp.ones(2), key=jr.key(4)))
    assert "FFJORD" in lnz.cite(flow)
    assert "Flow Matching" in lnz.cite(lnz.objectives.FlowMatching())


def test_a_missing_extra_is_named():
    code = """
    import sys
    sys.modules["diffrax"] = None
    import jax, lnz
    try:
        lnz.flows.continuous(lnz.Euclidean(2), key=jax.random.key(0))
    except ImportError as error:
        print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert 'pip install "lnz[ode]"' in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divergence": "rough"}, r"`Continuous\(divergence=...\)` must be 'exact' or 'hutchinson'; got 'rough'"),
        ({"solver": "euler"}, r"solver=...\)` must be 'tsit5' or 'dopri8'; got 'euler'"),
        ({"adjoint": "none"}, r"must be 'checkpoint' or 'backsolve' or 'forward'"),
        ({"rtol": 0.0}, r"rtol=...\)` must be positive; got 0.0"),
        ({"atol": -1.0}, r"atol=...\)` must be positive; got -1.0"),
    ],
)
def test_errors(options, message, untyped):
    with pytest.raises(ValueError, match=message):
        linear(**options)


def test_sigma_min_is_checked():
    with pytest.raises(ValueError, match=r"at least 0 and below 1; got 1.0"):
        lnz.objectives.FlowMatching(sigma_min=1.0)
