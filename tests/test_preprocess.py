"""Preprocessing as bijections: densities stay in the units of the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import table

import lnz

DATA = np.array([[1.0, -200.0], [3.0, 100.0], [2.0, 50.0], [2.5, -10.0]])


def test_standardised_columns_have_mean_0_and_variance_1(precision):
    there = lnz.flows.standardise(DATA)
    x, log_det = jax.vmap(there.inverse_and_log_det)(jnp.asarray(DATA, jnp.result_type(float)))
    np.testing.assert_allclose(np.mean(x, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.std(x, axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(log_det, -np.log(DATA.std(axis=0)).sum(), rtol=1e-6)
    lnz.testing.check_bijection(there, table.normal(1, 7, 2))


def test_standardised_normal_is_the_normal_of_the_data(float64):
    """A closed form: the maximum-likelihood normal of the columns, in their own units."""
    flow = lnz.Transformed(lnz.Normal.standard(2), lnz.flows.standardise(jnp.asarray(DATA)))
    exact = lnz.Normal(DATA.mean(axis=0), DATA.std(axis=0))
    for row in jnp.asarray(DATA):
        assert float(flow.log_prob(row)) == pytest.approx(float(exact.log_prob(row)), rel=1e-12)


@pytest.mark.parametrize("form", ["masked", "nan", "filled"])
def test_standardise_takes_the_moments_of_known_entries(form, precision):
    """Those of NumPy's masked arrays, far from zero too; columns, and examples that are no vectors."""
    rng = np.random.default_rng(0)
    for shape in ((40, 3), (40, 2, 2)):
        data, known = 1.7e9 + 60 * rng.normal(size=shape), rng.random(shape) < 0.7
        exact = np.ma.masked_array(data, ~known)
        arguments = {
            "masked": (exact,),
            "nan": (np.where(known, data, np.nan), known),
            "filled": (np.where(known, data, -1.0), known),
        }[form]
        there = lnz.flows.standardise(*arguments)
        loc = np.asarray(there.origin.value, float) + np.asarray(there.offset, float)
        np.testing.assert_allclose(loc, exact.mean(axis=0).data, rtol=1e-13)
        np.testing.assert_allclose(there.scale, exact.std(axis=0).data, rtol=1e-6)


def test_standardise_refuses_columns_without_two_different_known_entries():
    known = np.array([[True, False], [True, False], [False, False], [True, False]])
    with pytest.raises(ValueError, match=r"column 1 has no known entry.*Drop it"):
        lnz.flows.standardise(DATA, known)
    with pytest.raises(ValueError, match=r"column 0 is constant \(1.0\).*Drop it"):
        lnz.flows.standardise(np.where(known, 1.0, DATA), known | np.array([False, True]))
    with pytest.raises(ValueError, match="must have the shape of the data"):
        lnz.flows.standardise(DATA, known[:, 0])


def test_standardise_names_the_constant_column():
    # 0.1 three times has a mean that is not 0.1, and so a spread that is not zero.
    with pytest.raises(ValueError, match=r"column 1 is constant \(0.1\).*Drop it"):
        lnz.flows.standardise(np.array([[1.0, 0.1], [2.0, 0.1], [3.0, 0.1]]))
    with pytest.raises(ValueError, match=r"column \(0, 1\) is constant"):
        lnz.flows.standardise(np.stack([np.zeros((2, 2)), [[1.0, 0.0], [1.0, 1.0]]]))
    with pytest.raises(ValueError, match=r"finite values; got nan at \(1, 0\).*`observed=~np.isnan\(data\)`"):
        lnz.flows.standardise(np.array([[1.0], [np.nan]]))
    with pytest.raises(ValueError, match="at least two rows"):
        lnz.flows.standardise(DATA[:1])
    with pytest.raises(TypeError, match="array of numbers"):
        lnz.flows.standardise(np.array([["a"], ["b"]]))


def test_logit_is_that_of_the_paper(float64):
    alpha = 0.05
    there = lnz.flows.logit(3, alpha)
    x = jnp.array([0.0, 0.3, 1.0])
    z, log_det = there.inverse_and_log_det(x)
    u = alpha + (1 - 2 * alpha) * np.asarray(x)
    np.testing.assert_allclose(z, np.log(u / (1 - u)), rtol=1e-12)
    # Appendix: the derivative of logit(alpha + (1 - 2 alpha) x).
    np.testing.assert_allclose(log_det, np.sum(np.log((1 - 2 * alpha) / (u * (1 - u)))), rtol=1e-12)
    assert bool(there.codomain.contains(x))
    lnz.testing.check_bijection(there, table.normal(1, 7, 3))


def test_logit_of_another_interval(float64):
    bytes_ = lnz.flows.logit(lnz.Interval(2, 0.0, 256.0), 1e-3)
    unit = lnz.flows.logit(2, 1e-3)
    x = jnp.array([0.25, 0.75])
    np.testing.assert_allclose(bytes_.inverse_and_log_det(256 * x)[0], unit.inverse_and_log_det(x)[0], rtol=1e-10)


def test_logit_refuses():
    with pytest.raises(ValueError, match=r"less than 1/2; got 0\.5"):
        lnz.flows.logit(2, 0.5)
    with pytest.raises(TypeError, match=r"a shape or an `lnz\.Interval`"):
        lnz.flows.logit(lnz.Positive(2))
