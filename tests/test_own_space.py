"""Spaces of a user's own: laws, samplers, normalisers, verbs and files serve them untold.

One is curved, with fewer dimensions than numbers; one is discrete, with values of its own.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special

import lnz
from lnz import testing
from lnz.samplers import HMC, InTurn, Metropolis, default_sampler
from lnz.spaces import COUNTING, AbstractDiscreteArray, Categorical, Grid, Measure

TORUS = lnz.Torus(1)


@lnz.register
class Circle(lnz.AbstractSpace):
    """Unit vectors in the plane with the length of the arc."""

    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    measure = Measure("arc length", is_counting=False, is_continuous=True)
    kind = "float"
    advice = "Divide by the norm."
    num_points = None
    dimension = 1
    unbounded = TORUS

    def elements_within(self, x):
        near = abs(x[..., :1] ** 2 + x[..., 1:] ** 2 - 1) < 1e-3
        return near & (x == x)

    def from_unbounded(self, u):
        return jnp.concatenate([jnp.cos(u), jnp.sin(u)]), jnp.zeros_like(u[0])

    def to_unbounded(self, x):
        return jnp.arctan2(x[1:], x[:1]), jnp.where(
            abs(x[0] ** 2 + x[1] ** 2 - 1) < 1e-3, jnp.zeros_like(x[0]), -jnp.inf
        )

    def tangent_basis(self, x):
        return jnp.stack([-x[1:], x[:1]])

    def quadrature(self, num=201, bounds=(-10.0, 10.0), shift=None):
        angles = TORUS.quadrature(num, bounds, shift)

        def point(index):
            u, log_weight = angles.point(index)
            return self.from_unbounded(u)[0], log_weight

        return Grid(angles.size, point)

    def reference_sample(self, key, shape, dtype):
        u = TORUS.reference_sample(key, shape, dtype)
        return jnp.concatenate([jnp.cos(u), jnp.sin(u)], axis=-1)

    def reference_log_prob(self, x):
        return jnp.where(self.contains(x), jnp.asarray(-math.log(2 * math.pi), x.dtype), -jnp.inf)


@lnz.register
class Spins(AbstractDiscreteArray):
    """`{-1, 1}^n`."""

    shape: tuple[int, ...] = eqx.field(static=True)
    measure = COUNTING
    kind = "float"
    advice = "Spins are -1 and 1."

    @property
    def num_points(self):
        return 2**self.size

    def elements_within(self, x):
        return abs(x) == 1

    def propose_value(self, key, old):
        return -old, jnp.array(True)

    def quadrature(self, num=201, bounds=(-10.0, 10.0), shift=None):
        bits = lnz.Binary(self.shape).quadrature()

        def point(index):
            x, log_weight = bits.point(index)
            return 2 * x - 1, log_weight

        return Grid(bits.size, point)

    def reference_sample(self, key, shape, dtype):
        return 2 * lnz.Binary(self.shape).reference_sample(key, shape, dtype) - 1

    def reference_log_prob(self, x):
        return jnp.where(self.contains(x), -self.size * math.log(2), -jnp.inf)


@lnz.register
class Chain(lnz.AbstractEnergyModel):
    """`log p~(x) = coupling sum_i x_i x_{i+1}`, whose log Z is `n log 2 + (n - 1) log cosh(coupling)`."""

    space: Spins
    coupling: jax.Array

    def log_density(self, x):
        x = self.space.check_example(x)
        return self.coupling * jnp.sum(x[1:] * x[:-1])


@lnz.register
class VonMises(lnz.AbstractEnergyModel):
    """`log p~(x) = concentration x_1` on the circle, whose log Z is `log(2 pi I_0(concentration))`."""

    space: Circle
    concentration: jax.Array

    def log_density(self, x):
        return self.concentration * self.space.check_example(x)[0]


def circle_flow():
    turn = lnz.bijections.Elementwise(lnz.bijections.RotationTransformer(), jnp.full((1, 1), 0.7), TORUS)
    spline = lnz.bijections.Elementwise(
        lnz.bijections.CircularSplineTransformer(4), jnp.linspace(-1.0, 1.0, 14)[:, None], TORUS
    )
    onto = lnz.bijections.ToSupport(Circle())
    return lnz.Transformed(lnz.Uniform(TORUS), lnz.bijections.Chain(turn, spline, onto))


RECORD = lnz.Record(mean=lnz.Euclidean(()), scale=lnz.Positive(()), angle=lnz.Torus(()))
DISCRETE = lnz.Record(kind=Categorical((), 3), spins=Spins((2,)))


@lnz.register
def of_named_parts(x):
    """A normal, a gamma and a von Mises density."""
    mean, scale, angle = RECORD.unpack(x).values()
    return -0.5 * mean**2 + 1.5 * jnp.log(scale) - 3 * scale + 2 * jnp.cos(angle)


@lnz.register
def of_place_and_spins(x):
    return 2 * x[0] + 0.8 * x[2] * x[3]


@lnz.register
def of_category_and_spins(x):
    kind, spins = DISCRETE.unpack(x).values()
    return (0.7 - 0.4 * spins[0]) * kind.astype(spins.dtype) + 0.8 * spins[0] * spins[1]


MODELS = {
    "circle": (
        lambda: VonMises(Circle(), jnp.asarray(2.0)),
        HMC,
        lambda: math.log(2 * math.pi * scipy.special.i0(2.0)),
        1,
    ),
    "spins": (
        lambda: Chain(Spins((5,)), jnp.asarray(0.8)),
        Metropolis,
        lambda: 5 * math.log(2) + 4 * math.log(math.cosh(0.8)),
        5,
    ),
    "record": (
        lambda: lnz.density(RECORD, of_named_parts),
        HMC,
        lambda: (
            0.5 * math.log(2 * math.pi)
            + scipy.special.gammaln(2.5)
            - 2.5 * math.log(3)
            + math.log(2 * math.pi * scipy.special.i0(2.0))
        ),
        3,
    ),
    "record_discrete": (
        lambda: lnz.density(DISCRETE, of_category_and_spins),
        Metropolis,
        lambda: math.log(
            sum(math.exp((0.7 - 0.4 * s) * k + 0.8 * s * t) for k in range(3) for s in (-1, 1) for t in (-1, 1))
        ),
        3,
    ),
    "both": (
        lambda: lnz.density(lnz.Record(place=Circle(), spins=Spins((2,))), of_place_and_spins),
        InTurn,
        lambda: math.log(2 * math.pi * scipy.special.i0(2.0)) + 2 * math.log(2) + math.log(math.cosh(0.8)),
        3,
    ),
}


@pytest.mark.parametrize("space", [Circle(), Spins((3,))], ids=["circle", "spins"])
def test_a_space_of_ones_own_obeys_the_laws(space, precision):
    testing.check_space(space, jr.key(0))


class Stretched(Circle):
    def from_unbounded(self, u):
        x, log_det = Circle.from_unbounded(self, u)
        return x, log_det + 0.1

    def to_unbounded(self, x):
        u, log_det = Circle.to_unbounded(self, x)
        return u, log_det - 0.1


class Doubled(Circle):
    def tangent_basis(self, x):
        return 2 * Circle.tangent_basis(self, x)


class Heavy(Circle):
    def reference_log_prob(self, x):
        return Circle.reference_log_prob(self, x) + 0.1


class Upwards(Spins):
    def propose_value(self, key, old):
        return jnp.where(jr.bernoulli(key, 0.3), -old, jnp.ones_like(old)), jnp.array(True)


@pytest.mark.parametrize(
    ("space", "law"),
    [
        (Stretched(), "log-determinant of `from_unbounded` equals that of the Jacobian"),
        (Doubled(), "tangent bases are orthonormal"),
        (Heavy(), "the reference density integrates to one"),
        (Upwards((2,)), "a move is as likely as the one back"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_of_a_space_breaks_a_law(space, law):
    with pytest.raises(AssertionError, match=law):
        testing.check_space(space, jr.key(0))


def test_the_map_of_a_curved_space_obeys_the_law_of_bijections(precision):
    angles = jnp.linspace(-3.0, 3.0, 7, dtype=jnp.result_type(float))[:, None]
    testing.check_bijection(lnz.bijections.ToSupport(Circle()), angles)


def test_a_flow_onto_a_curved_space_obeys_the_law_of_densities():
    flow = circle_flow()
    testing.check_density(flow, jr.key(0), num=401)
    testing.check_save(flow)


@pytest.mark.parametrize("name", MODELS)
def test_quadrature_and_annealing_find_the_normaliser(name):
    make, sampler, exact, dimension = MODELS[name]
    density = make()
    assert density.space.dimension == dimension
    estimate = lnz.log_normalizer(jr.key(0), density, lnz.normalizers.Quadrature(51))
    assert float(estimate.value) == pytest.approx(exact(), abs=1e-4)
    testing.check_save(density)
    assert isinstance(default_sampler(density), sampler)
    estimate = lnz.log_normalizer(jr.key(1), density, lnz.normalizers.AIS(200, 40))
    # False alarm: about one key of a million.
    assert abs(float(estimate.value) - exact()) < 5 * float(estimate.standard_error) < 0.5


def test_samples_and_likelihoods_on_the_circle():
    """The dimension is one, densities have no bits, and two entries of a unit vector are no warning."""
    model = VonMises(Circle(), jnp.asarray(2.0))
    x = np.asarray(lnz.sample(jr.key(0), model, 400, num_steps=20))
    assert model.space.elements_within(x).all()
    expected = scipy.special.i1(2.0) / scipy.special.i0(2.0)
    # Independent chains of variance below 1/2; false alarm: one key of a million.
    assert abs(x[:, 0].mean() - expected) < 5 * math.sqrt(0.5 / 400)
    result = lnz.evaluate(jr.key(1), model, x, partition=lnz.normalizers.Quadrature(51))
    nats = 2 * x[:, 0].astype(np.float64) - math.log(2 * math.pi * scipy.special.i0(2.0))
    np.testing.assert_allclose(result.per_example, nats, atol=1e-4)
    assert result.of.num_dimensions == 1
    assert result.bits_per_dimension is None


def test_likelihoods_of_spins():
    model = Chain(Spins((5,)), jnp.asarray(0.8))
    x = np.sign(np.random.default_rng(0).normal(size=(50, 5)))
    result = lnz.evaluate(jr.key(1), model, x)
    nats = 0.8 * (x[:, 1:] * x[:, :-1]).sum(axis=1) - MODELS["spins"][2]()
    np.testing.assert_allclose(result.per_example, nats, atol=1e-4)
    with pytest.raises(ValueError, match=r"value 0.0 at row 1, column \(2\).*Spins are -1 and 1"):
        lnz.evaluate(jr.key(1), model, np.where(np.arange(10).reshape(2, 5) == 7, 0.0, 1.0))


def test_a_record_has_flows_and_likelihoods():
    flow = lnz.flows.coupling_spline(RECORD, key=jr.key(0), num_layers=2, width=4)
    flow = lnz.Transformed(lnz.flows.base_for(RECORD), flow)
    assert lnz.spaces.same_set(flow.space, RECORD)
    assert eqx.filter_eval_shape(flow.log_prob, jnp.zeros(3)).shape == ()
    model = lnz.ProductDistribution(place=lnz.Normal(jnp.zeros(2), 1.0), bits=lnz.Bernoulli(jnp.zeros((2, 1))))
    rows = np.asarray(model.sample(jr.key(0), (50,)))
    result = lnz.evaluate(jr.key(1), model, rows)  # warnings are errors, such as one of bits that repeat
    parts = model.space.unpack(rows.astype(np.float64))
    nats = -0.5 * (parts["place"] ** 2).sum(axis=1) - math.log(2 * math.pi) - 2 * math.log(2)
    np.testing.assert_allclose(result.per_example, nats, atol=1e-5)
    assert result.of.base_measure == "Lebesgue x counting"
    assert model.closed_form_mean().tolist() == [0, 0, 0.5, 0.5]
