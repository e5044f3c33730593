"""Evaluation of models: likelihoods, log normalisers, brackets, draws, diagnostics and comparisons."""

from ._compare import (
    Comparison as Comparison,
    Row as Row,
    compare as compare,
    differences as differences,
)
from ._diagnose import (
    LatentDiagnostics as LatentDiagnostics,
    PosteriorCollapseWarning as PosteriorCollapseWarning,
    diagnose as diagnose,
)
from ._divergence import kl_divergence as kl_divergence
from ._evaluate import evaluate as evaluate
from ._narrow import warn_of_narrow_scales as warn_of_narrow_scales
from ._normalize import bracket as bracket, log_normalizer as log_normalizer
from ._sample import UnreliableSampleWarning as UnreliableSampleWarning, sample as sample
from ._simulated import adapted_hmc as adapted_hmc, simulated_bracket as simulated_bracket
