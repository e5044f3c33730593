from ._bipartite import BipartiteDensity as BipartiteDensity, BipartitePath as BipartitePath
from ._dbm import DBM as DBM
from ._markov_field import MarkovField as MarkovField, MarkovFieldPath as MarkovFieldPath
from ._rbm import RBM as RBM, centred_gradient as centred_gradient
from ._units import (
    AbstractUnits as AbstractUnits,
    BernoulliUnits as BernoulliUnits,
    CategoricalUnits as CategoricalUnits,
    ClampedUnits as ClampedUnits,
)
