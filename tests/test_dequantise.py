"""Densities of x + u as models of x: cell by cell against quadrature, and the order of the bounds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table
from jax.scipy.special import logsumexp

import lnz
from lnz import testing
from lnz.bijections import Elementwise, SplineTransformer
from lnz.objectives import ELBO, IWAE
from lnz.spaces import Categorical


def cells(model):
    """All x, and `log P(x)` of each by quadrature over its cell."""
    points, _ = model.space.quadrature()
    unit = lnz.Interval(model.space.shape).quadrature(321 if model.space.shape == (2,) else 2001)

    def one(x):
        corner = x.astype(jnp.result_type(float))
        return unit.log_integral(lambda u: model.flow.log_prob(corner + u))

    return points, jax.jit(jax.vmap(one))(points)


@pytest.fixture(params=["uniform", "variational"])
def model(request):
    return table.dequantised(variational=request.param == "variational")


def test_cells_add_up_to_one(float64):
    _, log_p = cells(table.dequantised(num=2))
    assert len(log_p) == 9
    assert float(logsumexp(log_p)) == pytest.approx(0, abs=2e-4)  # the trapezoid rule at knots: 3e-4 with 161 points


def test_evaluate_is_a_lower_bound_near_the_exact_probability(float64, model):
    points, exact = cells(model)
    result = lnz.evaluate(jr.key(0), model, points, hidden=lnz.normalizers.Importance(4000))
    assert result.bound == "lower"
    assert result.of.num_dimensions == 1
    assert result.value == pytest.approx(float(jnp.mean(exact)), abs=0.02)
    # Three sums of weights: 4 standard errors are exceeded by chance in 1 of 5,000 runs.
    keys = jr.split(jr.key(0), len(points))
    method = lnz.normalizers.Importance(4000)
    estimates = jax.vmap(lambda key, x: method(key, model.numerator(x)))(keys, points)
    assert np.all(np.abs(estimates.value - exact) < 4 * estimates.standard_error + 1e-6)


def test_bounds_are_ordered(float64, model):
    """ELBO < E[IWAE-K] < log P(x), rising with K."""
    points, exact = cells(model)

    def mean(objective):
        losses = jax.vmap(lambda key: objective.loss(key, model, (), points)[0])(jr.split(jr.key(1), 6000))
        return -float(jnp.mean(losses)), float(jnp.std(losses)) / np.sqrt(len(losses))

    values, errors = zip(*(mean(objective) for objective in (ELBO(1), IWAE(3), IWAE(20))), strict=True)
    truth = float(jnp.mean(exact))
    assert values[0] + 4 * errors[0] < values[1] - 4 * errors[1]  # 4 standard errors: about 1 of 30,000 runs each
    assert values[1] + 4 * errors[1] < values[2] - 4 * errors[2]
    assert values[2] < truth + 4 * errors[2]
    assert values[2] == pytest.approx(truth, abs=0.05)


def test_a_bound_with_the_flow_itself_within_the_cell_is_tight(float64):
    """A density that is constant in each cell, with uniform noise: every draw has the weight P(x)."""
    heights = jnp.array([0.2, 0.5, 0.3])

    class Steps(lnz.AbstractDistribution):
        """Uniform within each of three cells."""

        @property
        def space(self):
            return lnz.Interval(1, 0.0, 3.0)

        @property
        def reparameterised(self):
            return False

        def log_prob(self, x, *, key=None):
            return jnp.log(heights[jnp.clip(x[0], 0, 2).astype(int)])

        def sample(self, key, shape=()):
            raise NotImplementedError

        def sample_and_log_prob(self, key, shape=()):
            raise NotImplementedError

    model = lnz.Dequantised(Steps(), Categorical(1, 3))
    values = jnp.stack([-ELBO(1).loss(jr.key(0), model, (), jnp.array([[x]]))[0] for x in range(3)])
    np.testing.assert_allclose(values, jnp.log(heights), rtol=1e-12)


def test_samples_are_whole_numbers_with_the_probabilities_of_the_cells(model):
    _, exact = cells(model)
    draws = lnz.sample(jr.key(2), model, 20_000)
    assert draws.dtype == jnp.int32
    assert bool(jnp.all(jax.vmap(model.space.contains)(draws)))
    counts = np.bincount(np.asarray(draws[:, 0]), minlength=3)
    expected = len(draws) * np.exp(np.asarray(exact))
    chi_squared = np.sum((counts - expected) ** 2 / expected)
    assert chi_squared < 23.0  # 2 degrees of freedom: exceeded by chance once in 100,000


def test_bits_are_stored_as_floating_point_numbers():
    model = lnz.Dequantised(lnz.Uniform(3, 0.0, 2.0), lnz.Binary(3))
    draws = lnz.sample(jr.key(0), model, 5)
    assert draws.dtype == jnp.float32
    model.space.check_data(draws)
    result = lnz.evaluate(jr.key(1), model, draws, hidden=lnz.normalizers.Importance(30))
    np.testing.assert_allclose(result.per_example, -3 * np.log(2), rtol=1e-6)


def test_the_bound_of_a_flow_has_no_parts():
    model, objective = lnz.Dequantised(lnz.Uniform(3, 0.0, 2.0), lnz.Binary(3)), lnz.objectives.ELBO()
    _, (_, parts) = objective.loss(jr.key(0), model, (), jnp.zeros((2, 3)))
    assert set(parts) == {"elbo"}
    assert float(parts["elbo"]) == pytest.approx(-3 * np.log(2))


def test_rounding_never_leaves_the_cell():
    """In float32, 255 + 0.999999 is 256, and 0 is the end of the box."""
    space = Categorical(2, 256)

    class Extreme(lnz.AbstractDistribution):
        u: jax.Array

        @property
        def space(self):
            return lnz.Interval(2)

        @property
        def reparameterised(self):
            return True

        def log_prob(self, x, *, key=None):
            return jnp.zeros(())

        def sample(self, key, shape=()):
            return jnp.broadcast_to(self.u, (*shape, 2))

        def sample_and_log_prob(self, key, shape=()):
            return self.sample(key, shape), jnp.zeros(shape)

    largest = 1 - jnp.finfo(jnp.float32).epsneg
    for u in (jnp.zeros(2), jnp.full(2, largest)):
        model = lnz.Dequantised(lnz.Uniform(2, 0.0, 256.0), space, eqx.Partial(_always, Extreme(u)))
        for value in (0, 1, 128, 255):
            x = jnp.full(2, value, jnp.int32)
            y = model.posterior(x).sample(jr.key(0), (1,))[0]
            assert bool(jnp.all((y > 0) & (y < 256)))
            assert float(model.likelihood(y).log_prob(x)) == 0
    assert float(model.likelihood(jnp.full(2, 256.0)).sample(jr.key(0))[0]) == 255


def _always(distribution, x):
    return distribution


def test_training_reaches_the_entropy_of_the_data():
    """A bit that is 1 with probability 1/4: splines on [0, 2] learn the density 3/4 and then 1/4."""
    splines = SplineTransformer(4, 0.0, 2.0)
    layer = Elementwise(splines, jnp.zeros((splines.num_params, 1)), lnz.Interval(1, 0.0, 2.0))
    bits = np.array([[0], [0], [0], [1]], np.uint8)
    model = lnz.Dequantised(lnz.Transformed(lnz.Uniform(1, 0.0, 2.0), layer), lnz.Binary(1))
    method = lnz.Gradient(ELBO(16), optax.adam(optax.cosine_decay_schedule(0.03, 300)))
    trained = lnz.fit(jr.key(1), model, method, bits, steps=300).model
    result = lnz.evaluate(jr.key(2), trained, bits, hidden=lnz.normalizers.Importance(500))
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert -entropy - 0.02 < result.value < -entropy + 1e-3


def test_gradients_equal_finite_differences(float64):
    model = table.dequantised(variational=True)
    batch = jnp.array([[0], [1], [2]])

    @eqx.filter_jit
    def loss(model):
        return IWAE(3).loss(jr.key(0), model, (), batch)[0]

    params, rest = eqx.partition(model, lnz.trainable(model))
    gradient = jax.grad(lambda p: loss(eqx.combine(p, rest)))(params)
    testing.check_gradient(loss, model, gradient, tolerance=1e-5)


@pytest.mark.usefixtures("untyped")
def test_a_flow_that_lives_elsewhere_is_refused():
    with pytest.raises(ValueError, match="fills"):
        lnz.Dequantised(lnz.Normal.standard(2), lnz.Binary(2))
    with pytest.raises(ValueError, match="fills"):
        lnz.Dequantised(lnz.Uniform(2), lnz.Binary(2))
    with pytest.raises(TypeError, match="bits or of categories"):
        lnz.Dequantised(lnz.Uniform(2), lnz.Euclidean(2))
