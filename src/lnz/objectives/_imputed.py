from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractBlockDensity,
    AbstractObjective,
    gibbs_sweep,
    is_energy,
)
from ..data import is_missing
from ..modules import check_has_data, check_positive, model_dtype, without_gradient

_NUM_FOR_INIT = 4096


class Imputed(AbstractObjective):
    """Trains on examples with missing entries, `lnz.fit(..., observed=mask)`, by drawing the missing entries.

    Fisher's identity: the gradient of `log p(x_known)`, with the missing entries summed out, is the average of the
    gradient of `log p(x)` over `p(x_missing | x_known)`. Each step draws the missing entries of its batch anew, by
    Gibbs sampling with the known entries clamped, and passes the completed batch to `objective`. Draws start at the
    base rates. With few sweeps they are biased towards these, and so is the gradient. Entries must be missing at
    random: whether an entry is missing may depend on known entries, but not on its own value.

    **Arguments:**

    - `objective`: an objective for complete examples, such as `lnz.objectives.PCD(1)`.
    - `num_sweeps`: Gibbs sweeps per update, of two matrix products each.

    **Raises:** `TypeError` if `objective` is not an objective, or if the model's variables cannot be clamped.

    Source: Fisher's identity, Dempster, Laird and Rubin (1977), equation 2.13; missing at random, Rubin (1976).
    """

    takes_missing: ClassVar[bool] = True

    objective: AbstractObjective
    num_sweeps: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        if not isinstance(self.objective, AbstractObjective):
            raise TypeError(
                f"`Imputed(objective=...)` must be one of lnz.objectives, such as `lnz.objectives.PCD(1)`; got "
                f"{self.objective!r}."
            )
        check_positive(self.num_sweeps, "Imputed(num_sweeps=...)")

    def init(self, key: PRNGKeyArray, model: Any, data: Array | None) -> Any:
        """The state of `objective`, initialised on at most 4096 completed examples."""
        if not is_energy(model) or model.clamp is None:
            raise TypeError(
                f"`Imputed` needs a model whose variables can be held fixed, such as `lnz.energy.RBM`; got "
                f"{type(model).__name__}."
            )
        data = check_has_data(data, "Imputed")
        key_rows, key_fill, key_objective = jr.split(key, 3)
        if len(data) > _NUM_FOR_INIT:
            data = data[jr.randint(key_rows, (_NUM_FOR_INIT,), 0, len(data))]
        rows = self._complete(key_fill, model, model.space.cast(data, model_dtype(model)))
        return self.objective.init(key_objective, model, rows)

    def loss(
        self, key: PRNGKeyArray, model: Any, state: Any, batch: Array
    ) -> tuple[Float[Array, ""], tuple[Any, dict[str, Float[Array, ""]]]]:
        key_fill, key_objective = jr.split(key)
        batch = self._complete(key_fill, without_gradient(model), batch)
        return self.objective.loss(key_objective, model, state, batch)

    def _complete(self, key: PRNGKeyArray, model: Any, batch: Array) -> Array:
        """The batch, with its missing entries drawn given the known ones."""

        def complete(key, x):
            known = ~is_missing(model.space, x)
            density: AbstractBlockDensity = model.clamp(jnp.where(known, x, 0), known)
            key_start, key_sweeps = jr.split(key)
            order = tuple(range(density.num_blocks))

            def sweep(x, key):
                return density.join(gibbs_sweep(key, density, density.split(x), order)), None

            start = density.path().start.sample(key_start).astype(x.dtype)
            return jax.lax.scan(sweep, start, jr.split(key_sweeps, self.num_sweeps))[0]

        return jax.vmap(complete)(jr.split(key, len(batch)), batch)
