"""Updates per second of an RBM, 784 x 500, batches of 128, against other packages on the same work.

    python benchmarks/speed_rbm.py --peer-python PYTHON --peer-script bench_ebm_peers.py [--rounds 7] [--algos CD-1]

`PYTHON` is the interpreter of an environment with the peers, and `bench_ebm_peers.py` the script that times them: it
prints one line of JSON a run, with the keys `peer`, `algo` and `updates_per_s`. Each round runs this package and every
peer once, each in a process of its own, in an order that turns round from one round to the next. Prints the updates
per second of each, and for each peer the median and the range of the ratios of one round.
Without `--peer-python` only this package is timed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

OWN = "lnz"


def worker(algo, updates, threads):
    """Runs in a process of its own: a training by `lnz.fit`, as a user would call it, after one that compiles."""
    import jax.random as jr
    import numpy as np
    import optax

    import lnz

    kind, k = algo.split("-")
    random = np.random.default_rng(0)
    rates = random.beta(0.25, 1.6, size=784)
    rows = (random.random((60_000, 784), np.float32) < rates).astype(np.uint8)
    objective = lnz.objectives.CD(int(k)) if kind == "CD" else lnz.objectives.PCD(int(k), num_chains=128)
    method = lnz.Gradient(objective, optax.sgd(0.01))
    model = lnz.energy.RBM(784, 500, key=jr.key(0))
    for steps in (20, updates):
        fit = lnz.fit(jr.key(1), model, method, rows, steps=steps, batch_size=128, watch=lnz.Watch(every=steps))
    print(json.dumps({"peer": OWN, "algo": algo, "updates_per_s": updates / fit.history[-1]["seconds"]}))


def rate(name, algo, arguments):
    """Updates per second of one run."""
    updates = arguments.updates if algo.endswith("-1") else max(20, arguments.updates // 5)
    threads = str(arguments.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    if name == OWN:
        command = [sys.executable, __file__, "--worker", algo, "--updates", str(updates), "--threads", threads]
    else:
        command = [arguments.peer_python, str(arguments.peer_script), "--peers", name, "--algos", algo]
        command += ["--updates", str(arguments.updates), "--repeats", "1", "--threads", threads]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = [line["updates_per_s"] for line in lines if line.get("peer") == name and line.get("updates_per_s")]
    if done.returncode or not found:
        raise RuntimeError(f"{name} {algo}: {done.stderr[-500:]} {done.stdout[-500:]}")
    return found[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python")
    parser.add_argument("--peer-script", type=Path)
    parser.add_argument("--peers", default="rbms,learnergy,sklearn,torch-floor")
    parser.add_argument("--algos", default="CD-1,PCD-1,PCD-10")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker")
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.updates, arguments.threads)
        return
    supported = {"learnergy": ("CD-1", "CD-10"), "sklearn": ("PCD-1",)}
    for algo in arguments.algos.split(","):
        peers = arguments.peers.split(",") if arguments.peer_python else []
        names = [OWN, *(peer for peer in peers if algo in supported.get(peer, (algo,)))]
        rates = {name: [] for name in names}
        for number in range(arguments.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                rates[name].append(rate(name, algo, arguments))
            print(f"{algo} round {number + 1}: {', '.join(f'{n} {r[-1]:.0f}' for n, r in rates.items())}", flush=True)
        print(f"{algo} {OWN}: median {statistics.median(rates[OWN]):.0f} updates/s")
        for name in names[1:]:
            ratios = [own / other for own, other in zip(rates[OWN], rates[name], strict=True)]
            middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
            print(f"{algo} {OWN} / {name}: median {middle:.2f}, range {low:.2f} to {high:.2f}", flush=True)


if __name__ == "__main__":
    main()
