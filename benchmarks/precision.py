"""What fewer bits in the products of a GPU cost an RBM: the published weights, 784 x 500, by emulation in float64.

    LNZ_DATA=... python benchmarks/precision.py [--chains 1000] [--sweeps 1000]

States of a Boltzmann machine are bits, which every format holds exactly. So a product with split or rounded weights is
that of a machine with other weights W', up to the sums in float32, and what the precision costs can be measured
on any device: the change of the inputs of hidden units on test rows, of `log p~` of test rows, of log Z, by
`Z' / Z = E_p[p~'(v) / p~(v)]` over chains that start at test rows, and of the test log-likelihood.
"""

import argparse

import jax.random as jr
import numpy as np
from ais_published import published

import lnz
from lnz.files import environment


def truncate(x, bits):
    """Float32 with all but the first `bits` bits of the significand cut off."""
    mask = np.uint32(0xFFFFFFFF << (24 - bits) & 0xFFFFFFFF)
    return (np.asarray(x, np.float32).view(np.uint32) & mask).view(np.float32)


def nearest(x, bits=8):
    """Float32 rounded to the nearest number of `bits` bits; 8 is bfloat16."""
    words = np.asarray(x, np.float32).view(np.uint32)
    half = np.uint32(1 << (23 - bits))
    return truncate((words + half).view(np.float32), bits)  # ties away from zero, which is as near


def split_in_two(x):
    """What XLA keeps of a weight in `BF16_BF16_F32_X3`: the upper part is cut off, the lower one rounded."""
    high = truncate(x, 8)
    return high.astype(np.float64) + nearest(x - high)


def split_in_three(x):
    """The same in `BF16_BF16_F32_X6`."""
    high = truncate(x, 8)
    middle = truncate(x - high, 8)
    return high.astype(np.float64) + middle + nearest(x - high - middle)


ROUNDINGS = {
    "bfloat16": nearest,
    "tensorfloat32, rounded": lambda x: nearest(x, 11),
    "tensorfloat32, cut off": lambda x: truncate(x, 11),
    "BF16_BF16_F32_X3": split_in_two,
    "BF16_BF16_F32_X6": split_in_three,
}


def log_density(v, W, b, c):
    input = c + v @ W
    return v @ b + np.logaddexp(0, input).sum(axis=1), input


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--chains", type=int, default=1000)
    parser.add_argument("--sweeps", type=int, default=1000)
    arguments = parser.parse_args()
    rbm, _, test = published()
    W32, b32 = np.asarray(rbm.W), np.asarray(rbm.b)
    W, b, c = (np.asarray(a, np.float64) for a in (rbm.W, rbm.b, rbm.c))
    start = test[: arguments.chains]
    draws = np.asarray(lnz.sample(jr.key(0), rbm, len(start), num_steps=arguments.sweeps, start=start), np.float64)
    test = test.astype(np.float64)
    (of_test, input), (of_draws, _) = (log_density(v, W, b, c) for v in (test, draws))
    for name, rounded in ROUNDINGS.items():
        near_W, near_b = rounded(W32).astype(np.float64), rounded(b32).astype(np.float64)
        (near_test, near_input), (near_draws, _) = (log_density(v, near_W, near_b, c) for v in (test, draws))
        change = near_draws - of_draws
        log_z = np.log(np.mean(np.exp(change)))
        error = np.std(np.exp(change - log_z), ddof=1) / np.sqrt(len(change))
        of_rows = (near_test - of_test).mean()
        print(
            f"{name}: a weight {np.max(np.abs(near_W - W) / np.abs(W)):.1e} of itself, an input "
            f"{np.abs(near_input - input).max():.1e}, log p~ of a row {np.abs(near_test - of_test).max():.1e}, on "
            f"average {of_rows:+.1e}; log Z {log_z:+.1e} +- {error:.0e}, test log-likelihood {of_rows - log_z:+.1e} "
            "nats",
            flush=True,
        )
    print(environment())


if __name__ == "__main__":
    main()
