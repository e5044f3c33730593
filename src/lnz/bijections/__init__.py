from .._bijection import (
    AbstractBatchLastBijection as AbstractBatchLastBijection,
    AbstractBijection as AbstractBijection,
    AbstractVelocityBijection as AbstractVelocityBijection,
)
from .._stochastic import exact_log_det as exact_log_det
from ._affine import Affine as Affine, TriangularAffine as TriangularAffine
from ._autoregressive import MaskedAutoregressive as MaskedAutoregressive
from ._compose import (
    Chain as Chain,
    Flip as Flip,
    Inverse as Inverse,
    Permutation as Permutation,
    Scan as Scan,
)
from ._continuous import Continuous as Continuous
from ._coupling import Coupling as Coupling
from ._elementwise import Elementwise as Elementwise
from ._residual import Residual as Residual
from ._spline import SplineTransformer as SplineTransformer
from ._transformers import (
    AbstractTransformer as AbstractTransformer,
    AffineTransformer as AffineTransformer,
    ShiftTransformer as ShiftTransformer,
)
