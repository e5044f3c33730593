"""Data sets: public ones, files, and rows read from disk while training."""

from .._source import AbstractSource as AbstractSource, Resident as Resident, Stream as Stream
from ._binarize import require_binary as require_binary
from ._load import describe as describe, load as load, names as names, read_rows as read_rows
from ._splits import Rows as Rows, Splits as Splits
