import itertools
import numbers

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractModel
from ..modules import check_key, replace
from ..spaces import Binary
from ._bipartite import BipartiteDensity
from ._units import BernoulliUnits, clamp_units


class DBM(AbstractModel):
    """Deep Boltzmann machine, `E(x_0, ..., x_L) = -sum_l x_l'W_l x_(l+1) - sum_l b_l'x_l`, x_0 visible.

    Even layers are independent given odd ones, and the other way round. So the joint is a bipartite density, and so is
    the joint with the visible layer held fixed. Both integrals of its likelihood are hard: `evaluate` needs `hidden=`
    and `partition=`.

    **Arguments:**

    - `*sizes`: numbers of Bernoulli units, visible first.
    - `key`: for the random weights, normal with standard deviation 0.01.

    Source: Salakhutdinov and Hinton (2009), equations 9 to 14.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]

    def __init__(self, *sizes: int, key: PRNGKeyArray):
        if len(sizes) < 2 or not all(isinstance(size, numbers.Integral) and size > 0 for size in sizes):
            raise ValueError(f"`DBM(*sizes)` needs at least two positive numbers of units; got {sizes}.")
        pairs = list(itertools.pairwise(int(size) for size in sizes))
        self.weights = tuple(
            0.01 * jr.normal(k, pair) for k, pair in zip(jr.split(check_key(key), len(pairs)), pairs, strict=True)
        )
        self.biases = tuple(jnp.zeros(size) for size in sizes)

    def __check_init__(self):
        if not all(isinstance(array, jax.Array) for array in (*self.weights, *self.biases)):
            return  # a tree of the same form, such as a filter
        sizes = [bias.shape[-1] for bias in self.biases]
        shapes = [W.shape[-2:] for W in self.weights]
        if len(sizes) < 2 or shapes != list(itertools.pairwise(sizes)):
            raise ValueError(f"`DBM`: weights of shapes {shapes} do not join layers of {sizes} units.")

    @property
    def space(self) -> Binary:
        return Binary(self.biases[0].shape)

    def joint(self) -> BipartiteDensity:
        """All layers: a density over the even ones (x_0 first), with the odd ones summed out."""
        return _bipartite(self.weights, self.biases, 0.0)

    def condition(self, x: Array) -> BipartiteDensity:
        """The hidden layers with x_0 = x held fixed: a density over x_1, x_3, ..., the others summed out."""
        v = self.space.check_example(x).astype(self.biases[0].dtype)
        first = self.biases[1] + v @ self.weights[0]
        return _bipartite(self.weights[1:], (first, *self.biases[2:]), jnp.dot(v, self.biases[0]))

    def clamp(self, values: Array, mask: Array) -> BipartiteDensity:
        """`joint()` with the visible units where `mask` is true held fixed at `values`, and all else summed over.

        **Raises:** `ValueError` or `TypeError` for wrong shapes, a mask that is not boolean, or values outside the
        space.
        """
        clamped = clamp_units(BernoulliUnits(len(self.biases[0])), values, mask, self.space)
        joint = self.joint()
        num_others = joint.visible.size - clamped.size
        units = clamp_units(
            joint.visible,
            jnp.concatenate([clamped.values, jnp.zeros(num_others, clamped.values.dtype)]),
            jnp.concatenate([clamped.mask, jnp.zeros(num_others, bool)]),
            joint.visible.space,
        )
        return replace(joint, visible=units)

    def numerator(self, x: Array, observed: Array | None = None) -> BipartiteDensity:
        return self.condition(x) if observed is None else self.clamp(x, observed)

    def denominator(self) -> BipartiteDensity:
        return self.joint()

    def ancestor(self) -> BipartiteDensity:
        return self.joint()

    def descend(self, key: PRNGKeyArray, state: Array) -> Array:
        """The visible layer."""
        return state[: len(self.biases[0])]


def _bipartite(weights, biases, offset) -> BipartiteDensity:
    """Layers 0, 2, ... on one side and 1, 3, ... on the other, with the weights as blocks."""
    even, odd = biases[0::2], biases[1::2]
    dtype = biases[0].dtype
    blocks = [[jnp.zeros((len(b), len(c)), dtype) for c in odd] for b in even]
    for layer, W in enumerate(weights):
        if layer % 2 == 0:
            blocks[layer // 2][layer // 2] = W
        else:
            blocks[(layer + 1) // 2][layer // 2] = W.T
    rows = [
        jnp.concatenate(row, axis=1) if row else jnp.zeros((len(b), 0), dtype)
        for row, b in zip(blocks, even, strict=True)
    ]
    b = jnp.concatenate(even)
    c = jnp.concatenate(odd) if odd else jnp.zeros(0, dtype)
    return BipartiteDensity(BernoulliUnits(len(b)), BernoulliUnits(len(c)), jnp.concatenate(rows, axis=0), b, c, offset)
