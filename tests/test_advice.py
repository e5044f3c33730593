"""The advice of an error works: what it says to call runs where the first call failed."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.bijections import Affine, Chain, Power, Residual, Scan, ToSupport
from lnz.data import known_entries
from lnz.gradients import LeaveOneOut, Score
from lnz.objectives import ELBO, IWAE, PCD, EnergyPrior, MaximumLikelihood, ReweightedWakeSleep, WakeSleep

KEY = jr.key(0)
KEYS = jr.split(KEY)
ADAM = optax.adam(1e-3)
BITS = np.eye(4, dtype=np.uint8)
GREY = BITS * 0.75
X = np.array([[0.25, -1.5], [1.75, 0.5]])
ANGLES = np.array([[4.0], [-5.0]])
NORMAL = lnz.Normal(jnp.zeros(2), 1.0)
COVARIANCE = np.array([[1.0, 0.5], [0.5, 1.0]])
SINGULAR = np.ones((2, 2))
QUADRATURE = lnz.normalizers.Quadrature()
SCORED = ELBO(gradient=Score())


def step(objective, model, rows):
    """What `fit` does first, without compiling: the state and the loss of one batch."""
    state = objective.init(KEY, model, rows)
    return jax.eval_shape(lambda: objective.loss(KEY, model, state, rows)[0])


def starts(method, model, rows):
    return method.step(KEY, *method.init(KEY, model, rows), rows)


def anneals(sampler, space=None):
    space = lnz.Record(s=lnz.Binary(()), x=lnz.Euclidean(())) if space is None else space
    density = lnz.density(space, lambda x: -jnp.sum(x.astype(float) ** 2))
    return jax.eval_shape(lambda: lnz.normalizers.AIS(4, 3, sampler=sampler)(KEY, density))


def bit_rows():
    return jnp.asarray(BITS, jnp.float32)


def three_bits():
    return bit_rows()[:, :3]


def layer(width):
    return lnz.flows.planar(lnz.Euclidean(2), key=KEY, num_layers=width)


def discrete_vae():
    return lnz.latent.VAE(lnz.Bernoulli(jnp.zeros(3)), table.bit_decoder(3, 4), table.bit_encoder(4, 3))


def onto_positive(base):
    return lnz.Transformed(base, ToSupport(lnz.Positive(2)))


def climb(rate, *before):
    return lnz.Gradient(MaximumLikelihood(), optax.chain(*before, optax.sgd(rate)))


def cut(data):
    """Rows of a masked array without those that have masked entries, as its error says."""
    return data[~np.ma.getmaskarray(data).any(axis=1)]


MASKED = np.ma.masked_array(np.vstack([X, X + 1]), np.array([[0, 1], [0, 0], [0, 0], [0, 0]], bool))
SECONDS = np.ma.masked_array(1.7e9 + 3 * X[[0, 1, 0, 1, 0]] + np.arange(5.0)[:, None] ** 2, np.eye(5, 2))
RECORDS = np.rec.fromarrays(X.T, names="a,b")
STOCHASTIC = lnz.Transformed(
    NORMAL, Residual(lnz.Euclidean(2), lnz.nets.LipschitzMLP(2, key=KEY, width=2, depth=1), log_det="unbiased")
)


class Plain:
    pass


# What fails, words of its error, and the call that they advise.
ADVICE = {
    "a seed": (lambda: lnz.sample(0, NORMAL, 3), r"`jax.random.key\(0\)`", lambda: lnz.sample(jr.key(0), NORMAL, 3)),
    "keys": (lambda: lnz.sample(KEYS, NORMAL, 3), r"`key\[0\]`", lambda: lnz.sample(KEYS[0], NORMAL, 3)),
    "a batch": (
        lambda: NORMAL.log_prob(X),
        r"`jax.vmap\(f\)\(x\)`",
        lambda: jax.vmap(NORMAL.log_prob)(X),
    ),
    "a batch of contexts": (
        lambda: lnz.Conditional.of(NORMAL, 2, key=KEY)(X),
        "`jax.vmap` over `context`",
        lambda: eqx.filter_vmap(lnz.Conditional.of(NORMAL, 2, key=KEY))(jnp.asarray(X, jnp.float32)),
    ),
    "one example as data": (
        lambda: NORMAL.space.check_data(X[0]),
        r"`data\[None\]`",
        lambda: NORMAL.space.check_data(X[0][None]),
    ),
    "images for rows": (
        lambda: lnz.Binary(4).check_data(BITS.reshape(-1, 2, 2)),
        r"`data.reshape\(-1, 4\)`",
        lambda: lnz.Binary(4).check_data(BITS.reshape(-1, 2, 2).reshape(-1, 4)),
    ),
    "grey values for bits": (
        lambda: lnz.Binary(4).check_data(GREY),
        "`data > threshold`",
        lambda: lnz.Binary(4).check_data(GREY > 0.5),
    ),
    "angles": (
        lambda: lnz.Torus(1).check_data(ANGLES),
        re.escape("`(angle + pi) % (2 * pi) - pi`"),
        lambda: lnz.Torus(1).check_data((ANGLES + np.pi) % (2 * np.pi) - np.pi),
    ),
    "zeros": (
        lambda: lnz.Positive(4).check_data(BITS),
        "`lnz.Euclidean`",
        lambda: lnz.Euclidean(4).check_data(BITS),
    ),
    "a mask of numbers": (
        lambda: known_entries(lnz.Binary(4), BITS, BITS),
        r"`observed.astype\(bool\)`",
        lambda: known_entries(lnz.Binary(4), BITS, BITS.astype(bool)),
    ),
    "a mask of another shape": (
        lambda: known_entries(lnz.Euclidean(2), X, np.ones(2, bool)),
        r"`~np.isnan\(data\)`",
        lambda: known_entries(lnz.Euclidean(2), X, ~np.isnan(X)),
    ),
    "masked rows": (
        lambda: lnz.Euclidean(2).check_data(MASKED),
        re.escape("`data[~np.ma.getmaskarray(data).any(axis=1)]`"),
        lambda: lnz.Euclidean(2).check_data(cut(MASKED)),
    ),
    "masked entries": (
        lambda: lnz.Euclidean(2).check_data(MASKED),
        r"`data.data` and `observed=~data.mask`",
        lambda: known_entries(lnz.Euclidean(2), MASKED.data, ~MASKED.mask),
    ),
    **{
        f"{type(sampler).__name__} on variables of two kinds": (
            lambda sampler=sampler: anneals(sampler),
            r"Try `lnz.samplers.InTurn\(\)`",
            lambda: anneals(lnz.samplers.InTurn()),
        )
        for sampler in (lnz.samplers.Gibbs(), lnz.samplers.HMC(), lnz.samplers.Metropolis())
    },
    "counts for HMC": (
        lambda: anneals(lnz.samplers.HMC(), lnz.Counts(2)),
        r"Try `lnz.samplers.Metropolis\(\)`",
        lambda: anneals(lnz.samplers.Metropolis(), lnz.Counts(2)),
    ),
    "positive numbers for Gibbs": (
        lambda: anneals(lnz.samplers.Gibbs(), lnz.Positive(2)),
        r"Try `lnz.samplers.HMC\(\)`",
        lambda: anneals(lnz.samplers.HMC(), lnz.Positive(2)),
    ),
    "missing entries far from zero": (
        lambda: lnz.fit(KEY, NORMAL, lnz.EM(), SECONDS, steps=1),
        r"End the model with `lnz.flows.standardise\(data\)`.*takes `observed` or a masked array",
        lambda: lnz.fit(KEY, lnz.Transformed(NORMAL, lnz.flows.standardise(SECONDS)), lnz.EM(), SECONDS, steps=1),
    ),
    "missing entries, for moments": (
        lambda: lnz.flows.standardise(np.where(MASKED.mask, np.nan, MASKED.data)),
        r"`observed=~np.isnan\(data\)`",
        lambda: lnz.flows.standardise(np.where(MASKED.mask, np.nan, MASKED.data), ~MASKED.mask),
    ),
    "records": (
        lambda: lnz.flows.standardise(RECORDS),
        re.escape("`np.stack([data[name] for name in ['a', 'b']], axis=-1)`"),
        lambda: lnz.flows.standardise(np.stack([RECORDS[name] for name in ["a", "b"]], axis=-1)),
    ),
    "text": (
        lambda: lnz.flows.standardise(X.astype(str)),
        r"\.astype\(float\)",
        lambda: lnz.flows.standardise(X.astype(str).astype(float)),
    ),
    "a covariance for a factor": (
        lambda: lnz.MultivariateNormal(jnp.zeros(2), jnp.asarray(COVARIANCE)),
        r"`MultivariateNormal.from_covariance\(loc, covariance\)`",
        lambda: lnz.MultivariateNormal.from_covariance(jnp.zeros(2), COVARIANCE),
    ),
    "a factor that is not finite": (
        lambda: lnz.MultivariateNormal(jnp.zeros(2), jnp.linalg.cholesky(jnp.asarray(SINGULAR - 0.5 * np.eye(2)))),
        r"`MultivariateNormal.from_covariance\(loc, covariance\)`",
        lambda: lnz.MultivariateNormal.from_covariance(jnp.zeros(2), COVARIANCE),
    ),
    "an asymmetric covariance": (
        lambda: lnz.MultivariateNormal.from_covariance(jnp.zeros(2), np.triu(COVARIANCE)),
        re.escape("`(covariance + covariance.T) / 2`"),
        lambda: lnz.MultivariateNormal.from_covariance(jnp.zeros(2), (np.triu(COVARIANCE) + np.triu(COVARIANCE).T) / 2),
    ),
    "a list of bijections": (
        lambda: Chain([Affine(jnp.zeros(2), 2.0)] * 2),
        r"`Chain\(\*bijections\)`",
        lambda: Chain(*[Affine(jnp.zeros(2), 2.0)] * 2),
    ),
    "layers unlike each other": (
        lambda: Scan.stack([layer(1), layer(2)]),
        r"`Chain\(\*layers\)`",
        lambda: Chain(*[layer(1), layer(2)]),
    ),
    "a root": (lambda: Power(-0.5), "A root is a power below one", lambda: Power(0.5)),
    "a network that may stretch": (
        lambda: Residual(lnz.Euclidean(2), lnz.nets.MLP(2, 2, key=KEY, width=2)),
        r"`lnz.nets.LipschitzMLP\(n, coefficient=0.9, key=key\)`",
        lambda: Residual(lnz.Euclidean(2), lnz.nets.LipschitzMLP(2, coefficient=0.9, key=KEY, width=2)),
    ),
    "no key for probes": (
        lambda: STOCHASTIC.log_prob(jnp.ones(2)),
        r"`flow.log_prob\(x, key=key\)`",
        lambda: jax.eval_shape(lambda: STOCHASTIC.log_prob(jnp.ones(2), key=KEY)),
    ),
    "probes": (
        lambda: STOCHASTIC.log_prob(jnp.ones(2)),
        r"`lnz.bijections.exact_log_det\(flow\)`",
        lambda: jax.eval_shape(lambda: lnz.bijections.exact_log_det(STOCHASTIC).log_prob(jnp.ones(2))),
    ),
    "no mean": (
        lambda: STOCHASTIC.mean(),
        re.escape("`jnp.mean(distribution.sample(key, (1000,)), axis=0)`"),
        lambda: jax.eval_shape(lambda: jnp.mean(STOCHASTIC.sample(KEY, (1000,)), axis=0)),
    ),
    "weights transposed": (
        lambda: lnz.energy.RBM.from_parameters(np.zeros((2, 3)), np.zeros(3), np.zeros(2)),
        "`W.T`",
        lambda: lnz.energy.RBM.from_parameters(np.zeros((2, 3)).T, np.zeros(3), np.zeros(2)),
    ),
    "an objective for a method": (
        lambda: lnz.fit(KEY, table.rbm(), PCD(1), BITS, steps=1),
        r"`lnz.Gradient\(PCD\(...\), optax.adam\(1e-3\)\)`",
        lambda: lnz.Gradient(PCD(1), ADAM),
    ),
    "likelihood of a machine": (
        lambda: step(MaximumLikelihood(), table.rbm(), bit_rows()),
        r"`lnz.objectives.PCD\(1\)`",
        lambda: step(PCD(1), table.rbm(), bit_rows()),
    ),
    "likelihood of a small machine": (
        lambda: step(MaximumLikelihood(), table.rbm(), bit_rows()),
        r"`lnz.normalizers.Quadrature\(\)` for a small .*`lnz.objectives.MaximumLikelihood\(partition=...\)`",
        lambda: step(MaximumLikelihood(partition=QUADRATURE), table.rbm(), bit_rows()),
    ),
    "likelihood of a deep machine": (
        lambda: step(MaximumLikelihood(), table.dbm(3, 2, 2), three_bits()),
        r"needs `partition=...` too; with both `Quadrature\(\)` it trains a small one exactly",
        lambda: step(MaximumLikelihood(QUADRATURE, QUADRATURE), table.dbm(3, 2, 2), three_bits()),
    ),
    "likelihood of an autoencoder": (
        lambda: step(MaximumLikelihood(), table.linear_vae(), three_bits()),
        r"`lnz.objectives.ELBO\(\)`",
        lambda: step(ELBO(), table.linear_vae(), three_bits()),
    ),
    "likelihood with discrete latents": (
        lambda: step(MaximumLikelihood(), discrete_vae(), bit_rows()),
        r"discrete latents: `lnz.objectives.IWAE\(5, gradient=lnz.gradients.LeaveOneOut\(\)\)`",
        lambda: step(IWAE(5, LeaveOneOut()), discrete_vae(), bit_rows()),
    ),
    "likelihood under a machine": (
        lambda: step(MaximumLikelihood(), table.rbm_vae(), bit_rows()),
        r"`EnergyPrior\(IWAE\(5, gradient=lnz.gradients.LeaveOneOut\(\)\)\)`",
        lambda: step(EnergyPrior(IWAE(5, LeaveOneOut())), table.rbm_vae(), bit_rows()),
    ),
    "bound with discrete latents": (
        lambda: step(ELBO(), discrete_vae(), bit_rows()),
        r"`gradient=lnz.gradients.LeaveOneOut\(\)`, with two draws or more, or `gradient=lnz.gradients.Score\(\)`",
        lambda: [step(one, discrete_vae(), bit_rows()) for one in (ELBO(2, gradient=LeaveOneOut()), SCORED)],
    ),
    "a prior that is an energy": (
        lambda: step(IWAE(5, LeaveOneOut()), table.rbm_vae(), bit_rows()),
        r"`lnz.objectives.EnergyPrior\(objective\)`",
        lambda: step(EnergyPrior(IWAE(5, LeaveOneOut())), table.rbm_vae(), bit_rows()),
    ),
    "a prior that is normalised": (
        lambda: step(EnergyPrior(ELBO()), table.linear_vae(), three_bits()),
        "Use the objective without this wrapper",
        lambda: step(ELBO(), table.linear_vae(), three_bits()),
    ),
    "one draw to weigh": (lambda: ReweightedWakeSleep(1), r"`lnz.objectives.WakeSleep\(\)`", lambda: WakeSleep()),
    "one draw to compare": (
        lambda: IWAE(1, LeaveOneOut()),
        r"`lnz.objectives.ELBO\(gradient=lnz.gradients.Score\(\)\)`",
        lambda: SCORED,
    ),
    "draws weighed together": (lambda: IWAE(3, Score()), "LeaveOneOut", lambda: (IWAE(3, LeaveOneOut()), SCORED)),
    "EM of a flow": (
        lambda: lnz.EM().init(KEY, onto_positive(NORMAL), jnp.ones((2, 2))),
        re.escape("`lnz.Gradient(lnz.objectives.MaximumLikelihood(), optimizer)`"),
        lambda: climb(0.1).init(KEY, onto_positive(NORMAL), jnp.ones((2, 2))),
    ),
    "smoothing of normals": (
        lambda: lnz.EM(smoothing=1.0).init(KEY, NORMAL, X),
        re.escape("Leave `smoothing` out: `floor`, on by default, keeps its scales from collapsing; `EM(floor=0.1)`"),
        lambda: (lnz.EM().init(KEY, NORMAL, X), lnz.EM(floor=0.1).init(KEY, NORMAL, X)),
    ),
    "a constant column": (
        lambda: lnz.EM().init(KEY, NORMAL, np.ones((3, 2))),
        re.escape("`EM(floor=...)`, a smallest standard deviation"),
        lambda: lnz.EM(floor=0.1).init(KEY, NORMAL, np.ones((3, 2))),
    ),
    "gradients of a constant": (
        lambda: climb(0.1).init(KEY, onto_positive(lnz.Normal.standard(2)), jnp.ones((2, 2))),
        r"`lnz.Normal\(jnp.zeros\(n\), 1.0\)`",
        lambda: climb(0.1).init(KEY, onto_positive(NORMAL), jnp.ones((2, 2))),
    ),
    "the normaliser of a latent model": (
        lambda: lnz.log_normalizer(KEY, table.linear_vae()),
        r"`lnz.condition\(model, x\)`",
        lambda: lnz.condition(table.linear_vae(), jnp.zeros(3)),
    ),
    "chains in a row": (
        lambda: lnz.samplers.autocorrelation(np.sin(np.arange(9.0))),
        r"`values\[:, None\]`",
        lambda: lnz.samplers.autocorrelation(np.sin(np.arange(9.0))[:, None]),
    ),
    "labels of many classes": (
        lambda: lnz.latent.attribute_vector(np.eye(4), np.arange(4)),
        "`labels == 3`",
        lambda: lnz.latent.attribute_vector(np.eye(4), np.arange(4) == 3),
    ),
    "a fit for a model": (
        lambda: lnz.evaluate(KEY, lnz.Fit(NORMAL, [], "completed", (), 0.0), X),
        "`fit.model`",
        lambda: lnz.evaluate(KEY, lnz.Fit(NORMAL, [], "completed", (), 0.0).model, X),
    ),
    "an empty cell of whole numbers": (
        lambda: NORMAL.space.check_data([[1, None], [2, 3]]),
        re.escape("`np.ma.masked_invalid(np.asarray(data, float))`"),
        lambda: lnz.EM().init(KEY, NORMAL, np.ma.masked_invalid(np.asarray([[1, None], [2, 3]], float)).filled(0)),
    ),
    "an empty cell of a mask": (
        lambda: known_entries(lnz.Euclidean(2), X, [[True, None], [True, False]]),
        "Fill them in, with false",
        lambda: known_entries(lnz.Euclidean(2), X, [[True, False], [True, False]]),
    ),
    "a class that is no module": (
        lambda: lnz.register(Plain),
        "the class Plain: derive it from `equinox.Module`",
        lambda: lnz.register(type("Derived", (Plain, eqx.Module), {})),
    ),
    "a distribution for a template": (
        lambda: lnz.Conditional(NORMAL, NORMAL),
        r"`Conditional.of\(template, num_context, key=key\)`",
        lambda: lnz.Conditional.of(NORMAL, 2, key=KEY),
    ),
}

ONES = np.array([[1, 0], [1, 1]], np.uint8)  # the first bit never varies


def fit(method, model, data):
    return lnz.fit(KEY, model, method, data, steps=3).model


DIVERGES = {
    "EM of bits": (
        lambda: fit(lnz.EM(), lnz.Bernoulli(jnp.zeros(2)), ONES),
        r"Try `EM\(smoothing=1.0\)`",
        lambda: fit(lnz.EM(smoothing=1.0), lnz.Bernoulli(jnp.zeros(2)), ONES),
    ),
    "gradients": (
        lambda: fit(climb(1e30), NORMAL, X),
        "Try a smaller learning rate",
        lambda: fit(climb(1e-3), NORMAL, X),
    ),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", DIVERGES)
def test_advice_to_training_that_diverged_works(name):
    fails, words, advised = DIVERGES[name]
    with pytest.raises(FloatingPointError, match=words) as caught:
        fails()
    assert ("learning rate" in str(caught.value)) == (name == "gradients")  # EM has none
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(advised(), eqx.is_array)))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", ADVICE)
def test_advice_works(name):
    fails, words, advised = ADVICE[name]
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=words):
        fails()
    advised()


# Densities of which a grid misses mass, in which precision, words of the warning, and the grid that they advise.
GRIDS = {
    "reals": (lnz.Euclidean(1), lambda x: -0.5 * jnp.sum((x / 8) ** 2), "widen `bounds`", {"bounds": (-60.0, 60.0)}),
    "counts": (lnz.Counts(1), lambda x: -0.01 * jnp.sum(x.astype(float)), "for counts raise `num`", {"num": 4000}),
    "interval": (
        lnz.Interval(1),
        lambda x: -0.5 * jnp.sum(jnp.log(1 - x)),
        "near an end of an interval other than 0 use float64",
        {},
    ),
    "narrow": (lnz.Interval(1), lambda x: -5e5 * jnp.sum((x - 0.3) ** 2), "raise `num`", {"num": 2001}),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", GRIDS)
def test_advice_to_a_grid_that_misses_mass_works(name):
    space, log_density, words, options = GRIDS[name]
    density = lnz.density(space, log_density)
    with pytest.warns(lnz.UnreliableEstimateWarning, match=words) as caught:
        lnz.log_normalizer(KEY, density, QUADRATURE)
    assert "temperatures" not in str(caught[0].message)  # a grid has none
    with jax.enable_x64("float64" in words):
        assert lnz.log_normalizer(KEY, density, lnz.normalizers.Quadrature(**options)).reliable


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("covariance", [SINGULAR, np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros((3, 3))])
def test_the_variance_that_an_error_asks_for_is_enough(covariance, precision):
    """What is added is read from the message."""
    with pytest.raises(ValueError, match="positive definite") as caught:
        lnz.MultivariateNormal.from_covariance(jnp.zeros(len(covariance)), covariance)
    added = float(re.search(r"`covariance \+ (\S+) \* np.eye", str(caught.value))[1])
    normal = lnz.MultivariateNormal.from_covariance(
        jnp.zeros(len(covariance)), covariance + added * np.eye(len(covariance))
    )
    assert np.isfinite(normal.log_prob(jnp.zeros(len(covariance))))
