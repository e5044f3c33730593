"""Training methods for `lnz.fit`: gradient descent on an objective, and expectation maximisation."""

from ._em import EM as EM
from ._gradient import Gradient as Gradient
