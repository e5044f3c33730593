"""Bijections from a flow to the units of the data: put last, they keep densities in those units."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..bijections import Affine, ToSupport
from ..core import in_two_parts
from ..data import known_entries
from ..modules import as_numbers, unmasked
from ..spaces import AbstractSpace, Euclidean, Interval


def standardise(data: Any, observed: Any = None) -> Affine:
    """`y = scale x + loc` with the mean and the standard deviation of each column of `data`, from a flow to the data.

    `lnz.Transformed(base, lnz.bijections.Chain(flow, lnz.flows.standardise(data)))` trains on the data as they are. The
    flow sees columns of mean 0 and variance 1, and the log-determinant keeps densities in the units of the data.
    `lnz.bijections.Inverse(standardise(data))` maps data to standard units.

    Mean and scale of each column are parameters, and training starts from them. The mean is held in two parts, `offset`
    and `origin`, and only `offset` is trained. So columns far from zero, such as Unix seconds of 1.7e9 +- 60, keep
    their digits in `lnz.fit`, `lnz.evaluate` and `lnz.sample`, which move rows of float64 by the origin (`lnz.local`).

    **Arguments:**

    - `data`: `[n, *shape]`, n of at least 2; NumPy (in float64 where columns lie far from zero) or JAX. Use the
      training part alone.
    - `observed`: mask of the known entries, `[n, *shape]`, such as `~np.isnan(data)`. Moments are those of the known
      entries. A masked array as `data` has its own mask.

    **Raises:** `ValueError` for known values that are not finite, for fewer than two rows, and for a constant column,
    which has no density: drop it.
    """
    data, observed = unmasked(data, observed)
    array = np.asarray(as_numbers(data))
    if array.ndim < 1 or len(array) < 2:
        raise ValueError(f"`standardise(data)` needs at least two rows; got an array of shape {array.shape}.")
    known = np.ones(array.shape, bool)
    if observed is not None:
        array, known = known_entries(Euclidean(array.shape[1:]), data, observed)
    wide = array.astype(np.float64)
    if not np.isfinite(wide).all():
        place = tuple(np.argwhere(~np.isfinite(wide))[0].tolist())
        advice = " For missing entries pass `observed=~np.isnan(data)`." if np.isnan(wide[place]) else ""
        raise ValueError(f"`standardise(data)` needs finite values; got {wide[place]} at {place}.{advice}")
    # The rounded mean of equal numbers may differ from them, which would look like a spread.
    low, high = np.where(known, wide, np.inf).min(axis=0), np.where(known, wide, -np.inf).max(axis=0)
    constant = ~(low < high)  # also without known entries
    if constant.any():
        column = tuple(np.argwhere(constant)[0].tolist())
        values = wide[(slice(None), *column)][known[(slice(None), *column)]]
        words = f"is constant ({values[0]})" if len(values) else "has no known entry"
        raise ValueError(
            f"`standardise(data)`: column {column[0] if len(column) == 1 else column} {words}, so it has no density. "
            "Drop it."
        )
    return affine_of_moments(wide.mean(axis=0, where=known), wide.std(axis=0, where=known))


def affine_of_moments(mean: Any, sd: Any) -> Affine:
    """`y = sd x + mean` from moments in float64, with the mean in two parts."""
    origin, loc = in_two_parts(mean)
    return Affine(loc, jnp.asarray(sd, loc.dtype), origin)


def logit(shape: int | tuple[int, ...] | AbstractSpace, alpha: float = 1e-6) -> ToSupport:
    """`x = (sigmoid(z) - alpha) / (1 - 2 alpha)`: from a flow to data in [0, 1], such as dequantised images.

    The inverse, `z = logit(alpha + (1 - 2 alpha) x)`, is finite also where x is 0 or 1. The log-determinant keeps
    densities in the units of the data. The support is wider than [0, 1] by `alpha / (1 - 2 alpha)` at each end. For
    exactly [0, 1], alpha = 0, use `lnz.bijections.ToSupport(lnz.Interval(shape))`.

    Put it last: `lnz.bijections.Chain(flow, lnz.flows.logit(shape))`.

    **Arguments:**

    - `shape`: number of dimensions, or shape of one example; or the interval in which the data lie,
      `lnz.Interval(...)`, when it is not [0, 1].
    - `alpha`: at least 0 and less than 1/2; the paper has 1e-6 for MNIST and 0.05 for CIFAR-10.

    Source: Papamakarios, Pavlakou and Murray (2017), who treat pictures this way; arXiv:1705.07057.
    """
    if not 0 <= alpha < 0.5:
        raise ValueError(f"`logit(alpha=...)` must be at least 0 and less than 1/2; got {alpha}.")
    if isinstance(shape, AbstractSpace) and not isinstance(shape, Interval):
        raise TypeError(f"`logit(shape)` needs a shape or an `lnz.Interval`; got {shape}.")
    data = shape if isinstance(shape, Interval) else Interval(shape)
    margin = alpha / (1 - 2 * alpha) * (data.high - data.low)
    return ToSupport(Interval(data.shape, data.low - margin, data.high + margin))
