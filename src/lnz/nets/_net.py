"""The interface of networks that accept batch axes last, and the check of their inputs."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..modules import Part, as_numbers, is_real

InShape = tuple[int | None, ...]  # `None` for any length


class AbstractNet(Part, eqx.Module):
    """A network of ONE input, written for arrays `[*shape, *batch]`, the layout that is fast under `jax.vmap` on a CPU.

    Only flows and `lnz.Conditional` pass batch axes. Called as a function, a network takes one input, so that a stack
    of inputs is never mistaken for one input of another shape.
    """

    batch_last: ClassVar[bool] = True

    @property
    @abstractmethod
    def in_shapes(self) -> tuple[InShape, ...]:
        """The shapes that one input may have."""

    @abstractmethod
    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The outputs `[*out, *batch]` for `x [*shape, *batch]`."""

    def __call__(self, x: Any) -> Float[Array, "..."]:
        return self.call_batch_last(one_input(self, x, "x", "network"))


def one_input(net: Callable, x: Any, argument: str, owner: str) -> Array:
    """Returns `x` as an array, if it has the shape of ONE input of `net`. If `net` declares no shapes, any is accepted.

    **Raises:** `ValueError` for another shape; `TypeError` if `x` is not an array of numbers.
    """
    if not isinstance(x, jax.Array) or not is_real(x.dtype):
        x = jnp.asarray(as_numbers(x, argument))
    shapes = known_in_shapes(net)
    if shapes and not any(_fits(x.shape, shape) for shape in shapes):
        is_batch = any(x.ndim > len(shape) and _fits(x.shape[x.ndim - len(shape) :], shape) for shape in shapes)
        advice = f" For a batch use `jax.vmap` over `{argument}`." if is_batch else ""
        expected = " or ".join(_words(shape) for shape in shapes)
        raise ValueError(
            f"`{argument}` must be one input of this {owner} ({type(net).__name__}), of shape {expected}; got "
            f"{x.shape}.{advice}"
        )
    return x


def known_in_shapes(net: Callable) -> tuple[InShape, ...]:
    """The shapes that one input of `net` may have, or `()` if it does not declare them.

    Equinox's own networks declare a length, as `in_features` or `in_size`. In a user's module such a name may mean
    something else, so it is ignored.
    """
    if hasattr(net, "in_shapes"):
        return net.in_shapes  # pyright: ignore[reportFunctionMemberAccess]
    is_known = isinstance(net, eqx.Module) and type(net).__module__.split(".")[0] == "equinox"
    num = getattr(net, "in_features", getattr(net, "in_size", None)) if is_known else None
    return ((num,),) if isinstance(num, int) else ((),) if num == "scalar" else ()


def _fits(got: tuple[int, ...], shape: InShape) -> bool:
    return len(got) == len(shape) and all(m is None or n == m for n, m in zip(got, shape, strict=True))


def _words(shape: InShape) -> str:
    return str(tuple("any" if n is None else n for n in shape)).replace("'any'", "any")
