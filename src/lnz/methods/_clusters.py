"""Clusters of rows, from which mixtures start."""

import jax.random as jr
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray, Shaped

_MOST_ROWS = 2**14
_NUM_ROUNDS = 10


def clusters(
    key: PRNGKeyArray, rows: Shaped[np.ndarray, "n *shape"], num: int
) -> tuple[Float[np.ndarray, "m *shape"], Int[np.ndarray, " m"], Float[np.ndarray, "num *shape"]]:
    """At most 2**14 evenly spaced rows, the cluster of each, and the means of the clusters, in float64.

    The algorithm is k-means++, with the best of a few candidates for each centre, and then ten rounds of Lloyd's
    algorithm. Distances are taken on columns scaled to equal spread. A missing entry (nan) is replaced by the mean of
    its column. If rows repeat, clusters may be empty; the mean of an empty cluster is a row of another.

    Source: Arthur and Vassilvitskii (2007), section 2.2, and section 6 for the candidates.
    """
    shape = rows.shape[1:]
    some = np.array(rows[:: -(-len(rows) // _MOST_ROWS)], np.float64).reshape(-1, int(np.prod(shape)))
    is_known = ~np.isnan(some)
    count = np.maximum(is_known.sum(axis=0), 1)
    # Two passes, because a sum of numbers far from zero loses digits that the spread needs.
    mean = np.where(is_known, some, 0).sum(axis=0) / count
    mean += np.where(is_known, some - mean, 0).sum(axis=0) / count
    rest = np.where(is_known, some - mean, 0)
    spread = np.sqrt((rest**2).sum(axis=0) / count)
    scaled = rest / np.where(spread > 0, spread, 1)
    centres = _spread_out(np.random.RandomState(np.asarray(jr.bits(key, (4,), "uint32"))), scaled, num)
    for _ in range(_NUM_ROUNDS):
        label = _nearest(scaled, centres)
        sums, sizes = np.zeros_like(centres), np.bincount(label, minlength=num)
        np.add.at(sums, label, scaled)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    label = _nearest(scaled, centres)
    return (rest + mean).reshape(-1, *shape), label, (centres * spread + mean).reshape(-1, *shape)


def _spread_out(random: np.random.RandomState, rows: np.ndarray, num: int) -> np.ndarray:
    """Rows far from each other: each is drawn in proportion to its squared distance from those before."""
    chosen = [rows[random.randint(len(rows))]]
    nearest = ((rows - chosen[0]) ** 2).sum(axis=1)
    for _ in range(num - 1):
        total = nearest.sum()
        weights = nearest / total if total > 0 else None  # None: every distinct row has been chosen
        candidates = rows[random.choice(len(rows), 2 + int(np.log(num)), p=weights)]
        closer = [np.minimum(nearest, ((rows - row) ** 2).sum(axis=1)) for row in candidates]
        best = int(np.argmin([distances.sum() for distances in closer]))
        chosen, nearest = [*chosen, candidates[best]], closer[best]
    return np.stack(chosen)


def _nearest(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.argmin((centres**2).sum(axis=1) - 2 * rows @ centres.T, axis=1)
