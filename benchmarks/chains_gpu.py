"""How near block Gibbs sampling of an RBM comes to the matrix products that it consists of; meant for a GPU.

    python benchmarks/chains_gpu.py [--chains 2000] [--visible 784] [--hidden 1000] [--sweeps 2000] [--rounds 7]

A sweep is two products, `[chains, visible] @ [visible, hidden]` and back. Prints, for each precision of
`jax.default_matmul_precision`, the products alone in TFLOP/s, whole sweeps in the same unit, and their ratio: the
median of interleaved pairs and its range; and how far inputs of hidden units are from those in float64, which is what
the precision costs. The target is 50%. On a CPU every precision that it knows is plain float32.
"""

import argparse
import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import lnz
from lnz.files import environment
from lnz.samplers import Gibbs, run_chains

PRECISIONS = ("default", "tensorfloat32", "BF16_BF16_F32_X3", "BF16_BF16_F32_X6", "highest")


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("chains", 2000), ("visible", 784), ("hidden", 1000), ("sweeps", 2000), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    num, visible, hidden, sweeps = arguments.chains, arguments.visible, arguments.hidden, arguments.sweeps
    random = np.random.RandomState(0)
    W = 0.1 * random.normal(size=(visible, hidden))
    rbm = lnz.energy.RBM.from_parameters(W.astype(np.float32), np.zeros(visible, "f4"), np.zeros(hidden, "f4"))
    start = (random.uniform(size=(num, visible)) < 0.5).astype(np.float32)
    flops = 4.0 * num * visible * hidden * sweeps

    def products(W, v):
        def one(_, v):
            # Scaled, so that nothing overflows, and nothing can be left out.
            return (v @ W) @ W.T * jnp.float32(1e-3) + jnp.float32(0.1)

        return jax.lax.fori_loop(0, sweeps, one, v)

    def chains(key, rbm, v):
        return run_chains(key, rbm, Gibbs(), v, sweeps)[0]

    def seconds(function, *inputs):
        started = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        return time.perf_counter() - started

    exact = start.astype(np.float64) @ W.astype(np.float32).astype(np.float64)
    for precision in PRECISIONS:
        try:
            with jax.default_matmul_precision(precision):
                bare, whole = jax.jit(products), eqx.filter_jit(chains)
                error = np.abs(np.asarray(jax.jit(jnp.matmul)(start, rbm.W)) - exact).max()
                seconds(bare, rbm.W, start), seconds(whole, jr.key(0), rbm, start)
                ratios, rates = [], []
                for seed in range(arguments.rounds):
                    alone, sampled = seconds(bare, rbm.W, start), seconds(whole, jr.key(seed), rbm, start)
                    ratios.append(alone / sampled)
                    rates.append((flops / alone / 1e12, flops / sampled / 1e12))
        except (ValueError, RuntimeError, NotImplementedError) as reason:
            print(f"{precision}: not on this device ({str(reason).splitlines()[0][:90]})")
            continue
        alone, sampled = (statistics.median(values) for values in zip(*rates, strict=True))
        print(
            f"{precision}: products {alone:.2f} TFLOP/s, sweeps {sampled:.2f}, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), largest error of an input {error:.1e}",
            flush=True,
        )
    print(environment())


if __name__ == "__main__":
    main()
