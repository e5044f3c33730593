"""Invertible maps with their log-determinants: the parts of flows."""

from ..core import exact_log_det as exact_log_det
from ._actnorm import ActNorm as ActNorm
from ._affine import Affine as Affine
from ._autoregressive import MaskedAutoregressive as MaskedAutoregressive
from ._bijection import (
    AbstractBatchLastBijection as AbstractBatchLastBijection,
    AbstractBijection as AbstractBijection,
    inverse_and_log_scale as inverse_and_log_scale,
    rows_for_start as rows_for_start,
    start as start,
    waits_for_data as waits_for_data,
)
from ._chain import Chain as Chain, Inverse as Inverse
from ._circular import (
    CircularSplineTransformer as CircularSplineTransformer,
    MixedTransformer as MixedTransformer,
    RotationTransformer as RotationTransformer,
)
from ._concatenate import Concatenate as Concatenate, Stack as Stack
from ._continuous import Continuous as Continuous
from ._coupling import Coupling as Coupling
from ._elementwise import Elementwise as Elementwise
from ._image import OnFirst as OnFirst, Reshape as Reshape, Squeeze as Squeeze
from ._linear import (
    Householder as Householder,
    InvertibleConv as InvertibleConv,
    LULinear as LULinear,
    TriangularAffine as TriangularAffine,
)
from ._permutation import Flip as Flip, Permutation as Permutation
from ._planar import Planar as Planar, Radial as Radial
from ._residual import Residual as Residual
from ._scalar import (
    AbstractScalarBijection as AbstractScalarBijection,
    Exp as Exp,
    LeakyReLU as LeakyReLU,
    Power as Power,
    Sigmoid as Sigmoid,
    Softplus as Softplus,
    Tanh as Tanh,
)
from ._scan import Scan as Scan, Vmap as Vmap
from ._sigmoidal import SigmoidalTransformer as SigmoidalTransformer
from ._spline import SplineTransformer as SplineTransformer
from ._substitution import substitute as substitute
from ._support import ToSupport as ToSupport, unbounded as unbounded
from ._sylvester import Sylvester as Sylvester
from ._transformers import (
    AbstractTransformer as AbstractTransformer,
    AffineTransformer as AffineTransformer,
    ShiftTransformer as ShiftTransformer,
    SoftplusAffineTransformer as SoftplusAffineTransformer,
)
