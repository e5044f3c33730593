"""All public names. `lnz/__init__.py` reads them from here when they are first used."""

from . import (
    bayes as bayes,
    bijections as bijections,
    data as data,
    distributions as distributions,
    energy as energy,
    flows as flows,
    latent as latent,
    methods as methods,
    nets as nets,
    normalizers as normalizers,
    objectives as objectives,
    recipes as recipes,
    samplers as samplers,
    testing as testing,
)
from ._algorithm import (
    AbstractMethod as AbstractMethod,
    AbstractObjective as AbstractObjective,
    AbstractSampler as AbstractSampler,
)
from ._autoregressive import AutoregressiveBernoulli as AutoregressiveBernoulli
from ._autoregressive_logistic import AutoregressiveLogistic as AutoregressiveLogistic
from ._bijection import AbstractBijection as AbstractBijection, Transformed as Transformed
from ._checkpoint import Checkpoints as Checkpoints, ResumeWarning as ResumeWarning
from ._cite import cite as cite
from ._closed_form_kl import closed_form_kl as closed_form_kl, register_kl as register_kl
from ._compare import Comparison as Comparison, compare as compare
from ._conditional import Conditional as Conditional
from ._density import (
    AbstractBlockDensity as AbstractBlockDensity,
    AbstractCollapsibleDensity as AbstractCollapsibleDensity,
    AbstractDensity as AbstractDensity,
    AbstractDistribution as AbstractDistribution,
    AbstractExponentialFamily as AbstractExponentialFamily,
    AbstractModel as AbstractModel,
    AbstractNormalizer as AbstractNormalizer,
    AbstractPath as AbstractPath,
    GeometricPath as GeometricPath,
    Interpolated as Interpolated,
    ReversedPath as ReversedPath,
)
from ._diagnose import (
    LatentDiagnostics as LatentDiagnostics,
    PosteriorCollapseWarning as PosteriorCollapseWarning,
    diagnose as diagnose,
)
from ._divergence import kl_divergence as kl_divergence
from ._estimate import (
    Bracket as Bracket,
    Estimate as Estimate,
    LogLikelihood as LogLikelihood,
    UnreliableEstimateWarning as UnreliableEstimateWarning,
    log_mean_exp as log_mean_exp,
)
from ._evaluate import evaluate as evaluate
from ._fit import Fit as Fit, fit as fit
from ._function_density import FunctionDensity as FunctionDensity, density as density
from ._local import Local as Local, local as local
from ._model import (
    AbstractBayesianModel as AbstractBayesianModel,
    AbstractClampable as AbstractClampable,
    AbstractConditionable as AbstractConditionable,
    AbstractDataDependent as AbstractDataDependent,
    AbstractEnergyModel as AbstractEnergyModel,
    AbstractFixable as AbstractFixable,
    AbstractLatentEnergyModel as AbstractLatentEnergyModel,
    AbstractLatentModel as AbstractLatentModel,
    Frozen as Frozen,
    Posterior as Posterior,
    condition as condition,
    trainable as trainable,
)
from ._model_file import load as load, save as save
from ._normalize import bracket as bracket, log_normalizer as log_normalizer
from ._numpyro import from_numpyro as from_numpyro, to_numpyro as to_numpyro
from ._pareto import pareto_k as pareto_k
from ._register import register as register
from ._sample import UnreliableSampleWarning as UnreliableSampleWarning, sample as sample
from ._simulated import adapted_hmc as adapted_hmc, simulated_bracket as simulated_bracket
from ._space import (
    AbstractSpace as AbstractSpace,
    Binary as Binary,
    Counts as Counts,
    Euclidean as Euclidean,
    Grid as Grid,
    Interval as Interval,
    Positive as Positive,
)
from ._supports import Product as Product, Torus as Torus
from ._training import Plateau as Plateau
from .distributions import (
    Bernoulli as Bernoulli,
    Categorical as Categorical,
    ContinuousBernoulli as ContinuousBernoulli,
    DiscretisedLogistic as DiscretisedLogistic,
    DiscretisedLogisticMixture as DiscretisedLogisticMixture,
    Joint as Joint,
    Laplace as Laplace,
    Layered as Layered,
    Logistic as Logistic,
    LowRankNormal as LowRankNormal,
    Mixture as Mixture,
    MultivariateNormal as MultivariateNormal,
    NegativeBinomial as NegativeBinomial,
    Normal as Normal,
    Poisson as Poisson,
    ProductDistribution as ProductDistribution,
    StudentT as StudentT,
    Uniform as Uniform,
)
from .latent import Dequantised as Dequantised
from .methods import EM as EM, Gradient as Gradient
