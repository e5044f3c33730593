"""Speed of flows against other packages on the same work, as `bench_flow_peers.py` defines it.

    python benchmarks/speed_flows.py --peer-script bench_flow_peers.py --peer-python flowjax=PYTHON \\
        --peer-python zuko,nflows,normflows=PYTHON [--rounds 7] [--models maf,rqs] [--dims 43,2] [--metrics ...]

Each round runs every package once, each in a process of its own, in an order that turns round from one round to the
next. Ratios are of one round, in the favour of this package where above 1: rates by rates, seconds of a first step
(tracing and compiling included) upside down. Prints a table in Markdown, and each run as JSON to `--out`. Without
`--peer-python` only this package is timed.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import peers

# name of the metric: key of the peer script's record, unit, whether more is better
METRICS = {
    "train": ("train_steps_per_s", "training steps/s", True),
    "first": ("first_step_s", "first step, s", False),
    "log_prob": ("log_prob_samples_per_s", "log_prob/s", True),
    "sample": ("sample_samples_per_s", "samples/s", True),
}


def measure(name, python, model, dim, arguments):
    """The record of one run in a process of its own."""
    command = [arguments.peer_script, "--models", model, "--dims", dim, "--threads", arguments.threads]
    command += ["--seconds", arguments.seconds, "--repeats", 1, "--warmup", arguments.warmup]
    adapter = Path(__file__).with_name("flow_adapter.py")
    command += ["--adapter", adapter] if name == peers.OWN else ["--lib", name]
    (line,) = peers.call(name, python, *command, threads=arguments.threads).splitlines()
    if arguments.out:
        with arguments.out.open("a") as file:
            file.write(line + "\n")
    return json.loads(line)


def median_and_range(values, digits):
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{digits}} ({low:{digits}} to {high:{digits}})"


def ratios(own, other, more_is_better):
    pairs = zip(own, other, strict=True)
    return [a / b if more_is_better else b / a for a, b in pairs if a is not None and b is not None]


def rows(model, dim, records, metrics):
    """A row of the table for each metric and package; `records` has the runs of each package."""
    for metric in metrics:
        key, unit, more_is_better = METRICS[metric]
        own = [record.get(key) for record in records[peers.OWN]]
        for name, runs in records.items():
            found = [record.get(key) for record in runs]
            known = [value for value in found if value is not None]
            digits = ".2f" if metric == "first" or (known and max(known) < 100) else ",.0f"
            rate = median_and_range(known, digits) if known else runs[0].get(f"{metric}_error", "failed")
            quotients = [] if name == peers.OWN else ratios(own, found, more_is_better)
            ratio = median_and_range(quotients, ".2f") if quotients else ""
            yield f"| {model} | {dim} | {unit} | {name} | {rate} | {ratio} | {runs[0]['n_params']:,} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers.add_arguments(parser)
    parser.add_argument("--peer-script", type=Path, required=True)
    parser.add_argument("--peers", help="only these of the packages named in --peer-python")
    parser.add_argument("--models", default="maf,rqs")
    parser.add_argument("--dims", default="43,2")
    parser.add_argument("--metrics", default=",".join(METRICS), help="which to report; a run times them all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of each timed stretch")
    parser.add_argument("--warmup", type=int, default=10, help="training steps before timing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="append every run's record to this file")
    arguments = parser.parse_args()
    metrics = arguments.metrics.split(",")
    if unknown := set(metrics) - set(METRICS):
        parser.error(f"--metrics: {sorted(unknown)} are none of {list(METRICS)}")
    pythons = peers.interpreters(arguments)
    chosen = [peers.OWN, *(arguments.peers.split(",") if arguments.peers else list(pythons)[1:])]
    if missing := set(chosen) - set(pythons):
        parser.error(f"--peers: no --peer-python for {sorted(missing)}")

    started, table, versions = time.perf_counter(), [], {}
    for model in arguments.models.split(","):
        for dim in arguments.dims.split(","):
            records = {name: [] for name in chosen}
            for number in range(arguments.rounds):
                for name in chosen if number % 2 == 0 else chosen[::-1]:
                    records[name].append(measure(name, pythons[name], model, dim, arguments))
                last = ", ".join(f"{n} {r[-1].get('train_steps_per_s', 0):.1f}" for n, r in records.items())
                print(f"{model} d={dim} round {number + 1}, steps/s: {last}", file=sys.stderr, flush=True)
            table += rows(model, dim, records, metrics)
            versions |= {name: runs[0]["versions"] for name, runs in records.items()}
    print("| model | d | measured | package | median (range) | lnz ahead by, median (range) | parameters |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(table))
    machine = f"{arguments.threads} thread(s) of {os.cpu_count()}, {platform.machine()}"
    print(f"\n{arguments.rounds} rounds, {machine}, {time.perf_counter() - started:.0f} s in all.")
    for name, found in versions.items():
        print(f"- {name}: {', '.join(f'{package} {number}' for package, number in found.items())}")


if __name__ == "__main__":
    main()
