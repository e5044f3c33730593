"""Distributions to and from NumPyro, which is imported only when one of these functions is used."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._density import AbstractDistribution, draw_then_score
from ._model import Frozen
from ._register import register
from ._space import AbstractSpace, Binary, Categorical, Counts, Euclidean, Interval, Positive
from ._supports import Torus


def _distributions() -> Any:
    try:
        import numpyro.distributions as distributions
    except ImportError as error:
        raise ImportError(f'Distributions of NumPyro need `pip install "lnz[numpyro]"` ({error}).') from error
    return distributions


def to_numpyro(distribution: AbstractDistribution) -> Any:
    """`distribution`, such as a trained flow, as a `numpyro.distributions.Distribution`.

    It has the event shape and the support of `distribution.space` and no batch shape, so that
    `numpyro.sample("x", lnz.to_numpyro(flow))` is one site, of which NUTS samples the whole vector; `.expand` and
    plates work as usual. It is a pytree whose leaves are the arrays of `distribution`. `.distribution` gives that back.

    **Arguments:**

    - `distribution`: on a Euclidean, interval, positive, binary or categorical space, or on a torus.

    **Raises:** `ImportError` without the extra `numpyro`; `TypeError` for what is no distribution of lnz, or lives on a
    space for which NumPyro has no constraint.
    """
    distributions = _distributions()
    if not isinstance(distribution, AbstractDistribution):
        raise TypeError(f"`to_numpyro(distribution)` needs a distribution of lnz; got {type(distribution).__name__}.")
    from ._numpyro_distribution import LnzDistribution

    return LnzDistribution(distribution, _constraint(distributions.constraints, distribution.space))


def _constraint(constraints: Any, space: AbstractSpace) -> Any:
    if isinstance(space, Euclidean):
        one = constraints.real
    elif isinstance(space, Positive):
        one = constraints.positive
    elif isinstance(space, Interval):
        one = constraints.interval(space.low, space.high)
    elif isinstance(space, Torus):
        one = constraints.circular
    elif isinstance(space, Binary):
        one = constraints.boolean
    elif isinstance(space, Categorical):
        one = constraints.integer_interval(0, space.num_categories - 1)
    elif isinstance(space, Counts):
        one = constraints.nonnegative_integer
    else:
        raise TypeError(f"`to_numpyro(distribution)`: NumPyro has no constraint for {space}.")
    return constraints.independent(one, len(space.shape)) if space.shape else one


def from_numpyro(distribution: Any, learn: Sequence[str] = ()) -> "NumpyroDistribution":
    """A distribution of NumPyro as one of lnz: to be scored and sampled, or as the base of a flow.

    **Arguments:**

    - `distribution`: such as `numpyro.distributions.StudentT(5.0, jnp.zeros(3), 1.0).to_event()`, of any family that is
      named by its parameters; `.expand` and `.to_event` are understood. All of its variables must be one event.
    - `learn`: names of the parameters to train, such as `("loc", "scale")`, kept unconstrained by NumPyro's
      `biject_to`. The others are frozen.

    **Raises:** `ImportError` without the extra `numpyro`; `TypeError` for what is no distribution of NumPyro, or
    one made of others (use `lnz.Mixture` or `lnz.Transformed`); `ValueError` if a batch shape is left, for an unknown
    parameter, or a support that is no space of lnz.
    """
    distributions = _distributions()
    if not isinstance(distribution, distributions.Distribution):
        raise TypeError(
            f"`from_numpyro(distribution)` needs a distribution of NumPyro; got {type(distribution).__name__}."
        )
    if distribution.batch_shape:
        raise ValueError(
            f"`from_numpyro(distribution)`: {type(distribution).__name__} has the batch shape "
            f"{distribution.batch_shape}, so it is many distributions. For one of all its variables add `.to_event()`."
        )
    plain = distribution
    while isinstance(plain, distributions.Independent | distributions.ExpandedDistribution):
        plain = plain.base_dist
    family = type(plain).__name__
    if getattr(distributions, family, None) is not type(plain) or not plain.arg_constraints:
        raise TypeError(
            f"`from_numpyro(distribution)`: {family} is not named by its parameters. Build mixtures by `lnz.Mixture`, "
            "transformed distributions by `lnz.Transformed`."
        )
    arguments = {name: jnp.asarray(value) for name, value in plain.get_args().items()}
    if unknown := sorted(set(learn) - set(arguments)):
        raise ValueError(f"`from_numpyro(learn=...)`: {family} has the parameters {sorted(arguments)}, not {unknown}.")
    learned = {name: _bijector(family, name).inv(arguments[name]) for name in learn}
    fixed = {name: Frozen(value) for name, value in arguments.items() if name not in learn}
    shape = distribution.event_shape
    batch_shape = shape[: len(shape) - plain.event_dim]
    space = _space(distributions.constraints, distribution.support, shape, family)
    return NumpyroDistribution(family, learned, fixed, batch_shape, space)


def _bijector(family: str, name: str) -> Any:
    distributions = _distributions()
    try:
        return distributions.biject_to(getattr(distributions, family).arg_constraints[name])
    except NotImplementedError as error:
        raise ValueError(f"`from_numpyro(learn=...)`: NumPyro cannot unconstrain {name!r} of {family}.") from error


def _space(constraints: Any, support: Any, shape: tuple[int, ...], family: str) -> AbstractSpace:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    kind = type(support)
    if kind is type(constraints.real):
        return Euclidean(shape)
    if kind in (type(constraints.positive), type(constraints.softplus_positive)):
        return Positive(shape)
    if kind is type(constraints.circular):
        return Torus(shape)
    if kind is type(constraints.boolean):
        return Binary(shape)
    if kind is type(constraints.nonnegative_integer):
        return Counts(shape)
    if kind in (constraints.interval, constraints.open_interval, type(constraints.unit_interval)):
        low, high = np.asarray(support.lower_bound), np.asarray(support.upper_bound)
        if low.min() == low.max() and high.min() == high.max():
            return Interval(shape, float(low.flat[0]), float(high.flat[0]))
    if kind is constraints.integer_interval and np.all(np.asarray(support.lower_bound) == 0):
        high = np.asarray(support.upper_bound)
        if high.min() == high.max():
            return Categorical(shape, int(high.flat[0]) + 1)
    raise ValueError(f"`from_numpyro(distribution)`: no space of lnz is the support of {family}, {support}.")


@register
class NumpyroDistribution(AbstractDistribution):
    """A distribution of NumPyro, by the name of its family and its parameters; `lnz.from_numpyro` makes it.

    `learned` holds unconstrained parameters, `fixed` the others as they are. `lnz.save` stores it; NumPyro is
    needed only when it is used.
    """

    family: str = eqx.field(static=True)
    learned: dict[str, Array]
    fixed: dict[str, Frozen]
    batch_shape: tuple[int, ...] = eqx.field(static=True)
    space: AbstractSpace = eqx.field(static=True)

    @property
    def distribution(self) -> Any:
        """The distribution as NumPyro has it."""
        distributions = _distributions()
        learned = {name: _bijector(self.family, name)(value) for name, value in self.learned.items()}
        fixed = {name: frozen.value for name, frozen in self.fixed.items()}
        made = getattr(distributions, self.family)(**learned, **fixed)
        if made.batch_shape != self.batch_shape:
            made = made.expand(self.batch_shape)
        return made.to_event(len(self.batch_shape))

    @property
    def reparameterised(self) -> bool:
        return self.distribution.has_rsample

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        # NumPyro mixes dtypes and ranks, which strict settings, if the user chose them, refuse.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return self.distribution.log_prob(self.space.check_example(x))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            x = self.distribution.sample(key, shape)
        return self.space.cast(x, jnp.result_type(float))

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)
