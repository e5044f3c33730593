"""Maps from the whole line onto bounded and positive numbers, which give a flow the support of its data."""

import equinox as eqx
from jaxtyping import Array, Float

from ..spaces import AbstractSpace, check_is_space
from ._bijection import AbstractBatchLastBijection


def unbounded(space: AbstractSpace) -> AbstractSpace:
    """The space in which a flow onto `space` works: `R^n`, with circles where `space` has circles.

    **Raises:** `TypeError` if `space` has no unbounded coordinates, for example because it is discrete.
    """
    inner = check_is_space(space, "ToSupport(space)").unbounded
    if inner is None:
        raise TypeError(
            "A flow's support must be `Euclidean`, `Interval`, `Positive`, `Torus`, a `Product` of those, or another "
            f"space with unbounded coordinates; got {space}."
        )
    return inner


class ToSupport(AbstractBatchLastBijection):
    """From `R^n` onto `space`, without parameters: `y = space.from_unbounded(x)`. Circles stay as they are.

    - `Interval`: `y = low + (high - low) sigmoid(x)`.
    - `Positive`: `y = log(1 + e^x)`, which is linear in its upper tail, so that no large x overflows.
    - `Euclidean`, `Torus`: `y = x`.
    - `Product`, `Record`: part by part.

    Put it last: `Chain(flow, ToSupport(space))` has densities in the units of the data. The architectures of
    `lnz.flows` add it themselves.

    Forward stays inside `space`: it saturates next to the ends of an interval and at the smallest positive float.
    Inverse and its gradient are finite inside `space`. Outside, where the density is zero, its log-determinant is minus
    infinity.

    **Arguments:**

    - `space`: a space with unbounded coordinates, such as `Euclidean`, `Interval`, `Positive`, `Torus` or a `Product`.
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
        return self.space.from_unbounded(x)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self.space.to_unbounded(y)
