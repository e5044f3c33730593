"""Functions that take their batch axes last, called as functions of one example under `jax.vmap`.

`jax.vmap` keeps or moves the batch axis as each operation likes, often to the front. For networks on a CPU that is
slow: products `W @ h` make `[features, batch]`, and arithmetic on small feature axes runs along the batch only if that
axis is last. So the maps of a flow are written for arrays `[*shape, *batch]`, and one primitive hands them whatever
batch axes `jax.vmap` adds, behind the axes of the example. They come as one axis where no parameter has any: with
several, gradients of a flow took twice as long. The primitive computes what the function computes, and differentiates
as it does, in any order of `grad`, `jvp` and `vmap`.
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

_call = Primitive("batch_last")
_call.multiple_results = True


def understands_batches(tree: Any) -> bool:
    """Whether every module in `tree` says of itself `batch_last = True`.

    Such a module understands batch axes last, of its arguments and of its own arrays, which `aligned` puts right.
    """

    def is_module(node):
        return isinstance(node, eqx.Module)

    if is_module(tree):
        fields = dataclasses.fields(tree)  # pyright: ignore[reportArgumentType]
        # What is static (a space, say) holds no arrays.
        children = [getattr(tree, field.name) for field in fields if not field.metadata.get("static", False)]
        return is_batch_last(tree) and all(understands_batches(child) for child in children)
    modules = (node for node in jax.tree.leaves(tree, is_leaf=is_module) if is_module(node))
    return all(understands_batches(module) for module in modules)


def is_batch_last(module: Any) -> bool:
    return getattr(type(module), "batch_last", False)


def call_net(net: Callable, x: Array, num_axes: int = 1) -> Array:
    """Any network of single examples of `num_axes` axes, Equinox's too, on `[n, ..., *batch]`."""
    return net.call_batch_last(x) if is_batch_last(net) else over_batch(net, x.ndim - num_axes)(x)  # pyright: ignore


def over_batch(fun: Callable, num_batch: int) -> Callable:
    """A function of single examples as one of arrays with `num_batch` batch axes last."""
    for _ in range(num_batch):
        fun = jax.vmap(fun, in_axes=-1, out_axes=-1)
    return fun


def batch_last(fun: Callable, *args: Any, takes_batched_parameters: bool = False) -> Any:
    """`fun(*args)` of one example; under `jax.vmap`, `fun` once with every batched array `[*shape, *batch]`.

    **Arguments:**

    - `fun`: a function that keeps nothing; what it returns must have `[*shape, *batch]` whenever the arrays in the
      last argument have.
    - `args`: first what may be parameters (arrays or modules), last the array of the example. All batch axes are seen
      by the last argument; a parameter has those by which it was batched, and axes of length 1 instead of the others
      once it has any: `aligned` puts it right.
    - `takes_batched_parameters`: whether `fun` understands parameters that have batch axes; otherwise such calls are
      mapped by `jax.vmap` one example at a time.
    """
    dynamic, static = eqx.partition(args, eqx.is_array)
    leaves, treedef = jax.tree.flatten(dynamic)
    call = _Call(fun, treedef, static, tuple(leaf.ndim for leaf in leaves), takes_batched_parameters)
    shape = jax.eval_shape(call.tree, *leaves)
    return jax.tree.unflatten(jax.tree.structure(shape), _call.bind(*leaves, call=call, num_batch=0))


class _Call:
    """What is called. Equal calls are one to the caches of JAX, so that a program is compiled once."""

    def __init__(self, fun, treedef, static, ndims, takes_batched_parameters):
        self.fun, self.treedef, self.static, self.ndims = fun, treedef, static, ndims
        self.takes_batched_parameters = takes_batched_parameters
        leaves, structure = jax.tree.flatten(static)
        self.identity = (fun, treedef, structure, tuple(leaves), ndims, takes_batched_parameters)
        try:
            hash(self.identity)
        except TypeError:  # something static cannot be hashed: then a call is only equal to itself
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
        """The function of leaves with `num_batch` batch axes, which are one to it where no parameter has any."""
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
    """A parameter `[*shape, *some batch]`, whose own axes are `ndim`, with all `num_batch` batch axes."""
    missing = num_batch - (parameter.ndim - ndim)
    return parameter.reshape((*parameter.shape[:ndim], *(1,) * missing, *parameter.shape[ndim:]))
