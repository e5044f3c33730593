"""Rows of published tables of variational autoencoders on binarized MNIST and Frey faces, by this package's recipes.

    LNZ_DATA=... python benchmarks/published_tables.py [--rows vae_mnist,vae_frey] [--set train.steps=20000]

A row is a recipe with its settings, trained from nothing; the likelihood of the test rows is by importance sampling
with 5000 draws, a lower bound: the protocol of the published figures. The split is that of `binary_mnist` (50000, 10000
and 10000 fixed binary pictures); Frey faces are split at random, so that neighbouring frames stand in all parts, as in
the papers. `--set` changes a setting of every row that is run, and the table says so. On a CPU the rows of MNIST take
hours each: they wait for a GPU. The published figures are from memory: check the papers before citing one.
"""

import argparse
import json
import math
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import jax

from lnz import recipes
from lnz.runs import TrainOptions, train

# What papers print, in nats an example (frey: bits a dimension), and where.
PUBLISHED = {
    "vae_mnist": ("VAE", "-89.8 or better", "Sonderby et al. (2016), table 1; Tomczak and Welling (2018), table 1"),
    "vae_mnist_conv": ("convolutional VAE", "", ""),
    "iwae_mnist": ("IWAE-50", "-86.8 or better", "Burda et al. (2016), table 1"),
    "vae_mnist_planar": ("VAE + planar flow of 80", "-85.1", "Rezende and Mohamed (2015), table 2"),
    "vae_mnist_iaf": ("VAE + IAF", "", ""),
    "vampprior_mnist": ("VampPrior of 500", "-85.57", "Tomczak and Welling (2018), table 1"),
    "hvae_mnist": ("two layers + VampPrior", "-83.2", "Tomczak and Welling (2018), table 2"),
    "vae_frey": ("PixelVAE of Frey faces, bits/dim", "4.35 or less", "Tomczak and Welling (2018)"),
}

SHUFFLED_FREY = {"data.valid_fraction": 0.1, "data.test_fraction": 0.1}


def run(name, changes, folder):
    recipe = getattr(recipes, name)
    if name == "vae_frey":  # shuffled, as in the papers; the data set of this name is split by blocks of the video
        changes = {**SHUFFLED_FREY, "data.source": str(Path(os.environ["LNZ_DATA"], "frey_faces.npz")), **changes}
    settings = recipe.resolve(changes)
    started = time.perf_counter()
    train(folder / name, recipe, settings, options=TrainOptions(overwrite=True))
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(PUBLISHED))
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    arguments = parser.parse_args()
    changes = dict(item.split("=", 1) for item in arguments.set)
    head = "| row | published | lnz, nats per example | bits/dim | kind of bound | steps | seconds | changes |"
    lines = [head, "|---" * 8 + "|"]
    for name in arguments.rows.split(","):
        seconds = run(name, changes, arguments.out)
        report = json.loads((arguments.out / name / "report.json").read_text("utf-8"))
        config = json.loads((arguments.out / name / "config.json").read_text("utf-8"))
        lines.append(describe(name, report, config, seconds, arguments.set))
        print("\n".join(lines), flush=True)
    print(f"\n{jax.devices()[0].device_kind}, Python {platform.python_version()}, jax {version('jax')}")


def describe(name, report, config, seconds, changes):
    title, value, source = PUBLISHED[name]
    row = report["rows"][name]
    error = math.hypot(row["data_error"], row["monte_carlo_error"])
    bits = row["bits_per_dimension"]
    cells = [title, f"{value} ({source})" if source else "", f"{row['value']:.2f} ± {error:.2f}", f"{bits:.3f}"]
    cells += [row["bound"], config["settings"]["train"]["steps"], f"{seconds:.0f}", " ".join(changes)]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
