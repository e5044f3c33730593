from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..bijections import substitute
from ..core import AbstractDistribution, draw_then_score
from ..modules import model_dtype
from ..nets import MaskedMLP
from ..numerics import batch_last, softplus, uniform
from ..spaces import Binary


class AutoregressiveBernoulli(AbstractDistribution):
    """`p(x) = prod_i sigmoid(logit_i)^x_i sigmoid(-logit_i)^(1 - x_i)`, `logit_i = net(x_1, ..., x_{i-1})_i`: MADE.

    Bits that depend on all bits before them, without any approximation. The log-probability takes one pass of the
    network. Draws are made bit by bit, in the work of about one pass where all draws share the weights. As the prior of
    binary latents it is normalised, unlike an RBM. With `lnz.Conditional` it becomes a decoder or an encoder of bits
    that depend on each other.

    Log-probabilities are in nats with respect to counting measure on `Binary(n)`.

    **Arguments:**

    - `net`: `lnz.nets.MaskedMLP(n, 1)`. `AutoregressiveBernoulli.of` builds one.

    **Raises:** `ValueError` if the network returns more than one logit for each bit.

    Source: Germain, Gregor, Murray and Larochelle (2015), section 3 and equations 12 and 13; arXiv:1502.03509.
    """

    net: MaskedMLP

    def __check_init__(self):
        last = self.net.biases[-1]
        if isinstance(last, jax.Array) and last.shape[-2:] != (1, self.net.num):
            raise ValueError(
                f"`AutoregressiveBernoulli(net)` needs one logit a bit, `MaskedMLP({self.net.num}, 1)`; got a network "
                f"with outputs of shape {last.shape[-2:]}."
            )

    @classmethod
    def of(cls, num: int, *, key: PRNGKeyArray, **options: Any) -> "AutoregressiveBernoulli":
        """`num` bits, fair and independent at the start; `options` as for `lnz.nets.MaskedMLP`."""
        return cls(MaskedMLP(num, 1, key=key, last_scale=0.0, **options))

    @property
    def space(self) -> Binary:
        return Binary(self.net.num)

    @property
    def reparameterised(self) -> bool:
        return False

    def logits(self, x: Array) -> Float[Array, " n"]:
        """The log-odds of each bit given the bits before it in ONE example."""
        x = self.space.check_example(x).astype(model_dtype(self.net))
        return batch_last(_logits, self.net, x, takes_batched_parameters=True)

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        logits = self.logits(x)
        log_prob = jnp.dot(x.astype(logits.dtype), logits) - jnp.sum(softplus(logits))
        return jnp.where(self.space.contains(x), log_prob, -jnp.inf)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        def draw(u):
            return batch_last(_draw, jax.lax.stop_gradient(self.net), u)

        for _ in shape:
            draw = jax.vmap(draw)
        return draw(uniform(key, (*shape, self.net.num), model_dtype(self.net)))

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


def _logits(net: MaskedMLP, x: Array) -> Array:
    return net.call_batch_last(x)[0]


def _draw(net: MaskedMLP, u: Array) -> Array:
    return substitute(net, _bit, u)[0]


def _bit(raw: Array, u: Array) -> tuple[Array, Array]:
    """1 where `u < p`. The map has no derivative, and zeros stand in for it."""
    return (u < jax.nn.sigmoid(raw[0])).astype(u.dtype), jnp.zeros_like(u)
