"""Training from a file larger than the memory one wants to spend, against the same rows on the device.

    python benchmarks/streaming.py FOLDER [--gib 4] [--pairs 7] [--steps 400] [--parquet]

Writes rows.npy (and rows.parquet) of the given size into FOLDER once. Each pair trains an RBM with 784 visible and 500
hidden units for the same number of steps from both, each in a process of its own; prints the ratio of their times, the
median of interleaved pairs and their range, and how much memory each needed beyond a training on 1000 rows.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path


def write_rows(path, gib):
    import numpy as np

    if path.exists():
        return
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

    if path.exists():
        return
    rows = np.load(source, mmap_mode="r")
    names = [f"x{i}" for i in range(784)]
    schema = pa.schema([(name, pa.uint8()) for name in names])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, len(rows), 100_000):
            part = np.ascontiguousarray(rows[start : start + 100_000].T)
            writer.write_table(pa.table({name: column for name, column in zip(names, part, strict=True)}))


def one(kind, path, steps):
    """Runs in a process of its own; prints seconds and peak memory."""
    import jax.random as jr
    import numpy as np
    import optax

    import lnz

    if kind == "parquet":
        started = time.perf_counter()
        rows = lnz.data.load(path, valid_fraction=0.001, test_fraction=0.001).train
        opening = time.perf_counter() - started
    else:
        rows, opening = np.load(path, mmap_mode="r"), 0.0
        rows = {"stream": lambda: rows, "resident": lambda: np.array(rows), "few": lambda: np.array(rows[:1000])}[
            kind
        ]()
    model = lnz.energy.RBM(784, 500, key=jr.key(0))
    method = lnz.Gradient(lnz.objectives.PCD(1, num_chains=100), optax.adam(1e-3))
    fit = lnz.fit(jr.key(1), model, method, rows, steps=steps, batch_size=100)
    status = Path("/proc/self/status").read_text()
    anonymous = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {"seconds": fit.history[-1]["seconds"], "peak_kib": peak, "anonymous_kib": anonymous, "opening": opening}
        )
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--parquet", action="store_true")
    parser.add_argument("--one", nargs=2)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], arguments.one[1], arguments.steps)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    npy = arguments.folder / "rows.npy"
    write_rows(npy, arguments.gib)

    def run(kind, path=npy):
        command = [sys.executable, __file__, str(arguments.folder), "--steps", str(arguments.steps)]
        done = subprocess.run([*command, "--one", kind, str(path)], capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    few = run("few")
    print(f"1000 rows: peak {few['peak_kib'] / 2**20:.2f} GiB")
    ratios = []
    for pair in range(arguments.pairs):
        order = ("stream", "resident") if pair % 2 == 0 else ("resident", "stream")
        results = {kind: run(kind) for kind in order}
        ratios.append(results["stream"]["seconds"] / results["resident"]["seconds"])
        extra = {kind: (result["peak_kib"] - few["peak_kib"]) / 2**20 for kind, result in results.items()}
        print(
            f"pair {pair + 1}: stream {results['stream']['seconds']:.2f} s (+{extra['stream']:.2f} GiB), "
            f"resident {results['resident']['seconds']:.2f} s (+{extra['resident']:.2f} GiB), ratio {ratios[-1]:.4f}"
        )
    print(f"ratio: median {statistics.median(ratios):.4f}, range {min(ratios):.4f} to {max(ratios):.4f}")
    if arguments.parquet:
        path = arguments.folder / "rows.parquet"
        write_parquet(path, npy)
        for time_ in ("first", "second"):
            result = run("parquet", path)
            extra = (result["peak_kib"] - few["peak_kib"]) / 2**20
            seconds = f"opening {result['opening']:.1f} s, training {result['seconds']:.2f} s"
            print(f"parquet, {time_} time: {seconds}, +{extra:.2f} GiB")


if __name__ == "__main__":
    main()
