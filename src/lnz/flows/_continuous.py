from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ..bijections import Continuous
from ..nets import TimeMLP
from ..spaces import Euclidean
from ._layers import num_variables


def continuous(
    space: Euclidean,
    *,
    key: PRNGKeyArray,
    width: int = 128,
    depth: int = 2,
    activation: Callable = jnp.tanh,
    divergence: Literal["exact", "hutchinson"] = "exact",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    **options,
) -> Continuous:
    """`dx/dt = MLP([x, t])` from the base at t = 0 to data at t = 1. It starts as the identity.

    Train it by `lnz.objectives.FlowMatching()`, which solves no equation, or by `lnz.objectives.MaximumLikelihood()`,
    which solves the equation there and back at each step. Either way its likelihood is exact, up to the tolerance. It
    needs `pip install "lnz[ode]"`.

    **Arguments:**

    - `space`: `lnz.Euclidean(n)`.
    - `width`, `depth`, `activation`: options of the network, `lnz.nets.TimeMLP`.
    - `divergence`: `"exact"`, or `"hutchinson"` for many variables, which needs a `key` for every density.
    - `rtol`, `atol`, `options`: tolerances, and `solver`, `adjoint` and `max_steps`, of `lnz.bijections.Continuous`.

    Source: Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud (2019), section 3; arXiv:1810.01367.
    """
    num = num_variables(space, "continuous")
    net = TimeMLP(num, key=key, width=width, depth=depth, activation=activation)
    return Continuous(space, net, divergence, rtol, atol, **options)
