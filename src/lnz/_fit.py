"""The verb `fit`: repeat a method's step, many steps inside one compiled loop."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ._algorithm import AbstractMethod
from ._check import check_key, check_positive, model_dtype
from ._estimate import LogLikelihood
from ._space import AbstractSpace


@dataclasses.dataclass(frozen=True)
class Fit:
    """What came of training.

    - `model`: the trained model; the best one on `valid` with `keep="best"`.
    - `history`: one record for each stretch of steps: `step`, `seconds` since the start, and the mean of every metric
      (nats per example) over the stretch; `valid` where it was evaluated.
    - `status`: `"completed"`, or what stopped it.
    - `state`: the method's last state, such as persistent chains.
    - `compile_seconds`: spent on tracing and compiling, apart from `seconds`.
    """

    model: Any
    history: list[dict[str, float | int]]
    status: str
    state: Any
    compile_seconds: float


def fit(
    key: PRNGKeyArray,
    model: Any,
    method: AbstractMethod,
    data: Any,
    *,
    steps: int,
    batch_size: int | None = None,
    valid: Any = None,
    evaluator: Callable[[PRNGKeyArray, Any, Any], LogLikelihood] | None = None,
    valid_every: int | None = None,
    keep: str = "last",
    log_every: int | None = None,
    progress: Callable[[dict[str, float | int]], None] | None = None,
    throw: bool = True,
) -> Fit:
    """Train `model` by `method` on `data`.

    Randomness and data order at step t are functions of `key` and t alone: the result does not depend on
    how often Python looks in. Each epoch visits the data in a new order; what is left over after the last
    whole batch waits for another epoch.

    **Arguments:**

    - `key`: a JAX random key.
    - `model`: the model to start from; it is not changed.
    - `method`: such as `lnz.Gradient(lnz.objectives.PCD(1), optax.sgd(0.05))` or `lnz.EM()`.
    - `data`: examples `[n, *model.space.shape]`, kept on the device as they are stored (bits as bytes, say) and cast
      in the step; `None` for objectives that need no data.
    - `steps`: number of updates.
    - `batch_size`: examples an update; all of them if `None`.
    - `valid`: held-out examples, scored by `evaluator(key, model, valid)` (by default `lnz.evaluate`) every
      `valid_every` steps (by default ten times) and at the end.
    - `keep`: `"last"`, or `"best"` for the model with the highest validation score.
    - `log_every`: steps between records of the history; by default a hundredth of `steps`.
    - `progress`: called with each record.
    - `throw`: raise if a metric or the model is not finite; otherwise return the model of the last good record.

    **Returns:** a `Fit`.

    **Raises:** `ValueError` or `TypeError` for bad arguments; `FloatingPointError` when a metric or the model is no
    longer finite.
    """
    key = check_key(key)
    steps = check_positive(steps, "steps")
    if not isinstance(method, AbstractMethod):
        raise TypeError(
            f"`method` must be a method such as `lnz.Gradient(objective, optimizer)` or `lnz.EM()`; got "
            f"{type(method).__name__}."
        )
    if keep not in ("last", "best"):
        raise ValueError(f"`keep` must be 'last' or 'best'; got {keep!r}.")
    if keep == "best" and valid is None:
        raise ValueError("`keep='best'` needs `valid=...`, the held-out examples that decide.")
    if not isinstance(getattr(model, "space", None), AbstractSpace):
        raise TypeError(
            f"`model` must be a model with a space of examples; got {type(model).__name__}. (A Bayesian model is not "
            "trained but conditioned: `lnz.condition(model, data)`.)"
        )
    batches = _Batches.of(model, data, batch_size)
    if valid is not None:
        valid = model.space.check_data(valid, "valid")
    evaluator = _default_evaluator if evaluator is None else evaluator
    log_every = max(1, steps // 100) if log_every is None else check_positive(log_every, "log_every")
    valid_every = max(1, steps // 10) if valid_every is None else check_positive(valid_every, "valid_every")

    key_init, key_steps, key_valid = jr.split(key, 3)
    started = time.perf_counter()
    model, state = method.init(key_init, model, batches.all())
    dynamic, static = eqx.partition((model, state), eqx.is_array)
    dynamic = jax.tree.map(jnp.asarray, dynamic)
    loop = _compiled_loop(method, static, batches, key_steps, dynamic)
    compile_seconds = time.perf_counter() - started

    history: list[dict[str, float | int]] = []
    best_score, best = -math.inf, None
    step, status = 0, "completed"
    trained_for = 0.0
    while step < steps:
        next_log = (step // log_every + 1) * log_every
        next_valid = (step // valid_every + 1) * valid_every if valid is not None else steps
        stop = min(next_log, next_valid, steps)
        tick = time.perf_counter()
        new_dynamic, sums, intact = loop(dynamic, batches.data, key_steps, step, stop)
        record = {name: float(total) / (stop - step) for name, total in sums.items()}
        trained_for += time.perf_counter() - tick
        # Metrics are those before the update, so a last update that breaks the model shows only in its arrays.
        if not (bool(intact) and all(math.isfinite(value) for value in record.values())):
            status = _describe_divergence(record, step, stop)
            if throw:
                raise FloatingPointError(status)
            break
        dynamic, step = new_dynamic, stop
        record = {"step": step, "seconds": trained_for, **record}
        if valid is not None and (step % valid_every == 0 or step == steps):
            model = eqx.combine(dynamic, static)[0]
            record["valid"] = evaluator(jr.fold_in(key_valid, step), model, valid).value
            if record["valid"] > best_score:
                best_score, best = record["valid"], model
        history.append(record)
        if progress is not None:
            progress(record)
    model, state = eqx.combine(dynamic, static)
    # With no finite validation score there is no best model, and the last one is as good as any.
    return Fit(model if keep == "last" or best is None else best, history, status, state, compile_seconds)


@dataclasses.dataclass(frozen=True)
class _Batches:
    """Resident data, and which rows of them step t sees."""

    data: Array | None
    batch_size: int | None
    cast: Callable[[Array], Array]

    @classmethod
    def of(cls, model: Any, data: Any, batch_size: int | None) -> "_Batches":
        if data is None:
            return cls(None, None, lambda batch: batch)
        dtype = model_dtype(model)
        array = model.space.check_data(data, "data")
        if array.dtype.kind == "f":  # a float64 NumPy array need not take double the memory
            array = array.astype(dtype)
        if batch_size is not None:
            check_positive(batch_size, "batch_size")
            if batch_size > len(array):
                raise ValueError(
                    f"`batch_size={batch_size}` is larger than the data ({len(array)} rows). Use `batch_size=None` "
                    "for all of them."
                )
        return cls(jnp.asarray(array), batch_size, lambda batch: model.space.cast(batch, dtype))

    def all(self) -> Array | None:
        return None if self.data is None else self.cast(self.data)

    @property
    def steps_per_epoch(self) -> int:
        return 1 if self.data is None or self.batch_size is None else len(self.data) // self.batch_size

    def order(self, key: PRNGKeyArray, step: Array) -> Array:
        """The permutation of rows for the epoch of this step."""
        if self.data is None or self.batch_size is None:
            return jnp.zeros(0, jnp.int32)
        key_epoch = jr.fold_in(key, step // self.steps_per_epoch)
        return jr.permutation(key_epoch, len(self.data)).astype(jnp.int32)

    def batch(self, data: Array | None, order: Array, step: Array) -> Array | None:
        if data is None:
            return None
        if self.batch_size is None:
            return self.cast(data)
        start = (step % self.steps_per_epoch) * self.batch_size
        rows = jax.lax.dynamic_slice_in_dim(order, start, self.batch_size)
        return self.cast(data[rows])


def _compiled_loop(method: AbstractMethod, static: Any, batches: _Batches, key: PRNGKeyArray, dynamic: Any):
    """`(dynamic, data, key, start, stop) -> (dynamic, summed metrics, model intact)`, compiled once for any stretch."""

    def one_step(dynamic, data, key, order, step):
        model, state = eqx.combine(dynamic, static)
        batch = batches.batch(data, order, step)
        model, state, metrics = method.step(jr.fold_in(key, step), model, state, batch)
        return eqx.filter((model, state), eqx.is_array), metrics

    def stretch(dynamic, data, key, start, stop):
        key, key_order = jr.split(key)
        order = batches.order(key_order, start)
        shapes = jax.eval_shape(one_step, dynamic, data, key, order, start)[1]
        sums = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def body(step, carry):
            dynamic, sums, order = carry
            new_epoch = step % batches.steps_per_epoch == 0
            order = jax.lax.cond(new_epoch, lambda: batches.order(key_order, step), lambda: order)
            dynamic, metrics = one_step(dynamic, data, key, order, step)
            return dynamic, jax.tree.map(jnp.add, sums, metrics), order

        first = dynamic
        dynamic, sums, _ = jax.lax.fori_loop(start, stop, body, (dynamic, sums, order))
        return dynamic, sums, _stays_finite(first[0], dynamic[0])

    step = jnp.asarray(0, jnp.int32)
    compiled = jax.jit(stretch).lower(dynamic, batches.data, key, step, step).compile()

    def loop(dynamic, data, key, start, stop):
        return compiled(dynamic, data, key, jnp.asarray(start, jnp.int32), jnp.asarray(stop, jnp.int32))

    return loop


def _stays_finite(before: Any, after: Any) -> Array:
    """Whether no number of a model became infinite or not a number; infinite ones that it started with may stay.

    Minus infinity is allowed: it is the exact logarithm of a probability that maximum likelihood sets to zero.
    """
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    pairs = [(old, new) for old, new in pairs if eqx.is_inexact_array(old)]
    broken = [jnp.any(~(jnp.isfinite(new) | jnp.isneginf(new)) & jnp.isfinite(old)) for old, new in pairs]
    return ~jnp.any(jnp.stack(broken)) if broken else jnp.asarray(True)


def _default_evaluator(key: PRNGKeyArray, model: Any, data: Any) -> LogLikelihood:
    from ._evaluate import evaluate

    return evaluate(key, model, data)


def _describe_divergence(record: dict[str, float], start: int, stop: int) -> str:
    values = ", ".join(f"{name} = {value:g}" for name, value in record.items())
    return (
        f"Training diverged between steps {start} and {stop}: {values}. Try a smaller learning rate, "
        "`optax.clip_by_global_norm(1.0)` before the optimizer (for `EM`, `smoothing=1.0`), or look for extreme values "
        "in the data."
    )
