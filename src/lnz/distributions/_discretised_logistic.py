"""Likelihoods of grey values that respect their order: 17 is next to 18."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .. import spaces
from ..core import AbstractDistribution, draw_then_score
from ..modules import as_floats, check_positive
from ..numerics import loc_and_log_scale, softplus


class DiscretisedLogistic(AbstractDistribution):
    """Independent grey values: a logistic variable in [0, 1] cut into K cells. Value k is the cell `[k, k + 1] / K`.

    `p(x) = prod_i sigmoid(((x_i + 1) / K - loc_i) / scale_i) - sigmoid((x_i / K - loc_i) / scale_i)`. The first and the
    last value also take the tails beyond them. It has two parameters a variable, where `Categorical` has K.

    The difference is computed as a product, `sigmoid(b) sigmoid(-a) (1 - exp(a - b))`: its three logarithms are exact
    for all parameters, and nothing is clipped.

    **Arguments:**

    - `loc`: medians in units of the whole range `[*shape]`; 0.5 is the middle grey.
    - `scale`: positive, in the same unit, of the same shape or a number.
    - `num_values`: K, such as 256.

    Log-probabilities are in nats with respect to counting measure on `{0, ..., K - 1}^shape`; divide by
    `num_dimensions * log(2)` for bits a dimension. The field is `log_scale`, which keeps the scale positive in
    training.

    **Raises:** `ValueError` if a scale or `num_values` is not positive.

    Source: Kingma et al. (2016), appendix C.5; arXiv:1606.04934.
    """

    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]
    num_values: int = eqx.field(static=True)

    def __init__(self, loc, scale, num_values: int = 256):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "DiscretisedLogistic")
        self.num_values = check_positive(num_values, "DiscretisedLogistic(num_values=...)")

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    @property
    def space(self) -> spaces.Categorical:
        return spaces.Categorical(self.loc.shape, self.num_values)

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """`sum_{k >= 1} P(x >= k)`, the mean of a count."""
        return _mean_of_cells(self.loc, self.scale, self.num_values)

    @property
    def reparameterised(self) -> bool:
        return False

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x)
        return jnp.sum(_log_cells(x, self.loc, self.log_scale, self.num_values))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        noise = jr.logistic(key, (*shape, *self.loc.shape), self.loc.dtype)
        loc, scale = (jnp.broadcast_to(part, noise.shape) for part in (self.loc, self.scale))
        return to_cells(loc + scale * noise, self.num_values)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


class DiscretisedLogisticMixture(AbstractDistribution):
    """Independent grey values, each a mixture of m discretised logistics, which allows several peaks and sharp ends.

    `p(x) = prod_i sum_j softmax(logits_i)_j p_ij(x_i)` with the cells of `DiscretisedLogistic`.

    **Arguments:**

    - `logits`: log weights, up to a constant, `[*shape, m]`.
    - `loc`: medians in units of the whole range, `[*shape, m]`. Spread them: equal components stay equal.
    - `scale`: positive, in the same unit, of the same shape or a number.
    - `num_values`: K, such as 256.

    Log-probabilities are in nats with respect to counting measure on `{0, ..., K - 1}^shape`.

    **Raises:** `ValueError` if shapes do not fit, or a scale or `num_values` is not positive.

    Source: Salimans, Karpathy, Chen and Kingma (2017), section 2.1; arXiv:1701.05517. Differs: the colours of a pixel
    are independent, like all variables; in the paper they depend on each other.
    """

    logits: Float[Array, "*shape m"]
    loc: Float[Array, "*shape m"]
    log_scale: Float[Array, "*shape m"]
    num_values: int = eqx.field(static=True)

    def __init__(self, logits, loc, scale, num_values: int = 256):
        self.logits = as_floats(logits)
        loc = jnp.asarray(loc, self.logits.dtype)
        if self.logits.ndim == 0 or loc.shape != self.logits.shape:
            raise ValueError(
                "`DiscretisedLogisticMixture(logits, loc, scale)` needs logits and loc of one shape [*shape, m]; got "
                f"{self.logits.shape} and {loc.shape}."
            )
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "DiscretisedLogisticMixture")
        self.num_values = check_positive(num_values, "DiscretisedLogisticMixture(num_values=...)")

    @property
    def scale(self) -> Float[Array, "*shape m"]:
        return jnp.exp(self.log_scale)

    @property
    def space(self) -> spaces.Categorical:
        return spaces.Categorical(self.loc.shape[:-1], self.num_values)

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """The weighted mean of the components' means."""
        means = _mean_of_cells(self.loc, self.scale, self.num_values)
        return jnp.sum(jax.nn.softmax(self.logits, axis=-1) * means, axis=-1)

    @property
    def reparameterised(self) -> bool:
        return False

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = jnp.broadcast_to(self.space.check_example(x)[..., None], self.loc.shape)
        log_cells = _log_cells(x, self.loc, self.log_scale, self.num_values)
        return jnp.sum(logsumexp(jax.nn.log_softmax(self.logits, axis=-1) + log_cells, axis=-1))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        key_component, key_noise = jr.split(key)
        shape = (*shape, *self.loc.shape[:-1])
        component = jr.categorical(key_component, self.logits, shape=shape)[..., None]
        loc, scale = (
            jnp.take_along_axis(jnp.broadcast_to(part, (*shape, part.shape[-1])), component, axis=-1)[..., 0]
            for part in (self.loc, self.scale)
        )
        return to_cells(loc + scale * jr.logistic(key_noise, shape, self.loc.dtype), self.num_values)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


def _log_cells(x: Array, loc: Array, log_scale: Array, num_values: int) -> Array:
    """The log-probability of each grey value; minus infinity for numbers that are not grey values."""
    value = x.astype(loc.dtype)
    per_scale = jnp.exp(-log_scale)
    below = (value / num_values - loc) * per_scale
    above = ((value + 1) / num_values - loc) * per_scale
    # The width of a cell, not `above - below`, which loses its digits where the scale is large.
    log_width = -log_scale - math.log(num_values)
    is_first, is_last = value == 0, value == num_values - 1
    log_prob = (
        jnp.where(is_last, 0, -softplus(-above))
        + jnp.where(is_first, 0, -softplus(below))
        + jnp.where(is_first | is_last, 0, _log_one_minus_exp(log_width))
    )
    inside = (value >= 0) & (value < num_values) & (value == jnp.floor(value))
    return jnp.where(inside, log_prob, -jnp.inf)


def _log_one_minus_exp(log_width: Array) -> Array:
    """`log(1 - exp(-w))` from the logarithm of w, for every w > 0; it is about `log w` where w is small."""
    narrow = log_width < -5
    w = jnp.exp(jnp.where(narrow, -5, jnp.minimum(log_width, 5)))  # beyond e^5 it is zero in float64 too
    # log((1 - exp(-w)) / w) = -w/2 + w^2/24 - w^4/2880 + ...
    small = jnp.exp(jnp.where(narrow, log_width, -5))
    series = log_width - small * (1 / 2 - small * (1 / 24 - small * small / 2880))
    return jnp.where(narrow, series, jnp.where(log_width < 5, jnp.log(-jnp.expm1(-w)), 0))


def to_cells(y: Array, num_values: int) -> Int[Array, "..."]:
    return jnp.clip(jnp.floor(y * num_values), 0, num_values - 1).astype(jnp.int32)


def _mean_of_cells(loc: Array, scale: Array, num_values: int) -> Array:
    """The sum over k of P(x >= k)."""
    edges = jnp.arange(1, num_values, dtype=loc.dtype).reshape(-1, *(1,) * loc.ndim) / num_values
    return jnp.sum(jax.nn.sigmoid((loc[None] - edges) / scale[None]), axis=0)
