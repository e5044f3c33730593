from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..bijections import (
    AbstractBijection,
    AbstractTransformer,
    AffineTransformer,
    Chain,
    Coupling,
    Permutation,
    Scan,
    SplineTransformer,
)
from ..modules import check_positive
from ..nets import MLP, PeriodicMLP
from ..spaces import AbstractSpace
from ._layers import Order, are_angles, inner_space, layers_with_angles, mixing, onto


def coupling(
    space: AbstractSpace,
    transformer: AbstractTransformer,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    order: Order = "random",
    net: Callable = MLP,
    **options: Any,
) -> AbstractBijection:
    """Layers `y_a = x_a, y_b = f(x_b; net(x_a))` with any transformer; variables are exchanged between layers.

    Both directions cost one pass of the networks: draws are as fast as densities. The flow starts as the identity, up
    to the order of the variables.

    **Arguments:**

    - `space`: a space of vectors of at least 2 variables: `lnz.Euclidean(n)`, `Interval`, `Positive`, `Torus` or a
      `Product` of these. Layers work on `R^n` and on circles; `lnz.bijections.ToSupport` comes last.
    - `transformer`: such as `lnz.bijections.AffineTransformer()`. Angles use a circular spline with as many bins (or 8)
      instead. They enter networks as cosine and sine, so that densities are continuous around each circle.
    - `num_layers`: number of layers.
    - `order`: how variables are exchanged: `"reverse"`, or `"random"` after every second layer. Either way, each
      variable is changed by one of two successive layers.
    - `net`, `options`: makes the networks, `net(num_in, out, key=key, last_scale=0.0, **options)`: a network class such
      as `lnz.nets.GatedMLP`, with options such as `width=64, depth=3`, or a function.
    """
    inner = inner_space(space, "coupling", 2)
    check_positive(num_layers, "coupling(num_layers=...)")
    num = inner.shape[0]
    kept = num // 2

    def network(key, num_in, num_params):
        out = (num_params, num - kept)
        return net(num_in, out, key=key, last_scale=0.0, **options)

    def layer(key, is_even):
        key_net, key_order = jr.split(key)
        conditioner = network(key_net, kept, transformer.num_params)
        mix = mixing(inner, order, key_order, "coupling")
        if isinstance(mix, Permutation):
            # In each pair of layers, the second changes the variables that the first keeps.
            mix = Permutation(jnp.where(is_even, jnp.arange(num, dtype=jnp.int32)[::-1], mix.order), inner)
        return Chain(Coupling(inner, kept, conditioner, transformer), mix)

    def layer_with_angles(key, is_angle, choose, num_params):
        conditioner = PeriodicMLP(network(key, 2 * kept, num_params), is_angle[:kept])
        return Coupling(inner, kept, conditioner, choose(is_angle[kept:]))

    if are_angles(inner).any():
        how = {"key": key, "num_layers": num_layers, "order": order, "name": "coupling"}
        return onto(space, layers_with_angles(inner, transformer, layer_with_angles, **how))
    is_even = jnp.arange(num_layers) % 2 == 0
    return onto(space, Scan(eqx.filter_vmap(layer)(jr.split(key, num_layers), is_even)))


def realnvp(space: AbstractSpace, *, key: PRNGKeyArray, num_layers: int = 8, **options) -> AbstractBijection:
    """Affine couplings. Both directions cost one pass; `options` as in `coupling`.

    Source: Dinh, Sohl-Dickstein and Bengio (2017), section 3; arXiv:1605.08803.
    """
    return coupling(space, AffineTransformer(), key=key, num_layers=num_layers, **options)


def coupling_spline(
    space: AbstractSpace,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    num_bins: int = 8,
    bound: float = 5.0,
    **options,
) -> AbstractBijection:
    """Rational-quadratic spline couplings on `[-bound, bound]`; standardise data first. `options` as in `coupling`.

    Outside the bound each layer is the identity, so that the flow has the tails of the base.

    Source: Durkan, Bekasov, Murray and Papamakarios (2019), section 3.2, RQ-NSF (C); arXiv:1906.04032.
    """
    transformer = SplineTransformer(num_bins, -bound, bound)
    return coupling(space, transformer, key=key, num_layers=num_layers, **options)
