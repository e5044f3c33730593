"""Objectives of latent-variable models: bounds, and gradients against closed forms, quadrature and enumeration."""

import re

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
from lnz.distributions import is_factorised, per_component
from lnz.gradients import DoublyReparameterised, LeaveOneOut, Pathwise, Score, StickingTheLanding
from lnz.objectives import ELBO, IWAE, ReweightedWakeSleep, WakeSleep


def gradients(objective, model, batch, keys, state=()):
    """The gradient for each key, one compiled program."""
    params, rest = eqx.partition(model, lnz.trainable(model))

    @jax.jit
    def run(params, keys):
        def one(key):
            return jax.grad(lambda p: objective.loss(key, eqx.combine(p, rest), state, batch)[0])(params)

        return jax.lax.map(one, keys, batch_size=1000)

    return run(params, keys)


def pulls(sampled, truth):
    """For each parameter, how many standard errors the mean of `sampled` is from `truth`."""
    error = np.std(sampled, axis=0) / np.sqrt(len(sampled)) + 1e-9
    return np.abs(np.mean(sampled, axis=0) - truth) / error


def largest_pull(sampled, truth):
    sampled, truth = jax.tree.leaves(sampled), jax.tree.leaves(truth)
    return max(float(np.max(pulls(s, t))) for s, t in zip(sampled, truth, strict=True))


def parts_of(objective, model, batch, keys, state=()):
    run = jax.jit(jax.vmap(lambda key: objective.loss(key, model, state, batch)[1][1]))
    return {name: np.asarray(values) for name, values in run(keys).items()}


def gradient_of(function, model):
    params, rest = eqx.partition(model, lnz.trainable(model))
    return jax.jit(jax.grad(lambda p: function(eqx.combine(p, rest))))(params)


# Linear-Gaussian: the bound and its gap have closed forms.


def far_vae():
    """A diagonal encoder away from its optimum, so that no gradient vanishes."""
    vae = table.linear_vae("diagonal")
    encoder = table.away_from_identity(vae.encoder, 0.3)
    return lnz.modules._module.replace(vae, encoder=encoder)


def exact_elbo(vae, batch):
    """Reconstruction, KL and their difference, by hand, for a linear decoder and a diagonal encoder."""

    def one(x):
        W, b, noise = vae.decoder.net.W, vae.decoder.net.b, jnp.exp(vae.decoder.log_scale)
        loc = vae.encoder.net.W @ x + vae.encoder.net.b
        variance = jnp.exp(2 * vae.encoder.log_scale)
        squares = jnp.sum((x - W @ loc - b) ** 2) + jnp.sum(W**2 @ variance)
        reconstruction = -0.5 * squares / noise**2 - 3 * jnp.log(noise) - 1.5 * jnp.log(2 * jnp.pi)
        prior = jnp.exp(2 * vae.prior.log_scale)
        ratio = variance / prior
        return reconstruction, 0.5 * ((loc - vae.prior.loc) ** 2 / prior + ratio - 1 - jnp.log(ratio))

    reconstruction, kl = jax.vmap(one)(batch)
    return jnp.mean(reconstruction), jnp.mean(kl, axis=0)


def test_elbo_is_the_closed_form_and_its_gap_the_divergence(float64):
    vae, exact, x = far_vae(), table.linear_vae("exact"), table.normal(90, 4, 3)

    @jax.jit
    def truth(x):
        gap = jax.vmap(lambda x: lnz.closed_form_kl(vae.posterior(x), exact.posterior(x)))(x)
        return jax.vmap(table.linear_vae_marginal().log_prob)(x), gap, *exact_elbo(vae, x)

    log_p, gap, reconstruction, kl = truth(x)
    assert float(reconstruction - jnp.sum(kl)) == pytest.approx(float(jnp.mean(log_p - gap)), abs=1e-12)
    keys = jr.split(jr.key(0), 4000)
    for objective in (ELBO(1), ELBO(2, analytic_kl=False), ELBO(1, gradient=StickingTheLanding())):
        parts = parts_of(objective, vae, x, keys)
        expected = {"elbo": jnp.mean(log_p - gap), "reconstruction": reconstruction, "kl": jnp.sum(kl)}
        for name, value in expected.items():
            assert pulls(parts[name], float(value)) < 4  # false alarm: 1 key in 2,000, for all nine
    # Without draws: every example is the same number.
    np.testing.assert_allclose(parts_of(ELBO(1), vae, x, keys[:3])["kl"], float(jnp.sum(kl)), rtol=1e-12)


def test_every_draw_of_the_true_posterior_gives_the_likelihood(float64):
    vae, x = table.linear_vae("exact"), table.normal(94, 4, 3)
    exact = float(jnp.mean(jax.vmap(table.linear_vae_marginal().log_prob)(x)))
    for objective in (ELBO(1, analytic_kl=False), ELBO(1, gradient=StickingTheLanding())):
        np.testing.assert_allclose(parts_of(objective, vae, x, jr.split(jr.key(0), 5))["elbo"], exact, atol=1e-10)
    for objective in (IWAE(3), IWAE(3, DoublyReparameterised()), IWAE(3, LeaveOneOut())):
        np.testing.assert_allclose(parts_of(objective, vae, x, jr.split(jr.key(0), 5))["iwae"], exact, atol=1e-10)


def test_bounds_rise_with_the_number_of_draws(float64):
    """ELBO < E[IWAE-2] < E[IWAE-8] < log p(x), for each way to the same bound."""
    vae, x, keys = far_vae(), table.normal(95, 8, 3), jr.split(jr.key(1), 4000)
    exact = float(jnp.mean(jax.vmap(table.linear_vae_marginal().log_prob)(x)))
    values = [parts_of(ELBO(1), vae, x, keys)["elbo"], *(parts_of(IWAE(k), vae, x, keys)["iwae"] for k in (2, 8))]
    means = [value.mean() for value in values] + [exact]
    errors = [value.std() / np.sqrt(len(value)) for value in values] + [0.0]
    for i in range(3):  # 4 standard errors each: far beyond chance
        assert means[i] + 4 * errors[i] < means[i + 1] - 4 * errors[i + 1]
    for objective in (IWAE(8, DoublyReparameterised()), IWAE(8, LeaveOneOut()), ReweightedWakeSleep(8)):
        other = parts_of(objective, vae, x, keys)["iwae"]
        assert abs(other.mean() - means[2]) < 4 * np.hypot(errors[2], other.std() / np.sqrt(len(keys)))


@pytest.mark.parametrize(
    "objective",
    [ELBO(1), ELBO(2, analytic_kl=False), ELBO(1, gradient=StickingTheLanding()), ELBO(1, beta=2.5)],
    ids=["analytic", "drawn", "sticking", "beta"],
)
def test_elbo_gradients_are_unbiased(objective, float64):
    vae, x = far_vae(), table.normal(90, 2, 3)

    def loss(vae):
        reconstruction, kl = exact_elbo(vae, x)
        return objective.beta * jnp.sum(kl) - reconstruction

    sampled = gradients(objective, vae, x, jr.split(jr.key(2), 20_000))
    assert largest_pull(sampled, gradient_of(loss, vae)) < 5  # some 30 numbers: false alarm 1 key in 60,000


def test_parts_have_no_hidden_weights(float64):
    """Options change the loss, which then stands beside the same parts."""
    vae, x, key = far_vae(), table.normal(90, 4, 3), jr.key(3)
    plain = ELBO(2)
    loss, (_, parts) = plain.loss(key, vae, (), x)
    assert set(parts) == {"elbo", "reconstruction", "kl"}
    assert float(loss) == -float(parts["elbo"]) == pytest.approx(float(parts["kl"] - parts["reconstruction"]))
    _, kl = exact_elbo(vae, x)
    assert float(kl[1]) < 0.7 < float(kl[0])
    pressed = kl[0] + 0.7
    cases = [
        (ELBO(2, beta=3.0), (), 3 * jnp.sum(kl)),
        (ELBO(2, num_warm_up=10), (jnp.int32(0),), 0),
        (ELBO(2, num_warm_up=10, beta=2.0), (jnp.int32(3),), 0.6 * jnp.sum(kl)),
        (ELBO(2, num_warm_up=10), (jnp.int32(10),), jnp.sum(kl)),
        (ELBO(2, free_bits=0.7), (), pressed),
        (ELBO(2, beta=0.5, free_bits=0.7), (), 0.5 * pressed),
    ]
    for objective, state, penalty in cases:
        loss, (after, changed) = objective.loss(key, vae, state, x)
        assert {name: float(value) for name, value in changed.items() if name != "loss"} == pytest.approx(
            {name: float(value) for name, value in parts.items()}, abs=1e-12
        )
        assert float(loss) == float(changed["loss"])
        assert float(loss + parts["reconstruction"]) == pytest.approx(float(penalty), abs=1e-12)
        assert jax.tree.all(jax.tree.map(lambda a, b: int(a) == min(int(b) + 1, 10), after, state))


def test_free_bits_do_not_press_a_dimension_that_says_little(float64):
    vae, x = far_vae(), table.normal(90, 4, 3)
    only_kl = lnz.modules._module.replace(
        vae, decoder=lnz.modules._module.replace(vae.decoder, log_scale=jnp.asarray(30.0))
    )

    def encoder_gradient(objective):
        return gradients(objective, only_kl, x, jr.split(jr.key(0), 1)).encoder.log_scale[0]

    plain, free = encoder_gradient(ELBO(1)), encoder_gradient(ELBO(1, free_bits=0.7))
    assert abs(plain[1]) > 0.01
    assert abs(free[1]) < 1e-12
    assert free[0] == pytest.approx(float(plain[0]))
    # By draws, the mean of each dimension is the same.
    drawn = parts_of(ELBO(64, analytic_kl=False, free_bits=0.01), vae, x, jr.split(jr.key(1), 400))
    assert pulls(drawn["kl"], float(jnp.sum(exact_elbo(vae, x)[1]))) < 4


FACTORISED = [name for name, make in table.DISTRIBUTIONS.items() if is_factorised(make())]


@pytest.mark.parametrize("name", FACTORISED)
def test_components_of_factorised_distributions_add_up(name):
    q = table.DISTRIBUTIONS[name]()

    @eqx.filter_jit
    def both(q, z):
        parts = per_component(lambda q, p, z: q.log_prob(z) - 2 * p.log_prob(z), q, q, z)
        return parts, -q.log_prob(z), per_component(lnz.closed_form_kl, q, q)

    parts, whole, kl = both(q, q.sample(jr.key(0)))
    assert parts.shape == (q.space.size,)
    assert float(jnp.sum(parts)) == pytest.approx(float(whole), rel=1e-5)
    assert kl is None or float(jnp.max(jnp.abs(kl))) < 1e-6


# Pathwise gradients of the importance-weighted bound.


def narrow_vae():
    """One latent variable, so that E[IWAE-2] is a quadrature in two dimensions."""
    decoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(table.normal(50, 2, 1), table.normal(51, 2)), 0.8
    )
    encoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(table.normal(52, 1, 2), table.normal(53, 1)), 0.6
    )
    return lnz.latent.VAE(lnz.Normal.standard(1), decoder, encoder)


def exact_iwae_2(vae, batch):
    """By Gauss-Hermite quadrature over the noise of both draws."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = jnp.asarray(weights / weights.sum())

    def log_normal(x, loc, log_scale):
        return -0.5 * ((x - loc) / jnp.exp(log_scale)) ** 2 - log_scale - 0.5 * jnp.log(2 * jnp.pi)

    def one(x):
        loc = (vae.encoder.net.W @ x + vae.encoder.net.b)[0]
        z = loc + jnp.exp(vae.encoder.log_scale) * jnp.asarray(nodes)
        means = z[:, None] * vae.decoder.net.W[:, 0][None] + vae.decoder.net.b[None]
        log_x = jnp.sum(log_normal(x[None], means, vae.decoder.log_scale), axis=1)
        log_w = log_x + log_normal(z, vae.prior.loc[0], vae.prior.log_scale[0])
        log_w = log_w - log_normal(z, loc, vae.encoder.log_scale)
        return weights @ (jnp.logaddexp(log_w[:, None], log_w[None]) - jnp.log(2)) @ weights

    return jnp.mean(jax.vmap(one)(batch))


@pytest.fixture(scope="module")
def iwae_2():
    """Exact gradient, and gradients of 20,000 draws by each estimator."""
    with jax.enable_x64(True):
        vae, x = narrow_vae(), table.normal(54, 2, 2)
        truth = gradient_of(lambda vae: -exact_iwae_2(vae, x), vae)
        keys = jr.split(jr.key(4), 20_000)
        estimators = (Pathwise(), DoublyReparameterised(), StickingTheLanding(), LeaveOneOut())
        sampled = {type(one).__name__: gradients(IWAE(2, one), vae, x, keys) for one in estimators}
        return jax.tree.map(np.asarray, (truth, sampled))


@pytest.mark.parametrize("name", ["Pathwise", "DoublyReparameterised", "LeaveOneOut"])
def test_iwae_gradients_are_unbiased(name, iwae_2):
    truth, sampled = iwae_2
    assert largest_pull(sampled[name], truth) < 5  # 11 numbers: false alarm 1 key in 150,000


def test_sticking_the_landing_is_biased_for_iwae(iwae_2):
    """Of the encoder; the decoder's gradient is the usual one."""
    truth, sampled = iwae_2
    biased = sampled["StickingTheLanding"]
    assert largest_pull(biased.decoder, truth.decoder) < 5
    assert largest_pull(biased.encoder, truth.encoder) > 15


def test_doubly_reparameterised_gradient_has_less_variance(float64):
    """For an encoder near its optimum (a factor of 9 here, of 36 at it, none far away); the decoder's is the same."""
    vae, x, keys = table.linear_vae("diagonal"), table.normal(90, 2, 3), jr.split(jr.key(5), 3000)
    vae = lnz.modules._module.replace(vae, encoder=table.away_from_identity(vae.encoder, 0.1))

    def variances(estimator):
        sampled = gradients(IWAE(8, estimator), vae, x, keys)
        return sampled.decoder, sum(float(np.sum(np.var(leaf, axis=0))) for leaf in jax.tree.leaves(sampled.encoder))

    (usual, plain), (same, double) = variances(Pathwise()), variances(DoublyReparameterised())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), usual, same)
    assert double < 0.25 * plain


def test_one_doubly_reparameterised_draw_sticks_the_landing(float64):
    vae, x, keys = far_vae(), table.normal(90, 2, 3), jr.split(jr.key(6), 2)
    first = gradients(IWAE(1, DoublyReparameterised()), vae, x, keys)
    second = gradients(ELBO(1, gradient=StickingTheLanding()), vae, x, keys)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), first, second)


def test_gradient_vanishes_at_the_true_posterior(float64):
    vae, x, keys = table.linear_vae("exact"), table.normal(94, 3, 3), jr.split(jr.key(7), 4)

    def largest(objective):
        leaves = jax.tree.leaves(gradients(objective, vae, x, keys).encoder)
        return max(float(np.max(np.abs(leaf))) for leaf in leaves)

    for estimator in (DoublyReparameterised(), StickingTheLanding()):
        assert largest(IWAE(3, estimator)) < 1e-12
    assert largest(ELBO(2, gradient=LeaveOneOut())) < 1e-12
    assert largest(ELBO(1, gradient=StickingTheLanding())) < 1e-12
    assert largest(ELBO(1)) > 0.1
    assert largest(ELBO(1, analytic_kl=False)) > 0.1
    assert largest(IWAE(3)) > 0.1


def test_flow_posteriors_with_estimated_log_determinants(float64):
    """Where the weights themselves are averaged, or log q is asked of given points, they are exact: one bound."""
    bijection = lnz.flows.residual(lnz.Euclidean(2), key=jr.key(0), num_layers=1, width=4, depth=1, log_det="unbiased")
    template = lnz.Transformed(lnz.Normal.standard(2), table.away_from_identity(bijection, 0.2))
    encoder = lnz.Conditional.of(template, 3, key=jr.key(1), width=4, depth=1)
    vae = lnz.modules._module.replace(table.linear_vae(), encoder=table.away_from_identity(encoder, 0.2))
    x, key = table.normal(90, 2, 3), jr.key(2)

    @eqx.filter_jit
    def losses(vae):
        objectives = (IWAE(3), IWAE(3, LeaveOneOut()), ELBO(3, gradient=StickingTheLanding()))
        return [objective.loss(key, vae, (), x)[1][1] for objective in objectives]

    iwae, vimco, sticking = losses(vae)
    assert float(vimco["iwae"]) == pytest.approx(float(iwae["iwae"]), abs=1e-6)  # the inverse's tolerance
    assert float(sticking["elbo"]) == pytest.approx(float(iwae["elbo"]), abs=1e-6)


# Bits: everything is a sum over four latent states.

CODES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
IMAGES = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])


def log_bits(x, logits):
    return jnp.sum(x * jax.nn.log_sigmoid(logits) + (1 - x) * jax.nn.log_sigmoid(-logits), axis=-1)


def tables_of(vae, x):
    """`log p(x, z)` and `log q(z | x)` of all four z."""
    z = jnp.asarray(CODES, x.dtype)
    logits = z @ vae.decoder.net.W.T + vae.decoder.net.b[None]
    log_joint = log_bits(x[None], logits) + log_bits(z, vae.prior.logits[None])
    return log_joint, log_bits(z, (vae.encoder.net.W @ x + vae.encoder.net.b)[None])


def enumerated_elbo(vae, batch):
    def one(x):
        log_joint, log_q = tables_of(vae, x)
        return jnp.sum(jnp.exp(log_q) * (log_joint - log_q))

    return jnp.mean(jax.vmap(one)(batch))


def over_pairs(log_q, values):
    """The mean over two independent draws of q."""
    q = jnp.exp(log_q)
    return q @ values @ q


def enumerated_iwae_2(vae, batch):
    def one(x):
        log_joint, log_q = tables_of(vae, x)
        log_w = log_joint - log_q
        return over_pairs(log_q, jnp.logaddexp(log_w[:, None], log_w[None]) - jnp.log(2))

    return jnp.mean(jax.vmap(one)(batch))


def bits():
    return jnp.asarray([[0, 1, 1], [1, 0, 0]], jnp.result_type(float))


def test_score_function_gradients_equal_enumeration(float64):
    vae, x = table.bits_vae(), bits()
    elbo = gradient_of(lambda vae: -enumerated_elbo(vae, x), vae)
    iwae = gradient_of(lambda vae: -enumerated_iwae_2(vae, x), vae)
    net = lnz.nets.MLP(3, 1, key=jr.key(0), width=4, depth=1)
    moments = jnp.asarray(-1.7), jnp.asarray(9.0)
    cases = [
        (IWAE(2, LeaveOneOut()), iwae, ()),
        (ELBO(gradient=Score(centre=False, scale=False)), elbo, (*moments, None, ())),
        (ELBO(2, gradient=Score(scale=False)), elbo, (*moments, None, ())),
        (
            ELBO(gradient=Score(scale=False, baseline=net)),
            elbo,
            ELBO(gradient=Score(baseline=net)).init(jr.key(0), vae, x),
        ),
    ]
    for objective, truth, state in cases:
        sampled = gradients(objective, vae, x, jr.split(jr.key(8), 20_000), state)
        assert largest_pull(sampled, truth) < 5  # 19 numbers: false alarm 1 key in 90,000
    # Scaled, the encoder's gradient is a third of it, for the standard deviation of the state is three.
    sampled = gradients(ELBO(gradient=Score()), vae, x, jr.split(jr.key(9), 20_000), (*moments, None, ()))
    assert largest_pull(sampled.decoder, elbo.decoder) < 5
    assert largest_pull(sampled.encoder, jax.tree.map(lambda g: g / 3, elbo.encoder)) < 5


@pytest.mark.parametrize("log_w", [[0.3, -1.0, 2.0], [0.0, -4000.0, -1000.0], [1.0, 1.0], [-30000.0, -29999.5]])
def test_a_draw_is_compared_with_the_mean_of_the_others(log_w):
    """Also where weights differ by thousands of nats, in float32."""

    def signals(reduce):
        term = lambda score: LeaveOneOut().score_term(jnp.array([log_w]), score, reduce, (), None)[0]  # noqa: E731
        return jax.grad(term)(jnp.zeros((1, len(log_w))))[0]

    others = [np.delete(log_w, k) for k in range(len(log_w))]
    means = [(log_w[k] - other.mean()) / len(log_w) for k, other in enumerate(others)]
    np.testing.assert_allclose(signals(jnp.mean), means, rtol=1e-6, atol=1e-30)
    log_sums = [np.logaddexp.reduce(log_w) - np.logaddexp.reduce([*other, other.mean()]) for other in others]
    np.testing.assert_allclose(signals(logsumexp), log_sums, rtol=1e-6, atol=3e-7)


def test_baselines_reduce_the_variance(float64):
    vae, x, keys = table.bits_vae(), bits(), jr.split(jr.key(10), 4000)

    def variance(objective, model=vae):
        state = objective.init(jr.key(0), model, x)
        leaves = jax.tree.leaves(gradients(objective, model, x, keys, state).encoder)
        return sum(float(np.sum(np.var(leaf, axis=0))) for leaf in leaves)

    plain = variance(ELBO(gradient=Score(centre=False, scale=False)))
    assert variance(ELBO(gradient=Score(scale=False))) < 0.6 * plain
    assert variance(IWAE(2, LeaveOneOut())) < 0.6 * plain


def test_the_baseline_network_learns_the_signal():
    """Of data whose mean signals differ, the network foresees the difference while the model stays put."""
    vae, x = table.bits_vae(), bits()
    net = lnz.nets.MLP(3, 1, key=jr.key(0), width=8, depth=1)
    objective = ELBO(4, gradient=Score(baseline=net, optimizer=optax.adam(0.02)))
    step = eqx.filter_jit(lambda key, state: objective.loss(key, vae, state, x)[1][0])
    start = state = objective.init(jr.key(0), vae, x)
    for i in range(300):
        state = step(jr.key(i), state)
    log_joint, log_q = jax.vmap(lambda x: tables_of(vae, x))(x)
    signal = jnp.sum(jnp.exp(log_q) * (log_joint - log_q), axis=1)

    def foreseen(state):
        return jnp.squeeze(jax.vmap(state[2])(x), 1) + state[0]

    assert float(jnp.abs(signal[0] - signal[1])) > 0.3
    assert float(jnp.max(jnp.abs(signal - foreseen(state)))) < 0.15  # running mean of 5 steps: its noise
    assert float(state[1]) < float(start[1])


def enumerated_dreams(vae):
    """`-E log q(z | x)` over `(z, x) ~ p`; p counts as a constant."""

    def one(x):
        log_joint, log_q = tables_of(vae, x)
        return -jnp.sum(jax.lax.stop_gradient(jnp.exp(log_joint)) * log_q)

    return jnp.sum(jax.vmap(one)(jnp.asarray(IMAGES, jnp.result_type(float))))


def enumerated_wake(vae, batch):
    """What two draws, weighted, make of `-log p(x, z) - log q(z | x)`; draws and weights count as constants."""

    def one(x):
        log_joint, log_q = tables_of(vae, x)
        log_w = jax.lax.stop_gradient(log_joint - log_q)
        first = jax.nn.sigmoid(log_w[:, None] - log_w[None])
        value = log_joint + log_q
        return -over_pairs(jax.lax.stop_gradient(log_q), first * value[:, None] + (1 - first) * value[None])

    return jnp.mean(jax.vmap(one)(batch))


def test_wake_and_sleep_gradients_equal_enumeration(float64):
    vae, x, keys = table.bits_vae(), bits(), jr.split(jr.key(11), 20_000)
    elbo = gradient_of(lambda vae: -enumerated_elbo(vae, x), vae)
    sleep, wake = gradient_of(enumerated_dreams, vae).encoder, gradient_of(lambda vae: enumerated_wake(vae, x), vae)
    classic = gradients(WakeSleep(), vae, x, keys)
    assert largest_pull((classic.prior, classic.decoder), (elbo.prior, elbo.decoder)) < 5
    assert largest_pull(classic.encoder, sleep) < 5
    assert largest_pull(gradients(ReweightedWakeSleep(2), vae, x, keys), wake) < 5
    both = gradients(ReweightedWakeSleep(2, "both"), vae, x, keys)
    assert largest_pull(both.encoder, jax.tree.map(jnp.add, wake.encoder, sleep)) < 5
    asleep = gradients(ReweightedWakeSleep(2, "sleep"), vae, x, keys)
    assert largest_pull(asleep.encoder, sleep) < 5
    # Decoder and prior follow the bound of two draws.
    iwae = gradient_of(lambda vae: -enumerated_iwae_2(vae, x), vae)
    assert largest_pull((asleep.prior, asleep.decoder), (iwae.prior, iwae.decoder)) < 5


def test_the_wake_phase_is_biased_and_approaches_the_posterior(float64):
    vae, x = table.bits_vae(), bits()

    def posterior_loss(vae):
        def one(x):
            log_joint, log_q = tables_of(vae, x)
            target = jax.lax.stop_gradient(jax.nn.softmax(log_joint))
            return -logsumexp(log_joint) - jnp.sum(target * log_q)

        return jnp.mean(jax.vmap(one)(x))

    truth = gradient_of(posterior_loss, vae)

    def bias(num_samples, num_keys):
        sampled = gradients(ReweightedWakeSleep(num_samples), vae, x, jr.split(jr.key(12), num_keys))
        mean = jax.tree.map(lambda g: g.mean(axis=0), sampled)
        return float(optax.tree.norm(jax.tree.map(jnp.subtract, mean, truth)))

    few, many = bias(2, 10_000), bias(50, 2000)
    assert few > 0.05
    assert many < 0.2 * few


# What every objective obeys.

NET = lnz.nets.MLP(3, 1, key=jr.key(20), width=4, depth=1)
EVERY = {
    "elbo": ELBO(1),
    "elbo_drawn": ELBO(2, analytic_kl=False),
    "elbo_warm": ELBO(1, num_warm_up=4, beta=2.0),
    "elbo_free": ELBO(1, free_bits=0.2),
    "elbo_sticking": ELBO(1, gradient=StickingTheLanding()),
    "iwae": IWAE(3),
    "iwae_double": IWAE(3, DoublyReparameterised()),
    "iwae_sticking": IWAE(3, StickingTheLanding()),
    "vimco": IWAE(3, LeaveOneOut()),
    "nvil": ELBO(gradient=Score()),
    "nvil_net": ELBO(gradient=Score(baseline=NET)),
    "reweighted": ReweightedWakeSleep(3, "both"),
    "wake_sleep": WakeSleep(),
}


@pytest.mark.parametrize("name", EVERY)
def test_examples_have_noise_of_their_own(name):
    """One unsplit key for a batch would give equal examples equal draws, and a mean as noisy as a single one."""
    objective, vae, x = EVERY[name], far_vae(), table.normal(90, 1, 3)
    state, keys = objective.init(jr.key(0), vae, x), jr.split(jr.key(13), 1500)
    one = parts_of(objective, vae, x, keys, state)
    many = parts_of(objective, vae, jnp.repeat(x, 16, axis=0), keys, state)
    for part in {"elbo", "iwae", "dreams"} & set(one):
        ratio = np.var(one[part]) / np.var(many[part])
        assert 12 < ratio < 21  # 16, and its standard error is about 1


@pytest.mark.parametrize("name", EVERY)
def test_extreme_parameters_give_finite_gradients(name):
    """In float32, with scales from 1e-4 to 1e4 and logits of thousands."""
    objective = EVERY[name]
    vae, x = far_vae(), 100 * table.normal(90, 4, 3)
    models = [
        lnz.modules._module.replace(
            vae, encoder=lnz.modules._module.replace(vae.encoder, log_scale=jnp.full(2, log_scale))
        )
        for log_scale in (-9.0, 9.0)
    ]
    if name in ("vimco", "nvil", "nvil_net", "reweighted", "wake_sleep"):
        models.append(jax.tree.map(lambda leaf: 1000 * leaf, table.bits_vae()))
    for model in models:
        data = bits() if isinstance(model.prior, lnz.Bernoulli) else x
        state = objective.init(jr.key(0), model, data)
        for leaf in jax.tree.leaves(gradients(objective, model, data, jr.split(jr.key(14), 4), state)):
            assert np.all(np.isfinite(leaf))


def timeless(history):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


@pytest.mark.parametrize("name", ["elbo_warm", "nvil_net"])
def test_resuming_is_exact(name, tmp_path):
    """Also amid the warm-up, and with the running mean and the network of a baseline."""
    method = lnz.Gradient(EVERY[name] if name != "elbo_warm" else ELBO(1, num_warm_up=20), optax.adam(0.01))
    vae, x = far_vae(), table.normal(91, 12, 3)

    def train(folder, progress=lambda record: None):
        checkpoints, watch = lnz.Checkpoints(folder, every=0.0, resume=True), lnz.Watch(3, progress)
        return lnz.fit(jr.key(0), vae, method, x, steps=30, batch_size=4, checkpoints=checkpoints, watch=watch)

    def stop(record):
        if record["step"] >= 9:
            raise KeyboardInterrupt

    unbroken = train(tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stop)
    resumed = train(tmp_path / "broken")
    first, second = (jax.tree.leaves(eqx.filter((r.model, r.state), eqx.is_array)) for r in (unbroken, resumed))
    for a, b in zip(first, second, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert timeless(resumed.history) == timeless(unbroken.history)
    if name == "elbo_warm":
        losses = {record["step"]: record for record in unbroken.history}
        assert losses[30]["loss"] == pytest.approx(-losses[30]["elbo"], rel=1e-5)
        assert losses[3]["loss"] < -losses[3]["elbo"]
        assert int(unbroken.state[1][0]) == 20


@pytest.mark.parametrize(
    "objective",
    [IWAE(4, LeaveOneOut()), ELBO(2, gradient=Score()), ReweightedWakeSleep(4)],
    ids=["vimco", "nvil", "reweighted"],
)
def test_latent_bits_are_learned(objective):
    """Training raises the exact likelihood of a model with latent bits."""
    target = lnz.Mixture(jnp.zeros(2), lnz.Bernoulli(jnp.array([[4.0, 4.0, -4.0], [-4.0, -4.0, 4.0]])))
    x = target.sample(jr.key(1), (200,))
    vae = table.bits_vae()

    def likelihood(vae):
        return float(jnp.mean(jax.vmap(lambda x: logsumexp(tables_of(vae, x)[0]))(x)))

    method = lnz.Gradient(objective, optax.adam(0.05))
    after = lnz.fit(jr.key(0), vae, method, x, steps=400, batch_size=50).model
    best = float(jnp.mean(jax.vmap(target.log_prob)(x)))
    assert likelihood(vae) < best - 0.5
    assert likelihood(after) > best - 0.1


def products(objective, num_samples=1):
    """Matrix products in the compiled gradient of a VAE of two networks with one hidden layer each."""
    to_x = lnz.nets.MLP(12, 40, key=jr.key(0), width=28, depth=1)
    to_z = lnz.nets.MLP(40, 24, key=jr.key(1), width=20, depth=1)
    decoder = lnz.Conditional(lnz.Normal.standard(40), to_x, where=lambda d: d.loc)
    vae = lnz.latent.VAE(lnz.Normal.standard(12), decoder, lnz.Conditional(lnz.Normal.standard(12), to_z))
    params, rest = eqx.partition(vae, lnz.trainable(vae))

    def gradient(params, key, batch):
        return jax.grad(lambda p: objective.loss(key, eqx.combine(p, rest), (), batch)[0])(params)

    text = jax.jit(gradient).lower(params, jr.key(0), jnp.zeros((16, 40))).compile().as_text()
    return len(re.findall(r" dot\(", text))


def test_a_step_needs_one_pass_of_encoder_and_decoder():
    """Forward 2 + 2; backward 2 + 2 for weights, 2 for the decoder's inputs and 1 within the encoder."""
    assert products(ELBO(1)) == 11
    assert products(ELBO(1, gradient=StickingTheLanding())) == 11
    assert products(IWAE(6)) == 11
    assert products(IWAE(6, DoublyReparameterised())) == 11  # the pass that weighs is the same one
    assert products(IWAE(6, LeaveOneOut())) == 10  # no gradient of the likelihood in z


BITS_IN_NORMAL = lnz.latent.VAE(
    lnz.Bernoulli(jnp.zeros(2)),
    lnz.distributions.ConditionalNormal(lnz.nets.Linear.from_parameters(jnp.ones((3, 2)), jnp.zeros(3)), 1.0),
    lnz.distributions.ConditionalBernoulli(lnz.nets.Linear.from_parameters(jnp.ones((2, 3)), jnp.zeros(2))),
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ELBO(beta=-1.0), r"ELBO\(beta=...\).*negative; got -1"),
        (lambda: ELBO(free_bits=-0.1), r"ELBO\(free_bits=...\).*negative"),
        (lambda: ELBO(num_warm_up=-3), r"num_warm_up.*at least 1; got -3"),
        (lambda: IWAE(5, "double"), r"IWAE\(gradient=...\).*Pathwise\(\)`, with its brackets; got 'double'"),
        (lambda: ELBO(gradient=Score), r"ELBO\(gradient=...\).*with its brackets; got <class"),
        (lambda: IWAE(1, LeaveOneOut()), "at least 2.*LeaveOneOut.*got 1.*Score"),
        (lambda: ELBO(gradient=LeaveOneOut()), "at least 2.*LeaveOneOut.*got 1.*Score"),
        (lambda: IWAE(3, Score()), "cannot be `Score`.*LeaveOneOut"),
        (lambda: ELBO(gradient=Score(decay=1.0)), "less than 1"),
        (lambda: ELBO(gradient=Score(baseline=3)), "a network from x to a number; got int"),
        (lambda: ReweightedWakeSleep(1), "at least 2.*WakeSleep"),
        (lambda: ReweightedWakeSleep(4, "dream"), "got 'dream'"),
        (
            lambda: ELBO(free_bits=0.1).loss(jr.key(0), table.linear_vae("exact"), (), jnp.zeros((2, 3))),
            r"free_bits.*independent components.*got Normal and MultivariateNormal",
        ),
        (lambda: ELBO().loss(jr.key(0), BITS_IN_NORMAL, (), jnp.zeros((2, 3))), "LeaveOneOut.*Score"),
        (lambda: IWAE(5, LeaveOneOut()).loss(jr.key(0), table.rbm(), (), jnp.zeros((2, 4))), "latent-variable model"),
        (
            lambda: WakeSleep().loss(
                jr.key(0), lnz.modules._module.replace(table.linear_vae(), encoder=None), (), jnp.zeros((2, 3))
            ),
            "encoder",
        ),
        (
            lambda: ELBO(gradient=Score(baseline=lnz.nets.MLP(3, 2, key=jr.key(0)))).init(
                jr.key(0), BITS_IN_NORMAL, jnp.zeros((2, 3))
            ),
            r"one number; got shape \(2,\)",
        ),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_arguments_are_explained(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
