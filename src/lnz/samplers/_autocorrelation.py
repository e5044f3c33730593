"""Autocorrelation of chains: how many steps are worth one independent draw."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ..modules import register


@register
def autocorrelation(values: Any) -> Float[np.ndarray, " steps"]:
    """Autocorrelation `rho_t` of a quantity along chains, `values [steps, chains]`; `rho_0 = 1`.

    Chains share one mean: where they disagree, as when each stays in its own mode, the correlation does not fall to
    zero.

    **Raises:** `ValueError` for values that have another shape, have fewer than 4 steps, are not finite, or are all
    equal.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), equation 10.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 2 or len(x) < 4 or x.shape[1] < 1:
        raise ValueError(
            f"`autocorrelation(values=...)` needs at least 4 steps of at least one chain, `[steps, chains]`; got "
            f"shape {x.shape}." + (" Try `values[:, None]`." if x.ndim == 1 else "")
        )
    if not np.isfinite(x).all():
        raise ValueError("`autocorrelation(values=...)` must be finite.")
    num = len(x)
    centred = x - x.mean(axis=0)
    spectrum = np.fft.rfft(centred, 2 * num, axis=0)
    # [steps]: autocovariance within chains, divided by the number of steps at every lag.
    covariance = (np.fft.irfft(np.abs(spectrum) ** 2, 2 * num, axis=0)[:num] / num).mean(axis=1)
    within = covariance[0] * num / (num - 1)
    between = x.mean(axis=0).var(ddof=1) if x.shape[1] > 1 else 0.0
    total = covariance[0] + between
    if total == 0:
        raise ValueError("`autocorrelation(values=...)` are all equal: a chain that never moves has none.")
    rho = 1 - (within - covariance * num / (num - 1)) / total
    rho[0] = 1
    return rho


@register
def autocorrelation_time(values: Any) -> float:
    """`tau = 1 + 2 sum_t rho_t`: the number of steps worth one independent draw, for `values [steps, chains]`.

    `steps * chains / tau` is the effective sample size of their mean. The sum runs over Geyer's initial monotone
    sequence: pairs of neighbouring lags until one is negative, each capped by the pair before it. Measuring `tau` takes
    chains of at least about fifty times `tau`.

    **Raises:** as `autocorrelation`.

    Source: Geyer (1992), section 3.3; Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), equation 11.
    """
    rho = autocorrelation(values)
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    pairs = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    # An antithetic chain may have less than 1; the bound limits how many draws are claimed for its steps.
    return float(max(2 * pairs.sum() - 1, 1 / np.log10(len(rho) + 10)))
