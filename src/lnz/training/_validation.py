"""Validation: scores of held-out examples during training, the best model, and early stopping."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from ..core import LogLikelihood, check_resolved, local
from ..data import Resident, known_entries, some_rows
from ..evaluation import evaluate
from ..modules import check_positive, unmasked
from ._checkpoint import Record

Evaluator = Callable[[PRNGKeyArray, Any, Any], LogLikelihood]


@dataclasses.dataclass(frozen=True)
class Validation:
    """Held-out examples for `lnz.fit(valid=...)`. Each score is the entry `valid` of a record in the history.

    - `data`: the examples. Masked entries of a masked array are summed out.
    - `every`: number of steps between two scores, by default a tenth of all steps. The last step is scored too.
    - `evaluator`: `(key, model, data) -> LogLikelihood`. Its value is the score. By default, `lnz.evaluate`.
    - `keep`: `"last"` to return the last model, or `"best"` to return the model with the highest score.
    - `patience`: stop after this many scores in a row that do not exceed the best one by more than `min_gain` nats.
    """

    data: Any
    every: int | None = None
    evaluator: Evaluator | None = None
    keep: str = "last"
    patience: int | None = None
    min_gain: float = 0.0

    def __post_init__(self):
        for name in ("every", "patience"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_positive(getattr(self, name), f"Validation({name}=...)"))
        if self.keep not in ("last", "best"):
            raise ValueError(f"`Validation(keep=...)` must be 'last' or 'best'; got {self.keep!r}.")
        if not self.min_gain >= 0:
            raise ValueError(f"`Validation(min_gain=...)` must not be negative; got {self.min_gain}.")
        if self.min_gain and self.patience is None:
            raise ValueError("`Validation(min_gain=...)` has no effect without `patience`: give both, or leave it out.")

    def has_ended(self, history: Sequence[Record]) -> bool:
        """Whether the scores in these records have stopped rising. False if the last record has no score."""
        if self.patience is None or not history or "valid" not in history[-1]:
            return False
        best, waited = -math.inf, 0
        for record in history:
            if "valid" in record:
                risen = record["valid"] > best + self.min_gain
                best, waited = (record["valid"], 0) if risen else (best, waited + 1)
        return waited >= self.patience

    def checked(self, model: Any) -> "Validation":
        """Check that the examples fit `model`, and fill in the default evaluator."""
        data, observed = unmasked(self.data, None, "valid")
        if observed is not None and self.evaluator is not None:
            raise ValueError(
                "`valid` is a masked array, and `evaluator` would not see its mask. Pass "
                "`lnz.Validation(valid.data, evaluator=...)` with, say, "
                "`lambda key, model, x: lnz.evaluate(key, model, x, observed=~valid.mask)`."
            )
        if observed is not None:
            data, observed = known_entries(model.space, data, observed, "valid")
            known = np.where(observed, data, np.nan)
        else:
            known = data = model.space.check_data(data, "valid")
        check_resolved(model.space, some_rows(Resident(known)), local(model), "valid")

        def by_evaluate(key, model, rows):
            return evaluate(key, model, rows, observed=observed)

        return dataclasses.replace(self, data=data, evaluator=self.evaluator or by_evaluate)
