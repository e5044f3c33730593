"""The smile vector: what a direction in the latents of faces does, by classifiers that never saw a latent.

    LNZ_DATA=... python benchmarks/smile.py [--steps 1500] [--out runs/smile]

`vae_faces` is trained from nothing. A vector is made of the latents of the training rows by each method of
`lnz.latent.attribute_vector`, and measured on the test rows by `lnz.latent.attribute_quality`: how many faces change
from neutral to smiling or back, by logistic regression of training pictures of 16 x 16 blocks; how many are still
nearest to themselves; and what else changes. The data say of a face only whether it smiles, so the other attributes
are made of the pixels: whether it is brighter than the median face, lit more from the left, and more from above. As
a control stands a random direction of the same length. The strength of a vector is chosen on the validation rows: the
smallest of 0.5, 1, 2 and 4 that flips most of what the strongest flips. `--out` gets pictures of some faces.
"""

import argparse
import functools
import platform
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
from PIL import Image

import lnz
from lnz import latent, recipes
from lnz.latent._logistic import LogisticRegression

STRENGTHS = (0.5, 1.0, 2.0, 4.0)
MOST = 0.95  # of the flips of the strongest


def of_pixels(rows, medians):
    """Attributes that can be told from the pixels, against those of the median training face."""
    pictures = np.asarray(rows, float).reshape(len(rows), 64, 64)
    left, right = pictures[:, :, :32].mean(axis=(1, 2)), pictures[:, :, 32:].mean(axis=(1, 2))
    numbers = {"bright": pictures.mean(axis=(1, 2)), "lit from the left": left - right}
    numbers["lit from above"] = pictures[:, :32].mean(axis=(1, 2)) - pictures[:, 32:].mean(axis=(1, 2))
    medians = medians or {name: np.median(values) for name, values in numbers.items()}
    return {name: values > medians[name] for name, values in numbers.items()}, medians


def judge_of(rows, labels):
    fitted = LogisticRegression.fit(blocks(rows), labels, 1e-2)
    return lambda rows: fitted.predict(blocks(rows))


def blocks(rows):
    """Means of blocks of 4 x 4 pixels."""
    return np.asarray(rows, float).reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4)).reshape(len(rows), 256)


def vectors(z, smiles, attributes, seed):
    light = sum(2**i * attributes[name] for i, name in enumerate(attributes))
    made = {
        "difference of means": latent.attribute_vector(z, smiles),
        "balanced over the other three": latent.attribute_vector(z, smiles, method="balanced", other=light),
        "classifier": latent.attribute_vector(z, smiles, method="linear_classifier"),
    }
    random = np.random.default_rng(seed).standard_normal(z.shape[1:]).astype(z.dtype)
    length = np.linalg.norm(made["difference of means"])
    return {**made, "random of the same length": random * length / np.linalg.norm(random)}


def describe(record):
    return ", ".join(f"{name} {float(value):.5g}" for name, value in record.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/smile"))
    arguments = parser.parse_args()
    recipe = recipes.vae_faces
    # The parameters of the last step are taken: one draw each at the end is no help in choosing, and enough to see.
    whole = {"train.steps": arguments.steps, "train.valid_every": arguments.steps, "seed": arguments.seed}
    settings = recipe.resolve({**whole, "train.keep": "last", "evaluate.num_samples_while_training": 2})
    splits = recipe.load(settings)
    started = time.perf_counter()
    model = recipe.fit(
        splits, settings, watch=lnz.Watch(progress=lambda record: print(describe(record), flush=True))
    ).model
    seconds = time.perf_counter() - started
    arguments.out.mkdir(parents=True, exist_ok=True)
    lnz.save(arguments.out / "model.lnz", model)

    train, valid, test = (np.asarray(part) for part in (splits.train, splits.valid, splits.test))
    smiles, smiles_valid, smiles_test = (labels == splits.label_names.index("smile") for labels in splits.labels)
    attributes, medians = of_pixels(train, None)
    attributes_test, _ = of_pixels(test, medians)
    judge = judge_of(train, smiles)
    others = {name: judge_of(train, values) for name, values in attributes.items()}
    bits = lnz.evaluate(jr.key(1), model, test[:200], hidden=lnz.normalizers.Bound(16)).in_bits
    print(f"\nTrained for {arguments.steps} steps in {seconds:.0f} s; ELBO of the first 200 test rows: {bits}.\n")

    z = latent.embed(model, train)
    made = vectors(z, smiles, attributes, arguments.seed)
    names = [*attributes]
    head = ["vector", "strength", "flip rate", *[f"leakage: {name}" for name in names], "identity", "distance"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name, vector in made.items():
        measure = functools.partial(latent.attribute_quality, model, vector, train=judge)
        rates = [measure(valid, smiles_valid, strength=strength).flip_rate for strength in STRENGTHS]
        strength = next(s for s, rate in zip(STRENGTHS, rates, strict=True) if rate >= MOST * rates[-1])
        quality = measure(test, smiles_test, others=others, strength=strength)
        numbers = [quality.flip_rate, *quality.leakage.values(), quality.identity, quality.distance]
        print(f"| {name} | {strength:g} | {' | '.join(f'{number:.3f}' for number in numbers)} |", flush=True)
        grid(arguments.out / f"{name.split()[0]}.png", model, test, smiles_test, vector, strength)
    print(f"\nThe judge is right about {quality.accuracy:.3f} of the {quality.num} test faces as they are.")
    for name, values in attributes_test.items():
        right, together = np.mean(others[name](test) == values), np.corrcoef(values, smiles_test)[0, 1]
        print(f"That of {name!r} about {right:.3f}; its correlation with the smile is {together:+.2f} there.")
    print(f"\n{jax.devices()[0].device_kind}, Python {platform.python_version()}, jax {version('jax')}")


def grid(path, model, rows, smiles, vector, strength):
    """Four neutral faces that are made to smile, and four smiling ones the other way, the face itself on the left."""
    chosen = rows[np.concatenate([np.flatnonzero(~smiles)[:4], np.flatnonzero(smiles)[:4]])]
    sign = np.repeat([1.0, -1.0], 4)
    steps = strength * np.array([0.0, 0.5, 1.0])
    forwards, backwards = (latent.manipulate(model, chosen, vector, way * steps) for way in (1, -1))
    moved = np.where((sign > 0).reshape(-1, 1, 1), forwards, backwards)
    pictures = np.concatenate([chosen[:, None], moved], axis=1).reshape(8, 4, 64, 64)
    picture = np.clip(pictures, 0, 255).transpose(0, 2, 1, 3).reshape(8 * 64, 4 * 64)
    Image.fromarray(picture.astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
