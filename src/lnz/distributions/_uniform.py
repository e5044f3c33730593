import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, draw_then_score
from ..spaces import Interval, Torus, nearest_inside
from ._closed_form_kl import register_kl


class Uniform(AbstractDistribution):
    """Independent uniforms, `p(x) = 1 / (high - low)^n` on `Interval(shape, low, high)` or a `Torus`, else 0.

    **Arguments:**

    - `shape`: number of dimensions, or shape of one example; or the space itself, such as `lnz.Torus(2)`.
    - `low`, `high`: the ends, fixed; a space brings its own.

    Log-densities are in nats with respect to Lebesgue measure; minus infinity outside the interval.
    """

    space: Interval | Torus = eqx.field(static=True)

    def __init__(self, shape: int | tuple[int, ...] | Interval | Torus, low: float = 0.0, high: float = 1.0):
        self.space = shape if isinstance(shape, Interval | Torus) else Interval(shape, low, high)

    def closed_form_mean(self) -> Float[Array, "*shape"] | None:
        """The middle of the interval; `None` on a torus, where angles have no mean."""
        if isinstance(self.space, Torus):
            return None  # of angles
        middle = 0.5 * self.space.low + 0.5 * self.space.high
        return jnp.full(self.space.shape, middle, jnp.result_type(float))

    @property
    def reparameterised(self) -> bool:
        return True

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        inside = -self.space.num_dimensions * math.log(self.space.high - self.space.low)
        x = self.space.check_example(x)
        return jnp.where(self.space.contains(x), jnp.asarray(inside, jnp.result_type(float)), -jnp.inf)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        x = jr.uniform(key, (*shape, *self.space.shape), minval=self.space.low, maxval=self.space.high)
        return nearest_inside(self.space, x)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


@register_kl(Uniform, Uniform)
def _kl(q: Uniform, p: Uniform) -> Float[Array, ""]:
    inside = p.space.low <= q.space.low and q.space.high <= p.space.high
    ratio = (p.space.high - p.space.low) / (q.space.high - q.space.low)
    return jnp.asarray(q.space.num_dimensions * math.log(ratio) if inside else math.inf, jnp.result_type(float))
