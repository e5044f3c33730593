"""Building blocks of multi-scale maps of images `[channels, height, width]`."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..spaces import AbstractSpace, Euclidean, check_kind, same_numbers
from ._bijection import (
    AbstractBatchLastBijection,
    AbstractBijection,
    forward_batch_last,
    inverse_batch_last,
    start,
    waits_for_data,
)


class Reshape(AbstractBatchLastBijection):
    """Puts the same numbers, in the same order, into another shape.

    **Arguments:**

    - `domain`, `codomain`: spaces with the same number of entries of the same kind, such as `lnz.Euclidean(784)` and
      `lnz.Euclidean((1, 28, 28))`.
    """

    domain: AbstractSpace = eqx.field(static=True)
    codomain: AbstractSpace = eqx.field(static=True)

    def __check_init__(self):
        if self.domain.size != self.codomain.size:
            raise ValueError(
                f"`Reshape` needs two spaces with the same number of entries; got {self.domain} and {self.codomain}."
            )
        if not same_numbers(self.domain, self.codomain):
            raise ValueError(
                f"`Reshape` keeps every number, so it cannot map {self.domain} onto {self.codomain}. To change the "
                "support, put `lnz.bijections.ToSupport(space)` after it."
            )

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return _reshaped(x, self.domain, self.codomain)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return _reshaped(y, self.codomain, self.domain)


def _reshaped(x, before, after):
    batch = x.shape[len(before.shape) :]
    return x.reshape(*after.shape, *batch), jnp.zeros(batch, x.dtype)


class Squeeze(AbstractBatchLastBijection):
    """Turns each square of 2 x 2 pixels into four channels: `[c, h, w]` to `[4 c, h / 2, w / 2]`.

    **Arguments:**

    - `domain`: `lnz.Euclidean((c, h, w))` with even h and w.

    Source: Dinh, Sohl-Dickstein and Bengio (2017), section 3.6; arXiv:1605.08803.
    """

    domain: Euclidean = eqx.field(static=True)

    def __check_init__(self):
        shape = self.domain.shape
        check_kind(self.domain, Euclidean, "Squeeze(domain)")
        if len(shape) != 3 or shape[1] % 2 or shape[2] % 2:
            raise ValueError(
                f"`Squeeze(domain)` needs images [channels, height, width] of even height and width; got shape {shape}."
            )

    @property
    def codomain(self) -> Euclidean:
        c, h, w = self.domain.shape
        return Euclidean((4 * c, h // 2, w // 2))

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        (c, h, w), batch = x.shape[:3], x.shape[3:]
        squares = x.reshape(c, h // 2, 2, w // 2, 2, *batch)
        y = jnp.moveaxis(squares, (2, 4), (1, 2)).reshape(4 * c, h // 2, w // 2, *batch)
        return y, jnp.zeros(batch, x.dtype)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        (c, h, w), batch = self.domain.shape, y.shape[3:]
        squares = y.reshape(c, 2, 2, h // 2, w // 2, *batch)
        return jnp.moveaxis(squares, (1, 2), (2, 4)).reshape(c, h, w, *batch), jnp.zeros(batch, y.dtype)


class OnFirst(AbstractBatchLastBijection):
    """`(f(x_a), x_b)`: maps the first channels, or variables, and keeps the others.

    **Arguments:**

    - `bijection`: a map of a Euclidean space to itself, such as images of 4 channels.
    - `num`: number of channels, or variables, in total. The other axes are those of the bijection's domain.

    Source: Dinh, Sohl-Dickstein and Bengio (2017), section 3.6 (variables factored out); arXiv:1605.08803.
    """

    bijection: AbstractBijection
    num: int = eqx.field(static=True)

    def __check_init__(self):
        inner = self.bijection.domain
        if not inner.is_euclidean or self.bijection.codomain != inner or not inner.shape:
            raise ValueError(
                "`OnFirst(bijection, num)` needs a map of a Euclidean space of vectors or images to itself; got "
                f"{inner} to {self.bijection.codomain}."
            )
        if self.num < inner.shape[0]:
            raise ValueError(f"`OnFirst(num=...)` must be at least {inner.shape[0]}; got {self.num}.")

    @property
    def domain(self) -> Euclidean:
        return Euclidean((self.num, *self.bijection.domain.shape[1:]))

    @property
    def codomain(self) -> Euclidean:
        return self.domain

    @property
    def waits_for_data(self) -> bool:
        return waits_for_data(self.bijection)

    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["OnFirst", Array]:
        num = self.bijection.domain.shape[0]
        bijection, first = start(self.bijection, key, x[:, :num], inverse)
        return OnFirst(bijection, self.num), jnp.concatenate([first, x[:, num:]], axis=1)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(forward_batch_last, x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return self._apply(inverse_batch_last, y, key)

    def _apply(self, function, x, key):
        num = self.bijection.domain.shape[0]
        first, log_det = function(self.bijection, x[:num], key)
        return jnp.concatenate([first, x[num:]]), log_det
