"""Arguments shared by all annealing algorithms: the path, its temperatures, and the sampler that moves the chains."""

import numbers
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..modules import is_false, model_dtype
from ..spaces import same_set
from ._algorithm import AbstractSampler
from ._density import AbstractDensity, AbstractPath

_NUM_COMPARED = 16

PathChoice = AbstractPath | Callable[[AbstractDensity], AbstractPath] | None


def resolve_path(path: PathChoice, density: AbstractDensity) -> AbstractPath:
    """The path to `density`. A given path must end there; a path made from the model before training does not.

    The check compares the end of the path with `density` at 16 draws of the path's start. A single draw is not enough:
    the weights of its inactive units make no difference.
    """
    if path is None:
        return density.path()
    if not isinstance(path, AbstractPath):
        path = path(density)
        if not isinstance(path, AbstractPath):
            raise TypeError(
                "`path=` must be a path, or a function from the density to one; the function returned "
                f"{type(path).__name__}."
            )
        return path  # made from this density, perhaps at every training step: no comparison needed
    if not same_set(path.start.space, density.space):
        raise ValueError(f"`path=` starts on {path.start.space}, but the density lives on {density.space}.")
    x = path.start.sample(jr.key(0), (_NUM_COMPARED,))
    end, target = jax.vmap(lambda x: (path.at(1.0).log_density(x), density.log_density(x)))(x)
    # Allow for rounding only: sums in another order, and matrix products at the precision of a GPU.
    close = jnp.abs(end - target) <= 1e-4 * (1 + jnp.abs(target))
    both_faulty = jnp.isnan(end) & jnp.isnan(target)  # the diagnostics of the weights report these
    return eqx.error_if(
        path,
        ~jnp.all(close | (end == target) | both_faulty),
        "`path=` ends at another density than the one to normalise: it was made from another model, or from this model "
        "before training. Make a new path, or pass a function: `path=lambda rbm: rbm.path(base_rates)`.",
    )


def as_betas(betas: int | Array, density: AbstractDensity) -> Float[Array, " temperatures"]:
    dtype = model_dtype(density)
    return jnp.linspace(0.0, 1.0, betas + 1, dtype=dtype) if isinstance(betas, int) else betas.astype(dtype)


def check_betas(betas: Any, name: str) -> int | Array:
    if isinstance(betas, numbers.Integral) and not isinstance(betas, bool) and int(betas) >= 1:
        return int(betas)
    array = jnp.asarray(betas)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(
            f"`{name}(betas=...)` must be a whole number of temperatures, at least 1, or an increasing array from 0 to "
            f"1; got {betas!r}."
        )
    if is_false((array[0] == 0) & (array[-1] == 1) & jnp.all(jnp.diff(array) >= 0)):
        raise ValueError(
            f"`{name}(betas=...)` must increase from 0 to 1; got {len(array)} numbers from {array[0]} to {array[-1]}."
        )
    return array


def check_sampler(sampler: Any, name: str) -> AbstractSampler | None:
    if sampler is None or isinstance(sampler, AbstractSampler):
        return sampler
    raise TypeError(
        f"`{name}(sampler=...)` must be a sampler such as `lnz.samplers.Gibbs()`, with its brackets; got {sampler!r}."
    )


def check_path(path: Any, name: str) -> Any:
    if path is None or isinstance(path, AbstractPath) or callable(path):
        return path
    raise TypeError(
        f"`{name}(path=...)` must be a path such as `rbm.path(base_rates)`, or a function from the density to one; got "
        f"{type(path).__name__}."
    )
