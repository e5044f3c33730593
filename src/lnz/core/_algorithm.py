"""The interfaces of algorithms. None of them knows a model; each acts on densities or on these interfaces."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ._density import AbstractDensity, AbstractModel


class AbstractSampler(eqx.Module):
    """A Markov chain that leaves a density invariant.

    The density is an argument of `step`, never a closure, because annealing and persistent chains change
    it at every step; `refresh` must be called whenever it changed. All methods act on ONE chain: use
    `jax.vmap` with split keys for many.
    """

    @abstractmethod
    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> Any:
        """The state of a chain at `position`; its attribute `position` is what was sampled."""

    @abstractmethod
    def refresh(self, density: AbstractDensity, state: Any) -> Any:
        """The state with everything cached about an earlier density made anew for this one."""

    @abstractmethod
    def step(self, key: PRNGKeyArray, density: AbstractDensity, state: Any) -> tuple[Any, dict[str, Array]]:
        """One transition, and named diagnostics such as the acceptance probability."""


class AbstractObjective(eqx.Module):
    """A loss whose gradient trains a model, with the state that it carries from step to step.

    Optional attributes of a class:

    - `moves_with_data`: it knows examples through the model alone, and so is the same when both are moved: then `fit`
      trains a model that ends in `lnz.flows.standardise` near zero (`lnz.local`). One that holds a point, an energy or
      a network of its own in data coordinates must not.
    - `takes_missing`: entries of examples may be missing.
    """

    moves_with_data: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False

    @abstractmethod
    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Any) -> Any:
        """The state at the start (persistent chains, say); `()` if there is none.

        `data [n, ...]` is as it is stored (bits as bytes, say): cast what you use of it by `model.space.cast`.
        """

    @abstractmethod
    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Any
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        """The loss to differentiate, the next state, and named parts in nats per example.

        For likelihood-free gradients (contrastive divergence) the loss is a surrogate of which only the
        gradient means something; the docstring says so, and the parts are what to look at.
        """


class AbstractMethod(eqx.Module):
    """How a model is trained: what `fit` repeats.

    Optional attributes of a class, besides the two of an objective: `by_gradient`, that a parameter moves by steps; and
    `needs_all_rows`, that every step sees all data.
    """

    moves_with_data: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False
    needs_all_rows: ClassVar[bool] = False

    @abstractmethod
    def init(self, key: PRNGKeyArray, model: Any, data: Any) -> tuple[Any, Any]:
        """The model with what it must know of the data, and the state of the method.

        `data [n, ...]` is as it is stored (bits as bytes, say): cast what you use of it by `model.space.cast`.
        """

    @abstractmethod
    def step(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Any
    ) -> tuple[Any, Any, dict[str, Float[Array, ""]]]:
        """One update: model, state and named metrics in nats per example."""
