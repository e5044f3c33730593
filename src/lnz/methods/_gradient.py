from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractMethod, AbstractObjective
from ..modules import Frozen, Part, freed, is_constant, kind_of, trainable


def _as_transformation(optimizer: Any) -> Any:
    return optimizer.gradient_transformation() if isinstance(optimizer, optax.MultiSteps) else optimizer


class Gradient(AbstractMethod):
    """Gradient descent on an objective, with any Optax optimizer.

    Momentum, weight decay, schedules and clipping come from Optax: `optax.chain(...)`.

    **Arguments:**

    - `objective`: the function to minimise, from `lnz.objectives`.
    - `optimizer`: an `optax.GradientTransformation`. `optax.MultiSteps(optimizer, k)` averages the gradients of k steps
      for one update: a batch k times as large in the memory of one.
    - `filter`: a function from the model to a tree of booleans that marks the trainable leaves. Default:
      `lnz.trainable`, all floating-point arrays except those of constant parts. Constant parts are `Frozen` parts and
      an `lnz.Normal.standard(n)` within a model.

    **Raises:** `ValueError`, when training starts, if the filter selects no leaf of the model.
    """

    by_gradient: ClassVar[bool] = True
    objective: AbstractObjective
    optimizer: optax.GradientTransformation = eqx.field(static=True, converter=_as_transformation)
    filter: Callable[[Any], Any] = eqx.field(static=True, default=trainable)

    def __check_init__(self):
        if not isinstance(self.objective, AbstractObjective):
            is_exchanged = isinstance(self.objective, optax.GradientTransformation)
            raise TypeError(
                f"`Gradient(objective=...)` must be one of lnz.objectives, such as `lnz.objectives.PCD(1)`; got "
                f"{'an optimizer: the objective comes first' if is_exchanged else kind_of(self.objective)}."
            )
        if not isinstance(self.optimizer, optax.GradientTransformation):
            raise TypeError(
                f"`Gradient(optimizer=...)` must come from Optax, such as `optax.adam(1e-3)`; got {self.optimizer!r}."
            )

    @property
    def takes_missing(self) -> bool:
        """Whether examples may have missing entries."""
        return self.objective.takes_missing

    @property
    def moves_with_data(self) -> bool:
        """Whether training may use local coordinates: see `AbstractObjective`."""
        return self.objective.moves_with_data

    def init(self, key: PRNGKeyArray, model: Any, data: Array | None) -> tuple[Any, Any]:
        key_model, key_objective = jr.split(key)
        model = freed(_initialise(key_model, model, data))
        params = eqx.filter(model, self.filter(model))
        if not jax.tree.leaves(params):
            raise ValueError(_nothing_to_train(model, self.filter))
        return model, (self.optimizer.init(params), self.objective.init(key_objective, model, data))

    def step(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array | None
    ) -> tuple[Any, Any, dict[str, Float[Array, ""]]]:
        optimizer_state, objective_state = state
        params, rest = eqx.partition(model, self.filter(model))

        def loss(params):
            return self.objective.loss(key, eqx.combine(params, rest), objective_state, batch)

        gradient, (objective_state, parts) = jax.grad(loss, has_aux=True)(params)
        # Optax mixes integer step counts with floats; strict promotion, if the user chose it, would refuse.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = self.optimizer.update(gradient, optimizer_state, params)
        model = eqx.combine(optax.apply_updates(params, updates), rest)
        return model, (optimizer_state, objective_state), parts


def _nothing_to_train(model: Any, chosen: Callable[[Any], Any]) -> str:
    name = type(model).__name__
    if chosen is not trainable:
        return f"`Gradient(filter=...)` selects no array of this {name}, so nothing would be trained."

    def is_left_alone(node):
        return isinstance(node, Frozen) or is_constant(node)

    parts = jax.tree_util.tree_leaves_with_path(model, is_leaf=is_left_alone)
    found = [
        f"`model{jax.tree_util.keystr(path)}` ({type(part).__name__})" for path, part in parts if is_left_alone(part)
    ]
    if not found:
        return f"`Gradient`: this {name} has no floating-point arrays, so nothing would be trained."
    return (
        f"`Gradient`: no part of this {name} would be trained. Its constant parts: {', '.join(found)}. To train a "
        "standard normal, write `lnz.Normal(jnp.zeros(n), 1.0)`, or select trainable leaves by `Gradient(filter=...)`."
    )


def _initialise(key: PRNGKeyArray, model: Any, data: Array | None) -> Any:
    """The model, with each of its data-dependent parts initialised from the data."""

    def is_part(node):
        return isinstance(node, Part) and node.initialise is not None

    if data is None:
        return model
    return jax.tree.map(lambda node: node.initialise(key, data) if is_part(node) else node, model, is_leaf=is_part)
