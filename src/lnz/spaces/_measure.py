"""Base measures: what a density is a density with respect to."""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Measure:
    """The base measure of the densities on a space. Log-densities compare only under equal measures.

    `is_counting` says that every point has mass 1, so that densities are probabilities and at most 1. `is_continuous`
    says that some variables have no mass on single values: data that repeat there, or lose digits, are suspicious.
    """

    name: str
    is_counting: bool
    is_continuous: bool

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def product(measures: Iterable["Measure"]) -> "Measure":
        """The measure of variables side by side, each with its own."""
        parts = set(measures)
        if len(parts) == 1:
            return parts.pop()
        names = sorted({name for part in parts for name in part.name.split(" x ")})
        return Measure(
            " x ".join(names), all(part.is_counting for part in parts), any(part.is_continuous for part in parts)
        )


COUNTING = Measure("counting", is_counting=True, is_continuous=False)
LEBESGUE = Measure("Lebesgue", is_counting=False, is_continuous=True)
