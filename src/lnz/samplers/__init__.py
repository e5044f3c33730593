"""Markov chains: Gibbs sampling, Hamiltonian Monte Carlo and tempering, with their autocorrelation."""

from ._autocorrelation import autocorrelation as autocorrelation, autocorrelation_time as autocorrelation_time
from ._gibbs import Gibbs as Gibbs
from ._hmc import HMC as HMC
from ._run import default_sampler as default_sampler, run_chains as run_chains, trace_chains as trace_chains
from ._tempering import ParallelTempering as ParallelTempering
