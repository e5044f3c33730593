"""Speed of variational autoencoders beside a hand-written PyTorch loop and Pythae, on the work of `bench_vae_peers.py`.

    python benchmarks/speed_vae.py --peer-script bench_vae_peers.py --peer-python PYTHON [--rounds 7] [--works mlp,conv]

`PYTHON` is the interpreter of an environment with torch and pythae. The works, with 20 latents, a Bernoulli likelihood
of 784 pixels and batches of 128:

- `mlp`: training steps/s of 784-500-20-500-784, rectified units;
- `conv`: training steps/s of two strided convolutions (32 and 64 channels) and their transposes;
- `iwae`: training steps/s of the first by `IWAE(50)`;
- `nll`: importance samples/s of the log-likelihood of 16 images with 500 samples each, here with its error bar.

Each round runs this package and the script of the peers once for each work, in processes of their own and in an order
that turns round. Printed are the rates, and for each peer the median and the range of the ratios of one round. Without
`--peer-python` only this package is timed.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import peers

HIDDEN, LATENT, BATCH, PIXELS = 500, 20, 128, 784
WORKS = {
    "mlp": ("vae_train", "mlp"),
    "conv": ("vae_train", "conv"),
    "iwae": ("iwae_train", "mlp"),
    "nll": ("nll_is", "mlp"),
}
NUM_IWAE, NUM_IMAGES, NUM_SAMPLES = 50, 16, 500


def images():
    """Binary pictures of low rank."""
    import numpy as np

    random = np.random.default_rng(0)
    prototypes = np.kron(random.standard_normal((10, 7, 7)), np.ones((4, 4))).reshape(10, PIXELS)
    logits = 2 * random.standard_normal((BATCH * 100, 10)) @ prototypes / np.sqrt(10) - 1
    return (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)


def build(kind):
    import jax.numpy as jnp
    import jax.random as jr

    import lnz

    key_encoder, key_decoder = jr.split(jr.key(0))
    if kind == "conv":
        to_latent = lnz.nets.ConvEncoder((1, 28, 28), 2 * LATENT, key=key_encoder)
        to_pixels = lnz.nets.ConvDecoder(LATENT, (1, 28, 28), key=key_decoder)
    else:
        to_latent = lnz.nets.MLP(PIXELS, 2 * LATENT, key=key_encoder, width=HIDDEN, depth=1)
        to_pixels = lnz.nets.MLP(LATENT, PIXELS, key=key_decoder, width=HIDDEN, depth=1)
    encoder = lnz.Conditional(lnz.Normal.standard(LATENT), to_latent)
    decoder = lnz.Conditional(lnz.Bernoulli(jnp.zeros(PIXELS)), to_pixels)
    return lnz.latent.VAE(lnz.Normal.standard(LATENT), decoder, encoder)


def worker(work, steps):
    """Runs in a process of its own: what a user would call, after a call that compiles."""
    import jax.random as jr
    import optax

    import lnz

    bench, kind = WORKS[work]
    data, model = images(), build(kind)
    if work == "nll":
        method = lnz.normalizers.Importance(NUM_SAMPLES)
        for _ in range(2):
            start = time.perf_counter()
            result = lnz.evaluate(jr.key(1), model, data[:NUM_IMAGES], hidden=method)
            seconds = time.perf_counter() - start
        rate = {"samples_per_s": NUM_IMAGES * NUM_SAMPLES / seconds, "error": result.monte_carlo_error}
    else:
        objective = lnz.objectives.IWAE(NUM_IWAE) if work == "iwae" else lnz.objectives.ELBO()
        method = lnz.Gradient(objective, optax.adam(1e-3))
        for num in (5, steps):
            fit = lnz.fit(jr.key(1), model, method, data, steps=num, batch_size=BATCH, watch=lnz.Watch(every=num))
        rate = {"steps_per_s": steps / fit.history[-1]["seconds"]}
    print(json.dumps({"bench": bench, "model": kind, "peer": peers.OWN, **rate}))


def rates_of(name, python, work, arguments):
    """The rate of each package that one process timed."""
    bench, kind = WORKS[work]
    steps = arguments.steps // {"mlp": 1, "conv": 4, "iwae": 10, "nll": 1}[work]
    if name == peers.OWN:
        command = [__file__, "--worker", work, "--steps", steps]
    else:
        command = [
            arguments.peer_script,
            "--threads",
            arguments.threads,
            "--models",
            kind if bench == "vae_train" else "",
        ]
        command += ["--steps", steps, "--conv-steps", steps, "--iwae-steps", steps, "--repeats", 1, "--batch", BATCH]
        command += ["--iwae-k", NUM_IWAE if work == "iwae" else 0, "--nll-samples", NUM_SAMPLES]
        command += ["--nll-images", NUM_IMAGES if work == "nll" else 0]
    lines = peers.call(name, python, *command, threads=arguments.threads).splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    key = "samples_per_s" if work == "nll" else "steps_per_s"
    return {line["peer"]: line[key] for line in found if line.get("bench") == bench and key in line}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python")
    parser.add_argument("--peer-script", type=Path)
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.steps)
        return
    pythons = {peers.OWN: sys.executable} | ({"peers": arguments.peer_python} if arguments.peer_python else {})
    print("| work | package | rate, median (range) | lnz ahead by, median (range) |\n|---|---|---|---|")
    for work in arguments.works.split(","):
        rounds = []
        for number in range(arguments.rounds):
            found = {}
            for name in list(pythons)[:: 1 if number % 2 == 0 else -1]:
                found |= rates_of(name, pythons[name], work, arguments)
            rounds.append(found)
            print(f"{work} round {number + 1}: {found}", file=sys.stderr, flush=True)
        for name in sorted(rounds[0], key=lambda name: name != peers.OWN):
            rates = [found[name] for found in rounds]
            ratios = [found[peers.OWN] / found[name] for found in rounds]
            ahead = "" if name == peers.OWN else describe(ratios, ".2f")
            unit = "samples/s" if work == "nll" else "steps/s"
            print(
                f"| {work} | {name} | {describe(rates, ',.0f' if work == 'nll' else '.1f')} {unit} | {ahead} |",
                flush=True,
            )


def describe(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
