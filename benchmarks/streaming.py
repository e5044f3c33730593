"""Training from a file larger than the memory one wants to spend, against the same rows on the device.

    python benchmarks/streaming.py FOLDER [--gib 4] [--rounds 7] [--steps 10000]

Writes rows.npy and rows.parquet of the given size into FOLDER once (784 columns of bits in bytes). Each round trains an
RBM with 784 visible and 64 hidden units for the same number of steps, in processes of their own, from rows on the
device, from the mapped .npy, and from the Parquet file through `lnz.data.load`, which converts it once. Prints
the ratio of the times of training to that of rows on the device, the median of the rounds and their range, and how
much memory each needed beyond a training on 1000 rows: the peak resident set, which counts pages of the file, and the
anonymous part.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

KINDS = ("resident", "npy", "parquet")


def write_rows(path, gib):
    import numpy as np

    num = int(gib * 2**30) // 784
    rows = np.lib.format.open_memmap(path, "w+", np.uint8, (num, 784))
    random = np.random.RandomState(0)
    for start in range(0, num, 100_000):
        part = rows[start : start + 100_000]
        part[:] = random.randint(0, 256, part.shape, np.uint8) < 33
    rows.flush()


def write_parquet(path, source):
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    rows = np.load(source, mmap_mode="r")
    names = [f"x{i}" for i in range(784)]
    schema = pa.schema([(name, pa.uint8()) for name in names])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(rows), 100_000):
            part = np.ascontiguousarray(rows[start : start + 100_000].T)
            writer.write_table(pa.table({name: column for name, column in zip(names, part, strict=True)}))


def train(kind, folder, steps):
    """Runs in a process of its own; prints seconds and peak memory."""
    import threading

    import jax.random as jr
    import numpy as np
    import optax

    import lnz

    anonymous, done = [0], threading.Event()

    def watch():
        while not done.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            anonymous.append(next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))

    threading.Thread(target=watch, daemon=True).start()
    started = time.perf_counter()
    if kind == "parquet":
        rows = lnz.data.load(folder / "rows.parquet", valid_fraction=0.001, test_fraction=0.001).train
    else:
        rows = np.load(folder / "rows.npy", mmap_mode="r")
        rows = {"npy": rows, "resident": None, "few": rows[:1000].copy()}[kind]
        if rows is None:
            rows = np.load(folder / "rows.npy")
    opening = time.perf_counter() - started
    model = lnz.energy.RBM(784, 64, key=jr.key(0))
    method = lnz.Gradient(lnz.objectives.PCD(1, num_chains=100), optax.adam(1e-3))
    fit = lnz.fit(jr.key(1), model, method, rows, steps=steps, batch_size=100)
    done.set()
    # Not `ru_maxrss`, which counts what the process that started this one had in memory.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(
        json.dumps(
            {
                "seconds": fit.history[-1]["seconds"],
                "opening": opening,
                "peak": peak / 2**20,
                "anonymous": max(anonymous) / 2**20,
            }
        )
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--one")
    arguments = parser.parse_args()
    folder = arguments.folder
    if arguments.one:
        train(arguments.one, folder, arguments.steps)
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "rows.npy").exists():
        write_rows(folder / "rows.npy", arguments.gib)
    if not (folder / "rows.parquet").exists():
        write_parquet(folder / "rows.parquet", folder / "rows.npy")

    def run(kind):
        command = [sys.executable, __file__, str(folder), "--steps", str(arguments.steps), "--one", kind]
        environment = {**os.environ, "LNZ_CACHE": str(folder / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return json.loads(done.stdout.splitlines()[-1])

    few = run("few")
    print(f"1000 rows: peak {few['peak']:.2f} GiB, anonymous {few['anonymous']:.2f} GiB", flush=True)
    print(f"Parquet, converted: opening {run('parquet')['opening']:.1f} s", flush=True)
    ratios = {kind: [] for kind in KINDS[1:]}
    for number in range(arguments.rounds):
        order = KINDS if number % 2 == 0 else KINDS[::-1]
        results = {kind: run(kind) for kind in order}
        for kind, values in ratios.items():
            values.append(results[kind]["seconds"] / results["resident"]["seconds"])
        words = []
        for kind, result in results.items():
            more = {what: result[what] - few[what] for what in ("peak", "anonymous")}
            memory = f"peak +{more['peak']:.2f} GiB, anonymous +{more['anonymous']:.2f} GiB"
            words.append(f"{kind} {result['seconds']:.2f} s (opening {result['opening']:.1f} s, {memory})")
        print(f"round {number + 1}: {', '.join(words)}", flush=True)
    for kind, values in ratios.items():
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{kind} / resident: median {middle:.4f}, range {low:.4f} to {high:.4f}")


if __name__ == "__main__":
    main()
