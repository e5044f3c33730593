"""Laws of latent-variable models that take a closed form, quadrature or a second precision to see."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.gradients import LeaveOneOut, StickingTheLanding
from lnz.objectives import ELBO, IWAE, EnergyPrior

KEY = jr.key(0)


def mean_and_error(values):
    return float(jnp.mean(values)), float(jnp.std(values, ddof=1)) / len(values) ** 0.5


def one_example_vae(q, prior):
    """A posterior that is the same for every x, and a decoder that ignores it."""
    return lnz.latent.VAE(prior, lambda z: lnz.Normal(jnp.zeros(2) * jnp.sum(z), 1.0), lambda x: q)


@pytest.mark.parametrize("name", ["analytic", "drawn", "sticking", "no_rule"])
def test_free_bits_compare_without_noise(name):
    """`E[penalty] = sum max(free_bits, KL)` where there is a closed form; else it is too large, as documented."""
    loc, free_bits = jnp.array([0.0, 0.45, 1.5]), 0.15
    q = lnz.Normal(loc, jnp.ones(3))
    options = {"drawn": {"analytic_kl": False}, "sticking": {"gradient": StickingTheLanding()}}.get(name, {})
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
    vae = one_example_vae(lnz.Normal(jnp.zeros(6), 1.0), lnz.Normal(jnp.zeros(6), 1.0))
    # A `VAE` made so would refuse it.
    vae = eqx.tree_at(lambda vae: vae.given_prior, vae, lnz.Normal(jnp.zeros((2, 3)), 1.0))
    with pytest.raises(ValueError, match=r"on one space; got Euclidean\(shape=\(2, 3\)\) and Euclidean"):
        ELBO(1, free_bits=0.1).loss(KEY, vae, (), jnp.zeros((2, 2)))


def to_latents(weights, num):
    return lnz.nets.Linear.from_parameters(weights, jnp.zeros(num))


@pytest.mark.parametrize("name", ["frozen", "learned", "flow", "both", "top_down", "ignorant"])
def test_refinement_moves_what_the_encoder_makes(name):
    """Where the decoder ignores z, the best posterior of the family is known: that at the mean of the prior."""
    prior, x = lnz.Normal.standard(1), table.normal(700, 4, 2)
    decoder = lambda z: lnz.Normal(jnp.zeros(2) * jnp.sum(z), 1.0)  # noqa: E731
    loc = lambda normal: normal.loc  # noqa: E731
    net, zero = to_latents(0.7 * jnp.ones((1, 2)), 1), to_latents(jnp.zeros((1, 2)), 1)
    narrow, means = lnz.Normal(jnp.zeros(1), 0.3), 0.7 * jnp.sum(x, axis=1)
    loss_of_scale = 0.5 * (0.3**2 - 1) - jnp.log(0.3)
    if name == "frozen":
        encoder, gap = lnz.Conditional(lnz.Frozen(narrow), zero, loc), 0.0
    elif name == "learned":  # by all examples together, so it is no loss of amortisation either
        encoder, gap = lnz.Conditional(narrow, net, loc), jnp.mean(means**2) / 2
    elif name == "flow":
        flow = lnz.Transformed(narrow, lnz.bijections.Affine(jnp.zeros(1), 2 * jnp.ones(1)))
        encoder, gap = lnz.Conditional(flow, net, lambda flow: flow.base.loc), jnp.mean((2 * means) ** 2) / 2
    elif name == "both":
        both = to_latents(jnp.stack([0.7 * jnp.ones(2), jnp.zeros(2)]), 2)
        encoder, gap = lnz.Conditional(narrow, both), jnp.mean(means**2) / 2 + loss_of_scale
    elif name == "top_down":
        prior = lnz.Normal.standard(2)
        below = lnz.Conditional(lnz.Frozen(lnz.Normal(jnp.zeros(1), 1.0)), to_latents(jnp.ones((1, 3)), 1), loc)
        encoder = lnz.latent.TopDown(lnz.Conditional(lnz.Frozen(lnz.Normal(jnp.zeros(1), 1.0)), zero, loc), below)
        # z_2 ~ N(m, 1), z_1 ~ N(z_2 + s, 1) with s = sum(x): m^2 / 2 + ((m + s)^2 + 1) / 2 is least at m = -s / 2.
        gap = jnp.mean(jnp.sum(x, axis=1) ** 2) / 4
    else:
        encoder, gap = lambda x: narrow, None
    vae = lnz.latent.VAE(prior, decoder, encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lnz.PosteriorCollapseWarning)
        found = lnz.diagnose(KEY, vae, x, num_samples=256, batch_size=4).amortisation_gap
    if gap is None:
        assert found is None
    else:
        assert found is not None
        assert abs(float(found.value) - float(gap)) < 4 * float(found.standard_error) + 0.01


def in_units(vae, unit):
    """The same model of x with latents `unit` times as large."""
    W, encoder = vae.decoder.net.W / unit, vae.encoder
    return eqx.tree_at(
        lambda vae: (vae.given_prior.log_scale, vae.decoder.net.W, vae.encoder.net, vae.encoder.log_scale),
        vae,
        (
            vae.prior.log_scale + jnp.log(unit),
            W,
            lnz.nets.Linear.from_parameters(unit * encoder.net.W, unit * encoder.net.b),
            encoder.log_scale + jnp.log(unit),
        ),
    )


def test_diagnosis_has_no_unit_of_the_latents(recwarn):
    """The linear VAE with a prior N(0, 0.05^2): the same numbers, and no collapse; Burda's count is of unit scale."""
    x = lnz.sample(jr.key(9), table.linear_vae(), 20)
    options = {"num_samples": 64, "refine_steps": 0, "batch_size": 20}
    plain, small = (
        lnz.diagnose(KEY, in_units(table.linear_vae("diagonal"), unit), x, **options) for unit in (1.0, 0.05)
    )
    assert not [w for w in recwarn.list if issubclass(w.category, lnz.PosteriorCollapseWarning)]
    assert (plain.num_active, small.num_active) == (2, 0)
    assert plain.num_used == small.num_used == 2
    np.testing.assert_allclose(small.shares, plain.shares, rtol=1e-3)
    for name in ("elbo", "kl", "mutual_information"):
        assert float(getattr(small, name).value) == pytest.approx(float(getattr(plain, name).value), abs=1e-3)
    # The share by hand: the scale of q is the same for all x.
    q = jax.vmap(table.linear_vae("diagonal").posterior)(x)
    variances = np.var(q.loc, axis=0, ddof=1)
    np.testing.assert_allclose(plain.shares, variances / (variances + np.asarray(q.scale)[0] ** 2), atol=0.05)


def test_a_posterior_that_ignores_x_is_no_collapse_to_the_prior():
    vae = lnz.latent.VAE(
        lnz.Normal.standard(2), lambda z: lnz.Normal(0.0 * z, 1.0), lambda x: lnz.Normal(jnp.array([2.0, 0.0]), 1.0)
    )
    with pytest.warns(lnz.PosteriorCollapseWarning, match="next to nothing of x.*not the prior: KL 2.000"):
        result = lnz.diagnose(KEY, vae, table.normal(701, 6, 2), num_samples=1000, batch_size=6)
    assert result.num_used == 0


def test_errors_of_data_and_of_draws_are_told_apart():
    """Over data sets the ELBO spreads by the data error; over keys by the Monte Carlo error."""
    vae, size = table.linear_vae("diagonal"), 50
    x = lnz.sample(jr.key(9), table.linear_vae(), size)
    result = lnz.diagnose(KEY, vae, x, num_samples=400, refine_steps=0, batch_size=size)
    # Sums of squares, of which the spread is known: log p(x) of a normal in R^3 has variance 3 / 2.
    assert result.data_errors["log_likelihood"] == pytest.approx((1.5 / size) ** 0.5, rel=0.4)
    assert float(result.log_likelihood.standard_error) < 0.2 * result.data_errors["log_likelihood"]
    line = next(line for line in str(result).splitlines() if line.startswith("ELBO"))
    errors = float(result.elbo.standard_error), result.data_errors["elbo"]
    assert f"MC s.e. {errors[0]:.2g}, data s.e. {errors[1]:.2g}" in line
    assert not set(result.data_errors) & {"mutual_information", "marginal_kl"}


@pytest.mark.usefixtures("untyped")
def test_a_prior_without_its_constant_is_not_diagnosed():
    with pytest.raises(TypeError, match=r"prior.*got RBM.*log Z is unknown"):
        lnz.diagnose(KEY, table.rbm_vae(), np.zeros((3, 4), np.uint8))


def test_the_pilot_run_has_no_unit_of_the_latents():
    steps = [lnz.adapted_hmc(KEY, in_units(table.linear_vae("diagonal"), unit)) for unit in (1.0, 1e-4)]
    assert float(steps[1].step_size) == pytest.approx(1e-4 * float(steps[0].step_size), rel=1e-3)


def test_the_pilot_run_moves_latents_with_bounds_in_their_own_coordinates():
    """With `z = log(1 + e^u)` it is the same posterior of u in other letters, so the step size is the same."""
    positive = lnz.Transformed(lnz.Normal.standard(2), lnz.bijections.Softplus(lnz.Positive(2)))
    real = lnz.Transformed(lnz.Normal.standard(2), lnz.bijections.Affine(0.0, 1.0))  # whose draws are the same u
    plain = lnz.latent.VAE(real, lambda z: lnz.Normal(jax.nn.softplus(z), 0.5), None)
    bounded = lnz.latent.VAE(positive, lambda z: lnz.Normal(z, 0.5), None)
    steps = [float(lnz.adapted_hmc(KEY, model).step_size) for model in (plain, bounded)]
    assert steps[1] == pytest.approx(steps[0], rel=1e-3)


def test_a_pilot_run_that_never_moves_says_so():
    """Then the smallest step, of which any more is certain to be rejected."""
    vae = table.linear_vae("diagonal")
    vae = eqx.tree_at(lambda vae: vae.decoder.log_scale, vae, jnp.asarray(-25.0))
    with pytest.warns(UserWarning, match="does not move.*HMC\\(step_size\\)"):
        sampler = lnz.adapted_hmc(KEY, vae)
    assert float(sampler.step_size) < 1e-3


def product_vae():
    """Two kinds of latents side by side, and of layers."""
    prior = lnz.ProductDistribution(lnz.Normal.standard(1), lnz.Laplace(jnp.zeros(1), 1.0))
    net = lnz.nets.Linear.from_parameters(table.normal(702, 2, 3), jnp.zeros(2))
    template = lnz.ProductDistribution(lnz.Normal.standard(1), lnz.Laplace(jnp.zeros(1), 1.0))
    encoder = lnz.Conditional(template, net, lambda d: [part.loc for part in d.parts])
    return lnz.latent.VAE(prior, table.bit_decoder(2, 3), encoder)


SHORT = {
    "vae": lambda: table.linear_vae("diagonal"),
    "hierarchical": lambda: table.hierarchical("top_down"),
    "product": product_vae,
}


@pytest.mark.parametrize("name", SHORT)
def test_short_models_in_a_long_world(name):
    """A float32 model under `jax_enable_x64` and strict promotion, as one that was loaded from a file."""
    vae = SHORT[name]()
    with jax.enable_x64(True):
        x = vae.space.cast(lnz.sample(jr.key(3), vae, 4), jnp.float32)

        if name == "vae":
            assert np.isfinite(lnz.simulated_bracket(KEY, vae, 2, batch_size=2).width)
            lnz.diagnose(KEY, vae, x, num_samples=8, refine_steps=0)
            return

        @eqx.filter_jit
        def gradient(vae):
            return eqx.filter_value_and_grad(lambda vae: ELBO(1).loss(KEY, vae, (), x)[0])(vae)

        value, gradients = gradient(vae)
        assert value.dtype == jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_sticking_the_landing_of_a_full_normal_by_conditional(float64):
    """At the true posterior no draw has a gradient for the network that makes it, nor for its covariance."""
    exact = table.linear_vae("exact")
    template = lnz.MultivariateNormal(jnp.zeros(2), exact.posterior(jnp.zeros(3)).scale_tril)
    encoder = lnz.Conditional(template, exact.encoder.net, lambda normal: normal.loc)
    vae, x = lnz.latent.VAE(exact.prior, exact.decoder, encoder), table.normal(94, 3, 3)

    @eqx.filter_jit
    def largest(objective, shift):
        moved = eqx.tree_at(lambda vae: vae.encoder.net.b, vae, encoder.net.b + shift)
        gradient = eqx.filter_grad(lambda vae: objective.loss(KEY, vae, (), x)[0])(moved).encoder
        return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(gradient)]))

    assert float(largest(ELBO(2, gradient=StickingTheLanding()), jnp.zeros(()))) < 1e-12
    assert float(largest(ELBO(2, gradient=StickingTheLanding()), jnp.full((), 0.1))) > 1e-3
    assert float(largest(ELBO(2, analytic_kl=False), jnp.zeros(()))) > 0.1


def test_resuming_an_energy_prior_is_exact(tmp_path):
    """Its chains go on where they were, bit for bit."""
    method = lnz.Gradient(EnergyPrior(IWAE(2, LeaveOneOut()), num_chains=4), optax.adam(0.01))
    x = np.tile(np.eye(4, dtype=np.uint8), (3, 1))

    def train(folder, progress=lambda record: None):
        checkpoints, watch = lnz.Checkpoints(folder, every=0.0, resume=True), lnz.Watch(1, progress)
        return lnz.fit(KEY, table.rbm_vae(), method, x, steps=4, batch_size=4, checkpoints=checkpoints, watch=watch)

    def stop(record):
        if record["step"] >= 2:
            raise KeyboardInterrupt

    unbroken = train(tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stop)
    resumed = train(tmp_path / "broken")
    first, second = (jax.tree.leaves(eqx.filter((r.model, r.state), eqx.is_array)) for r in (unbroken, resumed))
    assert any(leaf.shape == (4, 3) for leaf in first)  # the chains are part of it
    for a, b in zip(first, second, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
