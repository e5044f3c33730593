"""Where the paths of densities start that know no better start."""

import jax.numpy as jnp

from .. import spaces
from ..bijections import ToSupport
from ..core import AbstractDensity, AbstractDistribution
from ..modules import model_dtype
from ..spaces import AbstractSpace, Binary, Counts, Euclidean, Interval, Positive, Product, Torus
from ._bernoulli import Bernoulli
from ._categorical import Categorical
from ._counts import NegativeBinomial
from ._location_scale import Logistic
from ._normal import Normal
from ._product import ProductDistribution
from ._transformed import Transformed
from ._uniform import Uniform


def default_start(density: AbstractDensity) -> AbstractDistribution:
    """The distribution on `density.space` that its default path starts from, in the density's precision.

    **Raises:** `TypeError` on a space of another kind.
    """
    return _on(density.space, model_dtype(density), density)


def _on(space: AbstractSpace, dtype, density: AbstractDensity) -> AbstractDistribution:
    zeros = jnp.zeros(space.shape, dtype)
    match space:
        case Euclidean():
            return Normal(zeros, jnp.ones_like(zeros))
        case Interval() | Torus():
            return Uniform(space)
        case Positive():  # softplus of a logistic variable: an exponential one
            return Transformed(Logistic(zeros, jnp.ones_like(zeros)), ToSupport(space))
        case Binary():
            return Bernoulli(zeros)
        case spaces.Categorical():
            return Categorical(jnp.zeros((*space.shape, space.num_categories), dtype))
        case Counts():  # of size 1: geometric
            return NegativeBinomial(zeros, zeros)
        case Product():
            return ProductDistribution(*(_on(part, dtype, density) for part in space.spaces))
    raise TypeError(
        f"{type(density).__name__} lives on {space}, which has no default start for annealing. Give its class a method "
        "`own_path()` that returns `lnz.GeometricPath(start, self)`, or pass `path=lambda density: "
        "lnz.GeometricPath(start, density)`."
    )
