from collections.abc import Callable
from typing import Literal

import jax
import jax.random as jr
from jaxtyping import PRNGKeyArray

from .._check import check_positive
from .._space import Euclidean
from ..bijections import (
    AbstractTransformer,
    AffineTransformer,
    Chain,
    Inverse,
    MaskedAutoregressive,
    Scan,
    SigmoidalTransformer,
    SplineTransformer,
)
from ..nets import MaskedMLP
from ._layers import Order, mixing, num_variables


def autoregressive(
    space: Euclidean,
    transformer: AbstractTransformer,
    *,
    key: PRNGKeyArray,
    num_layers: int = 5,
    width: int = 128,
    depth: int = 2,
    activation: Callable = jax.nn.relu,
    residual: bool = False,
    order: Order = "reverse",
    fast: Literal["density", "draws"] = "density",
    inversion: Literal["substitution", "fixed_point"] = "substitution",
) -> Scan:
    """Layers `y_i = f(x_i; net_i(x_1, ..., x_{i-1}))` of any transformer, with the variables exchanged between them.

    **Arguments:**

    - `space`: `lnz.Euclidean(n)`.
    - `transformer`: such as `lnz.bijections.AffineTransformer()`.
    - `num_layers`, `width`, `depth`, `activation`, `residual`: of the networks, `lnz.nets.MaskedMLP`.
    - `order`: how variables are exchanged, `"reverse"` or `"random"`.
    - `fast`: which direction is one parallel pass, `"density"` or `"draws"`; the other is sequential in the variables.
    - `inversion`: how the sequential direction is computed, see `lnz.bijections.MaskedAutoregressive`.
    """
    num = num_variables(space, "autoregressive")
    check_positive(num_layers, "autoregressive(num_layers=...)")
    if fast not in ("density", "draws"):
        raise ValueError(f"`autoregressive(fast=...)` must be 'density' or 'draws'; got {fast!r}.")

    def layer(key):
        key_net, key_order = jr.split(key)
        net = MaskedMLP(
            num,
            transformer.num_params,
            key=key_net,
            width=width,
            depth=depth,
            activation=activation,
            residual=residual,
            last_scale=0.0,
        )
        map_ = MaskedAutoregressive(space, net, transformer, inversion)
        if fast == "density":
            return Chain(mixing(space, order, key_order, "autoregressive"), Inverse(map_))
        return Chain(map_, mixing(space, order, key_order, "autoregressive"))

    return Scan.of(layer, jr.split(key, num_layers))


def masked_autoregressive(space: Euclidean, *, key: PRNGKeyArray, num_layers: int = 5, **options) -> Scan:
    """Affine autoregressive layers with fast densities (MAF): draws are sequential. `options` as in `autoregressive`.

    Source: Papamakarios, Pavlakou and Murray (2017), section 3.1; arXiv:1705.07057.
    """
    return autoregressive(space, AffineTransformer(), key=key, num_layers=num_layers, fast="density", **options)


def inverse_autoregressive(space: Euclidean, *, key: PRNGKeyArray, num_layers: int = 5, **options) -> Scan:
    """Affine autoregressive layers with fast draws (IAF): densities of given points are sequential.

    The flow to train by `lnz.objectives.ReverseKL`, which needs only draws. `options` as in `autoregressive`.

    Source: Kingma et al. (2016), section 3; arXiv:1606.04934.
    """
    return autoregressive(space, AffineTransformer(), key=key, num_layers=num_layers, fast="draws", **options)


def autoregressive_spline(
    space: Euclidean,
    *,
    key: PRNGKeyArray,
    num_layers: int = 5,
    num_bins: int = 8,
    bound: float = 5.0,
    **options,
) -> Scan:
    """Autoregressive rational-quadratic splines on `[-bound, bound]`, the identity outside. `options` as in
    `autoregressive`, of which `fast` says which direction is sequential.

    Source: Durkan, Bekasov, Murray and Papamakarios (2019), section 3.2, RQ-NSF (AR); arXiv:1906.04032.
    """
    transformer = SplineTransformer(num_bins, -bound, bound)
    return autoregressive(space, transformer, key=key, num_layers=num_layers, **options)


def neural_autoregressive(
    space: Euclidean, *, key: PRNGKeyArray, num_layers: int = 5, num_units: int = 8, **options
) -> Scan:
    """Autoregressive layers of monotone networks, `y = logit(sum_j w_j sigmoid(a_j x + b_j))` (NAF, DSF).

    `options` as in `autoregressive`, of which `fast` says which direction is sequential. That direction also solves a
    scalar equation for each variable, by Newton's method: see `lnz.bijections.SigmoidalTransformer`. The default,
    `fast="density"`, trains by maximum likelihood without solving any.

    Source: Huang, Krueger, Lacoste and Courville (2018), section 3.1; arXiv:1804.00779.
    """
    transformer = SigmoidalTransformer(num_units)
    return autoregressive(space, transformer, key=key, num_layers=num_layers, **options)
