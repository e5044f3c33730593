"""Conditional distributions and exponential families."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..spaces import AbstractSpace
from ._density import AbstractDistribution


def space_of_conditional(
    conditional: Callable[[Array], AbstractDistribution], argument: jax.ShapeDtypeStruct, name: str, words: str
) -> AbstractSpace:
    """The space of `conditional(argument)`. Only shapes are traced: nothing is computed.

    - `name`: the name of the conditional in error messages.
    - `words`: the description of its argument in error messages.

    **Raises:** `ValueError` if it cannot take the argument; `TypeError` if it does not return a distribution.
    """
    try:
        space = eqx.filter_eval_shape(space_made_by, conditional, argument)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` cannot take {words}: {error}") from error
    if space is None:
        raise TypeError(
            f"`{name}` must return a distribution, such as `lnz.Conditional(lnz.Normal.standard(20), net)`."
        )
    return space


def space_made_by(conditional: Callable[[Array], AbstractDistribution], argument: Array) -> AbstractSpace | None:
    """The space of `conditional(argument)`, or `None` if that is not a distribution."""
    made = conditional(argument)
    return made.space if isinstance(made, AbstractDistribution) else None


def draw_then_score(
    distribution: AbstractDistribution, key: PRNGKeyArray, shape: tuple[int, ...]
) -> tuple[Array, Float[Array, "..."]]:
    """`sample_and_log_prob` for distributions whose draws and log-probabilities share no work."""
    x = distribution.sample(key, shape)
    log_prob = distribution.log_prob
    for _ in shape:
        log_prob = jax.vmap(log_prob)
    return x, log_prob(x)


class AbstractExponentialFamily(AbstractDistribution):
    """`log p(x) = <natural, statistics(x)> - log_partition + log_base(x)`.

    Natural parameters and statistics are flat vectors of equal length.
    """

    @property
    @abstractmethod
    def natural(self) -> Float[Array, " statistics"]: ...

    @abstractmethod
    def statistics(self, x: Array) -> Float[Array, " statistics"]: ...

    @abstractmethod
    def log_partition(self) -> Float[Array, ""]: ...

    @abstractmethod
    def log_base(self, x: Array) -> Float[Array, ""]: ...

    @abstractmethod
    def with_natural(self, natural: Float[Array, " statistics"]) -> "AbstractExponentialFamily":
        """The member of the family with these natural parameters."""

    @abstractmethod
    def with_expected_statistics(self, expected: Float[Array, " statistics"]) -> "AbstractExponentialFamily":
        """The member with these expected statistics. The means over data give the maximum-likelihood estimate."""

    def expected_statistics(self) -> Float[Array, " statistics"]:
        """`E[statistics(x)]`: the gradient of the log partition function."""
        return jax.grad(lambda natural: self.with_natural(natural).log_partition())(self.natural)
