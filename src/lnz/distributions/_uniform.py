import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, draw_then_score
from ..spaces import AbstractSpace, Interval, nearest_inside
from ._closed_form_kl import register_kl


class Uniform(AbstractDistribution):
    """Independent uniforms, `p(x) = 1 / (high - low)^n` on `Interval(shape, low, high)` or a `Torus`, else 0.

    **Arguments:**

    - `shape`: number of dimensions, or shape of one example; or the space itself, such as `lnz.Torus(2)`.
    - `low`, `high`: the ends, fixed; not used with a space, which has its own.

    Log-densities are in nats with respect to Lebesgue measure; minus infinity outside the interval.
    """

    space: AbstractSpace = eqx.field(static=True)

    def __init__(self, shape: int | tuple[int, ...] | AbstractSpace, low: float = 0.0, high: float = 1.0):
        self.space = shape if isinstance(shape, AbstractSpace) else Interval(shape, low, high)

    def __check_init__(self):
        if not math.isfinite(self._width) or not self.space.measure.is_continuous:
            raise TypeError(
                f"`Uniform(space)` needs a space between two finite ends, such as `lnz.Interval(2)` or `lnz.Torus(2)`; "
                f"got {self.space}."
            )

    @property
    def ends(self) -> tuple[float, float]:
        return self.space.ends or (-math.inf, math.inf)

    @property
    def _width(self) -> float:
        return self.ends[1] - self.ends[0]

    def closed_form_mean(self) -> Float[Array, "*shape"] | None:
        """The middle of the interval; `None` on a torus, where angles have no mean."""
        if self.space.periodic:
            return None  # angles have no mean
        middle = 0.5 * self.ends[0] + 0.5 * self.ends[1]
        return jnp.full(self.space.shape, middle, jnp.result_type(float))

    @property
    def reparameterised(self) -> bool:
        return True

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        inside = -self.space.size * math.log(self._width)
        x = self.space.check_example(x)
        return jnp.where(self.space.contains(x), jnp.asarray(inside, jnp.result_type(float)), -jnp.inf)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        x = jr.uniform(key, (*shape, *self.space.shape), minval=self.ends[0], maxval=self.ends[1])
        return nearest_inside(self.space, x)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


@register_kl(Uniform, Uniform)
def _kl(q: Uniform, p: Uniform) -> Float[Array, ""]:
    (low, high), (p_low, p_high) = q.ends, p.ends
    inside = p_low <= low and high <= p_high
    return jnp.asarray(
        q.space.size * math.log((p_high - p_low) / (high - low)) if inside else math.inf, jnp.result_type(float)
    )
