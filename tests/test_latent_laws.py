"""Laws of latent-variable models that take a closed form, quadrature or a second precision to see."""

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import lnz
from lnz.objectives import ELBO

KEY = jr.key(0)


def mean_and_error(values):
    return float(jnp.mean(values)), float(jnp.std(values, ddof=1)) / len(values) ** 0.5


def one_example_vae(q, prior):
    """A posterior that is the same for every x, and a decoder that ignores it."""
    return lnz.latent.VAE(prior, lambda z: lnz.Normal(jnp.zeros(2) * jnp.sum(z), 1.0), lambda x: q)


@pytest.mark.parametrize("name", ["analytic", "drawn", "sticking", "no_rule"])
def test_free_bits_compare_without_noise(name):
    """`E[penalty] = sum max(free_bits, KL)` where there is a closed form; without one it is too large, as documented."""
    loc, free_bits = jnp.array([0.0, 0.45, 1.5]), 0.15
    q = lnz.Normal(loc, jnp.ones(3))
    options = {"drawn": {"analytic_kl": False}, "sticking": {"sticking_the_landing": True}}.get(name, {})
    prior = lnz.Normal.standard(3)
    if name == "no_rule":
        q, prior = lnz.Laplace(loc, jnp.ones(3)), lnz.Logistic(jnp.zeros(3), jnp.ones(3))
    vae, objective = one_example_vae(q, prior), ELBO(1, free_bits=free_bits, **options)

    @jax.jit
    def penalties(keys):
        def one(key):
            loss, (_, parts) = objective.loss(key, vae, (), jnp.zeros((2, 2)))
            return loss + parts["reconstruction"]

        return jax.vmap(one)(keys)

    mean, error = mean_and_error(penalties(jr.split(KEY, 8000)))
    if name == "no_rule":
        # The KL of each dimension by sums over a grid.
        grid = jnp.linspace(-40.0, 40.0, 16001)
        log_q = -jnp.abs(grid[:, None] - loc[None]) - jnp.log(2.0)
        log_p = jax.scipy.stats.logistic.logpdf(grid)[:, None]
        kl = jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=0) * (grid[1] - grid[0])
        assert mean > float(jnp.sum(jnp.maximum(kl, free_bits))) + 10 * error
        return
    truth = float(jnp.sum(jnp.maximum(loc**2 / 2, free_bits)))
    assert abs(mean - truth) < 4 * error + 1e-6


@pytest.mark.usefixtures("untyped")
def test_free_bits_of_other_shapes_are_refused():
    vae = one_example_vae(lnz.Normal(jnp.zeros(6), 1.0), lnz.Normal(jnp.zeros((2, 3)), 1.0))
    with pytest.raises(ValueError, match=r"one shape; got \(2, 3\) and \(6,\)"):
        ELBO(1, free_bits=0.1).loss(KEY, vae, (), jnp.zeros((2, 2)))
