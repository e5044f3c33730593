"""Normalised distributions that can be sampled: normals, mixtures, counts, likelihoods of pixels."""

from ._autoregressive import AutoregressiveBernoulli as AutoregressiveBernoulli
from ._autoregressive_logistic import AutoregressiveLogistic as AutoregressiveLogistic
from ._bernoulli import Bernoulli as Bernoulli
from ._categorical import Categorical as Categorical
from ._closed_form_kl import closed_form_kl as closed_form_kl, register_kl as register_kl
from ._conditional import Conditional as Conditional, distribution_given as distribution_given, num_moved as num_moved
from ._continuous_bernoulli import ContinuousBernoulli as ContinuousBernoulli
from ._counts import NegativeBinomial as NegativeBinomial, Poisson as Poisson
from ._discretised_logistic import (
    DiscretisedLogistic as DiscretisedLogistic,
    DiscretisedLogisticMixture as DiscretisedLogisticMixture,
)
from ._factorised import is_factorised as is_factorised, per_component as per_component
from ._layered import Layered as Layered
from ._location_scale import Laplace as Laplace, Logistic as Logistic, StudentT as StudentT
from ._low_rank_normal import LowRankNormal as LowRankNormal
from ._mixture import Mixture as Mixture
from ._networks import (
    ConditionalBernoulli as ConditionalBernoulli,
    ConditionalMultivariateNormal as ConditionalMultivariateNormal,
    ConditionalNormal as ConditionalNormal,
)
from ._normal import MultivariateNormal as MultivariateNormal, Normal as Normal
from ._planar_energy import PlanarEnergy as PlanarEnergy
from ._product import Joint as Joint, ProductDistribution as ProductDistribution
from ._transformed import Transformed as Transformed
from ._uniform import Uniform as Uniform
