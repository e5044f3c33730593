from typing import Any, Literal

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..bijections import Affine, Chain, Inverse, Residual, Scan
from ..modules import check_positive
from ..nets import LipschitzMLP
from ..spaces import Euclidean
from ._layers import num_variables


def residual(
    space: Euclidean,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    log_det: Literal["exact", "unbiased"] = "exact",
    **options: Any,
) -> Chain:
    """Layers whose inverse is `x + g(x)` with a contraction g, followed by a scale and a shift.

    Each layer changes all variables. Densities cost one pass and one log-determinant for each layer; draws iterate to a
    fixed point, many passes for each layer (`Residual` states the tolerance).

    **Arguments:**

    - `space`: `lnz.Euclidean(n)`. Standardise the data first: a layer stretches distances by at most
      1 / (1 - coefficient) and shrinks them by at most 1 + coefficient.
    - `num_layers`: number of layers.
    - `log_det`: `"exact"` for few variables (a determinant for each layer), or `"unbiased"`, which needs a `key` for
      every density. Train with either by `lnz.objectives.MaximumLikelihood()`; evaluate
      `lnz.bijections.exact_log_det(flow)` for numbers without noise.
    - `options`: of the networks, `lnz.nets.LipschitzMLP`: `width`, `depth`, `activation`, and `coefficient`, the
      Lipschitz constant of each g. Nearer to one is more flexible and slower.

    Source: Chen, Behrmann, Duvenaud and Jacobsen (2019), section 3; arXiv:1906.02735.
    """
    num = num_variables(space, "residual")
    check_positive(num_layers, "residual(num_layers=...)")

    def layer(key):
        return Inverse(Residual(space, LipschitzMLP(num, key=key, **options), log_det))

    return Chain(Scan.of(layer, jr.split(key, num_layers)), Affine(jnp.zeros(num), 1.0))
