"""Data sets: public ones, files, and rows read from disk while training."""

from ._atoms import (
    SMALLEST_SCALE as SMALLEST_SCALE,
    UnboundedDensityWarning as UnboundedDensityWarning,
    data_warnings as data_warnings,
    describe_tied_columns as describe_tied_columns,
    discrete_columns as discrete_columns,
    smallest_gaps as smallest_gaps,
    warn_of_data as warn_of_data,
    without_repeats as without_repeats,
)
from ._binarize import require_binary as require_binary
from ._checks import Cells as Cells, blocks as blocks, missing_extra as missing_extra, tidy as tidy
from ._csv import guarded as guarded
from ._files import digest_of as digest_of
from ._load import (
    describe as describe,
    load as load,
    names as names,
    read_rows as read_rows,
)
from ._missing import is_missing as is_missing, known_entries as known_entries
from ._options import (
    Binarize as Binarize,
    Header as Header,
    Missing as Missing,
    options_without_effect as options_without_effect,
)
from ._source import (
    AbstractSource as AbstractSource,
    Resident as Resident,
    Stream as Stream,
    as_source as as_source,
    canonical as canonical,
    fingerprint_of as fingerprint_of,
    some_rows as some_rows,
    to_device as to_device,
)
from ._splits import Rows as Rows, Splits as Splits
