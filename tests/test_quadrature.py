"""Quadrature of densities whose integrals are known: it is right within its error, or it says that it is not."""

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.scipy.special import gammaln, i0e

import lnz
from lnz.normalizers import Quadrature


class Known(lnz.AbstractDensity):
    """A density written as a function, already normalised: the logarithm of its integral is zero."""

    space: lnz.AbstractSpace = eqx.field(static=True)
    function: Callable = eqx.field(static=True)

    def log_density(self, x):
        return self.function(x)


def normal(x, loc=0.0, scale=1.0):
    return -0.5 * ((x - loc) / scale) ** 2 - math.log(scale * math.sqrt(2 * math.pi))


def log_normal(x, loc, scale):
    return normal(jnp.log(x), loc, scale) - jnp.log(x)


def arcsine(u):
    return -0.5 * jnp.log(u) - 0.5 * jnp.log1p(-u) - math.log(math.pi)


def student(x, df):
    constant = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * math.log(df * math.pi)
    return constant - (df + 1) / 2 * jnp.log1p(x**2 / df)


def von_mises(x, kappa):
    return kappa * (jnp.cos(x - 0.7) - 1) - jnp.log(2 * jnp.pi * i0e(kappa))


def poisson(x, rate):
    x = x.astype(float)
    return x * math.log(rate) - rate - gammaln(x + 1)


def box(x, low, high):
    return jnp.where((x > low) & (x < high), -math.log(high - low), -jnp.inf)


R, P, U, T = lnz.Euclidean(1), lnz.Positive(1), lnz.Interval(1), lnz.Torus(1)
# Some must be found, with a small error; of the others the law says only that they do not lie.
FOUND = {
    "normal": (R, lambda x: normal(x[0], 0.3, 0.7)),
    "heavy, light enough": (R, lambda x: student(x[0] / 0.3, 9.0) - math.log(0.3)),
    "uniform": (U, lambda x: jnp.zeros(())),
    "exponential tilt": (U, lambda x: 3 * x[0] - math.log(math.expm1(3) / 3)),
    "infinite at zero": (U, lambda x: -0.5 * jnp.log(x[0]) - math.log(2)),
    "log-normal": (P, lambda x: log_normal(x[0], 0.5, 0.8)),
    "von Mises": (T, lambda x: von_mises(x[0], 2.0)),
    "angle and positive": (lnz.Product(T, P), lambda x: von_mises(x[0], 2.0) + log_normal(x[1], 0.5, 0.8)),
    "counts": (lnz.Counts(1), lambda x: poisson(x[0], 20.0)),
    "counts in pairs": (lnz.Counts(2), lambda x: poisson(x[0], 2.0) + poisson(x[1], 8.0)),
    "plane": (lnz.Euclidean(2), lambda x: normal(x[0], 0.3, 0.7) + normal(x[1], 5.0, 0.3)),
}
COUNT_AND_POSITIVE = lnz.Record(n=lnz.Counts(()), x=lnz.Positive(()))


def zero_or(x, rate):
    """Half of it at zero, half Poisson."""
    at_zero = jnp.where(jnp.all(x == 0), 0.0, -jnp.inf)
    return jnp.logaddexp(at_zero, jnp.sum(poisson(x, rate))) - math.log(2)


HARD = {
    "infinite at both ends": (U, lambda x: arcsine(x[0])),
    "nearly no density": (U, lambda x: math.log(0.1) - 0.9 * jnp.log(x[0])),
    "far from zero": (lnz.Interval(1, 1000.0, 1001.0), lambda x: jnp.zeros(())),
    "narrow": (R, lambda x: normal(x[0], 0.05, 0.005)),
    "narrow on a point": (R, lambda x: normal(x[0], 0.0, 0.005)),
    "narrow in an interval": (U, lambda x: normal(x[0], 0.4321, 0.001)),
    "narrow angle": (T, lambda x: von_mises(x[0], 1e5)),
    "narrow beside broad": (R, lambda x: jnp.logaddexp(normal(x[0]), normal(x[0], 3.033, 0.02)) - math.log(2)),
    "steps": (R, lambda x: box(x[0], -0.987, 1.234)),
    "far log-normal": (P, lambda x: log_normal(x[0], 12.0, 1.0)),
    "tiny log-normal": (P, lambda x: log_normal(x[0], -12.0, 1.0)),
    "gamma, infinite at zero": (P, lambda x: -x[0] - 0.5 * jnp.log(x[0]) - math.lgamma(0.5)),
    "Pareto": (P, lambda x: -2 * jnp.log1p(x[0])),
    "far": (R, lambda x: normal(x[0], 100.0)),
    "half outside": (R, lambda x: normal(x[0], 9.9)),
    "Cauchy": (R, lambda x: student(x[0], 1.0)),
    "heavy": (R, lambda x: student(x[0], 2.5)),
    "product, far": (lnz.Product(P, R), lambda x: log_normal(x[0], 12.0, 1.0) + normal(x[1])),
    "product, singular": (lnz.Product(U, R), lambda x: arcsine(x[0]) + normal(x[1])),
    "product, heavy": (lnz.Product(T, R), lambda x: von_mises(x[0], 2.0) + student(x[1], 1.0)),
    "plane, narrow": (lnz.Euclidean(2), lambda x: normal(x[0], 0.51, 0.02) + normal(x[1], 0.17, 0.02)),
    "few counts": (lnz.Counts(1), lambda x: poisson(x[0], 5.0)),
    "counts outside": (lnz.Counts(1), lambda x: poisson(x[0], 190.0)),
    "half of the counts far": (lnz.Counts(1), lambda x: zero_or(x, 400.0)),
    "half of the counts very far": (lnz.Counts(1), lambda x: zero_or(x, 1e5)),
    "counts far on even numbers": (lnz.Counts(1), lambda x: jnp.where(x[0] % 2 == 0, zero_or(x // 2, 300.0), -jnp.inf)),
    "one of two counts far": (lnz.Counts(2), lambda x: poisson(x[0], 2.0) + zero_or(x[1:], 400.0)),
    "two counts far together": (lnz.Counts(2), lambda x: zero_or(x, 400.0)),
    "count far beside a positive": (
        COUNT_AND_POSITIVE,
        lambda x: zero_or(x[:1], 400.0) + log_normal(x[1], 0.5, 0.8),
    ),
}


@functools.cache
def _estimates(precision):
    densities = {name: Known(*row) for name, row in {**FOUND, **HARD}.items()}

    @jax.jit
    def all_of_them():
        return {
            name: Quadrature(201 if density.space.shape == (1,) else 61)(jr.key(0), density)
            for name, density in densities.items()
        }

    return all_of_them()


@pytest.mark.parametrize("name", {**FOUND, **HARD})
def test_quadrature_is_right_within_its_error_or_says_so(name, precision):
    """What it claims is `|value - truth| <= 3 standard errors`, or that it is not to be trusted."""
    estimate = _estimates(precision)[name]
    value, error = float(estimate.value), float(estimate.standard_error)
    rounding = 1e-10 if precision == "float64" else 5e-5  # of 603 terms and of log-densities of some tens
    assert not math.isnan(value)
    assert abs(value) <= 3 * error + rounding or not estimate.reliable
    assert estimate.assumes == ("negligible mass outside the grid",)
    if name in FOUND:
        assert estimate.reliable
        assert error < (1e-3 if estimate.value.ndim == 0 else 0)


def test_a_narrow_peak_is_never_missed_in_silence(precision):
    """Normals of many widths at places all over a step of 0.1, of which every rule misses the narrowest."""

    @jax.jit
    @jax.vmap
    def estimates(loc, scale):
        return Quadrature()(jr.key(0), lnz.Normal(loc[None], scale[None]))

    loc, scale = (
        a.ravel() for a in np.meshgrid(np.linspace(0, 0.1, 61), [0.001, 0.003, 0.008, 0.015, 0.03, 0.06, 0.1])
    )
    found = estimates(jnp.asarray(loc, float), jnp.asarray(scale, float))
    value, error, grid_error = (np.asarray(a) for a in (found.value, found.standard_error, found.weights.grid_error))
    right = np.abs(value) <= 3 * error + 5e-5
    assert np.all(right | (grid_error > 0.1))
    assert np.mean(np.abs(value) < 1e-3) > 0.4  # and those that are wide enough are found


def test_quadrature_differentiates_through_a_density_that_is_zero_in_places(float64):
    """The gradient of the integral of a truncated tilt, whose log-density is minus infinity on most of the grid."""

    def log_integral(tilt):
        density = Known(R, lambda x: jnp.where(jnp.abs(x[0]) < 1, tilt * x[0], -jnp.inf))
        return Quadrature(2001)(jr.key(0), density).value

    value, slope = jax.value_and_grad(log_integral)(1.5)
    assert float(value) == pytest.approx(math.log(2 * math.sinh(1.5) / 1.5), abs=2e-2)  # steps are met to a step
    assert float(slope) == pytest.approx(1 / math.tanh(1.5) - 1 / 1.5, abs=2e-2)
