"""The figures of conditional_use.md: `python docs/conditional_use.py` writes images/inpainting.png.

One RBM on the pixels of `binary_digits` and ten bits that say which digit it is.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression

import lnz
from lnz.energy import RBM
from lnz.objectives import PCD

NUM_SHOWN, NUM_DRAWS = 10, 4
STEPS = 40_000


def with_labels(pixels, labels):
    return np.concatenate([pixels, np.eye(10, dtype=np.uint8)[labels]], axis=1)


def train(rows):
    rates = jnp.asarray((rows.sum(axis=0) + 1) / (len(rows) + 2), jnp.float32)
    rbm = RBM(rows.shape[1], 128, key=jr.key(0), base_rates=rates)
    method = lnz.Gradient(PCD(1, num_chains=300), optax.sgd(optax.linear_schedule(0.1, 0.0, STEPS)))
    return lnz.fit(jr.key(1), rbm, method, rows, steps=STEPS, batch_size=100).model


def log_p_of_labels(rbm, pixels):
    """`log p(label | pixels)`, `[n, 10]`: ten free energies an example, whose Z cancels."""

    def one(v):
        minus_free_energies = jax.vmap(lambda label: rbm.log_density(jnp.concatenate([v, label])))(jnp.eye(10))
        return jax.nn.log_softmax(minus_free_energies)

    return jax.lax.map(one, jnp.asarray(pixels, jnp.float32), batch_size=256)


def main():
    digits = lnz.data.load("binary_digits")
    train_labels, _, test_labels = digits.labels
    rbm = train(with_labels(digits.train, train_labels))

    log_p = np.asarray(log_p_of_labels(rbm, digits.test))
    accuracy = np.mean(log_p.argmax(axis=1) == test_labels)
    nats = log_p[np.arange(len(test_labels)), test_labels].mean()
    peer = LogisticRegression(max_iter=2000).fit(digits.train, train_labels)
    peer_nats = peer.predict_log_proba(digits.test)[np.arange(len(test_labels)), test_labels].mean()
    print(f"free energy: accuracy {accuracy:.3f}, {nats:.3f} nats a label")
    print(f"logistic regression: accuracy {peer.score(digits.test, test_labels):.3f}, {peer_nats:.3f} nats a label")

    # Inpainting: the upper half is known, the lower half and the label are not.
    shown = digits.test[:NUM_SHOWN]
    known = np.arange(64) < 32
    mask = np.concatenate([known, np.zeros(10, bool)])
    values = np.repeat(with_labels(shown, np.zeros(NUM_SHOWN, int)), NUM_DRAWS, axis=0)
    draws = lnz.sample(jr.key(2), rbm, len(values), clamp=(values, mask), num_steps=500)
    draws = np.asarray(draws)[:, :64].reshape(NUM_SHOWN, NUM_DRAWS, 8, 8)
    assert (draws.reshape(NUM_SHOWN, NUM_DRAWS, 64)[..., known] == shown[:, None, known]).all()

    figure, axes = plt.subplots(
        NUM_DRAWS + 2, NUM_SHOWN, figsize=(NUM_SHOWN * 0.7, (NUM_DRAWS + 2) * 0.75), layout="constrained"
    )
    for i, column in enumerate(axes.T):
        half = np.where(known, shown[i], 0.5).reshape(8, 8)
        for axis, picture in zip(column, (shown[i].reshape(8, 8), half, *draws[i]), strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    for axis, label in zip(axes[:, 0], ("example", "known", *["draw"] * NUM_DRAWS), strict=True):
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
    figure.savefig(Path(__file__).parent / "images" / "inpainting.png", dpi=150)


if __name__ == "__main__":
    main()
