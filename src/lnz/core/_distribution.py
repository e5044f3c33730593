"""Conditional distributions and exponential families: what distributions share."""

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
    """Where `conditional(argument)` lives. Shapes alone are traced: nothing is computed.

    - `name`, `words`: whose argument the conditional is, and what it is given, for messages.

    **Raises:** `ValueError` if it cannot take the argument; `TypeError` if it returns no distribution.
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
    """Where `conditional(argument)` lives, or `None` if it is no distribution."""
    made = conditional(argument)
    return made.space if isinstance(made, AbstractDistribution) else None


def draw_then_score(
    distribution: AbstractDistribution, key: PRNGKeyArray, shape: tuple[int, ...]
) -> tuple[Array, Float[Array, "..."]]:
    """`sample_and_log_prob` for distributions where the two share no work."""
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
        """The member whose statistics have these means: with those of data, the maximum-likelihood estimate."""

    def expected_statistics(self) -> Float[Array, " statistics"]:
        """`E[statistics(x)]`: the gradient of the log partition function."""
        return jax.grad(lambda natural: self.with_natural(natural).log_partition())(self.natural)
