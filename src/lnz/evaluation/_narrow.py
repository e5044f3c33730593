"""A warning about normals that have collapsed onto single rows."""

import math
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..core import AbstractRealFamily, local
from ..data import SMALLEST_SCALE, UnboundedDensityWarning, smallest_gaps
from ..distributions import Mixture, Transformed

# Fewer rows can lie far apart by chance.
_ENOUGH_ROWS, _FEWEST_ROWS = 10, 4
_SLACK = 1.001  # allows for rounding, because logarithms of the scales are stored
_FAR = 18  # nats below the highest density: six standard deviations


def narrow_scales(model: Any, rows: Any) -> str | None:
    """A warning if scales of normals are no wider than a tenth of the smallest gap in their columns, else `None`.

    Only normals and mixtures of normals have such scales, and only components near one of the rows count. Fewer than
    10 rows can lie far apart by chance. Then only one case is judged: a single normal, 4 rows or more, and at least as
    many columns as rows, so that the rows do not determine the covariance.

    - `rows`: `[n, *space.shape]` in data coordinates, NaN for unknown entries.
    """
    base = model
    while isinstance(base, Transformed) and base.bijection.is_affine:
        base = base.base
    family = base.components if isinstance(base, Mixture) else base
    num, num_columns = len(rows), int(np.prod(rows.shape[1:]))
    are_many = num >= _ENOUGH_ROWS or (family is base and _FEWEST_ROWS <= num <= num_columns)
    if not isinstance(family, AbstractRealFamily) or not are_many:
        return None
    there = local(model)
    # Padded to a power of two with the last row, so that another number of rows compiles nothing.
    fill = np.minimum(np.arange(2 ** math.ceil(math.log2(len(rows)))), len(rows) - 1)
    z, base = jnp.asarray(np.asarray(there.to_local(rows))[fill], family.loc.dtype), there.model
    while isinstance(base, Transformed):
        z, base = jax.vmap(base.bijection.inverse_and_log_det)(z)[0], base.base
    gaps = smallest_gaps(np.asarray(z))
    scales = np.asarray(eqx.filter_vmap(_scales)(base.components) if isinstance(base, Mixture) else family.scales[None])
    is_narrow = (scales <= _SLACK * SMALLEST_SCALE * np.where(np.isfinite(gaps), gaps, 0)) & (scales > 0)
    if is_narrow.any():
        is_narrow &= _have_rows(base, scales, z).reshape(-1, *(1,) * (scales.ndim - 1))
    if not is_narrow.any():
        return None
    return (
        f"{is_narrow.sum()} of {scales.size} standard deviations of the model are below a tenth of the smallest gap "
        "between values: the model has collapsed onto single rows, or columns follow from each other. The density can "
        "grow there without bound, so its nats mean little. Use more rows, fewer components or columns, or a larger "
        "`EM(floor=...)`."
    )


def warn_of_narrow_scales(model: Any, rows: Any, stacklevel: int) -> list[str]:
    """Issues the warning of `narrow_scales`, if any, as an `UnboundedDensityWarning`, and returns it."""
    sentence = narrow_scales(model, rows)
    if sentence is None:
        return []
    warnings.warn(sentence, UnboundedDensityWarning, stacklevel=stacklevel + 1)
    return [sentence]


def _scales(family: AbstractRealFamily) -> Any:
    return family.scales


def _have_rows(base: Any, scales: np.ndarray, z: Any) -> np.ndarray:
    """Whether each component is the likeliest one of some row, and near this row."""
    observed = ~jnp.isnan(z)
    found = np.asarray(_log_joint(base, jnp.where(observed, z, 0), observed), np.float64)
    log_weights = np.asarray(jax.nn.log_softmax(base.logits) if isinstance(base, Mixture) else np.zeros(1))
    num = scales[0].size
    highest = log_weights - np.log(scales).reshape(len(scales), -1).sum(axis=1) - 0.5 * num * np.log(2 * np.pi)
    is_near = found > highest - _FAR - num
    is_near[~np.asarray(observed).reshape(len(z), -1).all(axis=1)] = True  # marginal densities have another maximum
    is_likeliest = found == found.max(axis=1, keepdims=True)
    return np.any(is_near & is_likeliest, axis=0)


@eqx.filter_jit
def _log_joint(base: Any, z: Any, observed: Any) -> Any:
    if isinstance(base, Mixture):
        return jax.vmap(base.log_joint)(z, observed)
    return jax.vmap(base.marginal_log_prob)(z, observed)[:, None]
