from ._ais import (
    AIS as AIS,
    ReverseAIS as ReverseAIS,
    annealed_log_weights as annealed_log_weights,
    exact_samples as exact_samples,
)
from ._importance import Importance as Importance
from ._quadrature import Quadrature as Quadrature
