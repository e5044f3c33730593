"""Flow architectures: functions that return a bijection. `lnz.Transformed(base, bijection)` is the flow."""

from ._affine import affine as affine
from ._autoregressive import (
    autoregressive as autoregressive,
    autoregressive_spline as autoregressive_spline,
    inverse_autoregressive as inverse_autoregressive,
    masked_autoregressive as masked_autoregressive,
    neural_autoregressive as neural_autoregressive,
)
from ._base import base_for as base_for
from ._continuous import continuous as continuous
from ._coupling import coupling as coupling, coupling_spline as coupling_spline, realnvp as realnvp
from ._glow import glow as glow
from ._planar import planar as planar, radial as radial, sylvester as sylvester
from ._preprocess import affine_of_moments as affine_of_moments, logit as logit, standardise as standardise
from ._residual import residual as residual
