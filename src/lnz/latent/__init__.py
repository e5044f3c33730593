"""Latent-variable models: autoencoders, hierarchies, dequantised flows, and tools for their latents."""

from ._attributes import (
    AttributeQuality as AttributeQuality,
    attribute_quality as attribute_quality,
    attribute_vector as attribute_vector,
    manipulate as manipulate,
)
from ._dequantised import (
    Dequantised as Dequantised,
    InCell as InCell,
    PointMass as PointMass,
    SplineNoise as SplineNoise,
)
from ._hierarchical import BottomUp as BottomUp, Hierarchical as Hierarchical, Ladder as Ladder, TopDown as TopDown
from ._paths import lerp as lerp, slerp as slerp
from ._tools import (
    decode as decode,
    embed as embed,
    interpolate as interpolate,
    reconstruct as reconstruct,
    traverse as traverse,
)
from ._vae import VAE as VAE
from ._vamp_prior import VampPrior as VampPrior
