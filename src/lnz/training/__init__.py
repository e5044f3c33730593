"""Training: `fit`, its compiled loop, its data feed and its checkpoints."""

from ._checkpoint import Checkpoints as Checkpoints, ResumeWarning as ResumeWarning
from ._fit import Fit as Fit, expected_memory as expected_memory, fit as fit
from ._training import Watch as Watch
from ._validation import Validation as Validation
