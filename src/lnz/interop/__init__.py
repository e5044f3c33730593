"""Other libraries: distributions to and from NumPyro."""

from ._numpyro import NumpyroDistribution as NumpyroDistribution, from_numpyro as from_numpyro, to_numpyro as to_numpyro
