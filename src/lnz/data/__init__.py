from .._source import AbstractSource as AbstractSource, Resident as Resident, Stream as Stream
from ._named import Splits as Splits, load as load, names as names
