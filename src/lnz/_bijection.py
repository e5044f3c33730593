"""Invertible maps and the distributions that they push forward."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ._batch_last import batch_last, over_batch, understands_batches
from ._density import AbstractDistribution
from ._register import register
from ._space import AbstractSpace

if TYPE_CHECKING:  # a checker would take an abstract attribute for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractBijection(eqx.Module):
    """An invertible map from `domain` to `codomain` with its log-determinants.

    Log-determinants are with respect to the base measures of the two spaces, in nats.
    """

    domain: AbstractVar[AbstractSpace]
    codomain: AbstractVar[AbstractSpace]

    @abstractmethod
    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        """`y = f(x)` of ONE example and `log |det df/dx|`."""

    @abstractmethod
    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        """`x = f^-1(y)` of ONE example and `log |det df^-1/dy|`."""


class AbstractBatchLastBijection(AbstractBijection):
    """A bijection written for arrays `[*shape, *batch]`, which is how it is fast under `jax.vmap` on a CPU.

    Its own arrays may have batch axes last too, when `jax.vmap` made them: a flow with parameters for each example.
    """

    batch_last: ClassVar[bool] = True

    @abstractmethod
    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        """`y [*shape, *batch]` and `log |det df/dx| [*batch]` of `x [*shape, *batch]`, with keys `[*batch]` or none."""

    @abstractmethod
    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        """`x [*shape, *batch]` and `log |det df^-1/dy| [*batch]` of `y [*shape, *batch]`."""

    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        x = self.domain.check_example(x)
        return batch_last(_forward, self, _typed(key), x, takes_batched_parameters=understands_batches(self))

    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        y = self.codomain.check_example(y, "y")
        return batch_last(_inverse, self, _typed(key), y, takes_batched_parameters=understands_batches(self))


class AbstractVelocityBijection(AbstractBijection):
    """A bijection that carries x from time 0 (domain) to time 1 (codomain) along `dx/dt = velocity(t, x)`."""

    @abstractmethod
    def velocity(self, t: Float[Array, ""], x: Array) -> Array:
        """`dx/dt` of ONE example at time t."""


def _typed(key: PRNGKeyArray | None) -> PRNGKeyArray | None:
    """An old-style key has an axis of its own, which would be taken for one of the batch."""
    if key is None or jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def _forward(bijection, key, x):
    return bijection.forward_batch_last(x, key)


def _inverse(bijection, key, y):
    return bijection.inverse_batch_last(y, key)


def forward_batch_last(bijection: AbstractBijection, x: Array, key: Array | None = None):
    """`forward_and_log_det` of any bijection on `[*shape, *batch]`."""
    if isinstance(bijection, AbstractBatchLastBijection):
        return bijection.forward_batch_last(x, key)
    num_batch = x.ndim - len(bijection.domain.shape)
    return over_batch(lambda x, key: bijection.forward_and_log_det(x, key=key), num_batch)(x, key)


def inverse_batch_last(bijection: AbstractBijection, y: Array, key: Array | None = None):
    """`inverse_and_log_det` of any bijection on `[*shape, *batch]`."""
    if isinstance(bijection, AbstractBatchLastBijection):
        return bijection.inverse_batch_last(y, key)
    num_batch = y.ndim - len(bijection.codomain.shape)
    return over_batch(lambda y, key: bijection.inverse_and_log_det(y, key=key), num_batch)(y, key)


@register
class Transformed(AbstractDistribution):
    """The distribution of `f(z)`, `z ~ base`: a normalizing flow.

    `log p(x) = log base(f^-1(x)) + log |det df^-1/dx|` in nats.

    Source: Rezende and Mohamed (2015), equation 5; arXiv:1505.05770.
    """

    base: AbstractDistribution
    bijection: AbstractBijection

    def __check_init__(self):
        if not isinstance(self.base, AbstractDistribution) or not isinstance(self.bijection, AbstractBijection):
            raise TypeError(
                "`Transformed(base, bijection)` needs a distribution and then a bijection; got "
                f"{type(self.base).__name__} and {type(self.bijection).__name__}."
            )
        if self.base.space.shape != self.bijection.domain.shape:
            raise ValueError(
                f"`Transformed(base, bijection)`: the base lives on {self.base.space}, but the bijection starts from "
                f"{self.bijection.domain}."
            )

    @property
    def space(self) -> AbstractSpace:
        return self.bijection.codomain

    @property
    def reparameterised(self) -> bool:
        return self.base.reparameterised

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        key_base, key_map = (None, None) if key is None else jax.random.split(key)
        z, log_det = self.bijection.inverse_and_log_det(self.space.check_example(x), key=key_map)
        return self.base.log_prob(z, key=key_base) + log_det

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        return self.sample_and_log_prob(key, shape)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        key_base, key_map = jax.random.split(key)

        def push(key, z, log_prob):
            x, log_det = self.bijection.forward_and_log_det(z, key=key)
            return x, log_prob - log_det

        for _ in shape:
            push = jax.vmap(push)
        keys = jax.random.split(key_map, shape) if shape else key_map
        return push(keys, *self.base.sample_and_log_prob(key_base, shape))
