from collections.abc import Callable
from typing import Any, Literal

import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..bijections import (
    AbstractBijection,
    AbstractTransformer,
    Chain,
    Inverse,
    MaskedAutoregressive,
    Scan,
    SigmoidalTransformer,
    SoftplusAffineTransformer,
    SplineTransformer,
)
from ..modules import check_positive
from ..nets import MaskedMLP, PeriodicMaskedMLP
from ..spaces import AbstractSpace
from ._layers import Order, are_angles, inner_space, layers_with_angles, mixing, onto


def autoregressive(
    space: AbstractSpace,
    transformer: AbstractTransformer,
    *,
    key: PRNGKeyArray,
    num_layers: int = 5,
    order: Order = "random",
    fast: Literal["density", "draws"] = "density",
    inversion: Literal["substitution", "fixed_point"] = "substitution",
    net: Callable = MaskedMLP,
    **options: Any,
) -> AbstractBijection:
    """Layers `y_i = f(x_i; net_i(x_1, ..., x_{i-1}))` with any transformer; variables are exchanged between layers.

    **Arguments:**

    - `space`: a space of vectors: `lnz.Euclidean(n)`, `Interval`, `Positive`, `Torus` or a `Product` of these. Layers
      work on `R^n` and on circles; `lnz.bijections.ToSupport` comes last.
    - `transformer`: such as `lnz.bijections.AffineTransformer()`. Angles use a circular spline with as many bins (or 8)
      instead. They enter networks as cosine and sine, so that densities are continuous around each circle. With angles,
      the sequential direction takes one pass of the network for each variable.
    - `num_layers`: number of layers.
    - `order`: how variables are exchanged, `"random"` or `"reverse"`; two variables are always reversed.
    - `fast`: the direction that takes one parallel pass, `"density"` or `"draws"`; the other is sequential in the
      variables.
    - `inversion`: how the sequential direction is computed, see `lnz.bijections.MaskedAutoregressive`.
    - `net`, `options`: makes the networks, `net(num_in, num_params, key=key, last_scale=0.0, **options)`. The result
      must be an `lnz.nets.MaskedMLP`, with options such as `width=64, depth=3`.
    """
    inner = inner_space(space, "autoregressive")
    check_positive(num_layers, "autoregressive(num_layers=...)")
    if inner.shape == (2,) and order == "random":
        order = "reverse"  # in random order, half of the layers would see the variables as the layer before them does
    if fast not in ("density", "draws"):
        raise ValueError(f"`autoregressive(fast=...)` must be 'density' or 'draws'; got {fast!r}.")
    num = inner.shape[0]

    def network(key, num_in, num_params):
        return net(num_in, num_params, key=key, last_scale=0.0, **options)

    def layer(key):
        key_net, key_order = jr.split(key)
        map_ = MaskedAutoregressive(inner, network(key_net, num, transformer.num_params), transformer, inversion)
        if fast == "density":
            return Chain(mixing(inner, order, key_order, "autoregressive"), Inverse(map_))
        return Chain(map_, mixing(inner, order, key_order, "autoregressive"))

    def layer_with_angles(key, is_angle, choose, num_params):
        conditioner = PeriodicMaskedMLP(network(key, 2 * num, num_params), is_angle)
        map_ = MaskedAutoregressive(inner, conditioner, choose(is_angle), inversion)
        return Inverse(map_) if fast == "density" else map_

    if are_angles(inner).any():
        how = {"key": key, "num_layers": num_layers, "order": order, "name": "autoregressive"}
        return onto(space, layers_with_angles(inner, transformer, layer_with_angles, **how))
    return onto(space, Scan.of(layer, jr.split(key, num_layers)))


def masked_autoregressive(
    space: AbstractSpace, *, key: PRNGKeyArray, num_layers: int = 5, **options
) -> AbstractBijection:
    """Affine autoregressive layers with fast densities (MAF): draws are sequential. `options` as in `autoregressive`.

    Factors come from `lnz.bijections.SoftplusAffineTransformer`; the source has exponentials.

    Source: Papamakarios, Pavlakou and Murray (2017), section 3.1; arXiv:1705.07057.
    """
    return autoregressive(space, SoftplusAffineTransformer(), key=key, num_layers=num_layers, fast="density", **options)


def inverse_autoregressive(
    space: AbstractSpace, *, key: PRNGKeyArray, num_layers: int = 5, **options
) -> AbstractBijection:
    """Affine autoregressive layers with fast draws (IAF): densities of given points are sequential.

    Train it by `lnz.objectives.ReverseKL`, which needs only draws. `options` as in `autoregressive`. Factors come from
    `lnz.bijections.SoftplusAffineTransformer`; the source has sigmoids.

    Source: Kingma et al. (2016), section 3; arXiv:1606.04934.
    """
    return autoregressive(space, SoftplusAffineTransformer(), key=key, num_layers=num_layers, fast="draws", **options)


def autoregressive_spline(
    space: AbstractSpace,
    *,
    key: PRNGKeyArray,
    num_layers: int = 5,
    num_bins: int = 8,
    bound: float = 5.0,
    **options,
) -> AbstractBijection:
    """Autoregressive rational-quadratic splines on `[-bound, bound]`, the identity outside.

    `options` as in `autoregressive`; `fast` decides which direction is sequential.

    Source: Durkan, Bekasov, Murray and Papamakarios (2019), section 3.2, RQ-NSF (AR); arXiv:1906.04032.
    """
    transformer = SplineTransformer(num_bins, -bound, bound)
    return autoregressive(space, transformer, key=key, num_layers=num_layers, **options)


def neural_autoregressive(
    space: AbstractSpace, *, key: PRNGKeyArray, num_layers: int = 5, num_units: int = 8, **options
) -> AbstractBijection:
    """Autoregressive layers of monotone networks, `y = logit(sum_j w_j sigmoid(a_j x + b_j))` (NAF, DSF).

    `options` as in `autoregressive`; `fast` decides which direction is sequential. The sequential direction also solves
    a scalar equation for each variable, by Newton's method: see `lnz.bijections.SigmoidalTransformer`. The default,
    `fast="density"`, trains by maximum likelihood without solving any.

    Source: Huang, Krueger, Lacoste and Courville (2018), deep sigmoidal flow; arXiv:1804.00779.
    """
    transformer = SigmoidalTransformer(num_units)
    return autoregressive(space, transformer, key=key, num_layers=num_layers, **options)
