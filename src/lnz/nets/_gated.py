import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._layers import Shape, _check_sizes, dense, uniform_layer
from ._net import AbstractNet, InShape


class GatedMLP(AbstractNet):
    """`h -> (A h + a) * sigmoid(B h + b)` layer by layer, then an affine layer: from `[num_in]` to `[*out]`.

    The gates multiply where a rectifier would cut off. It has twice the weights of an `MLP` of the same width.

    **Arguments:**

    - `num_in`, `out`, `width`, `depth`, `last_scale`, `key`: as for `MLP`.

    Each array in the field `weights` except the last is `[2, width, in]`: first A, then B.

    Source: Dauphin, Fan, Auli and Grangier (2017), equation 1; arXiv:1612.08083. In autoencoders: Tomczak and Welling
    (2018); arXiv:1705.07120.
    """

    weights: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "..."], ...]
    out: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_in: int,
        out: Shape,
        *,
        key: PRNGKeyArray,
        width: int = 128,
        depth: int = 2,
        last_scale: float = 1.0,
    ):
        _check_sizes(num_in, width, depth, "GatedMLP")
        keys = jr.split(key, depth + 1)
        self.out = (out,) if isinstance(out, int) else tuple(out)
        before = [num_in, *[width] * (depth - 1)]
        hidden = [uniform_layer(k, (2, width, n)) for k, n in zip(keys, before, strict=False)]
        last, bias = uniform_layer(keys[-1], (*self.out, width))
        self.weights = (*(W for W, _ in hidden), last_scale * last)
        self.biases = (*(b for _, b in hidden), last_scale * bias)

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.weights[0].shape[2],),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        h = x
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            linear, gate = dense(W, h, b, 3)
            h = linear * jax.nn.sigmoid(gate)
        return dense(self.weights[-1], h, self.biases[-1], 1 + len(self.out))
