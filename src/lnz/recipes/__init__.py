from ._digits import (
    independent_digits as independent_digits,
    mixture_digits as mixture_digits,
    rbm_digits as rbm_digits,
    rbm_digits_exact as rbm_digits_exact,
)
from ._recipe import Recipe as Recipe, fit_options as fit_options
from ._tables import mixture_of_normals as mixture_of_normals, normal as normal
