"""Whether the centred gradient trains better machines: exact test nats with and without it.

    python benchmarks/centring.py [--steps 20000] [--seeds 3]

RBMs with 16 hidden units on `binary_digits` and on its negative (zeros and ones exchanged, to which the centred one
is indifferent), by PCD-1 at a learning rate that falls to zero. Prints the mean over seeds of the exact test nats and
their spread, and the seconds of training.
"""

import argparse

import jax.random as jr
import numpy as np
import optax

import lnz
from lnz.energy import RBM, centred_gradient
from lnz.files import environment
from lnz.normalizers import Quadrature
from lnz.objectives import PCD


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    digits = lnz.data.load("binary_digits")

    def train(flip, with_rates, rate, precondition, seed):
        rows, test = (1 - part if flip else part for part in (digits.train, digits.test))
        rates = (rows.sum(axis=0) + 1) / (len(rows) + 2) if with_rates else np.full(64, 0.5)  # whose log-odds are zero
        rbm = RBM(64, 16, key=jr.key(seed), base_rates=np.asarray(rates, np.float32))
        method = lnz.Gradient(PCD(1, 100, precondition), optax.sgd(optax.linear_schedule(rate, 0.0, arguments.steps)))
        fit = lnz.fit(jr.key(100 + seed), rbm, method, rows, steps=arguments.steps, batch_size=100)
        nats = lnz.evaluate(jr.key(0), fit.model, test, partition=Quadrature()).value
        return nats, fit.history[-1]["seconds"]

    print("data      biases start at  rate   gradient  test nats (spread over seeds)  seconds")
    for flip in (False, True):
        for with_rates in (True, False):
            for rate in (0.02, 0.1, 0.3):
                for name, precondition in (("plain", None), ("centred", centred_gradient)):
                    results = [train(flip, with_rates, rate, precondition, s) for s in range(arguments.seeds)]
                    nats, seconds = np.array(results).T
                    data, start = ("negative" if flip else "digits"), ("base rates" if with_rates else "zero")
                    print(
                        f"{data:<8}  {start:<15}  {rate:<5}  {name:<8}  {nats.mean():>9.3f} ({np.ptp(nats):.3f})"
                        f"{seconds.mean():>23.1f}",
                        flush=True,
                    )
    print(environment())


if __name__ == "__main__":
    main()
