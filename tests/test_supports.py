"""Spaces with bounds and circles, flows on them, and what their bases are."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import i0

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


def test_torus_integrates_a_known_density(precision):
    """The von Mises density, whose normaliser is a Bessel function."""
    kappa = 1.5

    def log_density(x):
        return jnp.sum(kappa * jnp.cos(x - 0.7) - jnp.log(2 * jnp.pi * i0(kappa)))

    log_total = float(lnz.Torus(2).quadrature(31).log_integral(log_density))
    assert abs(log_total) < (1e-12 if precision == "float64" else 1e-5)


def test_torus_counts_the_seam_once(precision):
    points, log_weights = lnz.Torus(1).quadrature(8)
    assert float(jnp.sum(jnp.exp(log_weights))) == pytest.approx(2 * np.pi, rel=1e-6)
    assert float(points[0, 0]) == pytest.approx(-np.pi)
    assert float(points[-1, 0]) == pytest.approx(np.pi * 0.75)


def test_product_integrates_a_known_density(precision):
    space = lnz.Product(lnz.Positive(1), lnz.Interval(1, 0.0, 2.0))

    def log_density(x):
        return log_gamma_density(x[:1]) + jnp.log(x[1] / 2)

    # In the interval the trapezoid rule is exact for x / 2, but for the logarithm of zero at the end.
    assert abs(float(space.quadrature().log_integral(log_density))) < 1e-5


def test_product_knows_its_points():
    space = lnz.Product(lnz.Euclidean(1), lnz.Product(lnz.Positive(1), lnz.Torus(1)))
    assert space.shape == (3,)
    assert space.spaces == (lnz.Euclidean(1), lnz.Positive(1), lnz.Torus(1))
    assert bool(space.contains(jnp.array([-5.0, 5.0, -3.0])))
    for outside in ([jnp.inf, 5.0, 3.0], [-5.0, -5.0, 3.0], [-5.0, 5.0, 3.2]):
        assert not bool(space.contains(jnp.array(outside)))
    with pytest.raises(ValueError, match=r"row 1, column \(1\)"):
        space.check_data(np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]]))


@pytest.mark.parametrize("part", [lnz.Positive((2, 2)), lnz.Binary(2), lnz.Euclidean(())], ids=str)
def test_product_refuses_what_it_cannot_join(part):
    with pytest.raises(ValueError, match="spaces of vectors with Lebesgue measure"):
        lnz.Product(lnz.Euclidean(1), part)


def test_empty_product():
    with pytest.raises(ValueError, match="at least one"):
        lnz.Product()


def test_grid_out_of_reach():
    with pytest.raises(ValueError, match="out of reach"):
        lnz.Product(lnz.Euclidean(3), lnz.Torus(3)).quadrature(100)
    with pytest.raises(ValueError, match="out of reach"):
        lnz.Torus(9).quadrature(100)
