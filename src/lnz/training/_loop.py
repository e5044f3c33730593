"""The compiled loop, which runs many steps of a method."""

import functools
import hashlib
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractMethod
from ..numerics import add_compensated
from ..spaces import AbstractSpace

# Sums of metrics, and their rounding errors.
Sums = tuple[dict[str, Array], dict[str, Array]]
# The number of a block (-1: none yet) and the permutation of its rows. Computing it takes seconds for millions of rows.
Order = tuple[Array, Array]


class Loop(eqx.Module):
    """Steps of a method on batches from a block of rows. Equal loops share one compiled program.

    `static` holds the parts of the model and of the method's state that are not arrays. Randomness and data order at
    step t are functions of `key` and t alone.
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

    def has_order(self, rows: Array | None) -> bool:
        return rows is not None and self.batch_size is not None

    def no_order(self, rows: Array | None) -> Order:
        num_rows = len(rows) if rows is not None and self.has_order(rows) else 0
        return jnp.asarray(-1, jnp.int32), jnp.zeros(num_rows, jnp.int32)

    def order(self, rows: Array | None, step: Array, known: Order) -> Order:
        """The block of a step and the permutation of its rows; `known` if that is the same block."""
        if rows is None or not self.has_order(rows):
            return known
        block = step // self.steps_per_block(rows)

        def permute():
            key = jr.fold_in(jr.split(self.key)[1], block)
            return block, jr.permutation(key, len(rows)).astype(jnp.int32)

        return jax.lax.cond(block == known[0], lambda: known, permute)

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


def zero_sums(loop: Loop, arrays: Any, rows: Array | None) -> Sums:
    """Sums of metrics before any step: zeros, with the names and shapes of the metrics."""
    step = jnp.zeros((), jnp.int32)

    def metrics(arrays, rows):
        return loop.one_step(arrays, rows, loop.no_order(rows)[1], step)[1]

    shapes = eqx.filter_eval_shape(metrics, arrays, rows)
    zeros = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
    return zeros, zeros


def run_steps(
    loop: Loop, arrays: Any, sums: Sums, order: Order, rows: Array | None, start: Array, stop: Array
) -> tuple[Any, Sums, Order, Array]:
    """Run the steps from `start` to `stop`, without `stop`.

    - `sums`: sums of metrics so far, to which the loop adds. So the result does not depend on how the steps are cut
      into stretches.
    - `order`: the order returned by the last call, which saves time, or `loop.no_order(rows)`.

    **Returns:** the new arrays, sums and order, and whether all numbers stayed finite and in bounds.
    """
    return program_of(loop)(loop, arrays, sums, order, rows, start, stop)


def fingerprint_of_step(loop: Loop, arrays: Any, sums: Sums, rows: Array | None) -> str:
    """Fingerprint of the step's computation: its program before compilation, and the arrays of the method.

    The program has the numbers of the method, such as the learning rate of an optimizer and the length of chains.
    JAX keeps the lowered program for the call that compiles it.
    """
    zero = jnp.zeros((), jnp.int32)
    lowered = program_of(loop).lower(loop, arrays, sums, loop.no_order(rows), rows, zero, zero)
    digest = hashlib.sha256(lowered.lowered.as_text().encode())
    for leaf in jax.tree.leaves(eqx.filter(loop.method, eqx.is_array)):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        digest.update(np.asarray(jr.key_data(leaf) if is_key else leaf).tobytes())
    return digest.hexdigest()[:16]


def program_of(loop: Loop) -> Any:
    """The compiled `_run_steps`. Equal loops share one program; the most recently used programs are kept.

    `jax.jit` would keep thousands: a search over learning rates makes a new optimizer, and so a new program, each time.
    """
    leaves, structure = jax.tree.flatten(eqx.filter(loop, eqx.is_array, inverse=True))
    return _program((tuple(leaves), structure))


@functools.lru_cache(maxsize=8)
def _program(static: Any) -> Any:
    return eqx.filter_jit(_run_steps)


def _run_steps(loop, arrays, sums, order, rows, start, stop):
    def one_step(order, step, carry):
        arrays, sums = carry
        arrays, metrics = loop.one_step(arrays, rows, order[1], step)
        pairs = {name: add_compensated(sums[0][name], sums[1][name], value) for name, value in metrics.items()}
        return arrays, tuple({name: pair[i] for name, pair in pairs.items()} for i in range(2))

    def one_block(carry):
        # An inner loop that does not carry `order`: a loop copies in every step an array that a condition may replace.
        step, order, after = carry
        order = loop.order(rows, step, order)
        left = stop - step  # a difference, because the number of the block's last step may not fit into int32
        if loop.has_order(rows):
            per_block = loop.steps_per_block(rows)
            left = jnp.minimum(left, per_block - step % per_block)
        end = step + left
        return end, order, jax.lax.fori_loop(step, end, functools.partial(one_step, order), after)

    carry = start, order, (arrays, sums)
    _, order, (after, sums) = jax.lax.while_loop(lambda carry: carry[0] < stop, one_block, carry)
    # Metrics are computed before an update, so a last update that breaks the model shows only in its arrays.
    finite = _stays_finite(arrays[0][0], after[0][0])
    for value in sums[0].values():
        finite &= jnp.all(jnp.isfinite(value))
    return after, sums, order, finite


def _towards(average: Any, model: Any, decay: float, step: Array) -> Any:
    """`a <- d a + (1 - d) m` with `d = min(decay, (1 + t) / (10 + t))`, which forgets the start."""

    def one(old, new):
        if not eqx.is_inexact_array(new):
            return new
        weight = jnp.minimum(jnp.asarray(decay, new.dtype), ((1 + step) / (10 + step)).astype(new.dtype))
        # In this form, parameters that do not change keep their bits.
        return jnp.where(jnp.isfinite(old), old + (1 - weight) * (new - old), new)

    return jax.tree.map(one, average, model)


def broken_parts(before: Any, after: Any) -> list[str]:
    """Names of a model's arrays in which numbers became infinite, NaN, or too large to be squared."""
    old, new = jax.tree.leaves(before), jax.tree.flatten_with_path(after)[0]
    pairs = zip(old, new, strict=True)
    return [jax.tree_util.keystr(path) for old, (path, new) in pairs if bool(_is_broken(old, new))]


def _stays_finite(before: Any, after: Any) -> Array:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    broken = [_is_broken(old, new) for old, new in pairs]
    return ~jnp.any(jnp.stack(broken)) if broken else jnp.asarray(True)


def _is_broken(before: Array, after: Array) -> Array:
    """Whether a number became plus infinity, NaN, or so large that its square overflows.

    Numbers that were so before may stay. A weight whose square overflows counts as infinite, because energies and norms
    become infinite. Minus infinity is allowed: it is the exact logarithm of a probability that maximum likelihood sets
    to zero.
    """
    if not eqx.is_inexact_array(after):
        return jnp.asarray(False)
    # All finite numbers of half precision are smaller; its infinity is not.
    largest = math.sqrt(max(float(jnp.finfo(after.dtype).max), float(jnp.finfo(jnp.float32).max)))

    def is_large(x):
        return (jnp.abs(x) > largest) & (x != -jnp.inf)

    return jnp.any((jnp.isnan(after) & ~jnp.isnan(before)) | (is_large(after) & ~is_large(before)))
