from typing import Literal

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..bijections import AbstractBijection, Inverse, Planar, Radial, Scan, Sylvester
from ..modules import check_positive
from ..spaces import Euclidean
from ._layers import num_variables

Fast = Literal["density", "draws"]


def planar(space: Euclidean, *, key: PRNGKeyArray, num_layers: int = 8, fast: Fast = "draws") -> Scan:
    """Layers `y = x + u tanh(w·x + b)`: cheap, but each bends along one direction only, so many are needed.

    **Arguments:**

    - `space`: `lnz.Euclidean(n)`.
    - `num_layers`: number of layers.
    - `fast`: the direction with a closed form: `"draws"`, for `lnz.objectives.ReverseKL`, or `"density"`, for maximum
      likelihood. The other direction solves one scalar equation a layer by Newton's method.
    - `key`: for random directions and small bends.

    Source: Rezende and Mohamed (2015), section 4.1; arXiv:1505.05770.
    """
    num = num_variables(space, "planar")

    def layer(key):
        key_w, key_u = jr.split(key)
        return Planar(0.1 * jr.normal(key_u, (num,)), jr.normal(key_w, (num,)) / num**0.5, jnp.zeros(()))

    return _layers("planar", layer, key, num_layers, fast)


def radial(space: Euclidean, *, key: PRNGKeyArray, num_layers: int = 8, fast: Fast = "draws") -> Scan:
    """Layers that each contract or expand around a point. Both directions have closed forms.

    **Arguments:** as for `planar`; `key` is for the centers, standard normal. `fast` chooses the direction that is the
    forward map of `lnz.bijections.Radial`, which expands more than it can contract.

    Source: Rezende and Mohamed (2015), section 4.1; arXiv:1505.05770.
    """
    num = num_variables(space, "radial")

    def layer(key):
        key_center, key_slope = jr.split(key)
        return Radial(jr.normal(key_center, (num,)), jnp.zeros(()), 0.1 * jr.normal(key_slope))

    return _layers("radial", layer, key, num_layers, fast)


def sylvester(
    space: Euclidean,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    num_orthogonal: int | None = None,
    num_householder: int | None = None,
    fast: Fast = "draws",
) -> Scan:
    """Layers `y = x + Q R tanh(S Q'x + b)`: planar layers that bend along many directions at once.

    **Arguments:**

    - `space`, `num_layers`, `fast`, `key`: as for `planar`. The direction without a closed form solves scalar equations
      one after the other, one for each direction that is bent.
    - `num_orthogonal`: bend along this many arbitrary directions (the paper's orthogonal flow); by default all.
    - `num_householder`: bend along all directions, turned by this many reflections (the paper's Householder flow). Only
      one of the two can be given.

    **Raises:** `ValueError` if both are given or there are more directions than variables.

    Source: van den Berg, Hasenclever, Tomczak and Welling (2018), section 3; arXiv:1803.05649.
    """
    num = num_variables(space, "sylvester")
    if num_orthogonal is not None and num_householder is not None:
        raise ValueError("`sylvester(...)` takes `num_orthogonal` or `num_householder`, not both.")
    if num_householder is None:
        directions = check_positive(num if num_orthogonal is None else num_orthogonal, "sylvester(num_orthogonal=...)")
        reflections = directions
    else:
        directions, reflections = num, check_positive(num_householder, "sylvester(num_householder=...)")
    if directions > num:
        raise ValueError(f"`sylvester(num_orthogonal=...)` can be at most {num}, the number of variables.")

    def layer(key):
        key_v, key_r, key_s = jr.split(key, 3)
        R = 0.1 * jr.normal(key_r, (directions, directions))
        S = jr.normal(key_s, (directions, directions)) / directions**0.5
        return Sylvester(jr.normal(key_v, (reflections, num)), jnp.triu(R), jnp.triu(S), jnp.zeros(directions))

    return _layers("sylvester", layer, key, num_layers, fast)


def _layers(name: str, layer, key: PRNGKeyArray, num_layers: int, fast: str) -> Scan:
    check_positive(num_layers, f"{name}(num_layers=...)")
    if fast not in ("density", "draws"):
        raise ValueError(f"`{name}(fast=...)` must be 'density' or 'draws'; got {fast!r}.")

    def directed(key) -> AbstractBijection:
        return layer(key) if fast == "draws" else Inverse(layer(key))

    return Scan.of(directed, jr.split(key, num_layers))
