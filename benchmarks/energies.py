"""How near flows come to the four energies of Rezende and Mohamed (2015), table 1: KL(q || p) in nats, by quadrature.

    python benchmarks/energies.py [--energies 1,2,3,4] [--flows planar-2,planar-8,planar-32,spline] [--seeds 3]

Each flow is fitted without data by reverse KL (the target tempered for the first half of the steps, as in the paper's
annealing), Adam with a rate that falls to zero. Energies 2 to 4 are confined as `lnz.distributions.PlanarEnergy`
states, for on the whole plane they have no normaliser. Both densities are integrated on one grid: printed are the
median over seeds and the range, the largest difference from the grid with every other point, and by how much the
integral of q on the grid is off one, in nats.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import lnz
from lnz.distributions import PlanarEnergy


def make_flow(name, key):
    """`planar-K`, or eight spline couplings; the base is a normal whose scale is learned."""
    space = lnz.Euclidean(2)
    kind, _, num_layers = name.partition("-")
    if kind == "planar":
        bijection = lnz.flows.planar(space, key=key, num_layers=int(num_layers))
    elif kind == "spline":
        bijection = lnz.flows.coupling_spline(space, key=key, num_layers=8, width=64, bound=5.0, order="reverse")
    else:
        raise SystemExit(f"--flows: planar-K or spline; got {name!r}")
    return lnz.Transformed(lnz.Normal(jnp.zeros(2), 2.0), bijection)


def divergence(energy, name, seed, arguments):
    steps = arguments.steps
    objective = lnz.objectives.ReverseKL(energy, num_samples=arguments.samples, num_annealed=steps // 2)
    rate = optax.cosine_decay_schedule(arguments.lr, steps)
    method = lnz.Gradient(objective, optax.chain(optax.clip_by_global_norm(5.0), optax.adam(rate)))
    key_flow, key_fit = jr.split(jr.key(seed))
    fit = lnz.fit(key_fit, make_flow(name, key_flow), method, None, steps=steps)
    bounds = (-arguments.bound, arguments.bound)
    return lnz.kl_divergence(fit.model, energy, num=arguments.points, bounds=bounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--energies", default="1,2,3,4")
    parser.add_argument("--flows", default="planar-2,planar-8,planar-32,spline")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--samples", type=int, default=256, help="draws a step")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--points", type=int, default=801, help="of the grid, a side; odd")
    parser.add_argument("--bound", type=float, default=10.0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    print("| energy | flow | KL(q, p), nats: median (range) | error of the grid | log of the integral of q |")
    print("|---|---|---|---|---|", flush=True)
    for number in map(int, arguments.energies.split(",")):
        for name in arguments.flows.split(","):
            found = [divergence(PlanarEnergy(number), name, seed, arguments) for seed in range(arguments.seeds)]
            values = [float(estimate.value) for estimate in found]
            grid = max(float(estimate.standard_error) for estimate in found)
            missed = max((float(estimate.stats["log_integral_q"]) for estimate in found), key=abs)
            middle = f"{statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})"
            print(f"| {number} | {name} | {middle} | {grid:.1g} | {missed:+.1g} |", flush=True)
    print(f"\n{arguments.seeds} seeds, {arguments.steps} steps, {time.perf_counter() - started:.0f} s in all ", end="")
    print(f"on {jax.devices()[0]}.")


if __name__ == "__main__":
    main()
