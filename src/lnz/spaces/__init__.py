"""Spaces: where examples live, with the base measure of every density on them."""

from ._binary import Binary as Binary
from ._categorical import Categorical as Categorical
from ._counts import Counts as Counts
from ._euclidean import Euclidean as Euclidean
from ._grid import Grid as Grid, innermost as innermost
from ._interval import Interval as Interval
from ._positive import Positive as Positive
from ._product import Product as Product
from ._sets import (
    as_input as as_input,
    each_variable as each_variable,
    ends_of as ends_of,
    has_circles as has_circles,
    has_ends as has_ends,
    inner_point as inner_point,
    is_rounded as is_rounded,
    is_within as is_within,
    joined as joined,
    nearest_inside as nearest_inside,
    same_numbers as same_numbers,
    same_set as same_set,
)
from ._space import AbstractSpace as AbstractSpace, check_kind as check_kind
from ._torus import Torus as Torus
