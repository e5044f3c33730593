"""`log(1 + e^x)` and its derivatives, against numbers of many digits."""

import decimal
import math

import jax
import jax.numpy as jnp
import numpy as np

from lnz.numerics import softplus

LARGE = [1e-30, 1e-3, 0.5, 3.0, 17.0, 30.0, 88.0, 700.0, 1e30]
POINTS = [*(-x for x in LARGE), 0.0, *LARGE]


def exact(x):
    """In 60 digits."""
    with decimal.localcontext(decimal.Context(prec=60, Emin=-(10**6))):
        x = decimal.Decimal(float(x))
        small = (-abs(x)).exp() if abs(x) < 10_000 else decimal.Decimal(0)
        log = (1 + small).ln() if small > decimal.Decimal("1e-50") else small
        return float(max(x, 0) + log)


def test_values_have_all_digits(precision):
    x = jnp.array(POINTS)
    eps, tiny = jnp.finfo(x.dtype).eps, float(jnp.finfo(x.dtype).tiny)
    expected = np.array([exact(point) for point in x])
    assert softplus(x).dtype == x.dtype
    np.testing.assert_allclose(softplus(x), expected, rtol=4 * eps, atol=tiny)
    ends = softplus(jnp.array([-jnp.inf, jnp.inf, jnp.nan]))
    np.testing.assert_array_equal(ends, [0, np.inf, np.nan])


def test_derivatives_are_those_of_the_logistic_function(precision):
    """First and second, in both modes, also where `|x|` and `max(x, 0)` have none, and at infinities."""
    x = jnp.array([*POINTS, -jnp.inf, jnp.inf])
    eps, tiny = jnp.finfo(x.dtype).eps, float(jnp.finfo(x.dtype).tiny)
    small = [math.exp(-min(abs(float(point)), 745.0)) if abs(point) < 745 else 0.0 for point in x]
    first = np.array([(1.0 if point >= 0 else s) / (1 + s) for point, s in zip(x, small, strict=True)])
    second = np.array([s / (1 + s) ** 2 for s in small])
    reverse, forward = jax.vmap(jax.grad(softplus))(x), jax.jvp(softplus, (x,), (jnp.ones_like(x),))[1]
    np.testing.assert_allclose(reverse, first, rtol=8 * eps, atol=tiny)
    np.testing.assert_allclose(forward, first, rtol=8 * eps, atol=tiny)
    # 1 - sigmoid has the digits of 1, not its own.
    np.testing.assert_allclose(jax.vmap(jax.grad(jax.grad(softplus)))(x), second, rtol=8 * eps, atol=2 * eps)
    step = 1e-2 if x.dtype == jnp.float32 else 1e-5
    middle = jnp.array([-2.0, -0.3, 0.0, 0.7, 2.5])
    by_differences = (softplus(middle + step) - softplus(middle - step)) / (2 * step)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(softplus))(middle), by_differences, atol=0.1 * step**2 + 4 * eps / step
    )
