"""Annealed importance sampling of published weights: the RBM of Salakhutdinov and Murray (2008), 784 x 500, CD-25.

    LNZ_DATA=... python benchmarks/ais_published.py [--seeds 5] [--num-chains 100] [--warm-up 5000] [--quick]

The temperatures, the number of chains and the base rates are the published ones; the published log Z is 451.28 and the
published test log-likelihood -86.34 nats. Prints log Z, its diagnostics, test nats and seconds for each seed; then, for
the first seed, a start from fair coins (which must warn), adapted temperatures, and a bracket whose upper side
starts from long chains; seconds of the last three include compiling. `--quick` takes 1000 even temperatures
instead, to see that all runs.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import lnz
from lnz.files import environment
from lnz.normalizers import AIS, ReverseAIS, acceptance_ratio, adapted_betas, salakhutdinov_murray_betas


def published():
    """The machine with its base rates, and the test rows `[10000, 784]`."""
    with np.load(Path(os.environ["LNZ_DATA"]) / "rbm_cd25_500.npz") as file:
        rbm = lnz.energy.RBM.from_parameters(file["W"], file["b"], file["c"])
        test = np.unpackbits(file["test"], axis=1)[:, :784]
        # Five pseudo-counts for each of 600 batches of 100 examples.
        rates = (60_000 * file["train_mean"].astype(np.float64) + 5 * 600) / (60_000 + 5 * 600)
    return rbm, jnp.asarray(rates, jnp.float32), test


def timed(normalizer, seed, rbm):
    started = time.perf_counter()
    log_w = jax.block_until_ready(_log_weights(normalizer, jr.key(seed), rbm))
    return log_w, time.perf_counter() - started


@jax.jit
def _log_weights(normalizer, key, rbm):
    return normalizer.log_weights(key, rbm)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--num-chains", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=5000)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rbm, rates, test = published()
    betas = jnp.linspace(0, 1, 1001) if arguments.quick else salakhutdinov_murray_betas()
    path, coins = rbm.path(rates), rbm.path(jnp.full(784, 0.5))
    ais = AIS(arguments.num_chains, betas, path=path)
    free_energies = jax.lax.map(rbm.free_energy, jnp.asarray(test, jnp.float32), batch_size=500)
    numerator = -float(np.mean(np.asarray(free_energies, np.float64)))

    def show(name, log_w, seconds):
        estimate = lnz.log_mean_exp(log_w)
        nats = numerator - float(estimate.value)
        print(f"{name}: log Z {estimate}, test {nats:.3f} nats, {seconds:.1f} s", flush=True)
        return estimate

    show("compile", *timed(ais, 1000, rbm))
    values, forward = [], None
    for seed in range(arguments.seeds):
        log_w, seconds = timed(ais, seed, rbm)
        forward = log_w if forward is None else forward
        values.append(float(show(f"seed {seed}", log_w, seconds).value))
    print(f"log Z: {min(values):.3f} to {max(values):.3f}, mean {np.mean(values):.3f}; published 451.28")

    adapted = jax.jit(adapted_betas, static_argnums=2)(jr.key(7), rbm, len(betas) - 1, path=path)
    show("adapted temperatures", *timed(AIS(arguments.num_chains, adapted, path=path), 0, rbm))
    few = jnp.linspace(0, 1, 1001)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimate = lnz.log_normalizer(jr.key(0), rbm, AIS(arguments.num_chains, few, path=coins))
    print(f"fair coins, 1000 temperatures: {estimate}; warned: {[str(warning.message) for warning in caught]}")
    show("base rates, 1000 temperatures", *timed(AIS(arguments.num_chains, few, path=path), 0, rbm))
    reverse = ReverseAIS(arguments.num_chains, betas, path=path, num_warm_up=arguments.warm_up)
    log_w, seconds = timed(reverse, 1_000_000, rbm)  # random numbers of its own
    upper, lower = -lnz.log_mean_exp(log_w), lnz.log_mean_exp(forward)
    low, high = lower.value - 2 * lower.standard_error, upper.value + 2 * upper.standard_error
    print(
        f"reverse from chains of {arguments.warm_up} sweeps: {upper.value:.3f} +- {upper.standard_error:.3f}, "
        f"{seconds:.1f} s; bracket [{low:.3f}, {high:.3f}], width {high - low:.3f}, assumes a stationary start"
    )
    print(f"Bennett's acceptance ratio: {acceptance_ratio(forward, log_w)}, assumes a stationary start")
    print(environment())


if __name__ == "__main__":
    main()
