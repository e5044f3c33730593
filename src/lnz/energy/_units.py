"""Units of Boltzmann machines: exponential families, given by their natural parameters."""

import numbers
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float

from .. import spaces
from ..core import AbstractExponentialFamily
from ..distributions import Bernoulli, Categorical
from ..modules import check_positive, is_false
from ..numerics import softplus
from ..spaces import AbstractSpace

if TYPE_CHECKING:  # type checkers would take an abstract attribute for an argument of every constructor
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

    @abstractmethod
    def log_base(self, x: Array) -> Float[Array, ""] | float:
        """`log h(x)` of the base measure: minus infinity where units are held fixed at other values, else 0."""

    @abstractmethod
    def pinned(self, natural: Float[Array, " size"], values: Array, mask: Bool[Array, "..."]) -> Float[Array, " size"]:
        """`natural` with infinities that force the units of `mask` to have `values`."""


class BernoulliUnits(AbstractUnits):
    """`num` units in {0, 1}."""

    num: int = eqx.field(static=True)

    def __check_init__(self):
        _check_not_negative(self.num, "BernoulliUnits(num=...)")

    @property
    def space(self) -> spaces.Binary:
        return spaces.Binary(self.num)

    @property
    def size(self) -> int:
        return self.num

    def statistics(self, x: Array, dtype) -> Float[Array, " size"]:
        return x.astype(dtype)

    def distribution(self, natural: Float[Array, " size"]) -> Bernoulli:
        return Bernoulli(natural)

    def log_partition(self, natural: Float[Array, " size"]) -> Float[Array, ""]:
        # softplus, not log1p(exp(x)): the latter overflows in float32 once x > 88.
        return jnp.sum(softplus(natural))

    def log_partition_difference(
        self, natural: Float[Array, " size"], delta: Float[Array, " size"]
    ) -> Float[Array, ""]:
        # softplus(x + d) - softplus(x) = log1p(sigmoid(x) expm1(d)), which keeps all digits of a small d.
        small = jnp.abs(delta) < 1
        stable = jnp.log1p(jax.nn.sigmoid(natural) * jnp.expm1(jnp.where(small, delta, 0)))
        plain = softplus(natural + delta) - softplus(natural)
        return jnp.sum(jnp.where(small, stable, plain))

    def log_base(self, x: Array) -> Float[Array, ""] | float:
        return 0.0

    def pinned(self, natural: Float[Array, " size"], values: Array, mask: Bool[Array, "..."]) -> Float[Array, " size"]:
        certain = jnp.where(values > 0, jnp.inf, -jnp.inf).astype(natural.dtype)
        return jnp.where(mask, certain, natural)


class CategoricalUnits(AbstractUnits):
    """`num` units in {0, ..., num_categories - 1} (softmax or Potts units), one-hot in t(x)."""

    num: int = eqx.field(static=True)
    num_categories: int = eqx.field(static=True)

    def __check_init__(self):
        _check_not_negative(self.num, "CategoricalUnits(num=...)")
        check_positive(self.num_categories, "CategoricalUnits(num_categories=...)")

    @property
    def space(self) -> spaces.Categorical:
        return spaces.Categorical(self.num, self.num_categories)

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

    def log_base(self, x: Array) -> Float[Array, ""] | float:
        return 0.0

    def pinned(self, natural: Float[Array, " size"], values: Array, mask: Bool[Array, "..."]) -> Float[Array, " size"]:
        is_value = self.statistics(values, natural.dtype).reshape(self.num, -1) > 0
        certain = jnp.where(is_value, 0, -jnp.inf).astype(natural.dtype)
        return jnp.where(mask[:, None], certain, self._table(natural)).reshape(-1)

    def _table(self, natural: Float[Array, " size"]) -> Float[Array, "num num_categories"]:
        return natural.reshape(self.num, self.num_categories)


class ClampedUnits(AbstractUnits):
    """Units held fixed at `values` where `mask` is true, and free elsewhere.

    They live on the same space. Their base measure is 1 where `x[mask] == values[mask]` and 0 elsewhere, so that sums
    over states are sums over the free units alone.
    """

    units: AbstractUnits
    values: Array
    mask: Bool[Array, "..."]

    @property
    def space(self) -> AbstractSpace:
        return self.units.space

    @property
    def size(self) -> int:
        return self.units.size

    def statistics(self, x: Array, dtype) -> Float[Array, " size"]:
        return self.units.statistics(x, dtype)

    def distribution(self, natural: Float[Array, " size"]) -> AbstractExponentialFamily:
        return self.units.distribution(self.units.pinned(natural, self.values, self.mask))

    def log_partition(self, natural: Float[Array, " size"]) -> Float[Array, ""]:
        fixed, t = self._fixed(natural)
        free = self.units.log_partition(jnp.where(fixed, 0, natural))
        # The free formula counts all states of a fixed unit, which has only one.
        each = self.units.log_partition(jnp.zeros_like(natural)) / self.mask.size
        return free - each * jnp.sum(self.mask.astype(natural.dtype)) + jnp.sum(jnp.where(fixed, natural * t, 0))

    def log_partition_difference(
        self, natural: Float[Array, " size"], delta: Float[Array, " size"]
    ) -> Float[Array, ""]:
        fixed, t = self._fixed(natural)
        free = self.units.log_partition_difference(jnp.where(fixed, 0, natural), jnp.where(fixed, 0, delta))
        return free + jnp.sum(jnp.where(fixed, delta * t, 0))

    def log_base(self, x: Array) -> Float[Array, ""]:
        agrees = jnp.all(~self.mask | (x == self.values.astype(x.dtype)))
        return self.units.log_base(x) + jnp.where(agrees, 0.0, -jnp.inf)

    def pinned(self, natural: Float[Array, " size"], values: Array, mask: Bool[Array, "..."]) -> Float[Array, " size"]:
        return self.units.pinned(self.units.pinned(natural, values, mask), self.values, self.mask)

    def _fixed(self, natural: Float[Array, " size"]) -> tuple[Bool[Array, " size"], Float[Array, " size"]]:
        """A mask of the statistics of fixed units, and the statistics of `values`."""
        fixed = jnp.repeat(self.mask, natural.size // self.mask.size)
        return fixed, self.units.statistics(self.values, natural.dtype)


def clamp_units(units: AbstractUnits, values: Any, mask: Any, space: AbstractSpace) -> ClampedUnits:
    """Units of `space` held fixed at `values` where `mask` is true; the other `values` do not matter.

    **Raises:** `ValueError` or `TypeError` for shapes other than the shape of the space, a mask that is not boolean,
    and values outside the space.
    """
    values, mask = jnp.asarray(values), jnp.asarray(mask)
    for name, array in (("values", values), ("mask", mask)):
        if array.shape != space.shape:
            raise ValueError(
                f"`clamp({name}=...)` must have shape {space.shape}, one for each visible unit; got {array.shape}."
            )
    if mask.dtype != bool:
        raise TypeError(f"`clamp(mask=...)` must be true and false; got {mask.dtype}. Try `mask.astype(bool)`.")
    values = jnp.where(mask, values, 0)
    if is_false(jnp.all(space.elements_within(values))):
        raise ValueError(f"`clamp(values=...)` has a value outside {space} where the mask is true.")
    return ClampedUnits(units, values, mask)


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
    if num < 0:  # a layer that is held fixed has no units left
        raise ValueError(f"`{argument}` must not be negative; got {num}.")
