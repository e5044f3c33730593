"""The curves of reconstruction_error.md: `python docs/reconstruction_error.py` writes images/reconstruction_error.png.

One RBM with 16 hidden units on `binary_digits`, trained by CD-1 and by PCD-1. Log Z is enumerated, so the likelihood
is exact.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import lnz
from lnz.energy import RBM, pseudo_log_likelihood, reconstruction_error
from lnz.normalizers import Quadrature

STEPS, EVERY = 40_000, 1_000


def curves(objective):
    """`[record, (step, nats, reconstruction, pseudo-likelihood)]` on the test rows."""
    digits = lnz.data.load("binary_digits")
    test = jnp.asarray(digits.test, jnp.float32)
    records = []

    @jax.jit
    def watch(model):
        log_z = Quadrature()(jr.key(0), model).value
        nats = jnp.mean(jax.vmap(model.log_density)(test)) - log_z
        reconstruction = jnp.mean(jax.vmap(lambda v: reconstruction_error(model, v))(test))
        pseudo = jnp.mean(jax.vmap(lambda v: pseudo_log_likelihood(model, v))(test))
        return nats, reconstruction, pseudo

    def evaluator(key, model, valid):
        records.append([float(value) for value in watch(model)])
        return lnz.evaluate(key, model, valid, partition=Quadrature())

    lnz.fit(
        jr.key(1),
        RBM(64, 16, key=jr.key(0)),
        lnz.Gradient(objective, optax.sgd(0.1)),
        digits.train,
        steps=STEPS,
        batch_size=100,
        valid=lnz.Validation(digits.valid[:10], EVERY, evaluator),
    )
    return np.column_stack([np.arange(1, len(records) + 1) * EVERY, np.array(records)])


def main():
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    objectives = {"CD-1": lnz.objectives.CD(1), "PCD-1": lnz.objectives.PCD(1)}
    for name, objective in objectives.items():
        x = curves(objective)
        for axis, column in zip(axes, (1, 2, 3), strict=True):
            axis.plot(x[:, 0], x[:, column], label=name)
        first, last = x[0], x[-1]
        best = x[np.argmax(x[:, 1])]
        for what, row in (("first", first), ("best likelihood", best), ("last", last)):
            step, nats, reconstruction, pseudo = row
            print(f"{name} {what}: step {step:.0f}, {nats:.2f} nats, reconstruction {reconstruction:.2f}, {pseudo:.2f}")
    titles = ("log-likelihood, exact", "reconstruction error", "pseudo-likelihood")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="step", ylabel="nats per test example")
    axes[0].legend(frameon=False)
    figure.savefig(Path(__file__).parent / "images" / "reconstruction_error.png", dpi=150)


if __name__ == "__main__":
    main()
