"""Reference distributions, the starts of default paths."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import Frozen
from ..spaces import AbstractSpace
from ._density import AbstractDistribution
from ._distribution import draw_then_score


class Reference(AbstractDistribution):
    """The reference distribution of a space. It has no parameters, and the default path of a density starts from it.

    It is standard normal on a Euclidean space, exponential with mean 1 on a positive space, uniform on intervals,
    circles and finite spaces, and geometric with mean 1 for counts. On a product, each part has its own.

    **Arguments:**

    - `space`: the space of the draws.
    - `dtype`: the number type of real-valued draws and of log-probabilities; by default JAX's float type.
    """

    space: AbstractSpace = eqx.field(static=True)
    like: Frozen  # holds the dtype as an array, so that a cast of all arrays of a path casts it too

    def __init__(self, space: AbstractSpace, dtype: Any = None):
        self.space = space
        self.like = Frozen(jnp.zeros((), jnp.result_type(float) if dtype is None else dtype))

    @property
    def reparameterised(self) -> bool:
        return True  # nothing to differentiate by

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        return self.space.reference_log_prob(self.space.check_example(x)).astype(self.like.value.dtype)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        return self.space.reference_sample(key, shape, self.like.value.dtype)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)
