"""A JAX primitive for functions that take batch axes last: `batch_last` calls them on one example under `jax.vmap`.

`jax.vmap` lets each operation place the batch axis, often in front. For networks on a CPU that is slow: products
`W @ h` make `[features, batch]`, and arithmetic on small feature axes runs along the batch only if that axis is last.
So the maps of a flow are written for arrays `[*shape, *batch]`. One primitive passes them all batch axes that
`jax.vmap` adds, after the axes of the example. Several batch axes are merged into one if no parameter is batched,
because gradients of a flow took twice as long with several. The primitive has the values and derivatives of the
function, in any order of `grad`, `jvp` and `vmap`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from ..modules import Part

_call = Primitive("batch_last")
_call.multiple_results = True


def understands_batches(tree: Any) -> bool:
    """Whether every module in `tree` has the class attribute `batch_last = True`.

    Such a module accepts batch axes last, in its arguments and in its own arrays (see `aligned`).
    """

    def is_module(node):
        return isinstance(node, eqx.Module)

    if is_module(tree):
        fields = dataclasses.fields(tree)  # pyright: ignore[reportArgumentType]
        # Static fields (a space, say) hold no arrays.
        children = [getattr(tree, field.name) for field in fields if not field.metadata.get("static", False)]
        return is_batch_last(tree) and all(understands_batches(child) for child in children)
    modules = (node for node in jax.tree.leaves(tree, is_leaf=is_module) if is_module(node))
    return all(understands_batches(module) for module in modules)


def is_batch_last(module: Any) -> bool:
    return isinstance(module, Part) and type(module).batch_last


def call_net(net: Callable, x: Array, num_axes: int = 1) -> Array:
    """Apply a network of single examples with `num_axes` axes, from Equinox or lnz, to `[n, ..., *batch]`."""
    return net.call_batch_last(x) if is_batch_last(net) else over_batch(net, x.ndim - num_axes)(x)  # pyright: ignore


def over_batch(fun: Callable, num_batch: int) -> Callable:
    """Map a function of single examples over `num_batch` batch axes, which come last."""
    for _ in range(num_batch):
        fun = jax.vmap(fun, in_axes=-1, out_axes=-1)
    return fun


def batch_last(fun: Callable, *args: Any, takes_batched_parameters: bool = False) -> Any:
    """`fun(*args)` for one example; under `jax.vmap`, one call of `fun` with all batched arrays as `[*shape, *batch]`.

    **Arguments:**

    - `fun`: a pure function. Its results must be `[*shape, *batch]` whenever the last argument is.
    - `args`: the parameters (arrays or modules), and last the array of the example. The example has all batch axes. An
      unbatched parameter has none. A batched one has all axes from the first that it is batched by, with length 1 where
      it is not batched; `aligned` adds the earlier ones.
    - `takes_batched_parameters`: whether `fun` accepts parameters with batch axes. If not, `jax.vmap` maps such calls
      one example at a time.
    """
    dynamic, static = eqx.partition(args, eqx.is_array)
    leaves, treedef = jax.tree.flatten(dynamic)
    call = _Call(fun, treedef, static, tuple(leaf.ndim for leaf in leaves), takes_batched_parameters)
    shape = jax.eval_shape(call.tree, *leaves)
    return jax.tree.unflatten(jax.tree.structure(shape), _call.bind(*leaves, call=call, num_batch=0))


class _Call:
    """A hashable callable, so that JAX compiles equal calls once."""

    def __init__(self, fun, treedef, static, ndims, takes_batched_parameters):
        self.fun, self.treedef, self.static, self.ndims = fun, treedef, static, ndims
        self.takes_batched_parameters = takes_batched_parameters
        leaves, structure = jax.tree.flatten(static)
        self.identity = (fun, treedef, structure, tuple(leaves), ndims, takes_batched_parameters)
        try:
            hash(self.identity)
        except TypeError:  # a static part is not hashable, so this call equals only itself
            self.identity = (object(),)

    def __hash__(self):
        return hash(self.identity)

    def __eq__(self, other):
        return isinstance(other, _Call) and self.identity == other.identity

    def tree(self, *leaves):
        args = eqx.combine(jax.tree.unflatten(self.treedef, leaves), self.static)
        return self.fun(*args)

    def __call__(self, *leaves):
        return jax.tree.leaves(self.tree(*leaves))

    def on(self, num_batch, *leaves):
        """Call the function on leaves with `num_batch` batch axes, merged into one if no parameter has any."""
        *parameters, x = leaves
        plain = all(leaf.ndim == ndim for leaf, ndim in zip(parameters, self.ndims, strict=False))
        if num_batch < 2 or not plain:
            return self(*leaves)
        shape, batch = x.shape[:-num_batch], x.shape[-num_batch:]
        out = self(*parameters, x.reshape(*shape, math.prod(batch)))
        return [y.reshape(*y.shape[:-1], *batch) for y in out]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(call, num_batch, *leaves):
    return call.on(num_batch, *leaves)


@_call.def_impl
def _run(*leaves, call, num_batch):
    return _compiled(call, num_batch, *leaves)


@_call.def_abstract_eval
def _shapes(*leaves, call, num_batch):
    structs = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    return [ShapedArray(s.shape, s.dtype) for s in jax.eval_shape(call, *structs)]


mlir.register_lowering(
    _call, mlir.lower_fun(lambda *leaves, call, num_batch: call.on(num_batch, *leaves), multiple_results=True)
)


def _differentiate(primals, tangents, *, call, num_batch):
    live = [not isinstance(tangent, ad.Zero) for tangent in tangents]

    def of_live(*changed):
        changed = iter(changed)
        return call.on(num_batch, *(next(changed) if alive else x for alive, x in zip(live, primals, strict=True)))

    def chosen(values):
        return [x for alive, x in zip(live, values, strict=True) if alive]

    return jax.jvp(of_live, chosen(primals), chosen(tangents))


ad.primitive_jvps[_call] = _differentiate


def _batch(leaves, axes, *, call, num_batch):
    parameters_batched = any(axis is not None for axis in axes[:-1])
    if parameters_batched and not call.takes_batched_parameters:
        out = jax.vmap(call, axes)(*leaves)
        return out, [0] * len(out)
    size = next(leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None)
    moved = [jnp.moveaxis(x, axis, -1) if axis is not None else x for x, axis in zip(leaves, axes, strict=True)]
    for i, (axis, ndim) in enumerate(zip(axes, call.ndims, strict=True)):
        if axis is None and i == len(axes) - 1:
            moved[i] = jnp.broadcast_to(moved[i][..., None], (*moved[i].shape, size))
        elif axis is None and moved[i].ndim > ndim:  # batched by an inner `vmap`, not by this one
            moved[i] = moved[i][..., None]
    out = _call.bind(*moved, call=call, num_batch=num_batch + 1)
    return out, [x.ndim - 1 for x in out]


batching.primitive_batchers[_call] = _batch


def aligned(parameter: Array, ndim: int, num_batch: int) -> Array:
    """A parameter with `ndim` axes of its own and some batch axes, reshaped to have all `num_batch` batch axes."""
    missing = num_batch - (parameter.ndim - ndim)
    return parameter.reshape((*parameter.shape[:ndim], *(1,) * missing, *parameter.shape[ndim:]))
