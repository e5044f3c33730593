import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`log(1 + e^x)`, with all digits of small values and the derivative `sigmoid(x)`.

    `jax.nn.softplus` computes the same, but takes longer on a CPU if its values are summed or differentiated: it calls
    `jnp.logaddexp`, which also handles infinities that cancel.
    """
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _derivative(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return softplus(x), jax.nn.sigmoid(x) * tangent
