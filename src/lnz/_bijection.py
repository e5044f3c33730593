"""Invertible maps and the distributions that they push forward."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

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
        z, log_det = self.bijection.inverse_and_log_det(self.space.check_example(x), key=key)
        return self.base.log_prob(z) + log_det

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
