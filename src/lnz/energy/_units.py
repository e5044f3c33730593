"""What a unit of a Boltzmann machine is: an exponential family, given by its natural parameters."""

import numbers
from abc import abstractmethod
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from .. import _space
from .._check import check_positive
from .._density import AbstractExponentialFamily
from .._register import register
from .._space import AbstractSpace
from ..distributions import Bernoulli, Categorical

if TYPE_CHECKING:  # a checker would take an abstract attribute for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractUnits(eqx.Module):
    """A layer of units: independent members of an exponential family given the other layer.

    `size` is the length of the statistics vector t(x) that weights and biases multiply.
    """

    space: AbstractVar[AbstractSpace]
    size: AbstractVar[int]

    @abstractmethod
    def statistics(self, x: Array, dtype) -> Float[Array, " size"]:
        """t(x) of one layer's state."""

    @abstractmethod
    def distribution(self, natural: Float[Array, " size"]) -> AbstractExponentialFamily:
        """The layer's distribution when its input (weighted sum plus bias) is `natural`."""

    @abstractmethod
    def log_partition(self, natural: Float[Array, " size"]) -> Float[Array, ""]:
        """`A(natural) = log sum_x exp(natural . t(x))`."""

    @abstractmethod
    def log_partition_difference(
        self, natural: Float[Array, " size"], delta: Float[Array, " size"]
    ) -> Float[Array, ""]:
        """`A(natural + delta) - A(natural)` without cancelling digits when `delta` is small."""


@register
class BernoulliUnits(AbstractUnits):
    """`num` units in {0, 1}."""

    num: int = eqx.field(static=True)

    def __check_init__(self):
        _check_not_negative(self.num, "BernoulliUnits(num=...)")

    @property
    def space(self) -> _space.Binary:
        return _space.Binary(self.num)

    @property
    def size(self) -> int:
        return self.num

    def statistics(self, x: Array, dtype) -> Float[Array, " size"]:
        return x.astype(dtype)

    def distribution(self, natural: Float[Array, " size"]) -> Bernoulli:
        return Bernoulli(natural)

    def log_partition(self, natural: Float[Array, " size"]) -> Float[Array, ""]:
        # softplus, not log1p(exp(x)): the latter overflows in float32 once x > 88.
        return jnp.sum(jax.nn.softplus(natural))

    def log_partition_difference(
        self, natural: Float[Array, " size"], delta: Float[Array, " size"]
    ) -> Float[Array, ""]:
        # softplus(x + d) - softplus(x) = log1p(sigmoid(x) expm1(d)), which keeps all digits of a small d.
        small = jnp.abs(delta) < 1
        stable = jnp.log1p(jax.nn.sigmoid(natural) * jnp.expm1(jnp.where(small, delta, 0)))
        plain = jax.nn.softplus(natural + delta) - jax.nn.softplus(natural)
        return jnp.sum(jnp.where(small, stable, plain))


@register
class CategoricalUnits(AbstractUnits):
    """`num` units in {0, ..., num_categories - 1} (softmax or Potts units), one-hot in t(x)."""

    num: int = eqx.field(static=True)
    num_categories: int = eqx.field(static=True)

    def __check_init__(self):
        _check_not_negative(self.num, "CategoricalUnits(num=...)")
        check_positive(self.num_categories, "CategoricalUnits(num_categories=...)")

    @property
    def space(self) -> _space.Categorical:
        return _space.Categorical(self.num, self.num_categories)

    @property
    def size(self) -> int:
        return self.num * self.num_categories

    def statistics(self, x: Array, dtype) -> Float[Array, " size"]:
        return jax.nn.one_hot(x.astype(jnp.int32), self.num_categories, dtype=dtype).reshape(-1)

    def distribution(self, natural: Float[Array, " size"]) -> Categorical:
        return Categorical(self._table(natural))

    def log_partition(self, natural: Float[Array, " size"]) -> Float[Array, ""]:
        return jnp.sum(logsumexp(self._table(natural), axis=-1))

    def log_partition_difference(
        self, natural: Float[Array, " size"], delta: Float[Array, " size"]
    ) -> Float[Array, ""]:
        table, change = self._table(natural), self._table(delta)
        small = jnp.all(jnp.abs(change) < 1, axis=-1)
        growth = jnp.sum(jax.nn.softmax(table, axis=-1) * jnp.expm1(jnp.where(small[:, None], change, 0)), axis=-1)
        plain = logsumexp(table + change, axis=-1) - logsumexp(table, axis=-1)
        return jnp.sum(jnp.where(small, jnp.log1p(growth), plain))

    def _table(self, natural: Float[Array, " size"]) -> Float[Array, "num num_categories"]:
        return natural.reshape(self.num, self.num_categories)


def as_units(units: int | AbstractUnits, argument: str) -> AbstractUnits:
    if isinstance(units, AbstractUnits):
        return units
    if isinstance(units, numbers.Integral) and not isinstance(units, bool) and units > 0:
        return BernoulliUnits(int(units))
    raise ValueError(
        f"`{argument}` must be a positive number of Bernoulli units, or units such as "
        f"`lnz.energy.CategoricalUnits(5, 3)`; got {units!r}."
    )


def _check_not_negative(num: int, argument: str) -> None:
    if num < 0:  # none at all is what remains of a layer that is held fixed
        raise ValueError(f"`{argument}` must not be negative; got {num}.")
