"""Bayesian models: parameters with a prior, and a likelihood of data given them."""

from ._conjugate import NormalMean as NormalMean
