"""The four energies in the plane, and divergences by quadrature, against closed forms and each other."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import lnz
from lnz.distributions import PlanarEnergy


def energy_of_the_paper(number, z):
    """Table 1 of Rezende and Mohamed (2015), digit by digit."""
    z1, z2 = z
    w1 = np.sin(2 * np.pi * z1 / 4)
    w2 = 3 * np.exp(-0.5 * ((z1 - 1) / 0.6) ** 2)
    w3 = 3 / (1 + np.exp(-(z1 - 1) / 0.3))
    if number == 1:
        ring = 0.5 * ((np.hypot(z1, z2) - 2) / 0.4) ** 2
        return ring - np.log(np.exp(-0.5 * ((z1 - 2) / 0.6) ** 2) + np.exp(-0.5 * ((z1 + 2) / 0.6) ** 2))
    if number == 2:
        return 0.5 * ((z2 - w1) / 0.4) ** 2
    if number == 3:
        return -np.log(np.exp(-0.5 * ((z2 - w1) / 0.35) ** 2) + np.exp(-0.5 * ((z2 - w1 + w2) / 0.35) ** 2))
    return -np.log(np.exp(-0.5 * ((z2 - w1) / 0.4) ** 2) + np.exp(-0.5 * ((z2 - w1 + w3) / 0.35) ** 2))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_energies_are_those_of_the_paper_inside(number, float64):
    points = np.random.RandomState(0).uniform(-4, 4, (50, 2))
    got = jax.vmap(PlanarEnergy(number).log_density)(jnp.asarray(points))
    np.testing.assert_allclose(got, [-energy_of_the_paper(number, z) for z in points], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_numbers_and_gradients_are_finite_anywhere(number, precision):
    energy = PlanarEnergy(number)
    points = jnp.array([[0.0, 0.0], [1e-30, 0.0], [4.0, -4.0], [1e4, -1e4], [-1e8, 1e8]])
    value, gradient = jax.vmap(jax.value_and_grad(energy.log_density))(points)
    assert jnp.all(jnp.isfinite(value))
    assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.parametrize("number", [2, 3, 4])
def test_normalisers_have_a_closed_form(number, float64):
    energy = PlanarEnergy(number)
    estimate = lnz.log_normalizer(jr.key(0), energy, lnz.normalizers.Quadrature(401, (-9.0, 9.0)))
    # The grid's own error: the wall has a kink in its second derivative.
    assert abs(float(estimate.value) - energy.log_normalizer()) < 1e-6
    assert float(estimate.weights.edge_mass) < 1e-12
    with pytest.raises(ValueError, match="no closed form"):
        PlanarEnergy(1).log_normalizer()


def test_wrong_energies_are_explained():
    with pytest.raises(ValueError, match="must be 1, 2, 3 or 4; got 5"):
        PlanarEnergy(5)
    with pytest.raises(ValueError, match="half_width"):
        PlanarEnergy(2, half_width=0.0)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_draws_of_the_data_follow_the_energy(number, float64):
    """Means of six functions within 5 standard errors: a false alarm in fewer than one set of 200,000."""
    splits = lnz.data.load(f"energy_{number}")
    rows = np.concatenate([splits.train, splits.valid, splits.test]).astype(float)
    points, log_weights = PlanarEnergy(number).space.quadrature(301, (-7.0, 7.0))
    log_p = np.asarray(jax.vmap(PlanarEnergy(number).log_density)(points) + log_weights)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()

    def features(z):
        z1, z2 = np.asarray(z).T
        return np.stack([z1, z2, z1 * z2, np.hypot(z1, z2), z2**2, np.cos(2 * z1) * z2], axis=1)

    exact, spread = p @ features(points), np.sqrt(p @ features(points) ** 2 - (p @ features(points)) ** 2)
    pulls = (features(rows).mean(axis=0) - exact) / (spread / np.sqrt(len(rows)))
    assert np.all(np.abs(pulls) < 5), pulls
    fractions = np.array([np.mean(rows[:, 1] < -1), np.mean(np.abs(rows[:, 0]) > 3.5), np.mean(rows[:, 1] > 0.5)])
    z1, z2 = np.asarray(points).T
    exact = np.array([p[z2 < -1].sum(), p[np.abs(z1) > 3.5].sum(), p[z2 > 0.5].sum()])
    # The grid cuts these sets off at a point, up to half a cell of 0.047 from where they end.
    assert np.all(np.abs(fractions - exact) < 5 * np.sqrt(exact * (1 - exact) / len(rows)) + 0.01)


def test_divergence_of_normals_is_the_closed_form(precision):
    q = lnz.Normal(jnp.array([0.3, -0.5]), jnp.array([0.7, 1.2]))
    p = lnz.MultivariateNormal(jnp.array([0.0, 0.4]), jnp.array([[1.1, 0.0], [0.5, 0.8]]))
    shift = q.loc - p.loc
    inverse = jnp.linalg.inv(p.covariance)
    log_dets = jnp.linalg.slogdet(p.covariance)[1] - 2 * jnp.sum(q.log_scale)
    exact = 0.5 * (jnp.trace(inverse * q.scale[None] ** 2) + shift @ inverse @ shift - 2 + log_dets)
    got = lnz.kl_divergence(q, p, num=201)
    # Values of float32 densities differ by some 1e-6 from the truth at each point.
    tolerance = 1e-9 if precision == "float64" else 1e-5
    assert abs(float(got.value) - float(exact)) < tolerance
    assert abs(float(got.extras["log_integral_q"])) < tolerance
    assert float(lnz.kl_divergence(q, q, num=201).value) == 0
    assert got.bound == "estimate"


def test_divergence_needs_no_normaliser_and_knows_support():
    energy, normal = PlanarEnergy(2), lnz.Normal(jnp.zeros(2), jnp.array([2.0, 1.0]))
    forward = lnz.kl_divergence(energy, normal, bounds=(-12.0, 12.0))
    assert float(forward.extras["log_integral_p"]) == pytest.approx(0, abs=1e-4)
    assert float(forward.extras["log_integral_q"]) == pytest.approx(energy.log_normalizer(), abs=1e-4)
    reverse = lnz.kl_divergence(normal, energy, bounds=(-12.0, 12.0))
    # Monte Carlo of the same two integrals, within 5 standard errors.
    z = normal.sample(jr.key(0), (4000,))
    terms = jax.vmap(lambda z: normal.log_prob(z) - energy.log_density(z))(z) + energy.log_normalizer()
    assert abs(float(reverse.value) - float(jnp.mean(terms))) < 5 * float(jnp.std(terms)) / np.sqrt(4000)
    box = lnz.Uniform(1, -1.0, 1.0)
    assert float(lnz.kl_divergence(lnz.Normal.standard(1), box).value) == np.inf
    assert np.isfinite(float(lnz.kl_divergence(box, lnz.Normal.standard(1)).value))


def test_divergence_on_a_finite_space_is_exact(float64):
    q, p = lnz.Bernoulli(jnp.array([0.3, -1.0])), lnz.Bernoulli(jnp.array([0.5, 0.7]))
    a, b = np.asarray(q.probs), np.asarray(p.probs)
    exact = np.sum(a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)))
    got = lnz.kl_divergence(q, p)
    assert got.bound == "exact"
    assert float(got.value) == pytest.approx(exact, abs=1e-12)


def test_importance_sampling_from_a_flow_finds_the_normaliser():
    """The estimate says how far to trust it: log Z, its error, ESS and Pareto k."""
    energy = PlanarEnergy(2)
    flow = lnz.Transformed(lnz.Normal(jnp.zeros(2), jnp.array([2.5, 1.3])), lnz.bijections.Affine(jnp.zeros(2), 1.0))
    estimate = lnz.log_normalizer(jr.key(0), energy, lnz.normalizers.Importance(4000, proposal=flow))
    assert abs(float(estimate.value) - energy.log_normalizer()) < 4 * float(estimate.standard_error)
    assert 0 < float(estimate.standard_error) < 0.05
    assert 400 < float(estimate.weights.ess) < 4000
    assert float(estimate.weights.pareto_k) < 0.7
    assert estimate.bound == "lower"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lnz.kl_divergence(lnz.Normal.standard(1), lnz.Normal.standard(2)), "one space"),
        (lambda: lnz.kl_divergence(lnz.Normal.standard(1), lnz.Normal.standard(1), num=200), "odd"),
        (lambda: lnz.kl_divergence(lnz.Normal.standard(3), lnz.Normal.standard(3)), "one or two dimensions"),
    ],
)
def test_bad_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_divergence_to_a_larger_space_is_to_all_of_it():
    q = lnz.Uniform(lnz.Interval(1, 0.0, 1.0))
    wide = lnz.kl_divergence(q, lnz.Uniform(lnz.Interval(1, 0.0, 2.0)))
    normal = lnz.kl_divergence(q, lnz.Normal(jnp.zeros(1), 1.0))
    np.testing.assert_allclose(wide.value, np.log(2), atol=1e-4)
    np.testing.assert_allclose(normal.value, 0.5 * np.log(2 * np.pi) + 1 / 6, atol=1e-4)  # E[x^2] / 2
    with pytest.raises(ValueError, match=r"The grid .* covers only a part"):
        lnz.kl_divergence(q, lnz.density(lnz.Euclidean(1), lambda x: -0.5 * jnp.sum(x**2)))


def test_a_wide_distribution_has_mass_beyond_the_grid():
    """Of a density that is normalised on the grid that mass is told."""
    q, p = lnz.Normal(jnp.zeros(1), 1.0), lnz.Normal(jnp.zeros(1), 8.0)
    exact = float(lnz.closed_form_kl(q, p))
    got = lnz.kl_divergence(q, p)
    assert float(got.value) == pytest.approx(exact, abs=1e-4)
    assert got.reliable
    assert not lnz.kl_divergence(q, lnz.density(p.space, p.log_prob)).reliable


def test_mass_that_the_grid_misses_is_told():
    """Half of q lies far beyond the grid: on the rest the divergence would be below zero."""
    q = lnz.Mixture(jnp.zeros(2), lnz.Normal(jnp.array([[0.0], [30.0]]), jnp.ones((2, 1))))
    got = lnz.kl_divergence(q, lnz.Normal(jnp.zeros(1), 1.0))
    assert not got.reliable
    assert lnz.kl_divergence(q, lnz.Normal(jnp.zeros(1), 1.0), num=1601, bounds=(-10.0, 40.0)).reliable
