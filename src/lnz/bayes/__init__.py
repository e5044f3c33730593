from ._conjugate import NormalMean as NormalMean
