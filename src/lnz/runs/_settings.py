"""Typed settings of a recipe: groups of numbers and words, and choices that have settings of their own."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from ..data import Binarize, Header, Missing, missing_extra, names, options_without_effect

try:
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise ImportError(missing_extra("A recipe")) from error

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Several = Annotated[int, Field(ge=2)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
_Fraction = Annotated[float, Field(gt=0, lt=1)]


class Group(BaseModel):
    """An immutable group of settings. Each has a type, a range and a meaning in one line.

    Subclasses declare fields; the docstring beneath a field is its meaning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def without_effect(self) -> Mapping[str, Mapping[str, str]]:
        """Settings without an effect here, and the values that would use them: `{setting: {other setting: value}}`."""
        return {}


class Choice(Group):
    """One of several options, with the settings that only this option has.

    Subclasses declare `kind: Literal["name"] = "name"`, and a default for every setting. A field for a choice is a
    union of such classes, with `kind` as discriminator; `--set group.field=name` selects one.
    """

    kind: str = ""


class Nothing(Group):
    """No settings: the likelihood is exact."""


class Data(Group):
    """How examples are read: the arguments of `lnz.data.load`."""

    source: str
    """Name of a data set, or your file or folder; `--data` for short."""
    binarize: Binarize = "none"
    """How other values are turned into bits."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A bit is 1 if the value is at least this fraction of the full scale."""
    valid_fraction: _Fraction = 0.1
    """Fraction of the training rows used for validation, if the file has no validation rows."""
    test_fraction: _Fraction = 0.2
    """Fraction of the training rows used for the test, if the file has no test rows."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed of the split of a file, and of sampled bits."""
    missing: Missing = "error"
    """Whether empty cells and NaN are refused, or masked as missing entries."""
    header: Header = "auto"
    """Whether the first row of a CSV file contains the column names."""

    @property
    def is_file(self) -> bool:
        return self.source not in names()

    def without_effect(self) -> Mapping[str, Mapping[str, str]]:
        return options_without_effect(self.is_file, self.binarize)


class TrainOnDraws(Group):
    """Training settings of a model that draws its own examples: arguments of `lnz.fit`."""

    steps: Annotated[int, Field(ge=1, lt=2**31)] = 1
    """Number of parameter updates."""
    keep: Literal["last", "best"] = "last"
    """Which parameters to keep: those of the last step, or those with the best validation score."""
    valid_every: CountOrZero = 0
    """Number of steps between validations; 0 means a tenth of all steps."""
    patience: CountOrZero = 0
    """Training stops after this many validations without progress; 0 turns this off."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of a running average of the parameters, such as 0.999; 0 turns the average off."""

    def fit_options(self) -> dict[str, Any]:
        """Keyword arguments of `lnz.fit`."""
        return {
            "steps": self.steps,
            "batch_size": None,
            "average": self.average or None,
        }

    def validation_options(self) -> dict[str, Any]:
        """Keyword arguments of `lnz.Validation`."""
        return {"every": self.valid_every or None, "keep": self.keep, "patience": self.patience or None}


class Train(TrainOnDraws):
    """Training settings: arguments of `lnz.fit`."""

    batch_size: CountOrZero = 0
    """Number of rows per step; 0 means all rows."""

    def fit_options(self) -> dict[str, Any]:
        return {**super().fit_options(), "batch_size": self.batch_size or None}


class Settings(Group):
    """All settings of a recipe. A family of recipes declares the type of `model` and, if it has any, of `evaluate`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Random seed of the initial model, the training and the evaluation."""
    data: Data
    model: Group
    train: Train
    evaluate: Group


class ExactSettings(Settings):
    """All settings of a recipe whose likelihood is exact, so that the evaluation has no settings."""

    evaluate: Nothing = Nothing()
