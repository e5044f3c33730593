"""Many steps of a method inside one compiled loop."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ._algorithm import AbstractMethod
from ._space import AbstractSpace


class Loop(eqx.Module):
    """What repeats: a method on batches of a block of rows. Equal loops share one compiled program.

    `static` is what of model and method's state is no array. Randomness and data order at step t are functions of
    `key` and t alone.
    """

    method: AbstractMethod
    key: PRNGKeyArray
    space: AbstractSpace
    static: Any
    dtype: Any = eqx.field(static=True)
    batch_size: int | None = eqx.field(static=True)
    average: float | None = eqx.field(static=True)

    def steps_per_block(self, rows: Array | None) -> int:
        return 1 if rows is None or self.batch_size is None else len(rows) // self.batch_size

    def order(self, rows: Array | None, step: Array) -> Array:
        """The permutation of a block's rows at this step."""
        if rows is None or self.batch_size is None:
            return jnp.zeros(0, jnp.int32)
        key = jr.fold_in(jr.split(self.key)[1], step // self.steps_per_block(rows))
        return jr.permutation(key, len(rows)).astype(jnp.int32)

    def batch(self, rows: Array | None, order: Array, step: Array) -> Array | None:
        if rows is None:
            return None
        if self.batch_size is not None:
            start = (step % self.steps_per_block(rows)) * self.batch_size
            rows = rows[jax.lax.dynamic_slice_in_dim(order, start, self.batch_size)]
        return self.space.cast(rows, self.dtype)

    def one_step(self, arrays: Any, rows: Array | None, order: Array, step: Array) -> tuple[Any, dict[str, Array]]:
        (model, state), average = eqx.combine(arrays[0], self.static), arrays[1]
        key = jr.fold_in(jr.split(self.key)[0], step)
        model, state, metrics = self.method.step(key, model, state, self.batch(rows, order, step))
        if self.average is not None:
            average = _towards(average, eqx.filter(model, eqx.is_array), self.average, step)
        return (eqx.filter((model, state), eqx.is_array), average), metrics


@eqx.filter_jit
def zero_metrics(loop: Loop, arrays: Any, rows: Array | None) -> dict[str, Array]:
    step = jnp.zeros((), jnp.int32)
    order = loop.order(rows, step)
    shapes = eqx.filter_eval_shape(loop.one_step, arrays, rows, order, step)[1]
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)


@eqx.filter_jit
def run_steps(
    loop: Loop, arrays: Any, sums: dict[str, Array], rows: Array | None, start: Array, stop: Array
) -> tuple[Any, dict[str, Array], Array]:
    """Steps `start` to `stop`: the new arrays, metrics added to `sums`, and whether all numbers stayed finite.

    Adding on to `sums` in the loop makes the result independent of how the steps are cut into stretches.
    """
    per_block = loop.steps_per_block(rows)

    def body(step, carry):
        arrays, sums, order = carry
        new_order = step % per_block == 0
        order = jax.lax.cond(new_order, lambda: loop.order(rows, step), lambda: order)
        arrays, metrics = loop.one_step(arrays, rows, order, step)
        return arrays, jax.tree.map(jnp.add, sums, metrics), order

    carry = arrays, sums, loop.order(rows, start)
    after, sums, _ = jax.lax.fori_loop(start, stop, body, carry)
    # Metrics are those before an update, so a last update that breaks the model shows only in its arrays.
    finite = _stays_finite(arrays[0][0], after[0][0])
    for value in sums.values():
        finite &= jnp.all(jnp.isfinite(value))
    return after, sums, finite


def _towards(average: Any, model: Any, decay: float, step: Array) -> Any:
    """`a <- d a + (1 - d) m` with `d = min(decay, (1 + t) / (10 + t))`, which forgets the start."""

    def one(old, new):
        if not eqx.is_inexact_array(new):
            return new
        weight = jnp.minimum(jnp.asarray(decay, new.dtype), ((1 + step) / (10 + step)).astype(new.dtype))
        return jnp.where(jnp.isfinite(old), weight * old + (1 - weight) * new, new)

    return jax.tree.map(one, average, model)


def broken_parts(before: Any, after: Any) -> list[str]:
    """Names of a model's arrays that became infinite or not a number."""
    old, new = jax.tree.leaves(before), jax.tree.flatten_with_path(after)[0]
    pairs = zip(old, new, strict=True)
    return [jax.tree_util.keystr(path) for old, (path, new) in pairs if bool(_is_broken(old, new))]


def _stays_finite(before: Any, after: Any) -> Array:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    broken = [_is_broken(old, new) for old, new in pairs]
    return ~jnp.any(jnp.stack(broken)) if broken else jnp.asarray(True)


def _is_broken(before: Array, after: Array) -> Array:
    """Whether a number became infinite or not a number; infinite ones that a model started with may stay.

    Minus infinity is allowed: it is the exact logarithm of a probability that maximum likelihood sets to zero.
    """
    if not eqx.is_inexact_array(after):
        return jnp.asarray(False)
    return jnp.any(~(jnp.isfinite(after) | jnp.isneginf(after)) & jnp.isfinite(before))
