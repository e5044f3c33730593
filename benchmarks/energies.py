"""How near flows come to the four energies of Rezende and Mohamed (2015), table 1: KL(q || p) in nats, by quadrature.

    python benchmarks/energies.py [--energies 1,2,3,4] [--flows planar-2,planar-8,planar-32,spline] [--seeds 5]

Each flow is fitted by the recipe `flow_energy`, by its defaults but for the architecture: reverse KL, without data.
Energies 2 to 4 are confined as `lnz.distributions.PlanarEnergy` states, for on the whole plane they have no normaliser.
Both densities are integrated on one grid: printed are the median over seeds and the range, the largest difference from
the grid with every other point, and by how much the integral of q on the grid is off one, in nats.
"""

import argparse
import functools
import statistics
import time

import jax

import lnz
from lnz.distributions import PlanarEnergy
from lnz.recipes import flow_energy


@functools.cache
def load(number):
    """Only the name is used: the recipe learns from no rows."""
    return flow_energy.load(flow_energy.resolve({"data.source": f"energy_{number}"}))


def fitted(number, name, seed, steps):
    """The recipe's flow of spline couplings, or `planar-K`: K planar layers, whose base starts wider."""
    kind, _, num_layers = name.partition("-")
    changes = {"seed": str(seed), "data.source": f"energy_{number}", "train.steps": str(steps)}
    if kind == "planar":
        changes |= {"model.flow": "planar", "model.flow.num_layers": num_layers, "model.start_scale": "2.0"}
    elif name != "spline":
        raise SystemExit(f"--flows: planar-K or spline; got {name!r}")
    settings = flow_energy.resolve(changes)
    key, model, method = flow_energy.start(load(number), settings)
    return lnz.fit(key, model, method, None, steps=steps).model


def divergence(number, name, seed, arguments):
    flow = fitted(number, name, seed, arguments.steps)
    bounds = (-arguments.bound, arguments.bound)
    return lnz.kl_divergence(flow, PlanarEnergy(number), num=arguments.points, bounds=bounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--energies", default="1,2,3,4")
    parser.add_argument("--flows", default="planar-2,planar-8,planar-32,spline")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--steps", type=int, default=flow_energy.settings.train.steps)
    parser.add_argument("--points", type=int, default=801, help="of the grid, a side; odd")
    parser.add_argument("--bound", type=float, default=10.0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    print("| energy | flow | KL(q, p), nats: median (range) | error of the grid | log of the integral of q |")
    print("|---|---|---|---|---|", flush=True)
    for number in map(int, arguments.energies.split(",")):
        for name in arguments.flows.split(","):
            found = [divergence(number, name, arguments.first_seed + i, arguments) for i in range(arguments.seeds)]
            values = [float(estimate.value) for estimate in found]
            grid = max(float(estimate.standard_error) for estimate in found)
            missed = max((float(estimate.extras["log_integral_q"]) for estimate in found), key=abs)
            middle = f"{statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})"
            print(f"| {number} | {name} | {middle} | {grid:.1g} | {missed:+.1g} |", flush=True)
    print(f"\n{arguments.seeds} seeds, {arguments.steps} steps, {time.perf_counter() - started:.0f} s in all ", end="")
    print(f"on {jax.devices()[0]}.")


if __name__ == "__main__":
    main()
