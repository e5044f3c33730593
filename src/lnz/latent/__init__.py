from ._dequantised import (
    Dequantised as Dequantised,
    InCell as InCell,
    PointMass as PointMass,
    SplineNoise as SplineNoise,
)
from ._hierarchical import (
    BottomUp as BottomUp,
    Hierarchical as Hierarchical,
    Ladder as Ladder,
    TopDown as TopDown,
)
from ._vae import VAE as VAE
from ._vamp_prior import VampPrior as VampPrior
