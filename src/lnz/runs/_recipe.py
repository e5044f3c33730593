"""Recipes: a data set, a model, how it is trained and how it is judged, in one short value."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import jax.random as jr
import numpy as np
from jaxtyping import Array, Key, PRNGKeyArray

from ..core import (
    AbstractDensity,
    AbstractMethod,
    AbstractModel,
    AbstractNormalizer,
    Bracket,
    LogLikelihood,
    has_marginals,
)
from ..data import Splits, load, require_binary
from ..evaluation import bracket, evaluate
from ..files import forget_pages
from ..normalizers import AIS
from ..spaces import AbstractSpace, Binary, Categorical, Euclidean
from ..training import Checkpoints, Fit, Validation, Watch, fit
from ._reading import change, read
from ._settings import Settings

S = TypeVar("S", bound=Settings)
# What `lnz.fit` is given first: a key, the model to start from, the method.
Start = tuple[PRNGKeyArray, AbstractModel, AbstractMethod]


@dataclasses.dataclass(frozen=True)
class Recipe(Generic[S]):
    """A complete, repeatable experiment.

    - `name`, `title`: what it is called, and one line on what it is.
    - `settings`: every number that was chosen, and the data set it was made for; any other with examples of `space`
      will do. Its class says what may be changed. The functions below are given such a value.
    - `build`: `(key, splits, settings) -> (model, method)`.
    - `space`: what examples must be, `Binary`, `Euclidean` or `Categorical` (bits or whole numbers).
    - `takes_missing`: whether rows may have missing entries.
    - `partitions`: `settings -> {row suffix: normaliser or None}`: one row of the comparison for each way to
      compute the denominator; the suffix "" is the recipe's own row.
    - `validator`: `settings -> normaliser or None` for the denominator while training.
    - `hidden`, `hidden_while_training`: `settings -> normaliser or None` for numerators.
    - `bracket`: `settings -> (lower, upper)` normalisers of a two-sided statement about log Z, or `None`.
    - `protocol`: `settings -> words` on the training without which a likelihood cannot be judged.
    """

    name: str
    title: str
    settings: S
    build: Callable[[PRNGKeyArray, Splits, S], tuple[AbstractModel, AbstractMethod]]
    space: type[AbstractSpace] = Binary
    takes_missing: bool = False
    partitions: Callable[[S], dict[str, AbstractNormalizer | None]] = lambda settings: {"": None}
    validator: Callable[[S], AbstractNormalizer | None] = lambda settings: None
    hidden: Callable[[S], AbstractNormalizer | None] = lambda settings: None
    hidden_while_training: Callable[[S], AbstractNormalizer | None] = lambda settings: None
    bracket: Callable[[S], tuple[AbstractNormalizer, AbstractNormalizer] | None] = lambda settings: None
    protocol: Callable[[S], str] = lambda settings: ""

    def resolve(self, changes: Mapping[str, Any] | None = None, base: S | None = None) -> S:
        """The settings with `changes`, given as `{"train.steps": 100, "model.prior": "mixture"}`.

        - `base`: the settings of an earlier run to start from; by default those of the recipe. What the changes leave
          of it without an effect is the recipe's again.

        **Raises:** `ValueError` for a key that does not exist (naming the nearest), for a value that is not allowed,
        and for a change that has no effect beside the other settings, naming those it belongs to.
        """
        return change(self.settings if base is None else base, self.settings, changes or {}, self.name)

    def read(self, settings: Any) -> S:
        """Settings from the JSON of a run, as `settings.model_dump()` gives it.

        **Raises:** `ValueError` for a setting that is missing, unknown or wrong.
        """
        return read(self.settings, settings, self.name)

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the settings, with those of the recipe as its default."""
        schema = type(self.settings).model_json_schema()
        return {**schema, "title": self.name, "description": self.title, "default": self.settings.model_dump()}

    def load(self, settings: S) -> Splits:
        """The data that `settings` name, as examples of the recipe's space.

        **Raises:** `ValueError` or `OSError`, naming file, row and column, if they cannot be read or do not fit.
        """
        splits = load(**settings.data.model_dump())
        if splits.observed is not None and not self.takes_missing:
            raise ValueError(
                f"{self.name} cannot learn from rows with missing entries: use normal or mixture_of_normals for tables "
                "and a recipe of a Boltzmann machine, such as rbm_digits, for bits, or remove or fill in the missing "
                "values."
            )
        if self.space is Binary:
            return require_binary(splits)
        if self.space is Categorical:
            return _require_whole_numbers(splits)
        return dataclasses.replace(splits, space=Euclidean(splits.space.shape))

    def check(self, settings: S, splits: Splits) -> None:
        """**Raises:** `ValueError` for settings that would fail only after the training, or not say why."""
        batch_size = settings.train.fit_options()["batch_size"]
        if batch_size is not None and batch_size > len(splits.train):
            raise ValueError(
                f"`train.batch_size={batch_size}` is larger than the training data ({len(splits.train)} rows). 0 means "
                "all of them."
            )
        self.partitions(settings)
        self.validator(settings)
        self.hidden(settings)
        self.hidden_while_training(settings)
        self.bracket(settings)

    def start(self, splits: Splits, settings: S) -> Start:
        """What `lnz.fit` needs: its key, the model to start from, and the method.

        **Raises:** `ValueError` for settings that the model or the method refuses.
        """
        key_build, key_fit, _ = _keys(settings)
        return key_fit, *self.build(key_build, splits, settings)

    def fit(
        self,
        splits: Splits,
        settings: S,
        *,
        start: Start | None = None,
        validated: Callable[[LogLikelihood], None] = lambda result: None,
        watch: Watch | None = None,
        checkpoints: Checkpoints | None = None,
        throw: bool = True,
    ) -> Fit:
        """Build, unless `start` is what `self.start` built, and train; `settings` are what `resolve` returned.

        `validated` is told each validation before its number is in a record of `watch.progress`.
        """
        key, model, method = start or self.start(splits, settings)
        partition = self.validator(settings)

        known_train, known_valid, _ = splits.observed or (None, None, None)
        # What is missing is summed out example by example: a rough estimate of each will do while training.
        is_closed = known_valid is None or has_marginals(model)
        hidden = self.hidden_while_training(settings) if is_closed else AIS(20, 100)

        def evaluator(key, model, valid):
            result = evaluate(key, model, valid, hidden=hidden, partition=partition, observed=known_valid)
            validated(result)
            return result

        return fit(
            key,
            model,
            method,
            splits.train,
            observed=known_train,
            valid=Validation(splits.valid, evaluator=evaluator, **settings.train.validation_options()),
            watch=watch,
            checkpoints=checkpoints,
            throw=throw,
            **settings.train.fit_options(),
        )

    def judge(
        self,
        model: AbstractModel,
        rows: Any,
        settings: S,
        observed: Any = None,
        *,
        hidden: AbstractNormalizer | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, LogLikelihood]:
        """Likelihoods of `rows`, or of their `observed` entries: `{recipe name and suffix: LogLikelihood}`.

        - `hidden`: for numerators, another normaliser than the recipe's own.
        - `progress`: as of `lnz.evaluate`.
        """
        *_, key = _keys(settings)
        methods: dict[str, Any] = {
            "hidden": self._hidden(settings, observed) if hidden is None else hidden,
            "observed": observed,
            "progress": progress,
        }
        return {
            f"{self.name}{suffix}": self._told(evaluate(key, model, rows, partition=partition, **methods), settings)
            for suffix, partition in self.partitions(settings).items()
        }

    def score(self, model: AbstractModel, rows: Any, settings: S, observed: Any = None) -> LogLikelihood:
        """The likelihood of `rows`, or of their `observed` entries, in the recipe's first way, which is its best."""
        *_, key = _keys(settings)
        partition = next(iter(self.partitions(settings).values()))
        hidden = self._hidden(settings, observed)
        return self._told(evaluate(key, model, rows, hidden=hidden, partition=partition, observed=observed), settings)

    def _told(self, result: LogLikelihood, settings: S) -> LogLikelihood:
        """With the seed in its protocol, where it matters, and what the recipe says of the training."""
        notes = [] if result.bound == "exact" else [f"seed {settings.seed}"]
        said = self.protocol(settings)
        return result.with_notes(*notes, *([said] if said else []))

    def _hidden(self, settings: S, observed: Any) -> AbstractNormalizer | None:
        return self.hidden(settings) if observed is None else None

    def bracket_log_z(self, model: AbstractModel, settings: S) -> Bracket | None:
        """log Z between a lower and an upper estimate, where the recipe has a way to both."""
        methods = self.bracket(settings)
        if methods is None or not isinstance(model, AbstractDensity):
            return None
        *_, key = _keys(settings)
        return bracket(jr.fold_in(key, 1), model, *methods)


def _require_whole_numbers(splits: Splits) -> Splits:
    if splits.space.num_values is None:
        raise ValueError(
            f"`{splits.name}` has numbers that are neither bits nor grey values 0 to 255: save them as uint8, or use a "
            "recipe for continuous tables."
        )
    return splits


def _keys(settings: Settings) -> Key[Array, "3"]:
    """For building, training and evaluating."""
    return jr.split(jr.key(settings.seed), 3)


def column_moments(rows: np.ndarray, num_rows: int = 2**14) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column in float64, in the memory of a few rows."""
    mean, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for start in range(0, len(rows), num_rows):
        part = rows[start : start + num_rows].astype(np.float64)
        # Chan, Golub and LeVeque (1983): joins the moments of two sets without cancelling digits.
        shift = part.mean(axis=0) - mean
        weight = len(part) / (start + len(part))
        mean = mean + weight * shift
        squares = squares + ((part - part.mean(axis=0)) ** 2).sum(axis=0) + start * weight * shift**2
        forget_pages(rows)
    return mean, np.sqrt(squares / len(rows))
