"""From the whole line to bounded and positive numbers: how the support of a flow is that of its data."""

import functools

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..spaces import AbstractSpace, Euclidean, Interval, Positive, Product, Torus
from ._bijection import AbstractBatchLastBijection
from ._ends import from_interval, from_positive, onto_interval, onto_positive


def unbounded(space: AbstractSpace) -> AbstractSpace:
    """Where a flow onto `space` does its work: `R^n`, with circles where `space` has circles.

    **Raises:** `TypeError` if `space` is none of `Euclidean`, `Interval`, `Positive`, `Torus`, or a `Product` of those.
    """
    if isinstance(space, Euclidean | Interval | Positive):
        return Euclidean(space.shape)
    if isinstance(space, Torus):
        return space
    if isinstance(space, Product):
        parts = [unbounded(part) for part in space.spaces]
        return Product(*parts) if any(isinstance(part, Torus) for part in parts) else Euclidean(space.shape)
    raise TypeError(
        f"A flow's support must be `Euclidean`, `Interval`, `Positive`, `Torus` or a `Product` of those; got {space}."
    )


class ToSupport(AbstractBatchLastBijection):
    """From `R^n` onto `space`, element by element and without parameters; circles stay as they are.

    - `Interval`: `y = low + (high - low) sigmoid(x)`.
    - `Positive`: `y = log(1 + e^x)`, which is linear in its upper tail, so that no large x overflows.
    - `Euclidean`, `Torus`: `y = x`. Parts of a `Product` are mapped one by one.

    Put it last: `Chain(flow, ToSupport(space))` makes densities in the units of the data. The architectures of
    `lnz.flows` do so themselves.

    Forward stays inside: it saturates beside the ends of an interval, and at the least positive number, where digits
    end. Inverse is finite inside `space`, its gradient too; outside, where the density is zero, its log-determinant is
    minus infinity.

    **Arguments:**

    - `space`: `Euclidean`, `Interval`, `Positive`, `Torus`, or a `Product` of those.
    """

    space: AbstractSpace = eqx.field(static=True)

    def __check_init__(self):
        unbounded(self.space)

    @property
    def domain(self) -> AbstractSpace:
        return unbounded(self.space)

    @property
    def codomain(self) -> AbstractSpace:
        return self.space

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return _by_parts(_to, self.space, x)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return _by_parts(_from, self.space, y)


def _by_parts(function, space, x):
    if isinstance(space, Product):
        results = [_by_parts(function, part, x_part) for part, x_part in zip(space.spaces, space.split(x), strict=True)]
        values, log_dets = zip(*results, strict=True)
        return jnp.concatenate(values), functools.reduce(jnp.add, log_dets)
    value, log_derivative = function(space, x)
    return value, jnp.sum(log_derivative, axis=tuple(range(len(space.shape))))


def _to(space, x):
    if isinstance(space, Interval):
        return onto_interval(space, x)
    if isinstance(space, Positive):
        return onto_positive(x)
    return x, jnp.zeros_like(x)


def _from(space, y):
    if isinstance(space, Interval):
        return from_interval(space, y)
    if isinstance(space, Positive):
        return from_positive(space, y)
    return y, jnp.zeros_like(y)
