from ._contrastive import CD as CD, FPCD as FPCD, PCD as PCD, SML as SML
from ._divergences import ForwardKL as ForwardKL, ReverseKL as ReverseKL
from ._energy_prior import EnergyPrior as EnergyPrior
from ._flow_matching import FlowMatching as FlowMatching
from ._imputed import Imputed as Imputed
from ._likelihood import (
    ELBO as ELBO,
    IWAE as IWAE,
    MaximumLikelihood as MaximumLikelihood,
)
