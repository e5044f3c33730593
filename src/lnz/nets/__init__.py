from ._conditional import (
    ConditionalBernoulli as ConditionalBernoulli,
    ConditionalMultivariateNormal as ConditionalMultivariateNormal,
    ConditionalNormal as ConditionalNormal,
    Linear as Linear,
)
from ._conv import ConvNet as ConvNet
from ._layers import MLP as MLP, MaskedMLP as MaskedMLP
