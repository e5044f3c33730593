"""What the error bar of an estimate rests on."""

import dataclasses

import equinox as eqx
import numpy as np
from jaxtyping import Array

Number = Array | np.ndarray | float | int


class Weights(eqx.Module):
    """Diagnostics of the weights, the chains or the grid behind an `Estimate`; `None` for those not measured.

    Each is one number, or one for each estimate of a batch.

    - `num`: independent weights.
    - `ess`: effective sample size.
    - `pareto_k`: shape of the tail of the weights; NaN where it could not be fitted.
    - `normal_ess`: effective sample size that normal log weights of this spread have in expectation.
    - `degrees`: degrees of freedom of the standard error, where these are not `num - 1`.
    - `overlap`: how much of their way two directions of annealing share, from 0 to 1.
    - `beyond`: how far the estimate moves along rays through the draws, in standard errors.
    - `off_centre`: how far the distances of chains from their middle are from those of the target, in standard errors.
    - `cut_mass`: fraction of the mass that the number type cannot tell from an end of the space.
    - `edge_mass`: fraction of the mass on the edge of a grid.
    - `grid_error`: largest difference in nats between grids that are shifted against each other.
    - `acceptance`: mean fraction of accepted proposals.
    - `converged`: fraction of searches that arrived at a mode.
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
        """Every diagnostic that is known, by its name."""
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}

    @property
    def are_judged(self) -> bool:
        """Whether any of the diagnostics has a rule by which an error bar can be doubted."""
        return not self.measured().keys() <= _WITHOUT_RULE

    def typical(self) -> "Weights":
        """The median of each diagnostic over a batch of estimates."""
        columns = {name: value for name, value in self.measured().items() if name not in ("degrees", "log_weights")}
        return Weights(**{name: np.median(np.asarray(value, float)) for name, value in columns.items()})


_WITHOUT_RULE = {"num", "degrees", "acceptance", "converged", "log_weights"}
NAMES = tuple(field.name for field in dataclasses.fields(Weights))
