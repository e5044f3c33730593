from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..modules import check_positive
from ..numerics import increasing_root
from ..spaces import AbstractSpace, between
from ._transformers import AbstractTransformer, all_euclidean


class SigmoidalTransformer(AbstractTransformer):
    """`y = logit(sum_j w_j sigmoid(a_j x + b_j))` with positive slopes and weights that sum to one, on the whole line.

    `log dy/dx = log sum_j a_j (p_j sigmoid(-z_j) + q_j sigmoid(z_j))`, where `z_j = a_j x + b_j`, and p_j and q_j are
    the shares of unit j in `sum_j w_j sigmoid(z_j)` and `sum_j w_j sigmoid(-z_j)`. All terms are positive and computed
    from logarithms, so neither far tails nor plateaus between steep units lose digits.

    `raw` holds the logits of w, the raw slopes and the shifts. `raw = 0` is only near the identity: equal units would
    be the identity, but equal gradients keep them equal. So shifts start evenly spaced in [-1, 1], and `|y - x|` is
    below 0.44 (0.22 with 8 units). One unit starts as the identity.

    The inverse uses Newton's method in a bracket, to 4 units in the last place of `1 + |x|`. On a plateau too flat for
    y to determine x it is useless.

    **Arguments:**

    - `num_units`: number of units J; there are `3 J` raw numbers.
    - `max_log_slope`: `|log a_j|` stays below it, as in `AffineTransformer`.

    Source: Huang, Krueger, Lacoste and Courville (2018), deep sigmoidal flow; arXiv:1804.00779.
    """

    num_units: int = eqx.field(static=True, default=8)
    max_log_slope: float = eqx.field(static=True, default=4.0)

    def __check_init__(self):
        check_positive(self.num_units, "SigmoidalTransformer(num_units=...)")
        if not 0 < self.max_log_slope < np.inf:
            raise ValueError(f"`SigmoidalTransformer(max_log_slope=...)` must be positive; got {self.max_log_slope}.")

    @property
    def num_params(self) -> int:
        return 3 * self.num_units

    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        return all_euclidean(variables)

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        parameters = self._parameters(raw)
        return _value(parameters, x), _log_derivative(parameters, x)

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        parameters = self._parameters(raw)
        _, log_slope, shift = parameters
        ends = (y[None] - shift) * jnp.exp(-log_slope)  # the x at which each unit alone would give y
        x = increasing_root(_difference, (parameters, y), jnp.min(ends, axis=0), jnp.max(ends, axis=0))
        return x, -_log_derivative(parameters, x)

    def _parameters(self, raw):
        """Log weights, log slopes and shifts, each `[num_units, *shape]`."""
        num = self.num_units
        log_slope = raw[num : 2 * num]
        offsets = np.linspace(-1, 1, num) if num > 1 else np.zeros(1)
        offsets = jnp.asarray(offsets.reshape(-1, *(1,) * (raw.ndim - 1)), raw.dtype)
        return (
            jax.nn.log_softmax(raw[:num], axis=0),
            log_slope / (1 + jnp.abs(log_slope) / self.max_log_slope),
            raw[2 * num :] + offsets,
        )


def _log_parts(parameters, x):
    """Logarithms of `w_j sigmoid(z_j)` and `w_j sigmoid(-z_j)`, of `sigmoid(z_j)` and of `sigmoid(-z_j)`."""
    log_weight, log_slope, shift = parameters
    # The bound itself is not needed. A compiled program may compute z twice, and round the product before the sum in
    # only one place. Near 1e9 the two results differ by hundreds, and then the largest of several logarithms is not the
    # largest. An operation between product and sum makes both round everywhere.
    most = float(np.finfo(x.dtype).max) / 4
    z = between(jnp.exp(log_slope) * x[None], -most, most) + shift
    below, above = jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)
    return log_weight + below, log_weight + above, below, above


def _value(parameters, x):
    log_below, log_above, _, _ = _log_parts(parameters, x)
    return logsumexp(log_below, axis=0) - logsumexp(log_above, axis=0)


def _difference(x, parameters, y):
    return _value(parameters, x) - y


def _log_derivative(parameters, x):
    log_below, log_above, below, above = _log_parts(parameters, x)
    shares = [jax.nn.log_softmax(log_below, axis=0) + above, jax.nn.log_softmax(log_above, axis=0) + below]
    return logsumexp(jnp.concatenate([parameters[1] + share for share in shares]), axis=0)
