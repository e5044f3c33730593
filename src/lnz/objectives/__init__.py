from ._contrastive import CD as CD, PCD as PCD
from ._likelihood import (
    ELBO as ELBO,
    IWAE as IWAE,
    MaximumLikelihood as MaximumLikelihood,
    ReverseKL as ReverseKL,
)
