"""Families of real-valued examples whose maximum likelihood and marginals have closed forms."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._density import AbstractDistribution

if TYPE_CHECKING:  # a checker would take an abstract attribute for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractRealFamily(AbstractDistribution):
    """A family of real-valued examples with a location, whose weighted maximum likelihood has a closed form.

    Expected statistics would do too, but `E[x^2] - E[x]^2` loses its digits where the mean is large beside the spread.
    Here means come first, and then the moments about them.
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

        Only entries that are `observed` count, all of them by default. Where that has no closed form, it is one step of
        expectation maximisation from this member, with the moments of the others given the observed ones.
        """

    @property
    @abstractmethod
    def scales(self) -> Float[Array, "*shape"]:
        """The standard deviations that `floor` bounds, for a full covariance each given the columns before it."""

    @abstractmethod
    def marginal_log_prob(self, x: Array, observed: Bool[Array, "*shape"]) -> Float[Array, ""]:
        """`log p(x[observed])` of ONE example in nats, all other entries integrated out; 0 if nothing is observed."""


def has_marginals(model: Any) -> bool:
    """Whether `model.marginal_log_prob(x, observed)` has a closed form: a class says so by `has_marginals`."""
    return isinstance(model, AbstractDistribution) and model.has_marginals


def weighted_moments(
    rows: Float[Array, "n *shape"], weights: Float[Array, "n *shape"], near: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Mean and standard deviation of every column under weights of its own; `near` where a column has no weight.

    Two passes: about a first mean, itself taken about `near`, and then about what that one missed. Nothing cancels,
    wherever the columns lie, and squares are taken in units in which the largest is one, so that none underflows.

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
