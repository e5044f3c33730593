from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ._layers import MLP


class TimeMLP(eqx.Module):
    """`(t, x) -> MLP([x, t])`: a velocity for `lnz.bijections.Continuous`, zero before training.

    **Arguments:**

    - `num`: length of x and of the result.
    - `width`, `depth`, `activation`, `key`: as for `lnz.nets.MLP`. The activation must be smooth, because solvers of
      high order rely on it and the log-determinant is an integral of its derivative.
    """

    net: MLP

    def __init__(
        self, num: int, *, key: PRNGKeyArray, width: int = 128, depth: int = 2, activation: Callable = jnp.tanh
    ):
        self.net = MLP(num + 1, num, key=key, width=width, depth=depth, activation=activation, last_scale=0.0)

    def __call__(self, t: Float[Array, ""], x: Float[Array, " num"]) -> Float[Array, " num"]:
        return self.net(jnp.concatenate([x, jnp.asarray(t, x.dtype)[None]]))
