from ._gibbs import Gibbs as Gibbs
from ._hmc import HMC as HMC
from ._run import default_sampler as default_sampler, run_chains as run_chains
