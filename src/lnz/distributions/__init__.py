"""Normalised distributions that can be sampled: normals, mixtures, counts, likelihoods of pixels."""

from ._bernoulli import Bernoulli as Bernoulli
from ._categorical import Categorical as Categorical
from ._continuous_bernoulli import ContinuousBernoulli as ContinuousBernoulli
from ._counts import NegativeBinomial as NegativeBinomial, Poisson as Poisson
from ._discretised_logistic import (
    DiscretisedLogistic as DiscretisedLogistic,
    DiscretisedLogisticMixture as DiscretisedLogisticMixture,
)
from ._layered import Layered as Layered
from ._location_scale import Laplace as Laplace, Logistic as Logistic, StudentT as StudentT
from ._low_rank_normal import LowRankNormal as LowRankNormal
from ._mixture import Mixture as Mixture
from ._normal import MultivariateNormal as MultivariateNormal, Normal as Normal
from ._planar_energy import PlanarEnergy as PlanarEnergy
from ._product import Joint as Joint, ProductDistribution as ProductDistribution
from ._uniform import Uniform as Uniform
