"""The host's side of training: stretches of steps, records, checkpoints, and what ends it."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ._check import check_positive
from ._checkpoint import Checkpoints, Record, Snapshot, newest_checkpoint, save_checkpoint
from ._feed import Feed
from ._loop import Loop, broken_parts, run_steps

_SECONDS_PER_STRETCH = 0.5  # Python looks in about twice a second


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Early stopping: no validation score above the best by more than `min_gain` nats for `patience` validations."""

    patience: int
    min_gain: float = 0.0

    def __post_init__(self):
        check_positive(self.patience, "Plateau(patience=...)")
        if not self.min_gain >= 0:
            raise ValueError(f"`Plateau(min_gain=...)` must not be negative; got {self.min_gain}.")

    def reached(self, history: Sequence[Record]) -> bool:
        """Whether the scores of these records have stopped rising."""
        best, waited = -math.inf, 0
        for record in history:
            if "valid" in record:
                risen = record["valid"] > best + self.min_gain
                best, waited = (record["valid"], 0) if risen else (best, waited + 1)
        return waited >= self.patience


@dataclasses.dataclass(frozen=True)
class Training:
    """Runs stretches of steps from snapshot to snapshot; what is thrown leaves the last whole snapshot untouched."""

    loop: Loop
    feed: Feed
    steps: int
    log_every: int
    valid_every: int
    score: Callable[[int, Any], float] | None
    plateau: Plateau | None
    progress: Callable[[Record], None]
    pulse: Callable[[Record], None]
    checkpoints: Checkpoints | None
    settings: dict[str, str]

    def resume(self, first: Snapshot) -> Snapshot:
        """The newest checkpoint, whose records are told again; `first` if there is none."""
        assert self.checkpoints is not None
        found = newest_checkpoint(self.checkpoints, first, self.settings)
        for record in () if found is None else found.history:
            self.progress(record)
        return first if found is None else found

    def run(self, now: Snapshot, throw: bool) -> tuple[Snapshot, str]:
        """To the end, or to what stops it: the last snapshot, and the status in words."""
        num_steps, saved = 1, time.monotonic()
        try:
            while now.step < self.steps:
                if self.plateau is not None and self.plateau.reached(now.history):
                    return self._end(now), f"stopped early at step {now.step}: the validation score no longer rises"
                started = time.perf_counter()
                stop = self._stop(now, num_steps)
                arrays, sums, finite = run_steps(
                    self.loop, now.arrays, now.sums, self.feed.rows(now.step), int32(now.step), int32(stop)
                )
                if not bool(finite):
                    now, record, broken = self._locate(now, stop)
                    self._end(now)
                    status = _describe_divergence(now.step + 1, record, broken)
                    if throw:
                        raise FloatingPointError(status)
                    return now, status
                elapsed = time.perf_counter() - started
                num_steps = next_num_steps(stop - now.step, elapsed)
                after = dataclasses.replace(now, arrays=arrays, sums=sums, step=stop, seconds=now.seconds + elapsed)
                now = self._record(after)
                if self.checkpoints is not None and time.monotonic() - saved > self.checkpoints.every:
                    self._end(now)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self._end(now)
            if throw:
                raise
            return now, f"interrupted at step {now.step}"
        return self._end(now), "completed"

    def _stop(self, now: Snapshot, num_steps: int) -> int:
        """Where the next stretch ends."""
        multiples = ((now.step // every + 1) * every for every in (self.log_every, self.valid_every))
        return int(min(*multiples, self.steps, now.step + num_steps, self.feed.end_of_block(now.step)))

    def _record(self, now: Snapshot) -> Snapshot:
        """Tell of the record under way, and close it where one ends."""
        means = {name: float(total) / (now.step - now.since) for name, total in now.sums.items()}
        record: Record = {"step": now.step, "seconds": now.seconds, **means}
        at_end = now.step == self.steps
        is_validation = at_end or now.step % self.valid_every == 0
        if not (is_validation or now.step % self.log_every == 0):
            self.pulse(record)
            return now
        best = now.best
        if self.score is not None and is_validation:
            model = now.arrays[0][0] if self.loop.average is None else now.arrays[1]
            record["valid"] = self.score(now.step, model)
            if best is not None and record["valid"] > now.best_score:
                best = model
        zeros = jax.tree.map(jnp.zeros_like, now.sums)
        self.progress(record)
        return dataclasses.replace(now, sums=zeros, since=now.step, best=best, history=(*now.history, record))

    def _locate(self, now: Snapshot, stop: int) -> tuple[Snapshot, Record, list[str]]:
        """Replay by halves: the snapshot before the first bad step, that step's metrics, and what it broke."""
        rows, zeros = self.feed.rows(now.step), jax.tree.map(jnp.zeros_like, now.sums)
        while True:
            middle = max((now.step + stop) // 2, now.step + 1)
            arrays, sums, finite = run_steps(self.loop, now.arrays, now.sums, rows, int32(now.step), int32(middle))
            if bool(finite):
                now = dataclasses.replace(now, arrays=arrays, sums=sums, step=middle)
            elif middle > now.step + 1:
                stop = middle
            else:
                arrays, sums, _ = run_steps(self.loop, now.arrays, zeros, rows, int32(now.step), int32(middle))
                record = {name: float(value) for name, value in sums.items()}
                return now, record, broken_parts(now.arrays[0][0], arrays[0][0])

    def _end(self, now: Snapshot) -> Snapshot:
        if self.checkpoints is not None:
            save_checkpoint(self.checkpoints, now, self.settings)
        return now


def next_num_steps(num_steps: int, seconds: float) -> int:
    """How many steps take about half a second; at most four times as many as were tried."""
    return max(1, min(4 * num_steps, int(num_steps * _SECONDS_PER_STRETCH / max(seconds, 1e-9))))


def int32(step: int) -> jax.Array:
    return jnp.asarray(step, jnp.int32)


def _describe_divergence(step: int, record: Record, broken: list[str]) -> str:
    values = ", ".join(f"{name} = {value:g}" for name, value in record.items())
    where = f" The update made {', '.join(broken)} of the model infinite or not a number." if broken else ""
    return (
        f"Training diverged at step {step}: {values}.{where} Try a smaller learning rate, "
        "`optax.clip_by_global_norm(1.0)` before the optimizer (for `EM`, `smoothing=1.0`), or look for extreme values "
        "in the data."
    )
