"""Log normalisers: a single estimate, or a bracket of two."""

import math
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray

from .. import normalizers
from ..core import (
    AbstractDensity,
    AbstractNormalizer,
    Bracket,
    Estimate,
    Posterior,
    UnreliableEstimateWarning,
    integral,
    needs_no_method,
    smallest,
    warn_if_unreliable,
)
from ..modules import check_key, model_dtype, replace

# The most states that the defaults enumerate: once, about a second's work, and for each row of a data set.
_FEW_STATES, _VERY_FEW_STATES = 2**20, 2**10
_FEW_PARAMETERS = 50


def log_normalizer(key: PRNGKeyArray, density: AbstractDensity, method: AbstractNormalizer | None = None) -> Estimate:
    """`log int exp(density.log_density(x)) dx` in nats: log Z, log p(x) or the evidence, depending on the density.

    **Arguments:**

    - `density`: an energy model, or `lnz.condition(model, x)`.
    - `method`: a normaliser such as `lnz.normalizers.AIS(num_chains=100, betas=1000)`. Default: exact
      enumeration if the density (or its smaller layer) has at most 2**20 states, otherwise `AIS()`.

    A posterior without an encoder (`lnz.condition(bayesian_model, data)`), with at most 50 parameters and no circles,
    has another default: `LaplaceImportance()`, from the modes of the posterior. If it finds no mode, or its weights
    cannot be trusted (for instance, a Pareto k above 0.7), `AIS()` from the prior replaces it. The estimate's
    `protocol` names the method used. Inside `jax.jit` this choice cannot be made, and the default is `AIS()`.

    **Returns:** an `Estimate` with the direction of its bias. A warning follows if its error bar cannot be trusted.
    """
    key = check_key(key)
    if not isinstance(density, AbstractDensity):
        raise TypeError(
            f"`log_normalizer(density=...)` needs a density; got {type(density).__name__}. For a model with latent "
            "variables use `lnz.condition(model, x)`; to evaluate a model on data use `lnz.evaluate`."
        )
    if method is None and needs_no_method(density):
        return integral(key, density)
    if method is None and _has_modes(density) and not _is_traced((key, density)):
        estimate = _from_modes_or_prior(key, density)
        warn_if_unreliable(estimate, f"The default normaliser of {type(density).__name__}")
        return estimate
    if method is None:
        method = default_normalizer(density)
    check_positions(check_normalizer(method, "method"), density)
    estimate = _normalize(method, key, density)
    check_repeats(method, density, estimate)
    warn_if_unreliable(estimate, f"{type(method).__name__} of {type(density).__name__}")
    return estimate


def check_positions(method: AbstractNormalizer | None, density: AbstractDensity) -> None:
    """**Raises:** `ValueError` for positions outside the space, or repeated ones if the space is continuous."""
    positions, space = exact_draws(method), density.space
    if positions is None or positions.shape[1:] != space.shape:
        return
    rows = positions.reshape(len(positions), -1)
    is_outside = ~np.asarray(space.elements_within(positions)).reshape(rows.shape).all(axis=1)
    if is_outside.any():
        raise ValueError(
            f"`ReverseAIS(positions=...)`: {is_outside.sum()} of {len(rows)} positions are outside {space}, first that "
            f"of chain {int(np.argmax(is_outside))}. They must be exact draws of the density."
        )
    num_different = len(np.unique(rows, axis=0))
    if space.measure.is_continuous and num_different < len(rows):
        raise ValueError(
            f"`ReverseAIS(positions=...)`: {len(rows)} positions, only {num_different} distinct. Independent draws of "
            "a density never repeat, and repeated ones make the error bar too small: give each draw once."
        )


def check_repeats(method: AbstractNormalizer | None, density: AbstractDensity, estimate: Estimate) -> None:
    """Tests on a discrete space whether exact draws repeat more often than independent draws do.

    The number of equal pairs among m independent draws has

        mean = C(m, 2) s_2,   variance <= mean + 6 C(m, 3) (s_3 - s_2^2),

    with `s_k = E[p(x)^(k - 1)]` and p = p~ / Z. Z is taken three standard errors below `estimate`.

    **Raises:** `ValueError` if the number of equal pairs has a probability below a thousandth by Cantelli's inequality,
    or if it is at least 30 and exceeds the mean by eight standard deviations.
    """
    positions, space = exact_draws(method), density.space
    if positions is None or positions.shape[1:] != space.shape:
        return
    if not space.measure.is_counting or _is_traced(estimate):
        return
    rows = positions.reshape(len(positions), -1)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    num, num_pairs = len(rows), float(np.sum(counts * (counts - 1)) / 2)
    log_z = float(estimate.value) - 3 * float(estimate.standard_error)
    if num_pairs == 0 or not math.isfinite(log_z):
        return
    x = space.cast(positions, model_dtype(density))
    p = np.exp(np.minimum(np.asarray(_log_densities(density, x), np.float64) - log_z, 0))
    second, third = float(np.mean(p)), float(np.mean(p**2))
    mean = math.comb(num, 2) * second
    variance = mean + 6 * math.comb(num, 3) * max(third - second**2, 0)
    excess = num_pairs - mean
    is_unlikely = variance < 1e-3 * (variance + excess**2) or (num_pairs >= 30 and excess > 8 * math.sqrt(variance))
    if excess > 0 and is_unlikely:
        raise ValueError(
            f"`ReverseAIS(positions=...)`: {num} positions, only {len(counts)} distinct. They have {num_pairs:.0f} "
            f"equal pairs; independent draws of {type(density).__name__} have {mean:.2g} on average. Repeated draws "
            "make the error bar too small: give each draw once."
        )


@eqx.filter_jit
def _log_densities(density: AbstractDensity, x: Array) -> Array:
    return jax.vmap(density.log_density)(x)


def exact_draws(method: AbstractNormalizer | None) -> np.ndarray | None:
    """The positions given to a `ReverseAIS`; `None` if there are none or they are traced."""
    positions = None if method is None else method.exact_draws
    return None if positions is None or _is_traced(positions) else np.asarray(positions)


def _has_modes(density: AbstractDensity) -> bool:
    """Whether `LaplaceImportance` is the first choice: a posterior over few parameters, without an encoder."""
    return (
        isinstance(density, Posterior)
        and density.proposal is None
        and density.space.dimension <= _FEW_PARAMETERS
        and normalizers.has_no_ends(density.space)
    )


def _is_traced(tree: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def _from_modes_or_prior(key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
    key_modes, key_prior = jr.split(key)
    estimate = _normalize(normalizers.LaplaceImportance(), key_modes, density)
    reasons = [] if estimate.weights.converged else ["no search found a mode with a positive definite Hessian"]
    reasons += estimate.doubts
    if not reasons:
        return replace(estimate, protocol="started from Student t's at the modes (Laplace)")
    estimate = _normalize(normalizers.AIS(), key_prior, density)
    return replace(estimate, protocol=f"annealed from the prior, because at the modes (Laplace) {'; '.join(reasons)}")


@eqx.filter_jit
def _normalize(method: AbstractNormalizer, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
    return method(key, density)


def default_normalizer(density: AbstractDensity, for_each_row: bool = False) -> AbstractNormalizer:
    """Enumeration if there are few states, importance sampling for the posterior of each row, otherwise AIS."""
    num_points = smallest(density).space.num_points
    if num_points is not None and num_points <= (_VERY_FEW_STATES if for_each_row else _FEW_STATES):
        return normalizers.Quadrature()
    return normalizers.Importance(5000) if for_each_row and isinstance(density, Posterior) else normalizers.AIS()


def check_normalizer(method: Any, argument: str) -> AbstractNormalizer:
    if not isinstance(method, AbstractNormalizer):
        raise TypeError(
            f"`{argument}` must be a normaliser such as `lnz.normalizers.AIS()`, with its brackets; got {method!r}."
        )
    return method


def bracket(
    key: PRNGKeyArray,
    density: AbstractDensity,
    lower: AbstractNormalizer | None = None,
    upper: AbstractNormalizer | None = None,
) -> Bracket:
    """A two-sided interval for the log normaliser: forward AIS from below, reverse AIS from above.

    The upper side needs exact draws of the density. If the density cannot be enumerated, pass
    `upper=lnz.normalizers.ReverseAIS(positions=...)` with exact draws, or `ReverseAIS(num_warm_up=...)` for
    long-run chains. In the latter case the bracket states that it assumes a stationary start.

    **Returns:** a `Bracket`, `[lower - 2 s.e., upper + 2 s.e.]` in nats, wider for few chains. It is not `reliable` if
    the sides cross.
    """
    key_lower, key_upper = jr.split(check_key(key))
    lower = normalizers.AIS() if lower is None else check_normalizer(lower, "lower")
    upper = normalizers.ReverseAIS() if upper is None else check_normalizer(upper, "upper")
    both = Bracket(log_normalizer(key_lower, density, lower), log_normalizer(key_upper, density, upper))
    if both.disagreement is not None:
        warnings.warn(f"bracket: {both.disagreement}.", UnreliableEstimateWarning, stacklevel=2)
    return both
