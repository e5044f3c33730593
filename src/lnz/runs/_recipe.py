"""What a recipe is: a data set, a model, how it is trained and how it is judged, in one short value."""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

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
from ..data import BELONGS, Owners, Settings, Splits, flatten, has_meaning, kind_of_source, load, require_binary
from ..evaluation import bracket, evaluate
from ..files import forget_pages
from ..modules import unknown_name
from ..normalizers import AIS
from ..spaces import AbstractSpace, Binary, Categorical, Euclidean
from ..training import Checkpoints, Fit, Plateau, fit

# How data are read, for every recipe: arguments of `lnz.data.load`.
_DATA: Settings = {
    "binarize": "none",
    "threshold": 0.5,
    "valid_fraction": 0.1,
    "test_fraction": 0.2,
    "seed": 0,
    "missing": "error",
    "header": "auto",
}
_DATA_BELONGS: dict[str, Owners] = {
    f"data.{name}": {f"data.{owner}": values for owner, values in owners.items()} for name, owners in BELONGS.items()
}
# How training is run, for every recipe: 0 means off.
_TRAIN: Settings = {"steps": 1, "batch_size": 0, "keep": "last", "valid_every": 0, "patience": 0, "average": 0.0}

# Settings of any recipe, by their names: sizes of networks, and numbers that must be positive.
_SIZES = ("width", "depth", "noise_width")
_POSITIVE = ("learning_rate", "bound", "start_scale")


# What `lnz.fit` is given first: a key, the model to start from, the method.
Start = tuple[PRNGKeyArray, AbstractModel, AbstractMethod]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A complete, repeatable experiment.

    - `name`, `title`: what it is called, and one line on what it is.
    - `data`: name of the data set it was made for; any other with examples of `space` will do.
    - `model`, `train`, `evaluate`: every number that was chosen.
    - `build`: `(key, splits, settings) -> (model, method)`.
    - `space`: what examples must be, `Binary`, `Euclidean` or `Categorical` (bits or whole numbers).
    - `choices`: `{setting: the words it may be}`.
    - `belongs`: `{setting: {other setting: values}}`: it means something only where one of the others has such a value,
      and nothing where there are none.
    - `takes_missing`: whether rows may have missing entries.
    - `partitions`: `settings -> {row suffix: normaliser or None}`: one row of the comparison for each way to
      compute the denominator; the suffix "" is the recipe's own row.
    - `validator`: `settings -> normaliser or None` for the denominator while training.
    - `hidden`, `hidden_while_training`: `settings -> normaliser or None` for numerators.
    - `bracket`: `settings -> (lower, upper)` normalisers of a two-sided statement about log Z, or `None`.
    """

    name: str
    title: str
    data: str
    model: Settings
    train: Settings
    build: Callable[[PRNGKeyArray, Splits, Settings], tuple[AbstractModel, AbstractMethod]]
    evaluate: Settings = dataclasses.field(default_factory=dict)
    space: type[AbstractSpace] = Binary
    choices: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    belongs: Mapping[str, Owners] = dataclasses.field(default_factory=dict)
    takes_missing: bool = False
    partitions: Callable[[Settings], dict[str, AbstractNormalizer | None]] = lambda settings: {"": None}
    validator: Callable[[Settings], AbstractNormalizer | None] = lambda settings: None
    hidden: Callable[[Settings], AbstractNormalizer | None] = lambda settings: None
    hidden_while_training: Callable[[Settings], AbstractNormalizer | None] = lambda settings: None
    bracket: Callable[[Settings], tuple[AbstractNormalizer, AbstractNormalizer] | None] = lambda settings: None

    @property
    def settings(self) -> Settings:
        """Every setting with its default: `{"seed": 0, "data": {...}, "model": {...}, ...}`."""
        groups = {
            "data": {"source": self.data, **_DATA},
            "model": self.model,
            "train": {**_TRAIN, **self.train},
            "evaluate": self.evaluate,
        }
        return copy.deepcopy({"seed": 0, **groups})

    def resolve(self, changes: Settings | None = None, base: Settings | None = None) -> Settings:
        """The settings with `changes`, given as `{"train.steps": 100}`.

        - `base`: the settings of an earlier run to start from, in groups as they are returned; by default those of the
          recipe. What the changes leave of it without a meaning is the recipe's again.

        **Raises:** `ValueError` for a key that does not exist (naming the nearest), a value of another type or that is
        no choice, and for a change that the other settings leave without a meaning, naming those it belongs to.
        """
        settings = self.settings
        known, changes = dict(flatten(settings)), changes or {}
        for name, value in {**dict(flatten(base or {})), **changes}.items():
            if name not in known:
                raise ValueError(unknown_name(f"setting of {self.name}", name, known))
            _put(settings, name, _convert(name, value, known[name]))
        chosen = dict(flatten(settings))
        for name, words in self.choices.items():
            if chosen[name] not in words:
                raise ValueError(f"`{name}` must be one of {', '.join(words)}; got {chosen[name]!r}.")
        chosen["data.source"] = kind_of_source(chosen["data.source"])
        for name, owners in {**_DATA_BELONGS, **self.belongs}.items():
            if not has_meaning(owners, chosen):
                if name in changes:
                    raise ValueError(_without_meaning(name, owners, chosen))
                _put(settings, name, known[name])
        return settings

    def load(self, settings: Settings) -> Splits:
        """The data that `settings` name, as examples of the recipe's space.

        **Raises:** `ValueError` or `OSError`, naming file, row and column, if they cannot be read or do not fit.
        """
        splits = load(**settings["data"])
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

    def check(self, settings: Settings, splits: Splits) -> None:
        """**Raises:** `ValueError` for settings that would fail only after the training, or not say why."""
        batch_size = fit_options(settings)["batch_size"]
        if batch_size is not None and batch_size > len(splits.train):
            raise ValueError(
                f"`train.batch_size={batch_size}` is larger than the training data ({len(splits.train)} rows). 0 means "
                "all of them."
            )
        if not 0 <= settings["seed"] < 2**63:
            raise ValueError(f"`seed` must be a whole number from 0 to 2**63 - 1; got {settings['seed']}.")
        for group, defaults in (("model", self.model), ("evaluate", self.evaluate)):
            for name, default in defaults.items():
                _check_number(group, name, settings[group][name], default)
        self.partitions(settings)
        self.validator(settings)
        self.hidden(settings)
        self.hidden_while_training(settings)
        self.bracket(settings)

    def start(self, splits: Splits, settings: Settings) -> Start:
        """What `lnz.fit` needs: its key, the model to start from, and the method.

        **Raises:** `ValueError` for settings that the model or the method refuses.
        """
        key_build, key_fit, _ = _keys(settings)
        return key_fit, *self.build(key_build, splits, settings)

    def fit(
        self,
        splits: Splits,
        settings: Settings,
        *,
        start: Start | None = None,
        validated: Callable[[LogLikelihood], None] = lambda result: None,
        progress: Callable[[dict[str, float | int]], None] | None = None,
        pulse: Callable[[dict[str, float | int]], None] | None = None,
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
        throw: bool = True,
    ) -> Fit:
        """Build, unless `start` is what `self.start` built, and train; `settings` are what `resolve` returned.

        `validated` is told each validation before its number is in a record of `progress`.
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
            valid=splits.valid,
            evaluator=evaluator,
            progress=progress,
            pulse=pulse,
            checkpoints=checkpoints,
            resume=resume,
            throw=throw,
            **fit_options(settings),
        )

    def judge(
        self,
        model: AbstractModel,
        rows: Any,
        settings: Settings,
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
            f"{self.name}{suffix}": _with_protocol(evaluate(key, model, rows, partition=partition, **methods), settings)
            for suffix, partition in self.partitions(settings).items()
        }

    def score(self, model: AbstractModel, rows: Any, settings: Settings, observed: Any = None) -> LogLikelihood:
        """The likelihood of `rows`, or of their `observed` entries, in the recipe's first way, which is its best."""
        *_, key = _keys(settings)
        partition = next(iter(self.partitions(settings).values()))
        hidden = self._hidden(settings, observed)
        return _with_protocol(
            evaluate(key, model, rows, hidden=hidden, partition=partition, observed=observed), settings
        )

    def _hidden(self, settings: Settings, observed: Any) -> AbstractNormalizer | None:
        return self.hidden(settings) if observed is None else None

    def bracket_log_z(self, model: AbstractModel, settings: Settings) -> Bracket | None:
        """log Z between a lower and an upper estimate, where the recipe has a way to both."""
        methods = self.bracket(settings)
        if methods is None or not isinstance(model, AbstractDensity):
            return None
        *_, key = _keys(settings)
        return bracket(jr.fold_in(key, 1), model, *methods)


def _require_whole_numbers(splits: Splits) -> Splits:
    if not isinstance(splits.space, Binary | Categorical):
        raise ValueError(
            f"`{splits.name}` has numbers that are neither bits nor grey values 0 to 255: save them as uint8, or use a "
            "recipe for continuous tables."
        )
    return splits


def _put(settings: Settings, name: str, value: Any) -> None:
    """Change `settings["a"]["b"]` by its name, `"a.b"`."""
    *groups, last = name.split(".")
    for group in groups:
        settings = settings[group]
    settings[last] = value


def _without_meaning(name: str, owners: Owners, chosen: Settings) -> str:
    """What to say of a change where none of the settings that it belongs to has a value that uses it."""
    if not owners:
        return f"`{name}={chosen[name]}` means nothing to this recipe. Leave it out."
    homes = " or ".join(f"`{owner}={value}`" for owner, values in owners.items() for value in values)
    got = " and ".join(f"`{owner}={chosen[owner]}`" for owner in owners)
    return (
        f"`{name}={chosen[name]}` belongs to {homes}; with {got} it means nothing. Leave it out, or change "
        f"{' or '.join(f'`{owner}`' for owner in owners)}."
    )


def _check_number(group: str, name: str, value: Any, default: Any) -> None:
    """**Raises:** `ValueError` for a number that the library would refuse, or take without sense, by its setting."""
    is_count = group == "model" and (name.startswith("num_") or name in _SIZES)
    if group == "evaluate" and name.startswith(("num_samples", "num_repeats")):
        least, why = 2, ", so that there is an error bar"
    else:
        least, why = {"num_bins": 2, "num_warm_up": 0}.get(name, 1) if is_count else None, ""
    if least is not None and value < least:
        raise ValueError(f"`{group}.{name}` must be at least {least}, such as {default}{why}; got {value}.")
    if name in _POSITIVE and not (0 < value < math.inf):
        raise ValueError(f"`{group}.{name}` must be positive and finite, such as {default}; got {value}.")
    if name in ("weight_decay", "floor") and not (0 <= value < math.inf):
        raise ValueError(f"`{group}.{name}` must be a finite number, not negative, such as {default}; got {value}.")


def fit_options(settings: Settings) -> dict[str, Any]:
    """What `lnz.fit` is given.

    **Raises:** `ValueError` for a setting that cannot be, by its name on the command line.
    """
    train = settings["train"]
    for name in ("batch_size", "valid_every", "patience", "average"):
        if train[name] < 0:
            raise ValueError(f"`train.{name}` must not be negative; got {train[name]}. 0 turns it off.")
    if not 1 <= train["steps"] < 2**31:
        raise ValueError(f"`train.steps` must be a whole number, at least 1 and less than 2**31; got {train['steps']}.")
    if train["keep"] not in ("last", "best"):
        raise ValueError(f"`train.keep` must be 'last' or 'best'; got {train['keep']!r}.")
    if not train["average"] < 1:
        raise ValueError(f"`train.average` is a decay between 0 and 1, such as 0.999; got {train['average']}.")
    return {
        "steps": train["steps"],
        "batch_size": train["batch_size"] or None,
        "keep": train["keep"],
        "valid_every": train["valid_every"] or None,
        "plateau": Plateau(train["patience"]) if train["patience"] else None,
        "average": train["average"] or None,
    }


def _keys(settings: Settings) -> Key[Array, "3"]:
    """For building, training and evaluating."""
    return jr.split(jr.key(settings["seed"]), 3)


def _with_protocol(result: LogLikelihood, settings: Settings) -> LogLikelihood:
    """With the seed in its protocol, where it matters, and the floor on scales."""
    notes = [] if result.bound == "exact" else [f"seed {settings['seed']}"]
    if settings["model"].get("floor"):
        floor = settings["model"]["floor"]
        notes.append(f"trained with no scale below {floor:g} of the smallest gap between a column's values")
    return result.with_notes(*notes)


def _convert(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`; text from a command line is read as that type."""
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is int and isinstance(value, str) and not value.strip().lstrip("+-").isdigit():
            value = float(value)  # such as 1e5
        if kind is int and int(value) != value and not isinstance(value, str):
            raise ValueError
        return kind(value)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"`{name}` must be of type {kind.__name__}, such as {default!r}; got {value!r}.") from error


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
