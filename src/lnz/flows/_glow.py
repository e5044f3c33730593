import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ..bijections import (
    AbstractBijection,
    ActNorm,
    AffineTransformer,
    Chain,
    Coupling,
    Inverse,
    InvertibleConv,
    LULinear,
    OnFirst,
    Reshape,
    Scan,
    Squeeze,
)
from ..modules import check_positive
from ..nets import ConvNet
from ..spaces import Euclidean

# For one coupling: factors between exp(-2) and exp(2). Glow's sigmoid bounds them from one side.
_MAX_LOG_SCALE = 2.0


def glow(
    space: Euclidean,
    *,
    key: PRNGKeyArray,
    num_levels: int = 2,
    num_steps: int = 8,
    width: int = 128,
    image_shape: tuple[int, ...] | None = None,
) -> Chain:
    """Glow, for images: squeezing, then steps of `ActNorm`, an invertible 1x1 convolution and an affine coupling.

    From data to base, each level turns 2 x 2 pixels into four channels (`Squeeze`), applies `num_steps` steps, and
    factors out half of the channels: an affine map that depends on the other half takes them to the base. The next
    level goes on with the other half. Both directions cost one pass. Couplings start as the identity; `ActNorm` starts
    from the data when training begins.

    **Arguments:**

    - `space`: `lnz.Euclidean` of images `(channels, height, width)` or `(height, width)`, or of vectors together with
      `image_shape`. Height and width must be multiples of `2 ** num_levels`.
    - `key`: for rotations and networks.
    - `num_levels`, `num_steps`: levels, and steps in each level; steps are compiled once (`Scan`).
    - `width`: channels in the convolutional networks (`lnz.nets.ConvNet`).
    - `image_shape`: `(channels, height, width)` or `(height, width)`.

    **Returns:** a bijection from the base, of the same shape as the data, to the data.

    **Raises:** `ValueError` if the shapes do not fit.

    Source: Kingma and Dhariwal (2018), section 3 and figure 2; arXiv:1807.03039. Differs: log-scales have a soft bound.
    """
    image = _image_space(space, num_levels, image_shape)
    for name, value in (("num_levels", num_levels), ("num_steps", num_steps), ("width", width)):
        check_positive(value, f"glow({name}=...)")
    layers = _level(image, key, num_levels, num_steps, width)
    if image == space:
        return layers
    return Chain(Reshape(space, image), layers, Reshape(image, space))


def _image_space(space: Euclidean, num_levels: int, image_shape: tuple[int, ...] | None) -> Euclidean:
    if not isinstance(space, Euclidean):
        raise TypeError(f"`glow(space)` needs `lnz.Euclidean`; got {space}.")
    shape = space.shape if image_shape is None else tuple(image_shape)
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3:
        raise ValueError(
            f"`glow(space)` needs images, such as `lnz.Euclidean((1, 28, 28))`; got {space}. For images in rows pass "
            "`image_shape=(28, 28)`."
        )
    image, factor = Euclidean(shape), 2**num_levels
    if image.size != space.size:
        raise ValueError(f"`glow(image_shape={image_shape})` does not have as many pixels as {space}.")
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(
            f"`glow(num_levels={num_levels})` halves height and width {num_levels} times; got {shape[1]} x {shape[2]}, "
            f"which {factor} does not divide. Take fewer levels, or pad the images."
        )
    return image


def _level(image: Euclidean, key: PRNGKeyArray, num_levels: int, num_steps: int, width: int) -> Chain:
    """From the base to images; finer levels surround coarser ones."""
    squeeze = Squeeze(image)
    space = squeeze.codomain
    key_steps, key_prior, key_inner = jr.split(key, 3)
    layers: list[AbstractBijection] = [
        Scan.of(lambda key: _step(space, key, width), jr.split(key_steps, num_steps)),
        Inverse(squeeze),
    ]
    if num_levels > 1:
        kept = Euclidean((space.shape[0] // 2, *space.shape[1:]))
        inner = _level(kept, key_inner, num_levels - 1, num_steps, width)
        layers = [OnFirst(inner, space.shape[0]), _coupling(space, key_prior, width), *layers]
    return Chain(squeeze, *layers)


def _step(space: Euclidean, key: PRNGKeyArray, width: int) -> Chain:
    key_coupling, key_mix = jr.split(key)
    channels, height, width_of_image = space.shape
    mix = LULinear(jnp.zeros(channels), _rotation(key_mix, channels))
    # Draws invert the 1x1 convolution, so that densities, in training, multiply rather than solve.
    return Chain(
        _coupling(space, key_coupling, width), Inverse(InvertibleConv(mix, height, width_of_image)), ActNorm(space)
    )


def _coupling(space: Euclidean, key: PRNGKeyArray, width: int) -> Coupling:
    transformer = AffineTransformer(_MAX_LOG_SCALE)
    kept = space.shape[0] // 2
    out = (transformer.num_params, space.shape[0] - kept)
    return Coupling(space, kept, ConvNet(kept, out, key=key, width=width, last_scale=0.0), transformer)


def _rotation(key: PRNGKeyArray, num: int) -> Array:
    return jnp.linalg.qr(jr.normal(key, (num, num)))[0]
