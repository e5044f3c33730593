"""Bijections made of bijections."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._batch_last import aligned, over_batch
from .._bijection import (
    AbstractBatchLastBijection,
    AbstractBijection,
    AbstractStartable,
    forward_batch_last,
    inverse_batch_last,
    is_affine,
    start,
    waits_for_data,
)
from .._check import check_positive, kind_of
from .._local import origins
from .._module import field_names, leading_axes, replace
from .._register import register
from .._space import AbstractSpace, Euclidean
from .._supports import Product, each_variable, joined, same_set


def _check_bijections(bijections: tuple[AbstractBijection, ...], owner: str) -> None:
    if not bijections:
        raise ValueError(f"`{owner}(...)` needs at least one bijection.")
    for i, bijection in enumerate(bijections):
        if not isinstance(bijection, AbstractBijection):
            kind = kind_of(bijection)
            advice = f" Try `{owner}(*bijections)`." if isinstance(bijection, list | tuple) else ""
            raise TypeError(f"`{owner}(...)` needs bijections, one by one; argument {i} is {kind}.{advice}")


@register
class Inverse(AbstractBatchLastBijection, AbstractStartable):
    """`f^-1`: forward and inverse change places."""

    bijection: AbstractBijection

    @property
    def affine(self) -> bool:
        return is_affine(self.bijection)

    @property
    def domain(self) -> AbstractSpace:
        return self.bijection.codomain

    @property
    def codomain(self) -> AbstractSpace:
        return self.bijection.domain

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return inverse_batch_last(self.bijection, x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return forward_batch_last(self.bijection, y, key)

    @property
    def waits_for_data(self) -> bool:
        return waits_for_data(self.bijection)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Inverse", Array]:
        bijection, x = start(self.bijection, key, x, not inverse)
        return Inverse(bijection), x


@register
class Chain(AbstractBatchLastBijection, AbstractStartable):
    """`f_k o ... o f_1`: the first bijection listed is applied first; log-determinants add.

    Source: Rezende and Mohamed (2015), equations 6 and 7; arXiv:1505.05770.
    """

    bijections: tuple[AbstractBijection, ...]

    def __init__(self, *bijections: AbstractBijection):
        self.bijections = bijections

    def __check_init__(self):
        _check_bijections(self.bijections, "Chain")
        for i, (first, second) in enumerate(zip(self.bijections[:-1], self.bijections[1:], strict=True)):
            if not same_set(first.codomain, second.domain):
                raise ValueError(
                    f"`Chain(...)`: bijection {i} ends in {first.codomain} but bijection {i + 1} starts in "
                    f"{second.domain}. Put a map from the one onto the other between them, such as "
                    "`ToSupport(space)`, from R^n, or its `Inverse`."
                )

    @property
    def affine(self) -> bool:
        return all(is_affine(bijection) for bijection in self.bijections)

    def origins(self) -> tuple[Any, ...]:
        """Those of the last bijection."""
        return origins(self.bijections[-1])

    @property
    def domain(self) -> AbstractSpace:
        return self.bijections[0].domain

    @property
    def codomain(self) -> AbstractSpace:
        return self.bijections[-1].codomain

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, self.bijections, x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, self.bijections[::-1], y, key)

    @property
    def waits_for_data(self) -> bool:
        return any(waits_for_data(bijection) for bijection in self.bijections)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Chain", Array]:
        order = -1 if inverse else 1
        bijections = []
        for bijection, layer_key in zip(self.bijections[::order], jr.split(key, len(self.bijections)), strict=True):
            bijection, x = start(bijection, layer_key, x, inverse)
            bijections.append(bijection)
        return Chain(*bijections[::order]), x

    def _apply(self, function, bijections, x, key):
        first_key, *keys = _split(key, len(bijections))
        x, total = function(bijections[0], x, first_key)
        for layer_key, bijection in zip(keys, bijections[1:], strict=True):
            x, log_det = function(bijection, x, layer_key)
            total = total + log_det
        return x, total


@register
class Scan(AbstractBatchLastBijection, AbstractStartable):
    """Equal layers, one after the other, compiled once: `Chain` for bijections that differ in their arrays only.

    **Arguments:**

    - `layers`: one bijection whose arrays are stacked along a new first axis `[num_layers, ...]`; the first is applied
      first. `Scan.of(make, keys)` builds it.

    Compiling takes the time of one layer, however many there are.
    """

    layers: AbstractBijection

    @classmethod
    def of(cls, make: Callable[[PRNGKeyArray], AbstractBijection], keys: Array) -> "Scan":
        """The layers `make(keys[0]), make(keys[1]), ...`."""
        return cls(eqx.filter_vmap(make)(keys))

    @classmethod
    def stack(cls, layers: Sequence[AbstractBijection]) -> "Scan":
        """The same layers as in `Chain(*layers)`, which must be alike but for their arrays."""
        parts = [eqx.partition(layer, eqx.is_array) for layer in layers]
        kinds = {(str(jax.tree.structure(arrays)), *map(jnp.shape, jax.tree.leaves(arrays))) for arrays, _ in parts}
        if len(kinds) != 1:
            raise ValueError(
                "`Scan.stack(layers)` needs layers that differ in the numbers in their arrays only; try "
                "`Chain(*layers)`."
            )
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *(dynamic for dynamic, _ in parts))
        return cls(eqx.combine(stacked, parts[0][1]))

    def __check_init__(self):
        if not same_set(self.domain, self.codomain):
            raise ValueError(f"`Scan` repeats maps of a space to itself; got {self.domain} to {self.codomain}.")

    @property
    def num_layers(self) -> int:
        return jax.tree.leaves(eqx.filter(self.layers, eqx.is_array))[0].shape[0]

    @property
    def domain(self) -> AbstractSpace:
        return _space_of(self.layers, "domain", 1)

    @property
    def codomain(self) -> AbstractSpace:
        return _space_of(self.layers, "codomain", 1)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, x, key, reverse=False)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, y, key, reverse=True)

    @property
    def waits_for_data(self) -> bool:
        return waits_for_data(self.layers)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Scan", Array]:
        dynamic, static = eqx.partition(self.layers, eqx.is_array)

        def step(x, layer):
            arrays, layer_key = layer
            bijection, x = start(eqx.combine(arrays, static), layer_key, x, inverse)
            return x, eqx.filter(bijection, eqx.is_array)

        keys = jr.split(key, self.num_layers)
        x, dynamic = jax.lax.scan(step, x, (dynamic, keys), reverse=inverse)
        return replace(self, layers=eqx.combine(dynamic, static)), x

    def _apply(self, function, x, key, reverse):
        dynamic, static = eqx.partition(self.layers, eqx.is_array)
        keys = None if key is None else jnp.stack(_split(key, self.num_layers))

        def step(carry, layer):
            x, total = carry
            arrays, layer_key = layer
            x, log_det = function(eqx.combine(arrays, static), x, layer_key)
            return (x, total + log_det), None

        one = jax.tree.map(lambda leaf: leaf[0], (dynamic, keys))
        shape = jax.eval_shape(lambda x: function(eqx.combine(one[0], static), x, one[1])[1], x)
        start = jnp.zeros(shape.shape, shape.dtype)
        (x, total), _ = jax.lax.scan(step, (x, start), (dynamic, keys), reverse=reverse)
        return x, total


def _split(keys: Array | None, num: int) -> list:
    """`num` keys from each key of `[*batch]`."""
    if keys is None:
        return [None] * num
    split = over_batch(lambda key: jr.split(key, num), keys.ndim)(keys)
    return list(split)


@register
class Concatenate(AbstractBatchLastBijection, AbstractStartable):
    """`y = (f_1(x_1), ..., f_k(x_k))`: bijections side by side, each on its own part of a vector.

    **Arguments:**

    - `bijections`: of vectors; x has their domains one behind the other, y their codomains. Log-determinants add.
    """

    bijections: tuple[AbstractBijection, ...]

    def __init__(self, *bijections: AbstractBijection):
        self.bijections = bijections

    def __check_init__(self):
        _check_bijections(self.bijections, "Concatenate")
        for i, part in enumerate(self.bijections):
            if len(part.domain.shape) != 1 or len(part.codomain.shape) != 1:
                raise ValueError(
                    f"`Concatenate(...)` joins bijections of vectors; number {i} goes from {part.domain} to "
                    f"{part.codomain}."
                )

    @functools.cached_property
    def domain(self) -> AbstractSpace:
        return _joined([part.domain for part in self.bijections])

    @functools.cached_property
    def codomain(self) -> AbstractSpace:
        return _joined([part.codomain for part in self.bijections])

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, x, key, [part.domain for part in self.bijections])

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, y, key, [part.codomain for part in self.bijections])

    @property
    def waits_for_data(self) -> bool:
        return any(waits_for_data(part) for part in self.bijections)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Concatenate", Array]:
        spaces = [part.codomain if inverse else part.domain for part in self.bijections]
        ends = np.cumsum([space.shape[0] for space in spaces]).tolist()
        pieces = jnp.split(x, ends[:-1], axis=1)
        bijections, pieces = _start_each(self.bijections, key, pieces, inverse)
        return Concatenate(*bijections), jnp.concatenate(pieces, axis=1)

    def _apply(self, function, x, key, spaces):
        ends = np.cumsum([space.shape[0] for space in spaces]).tolist()
        keys = _split(key, len(spaces))
        pieces = [
            function(part, x[end - space.shape[0] : end], part_key)
            for part, part_key, space, end in zip(self.bijections, keys, spaces, ends, strict=True)
        ]
        log_dets = [log_det for _, log_det in pieces]
        return jnp.concatenate([piece for piece, _ in pieces]), sum(log_dets[1:], log_dets[0])


def _start_each(bijections, key, xs, inverse):
    """Bijections side by side, started, and what leaves each of the rows `xs[i] [n, ...]`."""
    keys = jr.split(key, len(bijections))
    started = [start(*part, inverse) for part in zip(bijections, keys, xs, strict=True)]
    return [bijection for bijection, _ in started], [x for _, x in started]


def _joined(spaces: list[AbstractSpace]) -> AbstractSpace:
    """One space of vectors whose parts are these."""
    if all(isinstance(space, Euclidean) for space in spaces):
        return Euclidean(sum(space.shape[0] for space in spaces))
    return spaces[0] if len(spaces) == 1 else Product(*spaces)


@register
class Stack(AbstractBatchLastBijection, AbstractStartable):
    """`y[i] = f_i(x[i])`: bijections side by side, each on its own slice along a new first axis.

    **Arguments:**

    - `bijections`: all of one domain and one codomain, which have a shape of one's choice: Euclidean, positive, an
      interval or angles. Log-determinants add.

    For bijections that differ in their arrays only `Vmap` is quicker to compile; of vectors of different lengths, or of
    different spaces, `Concatenate` makes one.
    """

    bijections: tuple[AbstractBijection, ...]

    def __init__(self, *bijections: AbstractBijection):
        self.bijections = bijections

    def __check_init__(self):
        _check_bijections(self.bijections, "Stack")
        first = self.bijections[0]
        for i, part in enumerate(self.bijections):
            if not same_set(part.domain, first.domain) or not same_set(part.codomain, first.codomain):
                raise ValueError(
                    f"`Stack(...)` needs bijections of one domain and one codomain; number 0 goes from {first.domain} "
                    f"to {first.codomain}, number {i} from {part.domain} to {part.codomain}. `Concatenate(...)` joins "
                    "vectors of different spaces."
                )
        _check_stackable((first.domain, first.codomain), "Stack(...)")

    @functools.cached_property
    def domain(self) -> AbstractSpace:
        return _stacked(self.bijections[0].domain, len(self.bijections))

    @functools.cached_property
    def codomain(self) -> AbstractSpace:
        return _stacked(self.bijections[0].codomain, len(self.bijections))

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, y, key)

    @property
    def waits_for_data(self) -> bool:
        return any(waits_for_data(part) for part in self.bijections)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Stack", Array]:
        bijections, slices = _start_each(self.bijections, key, jnp.moveaxis(x, 1, 0), inverse)
        return Stack(*bijections), jnp.stack(slices, axis=1)

    def _apply(self, function, x, key):
        keys = _split(key, len(self.bijections))
        pieces = [function(*part) for part in zip(self.bijections, x, keys, strict=True)]
        return jnp.stack([piece for piece, _ in pieces]), jnp.sum(jnp.stack([log_det for _, log_det in pieces]), axis=0)


@register
class Vmap(AbstractBatchLastBijection, AbstractStartable):
    """`y[i] = f_i(x[i])` for bijections that differ in their arrays only: `Stack`, compiled once and computed together.

    **Arguments:**

    - `parts`: one bijection whose arrays are stacked along a new first axis `[num, ...]`. `Vmap.of(make, keys)` builds
      it; `Scan` is the like for bijections one after the other.
    - `num`: how many.

    **Raises:** `ValueError` if the arrays are not stacked along one axis of length `num`.
    """

    parts: AbstractBijection
    num: int = eqx.field(static=True)

    def __init__(self, parts: AbstractBijection, num: int):
        self.parts, self.num = parts, num
        if min(map(len, _stacks(parts)), default=1) != 1:
            self._refuse()

    @classmethod
    def of(cls, make: Callable[[PRNGKeyArray], AbstractBijection], keys: Array) -> "Vmap":
        """The bijections `make(keys[0]), make(keys[1]), ...`."""
        return cls(eqx.filter_vmap(make)(keys), len(keys))

    def __check_init__(self):
        check_positive(self.num, "Vmap(num=...)")
        # Inside a `Scan` that comes from a file the axes of layers are before that of the parts.
        depth = min(map(len, _stacks(self.parts)), default=1)
        leaves = jax.tree.leaves(eqx.filter(self.parts, eqx.is_array))
        if depth == 0 or any(leaf.shape[depth - 1 : depth] != (self.num,) for leaf in leaves):
            self._refuse()
        _check_stackable([_space_of(self.parts, end, 1) for end in ("domain", "codomain")], "Vmap(parts)")

    def _refuse(self):
        shapes = [list(leaf.shape) for leaf in jax.tree.leaves(eqx.filter(self.parts, eqx.is_array))]
        raise ValueError(
            f"`Vmap(parts, num={self.num})` needs one bijection whose arrays are all stacked along one new first axis, "
            f"of length {self.num}; got {type(self.parts).__name__} with arrays {shapes}. Try `Vmap.of(make, keys)`."
        )

    @property
    def domain(self) -> AbstractSpace:
        return _stacked(_space_of(self.parts, "domain", 1), self.num)

    @property
    def codomain(self) -> AbstractSpace:
        return _stacked(_space_of(self.parts, "codomain", 1), self.num)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, y, key)

    @property
    def waits_for_data(self) -> bool:
        return waits_for_data(self.parts)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["Vmap", Array]:
        dynamic, static = eqx.partition(self.parts, eqx.is_array)

        def start_one(arrays, key, x):
            bijection, x = start(eqx.combine(arrays, static), key, x, inverse)
            return eqx.filter(bijection, eqx.is_array), x

        keys = jr.split(key, self.num)
        dynamic, x = jax.vmap(start_one, in_axes=(0, 0, 1), out_axes=(0, 1))(dynamic, keys, x)
        return replace(self, parts=eqx.combine(dynamic, static)), x

    def _apply(self, function, x, key):
        dynamic, static = eqx.partition(self.parts, eqx.is_array)
        keys = None if key is None else jnp.stack(_split(key, self.num))
        y, log_dets = jax.vmap(lambda arrays, x, key: function(eqx.combine(arrays, static), x, key))(dynamic, x, keys)
        return y, jnp.sum(log_dets, axis=0)


def _space_of(bijection: AbstractBijection, end: str, num: int) -> AbstractSpace:
    """The `end`, "domain" or "codomain", of one of the bijections whose arrays are stacked along `num` first axes.

    One walk down through the wrappers. If each asked the next for its own, with an axis less, a file of nested wrappers
    would take time in the cube of its size.
    """
    while True:
        if isinstance(bijection, Inverse):
            bijection, end = bijection.bijection, "codomain" if end == "domain" else "domain"
        elif isinstance(bijection, Chain):
            bijection = bijection.bijections[0 if end == "domain" else -1]
        elif isinstance(bijection, Scan):
            bijection, num = bijection.layers, num + 1
        else:
            break
    if isinstance(bijection, Vmap):
        return _stacked(_space_of(bijection.parts, end, num + 1), bijection.num)
    if isinstance(bijection, Stack):
        return _stacked(_space_of(bijection.bijections[0], end, num), len(bijection.bijections))
    if isinstance(bijection, Concatenate):
        return _joined([_space_of(part, end, num) for part in bijection.bijections])
    # Its shapes, without its numbers.
    alone = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[num:], leaf.dtype) if eqx.is_array(leaf) else leaf, bijection
    )
    return getattr(alone, end)


def _stacks(node) -> list[tuple[int, ...]]:
    """The axes of a stack before the axes of one bijection, as far as declared shapes tell, of each array."""
    children = jax.tree.leaves(node, is_leaf=lambda child: child is not node and isinstance(child, eqx.Module))
    inner = [stack for child in children if isinstance(child, eqx.Module) for stack in _stacks(child)]
    if isinstance(node, Scan | Vmap):  # the last axis is its own
        return [stack[:-1] for stack in inner]
    shape = node.domain.shape if isinstance(node, AbstractBijection) else None
    return inner + (leading_axes(node, shape) if isinstance(node, eqx.Module) else [])


def _check_stackable(spaces: Sequence[AbstractSpace], owner: str) -> None:
    for space in spaces:
        if "shape" not in field_names(type(space)):  # of a product, say, it follows from the parts
            raise ValueError(f"`{owner}` needs a space that may have any shape; got {space}.")


def _stacked(space: AbstractSpace, num: int) -> AbstractSpace:
    """The space of `num` points of `space`, `[num, *space.shape]`."""
    return replace(space, shape=(num, *space.shape))


@register
class Permutation(AbstractBatchLastBijection):
    """`y_i = x[order_i]`: exchanges variables of a vector, and with them the parts of a `Product`.

    **Arguments:**

    - `order`: the numbers 0 to n - 1 in any order. They are no parameters: training leaves them alone.
    - `space`: of x, vectors.
    """

    affine: ClassVar[bool] = True
    order: Int[Array, " n"]
    space: AbstractSpace = eqx.field(static=True)
    codomain: AbstractSpace = eqx.field(static=True)

    def __init__(self, order: Int[Array, " n"], space: AbstractSpace):
        self.order, self.space, self.codomain = order, space, space
        # An order that is traced, as for each layer of a stack, is not known: the variables are then back in their
        # places by the end of the layer, as `lnz.flows` arranges it. The space is a field, so that it is the same
        # inside a compiled function, where any order is traced.
        if isinstance(space, Product) and not isinstance(order, Tracer):
            variables = each_variable(space)
            self.codomain = joined(tuple(variables[i] for i in np.asarray(order).tolist()))

    @property
    def domain(self) -> AbstractSpace:
        return self.space

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return take(x, self.order), jnp.zeros(x.shape[1:], x.dtype)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return take(y, jnp.argsort(self.order, axis=0)), jnp.zeros(y.shape[1:], y.dtype)


def take(x, order):
    """`x[order]` along the first axis; `order [n]` or, for each example its own, `[n, *batch]`."""
    if order.ndim == 1:
        return x[order]
    return jnp.take_along_axis(x, jnp.broadcast_to(aligned(order, 1, x.ndim - 1), x.shape), axis=0)


@register
class Flip(AbstractBatchLastBijection):
    """`y_i = x[n - 1 - i]`: variables, and the parts of a `Product`, in reverse order."""

    affine: ClassVar[bool] = True
    space: AbstractSpace = eqx.field(static=True)

    @property
    def domain(self) -> AbstractSpace:
        return self.space

    @property
    def codomain(self) -> AbstractSpace:
        return Product(*self.space.spaces[::-1]) if isinstance(self.space, Product) else self.space

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return x[::-1], jnp.zeros(x.shape[1:], x.dtype)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return y[::-1], jnp.zeros(y.shape[1:], y.dtype)
