"""Test nats of flows beside other packages: equal architecture, data, batches and steps.

    python benchmarks/flow_accuracy.py --peer-script bench_flow_peers.py --peer-python flowjax=PYTHON \\
        --peer-python zuko=PYTHON [--tables two_moons,protein,elevators,miniboone] [--models maf,rqs] [--seeds 5]

Each training is a process of its own in its package's environment, and gets the data as a file: standardised by the
training rows, and the order of the batches from a seed of NumPy. Architectures are those of `bench_flow_peers.py`, only
smaller; Adam, its rate falling to zero as a cosine, without which the last steps are mostly noise. Every `--check`
steps the validation rows are scored, and the test rows count at the best of these steps.

A test row's log-density is the mean over seeds (of the start, of the split being one). Printed are the mean in nats,
and for each peer the mean of the paired differences (this package minus the peer; above zero is better) and their range
over seeds. Their standard error is that of test rows and of starts together, in quadrature: both are random, and some
starts end in a worse optimum, whichever the package. The tables need `LNZ_DATA`.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import peers

GENERATED = "two_moons"
WITH_OPTAX = (peers.OWN, "flowjax")


def load_module(path):
    spec = importlib.util.spec_from_file_location("flows_of_the_package", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def worker(arguments):
    """Runs in a process and an environment of its own, which need have NumPy and the package only."""
    config = SimpleNamespace(
        **{name: getattr(arguments, name) for name in ("width", "depth", "bins", "batch", "lr", "seed", "threads")},
        maf_layers=arguments.layers,
        rqs_layers=arguments.layers,
        tail_bound=arguments.tail_bound,
        device="cpu",
        torch_compile=False,
    )
    script = load_module(arguments.peer_script)
    script.pin(config)
    if arguments.worker in WITH_OPTAX:  # takes a schedule where a number goes
        import optax

        config.lr = optax.cosine_decay_schedule(arguments.lr, arguments.steps)
    data = np.load(arguments.data)
    module = load_module(arguments.adapter) if arguments.adapter else script
    build = module.build if arguments.adapter else script.BUILDERS[arguments.worker]
    flow = build(arguments.models, data["train"].shape[1], config)
    train, valid, test = (flow.put(data[name]) for name in ("train", "valid", "test"))
    random, order = np.random.default_rng([arguments.seed, 1]), np.zeros(0, int)
    best, scores, best_step = -np.inf, None, 0
    for step in range(1, arguments.steps + 1):
        if len(order) < arguments.batch:
            order = random.permutation(len(data["train"]))
        rows, order = order[: arguments.batch], order[arguments.batch :]
        if arguments.worker not in WITH_OPTAX:
            flow.opt.param_groups[0]["lr"] = arguments.lr * (1 + np.cos(np.pi * (step - 1) / arguments.steps)) / 2
        flow.train_step(train[rows])
        if step % arguments.check == 0:
            score = flow.log_prob(valid).astype(np.float64).mean()
            if score > best:
                best, scores, best_step = score, flow.log_prob(test), step
    np.savez(arguments.out, test=scores, valid=best, step=best_step, num_params=flow.n_params)


def two_moons(random):
    n = 12_000
    angle, up = random.uniform(0, np.pi, n), random.integers(0, 2, n) == 1
    x = np.where(up, np.cos(angle), 1 - np.cos(angle)), np.where(up, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack(x, 1) + 0.08 * random.standard_normal((n, 2))


def table(name, folder, random):
    """Distinct rows in a random order; without columns of one value; with noise as wide as the smallest gap."""
    if name == "miniboone":
        rows = np.load(folder / "miniboone_first1523.npy").astype(np.float64)
    else:
        rows = np.load(folder / "uci_regression_small.npz")[name].astype(np.float64)
    rows = np.unique(rows, axis=0)
    rows = rows[:, rows.min(axis=0) < rows.max(axis=0)]
    # Float32 numbers that should be equal differ in their last digits.
    values = [np.unique(np.round(column / column.std(), 4)) * column.std() for column in rows.T]
    gaps = np.array([np.min(np.diff(found)) if len(found) < len(rows) / 2 else 0 for found in values])
    rows = rows + gaps * random.uniform(size=rows.shape)
    return random.permutation(rows)


def prepare(name, arguments, path):
    random = np.random.default_rng(0)
    rows = two_moons(random) if name == GENERATED else table(name, Path(os.environ["LNZ_DATA"]), random)
    rows = rows[: arguments.rows]
    test, valid = len(rows) // 5, len(rows) // 10
    train = rows[test + valid :]
    rows = ((rows - train.mean(axis=0)) / train.std(axis=0)).astype(np.float32)
    parts = {"test": rows[:test], "valid": rows[test : test + valid], "train": rows[test + valid :]}
    np.savez(path, **parts)
    return parts


def run(name, python, model, data, seed, arguments, out):
    command = [__file__, "--worker", name, "--data", data, "--out", out, "--models", model, "--seed", seed]
    command += ["--peer-script", arguments.peer_script]
    for option in ("steps", "batch", "check", "layers", "width", "depth", "bins", "tail_bound", "lr", "threads"):
        command += [f"--{option.replace('_', '-')}", getattr(arguments, option)]
    if name == peers.OWN:
        command += ["--adapter", Path(__file__).with_name("flow_adapter.py")]
    peers.call(name, python, *command, threads=arguments.threads)
    return dict(np.load(out))


def compare(name, model, parts, results):
    """A row of the table for each package; `results` has the runs of each, one a seed."""
    rows_of = {package: np.stack([run["test"] for run in runs]) for package, runs in results.items()}
    own = rows_of[peers.OWN]
    sizes = f"{len(parts['train'])} + {len(parts['valid'])} + {len(parts['test'])}"
    for package, rows in rows_of.items():
        difference = (own - rows).mean(axis=0)
        by_seed = (own - rows).mean(axis=1)
        of_rows = difference.std(ddof=1) / np.sqrt(len(difference))
        of_starts = by_seed.std(ddof=1) / np.sqrt(len(by_seed)) if len(by_seed) > 1 else np.nan
        error = f"{np.hypot(of_rows, of_starts):.3f} ({of_rows:.3f}, {of_starts:.3f})"
        gain = [f"{difference.mean():+.3f} ± {error}", f"{by_seed.min():+.3f} to {by_seed.max():+.3f}"]
        cells = [name, parts["test"].shape[1], sizes, model, package, f"{rows.mean():.3f}"]
        cells += ["", ""] if package == peers.OWN else gain
        cells += [", ".join(str(int(run["step"])) for run in results[package])]
        cells += [f"{int(results[package][0]['num_params']):,}"]
        yield f"| {' | '.join(map(str, cells))} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers.add_arguments(parser)
    parser.add_argument("--peer-script", type=Path, required=True)
    parser.add_argument("--tables", default="two_moons,protein,elevators,miniboone")
    parser.add_argument("--models", default="maf,rqs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=12_000, help="at most, of a table")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--check", type=int, default=50, help="steps between looks at the validation rows")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--bins", type=int, default=8)
    parser.add_argument("--tail-bound", type=float, default=5.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    for hidden in ("--worker", "--data", "--out", "--adapter"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    started, pythons = time.perf_counter(), peers.interpreters(arguments)
    head = [
        "data",
        "d",
        "rows: train + valid + test",
        "model",
        "package",
        "test nats",
        "lnz minus peer ± s.e. (rows, starts)",
    ]
    head += ["range over seeds", "best step", "parameters"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "data.npz"), Path(folder, "out.npz")
        for name in arguments.tables.split(","):
            parts = prepare(name, arguments, data)
            for model in arguments.models.split(","):
                results = {package: [] for package in pythons}
                for seed in range(arguments.seeds):
                    for package, python in pythons.items():
                        results[package].append(run(package, python, model, data, seed, arguments, out))
                        last = f"{results[package][-1]['test'].mean():.3f}"
                        print(f"{name} {model} seed {seed} {package}: {last}", file=sys.stderr, flush=True)
                print("\n".join(compare(name, model, parts, results)), flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s in all.")


if __name__ == "__main__":
    main()
