"""How often the bracket of log Z contains the enumerated one: `rbm_digits_exact`, reverse chains from exact draws.

    python benchmarks/bracket_exact.py [--seeds 100] [--num-chains 100] [--num-betas 4000]

Trains the recipe once, enumerates log Z, and brackets it with each seed. Prints how many of the widened brackets
contain it, their mean width, and the same for the pair without its errors, and the errors of Bennett's acceptance
ratio on the same weights.
"""

import argparse
import time

import equinox as eqx
import jax.random as jr
import numpy as np

import lnz
from lnz.files import environment
from lnz.normalizers import AIS, Quadrature, ReverseAIS, acceptance_ratio


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--num-chains", type=int, default=100)
    parser.add_argument("--num-betas", type=int, default=4000)
    arguments = parser.parse_args()
    recipe = lnz.recipes.rbm_digits_exact
    settings = recipe.resolve()
    rbm = recipe.fit(recipe.load(settings), settings).model
    exact = float(lnz.log_normalizer(jr.key(0), rbm, Quadrature()).value)
    sizes = arguments.num_chains, arguments.num_betas

    @eqx.filter_jit
    def log_weights(key, rbm):
        key_forward, key_reverse = jr.split(key)
        return AIS(*sizes).log_weights(key_forward, rbm), ReverseAIS(*sizes).log_weights(key_reverse, rbm)

    started, hits, raw_hits, widths, scores = time.perf_counter(), 0, 0, [], []
    for seed in range(arguments.seeds):
        forward, reverse = log_weights(jr.key(seed), rbm)
        pair = lnz.Bracket(lnz.log_mean_exp(forward), -lnz.log_mean_exp(reverse))
        low, high = pair.interval
        hits += low <= exact <= high
        raw_hits += float(pair.lower.value) <= exact <= float(pair.upper.value)
        widths.append(pair.width)
        ratio = acceptance_ratio(forward, reverse)
        scores.append((float(ratio.value) - exact) / float(ratio.standard_error))
    print(f"log Z by enumeration {exact:.4f}; {sizes[0]} chains, {sizes[1]} temperatures")
    print(f"widened bracket: contains it with {hits} of {arguments.seeds} seeds, mean width {np.mean(widths):.4f} nats")
    print(f"without the errors: {raw_hits} of {arguments.seeds}")
    within = np.mean(np.abs(scores) <= 2)
    print(f"Bennett's acceptance ratio: within 2 s.e. with {within:.0%}, mean score {np.mean(scores):.2f}")
    print(f"{time.perf_counter() - started:.0f} s after training; {environment()}")


if __name__ == "__main__":
    main()
