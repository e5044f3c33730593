"""The figures of chains.md: `python docs/chains.py` prints them, in a minute or two on two cores."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import lnz
from lnz.energy import RBM
from lnz.normalizers import adapted_betas
from lnz.objectives import PCD, SML
from lnz.samplers import Gibbs, ParallelTempering, autocorrelation_time, run_chains, trace_chains

NUM_CHAINS, NUM_STEPS = 20, 20_000


def two_modes(num=12, strength=4.0):
    """All ones or all zeros: a machine that Gibbs sampling cannot cross."""
    W, b = jnp.full((num, 2), strength), jnp.full(num, -strength)
    return RBM.from_parameters(W, b, jnp.array([-0.49, -0.5]) * num * strength)


def from_coins(rbm):
    """The path from fair coins, which are in neither mode."""
    return rbm.path(jnp.full(rbm.visible.size, 0.5))


def train(rows, objective, steps):
    method = lnz.Gradient(objective, optax.sgd(optax.linear_schedule(0.1, 0.0, steps)))
    return lnz.fit(jr.key(1), RBM(64, 16, key=jr.key(0)), method, rows, steps=steps, batch_size=100)


@eqx.filter_jit
def trace(key, rbm, sampler, start):
    return trace_chains(key, rbm, sampler, start, NUM_STEPS, lambda v: (rbm.log_density(v), jnp.mean(v)))


def show(name, rbm, sampler):
    start = jnp.asarray(np.random.RandomState(0).uniform(size=(NUM_CHAINS, rbm.visible.size)) < 0.5, jnp.float32)
    (log_density, mean), info = trace(jr.key(2), rbm, sampler, start)
    words = [
        f"{what} {autocorrelation_time(values[NUM_STEPS // 10 :]):.1f}"
        for what, values in (("log p~", log_density), ("mean of v", mean))
    ]
    if "round_trips" in info:
        trips = float(info["round_trips"].sum()) / NUM_CHAINS
        least = float(info["swap_acceptance"].mean(axis=(0, 1)).min())
        words.append(f"round trips a chain {trips:.0f}, least exchange {least:.2f}")
    print(f"{name}: autocorrelation time of {', '.join(words)}", flush=True)


def main():
    toy = two_modes()
    show("two modes, Gibbs", toy, Gibbs())
    show("two modes, 12 intervals", toy, ParallelTempering(12, path=from_coins))
    rows = lnz.data.load("binary_digits").train
    rbm = train(rows, PCD(1, 100), 20_000).model
    show("digits, Gibbs", rbm, Gibbs())
    show("digits, 10 even intervals", rbm, ParallelTempering(10))
    betas = adapted_betas(jr.key(3), rbm, 10)
    show("digits, 10 adapted intervals", rbm, ParallelTempering(betas))
    tempered = train(rows, SML(ParallelTempering(10), num_chains=20), 4000)
    for record in tempered.history[9::30]:
        print({name: float(f"{value:.3g}") for name, value in record.items()})
    end = run_chains(jr.key(4), toy, Gibbs(), jnp.zeros((100, 12)), 1000)[0]
    print(f"two modes, Gibbs from zeros: {float((end.mean(axis=1) > 0.5).mean()):.2f} of 100 chains went across")


if __name__ == "__main__":
    main()
