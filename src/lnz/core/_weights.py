"""Diagnostics of the error bar of an estimate."""

import dataclasses

import equinox as eqx
import numpy as np
from jaxtyping import Array

Number = Array | np.ndarray | float | int


class Weights(eqx.Module):
    """Diagnostics of the weights, the chains or the grid behind an `Estimate`; `None` if not measured.

    Each is one number, or one for each estimate of a batch.

    - `num`: number of independent weights.
    - `ess`: effective sample size.
    - `pareto_k`: tail shape of the weights; NaN if it could not be fitted.
    - `normal_ess`: expected effective sample size of normal log weights with this spread.
    - `degrees`: degrees of freedom of the standard error, if not `num - 1`.
    - `overlap`: how far the two directions of annealing overlap, from 0 (not at all) to 1.
    - `beyond`: change of the estimate along rays through the draws, in standard errors.
    - `off_centre`: error of the chains' distances from their centre, compared with the target, in standard errors.
    - `cut_mass`: fraction of the mass that the number type does not distinguish from an end of the space.
    - `edge_mass`: fraction of the mass on the edge of a grid, or seen beyond it.
    - `grid_error`: largest difference in nats between shifted grids.
    - `acceptance`: mean acceptance rate of proposals.
    - `converged`: fraction of searches that reached a mode.
    - `log_weights`: the log weights of annealing, `[num]`.
    """

    num: Number | None = None
    ess: Number | None = None
    pareto_k: Number | None = None
    normal_ess: Number | None = None
    degrees: Number | None = None
    overlap: Number | None = None
    beyond: Number | None = None
    off_centre: Number | None = None
    cut_mass: Number | None = None
    edge_mass: Number | None = None
    grid_error: Number | None = None
    acceptance: Number | None = None
    converged: Number | None = None
    log_weights: Number | None = None

    def measured(self) -> dict[str, Number]:
        """All measured diagnostics, by name."""
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}

    @property
    def are_judged(self) -> bool:
        """Whether `unreliable_reasons` has a rule for any of the measured diagnostics."""
        return not self.measured().keys() <= _WITHOUT_RULE

    def typical(self) -> "Weights":
        """The median of each diagnostic over a batch of estimates."""
        columns = {name: value for name, value in self.measured().items() if name not in ("degrees", "log_weights")}
        return Weights(**{name: np.median(np.asarray(value, float)) for name, value in columns.items()})


_WITHOUT_RULE = {"num", "degrees", "acceptance", "converged", "log_weights"}
NAMES = tuple(field.name for field in dataclasses.fields(Weights))
