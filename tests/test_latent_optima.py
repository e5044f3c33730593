"""Optima of latent-variable models that are known, and bounds of those that are not, against quadrature."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.objectives import ELBO, IWAE

NUM, DIM, LATENTS = 200, 4, 2


def pca_data():
    noise, mix, mean = (np.asarray(table.normal(*spec)) for spec in ((700, NUM, DIM), (701, DIM, DIM), (702, DIM)))
    return jnp.asarray((noise * [2.0, 1.4, 0.7, 0.5]) @ np.linalg.qr(mix)[0] + mean, float)


def pca_optimum(x):
    """Eigenvectors and eigenvalues of the sample covariance, largest first, the mean and the noise's variance."""
    x = np.asarray(x, np.float64)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    return vectors, values, x.mean(axis=0), values[LATENTS:].mean()


def pca_likelihood(x, W, b, variance):
    """The mean log-likelihood of `N(b, W W^T + variance I)`, in nats."""
    x, W, b = (np.asarray(a, np.float64) for a in (x, W, b))
    covariance = W @ W.T + variance * np.eye(DIM)
    distance = np.mean(np.sum((x - b) * np.linalg.solve(covariance, (x - b).T).T, axis=1))
    return -0.5 * (DIM * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + distance)


def pca_vae(W, b, noise, V, c, scale):
    W, b, noise, V, c, scale = (jnp.asarray(a, float) for a in (W, b, noise, V, c, scale))
    return lnz.latent.VAE(
        lnz.Normal.standard(LATENTS),
        lnz.distributions.ConditionalNormal(lnz.nets.Linear.from_parameters(W, b), noise),
        lnz.distributions.ConditionalNormal(lnz.nets.Linear.from_parameters(V, c), scale),
    )


def test_probabilistic_pca_is_a_stationary_point_of_the_elbo(float64):
    """At Tipping and Bishop's solution the ELBO is the maximum of the likelihood, and its gradient is zero."""
    x = pca_data()
    vectors, values, mean, variance = pca_optimum(x)
    W = vectors[:, :LATENTS] * np.sqrt(values[:LATENTS] - variance)
    # W^T W is diagonal, so the posterior is too: N(M^-1 W^T (x - mean), variance M^-1), M = W^T W + variance I.
    V = W.T / values[:LATENTS, None]
    best = pca_vae(W, mean, np.sqrt(variance), V, -V @ mean, np.sqrt(variance / values[:LATENTS]))
    worse = pca_vae(1.1 * W, mean, np.sqrt(variance), V, -V @ mean, np.sqrt(variance / values[:LATENTS]))

    @eqx.filter_jit
    def run(vae):
        params, rest = eqx.partition(vae, lnz.trainable(vae))

        def one(key):
            def loss(params):
                loss, (_, parts) = ELBO(1).loss(key, eqx.combine(params, rest), (), x)
                return loss, parts["elbo"]

            return jax.grad(loss, has_aux=True)(params)

        return jax.lax.map(one, jr.split(jr.key(0), 4000), batch_size=500)

    def pulls(gradients):
        means = [(np.mean(g, axis=0), np.std(g, axis=0) / np.sqrt(len(g)) + 1e-12) for g in jax.tree.leaves(gradients)]
        return max(float(np.max(np.abs(mean) / error)) for mean, error in means)

    gradients, elbos = run(best)
    # -1/2 (d log 2 pi + sum_(i <= q) log lambda_i + (d - q) log noise + d)
    logs = np.sum(np.log(values[:LATENTS])) + (DIM - LATENTS) * np.log(variance)
    maximum = -0.5 * (DIM * np.log(2 * np.pi) + logs + DIM)
    assert pca_likelihood(x, W, mean, variance) == pytest.approx(maximum, abs=1e-10)
    assert abs(float(jnp.mean(elbos)) - maximum) < 4 * float(jnp.std(elbos)) / np.sqrt(len(elbos))
    assert pulls(gradients) < 4.5  # of 29 numbers: a false alarm in 1 of 5,000 keys
    assert pulls(run(worse)[0]) > 20


def test_training_finds_probabilistic_pca():
    """From random weights: the subspace is that of the largest eigenvectors, the noise the mean of the others."""
    x = pca_data()
    vectors, values, mean, variance = pca_optimum(x)
    W, V = 0.5 * table.normal(703, DIM, LATENTS), 0.1 * table.normal(704, LATENTS, DIM)
    start = pca_vae(W, jnp.zeros(DIM), 1.0, V, jnp.zeros(LATENTS), jnp.ones(LATENTS))
    steps = 3000
    method = lnz.Gradient(ELBO(4), optax.adam(optax.cosine_decay_schedule(0.02, steps)))
    vae = lnz.fit(jr.key(0), start, method, x, steps=steps, batch_size=NUM).model
    W, b = np.asarray(vae.decoder.net.W, np.float64), np.asarray(vae.decoder.net.b, np.float64)
    noise = float(jnp.exp(2 * vae.decoder.log_scale))
    best = pca_likelihood(x, vectors[:, :LATENTS] * np.sqrt(values[:LATENTS] - variance), mean, variance)
    gap = best - pca_likelihood(x, W, b, noise)
    # No standard error has this: what is left is the noise of the last steps, which has shrunk with their size.
    assert 0 <= gap < 2e-3
    outside = vectors[:, LATENTS:].T @ np.linalg.qr(W)[0]  # sines of the angles between the subspaces
    assert np.linalg.norm(outside, 2) < 0.02
    assert noise == pytest.approx(variance, rel=0.02)
    leading = vectors[:, :LATENTS] * values[:LATENTS] @ vectors[:, :LATENTS].T
    rest = variance * vectors[:, LATENTS:] @ vectors[:, LATENTS:].T
    np.testing.assert_allclose(W @ W.T + noise * np.eye(DIM), leading + rest, atol=0.03 * values[0])


def curved_vae(num):
    """Bits of one latent variable or numbers of two, both through a curve, and an encoder that is roughly right."""
    net = lnz.nets.MLP(num, 3, key=jr.key(5), width=5, depth=1, activation=jnp.tanh)
    net = eqx.tree_at(lambda net: net.weights, net, tuple(3 * W for W in net.weights))
    decoder = lnz.distributions.ConditionalBernoulli(net) if num == 1 else lnz.distributions.ConditionalNormal(net, 0.8)
    encoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(0.1 * table.normal(6, num, 3), jnp.zeros(num)), 0.9
    )
    return lnz.latent.VAE(lnz.Normal.standard(num), decoder, encoder)


@pytest.mark.parametrize("num", [1, 2])
def test_importance_weighted_bounds_rise_to_quadrature(num):
    """`ELBO = E[IWAE-1] < E[IWAE-2] < ... < log p(x)`; the limit by this library's grid and by NumPy's sums."""
    vae, counts = curved_vae(num), (1, 2, 4, 16)
    x = lnz.sample(jr.key(7), vae, 8)

    @eqx.filter_jit
    def run(vae):
        def bound(num_samples):
            keys = jr.split(jr.key(num_samples), 2000)
            return jax.lax.map(lambda key: IWAE(num_samples).loss(key, vae, (), x)[1][1]["iwae"], keys, batch_size=500)

        axis = jnp.linspace(-7.0, 7.0, 141)
        grid = jnp.stack(jnp.meshgrid(*[axis] * num, indexing="ij"), axis=-1).reshape(-1, num)
        joint = jax.vmap(lambda x: jax.vmap(lambda z: vae.likelihood(z).log_prob(x))(grid))(x)
        return [bound(k) for k in counts], joint, grid

    bounds, joint, grid = run(vae)
    joint = np.asarray(joint, np.float64) - 0.5 * np.sum(np.square(np.asarray(grid, np.float64)), axis=1)
    integrals = np.sum(np.exp(joint), axis=1) * (0.1 / np.sqrt(2 * np.pi)) ** num
    exact = float(np.mean(np.log(integrals)))
    by_grid = lnz.evaluate(jr.key(0), vae, x, hidden=lnz.normalizers.Quadrature(141, (-7.0, 7.0)), batch_size=8)
    assert by_grid.value == pytest.approx(exact, abs=1e-5)
    means = [float(jnp.mean(b)) for b in bounds]
    errors = [float(jnp.std(b)) / len(b) ** 0.5 for b in bounds]
    for low, high, error in zip(means, means[1:], np.hypot(errors[:-1], errors[1:]), strict=False):
        assert low + 4 * error < high  # 4 standard errors of the difference: far beyond chance
    assert means[-1] < exact + 4 * errors[-1]
    assert exact - means[-1] < 0.2 * (exact - means[0])
