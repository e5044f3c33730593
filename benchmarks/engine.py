"""What watching a training costs: records, pulses, events.jsonl and checkpoints every second, against none of them.

    python benchmarks/engine.py [--pairs 7] [--steps 2500] [--log-every 250]

Prints the ratio of the time of a step with everything on to that with everything off: the median of interleaved pairs
and their range. Both trainings end in the same bits, which is checked.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import optax

import lnz
from lnz.files import environment
from lnz.runs import EventLog


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--log-every", type=int, default=250, help="about a second")
    arguments = parser.parse_args()
    rows = (np.random.RandomState(0).uniform(size=(10_000, 784)) < 0.13).astype(np.uint8)
    model = lnz.energy.RBM(784, 500, key=jr.key(0))
    method = lnz.Gradient(lnz.objectives.PCD(1, num_chains=100), optax.adam(1e-3))

    def watched():
        """Seconds of the whole call without compiling, with all that the command line does meanwhile."""
        with tempfile.TemporaryDirectory() as folder:
            events = EventLog(Path(folder))
            started = time.perf_counter()
            result = lnz.fit(
                jr.key(1),
                model,
                method,
                rows,
                steps=arguments.steps,
                batch_size=100,
                watch=lnz.Watch(arguments.log_every, events.write),
                checkpoints=lnz.Checkpoints(Path(folder) / "checkpoints", every=1.0),
            )
            seconds = time.perf_counter() - started - result.compile_seconds
            events.close()
            return result.model, seconds

    def bare():
        """One stretch from the first step to the last, as if Python never looked in."""
        from lnz.training import _training

        pace = _training.next_num_steps
        _training.next_num_steps = lambda num_steps, seconds: arguments.steps
        try:
            started = time.perf_counter()
            result = lnz.fit(
                jr.key(1),
                model,
                method,
                rows,
                steps=arguments.steps,
                batch_size=100,
                watch=lnz.Watch(arguments.steps),
            )
            return result.model, time.perf_counter() - started - result.compile_seconds
        finally:
            _training.next_num_steps = pace

    watched(), bare()
    ratios = []
    for pair in range(arguments.pairs):
        order = (watched, bare) if pair % 2 == 0 else (bare, watched)
        results = {function: function() for function in order}
        (model_watched, seconds_watched), (model_bare, seconds_bare) = results[watched], results[bare]
        for one, other in zip(jax.tree.leaves(model_watched), jax.tree.leaves(model_bare), strict=True):
            np.testing.assert_array_equal(one, other)
        ratios.append(seconds_watched / seconds_bare)
        print(f"pair {pair + 1}: watched {seconds_watched:.2f} s, bare {seconds_bare:.2f} s, ratio {ratios[-1]:.4f}")
    print(f"ratio: median {statistics.median(ratios):.4f}, range {min(ratios):.4f} to {max(ratios):.4f}")
    print(environment())


if __name__ == "__main__":
    main()
