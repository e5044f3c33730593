from collections.abc import Callable

import jax
import jax.random as jr
from jaxtyping import PRNGKeyArray

from .._check import check_positive
from .._space import Euclidean
from ..bijections import (
    AbstractTransformer,
    AffineTransformer,
    Chain,
    Coupling,
    Scan,
    SplineTransformer,
)
from ..nets import MLP
from ._layers import Order, mixing, num_variables


def coupling(
    space: Euclidean,
    transformer: AbstractTransformer,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    width: int = 128,
    depth: int = 2,
    activation: Callable = jax.nn.relu,
    residual: bool = False,
    order: Order = "random",
) -> Scan:
    """Layers `y_a = x_a, y_b = f(x_b; net(x_a))` of any transformer, with the variables exchanged between them.

    Both directions cost one pass of the networks: draws are as fast as densities. It starts as the identity (up to the
    order of the variables).

    **Arguments:**

    - `space`: `lnz.Euclidean(n)` with n of at least 2.
    - `transformer`: such as `lnz.bijections.AffineTransformer()`.
    - `num_layers`, `width`, `depth`, `activation`, `residual`: of the networks, `lnz.nets.MLP`.
    - `order`: how variables are exchanged, `"reverse"` or `"random"`.
    """
    num = num_variables(space, "coupling", 2)
    check_positive(num_layers, "coupling(num_layers=...)")
    kept = num // 2

    def layer(key):
        key_net, key_order = jr.split(key)
        out = (transformer.num_params, num - kept)
        net = MLP(
            kept, out, key=key_net, width=width, depth=depth, activation=activation, residual=residual, last_scale=0.0
        )
        return Chain(Coupling(space, kept, net, transformer), mixing(space, order, key_order, "coupling"))

    return Scan.of(layer, jr.split(key, num_layers))


def realnvp(space: Euclidean, *, key: PRNGKeyArray, num_layers: int = 8, **options) -> Scan:
    """Affine couplings. Both directions cost one pass; `options` as in `coupling`.

    Source: Dinh, Sohl-Dickstein and Bengio (2017), section 3; arXiv:1605.08803.
    """
    return coupling(space, AffineTransformer(), key=key, num_layers=num_layers, **options)


def coupling_spline(
    space: Euclidean,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    num_bins: int = 8,
    bound: float = 5.0,
    **options,
) -> Scan:
    """Rational-quadratic spline couplings on `[-bound, bound]`; standardise data first. `options` as in `coupling`.

    Outside the bound each layer is the identity, so that tails are those of the base.

    Source: Durkan, Bekasov, Murray and Papamakarios (2019), section 3.2, RQ-NSF (C); arXiv:1906.04032.
    """
    transformer = SplineTransformer(num_bins, -bound, bound)
    return coupling(space, transformer, key=key, num_layers=num_layers, **options)
