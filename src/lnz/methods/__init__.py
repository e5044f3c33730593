from ._em import EM as EM
from ._gradient import Gradient as Gradient
