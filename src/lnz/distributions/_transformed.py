"""Distributions pushed forward by a bijection."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..bijections import (
    AbstractBijection,
    inverse_and_log_scale,
    rows_for_start,
    start,
    waits_for_data,
)
from ..core import AbstractDistribution, closed_form_mean, has_marginals, is_stochastic, origins
from ..modules import model_dtype, replace
from ..spaces import AbstractSpace, has_circles, has_ends, is_rounded, is_within, nearest_inside


@eqx.filter_jit
def _started(bijection, key, rows):
    return start(bijection, key, rows, inverse=True)[0]


class Transformed(AbstractDistribution):
    """The distribution of `f(z)`, `z ~ base`: a normalizing flow.

    `log p(x) = log base(f^-1(x)) + log |det df^-1/dx|` in nats.

    **Arguments:**

    - `base`: a distribution on the domain of the bijection, or on a part of it, such as a uniform that an affine map
      moves.
    - `bijection`: from that domain onto the space of the flow.

    **Raises:** `ValueError` if the base has mass outside the domain: the result would not integrate to one.

    Source: Rezende and Mohamed (2015), equation 5; arXiv:1505.05770.
    """

    base: AbstractDistribution
    bijection: AbstractBijection

    def __init__(self, base: AbstractDistribution, bijection: AbstractBijection):
        are_both = isinstance(base, AbstractDistribution) and isinstance(bijection, AbstractBijection)
        if are_both and bijection.for_each_of is not None and bijection.domain.shape == ():
            bijection = bijection.for_each_of(base.space.shape)  # a map of single numbers, such as `Affine(1.0, 2.0)`
        self.base, self.bijection = base, bijection

    def __check_init__(self):
        if not isinstance(self.base, AbstractDistribution) or not isinstance(self.bijection, AbstractBijection):
            raise TypeError(
                "`Transformed(base, bijection)` needs a distribution and then a bijection; got "
                f"{type(self.base).__name__} and {type(self.bijection).__name__}."
            )
        if self.base.space.shape != self.bijection.domain.shape:
            raise ValueError(
                f"`Transformed(base, bijection)`: the base lives on {self.base.space}, but the bijection starts from "
                f"{self.bijection.domain}."
            )
        if self.base.space.measure != self.bijection.domain.measure:
            raise ValueError(
                f"`Transformed(base, bijection)`: the base has {self.base.space.measure} measure "
                f"({self.base.space}), but the bijection starts from {self.bijection.domain}, with "
                f"{self.bijection.domain.measure} measure. A flow needs a base with a density."
            )
        # A smaller base is fine: its own density is zero on the rest of the domain.
        if not is_within(self.base.space, self.bijection.domain):
            domain = self.bijection.domain
            raise ValueError(
                f"`Transformed(base, bijection)`: the base lives on {self.base.space}, but the bijection takes only "
                f"{domain}, so the result would not integrate to one. Use a base on that space: with `space = "
                f"bijection.domain`, `lnz.Transformed(lnz.flows.base_for(space), lnz.bijections.ToSupport(space))`."
            )

    @property
    def space(self) -> AbstractSpace:
        return self.bijection.codomain

    def origins(self) -> tuple[Any, ...]:
        """The origins of the bijection."""
        return origins(self.bijection)

    def closed_form_mean(self) -> Array | None:
        """The image of the base's mean under an affine map; `None` for other maps."""
        mean = closed_form_mean(self.base) if self.bijection.is_affine else None
        return None if mean is None else self.bijection.forward_and_log_det(mean)[0]

    @property
    def has_marginals(self) -> bool:
        return has_marginals(self.base) and self.bijection.is_elementwise

    def marginal_log_prob(self, x: Array, observed: Bool[Array, "..."]) -> Float[Array, ""]:
        """`log p(x[observed])` of ONE example in nats, if the base has marginals and the bijection is elementwise."""
        z, log_scale = inverse_and_log_scale(self.bijection, jnp.where(observed, self.space.check_example(x), 0))
        return self.base.marginal_log_prob(z, observed) + jnp.sum(jnp.where(observed, log_scale, 0))  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def reparameterised(self) -> bool:
        return self.base.reparameterised

    def initialise(self, key: PRNGKeyArray, data: Array) -> "Transformed":
        """The flow with every `lnz.bijections.ActNorm` started from `data [n, *shape]`.

        At most 1024 rows, drawn with `key`, go through the layers from data to base, and each `ActNorm` starts from the
        values that reach it. A flow without such layers, or with all of them started, is returned as it is.

        **Raises:** `ValueError` if the rows are not points of the flow's space, as in a flow that is the prior of a
        latent model: start that one beforehand, from latents.
        """
        if not waits_for_data(self.bijection):
            return self
        if data.shape[1:] != self.space.shape:
            raise ValueError(
                f"`initialise(key, data)`: the flow lives on {self.space}, and its `ActNorm` layers start from such "
                f"rows; got rows of shape {data.shape[1:]}."
            )
        key_rows, key_layers = jax.random.split(key)
        rows = self.space.cast(rows_for_start(key_rows, data), model_dtype(self))
        return replace(self, bijection=_started(self.bijection, key_layers, rows))

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        key_base, key_map = (None, None) if key is None or not is_stochastic(self) else jax.random.split(key)
        x = self.space.check_example(x)
        z, log_det = self.bijection.inverse_and_log_det(x, key=key_map)
        log_prob = self.base.log_prob(z, key=key_base) + log_det
        if not has_circles(self.space):
            return log_prob
        # Maps of circles wrap their input: a number that is not an angle would have the density of one.
        outside = ~self.space.elements_within(x) & ~jnp.isnan(x)
        return jnp.where(jnp.any(outside), -jnp.inf, log_prob)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        return self._push(key, shape)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        """Draws inside the space, with the log-probabilities of the draws as they are returned.

        Near an end of a space, numbers are so coarse that rounding moves a draw far from `f(z)`, in units of the base.
        The log-probabilities of such draws come from `log_prob`; their gradients ignore the rounding.
        """
        x, log_prob = self._push(key, shape)
        if not has_ends(self.space) or is_stochastic(self):
            return x, log_prob
        rounded = is_rounded(self.space, x)
        arrays, rest = eqx.partition(self, eqx.is_inexact_array)
        arrays, points = jax.lax.stop_gradient((arrays, x))
        score = eqx.combine(arrays, rest).log_prob
        for _ in shape:
            score = jax.vmap(score)
        again = jax.lax.cond(
            jnp.any(rounded), lambda: score(points).astype(log_prob.dtype), lambda: jax.lax.stop_gradient(log_prob)
        )
        return x, jnp.where(rounded, again + (log_prob - jax.lax.stop_gradient(log_prob)), log_prob)

    def sample_base(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        """The base draws `[*shape, ...]` that `sample(key, shape)` maps."""
        return self._draw(key, shape)[0]

    def _draw(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> tuple[Array, Float[Array, "..."]]:
        return self.base.sample_and_log_prob(jax.random.split(key)[0], shape)

    def _push(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> tuple[Array, Float[Array, "..."]]:
        key_map = jax.random.split(key)[1]

        def push(key, z, log_prob):
            x, log_det = self.bijection.forward_and_log_det(z, key=key)
            return x, log_prob - log_det

        for _ in shape:
            push = jax.vmap(push)
        # Making a key for each draw and layer may take longer than the map itself, so keys are made only where used.
        keys = None
        if is_stochastic(self.bijection):
            keys = jax.random.split(key_map, shape) if shape else key_map
        x, log_prob = push(keys, *self._draw(key, shape))
        return nearest_inside(self.space, x), log_prob
