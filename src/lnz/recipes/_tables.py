"""Recipes for continuous tables, fitted to standardised columns and stated in the units of the file."""

import warnings

import jax.numpy as jnp
import numpy as np

from ..data import describe_tied_columns, discrete_columns, smallest_gaps, without_repeats
from ..distributions import Mixture, MultivariateNormal, Normal, Transformed
from ..flows import affine_of_moments
from ..methods import EM
from ..runs import Count, Data, ExactSettings, Group, NotNegative, Recipe, Train, column_moments
from ..spaces import Euclidean

_NUM_CHECKED_ROWS = 100_000


class NormalModel(Group):
    """A normal distribution."""

    floor: NotNegative = 0.1
    """Smallest scale, as a fraction of the smallest gap between a column's values; 0 for none."""


class MixtureModel(NormalModel):
    """A mixture of normal distributions."""

    num_components: Count = 20
    """Components of the mixture."""


class NormalSettings(ExactSettings):
    model: NormalModel


class MixtureSettings(ExactSettings):
    model: MixtureModel


def _build_normal(key, splits, settings: NormalSettings):
    (num,) = splits.space.shape
    model = _in_units_of(splits, MultivariateNormal(jnp.zeros(num), jnp.eye(num)))
    warn_of_atoms(splits)
    return model, _em(splits, settings)


def _build_mixture(key, splits, settings: MixtureSettings):
    num_components, (num,) = settings.model.num_components, splits.space.shape
    if num_components > len(splits.train):
        raise ValueError(
            f"`model.num_components={num_components}` is more than there are rows to train on ({len(splits.train)})."
        )
    components = Normal(jnp.zeros((num_components, num)), jnp.ones((num_components, num)))
    model = _in_units_of(splits, Mixture(jnp.zeros(num_components), components))
    warn_of_atoms(splits)
    return model, _em(splits, settings)


def _em(splits, settings):
    """Expectation maximisation with a floor on scales, in the standardised units of the model's base."""
    floor, (_, sd) = settings.model.floor, table_moments(splits)
    return EM(floor=floor * smallest_gaps(_known_rows(splits, 0)) / sd if floor else 0.0)


def _floor_in_words(settings):
    floor = settings.model.floor
    return f"trained with no scale below {floor:g} of the smallest gap between a column's values" if floor else ""


def _known_rows(splits, part):
    """Rows for training (0), validation (1) or test (2), with nan for missing entries."""
    rows = (splits.train, splits.valid, splits.test)[part]
    return rows if splits.observed is None else np.where(splits.observed[part], rows, np.nan)


def _in_units_of(splits, base):
    """`x = sd z + mean` with z from `base`: a density of x in the file's units."""
    return Transformed(base, standardisation(splits))


def standardisation(splits):
    """The map from standardised columns to the units of the file, with the moments of the training rows."""
    return affine_of_moments(*table_moments(splits))


def table_moments(splits):
    """Mean and standard deviation of every column of the training rows, in float64."""
    mean, sd = column_moments(splits.train) if splits.observed is None else _known_moments(_known_rows(splits, 0))
    flat = np.flatnonzero(sd < np.finfo(np.float32).tiny)
    if len(flat):
        name = f" ({splits.columns[flat[0]]!r})" if splits.columns else ""
        raise ValueError(
            f"`{splits.name}`: column {flat[0]}{name} hardly varies in the training rows (standard deviation "
            f"{sd[flat[0]]:g}), so a density has no bound there. Remove it, or use a recipe for binary data."
        )
    return mean, sd


def _known_moments(rows):
    mean = np.nanmean(rows.astype(np.float64), axis=0)
    return mean, np.sqrt(np.nanmean((rows - mean) ** 2, axis=0))


def warn_of_atoms(splits) -> None:
    """Warns of repeated rows, discrete columns, and columns that follow from others: a density is unbounded there."""
    parts = [np.asarray(_known_rows(splits, part)[:_NUM_CHECKED_ROWS]) for part in range(3)]
    problems = []
    whole = np.concatenate(parts)  # a test row that repeats a training row is no test either
    num_repeated = len(whole) - len(without_repeats(whole))
    if num_repeated:
        problems.append(f"{num_repeated} of {len(whole)} rows repeat another one (remove them from the file)")
    different = without_repeats(parts[0])  # repeated rows do not make a column discrete
    names = [f"{name!r}" for name in splits.columns] if splits.columns else None

    def named(index):
        return names[index] if names else f"column {index}"

    found = discrete_columns(different)
    if found:
        whys = ", ".join(f"{named(index)} has {why}" for index, why in list(found.items())[:3])
        more = f", and so on for {len(found) - 3} more" if len(found) > 3 else ""
        problems.append(
            f"of {len(different)} different training rows {whys}{more} (leave discrete columns out, or add uniform "
            "noise as wide as their steps)"
        )
    tied = describe_tied_columns(different, found, named)
    if tied is not None:
        problems.append(f"{tied} (leave one of these columns out)")
    if problems:
        warnings.warn(
            f"`{splits.name}`: {'; '.join(problems)}. A density has no bound there: nats of this table say little.",
            stacklevel=2,
        )


normal = Recipe(
    name="normal",
    title="Normal distribution with a full covariance by maximum likelihood",
    space=Euclidean,
    build=_build_normal,
    takes_missing=True,
    protocol=_floor_in_words,
    settings=NormalSettings(
        data=Data(source="two_moons"),
        model=NormalModel(),
        train=Train(steps=100),  # for missing entries; without them one step suffices
    ),
)

mixture_of_normals = Recipe(
    name="mixture_of_normals",
    title="Mixture of diagonal normals by expectation maximisation",
    space=Euclidean,
    build=_build_mixture,
    takes_missing=True,
    protocol=_floor_in_words,
    settings=MixtureSettings(data=Data(source="two_moons"), model=MixtureModel(), train=Train(steps=300, keep="best")),
)
