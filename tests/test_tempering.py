"""Parallel tempering, the chains that it trains with, and how long chains remember."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz import testing
from lnz.core import AbstractEnergyModel
from lnz.normalizers import Quadrature, exact_samples
from lnz.objectives import SML, MaximumLikelihood
from lnz.samplers import (
    HMC,
    Gibbs,
    ParallelTempering,
    autocorrelation,
    autocorrelation_time,
    run_chains,
    trace_chains,
)
from lnz.testing._densities import check_follows

BETAS = jnp.array([0.0, 0.3, 0.7, 1.0])


def two_modes(num=12, strength=4.0):
    """All ones or all zeros, with probabilities that enumeration gives; Gibbs sampling never goes across."""
    W = jnp.full((num, 2), strength)
    b = jnp.full(num, -strength)
    return lnz.energy.RBM.from_parameters(W, b, jnp.array([-0.49, -0.5]) * num * strength)


@eqx.filter_jit
def tempered_steps(key, sampler, density, positions, num_steps):
    """Positions at all temperatures after steps from `positions [temperatures, num, ...]`."""
    num = positions.shape[1]
    key_init, key_steps = jr.split(key)
    path, inner = density.path(), lnz.samplers.default_sampler(density.path().at(1.0))

    def start(key, xs):
        state = sampler.init(key, density, xs[-1])
        chains = jax.vmap(lambda beta, x: inner.init(key, path.at(beta), x))(jnp.asarray(sampler.betas, float), xs)
        return eqx.tree_at(lambda s: s.chains, state, chains)

    states = jax.vmap(start, in_axes=(0, 1))(jr.split(key_init, num), positions)

    def step(states, key):
        return jax.vmap(lambda k, s: sampler.step(k, density, s))(jr.split(key, num), states)

    states, info = jax.lax.scan(step, states, jr.split(key_steps, num_steps))
    return jnp.swapaxes(states.chains.position, 0, 1), info


@pytest.mark.parametrize("make", [table.rbm, table.two_site_field, table.potts_rbm])
def test_every_temperature_stays_invariant(make, precision):
    """Exact draws of every tempered density in, three steps with exchanges, exact draws of every one out."""
    density = make()
    path, num = density.path(), 20_000
    betas = BETAS.astype(jnp.result_type(float))
    starts = jnp.stack([exact_samples(jr.key(i), path.at(beta), num) for i, beta in enumerate(betas)])
    ends, info = tempered_steps(jr.key(9), ParallelTempering(betas), density, starts, 3)
    assert bool(jnp.all(jnp.any(ends != starts, axis=tuple(range(1, ends.ndim)))))
    for beta, x in zip(betas, ends, strict=True):
        check_follows(x, path.at(beta))
    # The probability of exchange is the one that the exact draws give.
    ratio = jax.vmap(path.log_ratio, in_axes=(None, None, 0))
    for i in range(len(betas) - 1):
        difference = ratio(betas[i], betas[i + 1], starts[i]) - ratio(betas[i], betas[i + 1], starts[i + 1])
        expected = np.exp(np.minimum(np.asarray(difference), 0))
        seen = np.asarray(info["swap_acceptance"][:, :, i])
        # 5 standard errors of either mean: a false alarm in a million.
        assert abs(expected.mean() - seen.mean()) < 5 * (expected.std() + seen.std()) / np.sqrt(num) + 1e-6


def test_hmc_at_every_temperature_stays_invariant(float64):
    """Exchanged chains take gradients along that were made at another temperature: each step makes them anew."""
    target = table.DISTRIBUTIONS["multivariate_normal"]()
    wide = lnz.Normal(jnp.zeros(2), jnp.full(2, 2.0))
    sampler = ParallelTempering(
        jnp.array([0.0, 0.4, 1.0]), HMC(0.5, 4), lambda density: lnz.GeometricPath(wide, density)
    )
    start = target.sample(jr.key(0), (4000,))
    # 200 steps: the other temperatures start anywhere. Mean and covariance within 6 standard errors.
    end, info = eqx.filter_jit(run_chains)(jr.key(1), target, sampler, start, 200)
    x, loc = np.asarray(end), np.asarray(target.loc)
    covariance = np.asarray(target.scale_tril @ target.scale_tril.T)
    np.testing.assert_array_less(np.abs(x.mean(0) - loc), 6 * np.sqrt(np.diag(covariance) / len(x)))
    centred = x - loc
    products = centred[:, :, None] * centred[:, None, :]
    np.testing.assert_array_less(np.abs(products.mean(0) - covariance), 6 * products.std(0) / np.sqrt(len(x)))
    assert info["swap_acceptance"].shape == (2,)


def test_walkers_cross_between_modes_that_gibbs_never_leaves(float64):
    rbm = two_modes()
    points = np.array([np.zeros(12), np.ones(12)])
    log_p = np.array([float(rbm.log_density(jnp.asarray(x))) for x in points])
    exact = 1 / (1 + np.exp(log_p[0] - log_p[1]))
    assert 0.1 < exact < 0.9
    start = jnp.zeros((400, 12))

    def from_fair_coins(rbm):
        return rbm.path(jnp.full(12, 0.5))

    stuck, _ = eqx.filter_jit(run_chains)(jr.key(0), rbm, Gibbs(), start, 300)
    assert float((stuck.mean(axis=1) > 0.5).mean()) < 0.02
    tempered, info = eqx.filter_jit(run_chains)(jr.key(1), rbm, ParallelTempering(12, path=from_fair_coins), start, 300)
    share = float((tempered.mean(axis=1) > 0.5).mean())
    assert abs(share - exact) < 5 * np.sqrt(exact * (1 - exact) / 400)
    assert float(info["round_trips"]) * 300 > 1  # more than one a chain
    assert float(info["swap_acceptance"].min()) > 0.05


def test_round_trips_are_those_of_walkers_that_always_exchange(float64):
    """Where all temperatures are the same density every exchange is made: NumPy follows the walkers."""
    normal = lnz.Normal.standard(1)
    num, num_steps = 5, 60
    sampler = ParallelTempering(num - 1, HMC(0.3, 2))
    state = sampler.init(jr.key(0), normal, jnp.zeros(1))
    step = eqx.filter_jit(sampler.step)
    walkers, seen, trips = list(range(num)), dict.fromkeys(range(num), 0), 0
    seen[0] = 1
    for t in range(num_steps):
        state, info = step(jr.key(t), normal, state)
        np.testing.assert_allclose(info["swap_acceptance"], 1, rtol=1e-12)
        for i in range(t % 2, num - 1, 2):
            walkers[i], walkers[i + 1] = walkers[i + 1], walkers[i]
        if seen[walkers[0]] == -1:
            trips += 1
        seen[walkers[0]] = 1
        if seen[walkers[-1]] == 1:
            seen[walkers[-1]] = -1
    assert trips > 10
    assert int(state.num_round_trips) == trips


def test_average_gradient_of_tempered_chains_is_the_exact_one(float64):
    model = table.rbm(4, 3, scale=2.0)
    batch = (table.normal(100, 6, 4) > 0).astype(jnp.int32)
    objective = SML(ParallelTempering(4), num_chains=500)
    params, rest = eqx.partition(model, lnz.trainable(model))

    def loss(params, state, key):
        return objective.loss(key, eqx.combine(params, rest), state, batch)

    @eqx.filter_jit
    def gradients(state):
        def step(state, key):
            gradient, (state, _) = jax.grad(loss, has_aux=True)(params, state, key)
            return state, gradient

        return jax.lax.scan(step, state, jr.split(jr.key(1), 400))[1]

    many = gradients(objective.init(jr.key(0), model, batch))
    exact = MaximumLikelihood(partition=Quadrature())
    expected = jax.grad(lambda p: exact.loss(jr.key(0), eqx.combine(p, rest), (), batch)[0])(params)
    for name in ("W", "b", "c"):
        values = np.asarray(getattr(many, name))[100:]
        # Batches of 10 steps are nearly independent; 6 standard errors, over 19 numbers: 4 alarms in 100 million.
        batches = values.reshape(30, 10, *values.shape[1:]).mean(axis=1)
        error = batches.std(axis=0, ddof=1) / np.sqrt(30)
        np.testing.assert_array_less(np.abs(values.mean(axis=0) - np.asarray(getattr(expected, name))), 6 * error)


def test_tempered_chains_train_and_resume(tmp_path):
    data = (table.normal(100, 40, 4) > 0).astype(jnp.uint8)
    method = lnz.Gradient(SML(ParallelTempering(3), num_chains=8), optax.sgd(0.1))

    def train(steps, **options):
        return lnz.fit(jr.key(0), table.rbm(), method, data, steps=steps, batch_size=10, watch=lnz.Watch(5), **options)

    whole = train(20)
    checkpoints = lnz.Checkpoints(tmp_path / "checkpoints")
    train(10, checkpoints=checkpoints)
    rest = train(20, checkpoints=dataclasses.replace(checkpoints, resume=True))
    for one, other in zip(jax.tree.leaves(whole.model), jax.tree.leaves(rest.model), strict=True):
        np.testing.assert_array_equal(one, other)
    before = table.rbm()
    assert not np.array_equal(whole.model.W, before.W)
    assert int(whole.state[1].num_steps[0]) == 20


def test_records_tell_how_the_chains_move():
    """Round trips of all records add up to those that the chains counted; the least exchange is a probability."""
    data = (table.normal(100, 40, 4) > 0).astype(jnp.uint8)
    objective = SML(ParallelTempering(3), num_chains=8, num_steps=2)
    fit = lnz.fit(
        jr.key(0),
        table.rbm(),
        lnz.Gradient(objective, optax.sgd(0.1)),
        data,
        steps=30,
        batch_size=10,
        watch=lnz.Watch(10),
    )
    counted = int(fit.state[1].num_round_trips.sum())
    assert counted > 20
    assert [record["step"] for record in fit.history] == [10, 20, 30]
    # A record is a mean over 10 updates, 8 chains and 2 steps.
    assert sum(record["round_trips"] for record in fit.history) * 10 * 8 * 2 == pytest.approx(counted, rel=1e-5)
    assert all(0 < record["swap_acceptance"] < 1 for record in fit.history)
    plain = lnz.fit(
        jr.key(0),
        table.rbm(),
        lnz.Gradient(SML(Gibbs()), optax.sgd(0.1)),
        data,
        steps=2,
        batch_size=10,
        watch=lnz.Watch(1),
    )
    assert {"free_energy_data", "free_energy_chains"} <= plain.history[0].keys()
    assert "round_trips" not in plain.history[0]


def test_the_least_exchange_is_told(float64):
    """Of two pairs of temperatures far apart and near, by the sampler itself."""
    rbm, sampler = table.rbm(), ParallelTempering(jnp.array([0.0, 0.9, 1.0]))
    objective = SML(sampler, num_chains=50)
    state = objective.init(jr.key(0), rbm, jnp.zeros((3, 4)))
    _, (_, parts) = objective.loss(jr.key(1), rbm, state, jnp.zeros((3, 4)))
    keys = jr.split(jr.key(1), 50)
    info = jax.vmap(lambda key, state: sampler.step(jr.split(key, 1)[0], rbm, state)[1])(keys, state)
    each = np.asarray(info["swap_acceptance"]).mean(axis=0)
    assert each[0] < each[1]
    assert float(parts["swap_acceptance"]) == pytest.approx(each[0], rel=1e-12)


def test_sample_and_files_take_it(tmp_path):
    rbm, sampler = table.rbm(), ParallelTempering(3)
    draws = lnz.sample(jr.key(0), rbm, 4000, num_steps=20, sampler=sampler)
    check_follows(draws, rbm)
    lnz.save(tmp_path / "sampler.lnz", sampler)
    again = lnz.load(tmp_path / "sampler.lnz")
    np.testing.assert_array_equal(
        lnz.sample(jr.key(0), rbm, 20, num_steps=5, sampler=again),
        lnz.sample(jr.key(0), rbm, 20, num_steps=5, sampler=sampler),
    )
    assert "swendsen1986" in str(lnz.cite(sampler)).lower()


def test_autocorrelation_of_an_autoregression():
    """`x_t = a x_{t-1} + noise` has `rho_t = a^t` and `tau = (1 + a) / (1 - a)`."""
    random, a = np.random.RandomState(0), 0.8
    x = np.zeros((20_000, 8))
    x[0] = random.normal(size=8) / np.sqrt(1 - a**2)
    for t in range(1, len(x)):
        x[t] = a * x[t - 1] + random.normal(size=8)
    rho = autocorrelation(x)
    # Bartlett's formula bounds the standard error of rho_t by sqrt(tau(a^2) / n) with n = 160,000: 0.0053.
    np.testing.assert_allclose(rho[:20], a ** np.arange(20), atol=5 * 0.0053)
    assert autocorrelation_time(x) == pytest.approx(9, rel=0.1)
    assert autocorrelation_time(random.normal(size=(5000, 4))) == pytest.approx(1, rel=0.1)


def test_chains_that_disagree_never_forget():
    random = np.random.RandomState(0)
    apart = random.normal(size=(500, 2)) + np.array([0.0, 20.0])
    assert autocorrelation(apart)[:100].min() > 0.9
    assert autocorrelation_time(apart) > 100


def test_tempering_makes_chains_forget_sooner(float64):
    rbm = two_modes(6, 3.0)
    start = rbm.path().start.sample(jr.key(0), (20,))
    times = []
    for sampler in (Gibbs(), ParallelTempering(8)):
        run = eqx.filter_jit(lambda key, x, sampler=sampler: trace_chains(key, rbm, sampler, x, 3000, jnp.sum))
        values, _ = run(jr.key(1), start)
        assert values.shape == (3000, 20)
        times.append(autocorrelation_time(values[500:]))
    assert times[1] < 0.3 * times[0]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ParallelTempering(0), ValueError, "betas=...*at least 1"),
        (lambda: ParallelTempering(jnp.array([0.0, 0.5])), ValueError, "from 0 to 1"),
        (lambda: ParallelTempering(jnp.array([0.0, 0.5, 0.5, 1.0])), ValueError, "twice"),
        (lambda: ParallelTempering(3, Gibbs), TypeError, "with its brackets|AbstractSampler"),
        (lambda: ParallelTempering(3, ParallelTempering(2)), TypeError, "moves one chain"),
        (lambda: SML(Gibbs), TypeError, "with its brackets|AbstractSampler"),
        (lambda: SML(Gibbs(), num_chains=0), ValueError, "num_chains"),
        (lambda: SML(Gibbs(), num_steps=0), ValueError, "num_steps"),
        (lambda: SML(Gibbs()).init(jr.key(0), lnz.Normal.standard(2), jnp.zeros((3, 2))), TypeError, "energy model"),
        (lambda: SML(Gibbs()).init(jr.key(0), table.rbm(), None), ValueError, "learns from data"),
        (lambda: autocorrelation_time(np.zeros(100)), ValueError, "values\\[:, None\\]"),
        (lambda: autocorrelation_time(np.zeros((100, 2))), ValueError, "never moves"),
        (lambda: autocorrelation_time(np.full((100, 2), np.nan)), ValueError, "finite"),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words.replace("...*", ".*")):
        call()


def test_target_stays_invariant_once_the_other_temperatures_have_settled():
    """The plain law; the first steps carry what is left of the start."""
    testing.check_sampler(jr.key(2), ParallelTempering(2), table.rbm(), num_chains=4000, num_steps=60)


WALL = 0.15  # half the width of a box that 1.4% of the start's draws hit


def walled(num=2, width=WALL):
    """Even in a small box, zero outside."""
    inside = lambda x: jnp.all(jnp.abs(x - 0.5) < width)  # noqa: E731
    return lnz.density(lnz.Euclidean(num), lambda x: jnp.where(inside(x), 0.0, -jnp.inf))


@pytest.mark.parametrize("width", [WALL, 1e-4])
def test_no_tempered_chain_starts_where_the_density_is_zero(width):
    """At no temperature above the start, also in a box that no draw of the start hits."""
    density, position = walled(width=width), jnp.full(2, 0.5)
    init = jax.jit(jax.vmap(lambda key: ParallelTempering(6, HMC(0.1)).init(key, density, position)))
    positions = init(jr.split(jr.key(0), 20)).chains.position
    assert jnp.all(jnp.abs(positions - 0.5) < width)


class Wide(AbstractEnergyModel):
    """A normal around zero; its scale is learned."""

    log_scale: jax.Array

    @property
    def space(self):
        return lnz.Euclidean(3)

    def log_density(self, x):
        return -0.5 * jnp.sum((x * jnp.exp(-self.log_scale)) ** 2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_whatever_runs_chains_adapts_a_free_step_size(scale):
    """Mean acceptance of HMC near 0.8, for targets of any width, that of tempered chains at every temperature."""
    target = Wide(jnp.log(scale))
    start = scale * jr.normal(jr.key(0), (50, 3))

    @jax.jit
    def chains():
        run = run_chains(jr.key(1), target, HMC(), start, 100)[1]["acceptance"]
        trace = trace_chains(jr.key(2), target, HMC(), start, 100, jnp.sum)[1]["acceptance"]
        return run, jnp.mean(trace)

    @jax.jit
    def tempered():
        sampler = ParallelTempering(
            4, HMC(), lambda density: lnz.GeometricPath(lnz.Normal(jnp.zeros(3), scale), density)
        )
        states = jax.vmap(lambda key, x: sampler.init(key, target, x))(jr.split(jr.key(3), 10), start[:10])
        step_sizes = jnp.exp(jnp.median(states.log_step_sizes, axis=0))
        moved = jax.vmap(lambda h: run_chains(jr.key(4), target, HMC(h, jitter=0.5), start, 50)[1]["acceptance"])
        return moved(step_sizes)

    for acceptance in (*chains(), *tempered()):
        assert 0.6 < float(acceptance) < 0.95


def test_step_sizes_of_persistent_chains_follow_the_model():
    """The model becomes a hundred times narrower in 60 updates of the chains."""
    objective = SML(HMC(), num_chains=30, num_steps=5)
    data = jr.normal(jr.key(0), (40, 3))
    state = objective.init(jr.key(1), Wide(jnp.asarray(0.0)), data)

    @jax.jit
    def update(state, inputs):
        key, log_scale = inputs
        state = objective.loss(key, Wide(log_scale), state, data)[1][0]
        return state, None

    scales = -jnp.log(100.0) * jnp.minimum(jnp.arange(60) / 50, 1)
    state, _ = jax.lax.scan(update, state, (jr.split(jr.key(2), 60), scales))
    parts = objective.loss(jr.key(3), Wide(scales[-1]), state, data)[1][1]
    assert 0.5 < float(parts["acceptance"]) < 1
