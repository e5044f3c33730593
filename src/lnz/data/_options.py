"""Options of `load`: their choices, their ranges, and when each has an effect."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

Binarize = Literal["none", "sample", "threshold"]
Missing = Literal["error", "mask"]
Header = Literal["auto", "yes", "no"]
_THRESHOLD = 0.5

# For each option, the values of other options under which it has an effect; any one suffices. FILE stands for every
# source that is not a named set, since those have their own splits.
_FILE = "FILE"
_BELONGS: dict[str, dict[str, str]] = {
    "threshold": {"binarize": "threshold"},
    "valid_fraction": {"source": _FILE},
    "test_fraction": {"source": _FILE},
    "seed": {"binarize": "sample", "source": _FILE},
}


def options_without_effect(is_file: bool, binarize: str) -> Mapping[str, Mapping[str, str]]:
    """`{option: {other option: value}}`: the options of `load` without effect, and the values that would give them one.

    - `is_file`: whether the source is a file or folder (`source=FILE`) rather than a named data set.
    """
    chosen = {"binarize": binarize, "source": _FILE if is_file else None}
    return {name: homes for name, homes in _BELONGS.items() if all(chosen[one] != of for one, of in homes.items())}


@dataclasses.dataclass(frozen=True)
class Options:
    """The keyword arguments of `lnz.data.load`; `docs/data.md` explains them."""

    binarize: str = "none"
    threshold: float = _THRESHOLD
    valid_fraction: float = 0.1
    test_fraction: float = 0.2
    seed: int = 0
    missing: str = "error"
    resident_limit: int = 2**30
    header: str = "auto"

    def __post_init__(self):
        _check_choice("binarize", self.binarize, get_args(Binarize))
        _check_choice("missing", self.missing, get_args(Missing))
        _check_choice("header", self.header, get_args(Header))
        _check_fraction("threshold", self.threshold, one_is_fine=True)
        if self.threshold != _THRESHOLD and self.binarize != "threshold":
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
