"""Densities, paths, models, estimates and the interfaces of algorithms."""

from ._algorithm import (
    AbstractMethod as AbstractMethod,
    AbstractObjective as AbstractObjective,
    AbstractSampler as AbstractSampler,
)
from ._annealing import (
    PathChoice as PathChoice,
    as_betas as as_betas,
    check_betas as check_betas,
    check_path as check_path,
    check_sampler as check_sampler,
    resolve_path as resolve_path,
)
from ._bracket import Bracket as Bracket
from ._density import (
    AbstractBlockDensity as AbstractBlockDensity,
    AbstractCollapsibleDensity as AbstractCollapsibleDensity,
    AbstractDensity as AbstractDensity,
    AbstractDistribution as AbstractDistribution,
    AbstractModel as AbstractModel,
    AbstractNormalizer as AbstractNormalizer,
    AbstractPath as AbstractPath,
    cannot_hold as cannot_hold,
    closed_form_mean as closed_form_mean,
    gibbs_sweep as gibbs_sweep,
    root_of as root_of,
    smallest as smallest,
)
from ._distribution import (
    AbstractExponentialFamily as AbstractExponentialFamily,
    draw_then_score as draw_then_score,
    space_made_by as space_made_by,
    space_of_conditional as space_of_conditional,
)
from ._estimate import (
    Bound as Bound,
    Estimate as Estimate,
    UnreliableEstimateWarning as UnreliableEstimateWarning,
    flip_bound as flip_bound,
    join_bounds as join_bounds,
    log_mean_exp as log_mean_exp,
    warn_if_unreliable as warn_if_unreliable,
)
from ._function_density import FunctionDensity as FunctionDensity, density as density
from ._integral import Drawn as Drawn, Known as Known, integral as integral, needs_no_method as needs_no_method
from ._json import (
    bracket_from_json as bracket_from_json,
    likelihood_from_json as likelihood_from_json,
    to_json as to_json,
)
from ._likelihood import (
    LogLikelihood as LogLikelihood,
    Protocol as Protocol,
    RandomVariable as RandomVariable,
)
from ._local import (
    Local as Local,
    in_two_parts as in_two_parts,
    input_origins as input_origins,
    local as local,
    origins as origins,
    origins_of_autoencoder as origins_of_autoencoder,
)
from ._model import (
    AbstractBayesianModel as AbstractBayesianModel,
    AbstractEnergyModel as AbstractEnergyModel,
    AbstractLatentModel as AbstractLatentModel,
    Posterior as Posterior,
    condition as condition,
    is_energy as is_energy,
    need_method as need_method,
)
from ._pareto import pareto_k as pareto_k
from ._path import (
    GeometricPath as GeometricPath,
    Interpolated as Interpolated,
    ReversedPath as ReversedPath,
    scale_ratio as scale_ratio,
)
from ._real_family import (
    AbstractRealFamily as AbstractRealFamily,
    has_marginals as has_marginals,
    weighted_moments as weighted_moments,
)
from ._reference import Reference as Reference
from ._reliability import (
    USELESS_ESS as USELESS_ESS,
    faulty_rows as faulty_rows,
    join_degrees as join_degrees,
    least_ess as least_ess,
    least_likely_first as least_likely_first,
    unknown_rows as unknown_rows,
    unreliable_reasons as unreliable_reasons,
    useless_rows as useless_rows,
)
from ._resolved import (
    check_resolved as check_resolved,
    coarse_draws as coarse_draws,
    other_rounding as other_rounding,
)
from ._stochastic import (
    assumptions as assumptions,
    exact_log_det as exact_log_det,
    is_stochastic as is_stochastic,
    need_key as need_key,
)
from ._weights import Weights as Weights
