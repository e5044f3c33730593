"""Many copies of one layer with different parameters, in sequence or side by side, compiled once."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import check_positive, leading_axes, replace
from ..spaces import AbstractSpace, same_set, side_by_side
from ._bijection import (
    AbstractBatchLastBijection,
    AbstractBijection,
    forward_batch_last,
    inverse_batch_last,
    start,
    waits_for_data,
)
from ._chain import Chain, Inverse
from ._compose import _check_stackable, _split, _stacked
from ._concatenate import Concatenate, Stack


class Scan(AbstractBatchLastBijection):
    """A `Chain` of bijections that differ only in their arrays, compiled once.

    **Arguments:**

    - `layers`: one bijection whose arrays are stacked along a new first axis `[num_layers, ...]`; the first layer is
      applied first. `Scan.of(make, keys)` builds it.

    Compiling takes the time of one layer, however many there are.
    """

    layers: AbstractBijection

    @classmethod
    def of(cls, make: Callable[[PRNGKeyArray], AbstractBijection], keys: Array) -> "Scan":
        """The layers `make(keys[0]), make(keys[1]), ...`."""
        return cls(eqx.filter_vmap(make)(keys))

    @classmethod
    def stack(cls, layers: Sequence[AbstractBijection]) -> "Scan":
        """The layers of `Chain(*layers)`, which may differ only in their arrays."""
        parts = [eqx.partition(layer, eqx.is_array) for layer in layers]
        kinds = {(str(jax.tree.structure(arrays)), *map(jnp.shape, jax.tree.leaves(arrays))) for arrays, _ in parts}
        if len(kinds) != 1:
            raise ValueError(
                "`Scan.stack(layers)` needs layers that differ only in the values of their arrays; try "
                "`Chain(*layers)`."
            )
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *(dynamic for dynamic, _ in parts))
        return cls(eqx.combine(stacked, parts[0][1]))

    def __check_init__(self):
        if not same_set(self.domain, self.codomain):
            raise ValueError(f"`Scan` needs layers from a space to itself; got {self.domain} to {self.codomain}.")

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


class Vmap(AbstractBatchLastBijection):
    """`y[i] = f_i(x[i])`: a `Stack` of bijections that differ only in their arrays, compiled once, computed together.

    **Arguments:**

    - `parts`: one bijection whose arrays are stacked along a new first axis `[num, ...]`. `Vmap.of(make, keys)` builds
      it. `Scan` applies such bijections one after the other.
    - `num`: number of bijections.

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
        # Inside a `Scan` loaded from a file, the axes of its layers precede the axis of the parts.
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

    Walks down through the wrappers once. If each wrapper asked the next one, with one axis less, the time for a file of
    nested wrappers would grow with the cube of its size.
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
        return side_by_side([_space_of(part, end, num) for part in bijection.bijections])
    # The shapes are enough; no values are needed.
    alone = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[num:], leaf.dtype) if eqx.is_array(leaf) else leaf, bijection
    )
    return getattr(alone, end)


def _stacks(node) -> list[tuple[int, ...]]:
    """For each array, the stack axes before the axes of one bijection, as far as declared shapes tell."""
    children = jax.tree.leaves(node, is_leaf=lambda child: child is not node and isinstance(child, eqx.Module))
    inner = [stack for child in children if isinstance(child, eqx.Module) for stack in _stacks(child)]
    if isinstance(node, Scan | Vmap):  # the last stack axis belongs to this node
        return [stack[:-1] for stack in inner]
    shape = node.domain.shape if isinstance(node, AbstractBijection) else None
    return inner + (leading_axes(node, shape) if isinstance(node, eqx.Module) else [])
