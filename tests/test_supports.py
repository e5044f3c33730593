"""Spaces with bounds and circles, flows on them, and what their bases are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import table
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


IN_TWO_DIMENSIONS = {
    "positive": (lnz.Positive(2), "realnvp"),
    "torus": (lnz.Torus(2), "coupling_spline"),
    "product": (lnz.Product(lnz.Torus(1), lnz.Positive(1)), "realnvp"),
    "circle": (lnz.Torus(1), "autoregressive_spline"),
}


@pytest.mark.parametrize(("space", "architecture"), IN_TWO_DIMENSIONS.values(), ids=IN_TWO_DIMENSIONS.keys())
def test_flow_on_support(space, architecture):
    """In float32, because densities of splines have kinks: quadrature errs by about 1e-5, not 1e-6."""
    options = {"num_bins": 3} if "spline" in architecture else {}
    flow = table.flow_onto(space, architecture, **options)
    lnz.testing.check_density(flow, jax.random.key(0), num=101, bounds=(-9.0, 5.0))


CIRCULAR = {
    "autoregressive": (lnz.Torus(2), "autoregressive_spline"),
    "mixed": (lnz.Product(lnz.Euclidean(1), lnz.Torus(1)), "masked_autoregressive"),
}


@pytest.mark.parametrize(("space", "architecture"), CIRCULAR.values(), ids=CIRCULAR.keys())
def test_density_is_continuous_around_the_circle(space, architecture, float64):
    # Far from the identity, where the density turns with the angle: `away_from_identity` moves rotations too, so
    # that no knot lies at the seam, where the gradient would jump.
    flow = table.flow_onto(space, architecture, scale=0.3)
    score = jax.value_and_grad(flow.log_prob)
    at_start, slope = score(jnp.array([0.4, -np.pi]))
    below_end, slope_below = score(jnp.array([0.4, np.pi - 1e-9]))
    at_end, _ = score(jnp.array([0.4, np.pi]))
    elsewhere, _ = score(jnp.array([0.4, 0.0]))
    assert abs(float(at_start - elsewhere)) > 1e-2
    assert np.abs(np.asarray(slope)).max() > 1e-2
    np.testing.assert_allclose(float(below_end), float(at_start), atol=1e-7)
    np.testing.assert_allclose(float(at_end), float(at_start), atol=1e-12)
    np.testing.assert_allclose(slope_below, slope, atol=1e-6)


def test_angles_enter_networks_periodically(float64):
    """The other variable's density does not jump either, where an angle that it depends on passes the seam."""
    flow = table.flow_onto(lnz.Product(lnz.Torus(1), lnz.Positive(1)), "realnvp", scale=0.3)
    start, end = (jax.grad(flow.log_prob)(jnp.array([angle, 0.8])) for angle in (-np.pi, np.pi - 1e-9))
    np.testing.assert_allclose(start, end, atol=1e-6)


def test_rotation_moves_the_seam(precision):
    turn = lnz.bijections.Elementwise(lnz.bijections.RotationTransformer(), jnp.array([[2.0]]), lnz.Torus(1))
    y, log_det = turn.forward_and_log_det(jnp.array([2.0]))
    assert float(y[0]) == pytest.approx(4.0 - 2 * np.pi, abs=1e-6)
    assert float(log_det) == 0
    assert float(turn.inverse_and_log_det(y)[0][0]) == pytest.approx(2.0, abs=1e-6)
    ends = jnp.asarray([np.pi, -np.pi, np.nextafter(np.pi, 0), 3 * np.pi, 1e8], jnp.result_type(float))
    wrapped = lnz.spaces.wrap(ends)
    assert bool(jnp.all(lnz.Torus(1).elements_within(wrapped[:4])))
    assert float(wrapped[0]) == pytest.approx(-np.pi)
    assert bool(jnp.all(jnp.isfinite(wrapped)))


EXTREMES = [-1e8, -100.0, -1.0, -1e-30, 0.0, 1e-30, 0.5, 1.0, 2.0, 100.0, 1e8]


@pytest.mark.parametrize("space", [lnz.Interval(1, -1.0, 2.0), lnz.Positive(1), lnz.Torus(1)], ids=str)
def test_support_is_finite_where_it_has_numbers(space, precision):
    """Values and gradients at extremes, of both directions; outside the support the density is zero."""
    to = lnz.bijections.ToSupport(space)
    x = jnp.asarray(EXTREMES, jnp.result_type(float))[:, None]
    y, log_det = jax.vmap(to.forward_and_log_det)(x)
    slopes = jax.jacfwd(lambda x: jax.vmap(to.forward_and_log_det)(x))(x)
    assert all(bool(jnp.all(jnp.isfinite(a))) for a in (y, log_det, *slopes))
    if not isinstance(space, lnz.Torus):
        assert bool(jnp.all(space.elements_within(y)))
    back, inverse_log_det = jax.vmap(to.inverse_and_log_det)(x)
    inverse_slopes = jax.jacfwd(lambda y: jax.vmap(to.inverse_and_log_det)(y))(x)
    inside = jax.vmap(space.contains)(x) | isinstance(space, lnz.Torus)
    assert all(bool(jnp.all(jnp.isfinite(a))) for a in (back, *inverse_slopes))
    np.testing.assert_array_equal(jnp.isfinite(inverse_log_det), inside)
    assert bool(jnp.all(jnp.where(inside, True, inverse_log_det == -jnp.inf)))


def test_positive_flow_matches_the_closed_form(float64):
    """`softplus(z)` of a standard normal z: its density by the change of variables, written out."""
    flow = lnz.Transformed(lnz.Normal.standard(1), lnz.bijections.ToSupport(lnz.Positive(1)))
    x = np.array([1e-3, 0.3, 2.0, 30.0])
    z = np.log(np.expm1(x))
    exact = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) + x - np.log(np.expm1(x))
    np.testing.assert_allclose(jax.vmap(flow.log_prob)(jnp.asarray(x)[:, None]), exact, rtol=1e-12)


def test_natural_bases():
    space = lnz.Product(lnz.Positive(1), lnz.Torus(1), lnz.Interval(1))
    assert lnz.flows.base_for(space).space == lnz.Product(lnz.Euclidean(1), lnz.Torus(1), lnz.Euclidean(1))
    assert lnz.flows.base_for(lnz.Product(lnz.Positive(1), lnz.Interval(2))).space == lnz.Euclidean(3)
    assert lnz.flows.base_for(lnz.Torus(2)).space == lnz.Torus(2)
    for wrong in (lnz.Binary(2),):
        with pytest.raises(TypeError, match="A flow's support"):
            lnz.flows.base_for(wrong)
        with pytest.raises(TypeError, match="A flow's support"):
            lnz.flows.realnvp(wrong, key=jax.random.key(0))
    with pytest.raises(TypeError, match="at least 2 variables"):
        lnz.flows.realnvp(lnz.Positive(1), key=jax.random.key(0))
    with pytest.raises(TypeError, match="space of vectors"):
        lnz.flows.masked_autoregressive(lnz.Interval((2, 2)), key=jax.random.key(0))


def test_flows_on_supports_are_saved():
    lnz.testing.check_save(table.flow_onto(table.circular_real_positive()))
    lnz.testing.check_save(table.flow_onto(table.circular_real_positive(), "masked_autoregressive"))


def test_bases_are_parameters():
    """A learned normal, and a mixture, of which draws are no differentiable function."""
    mixed = table.flow_of_mixture()
    assert not mixed.reparameterised
    learned = lnz.Transformed(lnz.Normal(jnp.zeros(2), 1.0), table.composed_bijection())
    assert learned.reparameterised
    for flow in (mixed, learned):
        gradient = eqx.filter_grad(lambda flow: flow.log_prob(jnp.array([0.3, 0.8])))(flow)
        assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient.base))
        assert all(jax.tree.leaves(lnz.trainable(flow).base))


SPACES = {
    "real": lnz.Euclidean(2),
    "unit": lnz.Interval(2),
    "wider": lnz.Interval(2, 0.0, 2.0),
    "around zero": lnz.Interval(2, -1.0, 1.0),
    "positive": lnz.Positive(2),
    "angles": lnz.Torus(2),
    "mixed": lnz.Product(lnz.Positive(1), lnz.Torus(1)),
    "parts of one": lnz.Product(lnz.Interval(1), lnz.Interval(1)),
}
FITTING = {  # what lies within what, written out by hand
    "unit": {"unit", "parts of one", "wider", "around zero", "positive", "angles", "mixed", "real"},
    "parts of one": {"unit", "parts of one", "wider", "around zero", "positive", "angles", "mixed", "real"},
    "wider": {"wider", "positive", "angles", "mixed", "real"},
    "around zero": {"around zero", "angles", "real"},
    "positive": {"positive", "real"},
    "angles": {"angles", "real"},
    "mixed": {"mixed", "real"},
    "real": {"real"},
}


def on(space):
    base = lnz.flows.base_for(space)
    return lnz.Transformed(base, lnz.bijections.ToSupport(space))


@pytest.mark.parametrize("name", SPACES)
def test_parts_fit_or_are_refused_by_name(name):
    """Every base on every domain, maps in a chain, and transformers on a space: whatever lets mass out is refused."""
    space = SPACES[name]
    for other_name, other in SPACES.items():
        keep = lnz.bijections.Permutation(jnp.array([0, 1]), other)
        if other_name in FITTING[name]:
            assert lnz.spaces.same_set(lnz.Transformed(on(space), keep).space, other)
        else:
            with pytest.raises(ValueError, match=r"would not integrate to one.*ToSupport"):
                lnz.Transformed(on(space), keep)
        same = name == other_name or {name, other_name} == {"unit", "parts of one"}
        assert lnz.spaces.same_set(space, other) == same
        if not same:
            with pytest.raises(ValueError, match=r"ends in .* but bijection 1 starts in"):
                lnz.bijections.Chain(lnz.bijections.Permutation(jnp.array([0, 1]), space), keep)
            with pytest.raises(ValueError, match="needs one space"):
                lnz.GeometricPath(on(space), on(other))
            with pytest.raises(ValueError, match="lives on"):
                lnz.normalizers.Importance(10, proposal=on(space))(jax.random.key(0), on(other))
        # The advice of the error is followed: a base on the space itself fits.
        assert lnz.Transformed(on(other), keep).space.shape == other.shape


TRANSFORMERS = {  # and the spaces, of those above, that they map onto themselves
    "affine": (lnz.bijections.AffineTransformer(), {"real"}),
    "softplus affine": (lnz.bijections.SoftplusAffineTransformer(), {"real"}),
    "shift": (lnz.bijections.ShiftTransformer(), {"real"}),
    "sigmoidal": (lnz.bijections.SigmoidalTransformer(2), {"real"}),
    "spline": (lnz.bijections.SplineTransformer(2), {"real", "angles"}),
    "unit spline": (
        lnz.bijections.SplineTransformer(2, 0.0, 1.0),
        {"real", "unit", "parts of one", "wider", "around zero", "positive", "angles", "mixed"},
    ),
    "circular spline": (lnz.bijections.SplineTransformer(2, -1.0, 1.0, circular=True), {"around zero"}),
    "rotation": (lnz.bijections.RotationTransformer(), {"angles"}),
    "rotated spline": (lnz.bijections.CircularSplineTransformer(2), {"angles"}),
    "mixed": (
        lnz.bijections.MixedTransformer(
            lnz.bijections.SplineTransformer(2, 0.0, 1.0), lnz.bijections.RotationTransformer(), jnp.array([0, 1])
        ),
        {"angles", "mixed"},
    ),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_maps_the_space_onto_itself_or_is_refused(name):
    transformer, fitting = TRANSFORMERS[name]
    raw = table.normal(9, transformer.num_params, 2)

    @jax.jit
    def image(x):
        return jax.vmap(lambda x: transformer.forward(raw, x)[0])(x)

    for space_name, space in SPACES.items():
        makers = {
            "Elementwise": lambda space=space: lnz.bijections.Elementwise(transformer, raw, space),
            "Coupling": lambda space=space: lnz.bijections.Coupling(space, 1, len, transformer),
            "MaskedAutoregressive": lambda space=space: lnz.bijections.MaskedAutoregressive(
                space, lnz.nets.MaskedMLP(2, len(raw), key=jax.random.key(0), width=2, depth=1), transformer
            ),
        }
        if name == "mixed":
            del makers["Coupling"]  # which has one variable to change
        for owner, make in makers.items():
            changed = lnz.spaces.each_variable(space)[1 if owner == "Coupling" else 0 :]
            if space_name in fitting or (owner == "Coupling" and transformer.fits(changed)):
                make()
            else:
                with pytest.raises(ValueError, match=f"(?s)`{owner}.*does not map .* onto itself.*ToSupport"):
                    make()
        if space_name in fitting:  # not by what it says, but by what it does
            x = np.concatenate([np.asarray(on(space).sample(jax.random.key(0), (100,)))] * 2)
            inside = jax.vmap(space.contains)(image(jnp.asarray(x)))
            assert bool(jnp.all(inside))


WRONG_PARTS = {
    "spline noise": (
        lambda: lnz.Dequantised(lnz.Uniform(1, 0.0, 2.0), lnz.Binary(1), lambda x: lnz.Uniform(1, 0.0, 2.0)),
        "a cell is Interval",
    ),
    "reshape": (lambda: lnz.bijections.Reshape(lnz.Euclidean(2), lnz.Interval((2, 1))), "ToSupport"),
    "tanh": (lambda: lnz.bijections.Tanh(lnz.Positive(1)), r"`Tanh\(domain\)` needs `lnz.Euclidean`"),
    "sigmoid": (lambda: lnz.bijections.Sigmoid(lnz.Torus(1)), r"`Sigmoid\(codomain\)` needs `lnz.Interval`"),
    "leaky": (lambda: lnz.bijections.LeakyReLU(lnz.Positive(1)), "needs `lnz.Euclidean`"),
    "residual": (
        lambda: lnz.bijections.Residual(
            lnz.Interval(1), lnz.nets.LipschitzMLP(1, coefficient=0.9, key=jax.random.key(0), width=2, depth=1)
        ),
        "needs `lnz.Euclidean`",
    ),
    "stack": (
        lambda: lnz.bijections.Stack(lnz.bijections.Exp(lnz.Positive(1)), lnz.bijections.Sigmoid(lnz.Interval(1))),
        "the same domain and codomain",
    ),
}


@pytest.mark.parametrize(("make", "message"), WRONG_PARTS.values(), ids=WRONG_PARTS)
def test_other_parts_that_do_not_fit(make, message, untyped):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_exchanged_variables_take_their_spaces_along():
    space = lnz.Product(lnz.Euclidean(2), lnz.Torus(1))
    exchanged = lnz.Product(lnz.Torus(1), lnz.Euclidean(2))
    assert lnz.bijections.Flip(space).codomain == exchanged
    assert lnz.bijections.Permutation(jnp.array([2, 0, 1]), space).codomain == exchanged
    assert lnz.bijections.Inverse(lnz.bijections.Flip(space)).domain == exchanged


def test_spaces_are_equal_by_kind_shape_and_ends():
    assert lnz.Interval(1, 0.0, 2.0) == lnz.Interval((1,), 0.0, 2.0)
    assert lnz.Interval(1) != lnz.Interval(1, 0.0, 2.0) != lnz.Euclidean(1)
    assert len({lnz.Torus(1), lnz.Torus((1,)), lnz.Torus(2)}) == 2


WIDE = {
    "unit": lnz.bijections.ToSupport(lnz.Interval(1)),
    "other ends": lnz.bijections.ToSupport(lnz.Interval(1, -1e-3, 3.0)),
    "below zero": lnz.bijections.Sigmoid(lnz.Interval(1, -2.0, 0.0)),
    "far from zero": lnz.bijections.ToSupport(lnz.Interval(1, 1000.0, 1001.0)),
    "tanh": lnz.bijections.Tanh(lnz.Euclidean(1)),
    "softplus": lnz.bijections.ToSupport(lnz.Positive(1)),
    "exp": lnz.bijections.Exp(lnz.Positive(1)),
}


def test_draws_of_wide_flows_lie_inside_and_have_the_log_prob_that_is_returned(precision):
    """Normals so wide that draws round onto the ends: they are moved inside, and scored where they are."""

    @jax.jit
    def draw():
        found = {}
        for name, bijection in WIDE.items():
            for scale in (4.0, 60.0):
                flow = lnz.Transformed(lnz.Normal(jnp.zeros(1), scale), bijection)
                x, log_prob = flow.sample_and_log_prob(jax.random.key(1), (3000,))
                found[name, scale] = x, log_prob, jax.vmap(flow.log_prob)(x)
        return found

    for (name, _), (x, log_prob, again) in draw().items():
        x, space = np.asarray(x), WIDE[name].codomain
        low, high = (np.asarray(end, x.dtype) for end in lnz.spaces.each_variable(space)[0].ends)
        assert np.all((low < x) & (x < high)), name
        assert np.all(np.isfinite(again)), name
        # Half of the digits of the distance from an end, which is what is left where nothing is scored again.
        close = 10 * np.sqrt(np.finfo(x.dtype).eps) * (1 + np.abs(again))
        assert np.all(np.abs(log_prob - again) <= close), (name, np.max(np.abs(log_prob - again)))


def test_draws_of_other_distributions_lie_inside_too(precision):
    for low, high in ((0.1, 0.7), (-1e-3, 3.0), (1000.0, 1001.0)):
        uniform = lnz.Uniform((), low, high)
        x = np.asarray(uniform.sample(jax.random.key(0), (100_000,)))
        assert np.all((np.asarray(low, x.dtype) < x) & (x < np.asarray(high, x.dtype)))
        assert np.all(np.isfinite(jax.vmap(uniform.log_prob)(x[:1000])))
    grey = lnz.ContinuousBernoulli(jnp.array([-1e6, -300.0, 0.0, 300.0, 1e6]))
    x, log_prob = grey.sample_and_log_prob(jax.random.key(0), (1000,))
    assert bool(jnp.all((x > 0) & (x < 1)))
    assert np.all(np.isfinite(log_prob))


def test_a_draw_that_rounds_onto_an_end_keeps_its_derivative():
    """`x = 1 - c / t` for large t, with c = -log(1 - v), rounds to 1 in float32: `dx/dt = c / t^2`, not half of it."""
    logit, v = 200.0, 2.0**-24

    def draw(t):
        quantile = lnz.distributions._continuous_bernoulli._quantile(jnp.float32(1 - v), t)
        return lnz.spaces.nearest_inside(lnz.Interval(()), quantile)

    x, slope = jax.value_and_grad(draw)(jnp.float32(logit))
    assert float(x) == np.nextafter(np.float32(1), np.float32(0))
    assert float(slope) == pytest.approx(-np.log1p(-v) / logit**2, rel=1e-3)
    space = lnz.Interval((), -1.0, 1.0)
    for y in (-1.0, 1.0):  # an end of data: one-sided, and finite
        assert np.isfinite(jax.grad(lambda y: space.number_to_unbounded(y)[0])(jnp.asarray(y)))


def test_forward_and_inverse_are_the_values_alone(float64):
    bijection, x = table.side_by_side(), jnp.array([0.3, -0.7, 1.1])
    y, _ = bijection.forward_and_log_det(x)
    np.testing.assert_array_equal(bijection.forward(x), y)
    np.testing.assert_allclose(bijection.inverse(y), x, rtol=1e-12)


def test_a_permutation_has_one_space_inside_and_outside_of_compiled_functions():
    """Where a compiled function took the real column for the positive one, no draw of it was negative."""
    space = lnz.Product(lnz.Euclidean(1), lnz.Positive(1))
    base = lnz.Transformed(lnz.Normal.standard(2), lnz.bijections.ToSupport(space))
    flow = lnz.Transformed(base, lnz.bijections.Permutation(jnp.array([1, 0]), space))
    spaces = []
    draws = eqx.filter_jit(lambda flow: spaces.append(flow.space) or flow.sample(jax.random.key(0), (200,)))(flow)
    assert spaces[0] == flow.space == lnz.Product(lnz.Positive(1), lnz.Euclidean(1))
    assert np.sum(np.asarray(draws)[:, 1] < 0) > 50  # 100 of 200 expected, 7 standard deviations more
