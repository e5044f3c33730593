"""Estimates of log normalisers: quadrature, importance sampling, annealing, acceptance ratios and bounds."""

from ._ais import (
    AIS as AIS,
    ReverseAIS as ReverseAIS,
    annealed_log_weights as annealed_log_weights,
    exact_samples as exact_samples,
)
from ._bar import BAR as BAR, acceptance_ratio as acceptance_ratio
from ._bound import Bound as Bound
from ._importance import Importance as Importance
from ._laplace import LaplaceImportance as LaplaceImportance
from ._quadrature import Quadrature as Quadrature, log_integral_with_error as log_integral_with_error
from ._rays import has_no_ends as has_no_ends
from ._schedules import adapted_betas as adapted_betas, salakhutdinov_murray_betas as salakhutdinov_murray_betas
