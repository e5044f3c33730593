"""Grey values that depend on the pixels before them."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .. import spaces
from ..core import AbstractDistribution, draw_then_score
from ..modules import Frozen, check_positive, replace
from ..nets import MLP
from ..numerics import aligned, batch_last, call_net, loc_and_log_scale
from ._discretised_logistic import DiscretisedLogistic, to_cells


class AutoregressiveLogistic(AbstractDistribution):
    """`p(x) = prod_i DiscretisedLogistic(x_i | loc_i + s_i a_i, scale_i exp(b_i))`, `(a_i, b_i) = net(x before i)`.

    A PixelCNN: all pixels share one small network, which reads nearby earlier pixels in raster order. `conditionals`
    describes its inputs. The log-probability takes one pass over all pixels at once; draws are made pixel by pixel.

    Log-probabilities are in nats with respect to counting measure on `{0, ..., K - 1}^shape`; divide by
    `num_dimensions * log(2)` for bits a dimension.

    **Arguments:**

    - `loc`, `scale`, `num_values`: as for `DiscretisedLogistic`; start them from the data, pixel by pixel.
    - `context`: network inputs, `[num_context, *shape]`.
    - `net`: from `[2 radius (radius + 1) + 1 + num_context]` to `[2]`, with batch axes last, such as `lnz.nets.MLP`.
      `AutoregressiveLogistic.of` builds one.
    - `image_shape`: rows and columns of the picture, if `loc` has another shape, such as one row.
    - `radius`: how far a pixel sees.
    - `min_scale`: least scale, in units of the range: no scale closes around the pixels of a small data set.

    **Raises:** `ValueError` if shapes do not fit or a scale is not positive.

    Source: Gulrajani et al. (2017); arXiv:1611.05013. Differs: one window and one network instead of layers of masked
    convolutions.
    """

    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]
    context: Float[Array, "num_context *shape"]
    net: Callable
    centre: Frozen
    unit: Frozen
    image_shape: tuple[int, int] = eqx.field(static=True)
    radius: int = eqx.field(static=True)
    num_values: int = eqx.field(static=True)
    min_scale: float = eqx.field(static=True)

    def __init__(
        self,
        loc,
        scale,
        context,
        net: Callable,
        num_values: int = 256,
        *,
        image_shape: tuple[int, int] | None = None,
        radius: int = 3,
        min_scale: float = 1e-4,
    ):
        owner = "AutoregressiveLogistic"
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, owner)
        self.centre, self.unit = Frozen(self.loc), Frozen(jnp.exp(self.log_scale))
        self.context = jnp.asarray(context, self.loc.dtype)
        if self.context.ndim == 0 or self.context.shape[1:] != self.loc.shape:
            raise ValueError(
                f"`{owner}(context=...)` must have the shape of loc and one axis in front, {('num', *self.loc.shape)}; "
                f"got {self.context.shape}."
            )
        self.image_shape = _image_shape(image_shape, self.loc.shape, owner)
        self.radius = check_positive(radius, f"{owner}(radius=...)")
        self.num_values = check_positive(num_values, f"{owner}(num_values=...)")
        if not min_scale > 0:
            raise ValueError(f"`{owner}(min_scale=...)` must be positive; got {min_scale}.")
        self.net, self.min_scale = net, float(min_scale)

    @classmethod
    def of(
        cls,
        loc,
        scale,
        num_values: int = 256,
        *,
        key: PRNGKeyArray,
        image_shape: tuple[int, int] | None = None,
        radius: int = 3,
        num_context: int = 8,
        width: int = 48,
        depth: int = 1,
        activation: Callable = jax.nn.silu,
        min_scale: float = 1e-4,
    ) -> "AutoregressiveLogistic":
        """With an `lnz.nets.MLP` whose output starts at zero, so that it starts as a `DiscretisedLogistic`.

        As the decoder of an autoencoder, `lnz.Conditional` makes it a PixelVAE: the latents describe what pixels far
        apart have in common, and the network models noise and edges. Every pixel is an example for the network, so that
        it overfits a few pictures less.
        """
        num_in = 2 * radius * (radius + 1) + 1 + num_context
        net = MLP(num_in, 2, key=key, width=width, depth=depth, activation=activation, last_scale=0.0)
        context = jnp.zeros((num_context, *jnp.shape(loc)))
        return cls(loc, scale, context, net, num_values, image_shape=image_shape, radius=radius, min_scale=min_scale)

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    @property
    def space(self) -> spaces.Categorical:
        return spaces.Categorical(self.loc.shape, self.num_values)

    @property
    def reparameterised(self) -> bool:
        return False

    def conditionals(self, x: Array) -> DiscretisedLogistic:
        """The distribution of each pixel given the pixels before it in ONE example; their product at x is `p(x)`.

        For pixel i the network reads, in this order: `(x_j - c_j) / s_j` for the earlier pixels j at most `radius` rows
        above and `radius` columns beside i, zero beyond the border; `(loc_i - c_i) / s_i`; and the numbers
        `context[:, i]`, which tell it where it is and what z says. Grey values are in units of the whole range.

        `c` and `s` are `loc` and `scale` as first given. They stay so while `loc`, `log_scale` and `context` are
        trained or moved: with residuals of a moved `loc`, noisy in z, a decoder learned several times more slowly.
        Where the network returns zero, and no scale is below `min_scale`, this is `DiscretisedLogistic`.

        Source: van den Oord, Kalchbrenner and Kavukcuoglu (2016), arXiv:1601.06759, for the order of pixels; Salimans,
        Karpathy, Chen and Kingma (2017), section 2.1, arXiv:1701.05517, for the logistics.
        """
        x = self.space.check_example(x).astype(self.loc.dtype)
        given = batch_last(_given, _in_a_row(self), x.reshape(-1), takes_batched_parameters=True)
        loc, log_scale = (parameter.reshape(self.loc.shape) for parameter in given)
        return replace(DiscretisedLogistic(loc, 1.0, self.num_values), log_scale=log_scale)

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        return self.conditionals(x).log_prob(x)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        row = jax.lax.stop_gradient(_in_a_row(self))

        def draw(noise):
            return batch_last(_draw, row, noise, takes_batched_parameters=True)

        for _ in shape:
            draw = jax.vmap(draw)
        noise = jr.logistic(key, (*shape, *self.loc.shape), self.loc.dtype)
        return draw(noise.reshape(*shape, -1)).reshape(noise.shape)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


def _image_shape(image_shape, shape, owner):
    image_shape = shape if image_shape is None else image_shape
    if len(image_shape) != 2 or math.prod(image_shape) != math.prod(shape):
        raise ValueError(
            f"`{owner}(image_shape=...)` must be the rows and columns of a picture of {math.prod(shape)} pixels; got "
            f"{tuple(image_shape)}."
        )
    return int(image_shape[0]), int(image_shape[1])


def _in_a_row(p: AutoregressiveLogistic) -> AutoregressiveLogistic:
    """`p` with all pixels along one axis, so that any further axes are batch axes."""
    loc, log_scale, centre, unit = (one.reshape(-1) for one in (p.loc, p.log_scale, p.centre.value, p.unit.value))
    context = p.context.reshape(len(p.context), loc.size)
    return replace(p, loc=loc, log_scale=log_scale, context=context, centre=Frozen(centre), unit=Frozen(unit))


def _given(p: AutoregressiveLogistic, x: Array) -> tuple[Array, Array]:
    """`loc` and `log_scale` of each pixel of `x [pixels, *batch]`, given the pixels before it."""
    batch, (rows, columns), r = x.shape[1:], p.image_shape, p.radius
    pixels = _pixels(p, len(batch))
    seen = _standardised(pixels, x, p.num_values).reshape(rows, columns, *batch)
    seen = jnp.pad(seen, [(r, 0), (r, r), *[(0, 0)] * len(batch)])
    near = [seen[i : i + rows, j : j + columns].reshape(x.shape) for i, j in _window(r)]
    return _moved(p, pixels, jnp.stack(near))


def _draw(p: AutoregressiveLogistic, noise: Array) -> Array:
    """Grey values made from logistic noise `[pixels, *batch]`, one pixel after the other."""
    batch, (rows, columns), r = noise.shape[1:], p.image_shape, p.radius
    zeros = (0,) * len(batch)

    def draw_pixel(seen, inputs):
        i, noise, pixel = inputs
        row, column = i // columns, i % columns
        window = jax.lax.dynamic_slice(seen, (row, column, *zeros), (r + 1, 2 * r + 1, *batch))
        near = window.reshape(-1, *batch)[: len(_window(r))]
        loc, log_scale = _moved(p, pixel, near)
        x = to_cells(loc + jnp.exp(log_scale) * noise, p.num_values)
        new = _standardised(pixel, x.astype(noise.dtype), p.num_values)[None, None]
        return jax.lax.dynamic_update_slice(seen, new, (row + r, column + r, *zeros)), x

    seen = jnp.zeros((rows + r, columns + 2 * r, *batch), noise.dtype)
    pixels = _pixels(p, len(batch))
    pixels = pixels._replace(context=jnp.moveaxis(pixels.context, 1, 0))
    inputs = (jnp.arange(rows * columns), noise, pixels)
    return jax.lax.scan(draw_pixel, seen, inputs)[1]


def _window(radius: int) -> list[tuple[int, int]]:
    """Rows and columns of the places before the middle of the last row, in a window that ends with this row."""
    places = itertools.product(range(radius + 1), range(2 * radius + 1))
    return list(places)[: 2 * radius * (radius + 1)]


class _Pixels(NamedTuple):
    """Parameters known without x: `[pixels, *batch]` for all pixels, `[*batch]` for one."""

    loc: Array
    log_scale: Array
    centre: Array
    unit: Array
    context: Array  # with one more axis in front


def _pixels(p: AutoregressiveLogistic, num_batch: int) -> _Pixels:
    of_each = (aligned(one, 1, num_batch) for one in (p.loc, p.log_scale, p.centre.value, p.unit.value))
    loc, log_scale, centre, unit = of_each
    return _Pixels(loc, log_scale, centre, unit, aligned(p.context, 2, num_batch))


def _standardised(pixels: _Pixels, x: Array, num_values: int) -> Array:
    return ((x + 0.5) / num_values - pixels.centre) / pixels.unit


def _moved(p: AutoregressiveLogistic, pixels: _Pixels, near: Array) -> tuple[Array, Array]:
    """`loc` and `log_scale` by the network. `near [neighbours, ...]` has the axes of `pixels` last."""
    own = ((pixels.loc - pixels.centre) / pixels.unit)[None]
    inputs = [jnp.broadcast_to(part, (len(part), *near.shape[1:])) for part in (near, own, pixels.context)]
    shift, log_factor = call_net(p.net, jnp.concatenate(inputs))
    log_scale = jnp.maximum(pixels.log_scale + log_factor, math.log(p.min_scale))
    return pixels.loc + pixels.unit * shift, log_scale
