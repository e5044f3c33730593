"""The law suite: checks that any density, bijection, path, sampler or normaliser must pass.

Each check raises `AssertionError` with a sentence that says which law failed and by how much. They compare with
enumeration, quadrature or automatic differentiation, so instances must be small (up to about 2**16 states, two
continuous dimensions). Statistical checks take a fixed key and state the chance of a false alarm.
"""

from ._algorithms import (
    check_gradient as check_gradient,
    check_normalizer as check_normalizer,
    check_sampler as check_sampler,
    repeat_normalizer as repeat_normalizer,
)
from ._blocks import check_conditionals as check_conditionals, gibbs_transition_matrix as gibbs_transition_matrix
from ._densities import (
    check_density as check_density,
    check_follows as check_follows,
    check_save as check_save,
    enumerate_states as enumerate_states,
    exact_log_normalizer as exact_log_normalizer,
)
from ._inverse import InverseReport as InverseReport, LayerError as LayerError, check_inverse as check_inverse
from ._maps import check_bijection as check_bijection, check_path as check_path
from ._spaces import check_space as check_space
