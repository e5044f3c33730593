"""Densities of real numbers as models of whole numbers."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..bijections import Elementwise, SplineTransformer, rows_for_start
from ..core import (
    AbstractDistribution,
    AbstractLatentModel,
    draw_then_score,
    input_origins,
    space_of_conditional,
)
from ..distributions import Transformed, Uniform, distribution_given
from ..modules import Part, model_dtype, replace
from ..spaces import AbstractSpace, Interval, check_is_space, same_set


class PointMass(AbstractDistribution):
    """`P(x) = 1` at one point of a space with counting measure, else 0."""

    value: Array
    space: AbstractSpace = eqx.field(static=True)

    def closed_form_mean(self) -> Array:
        """The value itself."""
        return self.value.astype(jnp.result_type(float))

    @property
    def reparameterised(self) -> bool:
        return False

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        here = jnp.all(self.space.check_example(x) == self.value.astype(x.dtype))
        return jnp.where(here, jnp.zeros((), jnp.result_type(float)), -jnp.inf)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        return jnp.broadcast_to(self.value, (*shape, *self.value.shape))

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


class InCell(AbstractDistribution):
    """The distribution of `y = x + u` for whole numbers x and noise u in `[0, 1)^shape`.

    Draws stay inside the cell even where `x + u` rounds to the next whole number, and stay off zero, the end of the
    box.

    **Arguments:**

    - `corner`: x, as floating-point numbers `[*shape]`.
    - `noise`: distribution of u.
    - `space`: the space of y, `lnz.Interval(shape, 0, K)`.
    """

    corner: Float[Array, "*shape"]
    noise: AbstractDistribution
    space: Interval = eqx.field(static=True)

    @property
    def reparameterised(self) -> bool:
        return self.noise.reparameterised

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        return self.noise.log_prob(self.space.check_example(x) - self.corner, key=key)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        return self.sample_and_log_prob(key, shape)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        u, log_prob = self.noise.sample_and_log_prob(key, shape)
        corner = jax.lax.stop_gradient(jnp.broadcast_to(self.corner, u.shape))
        low = jnp.maximum(corner, jnp.finfo(corner.dtype).tiny)
        high = jnp.nextafter(corner + 1, jnp.zeros_like(corner))
        y = corner + u.astype(corner.dtype)
        return jnp.where(y < low, low, jnp.where(y > high, high, y)), log_prob


class Dequantised(AbstractLatentModel):
    """`P(x) = int_{[0, 1)^d} p(x + u) du`: a density p of real numbers as a model of whole numbers `0 .. K - 1`.

    The latent variable is `y = x + u`: the flow is its prior, and x is y rounded down. `lnz.objectives.ELBO` maximises
    the bound

    `log P(x) >= E_q[log p(x + u) - log q(u | x)]`,

    which `IWAE` tightens. `lnz.evaluate` estimates `log P(x)` by importance sampling: a **lower** bound in nats (and
    bits), comparable with models of discrete data. All `P(x)` add up to one: p lives on the box.

    **Arguments:**

    - `flow`: the density p, on `lnz.Interval(shape, 0, K)`, such as a flow on R^n that ends with a sigmoid, or splines
      on the box.
    - `space`: the space of x: `lnz.Binary(shape)` (K = 2), or K ordered categories, such as grey values,
      `lnz.data.load("mnist").space`.
    - `dequantiser`: q, a function from x to a distribution of u on `lnz.Interval(shape, 0, 1)`, by default uniform. The
      bound is tight where q is the flow's own distribution within the cell: train both together (variational).

    **Raises:** `ValueError` if the flow lives elsewhere.

    Source: Theis et al. (2016), section 3.1; arXiv:1511.01844 (uniform noise). Ho et al. (2019); arXiv:1902.00275
    (variational).
    """

    is_certain: ClassVar[bool] = True
    flow: AbstractDistribution
    space: AbstractSpace = eqx.field(static=True)
    dequantiser: Callable[[Array], AbstractDistribution] | None = None

    def __check_init__(self):
        if check_is_space(self.space, "Dequantised(flow, space)").num_values is None:
            raise TypeError(f"`Dequantised(flow, space)` needs a space of bits or of categories; got {self.space}.")
        if not same_set(self.flow.space, self._box):
            raise ValueError(
                f"`Dequantised(flow, {self.space})`: x + u fills {self._box}, but the flow lives on {self.flow.space}. "
                "End it with a bijection onto that interval."
            )
        if self.dequantiser is not None:
            x = jax.ShapeDtypeStruct(self.space.shape, jnp.int32 if self.space.kind == "int" else model_dtype(self))
            words = f"an example of {self.space}"
            noise = space_of_conditional(self.dequantiser, x, "Dequantised(dequantiser=...)", words)
            if not same_set(noise, Interval(self.space.shape)):
                raise ValueError(
                    f"`Dequantised(dequantiser=...)` makes noise on {noise}, but a cell is "
                    f"{Interval(self.space.shape)}: "
                    "try `SplineNoise`, or end it with a bijection onto that interval."
                )

    def initialise(self, key: PRNGKeyArray, data: Array) -> "Dequantised":
        """The model with its flow started from `data` with noise, if the flow takes its start from data."""
        if self.flow.initialise is None:
            return self
        key_rows, key_noise, key_flow = jr.split(key, 3)
        rows = self.space.cast(rows_for_start(key_rows, data), model_dtype(self.flow))
        y = jax.vmap(lambda key, x: self.posterior(x).sample(key))(jr.split(key_noise, len(rows)), rows)
        return replace(self, flow=self.flow.initialise(key_flow, y))

    @property
    def num_values(self) -> int:
        """K: x is one of `0 .. K - 1`."""
        return self.space.num_values or 0  # never `None` for such a space

    @property
    def _box(self) -> Interval:
        return Interval(self.space.shape, 0.0, float(self.num_values))

    @property
    def prior(self) -> AbstractDistribution:
        return self.flow

    def likelihood(self, z: Array) -> PointMass:
        """All of the mass at `floor(z)`."""
        x = jnp.clip(jnp.floor(jax.lax.stop_gradient(z)), 0, self.num_values - 1)  # a draw may round up to K
        return PointMass(self.space.cast(x, z.dtype), self.space)

    def posterior(self, x: Array) -> InCell:
        x = self.space.check_example(x)
        if self.dequantiser is None:
            noise = Uniform(self.space.shape)
        else:
            noise = distribution_given(self.dequantiser, x, self.space)
        return InCell(x.astype(model_dtype(self.flow)), noise, self._box)


class SplineNoise(Part, eqx.Module):
    """`x -> q(u | x)`, independent splines of uniform noise: the plainest variational dequantiser.

    **Arguments:**

    - `net`: from x to raw numbers `[num_params, *shape]`; zeros make the noise uniform.
    - `splines`: splines on the unit interval, `lnz.bijections.SplineTransformer(num_bins, 0.0, 1.0)`.
    """

    scales_input: ClassVar[bool] = True

    net: Callable[[Array], Float[Array, "params *shape"]]
    splines: SplineTransformer

    def __check_init__(self):
        if (self.splines.low, self.splines.high) != (0.0, 1.0):
            raise ValueError(
                "`SplineNoise(splines=...)` must live on [0, 1], as `SplineTransformer(num_bins, 0.0, 1.0)`; got "
                f"one on [{self.splines.low}, {self.splines.high}]."
            )

    def __call__(self, x: Array) -> Transformed:
        raw = self.net(x.astype(model_dtype(self.net)))
        space = Interval(raw.shape[1:])
        return Transformed(Uniform(space.shape), Elementwise(self.splines, raw, space))

    def input_origins(self) -> tuple[Any, ...]:
        """The origins of the network."""
        return input_origins(self.net)
