"""Gradient estimators by the objectives that take them: recorded numbers, and exact gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import table

import lnz
from lnz.gradients import DoublyReparameterised, LeaveOneOut, Score, StickingTheLanding
from lnz.objectives import ELBO, IWAE, ReverseKL

# Of a key in float64: the loss, a sum of the gradient with fixed weights, parts by name, and numbers of the next state,
# as they were while each objective still had gradients of its own.
RECORDED = {
    "elbo": [11.0945026, 7.09376068, -11.0945026, 1.45623829, -9.63826433],
    "elbo_drawn": [11.2094067, 7.48301935, -11.2094067, 1.5711424, -9.63826433],
    "elbo_sticking": [11.2094067, 7.76340186, -11.2094067, 1.5711424, -9.63826433],
    "elbo_free_sticking": [11.249121, 6.5822278, -11.2094067, 1.5711424, 11.249121, -9.63826433],
    "elbo_weighed": [10.5876382, 6.37714916, -11.0945026, 1.45623829, 10.5876382, -9.63826433, 4.0],
    "elbo_score": [2.29965647, -0.288968383, -2.29965647, 0.0966715066, -2.20298496, -1.81993129, 7.27673057],
    "elbo_baseline": [2.29965647, -0.31220045, -2.29965647, 0.0966715066, -2.20298496, -1.83291371, 0.155491094, 1.0],
    "iwae": [11.3275162, 7.22479338, -11.4726416, -11.3275162],
    "iwae_double": [11.3275162, 6.65894497, -11.4726416, -11.3275162],
    "iwae_sticking": [11.3275162, 7.16621352, -11.4726416, -11.3275162],
    "iwae_leave_one_out": [2.39366281, -0.434367718, -2.45903451, -2.39366281],
    "reverse": [0.805875997, -0.598076403, -0.805875997],
    "reverse_sticking": [0.805875997, -1.33500483, -0.805875997],
    "reverse_annealed": [-1.2118206, 2.02925397, -0.805875997, 3.0],
}


def objectives():
    normal = lnz.MultivariateNormal(jnp.array([0.5, -0.3]), jnp.array([[0.9, 0.0], [0.6, 0.8]]))
    net = lnz.nets.MLP(3, 1, key=jr.key(0), width=4, depth=1)
    return {
        "elbo": ELBO(2),
        "elbo_drawn": ELBO(2, analytic_kl=False),
        "elbo_sticking": ELBO(2, gradient=StickingTheLanding()),
        "elbo_free_sticking": ELBO(2, free_bits=0.7, gradient=StickingTheLanding()),
        "elbo_weighed": ELBO(2, beta=2.0, num_warm_up=10, free_bits=0.7),
        "elbo_score": ELBO(2, gradient=Score()),
        "elbo_baseline": ELBO(2, gradient=Score(scale=False, baseline=net)),
        "iwae": IWAE(3),
        "iwae_double": IWAE(3, DoublyReparameterised()),
        "iwae_sticking": IWAE(3, StickingTheLanding()),
        "iwae_leave_one_out": IWAE(3, LeaveOneOut()),
        "reverse": ReverseKL(normal, 4),
        "reverse_sticking": ReverseKL(normal, 4, StickingTheLanding()),
        "reverse_annealed": ReverseKL(normal, 4, num_annealed=8),
    }


def weighed(gradient):
    """One number that tells gradients apart."""
    flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(gradient)])
    return jnp.sum(jnp.cos(jnp.arange(flat.size, dtype=flat.dtype)) * flat)


def loss_and_gradient(objective, key, model, state, batch):
    params, rest = eqx.partition(model, lnz.trainable(model))
    return jax.value_and_grad(lambda p: objective.loss(key, eqx.combine(p, rest), state, batch), has_aux=True)(params)


def far_vae():
    vae = table.linear_vae("diagonal")
    return lnz.modules.replace(vae, encoder=table.away_from_identity(vae.encoder, 0.3))


def bits():
    return jnp.asarray([[0, 1, 1], [1, 0, 0]], jnp.result_type(float))


def test_numbers_are_those_recorded(float64):
    far, of_bits, flow, x = far_vae(), table.bits_vae(), table.composed_flow(), table.normal(90, 4, 3)
    every = objectives()
    started = every["elbo_baseline"].init(jr.key(0), of_bits, bits())
    np.testing.assert_allclose(started[:2], [-1.76555831, 0.0440005438], rtol=1e-5)
    states = {
        "elbo_weighed": (jnp.int32(3),),
        "elbo_score": (jnp.asarray(-1.7), jnp.asarray(9.0), None, ()),
        "elbo_baseline": started,
        "reverse_annealed": (jnp.int32(2),),
    }

    @jax.jit
    def run():
        numbers = {}
        for name, objective in every.items():
            model, batch = (flow, None) if name.startswith("reverse") else (far, x)
            if name in ("elbo_score", "elbo_baseline", "iwae_leave_one_out"):
                model, batch = of_bits, bits()
            state = states.get(name, ())
            (loss, (state, parts)), gradient = loss_and_gradient(objective, jr.key(3), model, state, batch)
            scalars = [leaf for leaf in jax.tree.leaves(state) if jnp.ndim(leaf) == 0]
            numbers[name] = [loss, weighed(gradient), *(parts[part] for part in sorted(parts)), *scalars]
        return numbers

    numbers = run()
    assert numbers.keys() == RECORDED.keys()
    for name, expected in RECORDED.items():
        # The parameters are drawn in float32, whose last digits are the compiler's; estimators differ by 1e-2.
        np.testing.assert_allclose(numbers[name], expected, rtol=1e-5, err_msg=name)


def test_a_mean_of_doubly_reparameterised_draws_sticks_the_landing(float64):
    far, flow, x = far_vae(), table.composed_flow(), table.normal(90, 2, 3)

    @jax.jit
    def run(key):
        pairs = [(ELBO(2), far, x), (ReverseKL(lnz.Normal.standard(2), 3), flow, None)]
        return [
            [
                loss_and_gradient(lnz.modules.replace(objective, gradient=one), key, model, (), batch)
                for one in estimators
            ]
            for objective, model, batch in pairs
        ]

    estimators = StickingTheLanding(), DoublyReparameterised()
    for sticking, double in run(jr.key(1)):
        jax.tree.map(np.testing.assert_array_equal, sticking, double)


def test_score_gradients_of_a_weighed_elbo_equal_enumeration(float64):
    """With beta, warm-up and free bits, of bits: `-E_q log p(x | z) + beta sum_d max(free_bits, KL_d)`."""
    vae, x, codes = table.bits_vae(), bits(), jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])

    def exact(vae, beta, free_bits):
        def one(x):
            q = vae.posterior(x)
            log_x = jax.vmap(lambda z: vae.likelihood(z).log_prob(x))(codes)
            p, prior = jax.nn.sigmoid(q.logits), jax.nn.sigmoid(vae.prior.logits)
            kl = p * jnp.log(p / prior) + (1 - p) * jnp.log((1 - p) / (1 - prior))
            return jnp.sum(jnp.exp(jax.vmap(q.log_prob)(codes)) * log_x), kl

        reconstruction, kl = jax.vmap(one)(x)
        kl = jnp.mean(kl, axis=0)
        return beta * jnp.sum(jnp.maximum(kl, free_bits)) - jnp.mean(reconstruction), kl

    params, rest = eqx.partition(vae, lnz.trainable(vae))
    free_bits = float(jnp.mean(exact(vae, 1.0, 0.0)[1]))  # between the two
    moments = jnp.asarray(-2.0), jnp.asarray(4.0), None, ()
    cases = [
        (ELBO(2, gradient=LeaveOneOut()), (), (1.0, 0.0)),
        (ELBO(3, beta=2.5, free_bits=free_bits, gradient=LeaveOneOut()), (), (2.5, free_bits)),
        (ELBO(1, num_warm_up=4, gradient=Score(scale=False)), (jnp.int32(1), *moments), (0.25, 0.0)),
        (ELBO(2, beta=0.5, free_bits=free_bits, gradient=Score(scale=False)), moments, (0.5, free_bits)),
    ]

    @jax.jit
    def run(keys):
        def one(key):
            return [loss_and_gradient(objective, key, vae, state, x)[1] for objective, state, _ in cases]

        truths = [jax.grad(lambda p, w=w: exact(eqx.combine(p, rest), *w)[0])(params) for *_, w in cases]
        return jax.lax.map(one, keys, batch_size=1000), truths

    for sampled, truth in zip(*run(jr.split(jr.key(2), 20_000)), strict=True):
        for draws, mean in zip(jax.tree.leaves(sampled), jax.tree.leaves(truth), strict=True):
            error = np.std(draws, axis=0) / np.sqrt(len(draws)) + 1e-12
            # 19 numbers of four objectives: false alarm 1 key in 20,000.
            assert np.all(np.abs(np.mean(draws, axis=0) - mean) < 5 * error)


def test_a_baseline_network_keeps_data_where_they_are():
    net = lnz.nets.MLP(3, 1, key=jr.key(0), width=4, depth=1)
    assert lnz.Gradient(ELBO(gradient=Score()), optax.sgd(0.1)).moves_with_data
    assert not lnz.Gradient(ELBO(gradient=Score(baseline=net)), optax.sgd(0.1)).moves_with_data
