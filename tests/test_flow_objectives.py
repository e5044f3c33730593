"""Reverse and forward divergences of flows to densities that are known up to a constant."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.gradients import LeaveOneOut, Pathwise, Score, StickingTheLanding
from lnz.objectives import ForwardKL, ReverseKL


def gradient_of(objective, model, key):
    params, rest = eqx.partition(model, lnz.trainable(model))
    return jax.grad(lambda params: objective.loss(key, eqx.combine(params, rest), (), None)[0])(params)


def flat(tree):
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def shifted(density, by):
    """The same density with another constant: nothing may depend on it but the loss."""

    class Shifted(lnz.AbstractDensity):
        density: lnz.AbstractDensity

        @property
        def space(self):
            return self.density.space

        def log_density(self, x):
            return self.density.log_density(x) + by

        def own_path(self):
            return self.density.path()

    return Shifted(density)


FLOWS = {
    "affine": table.composed_flow,
    "maf": lambda: lnz.Transformed(lnz.Normal.standard(2), table.flow("masked_autoregressive", 2)),
    "spline": lambda: lnz.Transformed(lnz.Normal.standard(2), table.flow("coupling_spline", 2, bound=3.0)),
}


@pytest.mark.parametrize("make", FLOWS.values(), ids=FLOWS)
def test_sticking_the_landing_has_no_noise_at_the_target(make):
    """Where q is the target every draw's gradient is zero, exactly; the plain gradient is noise there."""
    model = make()
    stuck = flat(gradient_of(ReverseKL(shifted(model, 3.0), 8, StickingTheLanding()), model, jr.key(0)))
    plain = flat(gradient_of(ReverseKL(shifted(model, 3.0), 8), model, jr.key(0)))
    assert jnp.max(jnp.abs(stuck)) == 0
    assert jnp.max(jnp.abs(plain)) > 1e-2


def test_sticking_the_landing_changes_no_mean(float64):
    """All gradients averaged over 2,000 steps within 4.5 standard errors of their difference: 1 in 10,000 keys."""
    model = FLOWS["maf"]()
    target = lnz.MultivariateNormal(jnp.array([0.5, -0.3]), jnp.array([[0.9, 0.0], [0.6, 0.8]]))

    @jax.jit
    def both(key):
        return tuple(
            flat(gradient_of(ReverseKL(target, 4, one), model, key)) for one in (Pathwise(), StickingTheLanding())
        )

    plain, stuck = jax.lax.map(both, jr.split(jr.key(0), 2000), batch_size=500)
    difference = plain - stuck
    error = jnp.std(difference, axis=0, ddof=1) / np.sqrt(2000)
    moved = error > 1e-12
    assert int(jnp.sum(moved)) > 20
    assert jnp.max(jnp.abs(jnp.mean(difference, axis=0))[moved] / error[moved]) < 4.5
    assert jnp.max(jnp.abs(jnp.mean(difference, axis=0))[~moved], initial=0) < 1e-10
    # And neither mean is zero, so that the comparison is one of something.
    assert jnp.max(jnp.abs(jnp.mean(plain, axis=0)) / (jnp.std(plain, axis=0) / np.sqrt(2000) + 1e-12)) > 10


TWO_BITS = lnz.density(lnz.Binary(2), lambda z: 1.5 * z[0] * z[1] - z[0] + 0.4 * z[1] + 2.0)


def test_score_gradients_of_reverse_kl_equal_enumeration(float64):
    """For bits, whose draws have no derivative; also of a tempered target. False alarm: 1 key in 100,000."""
    model, states = lnz.Bernoulli(jnp.array([0.7, -0.4])), jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])

    def exact(model, beta):
        log_q = jax.vmap(model.log_prob)(states)
        return jnp.sum(jnp.exp(log_q) * (log_q - beta * jax.vmap(TWO_BITS.log_density)(states)))

    moments = jnp.asarray(1.3), jnp.asarray(4.0), None, ()
    cases = [
        (ReverseKL(TWO_BITS, 3, LeaveOneOut()), (), 1.0),
        (ReverseKL(TWO_BITS, 3, LeaveOneOut(), num_annealed=4), (jnp.int32(2),), 0.505),
        (ReverseKL(TWO_BITS, 1, Score(scale=False)), moments, 1.0),
        (ReverseKL(TWO_BITS, 3, Score(scale=False), num_annealed=4), (jnp.int32(2), *moments), 0.505),
    ]

    @jax.jit
    def run(keys):
        def one(key):
            loss = lambda model, i: cases[i][0].loss(key, model, cases[i][1], None)[0]  # noqa: E731
            return [jax.value_and_grad(loss)(model, i) for i in range(len(cases))]

        return jax.vmap(one)(keys), [jax.value_and_grad(exact)(model, beta) for _, _, beta in cases]

    for sampled, truth in zip(*run(jr.split(jr.key(0), 20_000)), strict=True):
        for draws, mean in zip(jax.tree.leaves(sampled), jax.tree.leaves(truth), strict=True):
            error = np.std(draws, axis=0) / np.sqrt(len(draws))
            assert np.all(np.abs(np.mean(draws, axis=0) - mean) < 5 * error)
            assert np.all(error > 1e-4)


def test_reverse_kl_fits_bits():
    """Independent bits that are the target up to its constant are found without noise at the optimum."""
    target = lnz.density(lnz.Binary(2), lambda z: 1.2 * z[0] - 0.7 * z[1] + 3.0)
    method = lnz.Gradient(ReverseKL(target, 8, LeaveOneOut()), optax.adam(0.05))
    fit = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(2)), method, None, steps=400)
    np.testing.assert_allclose(fit.model.logits, [1.2, -0.7], atol=1e-3)
    assert fit.history[-1]["elbo"] == pytest.approx(3 + np.log1p(np.exp(1.2)) + np.log1p(np.exp(-0.7)), abs=1e-3)


def test_sticking_the_landing_is_the_same_loss():
    model, target = FLOWS["spline"](), lnz.Normal.standard(2)
    losses = [
        ReverseKL(target, 16, one).loss(jr.key(0), model, (), None)[0] for one in (Pathwise(), StickingTheLanding())
    ]
    assert abs(float(losses[0] - losses[1])) < 1e-4  # float32 sums


def test_reverse_kl_with_the_option_recovers_a_normal():
    target = lnz.MultivariateNormal(jnp.array([1.0, -2.0]), jnp.array([[0.5, 0.0], [0.3, 0.8]]))
    model = lnz.Transformed(lnz.Normal.standard(2), lnz.flows.affine(lnz.Euclidean(2), key=jr.key(0)))
    objective = ReverseKL(shifted(target, 2.0), 8, gradient=StickingTheLanding())

    method = lnz.Gradient(objective, optax.adam(optax.linear_schedule(0.05, 0.0, 1500)))
    fit = lnz.fit(jr.key(1), model, method, None, steps=1500)
    # No noise is left at the optimum, so that it is found to rounding and not to a neighbourhood.
    np.testing.assert_allclose(fit.model.bijection.loc, target.loc, atol=1e-4)
    np.testing.assert_allclose(fit.model.bijection.tril, target.scale_tril, atol=1e-4)
    assert fit.history[-1]["elbo"] == pytest.approx(2.0, abs=1e-4)


def test_forward_kl_recovers_the_moments_of_a_mixture():
    """The normal nearest to a target in KL(p || q) has its mean and variance, where KL(q || p) would pick one mode."""
    target = lnz.Mixture(jnp.zeros(2), lnz.Normal(jnp.array([[-2.0], [2.0]]), jnp.array([[0.6], [0.6]])))
    objective = ForwardKL(shifted(target, -1.0), 512)
    method = lnz.Gradient(objective, optax.adam(optax.linear_schedule(0.05, 0.0, 1000)))
    fit = lnz.fit(jr.key(0), lnz.Normal(jnp.array([1.0]), jnp.array([3.0])), method, None, steps=1000)
    # Self-normalisation with 512 draws biases each by a part in a few hundred.
    assert float(fit.model.loc[0]) == pytest.approx(0.0, abs=0.05)
    assert float(fit.model.scale[0]) == pytest.approx(np.sqrt(0.36 + 4.0), rel=0.03)
    exact = float(lnz.kl_divergence(target, fit.model).value)
    last = fit.history[-1]
    assert last["forward_kl"] == pytest.approx(exact, abs=0.05)
    assert last["log_normalizer"] == pytest.approx(-1.0, abs=0.05)
    assert 0.3 < last["ess_fraction"] < 1


def test_forward_kl_trains_a_flow_and_finds_both_modes():
    target = lnz.Mixture(jnp.zeros(2), lnz.Normal(jnp.array([[-2.0, 0.0], [2.0, 1.0]]), jnp.full((2, 2), 0.6)))
    bijection = lnz.flows.coupling_spline(lnz.Euclidean(2), key=jr.key(0), num_layers=2, width=16)
    model = lnz.Transformed(lnz.Normal(jnp.zeros(2), 2.5), bijection)
    method = lnz.Gradient(ForwardKL(target, 256), optax.adam(3e-3))
    fit = lnz.fit(jr.key(1), model, method, None, steps=600)
    before, after = (float(lnz.kl_divergence(target, flow, num=201).value) for flow in (model, fit.model))
    assert before > 0.8
    assert after < 0.15
    x = lnz.sample(jr.key(2), fit.model, 500)
    assert 0.35 < float(jnp.mean(x[:, 0] > 0)) < 0.65


def test_parts_of_forward_kl_are_what_they_say(float64):
    target, model = shifted(lnz.Normal(jnp.array([0.4]), jnp.array([0.8])), 0.7), lnz.Normal.standard(1)
    loss, (state, parts) = ForwardKL(target, 5).loss(jr.key(0), model, (), None)
    z, log_q = model.sample_and_log_prob(jr.key(0), (5,))
    w = np.exp(np.array(jax.vmap(target.log_density)(z) - log_q))
    p = w / w.sum()
    assert float(loss) == pytest.approx(-np.sum(p * np.asarray(log_q)))
    assert state == ()
    assert float(parts["forward_kl"]) == pytest.approx(np.sum(p * np.log(5 * p)))
    assert float(parts["log_normalizer"]) == pytest.approx(np.log(w.mean()))
    assert float(parts["ess_fraction"]) == pytest.approx(1 / (5 * np.sum(p**2)))


def test_the_gradient_of_forward_kl_is_biased_but_consistent(float64):
    """With many draws it is the exact gradient, E_p[-d log q], within 5 standard errors."""
    target, model = lnz.Normal(jnp.array([0.5]), jnp.array([0.7])), lnz.Normal.standard(1)
    exact = np.array([-0.5, 1 - (0.7**2 + 0.5**2)])  # of -E_p log q in loc and in log_scale

    def mean_gradient(num, repeats):
        keys = jr.split(jr.key(1), repeats)
        gradients = jax.lax.map(
            jax.jit(lambda key: flat(gradient_of(ForwardKL(target, num), model, key))), keys, batch_size=100
        )
        return np.asarray(jnp.mean(gradients, axis=0)), np.asarray(jnp.std(gradients, axis=0)) / np.sqrt(repeats)

    few, error = mean_gradient(2, 4000)
    assert np.max(np.abs(few - exact) / error) > 10
    many, error = mean_gradient(4000, 100)
    assert np.all(np.abs(many - exact) < 5 * error)


def test_a_draw_of_weight_zero_is_no_trouble():
    loss, (_, parts) = ForwardKL(lnz.Uniform(1, -0.5, 0.5), 64).loss(jr.key(0), lnz.Normal.standard(1), (), None)
    assert np.all(np.isfinite([float(loss), *map(float, parts.values())]))
    gradient = gradient_of(ForwardKL(lnz.Uniform(1, -0.5, 0.5), 64), lnz.Normal.standard(1), jr.key(0))
    assert jnp.all(jnp.isfinite(flat(gradient)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ForwardKL(lnz.Normal.standard(1), 1), "at least 2"),
        (lambda: ForwardKL(lnz.Normal.standard(1)).init(jr.key(0), lnz.Normal.standard(2), None), "but the model on"),
        (lambda: ReverseKL(lnz.Normal.standard(1)).init(jr.key(0), lnz.Normal.standard(2), None), "but the model on"),
        (lambda: ReverseKL(lnz.Normal.standard(4)).init(jr.key(0), table.rbm(), None), "trains a distribution"),
        (lambda: ReverseKL(lnz.Normal.standard(1), 1, LeaveOneOut()), "at least 2.*got 1.*Score"),
        (
            lambda: ReverseKL(TWO_BITS, 4, Score(baseline=lnz.nets.MLP(2, 1, key=jr.key(0)))).init(
                jr.key(0), lnz.Bernoulli(jnp.zeros(2)), None
            ),
            "this objective has no examples",
        ),
    ],
)
def test_bad_arguments_are_explained(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_annealing_ends_in_the_plain_objective(float64):
    model, target = table.composed_flow(), lnz.Normal.standard(2)
    objective = ReverseKL(target, 8, num_annealed=4)
    state = objective.init(jr.key(0), model, None)
    plain, (_, parts) = ReverseKL(target, 8).loss(jr.key(1), model, (), None)
    z, log_q = model.sample_and_log_prob(jr.key(1), (8,))
    log_p = jax.vmap(target.log_prob)(z)
    for beta in (0.01, 0.2575, 0.505, 0.7525, 1.0, 1.0):
        loss, (state, annealed) = objective.loss(jr.key(1), model, state, None)
        assert float(loss) == pytest.approx(float(jnp.mean(log_q - beta * log_p)))
        assert float(annealed["elbo"]) == pytest.approx(float(parts["elbo"]))
    assert float(loss) == pytest.approx(float(plain))
    with pytest.raises(ValueError, match="num_annealed"):
        ReverseKL(target, num_annealed=-1)
