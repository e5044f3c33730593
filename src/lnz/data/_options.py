"""What a user may choose about loading a data set, checked once."""

import dataclasses
from typing import Any

import numpy as np

from ._settings import Owners, has_meaning

BINARIZE = ("none", "sample", "threshold")
MISSING = ("error", "mask")
HEADER = ("auto", "yes", "no")
_THRESHOLD = 0.5

# What each option belongs to. Named sets have splits of their own: FILE stands for every `source` that is none.
FILE = "FILE"
BELONGS: dict[str, Owners] = {
    "threshold": {"binarize": ("threshold",)},
    "valid_fraction": {"source": (FILE,)},
    "test_fraction": {"source": (FILE,)},
    "seed": {"binarize": ("sample",), "source": (FILE,)},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """The keyword arguments of `lnz.data.load`, whose docstring says what they mean."""

    binarize: str = "none"
    threshold: float = _THRESHOLD
    valid_fraction: float = 0.1
    test_fraction: float = 0.2
    seed: int = 0
    missing: str = "error"
    resident_limit: int = 2**30
    header: str = "auto"

    def __post_init__(self):
        _check_choice("binarize", self.binarize, BINARIZE)
        _check_choice("missing", self.missing, MISSING)
        _check_choice("header", self.header, HEADER)
        _check_fraction("threshold", self.threshold, one_is_fine=True)
        if self.threshold != _THRESHOLD and not has_meaning(BELONGS["threshold"], {"binarize": self.binarize}):
            raise ValueError(
                f"`load(threshold={self.threshold})` belongs to `binarize='threshold'`; with "
                f"`binarize={self.binarize!r}` it means nothing. Leave it out, or change `binarize`."
            )
        _check_fraction("valid_fraction", self.valid_fraction)
        _check_fraction("test_fraction", self.test_fraction)
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"`load(valid_fraction=..., test_fraction=...)` must leave rows to train on; "
                f"got {self.valid_fraction} and {self.test_fraction}."
            )
        _check_integer("seed", self.seed, 0, 2**32 - 1)
        _check_integer("resident_limit", self.resident_limit, 0, 2**63 - 1)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`load({name}=...)` must be one of {', '.join(map(repr, choices))}; got {value!r}.")


def _check_fraction(name: str, value: Any, one_is_fine: bool = False) -> None:
    is_number = isinstance(value, float | int | np.number) and not isinstance(value, bool)
    if not is_number or not (0 < value < 1 or (one_is_fine and value == 1)):
        bound = "at most" if one_is_fine else "less than"
        raise ValueError(f"`load({name}=...)` must be more than 0 and {bound} 1; got {value!r}.")


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"`load({name}=...)` must be a whole number from {low} to {high}; got {value!r}.")
