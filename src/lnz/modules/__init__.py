"""Tools for Equinox modules: building, freezing, registering and citing them, and checks of arguments."""

from ._arrays import (
    as_numbers as as_numbers,
    check_same_columns as check_same_columns,
    column_names as column_names,
    is_real as is_real,
    rounded_by_floats as rounded_by_floats,
    unmasked as unmasked,
)
from ._check import (
    as_floats as as_floats,
    check_has_data as check_has_data,
    check_key as check_key,
    check_positive as check_positive,
    check_shape as check_shape,
    is_false as is_false,
    kind_of as kind_of,
    model_dtype as model_dtype,
    unknown_name as unknown_name,
)
from ._cite import cite as cite
from ._freeze import (
    AbstractFixable as AbstractFixable,
    Frozen as Frozen,
    freed as freed,
    is_constant as is_constant,
    per_leaf as per_leaf,
    trainable as trainable,
    without_gradient as without_gradient,
)
from ._module import (
    HashableMethods as HashableMethods,
    build as build,
    check_fields as check_fields,
    field_names as field_names,
    leading_axes as leading_axes,
    replace as replace,
)
from ._part import Part as Part
from ._register import (
    register as register,
    registered_name as registered_name,
    registered_names as registered_names,
    registered_object as registered_object,
)
