"""Distributions to and from NumPyro, which is imported only when one of these functions is used."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, draw_then_score
from ..modules import Frozen
from ..spaces import (
    AbstractSpace,
    Binary,
    Categorical,
    Counts,
    Euclidean,
    Interval,
    Positive,
    Torus,
    inner_point,
    nearest_inside,
)


def _distributions() -> Any:
    try:
        import numpyro.distributions as distributions
    except ImportError as error:
        raise ImportError(f'Distributions of NumPyro need `pip install "lnz[numpyro]"` ({error}).') from error
    return distributions


def to_numpyro(distribution: AbstractDistribution) -> Any:
    """`distribution`, such as a trained flow, as a `numpyro.distributions.Distribution`.

    It has the event shape and the support of `distribution.space` and no batch shape. So
    `numpyro.sample("x", lnz.to_numpyro(flow))` is one site, and NUTS samples the whole vector; `.expand` and plates
    work as usual. It is a pytree whose leaves are the arrays of `distribution`, and `.distribution` returns the
    original.

    **Arguments:**

    - `distribution`: on a Euclidean, interval, positive, binary, categorical or count space, or on a torus.

    **Raises:** `ImportError` without the extra `numpyro`; `TypeError` for anything but a distribution of lnz, or for a
    space without a constraint in NumPyro.
    """
    distributions = _distributions()
    if not isinstance(distribution, AbstractDistribution):
        raise TypeError(f"`to_numpyro(distribution)` needs a distribution of lnz; got {type(distribution).__name__}.")
    from ._numpyro_distribution import LnzDistribution

    return LnzDistribution(distribution, _constraint(distributions.constraints, distribution.space))


def _constraint(constraints: Any, space: AbstractSpace) -> Any:
    low, high = space.ends or (math.nan, math.nan)
    is_real = space.measure.is_continuous
    if space.is_euclidean:
        one = constraints.real
    elif space.periodic:
        one = constraints.circular
    elif is_real and math.isfinite(low) and math.isfinite(high):
        one = constraints.interval(low, high)
    elif space.num_values is not None:
        is_bit = space.kind == "float"
        one = constraints.boolean if is_bit else constraints.integer_interval(0, space.num_values - 1)
    elif (low, high) == (0, math.inf):
        one = constraints.positive if is_real else constraints.nonnegative_integer
    else:
        raise TypeError(f"`to_numpyro(distribution)`: NumPyro has no constraint for {space}.")
    return constraints.independent(one, len(space.shape)) if space.shape else one


def from_numpyro(distribution: Any, learn: Sequence[str] = ()) -> "NumpyroDistribution":
    """A distribution of NumPyro as a distribution of lnz: to score, to sample, or as the base of a flow.

    **Arguments:**

    - `distribution`: such as `numpyro.distributions.StudentT(5.0, jnp.zeros(3), 1.0).to_event()`. Its family must be
      defined by its parameters, or be such a family truncated at both ends; `.expand` and `.to_event` are understood.
      All of its variables must be one event.
    - `learn`: names of the parameters to train, such as `("loc", "scale")`, kept unconstrained by NumPyro's
      `biject_to`. The others are frozen, and so are the ends of the support, since spaces have fixed ends.

    **Raises:** `ImportError` without the extra `numpyro`; `TypeError` if `distribution` does not come from NumPyro, or
    is made of others (use `lnz.Mixture` or `lnz.Transformed`); `ValueError` if a batch shape is left, for an unknown
    parameter or one that moves the support, or for a support that is not a space of lnz.
    """
    distributions = _distributions()
    if not isinstance(distribution, distributions.Distribution):
        raise TypeError(
            f"`from_numpyro(distribution)` needs a distribution of NumPyro; got {type(distribution).__name__}."
        )
    if distribution.batch_shape:
        raise ValueError(
            f"`from_numpyro(distribution)`: {type(distribution).__name__} has the batch shape "
            f"{distribution.batch_shape}, so it is several distributions. To make all variables one event, "
            "add `.to_event()`."
        )
    plain = distribution
    while isinstance(plain, distributions.Independent | distributions.ExpandedDistribution):
        plain = plain.base_dist
    family, arguments = _named(distributions, plain, learn)
    space = _space(distributions.constraints, distribution.support, distribution.event_shape, family)
    if unknown := sorted(set(learn) - set(arguments)):
        raise ValueError(f"`from_numpyro(learn=...)`: {family} has the parameters {sorted(arguments)}, not {unknown}.")
    _check_learned(family, learn)
    learned = {name: _bijector(family, name).inv(arguments[name]) for name in learn}
    fixed = {name: Frozen(value) for name, value in arguments.items() if name not in learn}
    shape = distribution.event_shape
    batch_shape = shape[: len(shape) - plain.event_dim]
    return NumpyroDistribution(family, learned, fixed, batch_shape, space)


# Model files name families. A name is looked up here and nowhere else, so that no file reaches another object.
_FAMILIES: dict[str, Callable[[Any], Any]] = {
    "AsymmetricLaplace": lambda d: d.AsymmetricLaplace,
    "BernoulliLogits": lambda d: d.BernoulliLogits,
    "BernoulliProbs": lambda d: d.BernoulliProbs,
    "Beta": lambda d: d.Beta,
    "BetaProportion": lambda d: d.BetaProportion,
    "BinomialLogits": lambda d: d.BinomialLogits,
    "BinomialProbs": lambda d: d.BinomialProbs,
    "CategoricalLogits": lambda d: d.CategoricalLogits,
    "CategoricalProbs": lambda d: d.CategoricalProbs,
    "Cauchy": lambda d: d.Cauchy,
    "Chi2": lambda d: d.Chi2,
    "Exponential": lambda d: d.Exponential,
    "Gamma": lambda d: d.Gamma,
    "GammaPoisson": lambda d: d.GammaPoisson,
    "GeometricLogits": lambda d: d.GeometricLogits,
    "GeometricProbs": lambda d: d.GeometricProbs,
    "Gumbel": lambda d: d.Gumbel,
    "HalfCauchy": lambda d: d.HalfCauchy,
    "HalfNormal": lambda d: d.HalfNormal,
    "InverseGamma": lambda d: d.InverseGamma,
    "Kumaraswamy": lambda d: d.Kumaraswamy,
    "Laplace": lambda d: d.Laplace,
    "LogNormal": lambda d: d.LogNormal,
    "LogUniform": lambda d: d.LogUniform,
    "Logistic": lambda d: d.Logistic,
    "LowRankMultivariateNormal": lambda d: d.LowRankMultivariateNormal,
    "MultivariateNormal": lambda d: d.MultivariateNormal,
    "MultivariateStudentT": lambda d: d.MultivariateStudentT,
    "NegativeBinomial2": lambda d: d.NegativeBinomial2,
    "NegativeBinomialLogits": lambda d: d.NegativeBinomialLogits,
    "NegativeBinomialProbs": lambda d: d.NegativeBinomialProbs,
    "Normal": lambda d: d.Normal,
    "Poisson": lambda d: d.Poisson,
    "SoftLaplace": lambda d: d.SoftLaplace,
    "StudentT": lambda d: d.StudentT,
    "Uniform": lambda d: d.Uniform,
    "VonMises": lambda d: d.VonMises,
    "Weibull": lambda d: d.Weibull,
}
# Student's t is left out: NumPyro draws a truncated one only with TensorFlow Probability.
_TRUNCATED = {f"Truncated{name}": name for name in ("Cauchy", "Laplace", "Logistic", "Normal", "SoftLaplace")}
_ENDS = {"low", "high", "total_count"}  # parameters that move the support
_MATRICES = ("scale_tril", "covariance_matrix", "precision_matrix")  # a family takes one of these


def _named(distributions: Any, plain: Any, learn: Sequence[str]) -> tuple[str, dict[str, Array]]:
    """The name of a distribution's family in the table, and its parameters."""
    given, ends = plain, {}
    if type(plain) is distributions.TwoSidedTruncatedDistribution:
        # NumPyro stacks its ends, which must have one shape for that.
        given = plain.base_dist
        ends = {name: jnp.broadcast_to(getattr(plain, name), plain.batch_shape) for name in ("low", "high")}
    family = next((name for name, find in _FAMILIES.items() if find(distributions) is type(given)), None)
    if family is None:
        raise TypeError(
            f"`from_numpyro(distribution)`: {type(plain).__name__} is not one of the families that lnz can "
            f"build: {', '.join(_FAMILIES)}. Build mixtures by `lnz.Mixture`, transformed distributions by "
            "`lnz.Transformed`."
        )
    if ends and family not in _TRUNCATED.values():
        raise TypeError(f"`from_numpyro(distribution)`: a truncated {family} is not one of {', '.join(_TRUNCATED)}.")
    arguments = given.get_args()
    if matrices := [name for name in _MATRICES if name in arguments]:
        # NumPyro keeps the factor beside the matrix that was given, but takes only one of them.
        wanted = [name for name in _MATRICES if name in learn and name in given.arg_constraints] or matrices[:1]
        if len(wanted) > 1:
            raise ValueError(f"`from_numpyro(learn=...)`: {family} takes one of {wanted}. Choose one of them.")
        arguments = {name: value for name, value in arguments.items() if name not in _MATRICES}
        arguments[wanted[0]] = getattr(given, wanted[0])
    arguments = {name: jnp.asarray(value) for name, value in {**arguments, **ends}.items()}
    return (f"Truncated{family}" if ends else family), arguments


def _check_learned(family: str, learn: Iterable[str]) -> None:
    if moving := sorted(set(learn) & _ENDS):
        raise ValueError(
            f"`from_numpyro(learn=...)`: {moving} of {family} would move the support while training, but the space of "
            "a model is fixed. Leave the ends out; to learn them, put `lnz.bijections.Affine` behind a distribution "
            "with fixed ends, by `lnz.Transformed`."
        )


def _class_of(family: str) -> Any:
    return _FAMILIES[_TRUNCATED.get(family, family)](_distributions())


def _make(family: str, arguments: dict[str, Any]) -> Any:
    if family not in _TRUNCATED:
        return _class_of(family)(**arguments)
    inner = {name: value for name, value in arguments.items() if name not in _ENDS}
    ends = {name: value for name, value in arguments.items() if name in _ENDS}
    return _distributions().TwoSidedTruncatedDistribution(_class_of(family)(**inner), **ends)


def _bijector(family: str, name: str) -> Any:
    distributions = _distributions()
    try:
        return distributions.biject_to(_class_of(family).arg_constraints[name])
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


class NumpyroDistribution(AbstractDistribution):
    """A distribution of NumPyro, held as the name of its family and its parameters; `lnz.from_numpyro` makes it.

    `learned` holds unconstrained parameters, `fixed` the others as they are. `lnz.save` stores it; NumPyro is needed
    only when it is used. Log-densities are minus infinity outside `space`, whether NumPyro checks that or not.
    """

    family: str = eqx.field(static=True)
    learned: dict[str, Array]
    fixed: dict[str, Frozen]
    batch_shape: tuple[int, ...] = eqx.field(static=True)
    space: AbstractSpace = eqx.field(static=True)

    def __check_init__(self):
        if self.family not in _FAMILIES and self.family not in _TRUNCATED:
            raise ValueError(
                f"`NumpyroDistribution(family=...)`: {self.family!r} is not one of "
                f"{', '.join([*_FAMILIES, *_TRUNCATED])}."
            )
        _check_learned(self.family, self.learned)

    @property
    def distribution(self) -> Any:
        """The distribution of NumPyro."""
        learned = {name: _bijector(self.family, name)(value) for name, value in self.learned.items()}
        fixed = {name: frozen.value for name, frozen in self.fixed.items()}
        made = _make(self.family, {**learned, **fixed})
        if made.batch_shape != self.batch_shape:
            made = made.expand(self.batch_shape)
        return made.to_event(len(self.batch_shape))

    @property
    def reparameterised(self) -> bool:
        return self.distribution.has_rsample

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        # NumPyro mixes dtypes and ranks. JAX's strict settings, if the user chose them, would refuse that.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            x = self.space.check_example(x)
            inside = self.space.elements_within(x)
            # NumPyro never sees a value from outside, where it may return a number, or a gradient that is not finite.
            log_prob = self.distribution.log_prob(jnp.where(inside, x, jnp.asarray(inner_point(self.space), x.dtype)))
            return jnp.where(jnp.all(inside), log_prob, -jnp.inf)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            x = self.distribution.sample(key, shape)
        return nearest_inside(self.space, self.space.cast(x, jnp.result_type(float)))

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)
