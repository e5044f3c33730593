from ._named import Splits as Splits, load as load, names as names
