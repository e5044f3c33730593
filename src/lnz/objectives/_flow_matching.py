from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..bijections import AbstractBijection
from ..core import AbstractDistribution, AbstractModel, AbstractObjective
from ..distributions import Transformed
from ..modules import check_has_data


class FlowMatching(AbstractObjective):
    """`E |v(t, x_t) - (x_1 - (1 - s) x_0)|^2` with `x_t = (1 - (1 - s) t) x_0 + t x_1`.

    Trains the velocity v of `lnz.Transformed(base, lnz.flows.continuous(...))` along straight lines from draws x_0 of
    the base (t = 0) to examples x_1 (t = 1), without solving a differential equation. The loss is not a likelihood and
    not in nats: its minimum is the spread of the lines through a point, not zero. After training, `lnz.evaluate` gives
    the exact likelihood.

    Only the velocity is trained. A flow over a flow, `Transformed(Transformed(base, continuous), preprocessing)`, is
    trained on examples pulled back through the preprocessing; base and preprocessing stay fixed.

    **Arguments:**

    - `sigma_min`: s, the width around an example at which its lines end.

    **Raises:** `TypeError` for a model without a velocity.

    Source: Lipman, Chen, Ben-Hamu, Nickel and Le (2023), equations 22 and 23; arXiv:2210.02747.
    """

    moves_with_data: ClassVar[bool] = True
    sigma_min: float = eqx.field(static=True, default=1e-4)

    def __check_init__(self):
        if not 0 <= self.sigma_min < 1:
            raise ValueError(f"`FlowMatching(sigma_min=...)` must be at least 0 and below 1; got {self.sigma_min}.")

    def init(self, key: PRNGKeyArray, model: AbstractModel, data: Array | None) -> tuple[()]:
        check_has_data(data, "FlowMatching")
        _innermost(model)
        return ()

    def loss(
        self, key: PRNGKeyArray, model: Any, state: tuple[()], batch: Array
    ) -> tuple[Float[Array, ""], tuple[tuple[()], dict[str, Float[Array, ""]]]]:
        base, field, preprocessing = _innermost(model)
        num, dtype = len(batch), batch.dtype
        key_base, key_time, key_map = jr.split(key, 3)
        x1 = batch
        for bijection in preprocessing:
            pull = jax.vmap(lambda x, key, f=bijection: f.inverse_and_log_det(x, key=key)[0])
            x1 = pull(x1, jr.split(key_map, num))
        x0 = base.sample(key_base, (num,)).astype(dtype)
        x0, x1 = jax.lax.stop_gradient((x0, x1))
        # Evenly spaced times from a random start: each is uniform, and their average is less noisy.
        t = (jr.uniform(key_time, (), dtype) + jnp.arange(num, dtype=dtype) / num) % 1
        rest = 1 - self.sigma_min

        def error(t, x0, x1):
            v = field.velocity(t, (1 - rest * t) * x0 + t * x1)
            return jnp.sum((v - (x1 - rest * x0)) ** 2)

        loss = jnp.mean(jax.vmap(error)(t, x0, x1))
        return loss, (state, {"flow_matching": loss})


def _innermost(model: Any) -> tuple[AbstractDistribution, AbstractBijection, list[AbstractBijection]]:
    """The base, the bijection with the velocity, and the bijections after it, last first."""
    preprocessing, flow = [], model
    while isinstance(flow, Transformed):
        if flow.bijection.velocity is not None:
            return flow.base, flow.bijection, preprocessing
        preprocessing.append(flow.bijection)
        flow = flow.base
    over = f" over {type(model.bijection).__name__}" if isinstance(model, Transformed) else ""
    raise TypeError(
        "`FlowMatching` trains the velocity of a continuous flow, such as `lnz.Transformed(base, "
        f"lnz.flows.continuous(space, key=key))`; got {type(model).__name__}{over}. Other flows learn by "
        "`lnz.objectives.MaximumLikelihood()`."
    )
