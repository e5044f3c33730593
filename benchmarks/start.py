"""How long `lnz train rbm_digits` takes to its first record (250 steps), without compiled programs and with them.

    python benchmarks/start.py [--rounds 3]

Prints seconds from the start of the process to the first line of `events.jsonl`, and for `lnz --help` to its end.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LNZ = Path(sys.executable).with_name("lnz")


def seconds_to_first_record(out, environment):
    started = time.perf_counter()
    process = subprocess.Popen([LNZ, "train", "rbm_digits", "--out", out], env=environment, stdout=subprocess.DEVNULL)
    events = out / "events.jsonl"
    while not (events.is_file() and events.stat().st_size):
        if process.poll() is not None:
            raise RuntimeError(f"`lnz train` ended with {process.returncode}")
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    process.kill()
    process.wait()
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    times = {"cold": [], "warm": [], "help": []}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            environment["LNZ_CACHE"] = folder + "/cache"
            for kind in ("cold", "warm"):
                times[kind].append(seconds_to_first_record(Path(folder, kind), environment))
        started = time.perf_counter()
        subprocess.run([LNZ, "--help"], env=environment, stdout=subprocess.DEVNULL, check=True)
        times["help"].append(time.perf_counter() - started)
    for kind, seconds in times.items():
        print(f"{kind}: median {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
