"""Recipes. A recipe joins a data set, a model, its training and its evaluation in one short value."""

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
# The first arguments of `lnz.fit`: a key, the initial model, the method.
Start = tuple[PRNGKeyArray, AbstractModel, AbstractMethod]


@dataclasses.dataclass(frozen=True)
class Recipe(Generic[S]):
    """A complete, repeatable experiment.

    - `name`, `title`: its name, and one line about it.
    - `settings`: the default settings, including the data set. Any other data set with examples of `space` can be used
      instead. The class of the settings defines what can be changed; the functions below receive such settings.
    - `build`: `(key, splits, settings) -> (model, method)`.
    - `space`: the type of examples: `Binary`, `Euclidean` or `Categorical` (bits or whole numbers).
    - `takes_missing`: whether rows may have missing entries.
    - `partitions`: `settings -> {row suffix: normaliser or None}`, with one row of the comparison for each way to
      compute the denominator. The suffix "" marks the recipe's own row.
    - `validator`: `settings -> normaliser or None`, for the denominator during training.
    - `hidden`, `hidden_while_training`: `settings -> normaliser or None`, for numerators.
    - `bracket`: `settings -> (lower, upper)`, two normalisers that bound log Z from both sides, or `None`.
    - `protocol`: `settings -> words`, the facts about the training that a reader of the likelihood needs.
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
        """Apply changes, such as `{"train.steps": 100, "model.prior": "mixture"}`, to the settings.

        - `base`: the settings to change, such as those of an earlier run; by default the recipe's own. Settings that no
          longer have an effect after the changes return to the recipe's values.

        **Raises:** `ValueError` for an unknown key (the message suggests the nearest one), for a value that is not
        allowed, and for a change that has no effect with the other settings (the message names those it belongs to).
        """
        return change(self.settings if base is None else base, self.settings, changes or {}, self.name)

    def read(self, settings: Any) -> S:
        """Read settings from the JSON of a run, as written by `settings.model_dump()`.

        **Raises:** `ValueError` for a setting that is missing, unknown or wrong.
        """
        return read(self.settings, settings, self.name)

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the settings, with the recipe's own settings as the default."""
        schema = type(self.settings).model_json_schema()
        return {**schema, "title": self.name, "description": self.title, "default": self.settings.model_dump()}

    def load(self, settings: S) -> Splits:
        """Load the data named in `settings`, as examples of the recipe's space.

        **Raises:** `ValueError` or `OSError`, naming file, row and column, if the data cannot be read or do not fit.
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
        """**Raises:** `ValueError` for settings that would otherwise fail after the training, or without a reason."""
        batch_size = settings.train.fit_options()["batch_size"]
        if batch_size is not None and batch_size > len(splits.train):
            raise ValueError(
                f"`train.batch_size={batch_size}` is larger than the training data ({len(splits.train)} rows). Use 0 "
                "for all of them."
            )
        self.partitions(settings)
        self.validator(settings)
        self.hidden(settings)
        self.hidden_while_training(settings)
        self.bracket(settings)

    def start(self, splits: Splits, settings: S) -> Start:
        """Build the first arguments of `lnz.fit`: the key, the initial model and the method.

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
        """Build the model and the method, and train.

        - `settings`: the result of `resolve`.
        - `start`: the result of `self.start`, if it was called before.
        - `validated`: called with each validation result, before its value appears in a record of `watch.progress`.
        """
        key, model, method = start or self.start(splits, settings)
        partition = self.validator(settings)

        known_train, known_valid, _ = splits.observed or (None, None, None)
        # Missing entries are summed out example by example; a rough estimate for each is enough during training.
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
        """Evaluate likelihoods of `rows`, or of their `observed` entries: `{recipe name and suffix: LogLikelihood}`.

        - `hidden`: a normaliser for numerators, in place of the recipe's own.
        - `progress`: as in `lnz.evaluate`.
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
        """Evaluate the likelihood of `rows`, or of their `observed` entries, by the first (best) of `partitions`."""
        *_, key = _keys(settings)
        partition = next(iter(self.partitions(settings).values()))
        hidden = self._hidden(settings, observed)
        return self._told(evaluate(key, model, rows, hidden=hidden, partition=partition, observed=observed), settings)

    def _told(self, result: LogLikelihood, settings: S) -> LogLikelihood:
        """Add to the protocol the seed, where it matters, and the recipe's own `protocol`."""
        notes = [] if result.bound == "exact" else [f"seed {settings.seed}"]
        said = self.protocol(settings)
        return result.with_notes(*notes, *([said] if said else []))

    def _hidden(self, settings: S, observed: Any) -> AbstractNormalizer | None:
        return self.hidden(settings) if observed is None else None

    def bracket_log_z(self, model: AbstractModel, settings: S) -> Bracket | None:
        """Bound log Z by a lower and an upper estimate, if the recipe has a normaliser for each; otherwise `None`."""
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
    """The keys for building, training and evaluating."""
    return jr.split(jr.key(settings.seed), 3)


def column_moments(rows: np.ndarray, num_rows: int = 2**14) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column in float64, computed on `num_rows` rows at a time."""
    mean, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for start in range(0, len(rows), num_rows):
        part = rows[start : start + num_rows].astype(np.float64)
        # Chan, Golub and LeVeque (1983): joins the moments of two sets without cancellation.
        shift = part.mean(axis=0) - mean
        weight = len(part) / (start + len(part))
        mean = mean + weight * shift
        squares = squares + ((part - part.mean(axis=0)) ** 2).sum(axis=0) + start * weight * shift**2
        forget_pages(rows)
    return mean, np.sqrt(squares / len(rows))
