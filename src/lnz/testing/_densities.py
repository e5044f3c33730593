"""Laws of densities and distributions, by enumeration and quadrature."""

import math
import tempfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, PRNGKeyArray

from ..bijections import ToSupport
from ..core import (
    AbstractCollapsibleDensity,
    AbstractDensity,
    AbstractDistribution,
    AbstractExponentialFamily,
    Estimate,
    closed_form_mean,
)
from ..files import load, save
from ..normalizers import log_integral_with_error
from ..spaces import AbstractSpace, each_variable, nearest_inside
from ._require import eps, require, require_close


def enumerate_states(space: AbstractSpace) -> Array:
    """All points of a finite space, `[num_points, *shape]`."""
    if space.num_points is None:
        raise ValueError(f"{space} is not finite, so it cannot be enumerated.")
    points, _ = space.quadrature()
    return points


def exact_log_normalizer(density: AbstractDensity, **grid: Any) -> float:
    """`log int p~` on the density's own space, in nats: no smaller layer and no other shortcut."""

    return float(_log_integral(density, grid))


@eqx.filter_jit
def _log_integral(density, grid):
    return density.space.quadrature(**grid).log_integral(density.log_density)


def check_density(
    density: AbstractDensity, key: PRNGKeyArray, *, log_normalizer: float | None = None, **grid: Any
) -> None:
    """Checks the laws of densities that need no algorithm.

    - A distribution sums or integrates to one; another density to `log_normalizer`, if given.
    - Draws of a distribution follow `log_prob`. On a finite space this is tested by total variation, with a false alarm
      in fewer than one of a million keys; on a continuous one by moments and by Kolmogorov and Smirnov's test of each
      variable, in one of 10,000.
    - Where the grid does not resolve a distribution (narrow, far away, infinite at an end, heavy tails), its draws test
      both laws instead, to their own error, by importance sampling of a region where p is large.
    - Draws lie in the space and have finite log-probabilities, which are minus infinity outside.
    - `sample_and_log_prob` agrees with `log_prob`; draws under `vmap` with split keys differ.
    - `mean()`, where there is a closed form, is the mean of draws within 5 standard errors.
    - A collapsed density has the same normaliser; exponential families obey their defining equation.

    `grid` has `num` and `bounds`, as for `lnz.normalizers.Quadrature`. The integral must be right to 1e-4 nats in
    float32 and 1e-6 in float64, plus three times the error of the grid.
    """
    tolerance = max(1e-6, 800 * eps())
    if isinstance(density, AbstractDistribution):
        log_normalizer = 0.0
    estimate = None if log_normalizer is None else _on_grid(density, grid)
    is_resolved = estimate is not None and estimate.reliable and float(estimate.standard_error) < _RESOLVED
    if estimate is not None and log_normalizer is not None:
        name = type(density).__name__
        if not is_resolved and not isinstance(density, AbstractDistribution):
            reasons = "; ".join(estimate.doubts) or f"its error is {estimate.standard_error:.2g} nats"
            require(False, f"the grid resolves {name}: {reasons}. Pass `num` and `bounds`.")
        if is_resolved:
            allowed = tolerance * max(1.0, abs(log_normalizer)) + 3 * float(estimate.standard_error)
            require_close(estimate.value, log_normalizer, allowed, f"{name} integrates to its normaliser")
    if isinstance(density, AbstractCollapsibleDensity):
        small = exact_log_normalizer(density.collapsed(), **grid)
        own = exact_log_normalizer(density, **grid)
        require_close(small, own, tolerance * max(1.0, abs(own)), "both summation orders give one Z")
    if isinstance(density, AbstractDistribution):
        _check_draws(density, key, is_resolved, **grid)
    if isinstance(density, AbstractExponentialFamily):
        _check_exponential_family(density, key)


_RESOLVED = 1e-2  # nats: with a larger error a grid says less about a distribution than draws do


@eqx.filter_jit
def _on_grid(density, grid):
    """The integral on the density's own space."""
    if density.space.num_points is not None:
        return Estimate.exact(_log_integral(density, {}))
    return log_integral_with_error(density, **grid)


def _check_draws(distribution: AbstractDistribution, key: PRNGKeyArray, is_resolved: bool, **grid: Any) -> None:
    num = 20_000
    x, log_p, again, outside, lie_in_space, two = _draw(distribution, key, num, _places_outside(distribution.space))
    require(x.shape == (num, *distribution.space.shape), f"draws have shape {x.shape}")
    require(lie_in_space, "draws lie in the space")
    require(np.all(np.isfinite(again)), "draws have finite log-probabilities")
    require(np.all(np.asarray(outside) == -np.inf), f"log-probabilities outside the space are -inf; got {outside}")
    scale = float(np.max(np.abs(again))) + 1
    require_close(log_p, again, 200 * eps() * scale, "`sample_and_log_prob` agrees with `log_prob`")
    if distribution.space.num_points is not None:
        check_follows(x, distribution)
    elif is_resolved:
        _check_moments(x, distribution, **grid)
    else:
        _check_by_draws(distribution, np.asarray(x), np.asarray(again, np.float64))
    mean = closed_form_mean(distribution)
    if mean is not None:
        require(mean.shape == x.shape[1:], f"mean() has the shape of one example; got {mean.shape}.")
        draws = np.asarray(x, np.float64)
        pulls = np.abs(draws.mean(axis=0) - mean) / (draws.std(axis=0) / math.sqrt(num) + 1e-9)
        require(np.all(pulls < 5), f"mean() is the mean of draws: off by {np.max(pulls):.1f} standard errors.")
    require(len(np.unique(np.asarray(two).reshape(64, -1), axis=0)) > 1, "vmapped draws differ between examples")


def _places_outside(space: AbstractSpace) -> tuple[tuple[int, float], ...]:
    """The place of each variable with ends, beside numbers beyond them."""
    found = []
    for i, one in enumerate(each_variable(space)):
        low, high = one.ends or (-math.inf, math.inf)
        found += [(i, end) for end in (low - 1, low - 1000, high + 1, high + 1000) if math.isfinite(end)]
    return tuple(found)


@eqx.filter_jit
def _draw(distribution, key, num, places):
    """All draws to check, and a draw moved outside at each of `places`, in one program."""
    x, log_p = distribution.sample_and_log_prob(key, (num,))
    rows = [x[0].at[place if x.ndim > 1 else ()].set(jnp.asarray(value).astype(x.dtype)) for place, value in places]
    again = jax.vmap(distribution.log_prob)(jnp.concatenate([x, jnp.stack(rows)]) if rows else x)
    lie_in_space = jnp.all(jax.vmap(distribution.space.contains)(x))
    return x, log_p, again[:num], again[num:], lie_in_space, jax.vmap(distribution.sample)(jr.split(key, 64))


def check_follows(x: Array, density: AbstractDensity, false_alarm: float = 1e-6) -> None:
    """Checks that independent draws `x [num, ...]` of a finite space follow `exp(log_density)`, normalised.

    The total variation between counts and probabilities has mean at most `sum_i sqrt(p_i (1 - p_i) / num) / 2` and, by
    McDiarmid's inequality, exceeds it by t with probability at most `exp(-2 num t^2)`.
    """
    num = len(x)
    require(num >= 100, f"there are enough draws to say anything; got {num}.")
    enumerate_states(density.space)  # raises an error if the space is not finite
    points, p = _probabilities(density, {})
    p = np.asarray(p, np.float64)
    index = {np.asarray(point).tobytes(): i for i, point in enumerate(np.asarray(points))}
    rows = np.asarray(x.astype(points.dtype))
    counts = np.zeros(len(p))
    for row in rows:
        counts[index[np.ascontiguousarray(row).tobytes()]] += 1
    distance = 0.5 * np.sum(np.abs(counts / num - p))
    allowed = 0.5 * np.sum(np.sqrt(p * (1 - p) / num)) + math.sqrt(math.log(1 / false_alarm) / (2 * num))
    require(
        distance <= allowed,
        f"draws follow the density: total variation {distance:.4f}, more than {allowed:.4f} for {num} draws.",
    )


def _check_by_draws(distribution: AbstractDistribution, x: np.ndarray, log_p: np.ndarray) -> None:
    """Checks that `E_p[q(x) 1_A(x) / p(x)] = Q(A)`, with A where p is large, so that the left side varies little.

    In unbounded coordinates; q is a mixture of normals around 100 of the draws. Both sides are averages of independent
    numbers, with a false alarm in two of a million keys.
    """
    space = distribution.space
    if space.unbounded is None:
        return
    num_centres = 100
    rng = np.random.default_rng(0)
    t, log_slopes = (np.asarray(a, np.float64) for a in _unbounded(space, x))
    t = t.reshape(len(t), -1)
    log_p = log_p - log_slopes  # of t
    centres, t, log_p = t[:num_centres], t[num_centres:], log_p[num_centres:]
    low, high = np.quantile(t, [0.25, 0.75], axis=0)
    scale = 0.3 * (high - low) / 1.35 + 1e-30
    new = centres[rng.integers(num_centres, size=len(t))] + scale * rng.standard_normal(t.shape)
    new = new.astype(x.dtype).reshape(-1, *space.unbounded.shape)
    log_p_new = np.asarray(_log_prob_unbounded(distribution, new), np.float64)
    cut = np.quantile(log_p, 0.2)

    def log_q(t):
        square = sum((t[:, None, i] - centres[None, :, i]) ** 2 / scale[i] ** 2 for i in range(t.shape[1]))
        constant = np.sum(np.log(scale)) + 0.5 * t.shape[1] * math.log(2 * math.pi) + math.log(num_centres)
        return np.logaddexp.reduce(-0.5 * square, axis=1) - constant

    ratio = np.where(log_p > cut, np.exp(np.minimum(log_q(t) - log_p, 700)), 0)
    share = log_p_new > cut
    spread = math.sqrt((ratio.var() + share.var()) / len(t)) + 1e-9
    pull = abs(ratio.mean() - share.mean()) / spread
    require(
        pull < 4.75,
        f"draws follow a density that integrates to one: {ratio.mean():.4f} in place of {share.mean():.4f}, "
        f"{pull:.1f} standard errors.",
    )


@eqx.filter_jit
def _unbounded(space, x):
    """Points `[n, ...]` in unbounded coordinates, and the log-determinants there."""
    return jax.vmap(ToSupport(space).inverse_and_log_det)(x)


@eqx.filter_jit
def _log_prob_unbounded(distribution, t):
    def one(t):
        x, log_det = ToSupport(distribution.space).forward_and_log_det(t)
        return distribution.log_prob(nearest_inside(distribution.space, x)) + log_det

    return jax.vmap(one)(t)


@eqx.filter_jit
def _probabilities(density, grid):
    """The points of a grid and their probabilities under `density`, normalised."""
    points, log_w = density.space.quadrature(**grid)
    log_p = jax.vmap(density.log_density)(points) + log_w
    return points, jnp.exp(log_p - logsumexp(log_p))


def _check_moments(x: Array, density: AbstractDensity, **grid: Any) -> None:
    """Checks first and second moments of draws against quadrature, within 6 standard errors (1 alarm in 10 million)."""
    points, p = _probabilities(density, grid)
    p = np.asarray(p, np.float64)

    def features(x):
        flat = np.asarray(x, np.float64).reshape(len(x), -1)
        centre = flat - (p @ np.asarray(points, np.float64).reshape(len(points), -1))[None]
        products = centre[:, :, None] * centre[:, None, :]
        return np.concatenate([centre, products.reshape(len(x), -1)], axis=1)

    at_points, at_draws = features(points), features(x)
    mean = p @ at_points
    spread = np.sqrt(p @ at_points**2 - mean**2)
    pulls = np.abs(at_draws.mean(axis=0) - mean) / (spread / math.sqrt(len(x)) + 1e-9)
    require(
        np.all(pulls < 6),
        f"moments of draws agree with quadrature: off by {pulls.max():.1f} standard errors.",
    )
    is_real = density.space.real_entries.reshape(-1)
    _check_marginals(np.asarray(x, np.float64), np.asarray(points, np.float64), p, is_real)


def _check_marginals(x: np.ndarray, points: np.ndarray, p: np.ndarray, is_real: np.ndarray) -> None:
    """Kolmogorov and Smirnov's test of each variable against its distribution function on the grid.

    By the inequality of Dvoretzky, Kiefer and Wolfowitz, draws of the right density exceed the allowed distance in one
    of 10,000 keys, apart from the rounding of the grid. The variables of a vector are tested at 1e-4 together.
    """
    draws, grid = x.reshape(len(x), -1), points.reshape(len(points), -1)
    allowed = math.sqrt(math.log(2e4 * draws.shape[1]) / (2 * len(draws)))
    for column, values, is_continuous in zip(draws.T, grid.T, is_real, strict=True):
        places, which = np.unique(values, return_inverse=True)
        masses = np.bincount(which, p)
        if not is_continuous:
            up_to = np.searchsorted(np.sort(column), places, "right") / len(column)
            distance = np.max(np.abs(up_to - np.cumsum(masses)))
            require(distance <= allowed, f"counts follow the density: off by {distance:.4f}, more than {allowed:.4f}.")
            continue
        # A point of the grid stands for the interval around it, and half of that lies below: the trapezoid rule.
        at_places = np.cumsum(masses) - 0.5 * masses
        below = np.interp(np.sort(column), places, at_places)
        ranks = np.arange(1, len(column) + 1) / len(column)
        distance = max(np.max(ranks - below), np.max(below - ranks + 1 / len(column)))
        coarse = 0.25 * float(np.max(masses))  # how far a smooth function may be from its chord between two places
        require(
            distance <= allowed + coarse,
            f"draws follow the density: Kolmogorov-Smirnov {distance:.4f}, more than {allowed + coarse:.4f}.",
        )


def _check_exponential_family(family: AbstractExponentialFamily, key: PRNGKeyArray) -> None:
    name = type(family).__name__
    log_p, inner, log_partition, rebuilt, of_mean, mean, draws = _exponential_family(family, key)
    tolerance = 200 * eps() * (abs(float(inner)) + abs(float(log_partition)) + 1)
    require_close(rebuilt, log_p, tolerance, f"{name}: natural . statistics - log_partition + log_base")
    require_close(of_mean, log_p, 2000 * eps() * 10, f"{name}: with_expected_statistics inverts expected_statistics")
    draws = np.asarray(draws)
    error = np.std(draws, axis=0) / math.sqrt(len(draws)) + 1e-6
    pulls = float(np.max(np.abs(np.mean(draws, axis=0) - np.asarray(mean)) / error))
    require(pulls < 6, f"{name}: expected_statistics() is the mean of statistics: off by {pulls:.1f} standard errors.")


@eqx.filter_jit
def _exponential_family(family, key):
    x = family.sample(key)
    log_partition, expected = family.log_partition(), family.expected_statistics()
    inner = jnp.dot(family.natural, family.statistics(x))
    rebuilt = inner - log_partition + family.log_base(x)
    draws = jax.vmap(family.statistics)(family.sample(key, (20_000,)))
    again = family.with_expected_statistics(expected)
    return family.log_prob(x), inner, log_partition, rebuilt, again.log_prob(x), expected, draws


def check_save(model: Any) -> None:
    """Checks that `load(save(model))` has the same structure and bit-equal arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lnz"
        save(path, model)
        loaded = load(path)
    require(
        jax.tree.structure(loaded) == jax.tree.structure(model),
        "a loaded model has the structure of the saved one",
    )
    for new, old in zip(jax.tree.leaves(loaded), jax.tree.leaves(model), strict=True):
        same = type(new) is type(old) and np.asarray(new).dtype == np.asarray(old).dtype
        require(same and np.asarray(new).tobytes() == np.asarray(old).tobytes(), "loaded arrays are bit-equal")
