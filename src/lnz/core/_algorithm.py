"""Interfaces of samplers, objectives and training methods. They act on densities and models of any class."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ._density import AbstractDensity, AbstractModel


class AbstractSampler(eqx.Module):
    """A Markov chain that leaves a density invariant.

    The density is an argument of `step`, never a closure, because annealing and persistent chains change it at every
    step. Call `refresh` whenever it has changed. All methods act on ONE chain; for many, use `jax.vmap` with split
    keys.
    """

    @abstractmethod
    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> Any:
        """Start a chain at `position`. The attribute `position` of a state is the current sample."""

    @abstractmethod
    def refresh(self, density: AbstractDensity, state: Any) -> Any:
        """Recompute, for this density, everything that `state` caches about an earlier one."""

    @abstractmethod
    def step(self, key: PRNGKeyArray, density: AbstractDensity, state: Any) -> tuple[Any, dict[str, Array]]:
        """Make one transition. Returns the next state and named diagnostics, such as the acceptance probability."""


class AbstractObjective(eqx.Module):
    """A loss whose gradient trains a model, with a state carried from step to step.

    Optional attributes of a class:

    - `moves_with_data`: the loss depends on examples only through the model, so it stays the same when both are
      shifted. `fit` then trains a model that ends in `lnz.flows.standardise` in coordinates near zero (`lnz.local`).
      An objective that holds a point, an energy or a network of its own in data coordinates must leave this false.
    - `takes_missing`: examples may have missing entries.
    """

    moves_with_data: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False

    @abstractmethod
    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Any) -> Any:
        """The initial state, such as persistent chains; `()` if there is none.

        `data [n, ...]` arrives in its stored type, for instance bits as bytes. Cast the rows that you use with
        `model.space.cast`.
        """

    @abstractmethod
    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Any
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        """The loss to differentiate, the next state, and named parts in nats per example.

        For likelihood-free gradients (contrastive divergence) the loss is a surrogate: its gradient is meaningful, its
        value is not. The docstring of the class says so; monitor the named parts instead.
        """


class AbstractMethod(eqx.Module):
    """A training method, such as gradient descent or EM: `fit` repeats its `step`.

    Optional attributes of a class, besides `moves_with_data` and `takes_missing` as in `AbstractObjective`:

    - `by_gradient`: parameters move by gradient steps.
    - `needs_all_rows`: every step sees all data.
    """

    moves_with_data: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False
    needs_all_rows: ClassVar[bool] = False

    @abstractmethod
    def init(self, key: PRNGKeyArray, model: Any, data: Any) -> tuple[Any, Any]:
        """The model, initialised from the data if it needs that, and the initial state of the method.

        `data [n, ...]` arrives in its stored type, for instance bits as bytes. Cast the rows that you use with
        `model.space.cast`.
        """

    @abstractmethod
    def step(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Any
    ) -> tuple[Any, Any, dict[str, Float[Array, ""]]]:
        """Make one update. Returns the model, the state and named metrics in nats per example."""
