"""Training objectives for `lnz.Gradient`: likelihoods, bounds, divergences and contrastive divergence."""

from ._contrastive import CD as CD, FPCD as FPCD, PCD as PCD, SML as SML
from ._divergences import ForwardKL as ForwardKL, ReverseKL as ReverseKL
from ._elbo import ELBO as ELBO
from ._energy_prior import EnergyPrior as EnergyPrior
from ._flow_matching import FlowMatching as FlowMatching
from ._imputed import Imputed as Imputed
from ._iwae import IWAE as IWAE
from ._likelihood import MaximumLikelihood as MaximumLikelihood
from ._wake_sleep import ReweightedWakeSleep as ReweightedWakeSleep, WakeSleep as WakeSleep
