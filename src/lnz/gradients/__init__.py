"""Estimators of the gradient of an expectation over draws of q, with respect to the parameters of q."""

from ._estimator import AbstractGradientEstimator as AbstractGradientEstimator, Draws as Draws
from ._leave_one_out import LeaveOneOut as LeaveOneOut
from ._pathwise import (
    DoublyReparameterised as DoublyReparameterised,
    Pathwise as Pathwise,
    StickingTheLanding as StickingTheLanding,
)
from ._score import Score as Score
