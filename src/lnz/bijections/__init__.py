from .._bijection import AbstractBijection as AbstractBijection
from ._affine import (
    Affine as Affine,
    Chain as Chain,
    Inverse as Inverse,
    TriangularAffine as TriangularAffine,
)
