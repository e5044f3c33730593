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
    net = lnz.nets.Linear.from_parameters(0.3 * table.normal(320, 2, 3), jnp.zeros(2))
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
    assert "numerator Bound(num_samples=64, chunk_size=128, num_weights=1)" in result.how
    assert not recwarn.list
    expected = exact_elbos(vae, x)
    assert result.value == pytest.approx(float(jnp.mean(expected)), abs=4 * result.monte_carlo_error)
    assert 0 < result.monte_carlo_error < 0.1


def test_bound_of_weights_is_the_importance_weighted_one():
    """`E[IWAE-K]` by quadrature over both draws of K = 2: above the ELBO, and the error bar is of that."""
    vae = nonlinear_vae(1)
    x = jnp.array([1.0, 0.0, 0.0, 1.0])
    density, q = lnz.condition(vae, x), vae.posterior(x)

    @jax.jit
    def exact():
        z = jnp.linspace(-7.0, 7.0, 801)[:, None]
        log_q = jax.vmap(q.log_prob)(z)
        p, log_w = jnp.exp(log_q) * (z[1] - z[0]), jax.vmap(density.log_density)(z) - log_q
        pairs = jnp.logaddexp(log_w[:, None], log_w[None]) - jnp.log(2.0)
        return p @ log_w, p @ pairs @ p

    elbo, two = map(float, exact())
    assert elbo + 0.05 < two
    estimates = testing.repeat_normalizer(jr.key(11), Bound(200, num_weights=2), density)
    testing.check_normalizer(estimates, two)
    assert abs(float(jnp.mean(estimates.value)) - two) < 4 * float(jnp.std(estimates.value)) / 10


def test_bound_of_one_sample_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        Bound(1)
    with pytest.raises(ValueError, match="num_weights"):
        Bound(10, num_weights=0)
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
    assert noisy.numerators.weights.num == 100
    np.testing.assert_allclose(noisy.per_example, exact.per_example, rtol=1e-5)


def test_encodes_once_and_holds_a_chunk():
    """K draws in chunks: one pass of the encoder for each example, and never K decoded pictures."""
    calls = []

    def encoder(x):
        jax.debug.callback(lambda _: calls.append(1), x[0])
        return lnz.Normal(0.1 * jnp.sum(x, keepdims=True), 1.0)

    num, pixels, chunk = 4, 50, 40  # fewer would be filled up to a power of two
    line = lnz.nets.Linear.from_parameters(table.normal(1, pixels, 1), jnp.zeros(pixels))
    vae = lnz.latent.VAE(lnz.Normal.standard(1), lnz.distributions.ConditionalNormal(line, 2.0), encoder)
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
    decoder = lnz.distributions.ConditionalBernoulli(net) if num == 1 else lnz.distributions.ConditionalNormal(net, 0.8)
    encoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(0.1 * table.normal(6, num, 4), jnp.zeros(num)), 0.9
    )
    return lnz.latent.VAE(lnz.Normal.standard(num), decoder, encoder)


@pytest.mark.parametrize("num", [1, 2])
def test_bracket_of_simulated_examples_holds_quadrature(num):
    """ELBO < importance-weighted bounds < log p(x) < reverse annealing, for a decoder without a closed form."""
    vae = nonlinear_vae(num)
    sampler = lnz.samplers.HMC(0.6, 3)
    bracket = lnz.simulated_bracket(
        jr.key(2), vae, 30, AIS(10, 100, sampler=sampler), ReverseAIS(10, 100, sampler=sampler), batch_size=30
    )
    x = bracket.lower.extras["examples"]
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


@pytest.mark.parametrize("num", [1, 2])
def test_annealing_of_a_decoder_from_both_sides_against_quadrature(num):
    """Forward weights average to `p(x)`, reverse ones to `1 / p(x)`; their logarithms bound `log p(x)`."""
    vae, repeats, sampler = nonlinear_vae(num), 400, lnz.samplers.HMC(0.5, 3)
    x = jnp.array([1.0, 0.0, 0.0, 1.0])
    lower, upper = AIS(2, 8, sampler=sampler), ReverseAIS(2, 8, sampler=sampler)

    @jax.jit
    def both(key):
        density = lnz.condition(vae, x)
        axis = jnp.linspace(-6.0, 6.0, 121)
        grid = jnp.stack(jnp.meshgrid(*[axis] * num), -1).reshape(-1, num)
        log_density, width = jax.vmap(density.log_density)(grid), axis[1] - axis[0]

        def one(key):
            key_cell, key_jitter, key_low, key_high = jr.split(key, 4)
            # Exact draws of the posterior, up to the width of a cell.
            z = grid[jr.categorical(key_cell, log_density)] + width * jr.uniform(
                key_jitter, (num,), minval=-0.5, maxval=0.5
            )
            starts = jnp.broadcast_to(z, (2, num))
            return lower(key_low, density), lnz.modules._module.replace(upper, positions=starts)(key_high, density)

        exact = jax.scipy.special.logsumexp(log_density) + num * jnp.log(width)
        return exact, *jax.lax.map(one, jr.split(key, repeats), batch_size=100)

    exact, low, high = both(jr.key(21))
    exact = float(exact)
    for estimates, sign in ((low, 1.0), (high, -1.0)):
        testing.check_normalizer(estimates, exact, coverage=None)
        ratios = np.exp(sign * (np.asarray(estimates.value) - exact))
        assert abs(ratios.mean() - 1) < 4 * ratios.std(ddof=1) / repeats**0.5
    # So few temperatures that both sides are off by what can be seen.
    assert float(jnp.mean(low.value)) < exact < float(jnp.mean(high.value))


def test_bracket_covers_over_keys():
    """The interval, widened by 2 s.e. on each side, holds the mean log-likelihood of its own examples."""
    vae, sampler = table.linear_vae("diagonal"), lnz.samplers.HMC(0.4, 3)
    lower, upper = AIS(2, 10, sampler=sampler), ReverseAIS(2, 10, sampler=sampler)
    marginal = jax.jit(jax.vmap(table.linear_vae_marginal().log_prob))
    held = []
    for key in jr.split(jr.key(31), 20):
        bracket = lnz.simulated_bracket(key, vae, 16, lower, upper, batch_size=16)
        low, high = bracket.interval
        held.append(low < float(jnp.mean(marginal(bracket.lower.extras["examples"]))) < high)
        assert high - low < 3
    assert sum(held) >= 18  # 2 s.e. on each side, and both err outwards: at least 95 % each time


def test_bracket_of_probabilistic_pca():
    """With the step size of a pilot run; the sides err in their directions, for each example by little."""
    vae, told = table.linear_vae("diagonal"), []
    bracket = lnz.simulated_bracket(jr.key(4), vae, 40, batch_size=15, progress=lambda *done: told.append(done))
    assert told == [(15, 40), (30, 40), (40, 40)]
    assert str(bracket).startswith("mean log p(x) of 40 examples drawn from the model itself: [")
    x = bracket.lower.extras["examples"]
    exact = np.asarray(jax.vmap(table.linear_vae_marginal().log_prob)(x))
    low, high = bracket.interval
    assert low < exact.mean() < high
    assert bracket.width < 0.05
    for side in (bracket.lower, bracket.upper):
        np.testing.assert_allclose(side.extras["per_example"], exact, atol=0.3)
        assert abs(float(side.value) - exact.mean()) < 4 * float(side.standard_error)
    assert "each side widened by 2.1 s.e." in str(bracket)  # Student, 39 degrees of freedom
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


def shifted_vae():
    """The mean-field linear VAE with an encoder that is off, and wide: its weights have a variance."""
    vae = table.linear_vae("diagonal")
    encoder = vae.encoder
    off = eqx.tree_at(lambda e: (e.net.b, e.log_scale), encoder, (encoder.net.b + 0.3, encoder.log_scale + 0.5))
    return eqx.tree_at(lambda vae: vae.encoder, vae, off)


@pytest.fixture(scope="module")
def examples():
    return lnz.sample(jr.key(9), table.linear_vae(), 40)


@pytest.fixture(scope="module")
def diagnosed(examples):
    return lnz.diagnose(KEY, shifted_vae(), examples, num_samples=1000, num_refined=40, batch_size=40)


def agrees(estimate, exact, slack=1e-4):
    return abs(float(estimate.value) - float(exact)) < 4 * float(estimate.standard_error) + slack


def test_diagnosis_against_closed_forms(diagnosed, examples):
    exact = jnp.mean(jax.vmap(table.linear_vae_marginal().log_prob)(examples))
    elbo = jnp.mean(exact_elbos(shifted_vae(), examples))
    assert agrees(diagnosed.elbo, elbo)
    assert agrees(diagnosed.log_likelihood, exact)
    assert agrees(diagnosed.gap, exact - elbo)
    assert diagnosed.kl.bound == "exact"
    q = jax.vmap(shifted_vae().posterior)(examples)
    kl = jnp.mean(jnp.sum(0.5 * (q.loc**2 + q.scale**2 - 1) - q.log_scale, axis=1))
    assert float(diagnosed.kl.value) == pytest.approx(float(kl), rel=1e-5)
    parts = diagnosed.reconstruction.value - diagnosed.kl.value
    assert float(parts) == pytest.approx(float(diagnosed.elbo.value), rel=1e-5)
    variances = jnp.var(q.loc, axis=0, ddof=1)
    # 40 means of 1,000 draws each: their noise moves the variance by 2 sd(loc) scale / sqrt(40,000).
    noise = 2 * jnp.sqrt(variances) * q.scale[0] / 200
    assert bool(jnp.all(jnp.abs(diagnosed.variances - variances) < 4 * noise))
    assert diagnosed.num_active == 2


def test_amortisation_gap_against_the_best_encoder(diagnosed, examples):
    """The best means at the encoder's scale are known: what refinement finds is at most that, and nearly that."""
    best = table.linear_vae("diagonal")
    best = eqx.tree_at(lambda vae: vae.encoder.log_scale, best, shifted_vae().encoder.log_scale)
    best = exact_elbos(best, examples)
    gap = float(jnp.mean(best - exact_elbos(shifted_vae(), examples)))
    found = diagnosed.amortisation_gap
    assert gap > 0.3
    assert agrees(found, gap, slack=0.01)
    assert float(found.value) < gap + 4 * float(found.standard_error)
    assert (found.bound, diagnosed.num_refined) == ("lower", 40)


def test_mutual_information_against_quadrature(diagnosed, examples):
    """`KL = I_q(x; z) + KL(q(z) || p(z))`, on a grid in the plane of the latents."""
    q = jax.vmap(shifted_vae().posterior)(examples)
    grid = jnp.linspace(-5.5, 5.5, 221)
    z = jnp.stack(jnp.meshgrid(grid, grid), -1).reshape(-1, 2)

    @jax.jit
    def by_sums(q):
        log_q = jax.vmap(lambda q: jax.vmap(q.log_prob)(z))(q)
        log_mixture = jax.scipy.special.logsumexp(log_q, axis=0) - jnp.log(40.0)
        mixture = jnp.exp(log_mixture) * (grid[1] - grid[0]) ** 2
        information = jnp.mean(jnp.exp(log_q) * (log_q - log_mixture[None]), axis=0).sum() * (grid[1] - grid[0]) ** 2
        prior = jax.vmap(lnz.Normal.standard(2).log_prob)(z)
        return jnp.sum(mixture), information, jnp.sum(mixture * (log_mixture - prior))

    mass, information, marginal = by_sums(q)
    assert float(mass) == pytest.approx(1, abs=1e-3)
    assert float(information + marginal) == pytest.approx(float(diagnosed.kl.value), abs=2e-3)
    assert agrees(diagnosed.mutual_information, information, slack=2e-3)
    assert agrees(diagnosed.marginal_kl, marginal, slack=2e-3)
    assert (diagnosed.mutual_information.bound, diagnosed.marginal_kl.bound) == ("lower", "upper")


def test_diagnosis_prints_every_number_with_its_kind(diagnosed):
    first, *numbers, last = str(diagnosed).splitlines()
    assert first == "40 examples, 1000 draws each; nats per example"
    assert len(numbers) == 8
    for line in numbers:
        assert any(f"({kind}" in line for kind in ("exact", "lower", "upper", "unbiased")), line
    assert last == "active units           2 of 2 (Var_x(E_q[z]) > 0.01)"


def test_collapse_is_named():
    """An encoder that returns the prior, and one of which a third is in use; draws in bits have no refinement."""
    line = lnz.nets.Linear.from_parameters(table.normal(5, 4, 6), jnp.zeros(4))
    decoder = lnz.distributions.ConditionalBernoulli(line)
    bits = lnz.sample(KEY, lnz.Bernoulli(jnp.zeros(4)), 30)
    to_z = lnz.nets.Linear.from_parameters(jnp.zeros((6, 4)).at[:2].set(2.0), jnp.zeros(6))
    for scale, words in ((0.0, "has collapsed"), (1.0, "only 2 of 6")):
        net = eqx.tree_at(lambda net: net.W, to_z, scale * to_z.W)
        vae = lnz.latent.VAE(lnz.Bernoulli(jnp.zeros(6)), decoder, lnz.distributions.ConditionalBernoulli(net))
        with pytest.warns(lnz.PosteriorCollapseWarning, match=words):
            result = lnz.diagnose(KEY, vae, bits, num_samples=64, batch_size=30)
        assert result.amortisation_gap is None
        assert "Warning: " in str(result)
        if scale == 0:
            assert float(result.kl.value) == pytest.approx(0, abs=1e-6)
            assert abs(float(result.mutual_information.value)) < 1e-5


@pytest.mark.usefixtures("untyped")
def test_what_cannot_be_diagnosed_is_refused():
    with pytest.raises(TypeError, match="latent variables"):
        lnz.diagnose(KEY, lnz.Normal.standard(2), np.zeros((3, 2)))
    vae = table.linear_vae()
    with pytest.raises(ValueError, match="encoder"):
        lnz.diagnose(KEY, lnz.latent.VAE(vae.prior, vae.decoder, None), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="2 examples"):
        lnz.diagnose(KEY, vae, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="num_samples"):
        lnz.diagnose(KEY, vae, np.zeros((3, 3)), num_samples=1)
