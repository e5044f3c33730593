"""Trainable and frozen parts of a model."""

from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax

from ._module import HashableMethods, replace

if TYPE_CHECKING:  # type checkers would take an `AbstractVar` for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar

T = TypeVar("T")


class Frozen(eqx.Module):
    """An array of a model that gradient methods do not train, or a module of such arrays.

    A wrapped distribution no longer acts as a distribution, so it cannot be a model's prior or base. Use an
    `lnz.AbstractFixable` there.
    """

    value: Any


class AbstractFixable(HashableMethods, eqx.Module):
    """A part of a model that is frozen in training if its field `constant` is true; see `lnz.trainable`.

    Training ignores a field `constant` of any other class.
    """

    constant: AbstractVar[bool]


def trainable(model: Any) -> Any:
    """A filter for `equinox.partition`: true for all floating-point arrays outside of frozen parts.

    Frozen parts are those wrapped in `lnz.Frozen`, and every `lnz.AbstractFixable` whose field `constant` is true, such
    as `lnz.Normal.standard(n)` as the base of a flow or the prior of an autoencoder. A `model` that is itself an
    `lnz.AbstractFixable` is trained, whatever its `constant`.
    """

    def is_leaf(node):
        return isinstance(node, Frozen) or (is_constant(node) and node is not model)

    def is_trained(node):
        if is_constant(node):  # one value for each leaf, so that a user can edit the filter to train one of its arrays
            return jax.tree.map(lambda _: False, node)
        return not isinstance(node, Frozen) and eqx.is_inexact_array(node)

    return jax.tree.map(is_trained, model, is_leaf=is_leaf)


def per_leaf(flags: Any, model: Any) -> Any:
    """Expand a filter, which may have one value for a whole part, to one value for each leaf of `model`."""
    return jax.tree.map(lambda flag, part: jax.tree.map(lambda _: bool(flag), part), flags, model)


def is_constant(node: Any) -> bool:
    """Whether `node` is an `AbstractFixable` whose field `constant` is true."""
    return isinstance(node, AbstractFixable) and node.constant is True


def freed(node: Any) -> Any:
    """`node` as a trainable part if it is constant; anything else is unchanged."""
    return replace(node, constant=False) if is_constant(node) else node


def without_gradient(tree: T) -> T:
    """The same tree, with arrays that `jax.grad` treats as constants."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, tree)
