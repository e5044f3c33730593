"""Spaces: the sets in which examples live, with the base measure of densities and maps to unbounded coordinates."""

from ._arrays import AbstractDiscreteArray as AbstractDiscreteArray, AbstractRealArray as AbstractRealArray
from ._binary import Binary as Binary
from ._categorical import Categorical as Categorical
from ._counts import Counts as Counts
from ._ends import (
    between as between,
    has_ends as has_ends,
    innermost as innermost,
    is_rounded as is_rounded,
    least as least,
    log_inside as log_inside,
    nearest_inside as nearest_inside,
    zero_outside as zero_outside,
)
from ._euclidean import Euclidean as Euclidean
from ._grid import Grid as Grid
from ._interval import Interval as Interval
from ._measure import COUNTING as COUNTING, LEBESGUE as LEBESGUE, Measure as Measure
from ._positive import Positive as Positive
from ._product import Product as Product
from ._record import Record as Record
from ._sets import (
    as_input as as_input,
    each_variable as each_variable,
    has_circles as has_circles,
    inner_point as inner_point,
    is_within as is_within,
    joined as joined,
    names_agree as names_agree,
    same_numbers as same_numbers,
    same_set as same_set,
    side_by_side as side_by_side,
)
from ._space import AbstractSpace as AbstractSpace, check_is_space as check_is_space, check_kind as check_kind
from ._torus import Torus as Torus, wrap as wrap, wrapped as wrapped
