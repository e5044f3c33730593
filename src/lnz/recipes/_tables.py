"""Two densities of continuous tables, fitted to standardised columns and stated in the units of the file."""

import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from .. import objectives
from .._atoms import describe_atoms
from .._bijection import Transformed
from .._space import Euclidean
from ..distributions import Mixture, MultivariateNormal, Normal
from ..flows._preprocess import affine_of_moments
from ..methods import Gradient
from ._fitting import all_but_standardisation, falling_rate
from ._recipe import Recipe, column_moments

_NUM_CHECKED_ROWS = 100_000


def _build_normal(key, splits, settings):
    (num,) = splits.space.shape
    return _in_units_of(splits, MultivariateNormal(jnp.zeros(num), jnp.eye(num))), _climb(settings)


def _build_mixture(key, splits, settings):
    num_components, scale = settings["model"]["num_components"], settings["model"]["start_scale"]
    mean, sd = table_moments(splits)
    if num_components > len(splits.train):
        raise ValueError(
            f"`model.num_components={num_components}` is more than there are rows to train on ({len(splits.train)})."
        )
    warn_of_atoms(splits)
    rows = jr.choice(key, len(splits.train), (num_components,), replace=False)
    starts = jnp.asarray((splits.train[rows].astype(np.float64) - mean) / sd, "float32")
    components = Normal(starts, jnp.full_like(starts, scale))
    return _in_units_of(splits, Mixture(jnp.zeros(num_components), components)), _climb(settings)


def _in_units_of(splits, base):
    """`x = sd z + mean` with z from `base`: a density of x in the file's units."""
    return Transformed(base, standardisation(splits))


def standardisation(splits):
    """From columns of mean zero and variance one to the units of the file, by the training rows."""
    return affine_of_moments(*table_moments(splits))


def table_moments(splits):
    """Mean and standard deviation of every column of the training rows, in float64."""
    mean, sd = column_moments(splits.train)
    flat = np.flatnonzero(sd < np.finfo(np.float32).tiny)
    if len(flat):
        name = f" ({splits.columns[flat[0]]!r})" if splits.columns else ""
        raise ValueError(
            f"`{splits.name}`: column {flat[0]}{name} hardly varies in the training rows (standard deviation "
            f"{sd[flat[0]]:g}), so that a density has no bound. Remove it, or use a recipe for binary data."
        )
    return mean, sd


def warn_of_atoms(splits) -> None:
    """Repeated rows and discrete columns: a density can grow there without bound, and its likelihood means little."""
    rows = np.asarray(splits.train[:_NUM_CHECKED_ROWS])
    problems = []
    # Over all parts: a test row that was trained on tells nothing either.
    whole = np.concatenate([rows, splits.valid[:_NUM_CHECKED_ROWS], splits.test[:_NUM_CHECKED_ROWS]])
    num_repeated = len(whole) - len(np.unique(whole, axis=0))
    if num_repeated:
        problems.append(f"{num_repeated} of {len(whole)} rows repeat another one (remove them from the file)")
    different = np.unique(rows, axis=0)  # a row that is repeated makes no column discrete
    found = {i: why for i, column in enumerate(different.T) if (why := describe_atoms(column))}
    if found:
        named = [f"{splits.columns[i]!r}" if splits.columns else f"column {i}" for i in found]
        whys = ", ".join(f"{name} has {why}" for name, why in list(zip(named, found.values(), strict=True))[:3])
        more = f", and so on for {len(found) - 3} more" if len(found) > 3 else ""
        problems.append(
            f"of {len(different)} different training rows {whys}{more} (leave discrete columns out, or add uniform "
            "noise as wide as their steps)"
        )
    if problems:
        warnings.warn(
            f"`{splits.name}`: {'; '.join(problems)}. A density has no bound there: nats of this table say little.",
            stacklevel=2,
        )


def _climb(settings):
    """Maximum likelihood by Adam, with a learning rate that falls to zero; the standardisation stays as it is."""
    adam = optax.adam(falling_rate(settings))
    return Gradient(objectives.MaximumLikelihood(), adam, all_but_standardisation)


normal = Recipe(
    name="normal",
    title="Normal distribution with a full covariance by maximum likelihood",
    data="two_moons",
    space=Euclidean,
    build=_build_normal,
    model={"learning_rate": 0.02},
    train={"steps": 2000, "batch_size": 0},
)

mixture_of_normals = Recipe(
    name="mixture_of_normals",
    title="Mixture of diagonal normals by maximum likelihood",
    data="two_moons",
    space=Euclidean,
    build=_build_mixture,
    model={"num_components": 20, "start_scale": 0.5, "learning_rate": 0.02},
    train={"steps": 3000, "batch_size": 0, "keep": "best"},
)
