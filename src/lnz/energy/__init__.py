"""Energy models: restricted and deep Boltzmann machines, and Markov random fields."""

from ._bipartite import BipartiteDensity as BipartiteDensity, BipartitePath as BipartitePath
from ._dbm import DBM as DBM
from ._diagnostics import (
    free_energy_gap as free_energy_gap,
    pseudo_log_likelihood as pseudo_log_likelihood,
    reconstruction_error as reconstruction_error,
)
from ._markov_field import MarkovField as MarkovField, MarkovFieldPath as MarkovFieldPath
from ._rbm import RBM as RBM, centred_gradient as centred_gradient
from ._units import (
    AbstractUnits as AbstractUnits,
    BernoulliUnits as BernoulliUnits,
    CategoricalUnits as CategoricalUnits,
    ClampedUnits as ClampedUnits,
)
