"""Networks of dense layers, plain and masked, that accept batch axes last."""

import functools
import inspect
import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..modules import check_positive, register
from ..numerics import aligned
from ._net import AbstractNet, InShape

# Activations that a model file may name.
for _function in (jax.nn.relu, jax.nn.silu, jax.nn.gelu, jax.nn.elu, jax.nn.softplus, jax.nn.sigmoid, jnp.tanh):
    register(_function, f"jax.nn.{_function.__name__}")

# Layers of Equinox that a model file may hold, so that a module made of them only needs to register itself.
_EQUINOX = """
Linear Identity MLP Sequential Lambda PReLU Dropout Embedding LayerNorm GroupNorm RMSNorm GRUCell LSTMCell
MultiheadAttention Conv Conv1d Conv2d Conv3d ConvTranspose ConvTranspose1d ConvTranspose2d ConvTranspose3d Pool
AvgPool1d AvgPool2d AvgPool3d MaxPool1d MaxPool2d MaxPool3d
"""
for _name in _EQUINOX.split():
    register(getattr(eqx.nn, _name), f"equinox.nn.{_name}")
register(inspect.signature(eqx.nn.MLP.__init__).parameters["final_activation"].default, "equinox.nn.identity")

Shape = int | tuple[int, ...]


def dense(W: Float[Array, "..."], h: Float[Array, "..."], b: Float[Array, "..."], ndim: int) -> Float[Array, "..."]:
    """`W h + b` for `W [*out, in]` (`ndim` axes), `h [in, *batch]`, `b [*out]`; W and b may have batch axes last."""
    return _product(W, h, ndim) + aligned(b, ndim - 1, h.ndim - 1)


def _product(W: Float[Array, "..."], h: Float[Array, "..."], ndim: int) -> Float[Array, "..."]:
    if W.ndim == ndim:
        return jnp.tensordot(W, h, 1)
    # separate weights for each example
    return jnp.sum(aligned(W, ndim, h.ndim - 1) * h.reshape((*(1,) * (ndim - 1), *h.shape)), axis=ndim - 1)


def _check_sizes(num_in: int, width: int, depth: int, owner: str) -> None:
    check_positive(num_in, f"{owner}(num_in=...)")
    check_positive(width, f"{owner}(width=...)")
    if depth != 0 or owner != "MLP" or isinstance(depth, bool):
        check_positive(depth, f"{owner}(depth=...)")


class MLP(AbstractNet):
    """`x -> W_D a(... a(W_1 x + b_1) ...) + b_D`: a multilayer perceptron from `[num_in]` to `[*out]`.

    **Arguments:**

    - `num_in`: length of the input.
    - `out`: shape of the output, or its length.
    - `width`, `depth`: units of each hidden layer, and number of hidden layers. With depth 0 the map is affine,
      `W x + b`.
    - `activation`: such as `jax.nn.relu`. A model file can hold registered functions, as many of `jax.nn` are.
    - `residual`: whether to add each hidden layer after the first to the one before it.
    - `last_scale`: factor on the initial weights and biases of the last layer; with 0 the output is zero.
    - `key`: for the initial weights and biases, uniform within `1 / sqrt(units before)`.
    """

    weights: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "..."], ...]
    out: tuple[int, ...] = eqx.field(static=True)
    activation: Callable = eqx.field(static=True)
    residual: bool = eqx.field(static=True)

    def __init__(
        self,
        num_in: int,
        out: Shape,
        *,
        key: PRNGKeyArray,
        width: int = 128,
        depth: int = 2,
        activation: Callable = jax.nn.relu,
        residual: bool = False,
        last_scale: float = 1.0,
    ):
        _check_sizes(num_in, width, depth, "MLP")
        sizes = [num_in, *[width] * depth]
        keys = jr.split(key, depth + 1)
        self.out = (out,) if isinstance(out, int) else tuple(out)
        hidden = [uniform_layer(k, (m, n)) for k, (n, m) in zip(keys, itertools.pairwise(sizes), strict=False)]
        last, bias = uniform_layer(keys[-1], (*self.out, sizes[-1]))
        self.weights = (*(W for W, _ in hidden), last_scale * last)
        self.biases = (*(b for _, b in hidden), last_scale * bias)
        self.activation, self.residual = activation, residual

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.weights[0].shape[1 if len(self.weights) > 1 else len(self.out)],),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        h = hidden = x
        for i, (W, b) in enumerate(zip(self.weights[:-1], self.biases[:-1], strict=True)):
            h = self.activation(dense(W, hidden, b, 2))
            hidden = hidden + h if self.residual and i else h
        return dense(self.weights[-1], hidden, self.biases[-1], 1 + len(self.out))


def uniform_layer(key: PRNGKeyArray, shape: tuple[int, ...], num_in: np.ndarray | None = None) -> tuple[Array, Array]:
    """Weights and biases, uniform within `1 / sqrt(num_in)`; `num_in` is the number of inputs that each row sees.

    Biases are random too: with few inputs and zero biases, all kinks of a ReLU network coincide, and a flow of two
    variables learns far more slowly.
    """
    num_in = np.full((*shape[:-1], 1), shape[-1]) if num_in is None else num_in
    scale = jnp.asarray(1 / np.sqrt(np.maximum(num_in, 1)), jnp.result_type(float))
    key_W, key_b = jr.split(key)
    W, b = jr.uniform(key_W, shape, minval=-1, maxval=1), jr.uniform(key_b, shape[:-1], minval=-1, maxval=1)
    return W * scale, b * jnp.broadcast_to(scale[..., 0], b.shape)


class MaskedMLP(AbstractNet):
    """MADE: a multilayer perceptron whose output `[:, i]` sees only the inputs before i.

    Input j has degree j + 1. A hidden unit of degree m sees units of degree at most m, and output i sees hidden units
    of degree at most i. The degrees of hidden units are spread evenly over 1 to `num - 1`, in ascending order, so that
    units of the same degree are neighbours.

    **Arguments:**

    - `num`: number of inputs, and of outputs.
    - `num_each`: how many numbers each output has; the result is `[num_each, num]`.
    - `width`, `depth`, `activation`, `residual`, `last_scale`, `key`: as for `MLP`; with `residual` a ResMADE of
      one-layer blocks.

    Source: Germain, Gregor, Murray and Larochelle (2015), equations 12 and 13; arXiv:1502.03509. Residual connections:
    Nash and Durkan (2019), section 3; arXiv:1904.05626.
    """

    weights: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "..."], ...]
    num: int = eqx.field(static=True)
    activation: Callable = eqx.field(static=True)
    residual: bool = eqx.field(static=True)

    def __init__(
        self,
        num: int,
        num_each: int,
        *,
        key: PRNGKeyArray,
        width: int = 128,
        depth: int = 2,
        activation: Callable = jax.nn.relu,
        residual: bool = False,
        last_scale: float = 1.0,
    ):
        _check_sizes(num, width, depth, "MaskedMLP")
        check_positive(num_each, "MaskedMLP(num_each=...)")
        self.num, self.activation, self.residual = num, activation, residual
        keys = jr.split(key, depth + 1)
        masks = _masks(num, (width,) * depth)
        fan_in = [mask.sum(axis=1, keepdims=True) for mask in masks]
        hidden = [uniform_layer(k, mask.shape, n) for k, mask, n in zip(keys, masks[:-1], fan_in[:-1], strict=False)]
        last, bias = uniform_layer(keys[-1], (num_each, num, width), fan_in[-1][None])
        self.weights = (*(W for W, _ in hidden), last_scale * last)
        self.biases = (*(b for _, b in hidden), last_scale * bias)

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        # Counted from the last axis, because `Scan` stacks layers along axes before these.
        return tuple(W.shape[-2] for W in self.weights[:-1])

    def degrees(self, width: int) -> Int[np.ndarray, " width"]:
        """The degree of each unit of a hidden layer of this width, ascending."""
        return hidden_degrees(self.num, width)

    def masked(self) -> tuple[Float[Array, "..."], ...]:
        """The weights with the masks applied, as the network uses them."""
        layers = zip(self.weights, _masks(self.num, self._own_widths), self._ndims, strict=True)
        return tuple(_times(W, mask, ndim) for W, mask, ndim in layers)

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.num,),)

    def call_batch_last(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return _masked_pass(self, x)

    def _whole(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The outputs, from one product per layer, with masked weights."""
        *inner, last = zip(self.masked(), self.biases, self._ndims, strict=True)
        h = hidden = x
        for i, (W, b, ndim) in enumerate(inner):
            h = self.activation(dense(W, hidden, b, ndim))
            hidden = hidden + h if self.residual and i else h
        W, b, ndim = last
        return dense(W, hidden, b, ndim)

    def _in_parts(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The outputs, from products of parts of each layer; products that the mask would zero are left out."""
        inputs, *hidden, outputs = self._parts()
        seen = tuple(x[rows] for rows in inputs)
        *inner, last = zip(self.weights, self.biases, _masks(self.num, self._own_widths), self._ndims, strict=True)
        for i, (layer, parts) in enumerate(zip(inner, hidden, strict=True)):
            h = tuple(self.activation(_rows(*layer, rows, seen, x.shape[1:])) for rows in parts)
            seen = tuple(map(jnp.add, seen, h)) if self.residual and i else h
        return jnp.concatenate([_rows(*last, rows, seen, x.shape[1:]) for rows in outputs], axis=1)

    def _parts(self) -> list[list[slice]]:
        """Rows of the input, of each hidden layer and of the output, in parts that see no unit of a later part.

        On a CPU there are two parts, so the quarter of each product that the mask would zero is not computed.
        Elsewhere all rows are one part, because a few large products are faster than many small ones.
        """
        most = self.num - 1  # nothing sees the last input
        middle = [most // 2] if jax.default_backend() == "cpu" and most > 1 else []
        degrees = np.asarray([0, *middle, most])
        hidden = (np.searchsorted(self.degrees(width), degrees, side="right") for width in self._own_widths)
        edges = [degrees, *hidden, [0, *(degrees[1:] + 1)]]
        return [[slice(int(start), int(stop)) for start, stop in itertools.pairwise(e)] for e in edges]

    @property
    def _own_widths(self) -> tuple[int, ...]:
        return tuple(W.shape[0] for W in self.weights[:-1])

    @property
    def _ndims(self) -> list[int]:
        return [2] * (len(self.weights) - 1) + [3]


@jax.custom_jvp
def _masked_pass(net: MaskedMLP, x: Array) -> Array:
    """The outputs in parts, with a quarter less work. Derivatives use whole layers: fewer programs to compile."""
    return net._in_parts(x)


@functools.partial(_masked_pass.defjvp, symbolic_zeros=True)
def _derivative(primals, tangents):
    leaves, structure = jax.tree.flatten(primals)
    moves = jax.tree.leaves(tangents, is_leaf=_is_zero)
    moved = [i for i, move in enumerate(moves) if not _is_zero(move)]  # else products with zeros would be computed

    def whole(*values):
        changed = dict(zip(moved, values, strict=True))
        net, x = jax.tree.unflatten(structure, [changed.get(i, leaf) for i, leaf in enumerate(leaves)])
        return net._whole(x)

    return jax.jvp(whole, [leaves[i] for i in moved], [moves[i] for i in moved])


def _is_zero(tangent) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _times(W: Array, mask: np.ndarray, ndim: int) -> Array:
    if mask.all():
        return W
    return W * aligned(jnp.asarray(mask.reshape((*(1,) * (ndim - 2), *mask.shape)), W.dtype), ndim, W.ndim - ndim)


def _rows(
    W: Array, b: Array, mask: np.ndarray, ndim: int, rows: slice, parts: tuple[Array, ...], batch: tuple[int, ...]
) -> Array:
    """These rows of `W h + b`, where `h` is the concatenated `parts`; products that the mask would zero are skipped."""
    lead, stop = (slice(None),) * (ndim - 2), 0
    y = aligned(b[(*lead, rows)], ndim - 1, len(batch))
    for h in parts:
        columns = slice(stop, stop := stop + len(h))
        seen = mask[rows, columns]
        if seen.any():
            part = W[(*lead, rows, columns)]
            y = _product(_times(part, seen, ndim), h, ndim) + y
    return jnp.broadcast_to(y, (*y.shape[: ndim - 1], *batch))


@functools.cache
def hidden_degrees(num: int, width: int) -> Int[np.ndarray, " width"]:
    # A single variable depends on no other: its outputs see no hidden unit, whatever the degrees.
    return 1 + (np.arange(width) * max(num - 1, 1)) // width


@functools.cache
def _masks(num: int, widths: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    degrees = [np.arange(1, num + 1), *(hidden_degrees(num, width) for width in widths)]
    hidden = [after[:, None] >= before[None] for before, after in itertools.pairwise(degrees)]
    last = np.arange(1, num + 1)[:, None] > degrees[-1][None]
    return tuple(mask.astype(np.float32) for mask in (*hidden, last))
