"""Which number is the log-likelihood: bounds of latent-variable models against closed forms and quadrature."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table
from jax.extend.core import jaxprs_in_params

import lnz
from lnz import testing
from lnz.normalizers import AIS, Bound, Importance, Quadrature, ReverseAIS
from lnz.objectives import IWAE

KEY = jr.key(0)


def exact_elbos(vae, x):
    """`log p(x) - KL(q || p(z | x))` of a linear VAE in closed form, for rows of x."""
    gram_cholesky = table.linear_vae().posterior(x[0]).scale_tril  # covariance of the posterior, for every x

    def kl(x):
        q, p = vae.posterior(x), table.linear_vae().posterior(x)
        ratio = jnp.linalg.solve(gram_cholesky, jnp.diag(q.scale))
        shift = jnp.linalg.solve(gram_cholesky, q.loc - p.loc)
        log_det = jnp.sum(jnp.log(jnp.diagonal(gram_cholesky))) - jnp.sum(q.log_scale)
        return 0.5 * (jnp.sum(ratio**2) + jnp.sum(shift**2) - len(shift)) + log_det

    return jax.vmap(table.linear_vae_marginal().log_prob)(x) - jax.vmap(kl)(x)


def residual_posterior(log_det):
    """A VAE whose encoder shifts the base of a residual flow."""
    flow = lnz.flows.residual(lnz.Euclidean(2), key=jr.key(1), num_layers=1, width=4, depth=1, log_det=log_det)
    flow = table.away_from_identity(flow)
    template = lnz.Transformed(lnz.Normal(jnp.zeros(2), 0.6), flow)
    net = lnz.nets.Linear(0.3 * table.normal(320, 2, 3), jnp.zeros(2))
    vae = table.linear_vae()
    return lnz.latent.VAE(vae.prior, vae.decoder, lnz.Conditional(template, net, lambda flow: flow.base.loc))


def test_bound_is_the_elbo(precision):
    """Its error bar covers the ELBO, which lies below the log-likelihood by a Kullback-Leibler divergence."""
    vae, x = table.linear_vae("diagonal"), table.normal(93, 3)
    elbo = float(exact_elbos(vae, x[None])[0])
    assert elbo < float(table.linear_vae_marginal().log_prob(x)) - 0.05
    estimates = testing.repeat_normalizer(jr.key(3), Bound(64), lnz.condition(vae, x))
    assert estimates.bound == "lower"
    testing.check_normalizer(estimates, elbo)
    # An unbiased mean: off neither way by more than 4 standard errors (1 in 16,000).
    assert abs(float(jnp.mean(estimates.value)) - elbo) < 4 * float(jnp.std(estimates.value)) / 10


def test_bound_is_exact_at_the_true_posterior():
    estimate = lnz.log_normalizer(KEY, lnz.condition(table.linear_vae(), jnp.ones(3)), Bound(10, chunk_size=4))
    exact = float(table.linear_vae_marginal().log_prob(jnp.ones(3)))
    assert float(estimate.value) == pytest.approx(exact, abs=1e-4)
    assert float(estimate.standard_error) < 1e-5


def test_evaluate_by_bound_says_so(recwarn):
    x = table.normal(330, 6, 3)
    vae = table.linear_vae("diagonal")
    result = lnz.evaluate(KEY, vae, x, hidden=Bound(64))
    assert "lower bound" in str(result)
    assert "ESS" not in str(result)
    assert "numerator Bound(num_samples=64, chunk_size=256)" in result.stats["protocol"]
    assert not recwarn.list
    expected = exact_elbos(vae, x)
    assert result.value == pytest.approx(float(jnp.mean(expected)), abs=4 * result.monte_carlo_error)
    assert 0 < result.monte_carlo_error < 0.1


def test_bound_of_one_sample_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        Bound(1)
    with pytest.raises(ValueError, match="Bound\\(proposal"):
        Bound(10, lnz.Normal.standard(3))(KEY, lnz.condition(table.linear_vae(), jnp.ones(3)))


def test_estimated_log_determinants_of_a_proposal(float64):
    """Importance weights take the exact ones, for `exp` of an unbiased estimate is too large; the ELBO takes either."""
    x = table.normal(93, 3)
    models = [residual_posterior(log_det) for log_det in ("unbiased", "exact")]

    @eqx.filter_jit
    def numbers(vae):
        return Bound(2000)(KEY, lnz.condition(vae, x)), IWAE(20).loss(KEY, vae, (), x[None])[0]

    (our_bound, our_loss), (exact_bound, exact_loss) = map(numbers, models)
    assert float(our_loss) == pytest.approx(float(exact_loss), abs=1e-9)
    # The same draws: what differs is the noise of 2,000 log-determinants.
    assert float(our_bound.value) != pytest.approx(float(exact_bound.value), abs=1e-9)
    assert float(our_bound.standard_error) > float(exact_bound.standard_error)
    assert abs(float(our_bound.value) - float(exact_bound.value)) < 4 * float(our_bound.standard_error)


@pytest.mark.filterwarnings("ignore::lnz.UnreliableEstimateWarning")
def test_evaluate_of_a_noisy_posterior_averages_weights_once():
    """`Importance` takes the exact log-determinants, and its diagnostics are kept."""
    noisy, exact = (
        lnz.evaluate(KEY, residual_posterior(log_det), table.normal(330, 2, 3), hidden=Importance(100))
        for log_det in ("unbiased", "exact")
    )
    assert noisy.stats["hidden_weights"]["num"] == 100
    np.testing.assert_allclose(noisy.per_example, exact.per_example, rtol=1e-5)


def test_encodes_once_and_holds_a_chunk():
    """K draws in chunks: one pass of the encoder for each example, and never K decoded pictures."""
    calls = []

    def encoder(x):
        jax.debug.callback(lambda _: calls.append(1), x[0])
        return lnz.Normal(0.1 * jnp.sum(x, keepdims=True), 1.0)

    num, pixels, chunk = 3, 50, 40
    line = lnz.nets.Linear(table.normal(1, pixels, 1), jnp.zeros(pixels))
    vae = lnz.latent.VAE(lnz.Normal.standard(1), lnz.nets.ConditionalNormal(line, 2.0), encoder)
    method = Importance(1000, chunk_size=chunk)
    lnz.evaluate(KEY, vae, np.zeros((num, pixels), np.float32), hidden=method)
    jax.effects_barrier()
    assert len(calls) == num

    density = lnz.condition(eqx.tree_at(lambda vae: vae.encoder, vae, _shifted), jnp.zeros(pixels))
    jaxpr = jax.make_jaxpr(lambda key: method(key, density).value)(KEY)
    largest = max(_sizes(jaxpr.jaxpr))
    assert chunk * pixels <= largest < 2 * chunk * pixels


def _shifted(x):
    return lnz.Normal(0.1 * jnp.sum(x, keepdims=True), 1.0)


def _sizes(jaxpr):
    """Numbers in each array that a program makes, those of its loops included."""
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars if hasattr(v.aval, "size"))
        for inner in jaxprs_in_params(equation.params):
            yield from _sizes(inner)


def nonlinear_vae(num):
    """A curved decoder with bits or noise, and an encoder that is roughly right."""
    net = lnz.nets.MLP(num, 4, key=jr.key(5), width=5, depth=1, activation=jnp.tanh)
    net = eqx.tree_at(lambda net: net.weights, net, tuple(3 * W for W in net.weights))
    decoder = lnz.nets.ConditionalBernoulli(net) if num == 1 else lnz.nets.ConditionalNormal(net, 0.8)
    encoder = lnz.nets.ConditionalNormal(lnz.nets.Linear(0.1 * table.normal(6, num, 4), jnp.zeros(num)), 0.9)
    return lnz.latent.VAE(lnz.Normal.standard(num), decoder, encoder)


@pytest.mark.parametrize("num", [1, 2])
def test_bracket_of_simulated_examples_holds_quadrature(num):
    """ELBO < importance-weighted bounds < log p(x) < reverse annealing, for a decoder without a closed form."""
    vae = nonlinear_vae(num)
    sampler = lnz.samplers.HMC(0.6, 3)
    bracket = lnz.simulated_bracket(
        jr.key(2), vae, 30, AIS(10, 100, sampler=sampler), ReverseAIS(10, 100, sampler=sampler), batch_size=30
    )
    x = bracket.lower.stats["examples"]
    results = {
        name: lnz.evaluate(KEY, vae, x, hidden=method, batch_size=30)
        for name, method in (
            ("exact", Quadrature(121, (-6.0, 6.0))),
            ("importance", Importance(1000, vae.prior)),  # bounded weights
            ("bound", Bound(1000)),
        )
    }
    exact = results["exact"].value
    low, high = bracket.interval
    assert low < exact < high
    assert bracket.width < 0.5
    assert (bracket.lower.bound, bracket.upper.bound) == ("lower", "upper")
    # Both sides are means of 30 independent numbers: 4 standard errors.
    assert float(bracket.lower.value) < exact + 4 * float(bracket.lower.standard_error)
    assert float(bracket.upper.value) > exact - 4 * float(bracket.upper.standard_error)
    importance, bound = results["importance"], results["bound"]
    assert importance.value == pytest.approx(exact, abs=4 * importance.monte_carlo_error + 1e-3)
    assert bound.value + 4 * bound.monte_carlo_error < exact


def test_bracket_of_probabilistic_pca():
    """With the step size of a pilot run; the sides err in their directions, for each example by little."""
    vae = table.linear_vae("diagonal")
    bracket = lnz.simulated_bracket(jr.key(4), vae, 40, batch_size=40)
    x = bracket.lower.stats["examples"]
    exact = np.asarray(jax.vmap(table.linear_vae_marginal().log_prob)(x))
    low, high = bracket.interval
    assert low < exact.mean() < high
    assert bracket.width < 0.05
    for side in (bracket.lower, bracket.upper):
        np.testing.assert_allclose(side.stats["per_example"], exact, atol=0.3)
        assert abs(float(side.value) - exact.mean()) < 4 * float(side.standard_error)
    assert "each side widened by 2 s.e." in str(bracket)
    assert "assumes" not in str(bracket)


@pytest.mark.usefixtures("untyped")
def test_what_is_no_bracket_is_refused():
    vae = table.linear_vae()
    with pytest.raises(TypeError, match="latent variables"):
        lnz.simulated_bracket(KEY, lnz.Normal.standard(2), 4)
    with pytest.raises(ValueError, match="at least 2"):
        lnz.simulated_bracket(KEY, vae, 1)
    with pytest.raises(ValueError, match="num_warm_up"):
        lnz.simulated_bracket(KEY, vae, 4, AIS(4, 4), ReverseAIS(4, 4, num_warm_up=3))
    with pytest.raises(TypeError, match="ReverseAIS"):
        lnz.simulated_bracket(KEY, vae, 4, AIS(4, 4), AIS(4, 4))
