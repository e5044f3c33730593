"""Trainable and frozen parts of a model."""

from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax

from ._module import HashableMethods, replace

if TYPE_CHECKING:  # a checker would take an abstract attribute for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar

T = TypeVar("T")


class Frozen(eqx.Module):
    """An array that belongs to a model but is no parameter, or a module of such: gradient methods leave it alone.

    What is wrapped is no distribution any more, for a model to use as its prior or base. Such a part is an
    `lnz.AbstractFixable`.
    """

    value: Any


class AbstractFixable(HashableMethods, eqx.Module):
    """A part of models that training leaves alone where its field `constant` is true: see `lnz.trainable`.

    A field of that name in a class that is no `AbstractFixable` means nothing to training.
    """

    constant: AbstractVar[bool]


def trainable(model: Any) -> Any:
    """A filter for `equinox.partition`: true for floating-point arrays but those of constant parts.

    Constant is what is `Frozen`, and an `lnz.AbstractFixable` whose field `constant` is true, which is what
    `lnz.Normal.standard(n)` is as the base of a flow or the prior of an autoencoder. Where it is all of `model`, the
    latter is trained.
    """

    def is_leaf(node):
        return isinstance(node, Frozen) or (is_constant(node) and node is not model)

    def is_trained(node):
        if is_constant(node):  # in full, so that a filter can be made from it that trains one of its arrays
            return jax.tree.map(lambda _: False, node)
        return not isinstance(node, Frozen) and eqx.is_inexact_array(node)

    return jax.tree.map(is_trained, model, is_leaf=is_leaf)


def per_leaf(flags: Any, model: Any) -> Any:
    """A filter, which may have one value for a whole part (what is `Frozen`, say), as a value for each leaf."""
    return jax.tree.map(lambda flag, part: jax.tree.map(lambda _: bool(flag), part), flags, model)


def is_constant(node: Any) -> bool:
    """Whether a module says of itself that it is a constant part."""
    return isinstance(node, AbstractFixable) and node.constant is True


def freed(node: Any) -> Any:
    """A constant part as one that is trained; anything else as it is."""
    return replace(node, constant=False) if is_constant(node) else node


def without_gradient(tree: T) -> T:
    """The same tree, whose arrays are constants to `jax.grad`."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, tree)
