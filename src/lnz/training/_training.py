"""The host's side of training: stretches of steps, records, checkpoints, and the end of training."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from ..files import Held
from ..modules import check_positive
from ._checkpoint import Checkpoints, Record, Snapshot, newest_checkpoint, save_checkpoint
from ._feed import Feed
from ._loop import Loop, broken_parts, run_steps
from ._validation import Validation

_EARLY = 100  # a divergence within so many steps may come from the scale of the data
_UNIT_SCALE = 10.0  # data with larger numbers are not standardised
_SECONDS_PER_STRETCH = 0.5  # control returns to Python about twice a second


def _ignore(record: Record) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Watch:
    """Functions that `lnz.fit(watch=...)` calls while it runs, and how often it makes a record.

    - `every`: number of steps between two records of the history, by default a hundredth of all steps.
    - `progress`: called with each record. After a resume, it is first called with the earlier records.
    - `pulse`: called about twice a second between two records, with the current values of the unfinished record.
    """

    every: int | None = None
    progress: Callable[[Record], None] = _ignore
    pulse: Callable[[Record], None] = _ignore

    def __post_init__(self):
        if self.every is not None:
            object.__setattr__(self, "every", check_positive(self.every, "Watch(every=...)"))
        for name in ("progress", "pulse"):
            if not callable(getattr(self, name)):
                raise TypeError(f"`Watch({name}=...)` must be a function of a record; got {getattr(self, name)!r}.")


@dataclasses.dataclass(frozen=True)
class Training:
    """Runs the steps in stretches, from snapshot to snapshot. An exception leaves the last snapshot untouched."""

    loop: Loop
    feed: Feed
    steps: int
    watch: Watch  # its `every` is a number
    valid: Validation | None
    valid_every: int
    score: Callable[[int, Any], float] | None
    checkpoints: Checkpoints | None
    settings: dict[str, str]
    computation: str = ""  # the fingerprint of a step, for checkpoints
    folder: Held | None = None  # the locked folder of the checkpoints
    check_signals: Callable[[], None] = lambda: None

    def resume(self, first: Snapshot) -> Snapshot:
        """Return the newest checkpoint, and report its records again; return `first` if there is none."""
        assert self.checkpoints is not None
        found = newest_checkpoint(self.checkpoints, first, self.settings, self.computation)
        if found is None:
            return first
        if found.step > self.steps:
            raise ValueError(
                f"`resume`: the newest checkpoint in {str(self.checkpoints.folder)!r} is from step {found.step}, "
                f"beyond `steps={self.steps}`. Give more `steps`, or use another folder."
            )
        for record in found.history:
            self.watch.progress(record)
        # A shorter training stopped here without closing a record that a longer training closes.
        return self._record(found) if found.since < found.step < self.steps else found

    def run(self, now: Snapshot, throw: bool) -> tuple[Snapshot, str]:
        """Run to the last step, or until training stops, and return the last good snapshot and the status in words."""
        status = "completed"
        num_steps, saved = 1, time.monotonic()
        try:
            while now.step < self.steps:
                self.check_signals()
                if self.valid is not None and self.valid.has_ended(now.history):
                    status = f"stopped early at step {now.step}: the validation score no longer rises"
                    break
                started = time.perf_counter()
                stop = self._stop(now, num_steps)
                after, finite = self._advance(now, stop)
                if not finite:
                    now, record, broken = self._locate(now, stop)
                    raise FloatingPointError(_describe_divergence(now.step, record, broken, self.loop, self.feed))
                elapsed = time.perf_counter() - started
                num_steps = next_num_steps(stop - now.step, elapsed)
                now = self._record(dataclasses.replace(after, seconds=now.seconds + elapsed))
                if self.checkpoints is not None and time.monotonic() - saved > self.checkpoints.every:
                    self._save(now)
                    saved = time.monotonic()
            self._save(now)
            # Closed after saving, because a longer training that resumes here has no record or validation at this step.
            closed = self._close(now, has_ended=True)
            self.check_signals()
            return closed, status
        except BaseException as error:
            self._save(now)
            if throw or not isinstance(error, FloatingPointError | KeyboardInterrupt):
                raise
            if isinstance(error, KeyboardInterrupt):
                return now, f"interrupted at step {now.step}"
            return self._close(now), str(error)

    def _advance(self, now: Snapshot, stop: int) -> tuple[Snapshot, bool]:
        """Run the steps up to `stop`, and return whether all numbers stayed finite."""
        rows = self.feed.rows(now.step)
        order = self.feed.order or self.loop.no_order(rows)
        start_stop = int32(now.step), int32(stop)
        arrays, sums, self.feed.order, finite = run_steps(self.loop, now.arrays, now.sums, order, rows, *start_stop)
        finite = bool(finite)  # waits for the device
        return dataclasses.replace(now, arrays=arrays, sums=sums, step=stop), finite

    def _stop(self, now: Snapshot, num_steps: int) -> int:
        """The step at which the next stretch ends."""
        multiples = ((now.step // every + 1) * every for every in (cast(int, self.watch.every), self.valid_every))
        return int(min(*multiples, self.steps, now.step + num_steps, self.feed.end_of_block(now.step)))

    def _record(self, now: Snapshot) -> Snapshot:
        """Close the current record if it ends at this step; otherwise report its values so far."""
        if now.step % self.valid_every == 0 or (now.step % cast(int, self.watch.every) == 0 and now.step < self.steps):
            return self._close(now)
        if now.step < self.steps:
            self.watch.pulse(self._means(now))
        return now

    def _close(self, now: Snapshot, has_ended: bool = False) -> Snapshot:
        """Close the current record, with a validation score where one is due."""
        if now.since == now.step:
            return now
        record, best = self._means(now), now.best
        if self.score is not None and (has_ended or now.step % self.valid_every == 0):
            model = now.arrays[0][0] if self.loop.average is None else now.arrays[1]
            record["valid"] = self.score(now.step, model)
            if best is not None and record["valid"] > now.best_score:
                best = model
        zeros = jax.tree.map(jnp.zeros_like, now.sums)
        self.watch.progress(record)
        return dataclasses.replace(now, sums=zeros, since=now.step, best=best, history=(*now.history, record))

    def _means(self, now: Snapshot) -> Record:
        totals = {name: float(total) / (now.step - now.since) for name, total in now.sums[0].items()}
        return {"step": now.step, "seconds": now.seconds, **totals}

    def _locate(self, now: Snapshot, stop: int) -> tuple[Snapshot, Record, list[str]]:
        """Find the first bad step by bisection.

        **Returns:** the snapshot before that step, the step's metrics, and the names of the arrays that it broke.
        """
        while now.step < stop:
            middle = max((now.step + stop) // 2, now.step + 1)
            after, finite = self._advance(now, middle)
            if finite:
                now = after
            elif middle > now.step + 1:
                stop = middle
            else:
                zeros = jax.tree.map(jnp.zeros_like, now.sums)
                alone, _ = self._advance(dataclasses.replace(now, sums=zeros), middle)
                record = {name: float(value) for name, value in alone.sums[0].items()}
                return now, record, broken_parts(now.arrays[0][0], alone.arrays[0][0])
        return now, {}, []

    def _save(self, now: Snapshot) -> None:
        if self.folder is not None:
            self.folder.check()  # a folder deleted and created again would hold only part of a training
        if self.checkpoints is not None:
            save_checkpoint(self.checkpoints, now, self.settings, self.computation)


def next_num_steps(num_steps: int, seconds: float) -> int:
    """The number of steps that take about half a second, at most four times `num_steps`."""
    return max(1, min(4 * num_steps, int(num_steps * _SECONDS_PER_STRETCH / max(seconds, 1e-9))))


def int32(step: int) -> jax.Array:
    return jnp.asarray(step, jnp.int32)


def _describe_divergence(step: int, record: Record, broken: list[str], loop: Loop, feed: Feed) -> str:
    values = ", ".join(f"{name} = {value:g}" for name, value in record.items())
    if not record:
        return (
            f"Training had infinite, NaN or too large numbers before step {step}, but not when they were repeated: "
            "this device does not compute the same twice. Resume to continue from that step."
        )
    where = ""
    if broken:
        where = f" The update made {', '.join(broken)} of the model infinite, not a number, or too large to be squared."
    return f"Training diverged at step {step + 1}: {values}.{where} {_remedy(loop, step, feed)}"


def _remedy(loop: Loop, step: int, feed: Feed) -> str:
    """Advice for this method on this space."""
    if hasattr(loop.method, "optimizer"):
        reach, unscaled = feed.reach(step) if step < _EARLY else None, ""
        if reach is not None and not max(map(abs, reach)) <= _UNIT_SCALE:
            unscaled = (
                "The usual reason so early is unscaled input, such as pictures of 0 to 255 given to a network as they "
                f"are. These data go from {reach[0]:g} to {reach[1]:g}: put the network into "
                "`lnz.nets.Standardised`, and end a flow by `lnz.flows.standardise(data)`. "
            )
        return (
            f"{unscaled}Try a smaller learning rate, `optax.clip_by_global_norm(1.0)` before the "
            "optimizer, or look for extreme values in the data."
        )
    if hasattr(loop.method, "smoothing") and loop.space.measure.is_counting:
        return f"Try `{type(loop.method).__name__}(smoothing=1.0)`: some value never occurs in the data."
    return "Look for extreme values, constant columns and repeated rows in the data."
