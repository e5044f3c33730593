"""Networks for flows, encoders and decoders."""

from ._conv import ConvNet as ConvNet
from ._gated import GatedMLP as GatedMLP
from ._image import ConvDecoder as ConvDecoder, ConvEncoder as ConvEncoder, ResidualConv as ResidualConv
from ._layers import MLP as MLP, MaskedMLP as MaskedMLP, dense as dense
from ._linear import Linear as Linear
from ._lipschitz import LipschitzMLP as LipschitzMLP, spectral_bound as spectral_bound
from ._net import AbstractNet as AbstractNet, one_input as one_input
from ._periodic import PeriodicMaskedMLP as PeriodicMaskedMLP, PeriodicMLP as PeriodicMLP
from ._standardised import Standardised as Standardised
from ._time import TimeMLP as TimeMLP
