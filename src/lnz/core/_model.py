"""Base classes of models, and `condition`, which holds x fixed."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import HashableMethods, as_numbers, register
from ..spaces import AbstractSpace, Euclidean
from ._density import (
    AbstractBlockDensity,
    AbstractDensity,
    AbstractDistribution,
    AbstractModel,
    AbstractNormalizer,
    AbstractPath,
    cannot_hold,
)
from ._integral import Known, needs_no_method
from ._local import Local, local
from ._path import GeometricPath
from ._resolved import check_resolved

if TYPE_CHECKING:  # type checkers would take an `AbstractVar` for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractEnergyModel(AbstractDensity, AbstractModel):
    """`p(x) = exp(log_density(x)) / Z`, with an exact numerator and a hard denominator Z."""

    def numerator(self, x: Array, observed: Array | None = None) -> AbstractDensity:
        if observed is None:
            return Known(self.log_density(x))
        if self.clamp is None:
            raise cannot_hold(self)
        return self.clamp(x, observed)

    def denominator(self) -> AbstractDensity:
        return self


def is_energy(model: Any) -> bool:
    """Whether `model` is a density of its examples known up to a constant: `p(x) = exp(log_density(x)) / Z`."""
    both = isinstance(model, AbstractDensity) and isinstance(model, AbstractModel)
    return both and not isinstance(model, AbstractDistribution)


class AbstractLatentModel(AbstractModel):
    """`p(x) = int p(x | z) p(z) dz`, with a hard numerator and the denominator of the prior.

    The denominator is exactly one, unless the prior is known only up to a constant:
    `p(z) = exp(prior.log_density(z)) / Z`.

    - `is_certain`: `p(x | z) = 1` for every z of the posterior, for instance if x is z rounded down.
    """

    is_certain: ClassVar[bool] = False
    prior: AbstractVar[AbstractDensity]

    @abstractmethod
    def likelihood(self, z: Array) -> AbstractDistribution:
        """`p(x | z)`."""

    @abstractmethod
    def posterior(self, x: Array) -> AbstractDistribution | None:
        """An approximation `q(z | x)`, or `None` if the model has none."""

    def condition(self, x: Array) -> AbstractDensity:
        return Posterior(self.prior, eqx.Partial(_latent_log_likelihood, self, x), self.posterior(x))

    def numerator(self, x: Array, observed: Array | None = None) -> AbstractDensity:
        if observed is not None:
            raise cannot_hold(self)
        return self.condition(x)

    def denominator(self) -> AbstractDensity:
        # Of an energy, the density itself: a denominator of its own may leave out a constant, which numerators have.
        return self.prior.denominator() if isinstance(self.prior, AbstractDistribution) else self.prior

    def ancestor(self) -> AbstractDensity:
        return self.prior

    def descend(self, key: PRNGKeyArray, state: Array) -> Array:
        return self.likelihood(state).sample(key)


class AbstractBayesianModel(HashableMethods, eqx.Module):
    """Parameters `theta` with a prior, and the likelihood of data given them.

    `condition(model, data)` conditions on a whole data set; its log normaliser is the log evidence.
    """

    prior: AbstractVar[AbstractDensity]  # an improper prior is not a distribution, and has no evidence

    @abstractmethod
    def log_likelihood(self, theta: Array, batch: Array) -> Float[Array, ""]:
        """`sum_i log p(batch_i | theta)` in nats."""

    def condition(self, x: Array) -> AbstractDensity:
        return Posterior(self.prior, eqx.Partial(_data_log_likelihood, self, x))


register(eqx.Partial, "equinox.Partial")


# Module-level functions, not closures, so that a compiled algorithm is reused for the next `x` and the density can be
# saved.
@register
def _latent_log_likelihood(model: AbstractLatentModel, x: Array, z: Array) -> Float[Array, ""]:
    return model.likelihood(z).log_prob(x)


@register
def _data_log_likelihood(model: AbstractBayesianModel, x: Array, theta: Array) -> Float[Array, ""]:
    return model.log_likelihood(theta, x)


class Posterior(AbstractDensity):
    """`log p~(z) = log prior(z) + log_likelihood(z)`; its log normaliser is the log evidence.

    The path starts at `proposal` (from an encoder, say) if there is one, else at the prior.
    """

    prior: AbstractDensity
    log_likelihood: Callable[[Any], Float[Array, ""]]
    proposal: AbstractDistribution | None = None

    @property
    def space(self) -> AbstractSpace:
        return self.prior.space

    def log_density(self, x: Array) -> Float[Array, ""]:
        return self.prior.log_density(x) + self.log_likelihood(x)

    def own_path(self) -> AbstractPath:
        start = self.prior if self.proposal is None else self.proposal
        if not isinstance(start, AbstractDistribution):
            raise ValueError(
                "The prior is improper (it cannot be sampled or normalised), so the evidence is not defined. "
                "Use a proper prior; MCMC needs none."
            )
        return GeometricPath(start, self)


def condition(model: AbstractModel | AbstractBayesianModel, x: Any) -> AbstractDensity:
    """The joint density of `model` with `x` held fixed: `z -> log p~(x, z)`, a density over the latents.

    Up to its normaliser this is the posterior, so samplers can draw from it. Its log normaliser,
    `log_normalizer(key, condition(model, x), method)`, is the log numerator: `log p(x)` of a latent-variable model,
    the log evidence of a Bayesian model, `-F(x)` of a Boltzmann machine.

    **Arguments:**

    - `model`: a model with latent variables or parameters.
    - `x`: ONE example `[*space.shape]` for latent models; a data set `[n, ...]` for Bayesian ones.

    `x` may be a NumPy array in float64, for columns far from zero. One example is shifted to near zero if the model has
    a layer for that (`lnz.local`). A data set with columns that the model's number type does not resolve is refused.

    **Raises:** `TypeError` if `model` has no unobserved variables, like a flow; `ValueError` for a data set with such
    columns.
    """
    if not isinstance(model, AbstractModel | AbstractBayesianModel) or model.condition is None:
        raise TypeError(
            f"`condition(model, x)` needs a model with latent variables or parameters; "
            f"{type(model).__name__} has none, so its `log_prob(x)` is already exact."
        )
    if isinstance(model, AbstractBayesianModel):
        # Data sets of a user's Bayesian model may be several arrays.
        if isinstance(x, tuple | dict | eqx.Module):
            _check_data_set(model, x)
            return model.condition(x)  # pyright: ignore[reportArgumentType]
        x = as_numbers(x, "x")
        _check_data_set(model, x)
    elif not isinstance(x, jax.Array):
        there = local(model)
        if there.origin is not None:
            x = there.to_local(there.model.space.as_example(x)[None], "x")[0]
        model = there.model
    return model.condition(jnp.asarray(as_numbers(x, "x")))


_ADVICE = (
    "Subtract a constant from the column, and from what the model compares it with, or turn on `jax_enable_x64`; "
    "`log_evidence` of `lnz.bayes.NormalMean` takes the column as it is."
)


def _check_data_set(model: "AbstractBayesianModel", x: Any) -> None:
    """Refuse columns whose digits would be lost on the way to the device, with a `ValueError`."""
    for array in jax.tree.leaves(x):
        if isinstance(array, np.ndarray) and array.ndim and array.dtype.kind in "fiu":
            check_resolved(Euclidean(array.shape[1:]), array, Local(model, None), "x", advice=_ADVICE)


def need_method(
    density: AbstractDensity, method: AbstractNormalizer | None, argument: str, model: eqx.Module
) -> AbstractNormalizer | None:
    """`method`, which may be `None` if the log normaliser of `density` needs no method.

    **Raises:** `ValueError` if it is `None` and needed. The message says which `argument` of which calls to pass.
    """
    if method is not None or needs_no_method(density):
        return method
    name = type(model).__name__
    what = "sum over the latent variables" if argument == "hidden" else "partition function"
    integral = {"hidden": "model.numerator(x)", "partition": "model.denominator()"}[argument]
    raise ValueError(
        f"The {what} of {name} has no closed form and needs a normaliser: `lnz.normalizers.Quadrature()` for a small "
        f"model, else `lnz.normalizers.AIS()`. Pass it as `lnz.evaluate(..., {argument}=...)`, "
        f"`lnz.log_normalizer(key, {integral}, method=...)` or `lnz.objectives.MaximumLikelihood({argument}=...)`."
        f"{_training_without(argument, model)}"
    )


def _training_without(argument: str, model: eqx.Module) -> str:
    """A sentence that names objectives which train this model without the integral; empty if there are none."""
    if isinstance(model, AbstractLatentModel):
        wrap = "`lnz.objectives.{}`" if isinstance(model.prior, AbstractDistribution) else "`EnergyPrior({})`"
        elbo = wrap.format("ELBO()")
        discrete = wrap.format("IWAE(5, gradient=lnz.gradients.LeaveOneOut())")
        return f" To train without it: {elbo}, for a model with an encoder (discrete latents: {discrete})."
    if argument == "partition" and is_energy(model) and isinstance(model, AbstractBlockDensity):
        return " To train without it: `lnz.objectives.PCD(1)`."
    if isinstance(model, AbstractModel) and model.condition is not None and not is_energy(model):
        other = "hidden" if argument == "partition" else "partition"
        return (
            f" `MaximumLikelihood` of a {type(model).__name__} needs `{other}=...` too; with both "
            "`Quadrature()` it trains a small one exactly."
        )
    return ""
