"""Markov chains: Gibbs sampling, Hamiltonian Monte Carlo and tempering, with their autocorrelation."""

from ._adapt import (
    adapt_step_size as adapt_step_size,
    followed_step_size as followed_step_size,
    samplers_along as samplers_along,
    waits_for_step_size as waits_for_step_size,
    with_step_size as with_step_size,
)
from ._autocorrelation import autocorrelation as autocorrelation, autocorrelation_time as autocorrelation_time
from ._chains import run_chains as run_chains, trace_chains as trace_chains
from ._gibbs import Gibbs as Gibbs
from ._hmc import HMC as HMC
from ._in_turn import InTurn as InTurn
from ._metropolis import Metropolis as Metropolis
from ._run import (
    default_sampler as default_sampler,
    possible_positions as possible_positions,
    start_chains as start_chains,
)
from ._tempering import ParallelTempering as ParallelTempering
