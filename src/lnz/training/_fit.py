"""The verb `fit`: repeats the step of a method, with many steps in one compiled loop."""

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..bijections import AbstractBijection
from ..core import AbstractBayesianModel, AbstractMethod, AbstractObjective, Local, check_resolved, local
from ..data import AbstractSource, as_source, fingerprint_of, some_rows, warn_of_data
from ..evaluation import warn_of_narrow_scales
from ..files import heard
from ..modules import check_key, check_positive, check_same_columns, kind_of, model_dtype, unmasked
from ..spaces import AbstractSpace
from ._checkpoint import Checkpoints, Record, Snapshot
from ._feed import Feed
from ._loop import Loop, fingerprint_of_step, program_of, run_steps, zero_sums
from ._training import Training, Watch, int32
from ._validation import Evaluator, Validation


@dataclasses.dataclass(frozen=True)
class Fit:
    """The result of `lnz.fit`.

    - `model`: the trained model. With `lnz.Validation(..., keep="best")` it is the best one, with `average=...` the
      averaged one.
    - `history`: a list of records, one for each stretch of steps: `step`, `seconds` since the start, the mean of every
      metric over the stretch (nats per example), and `valid` if the stretch ends with a validation.
    - `status`: `"completed"`, or the reason why training stopped.
    - `state`: the last state of the method, such as persistent chains.
    - `compile_seconds`: the time for tracing and compiling, which is not part of `seconds`.
    - `warnings`: reasons why densities of the training data mean little, as sentences; empty if there are none.
    """

    model: Any
    history: list[Record]
    status: str
    state: Any
    compile_seconds: float
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        last = {name: value for name, value in (self.history or [{}])[-1].items() if name != "seconds"}
        numbers = "".join(f", {name} {value:.6g}" for name, value in last.items())
        return f"Fit({type(self.model).__name__}, {self.status!r}{numbers})"


def fit(
    key: PRNGKeyArray,
    model: Any,
    method: AbstractMethod,
    data: Any,
    *,
    steps: int,
    batch_size: int | None = None,
    observed: Any = None,
    valid: Any = None,
    average: float | None = None,
    watch: Watch | None = None,
    checkpoints: Checkpoints | None = None,
    throw: bool = True,
) -> Fit:
    """Train `model` by `method` on `data`.

    Randomness and data order at step t are functions of `key` and t alone, so a resumed run gives the same result.
    `docs/training.md` has the details.

    **Arguments:**

    - `key`: a JAX random key.
    - `model`: the initial model, which is not changed.
    - `method`: such as `lnz.Gradient(lnz.objectives.PCD(1), optax.sgd(0.05))` or `lnz.EM()`.
    - `data`: examples `[n, *model.space.shape]`, or `None` if the objective needs no data.
    - `steps`: number of updates.
    - `batch_size`: examples per update; all of them if `None`.
    - `observed`: known entries of `data`, such as `~np.isnan(data)`. The others are summed out.
    - `valid`: held-out examples, scored ten times, or a `lnz.Validation`.
    - `average`: decay of a moving average of the parameters, such as 0.999. The average is validated and returned.
    - `watch`: a `lnz.Watch`, which receives records of the progress.
    - `checkpoints`: a `lnz.Checkpoints`, to save and resume.
    - `throw`: raise at a divergence or Ctrl-C. Otherwise return the last good model, and the reason in `status`.

    **Returns:** a `Fit`.

    **Raises:** `ValueError` or `TypeError` for bad arguments; `FloatingPointError`, naming the step, if a metric or a
    parameter becomes infinite, NaN, or so large that its square overflows.
    """
    key = check_key(key)
    check_positive(steps, "steps")
    _check_arguments(model, method, average, watch, checkpoints)
    valid = _validation(valid)
    check_same_columns(data, None if valid is None else valid.data, "data", "valid")
    data, observed = unmasked(data, observed)
    if observed is not None and not method.takes_missing:
        raise TypeError(
            "`fit(observed=...)`, or a masked array, needs a method for examples with missing entries: `lnz.EM()` for "
            "normals and mixtures of them; for Boltzmann machines wrap the objective, as in "
            "`lnz.Gradient(lnz.objectives.Imputed(lnz.objectives.PCD(1)), optimizer)`."
        )
    source = None if data is None else as_source(_in_memory(method, data), model.space, observed)
    there = _where(model, method, source)
    some = None
    if source is not None:
        _check_batch_size(source, batch_size)
        some = some_rows(source)
        check_resolved(model.space, some, there, by_gradient=method.by_gradient)
    valid = None if valid is None else valid.checked(model)
    watch = Watch() if watch is None else watch
    watch = dataclasses.replace(watch, every=watch.every or max(1, steps // 100))
    valid_every = (valid and valid.every) or max(1, steps // 10)

    started = time.perf_counter()
    with (
        nullcontext() if checkpoints is None else checkpoints.held() as folder,
        heard(saves=checkpoints is not None) as check_signals,
        Feed(source, there, _key_order(key), batch_size) as feed,
    ):
        loop, first = _prepare(key, there.model, method, feed, batch_size, average, valid)
        about_data = [] if some is None else warn_of_data(model.space, some, stacklevel=2)
        rows = feed.rows(0)
        computation = "" if checkpoints is None else fingerprint_of_step(loop, first.arrays, first.sums, rows)
        run_steps(loop, first.arrays, first.sums, loop.no_order(rows), rows, int32(0), int32(0))  # no steps: compiles
        training = Training(
            loop=loop,
            feed=feed,
            steps=steps,
            watch=watch,
            valid=valid,
            valid_every=steps if valid is None else valid_every,
            score=None if valid is None else _scorer(valid, key, loop, there),
            checkpoints=checkpoints,
            computation=computation,
            settings={
                "key": str(jr.key_data(key).tolist()),
                "batch_size": str(batch_size),
                "average": str(average),
                "label": "" if checkpoints is None else checkpoints.label,
                "valid": "none" if valid is None else fingerprint_of(valid.data),
                "Validation(keep=...)": "last" if valid is None else valid.keep,
                "Validation(patience=..., min_gain=...)": str(
                    None if valid is None else (valid.patience, valid.min_gain)
                ),
                "Validation(every=...)": "none" if valid is None else str(valid_every),
                "Watch(every=...)": str(watch.every),
                "data": "none" if source is None else source.fingerprint,
                "origin": "none" if there.origin is None else fingerprint_of(there.origin),
            },
            folder=folder,
            check_signals=check_signals,
        )
        compile_seconds = time.perf_counter() - started
        if checkpoints is not None and checkpoints.resume:
            first = training.resume(first)
        elif checkpoints is not None:
            checkpoints.check_unused()
        last, status = training.run(first, throw)

    model, state = eqx.combine(last.arrays[0], loop.static)
    if last.best is not None and last.best_score > -math.inf:  # with no finite score there is no best model
        model = eqx.combine(last.best, loop.static[0])
    elif average is not None:
        model = eqx.combine(last.arrays[1], loop.static[0])
    model = there.in_data(model)
    if some is not None:
        about_data += warn_of_narrow_scales(model, some, stacklevel=2)
    return Fit(model, list(last.history), status, state, compile_seconds, tuple(about_data))


def expected_memory(
    key: PRNGKeyArray,
    model: Any,
    method: AbstractMethod,
    data: Any,
    *,
    batch_size: int | None = None,
    observed: Any = None,
    valid: Any = None,
    average: float | None = None,
) -> dict[str, int]:
    """Bytes that `fit` will need, by purpose. The compiler reports the memory of a step, which is not run."""
    data, observed = unmasked(data, observed)
    source = None if data is None else as_source(_in_memory(method, data), model.space, observed)
    there = _where(model, method, source)
    with Feed(source, there, _key_order(key), batch_size) as feed:
        loop, first = _prepare(key, there.model, method, feed, batch_size, average, _validation(valid))
        rows = feed.rows(0)
        order = loop.no_order(rows)
        lowered = program_of(loop).lower(loop, first.arrays, first.sums, order, rows, int32(0), int32(0))
    plan = lowered.compile().compiled.memory_analysis()
    num_blocks = 1 if source is None or source.is_resident else 3
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(first.tree))
    return {
        "data": 0 if rows is None else num_blocks * rows.nbytes,
        "model and optimizer": state,
        "copy to go back to": plan.output_size_in_bytes,
        "one step": plan.temp_size_in_bytes,
    }


def _prepare(key, model, method, feed, batch_size, average, valid: Validation | None) -> tuple[Loop, Snapshot]:
    """Prepare the loop and the first snapshot."""
    key_init, key_steps, _ = jr.split(key, 3)
    dtype, rows = model_dtype(model), feed.rows(0)
    model, state = method.init(key_init, model, rows)
    dynamic, static = eqx.partition((model, state), eqx.is_array)
    dynamic = jax.tree.map(jnp.asarray, dynamic)
    loop = Loop(method, key_steps, model.space, static, dtype, batch_size, average)
    arrays = (dynamic, None if average is None else dynamic[0])
    best = dynamic[0] if valid is not None and valid.keep == "best" else None
    return loop, Snapshot(arrays, zero_sums(loop, arrays, rows), best)


def _where(model: Any, method: AbstractMethod, source: AbstractSource | None) -> Local:
    """The coordinates of training: local ones, if the method allows them and learns from rows of data."""
    if source is None or not method.moves_with_data:
        return Local(model, None)
    return local(model)


def _key_order(key: PRNGKeyArray) -> PRNGKeyArray:
    """The key that decides the order of blocks."""
    return jr.split(jr.split(key, 3)[1])[1]


def _validation(valid: Any) -> Validation | None:
    return valid if valid is None or isinstance(valid, Validation) else Validation(valid)


def _scorer(valid: Validation, key: PRNGKeyArray, loop: Loop, there: Local) -> Callable[[int, Any], float]:
    _, _, key = jr.split(key, 3)

    def score(step, arrays):
        model = there.in_data(eqx.combine(arrays, loop.static[0]))
        return cast(Evaluator, valid.evaluator)(jr.fold_in(key, step), model, valid.data).value

    return score


def _check_arguments(model, method, average, watch, checkpoints) -> None:
    if not isinstance(method, AbstractMethod):
        hint = (
            " The order of arguments is `lnz.fit(key, model, method, data)`."
            if isinstance(model, AbstractMethod)
            else ""
        )
        if isinstance(method, AbstractObjective):
            hint = f" Give it an optimizer: `lnz.Gradient({type(method).__name__}(...), optax.adam(1e-3))`."
        raise TypeError(
            f"`method` must be a method, such as `lnz.Gradient(objective, optimizer)` or `lnz.EM()`; got "
            f"{kind_of(method)}.{hint}"
        )
    if not isinstance(getattr(model, "space", None), AbstractSpace):
        hint = ""
        if isinstance(model, AbstractBayesianModel):
            hint = " Condition a Bayesian model instead: `lnz.condition(model, data)`."
        elif isinstance(model, AbstractBijection):
            hint = " A flow consists of a distribution and a bijection: `lnz.Transformed(base, bijection)`."
        raise TypeError(f"`model` must be a model with a space of examples; got {kind_of(model)}.{hint}")
    if average is not None and not 0 < average < 1:
        raise ValueError(f"`average` must be a decay between 0 and 1, such as 0.999; got {average!r}.")
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise TypeError(
            f"`checkpoints` must be a `lnz.Checkpoints`, such as `lnz.Checkpoints('run/checkpoints')`; got "
            f"{checkpoints!r}."
        )
    if watch is not None and not isinstance(watch, Watch):
        raise TypeError(f"`watch` must be a `lnz.Watch`, such as `lnz.Watch(progress=print)`; got {watch!r}.")


def _in_memory(method: AbstractMethod, data: Any) -> Any:
    """Read an array on disk into memory, if the method needs all rows at every step."""
    if not method.needs_all_rows:
        return data
    if isinstance(data, AbstractSource) and not data.is_resident:
        raise ValueError(
            f"`{type(method).__name__}` needs all rows at every step, but a stream gives only some of them: give `fit` "
            "the array itself, which is then read into memory."
        )
    return np.array(data) if isinstance(data, np.memmap) else data


def _check_batch_size(source: AbstractSource, batch_size: int | None) -> None:
    if batch_size is None:
        if not source.is_resident:
            raise ValueError("`fit` reads data on disk in blocks and needs a `batch_size` for them; got None.")
        return
    check_positive(batch_size, "batch_size")
    if batch_size > source.num_rows:
        raise ValueError(
            f"`batch_size={batch_size}` is larger than the data ({source.num_rows} rows). Use `batch_size=None` "
            "for all rows."
        )
    if batch_size > source.block_rows:
        raise ValueError(
            f"`batch_size={batch_size}` is larger than a block of the stream ({source.block_rows} rows). Use "
            "`lnz.data.Stream(rows, block_bytes=...)` with larger blocks."
        )
