"""Reference distributions: where the default path of a density starts."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import Frozen
from ..spaces import AbstractSpace
from ._density import AbstractDistribution
from ._distribution import draw_then_score


class Reference(AbstractDistribution):
    """The reference distribution of a space, which has no parameters.

    Standard normal on a Euclidean space, exponential with mean 1 on a positive one, uniform on intervals, circles and
    finite spaces, geometric with mean 1 for counts; on a product each part has its own.

    **Arguments:**

    - `space`: where draws live.
    - `dtype`: of real-valued draws and of log-probabilities; that of JAX's numbers by default.
    """

    space: AbstractSpace = eqx.field(static=True)
    like: Frozen  # a number of this type: what casts the arrays of a path casts this one too

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
