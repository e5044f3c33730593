"""Base measures of densities."""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Measure:
    """The base measure of the densities on a space. Log-densities are comparable only under equal measures.

    - `is_counting`: every point has mass 1, so densities are probabilities and at most 1.
    - `is_continuous`: some variables have no mass on single values, so repeated or rounded data are suspicious.
    """

    name: str
    is_counting: bool
    is_continuous: bool

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def product(measures: Iterable["Measure"]) -> "Measure":
        """The product measure of several variables, each with its own measure."""
        parts = set(measures)
        if len(parts) == 1:
            return parts.pop()
        names = sorted({name for part in parts for name in part.name.split(" x ")})
        return Measure(
            " x ".join(names), all(part.is_counting for part in parts), any(part.is_continuous for part in parts)
        )


COUNTING = Measure("counting", is_counting=True, is_continuous=False)
LEBESGUE = Measure("Lebesgue", is_counting=False, is_continuous=True)
