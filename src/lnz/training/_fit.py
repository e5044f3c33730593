"""The verb `fit`: repeat a method's step, many steps inside one compiled loop."""

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..bijections import AbstractBijection
from ..core import AbstractBayesianModel, AbstractMethod, AbstractObjective, Local, LogLikelihood, check_resolved, local
from ..data import AbstractSource, Resident, as_source, fingerprint_of, known_entries, some_rows, warn_of_data
from ..evaluation import warn_of_narrow_scales
from ..files import heard
from ..modules import check_key, check_positive, check_same_columns, kind_of, model_dtype, unmasked
from ..spaces import AbstractSpace
from ._checkpoint import Checkpoints, Record, Snapshot
from ._feed import Feed
from ._loop import Loop, program_of, run_steps, zero_sums
from ._training import Plateau, Training, int32


@dataclasses.dataclass(frozen=True)
class Fit:
    """What came of training.

    - `model`: the trained model; the best one on `valid` with `keep="best"`; averaged with `average=...`.
    - `history`: one record for each stretch of steps: `step`, `seconds` since the start, and the mean of every metric
      (nats per example) over the stretch; `valid` where it was evaluated.
    - `status`: `"completed"`, or what stopped it.
    - `state`: the method's last state, such as persistent chains.
    - `compile_seconds`: spent on tracing and compiling, apart from `seconds`.
    - `warnings`: why densities of the training data mean little, in sentences; empty where nothing is wrong.
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
    evaluator: Callable[[PRNGKeyArray, Any, Any], LogLikelihood] | None = None,
    valid_every: int | None = None,
    keep: str = "last",
    plateau: Plateau | None = None,
    average: float | None = None,
    log_every: int | None = None,
    progress: Callable[[Record], None] | None = None,
    pulse: Callable[[Record], None] | None = None,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    throw: bool = True,
) -> Fit:
    """Train `model` by `method` on `data`.

    Randomness and data order at step t are functions of `key` and t alone: the result does not depend on
    how often Python looks in, nor on whether a run was killed and resumed. Each epoch visits the data in a new order;
    what is left over after the last whole batch waits for another epoch.

    **Arguments:**

    - `key`: a JAX random key.
    - `model`: the model to start from; it is not changed.
    - `method`: such as `lnz.Gradient(lnz.objectives.PCD(1), optax.sgd(0.05))` or `lnz.EM()`.
    - `data`: examples `[n, *model.space.shape]`, kept on the device as they are stored (bits as bytes, say) and cast
      in the step; numbers in float64, which columns far from zero need, are moved and cut before (`lnz.local`). An
      array on disk (`np.memmap`) or a `lnz.data.Stream` is read in shuffled blocks; `None` for objectives that need no
      data.
    - `steps`: number of updates.
    - `batch_size`: examples an update; all of them if `None`.
    - `observed`: which entries of `data` are known, `[n, ...]` of true and false, such as `~np.isnan(data)`; the others
      are summed out. A masked array as `data` says it itself. The method must be made for it: `lnz.EM()` for normals
      and mixtures of them, or `lnz.objectives.Imputed(lnz.objectives.PCD(1))` for Boltzmann machines.
    - `valid`: held-out examples, scored by `evaluator(key, model, valid)` (by default `lnz.evaluate`, which takes a
      masked array too) every `valid_every` steps (by default ten times) and at the end.
    - `keep`: `"last"`, or `"best"` for the model with the highest validation score.
    - `plateau`: stop early when the validation score no longer rises, such as `lnz.Plateau(patience=5)`.
    - `average`: decay of an exponential moving average of the parameters, such as 0.999; it is what is then validated
      and returned. It starts with shorter memory, `min(average, (1 + t) / (10 + t))`.
    - `log_every`: steps between records of the history; by default a hundredth of `steps`.
    - `progress`: called with each record; after a resume first with those of before.
    - `pulse`: called about twice a second in between, with the record under way.
    - `checkpoints`: where to save the whole state now and then, such as `lnz.Checkpoints("run/checkpoints")`. Their
      folder is locked: a second `fit` in it is refused. SIGTERM then saves too, and ends the process with code 143.
    - `resume`: go on from the newest readable checkpoint, if there is one; the result is that of a run which was never
      stopped, bit for bit on the same versions, device and number of threads. With more `steps` (and the same
      `log_every` and `valid_every`) it goes on to them.
    - `throw`: raise if a metric or the model is not finite, or at Ctrl-C; otherwise return the model of the last good
      step, with what happened in `status`.

    A `UserWarning` says when a density on `data` can grow without bound, by the rules of `evaluate`; `Fit.warnings`
    keeps it.

    **Returns:** a `Fit`.

    **Raises:** `ValueError` or `TypeError` for bad arguments; `FloatingPointError` when a metric or the model is no
    longer finite, or so large that its square is not, naming the step.
    """
    key = check_key(key)
    check_positive(steps, "steps")
    _check_arguments(model, method, keep, plateau, valid, average, checkpoints, resume)
    check_same_columns(data, valid, "data", "valid")
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
    valid, evaluator = _held_out(model, valid, evaluator)
    log_every = max(1, steps // 100) if log_every is None else check_positive(log_every, "log_every")
    valid_every = max(1, steps // 10) if valid_every is None else check_positive(valid_every, "valid_every")

    started = time.perf_counter()
    with (
        nullcontext() if checkpoints is None else checkpoints.held() as folder,
        heard(saves=checkpoints is not None) as check_signals,
        Feed(source, there, _key_order(key), batch_size) as feed,
    ):
        loop, first = _prepare(key, there.model, method, feed, batch_size, average, keep)
        about_data = [] if some is None else warn_of_data(model.space, some, stacklevel=2)
        rows = feed.rows(0)
        run_steps(loop, first.arrays, first.sums, loop.no_order(rows), rows, int32(0), int32(0))  # no steps: compiles
        training = Training(
            loop=loop,
            feed=feed,
            steps=steps,
            log_every=log_every,
            valid_every=steps if valid is None else valid_every,
            score=None if valid is None else _scorer(evaluator, key, loop, there, valid),
            plateau=plateau,
            progress=progress or _ignore,
            pulse=pulse or _ignore,
            checkpoints=checkpoints,
            settings={
                "key": str(jr.key_data(key).tolist()),
                "batch_size": str(batch_size),
                "average": str(average),
                "keep": keep,
                "plateau": str(plateau),
                "valid": "none" if valid is None else fingerprint_of(valid),
                "label": "" if checkpoints is None else checkpoints.label,
                "log_every": str(log_every),
                "valid_every": str(valid_every),
                "data": "none" if source is None else source.fingerprint,
                "origin": "none" if there.origin is None else fingerprint_of(there.origin),
            },
            folder=folder,
            check_signals=check_signals,
        )
        compile_seconds = time.perf_counter() - started
        if checkpoints is not None and not resume:
            checkpoints.check_unused()
        if resume:
            first = training.resume(first)
        last, status = training.run(first, throw)

    model, state = eqx.combine(last.arrays[0], loop.static)
    if keep == "best" and last.best_score > -math.inf:  # with no finite score there is no best model
        model = eqx.combine(last.best, loop.static[0])
    elif average is not None:
        model = eqx.combine(last.arrays[1], loop.static[0])
    model = there.whole(model)
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
    average: float | None = None,
    keep: str = "last",
) -> dict[str, int]:
    """Bytes that `fit` will need, by what for: the compiler's own account of the step, which is not run."""
    data, observed = unmasked(data, observed)
    source = None if data is None else as_source(_in_memory(method, data), model.space, observed)
    there = _where(model, method, source)
    with Feed(source, there, _key_order(key), batch_size) as feed:
        loop, first = _prepare(key, there.model, method, feed, batch_size, average, keep)
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


def _prepare(key, model, method, feed, batch_size, average, keep) -> tuple[Loop, Snapshot]:
    """The loop, and all that it starts from."""
    key_init, key_steps, _ = jr.split(key, 3)
    dtype, rows = model_dtype(model), feed.rows(0)
    model, state = method.init(key_init, model, rows)
    dynamic, static = eqx.partition((model, state), eqx.is_array)
    dynamic = jax.tree.map(jnp.asarray, dynamic)
    loop = Loop(method, key_steps, model.space, static, dtype, batch_size, average)
    arrays = (dynamic, None if average is None else dynamic[0])
    return loop, Snapshot(arrays, zero_sums(loop, arrays, rows), best=dynamic[0] if keep == "best" else None)


def _where(model: Any, method: AbstractMethod, source: AbstractSource | None) -> Local:
    """The coordinates of training: local ones where the method allows it, and rows of data are what it learns from."""
    if source is None or not method.moves_with_data:
        return Local(model, None)
    return local(model)


def _key_order(key: PRNGKeyArray) -> PRNGKeyArray:
    """Decides the order of blocks."""
    return jr.split(jr.split(key, 3)[1])[1]


def _scorer(
    evaluator: Callable, key: PRNGKeyArray, loop: Loop, there: Local, valid: Any
) -> Callable[[int, Any], float]:
    _, _, key = jr.split(key, 3)

    def score(step, arrays):
        return evaluator(jr.fold_in(key, step), there.whole(eqx.combine(arrays, loop.static[0])), valid).value

    return score


def _held_out(model: Any, valid: Any, evaluator: Callable | None) -> tuple[Any, Callable]:
    """Checked examples, and what scores them: `lnz.evaluate` on their known entries, if there is nothing else."""
    from ..evaluation import evaluate

    valid, observed = unmasked(valid, None, "valid")
    if observed is not None and evaluator is not None:
        raise ValueError(
            "`valid` is a masked array, of which `evaluator` would not see the mask. Pass `valid.data` and, say, "
            "`evaluator=lambda key, model, x: lnz.evaluate(key, model, x, observed=~valid.mask)`."
        )
    if observed is not None:
        valid, observed = known_entries(model.space, valid, observed, "valid")
        known = np.where(observed, valid, np.nan)
        check_resolved(model.space, some_rows(Resident(known)), local(model), "valid")
    elif valid is not None:
        valid = model.space.check_data(valid, "valid")
        check_resolved(model.space, some_rows(Resident(valid)), local(model), "valid")
    return valid, evaluator or (lambda key, model, data: evaluate(key, model, data, observed=observed))


def _ignore(record: Record) -> None:
    pass


def _check_arguments(model, method, keep, plateau, valid, average, checkpoints, resume) -> None:
    if not isinstance(method, AbstractMethod):
        hint = " The order is `lnz.fit(key, model, method, data)`." if isinstance(model, AbstractMethod) else ""
        if isinstance(method, AbstractObjective):
            hint = f" Give it an optimizer: `lnz.Gradient({type(method).__name__}(...), optax.adam(1e-3))`."
        raise TypeError(
            f"`method` must be a method such as `lnz.Gradient(objective, optimizer)` or `lnz.EM()`; got "
            f"{kind_of(method)}.{hint}"
        )
    if not isinstance(getattr(model, "space", None), AbstractSpace):
        hint = ""
        if isinstance(model, AbstractBayesianModel):
            hint = " A Bayesian model is not trained but conditioned: `lnz.condition(model, data)`."
        elif isinstance(model, AbstractBijection):
            hint = " A flow is a distribution and a bijection: `lnz.Transformed(base, bijection)`."
        raise TypeError(f"`model` must be a model with a space of examples; got {kind_of(model)}.{hint}")
    if keep not in ("last", "best"):
        raise ValueError(f"`keep` must be 'last' or 'best'; got {keep!r}.")
    if plateau is not None and not isinstance(plateau, Plateau):
        raise TypeError(f"`plateau` must be such as `lnz.Plateau(patience=5)`; got {plateau!r}.")
    if valid is None and (keep == "best" or plateau is not None):
        argument = "keep='best'" if keep == "best" else "plateau=..."
        raise ValueError(f"`{argument}` needs `valid=...`, the held-out examples that decide.")
    if average is not None and not 0 < average < 1:
        raise ValueError(f"`average` is a decay between 0 and 1, such as 0.999; got {average!r}.")
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise TypeError(f"`checkpoints` must be such as `lnz.Checkpoints('run/checkpoints')`; got {checkpoints!r}.")
    if resume and checkpoints is None:
        raise ValueError("`resume=True` needs `checkpoints=lnz.Checkpoints(folder)`, where to go on from.")


def _in_memory(method: AbstractMethod, data: Any) -> Any:
    """An array on disk as one in memory, for a method that needs all rows at every step."""
    if not method.needs_all_rows:
        return data
    if isinstance(data, AbstractSource) and not data.is_resident:
        raise ValueError(
            f"`{type(method).__name__}` needs all rows at every step, and a stream gives some of them: give `fit` the "
            "array itself, which is then read into memory."
        )
    return np.array(data) if isinstance(data, np.memmap) else data


def _check_batch_size(source: AbstractSource, batch_size: int | None) -> None:
    if batch_size is None:
        if not source.is_resident:
            raise ValueError("Data on disk are read in blocks: `fit` needs a `batch_size` for them.")
        return
    check_positive(batch_size, "batch_size")
    if batch_size > source.num_rows:
        raise ValueError(
            f"`batch_size={batch_size}` is larger than the data ({source.num_rows} rows). Use `batch_size=None` "
            "for all of them."
        )
    if batch_size > source.block_rows:
        raise ValueError(
            f"`batch_size={batch_size}` is larger than a block of the stream ({source.block_rows} rows). Use "
            "`lnz.data.Stream(rows, block_bytes=...)` with larger blocks."
        )
