"""What a recipe is: a data set, a model, how it is trained and how it is judged, in one short value."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import jax.random as jr
from jaxtyping import Array, Key, PRNGKeyArray

from .._algorithm import AbstractMethod
from .._check import unknown_name
from .._density import AbstractModel, AbstractNormalizer
from .._estimate import LogLikelihood
from .._evaluate import evaluate
from .._fit import Fit, fit
from ..data import Splits


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A complete, repeatable experiment.

    - `name`, `title`: what it is called, and one line on what it is.
    - `data`: name of the data set, for `lnz.data.load`.
    - `config`: every number that was chosen, with its default: `{"seed": 0, "model": {...}, "train": {...},
      "evaluate": {...}}`. `train` holds arguments of `lnz.fit`.
    - `build`: `(key, splits, config) -> (model, method)`.
    - `partitions`: `config -> {row suffix: normaliser or None}`: one row of the comparison for each way to
      compute the denominator; the suffix "" is the recipe's own row.
    - `evaluator`: `config -> normaliser or None` for the denominator while training (validation).
    """

    name: str
    title: str
    data: str
    config: dict[str, Any]
    build: Callable[[PRNGKeyArray, Splits, dict[str, Any]], tuple[AbstractModel, AbstractMethod]]
    partitions: Callable[[dict[str, Any]], dict[str, AbstractNormalizer | None]]
    evaluator: Callable[[dict[str, Any]], AbstractNormalizer | None]

    def resolve(self, changes: dict[str, Any] | None = None) -> dict[str, Any]:
        """The configuration with `changes`, given as `{"train.steps": 100}`.

        **Raises:** `ValueError` for a key that does not exist (naming the nearest) or a value of another type.
        """
        config = copy.deepcopy(self.config)
        known = dict(_flatten(config))
        for name, value in (changes or {}).items():
            if name not in known:
                raise ValueError(unknown_name(f"setting of {self.name}", name, known))
            *groups, last = name.split(".")
            node = config
            for group in groups:
                node = node[group]
            node[last] = _convert(name, value, known[name])
        return config

    def train(
        self,
        splits: Splits,
        config: dict[str, Any],
        progress: Callable[[dict[str, float | int]], None] | None = None,
    ) -> Fit:
        """Build and fit; `config` is what `resolve` returned."""
        key_build, key_fit, _ = _keys(config)
        model, method = self.build(key_build, splits, config)
        partition = self.evaluator(config)

        def evaluator(key, model, valid):
            return evaluate(key, model, valid, partition=partition)

        return fit(
            key_fit,
            model,
            method,
            splits.train,
            valid=splits.valid,
            evaluator=evaluator,
            progress=progress,
            **config["train"],
        )

    def evaluate(self, model: AbstractModel, splits: Splits, config: dict[str, Any]) -> dict[str, LogLikelihood]:
        """Test likelihoods: `{recipe name and suffix: LogLikelihood}`."""
        *_, key = _keys(config)
        return {
            f"{self.name}{suffix}": evaluate(key, model, splits.test, partition=partition)
            for suffix, partition in self.partitions(config).items()
        }


def _keys(config: dict[str, Any]) -> Key[Array, "3"]:
    """For building, training and evaluating."""
    return jr.split(jr.key(config["seed"]), 3)


def _flatten(config: dict[str, Any], prefix: str = ""):
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _convert(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`; text from a command line is read as that type."""
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is int and float(value) != int(float(value)):
            raise ValueError
        return kind(float(value)) if kind is int else kind(value)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"`{name}` must be of type {kind.__name__}, such as {default!r}; got {value!r}.") from error
