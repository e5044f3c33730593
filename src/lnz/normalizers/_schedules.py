"""Temperature schedules for annealing."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDensity, AbstractSampler, PathChoice, check_path, check_sampler, resolve_path
from ..modules import check_key, check_positive, model_dtype
from ._ais import anneal, moves


def salakhutdinov_murray_betas() -> Float[Array, " 14501"]:
    """14,500 intervals for `AIS(betas=...)`: 0 to 0.5 by 1e-3, to 0.9 by 1e-4, to 1 by 1e-5.

    Source: Salakhutdinov and Murray (2008), section 4.1.
    """
    parts = np.arange(500) / 1e3, np.arange(5000, 9000) / 1e4, np.arange(90_000, 100_001) / 1e5
    return jnp.asarray(np.concatenate(parts), jnp.result_type(float))


def adapted_betas(
    key: PRNGKeyArray,
    density: AbstractDensity,
    num: int,
    *,
    path: PathChoice = None,
    sampler: AbstractSampler | None = None,
    num_chains: int = 100,
    num_pilot: int = 500,
) -> Float[Array, "{num}+1"]:
    """`num` intervals for `AIS(betas=...)`; the log weights gain the same variance over each.

    A pilot run in `num_pilot` even steps measures the variance, over chains, of each step's log ratio. The total
    variance is least if the density of temperatures is the square root of this variance, as a function of beta. Use
    another key for the run itself: weights stay unbiased because the temperatures do not depend on them.

    **Arguments:**

    - `key`: a JAX random key.
    - `density`: the density to normalise.
    - `num`: number of intervals.
    - `path`, `sampler`: as for `AIS`.
    - `num_chains`, `num_pilot`: number of chains and steps of the pilot run.

    Source: Gelman and Meng (1998), section 4.2. For annealing, Grosse, Maddison and Salakhutdinov (2013), section 3.
    """
    key = check_key(key)
    check_positive(num, "num")
    check_positive(num_pilot, "num_pilot")
    if check_positive(num_chains, "num_chains") < 2:
        raise ValueError("`num_chains` must be at least 2, to measure a variance; got 1.")
    path = resolve_path(check_path(path, "adapted_betas"), density)
    sampler = check_sampler(sampler, "adapted_betas")
    grid = jnp.linspace(0.0, 1.0, num_pilot + 1, dtype=model_dtype(density))
    key_start, key_steps = jr.split(key)
    positions = path.start.sample(key_start, (num_chains,))
    sampler_at = moves(key_steps, path, grid, sampler)
    _, spread, *_ = anneal(key_steps, path, grid, sampler_at, positions, lambda ratios: jnp.std(ratios, ddof=1))
    # A part in which the log ratios of all chains agree (a density that does not change) still gets some temperatures.
    spread = jnp.where(jnp.isfinite(spread), spread, 0)
    spread = spread + 0.01 * jnp.mean(spread) + jnp.finfo(spread.dtype).tiny
    length = jnp.concatenate([jnp.zeros(1, spread.dtype), jnp.cumsum(spread)])
    betas = jnp.interp(jnp.linspace(0.0, 1.0, num + 1, dtype=length.dtype), length / length[-1], grid)
    return betas.at[0].set(0.0).at[-1].set(1.0)
