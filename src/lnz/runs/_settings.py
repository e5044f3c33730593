"""Typed settings of a recipe: groups of numbers and words, and choices that bring settings of their own."""

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
    """Settings that belong together: immutable, each with a type, a range, and a line that says what it means.

    Subclasses declare fields; the docstring beneath a field is its meaning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def without_effect(self) -> Mapping[str, Mapping[str, str]]:
        """`{setting: {other setting: value}}`: settings that change nothing here, and which values would use them."""
        return {}


class Choice(Group):
    """One of several ways to do something, with the settings of that way alone.

    Subclasses declare `kind: Literal["name"] = "name"`, and a default for every setting. A field of such a type is a
    union with `kind` as its discriminator, and `--set group.field=name` chooses.
    """

    kind: str = ""


class Nothing(Group):
    """No settings: the likelihood is exact."""


class Data(Group):
    """How examples are read: the arguments of `lnz.data.load`."""

    source: str
    """Name of a data set, or a file or folder of yours; `--data` for short."""
    binarize: Binarize = "none"
    """How bits are made of other values."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A one where a value is at least this part of the full scale."""
    valid_fraction: _Fraction = 0.1
    """Part of the training rows for validation, where a file does not have them."""
    test_fraction: _Fraction = 0.2
    """Part of the training rows for the test, where a file does not have them."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the split of a file, and of sampled bits."""
    missing: Missing = "error"
    """Whether empty cells and nan are refused, or masked as missing entries."""
    header: Header = "auto"
    """Whether the first row of a CSV file has the names of its columns."""

    @property
    def is_file(self) -> bool:
        return self.source not in names()

    def without_effect(self) -> Mapping[str, Mapping[str, str]]:
        return options_without_effect(self.is_file, self.binarize)


class TrainOnDraws(Group):
    """How a model is trained that draws its own examples: arguments of `lnz.fit`."""

    steps: Annotated[int, Field(ge=1, lt=2**31)] = 1
    """Updates of the parameters."""
    keep: Literal["last", "best"] = "last"
    """Which parameters count: of the last step, or of the best validation."""
    valid_every: CountOrZero = 0
    """Steps between validations; 0 means a tenth of all."""
    patience: CountOrZero = 0
    """Validations without progress after which training stops; 0 turns it off."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of a running average of the parameters, such as 0.999; 0 turns it off."""

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
    """How training is run: arguments of `lnz.fit`."""

    batch_size: CountOrZero = 0
    """Rows of a step; 0 means all of them."""

    def fit_options(self) -> dict[str, Any]:
        return {**super().fit_options(), "batch_size": self.batch_size or None}


class Settings(Group):
    """All settings of a recipe. A family declares the types of its `model` and, where it has any, of `evaluate`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of everything random: the start, the training and the evaluation."""
    data: Data
    model: Group
    train: Train
    evaluate: Group


class ExactSettings(Settings):
    """All settings of a recipe whose likelihood is exact: none are for the evaluation."""

    evaluate: Nothing = Nothing()
