"""Families of real-valued examples with closed forms for maximum likelihood and marginals."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._density import AbstractDistribution

if TYPE_CHECKING:  # type checkers would take an `AbstractVar` for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractRealFamily(AbstractDistribution):
    """A family of real-valued examples with a location, whose weighted maximum likelihood has a closed form.

    It computes means first and then moments about them, because `E[x^2] - E[x]^2` loses digits if the mean is large
    beside the spread.
    """

    has_marginals: ClassVar[bool] = True
    loc: AbstractVar[Float[Array, "*shape"]]

    @abstractmethod
    def fit_weighted(
        self,
        rows: Float[Array, "n *shape"],
        weights: Float[Array, " n"],
        floor: Float[Array, "*shape"],
        observed: Bool[Array, "n *shape"] | None = None,
    ) -> "AbstractRealFamily":
        """The member that maximises `sum_i weights_i log p(rows_i)`, with no scale below `floor`.

        Only `observed` entries count (default: all). If missing entries leave no closed form, the result is one step of
        expectation maximisation from this member, with the moments of missing entries given the observed ones.
        """

    @property
    @abstractmethod
    def scales(self) -> Float[Array, "*shape"]:
        """The standard deviations that `floor` bounds. With a full covariance, each is given the columns before it."""

    @abstractmethod
    def marginal_log_prob(self, x: Array, observed: Bool[Array, "*shape"]) -> Float[Array, ""]:
        """`log p(x[observed])` of ONE example in nats, the other entries integrated out; 0 if none is observed."""


def has_marginals(model: Any) -> bool:
    """Whether `model` is a distribution with `has_marginals`: `marginal_log_prob(x, observed)` has a closed form."""
    return isinstance(model, AbstractDistribution) and model.has_marginals


def weighted_moments(
    rows: Float[Array, "n *shape"], weights: Float[Array, "n *shape"], near: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Mean and standard deviation of each column under its own weights. A column without weight has the mean `near`.

    The first pass computes a mean about `near`, the second corrects it and computes the variance about it. So no digits
    cancel, wherever the columns lie. Squares are taken in units of the largest deviation, so that none underflows.

    Source: Chan, Golub and LeVeque (1983), equation 1.7.
    """
    total = jnp.sum(weights, axis=0)
    share = weights / jnp.where(total > 0, total, 1)[None]
    centre = near + jnp.sum(share * (rows - near[None]), axis=0)
    rest = rows - centre[None]
    missed = jnp.sum(share * rest, axis=0)
    roots = jnp.sqrt(share) * rest
    largest = jnp.max(jnp.abs(roots), axis=0)
    unit = jnp.where(largest > 0, largest, 1)
    variance = jnp.sum((roots / unit[None]) ** 2, axis=0) - (missed / unit) ** 2
    return centre + missed, unit * jnp.sqrt(jnp.maximum(variance, 0))
