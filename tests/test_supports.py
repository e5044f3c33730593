"""Spaces with bounds and circles, flows on them, and what their bases are."""

import jax.numpy as jnp
import pytest

import lnz


def log_gamma_density(x):
    """`x e^-x`, a gamma density of shape 2."""
    return jnp.sum(jnp.log(x) - x)


def test_positive_integrates_a_known_density(precision):
    log_total = lnz.Positive(2).quadrature().log_integral(log_gamma_density)
    assert abs(float(log_total)) < 1e-5  # the rule's own error at 201 points is below 1e-9; float32 rounds


def test_positive_knows_its_points():
    space = lnz.Positive(2)
    assert bool(space.contains(jnp.array([1e-30, 1e30])))
    assert not bool(space.contains(jnp.array([0.0, 1.0])))
    assert not bool(space.contains(jnp.array([1.0, jnp.inf])))
    assert not bool(space.contains(jnp.array([1.0, jnp.nan])))
    with pytest.raises(ValueError, match=r"row 1, column \(0\).*Zero is outside"):
        space.check_data(jnp.array([[1.0, 2.0], [0.0, 1.0]]))
