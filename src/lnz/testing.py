"""The law suite: checks that any density, bijection, path, sampler or normaliser must pass.

Each check raises `AssertionError` with a sentence that says which law failed and by how much. They compare with
enumeration, quadrature or automatic differentiation, so instances must be small (up to about 2**16 states, two
continuous dimensions). Statistical checks take a fixed key and state the chance of a false alarm.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from ._algorithm import AbstractSampler
from ._bijection import AbstractBijection
from ._density import (
    AbstractBlockDensity,
    AbstractCollapsibleDensity,
    AbstractDensity,
    AbstractDistribution,
    AbstractExponentialFamily,
    AbstractNormalizer,
    AbstractPath,
)
from ._estimate import Estimate
from ._model_file import load, save
from ._space import AbstractSpace
from .normalizers import add_compensated, exact_samples
from .samplers import run_chains


def _eps(dtype: Any = None) -> float:
    return float(jnp.finfo(jnp.result_type(float) if dtype is None else dtype).eps)


def _require(holds: Any, message: str) -> None:
    if not bool(holds):
        raise AssertionError(message)


def _require_close(got: Any, expected: Any, tolerance: float, law: str) -> None:
    error = float(np.max(np.abs(np.asarray(got, np.float64) - np.asarray(expected, np.float64)), initial=0.0))
    _require(error <= tolerance, f"{law}: differs by {error:.3g}, more than {tolerance:.3g}.")


def enumerate_states(space: AbstractSpace) -> Array:
    """All points of a finite space, `[num_points, *shape]`."""
    if space.num_points is None:
        raise ValueError(f"{space} is not finite, so it cannot be enumerated.")
    points, _ = space.quadrature()
    return points


def exact_log_normalizer(density: AbstractDensity, **grid: Any) -> float:
    """`log int p~` on the density's own space, in nats: no smaller layer, no shortcut."""

    @eqx.filter_jit
    def integrate(density):
        return density.space.quadrature(**grid).log_integral(density.log_density)

    return float(integrate(density))


def check_density(
    density: AbstractDensity, key: PRNGKeyArray, *, log_normalizer: float | None = None, **grid: Any
) -> None:
    """The laws of densities that need no algorithm.

    - A distribution sums or integrates to one; another density to `log_normalizer`, if given.
    - Draws of a distribution follow `log_prob`, with a false alarm in fewer than one of a million keys.
    - `sample_and_log_prob` agrees with `log_prob`; draws under `vmap` with split keys differ.
    - A collapsed density has the same normaliser; exponential families obey their defining equation.

    `grid` goes to `space.quadrature`; its error must be below 1e-4 nats in float32 and 1e-6 in float64.
    """
    tolerance = max(1e-6, 800 * _eps())
    if isinstance(density, AbstractDistribution):
        log_normalizer = 0.0
    if log_normalizer is not None:
        total = exact_log_normalizer(density, **grid)
        scale = max(1.0, abs(log_normalizer))
        _require_close(
            total, log_normalizer, tolerance * scale, f"{type(density).__name__} integrates to its normaliser"
        )
    if isinstance(density, AbstractCollapsibleDensity):
        small = exact_log_normalizer(density.collapsed(), **grid)
        own = exact_log_normalizer(density, **grid)
        _require_close(small, own, tolerance * max(1.0, abs(own)), "both summation orders give one Z")
    if isinstance(density, AbstractDistribution):
        _check_draws(density, key, **grid)
    if isinstance(density, AbstractExponentialFamily):
        _check_exponential_family(density, key)


def _check_draws(distribution: AbstractDistribution, key: PRNGKeyArray, **grid: Any) -> None:
    num = 20_000
    x, log_p = eqx.filter_jit(distribution.sample_and_log_prob)(key, (num,))
    _require(x.shape == (num, *distribution.space.shape), f"draws have shape {x.shape}")
    _require(bool(jnp.all(jax.vmap(distribution.space.contains)(x))), "draws lie in the space")
    again = jax.vmap(distribution.log_prob)(x)
    scale = float(jnp.max(jnp.abs(again))) + 1
    _require_close(log_p, again, 200 * _eps() * scale, "`sample_and_log_prob` agrees with `log_prob`")
    if distribution.space.num_points is not None:
        check_follows(x, distribution)
    else:
        _check_moments(x, distribution, **grid)
    two = jax.vmap(distribution.sample)(jr.split(key, 64))
    _require(len(np.unique(np.asarray(two).reshape(64, -1), axis=0)) > 1, "vmapped draws differ between examples")


def check_follows(x: Array, density: AbstractDensity, false_alarm: float = 1e-6) -> None:
    """Independent draws `x [num, ...]` of a finite space follow `exp(log_density)`, normalised.

    The total variation between counts and probabilities has mean at most `sum_i sqrt(p_i (1 - p_i) / num) / 2` and, by
    McDiarmid's inequality, exceeds it by t with probability at most `exp(-2 num t^2)`.
    """
    num = len(x)
    points = enumerate_states(density.space)
    log_p = jax.vmap(density.log_density)(points)
    p = np.asarray(jnp.exp(log_p - logsumexp(log_p)), np.float64)
    index = {np.asarray(point).tobytes(): i for i, point in enumerate(points)}
    rows = np.asarray(x.astype(points.dtype))
    counts = np.zeros(len(p))
    for row in rows:
        counts[index[np.ascontiguousarray(row).tobytes()]] += 1
    distance = 0.5 * np.sum(np.abs(counts / num - p))
    allowed = 0.5 * np.sum(np.sqrt(p * (1 - p) / num)) + math.sqrt(math.log(1 / false_alarm) / (2 * num))
    _require(
        distance <= allowed,
        f"draws follow the density: total variation {distance:.4f}, more than {allowed:.4f} for {num} draws.",
    )


def _check_moments(x: Array, density: AbstractDensity, **grid: Any) -> None:
    """First and second moments of draws agree with quadrature within 6 standard errors (1 alarm in 10 million)."""
    points, log_w = density.space.quadrature(**grid)
    log_p = jax.vmap(density.log_density)(points) + log_w
    p = np.asarray(jnp.exp(log_p - logsumexp(log_p)), np.float64)

    def features(x):
        flat = np.asarray(x, np.float64).reshape(len(x), -1)
        centre = flat - (p @ np.asarray(points, np.float64).reshape(len(points), -1))[None]
        products = centre[:, :, None] * centre[:, None, :]
        return np.concatenate([centre, products.reshape(len(x), -1)], axis=1)

    at_points, at_draws = features(points), features(x)
    mean = p @ at_points
    spread = np.sqrt(p @ at_points**2 - mean**2)
    pulls = np.abs(at_draws.mean(axis=0) - mean) / (spread / math.sqrt(len(x)) + 1e-9)
    _require(
        np.all(pulls < 6),
        f"moments of draws agree with quadrature: off by {pulls.max():.1f} standard errors.",
    )


def _check_exponential_family(family: AbstractExponentialFamily, key: PRNGKeyArray) -> None:
    name = type(family).__name__
    x = family.sample(key)
    inner = jnp.dot(family.natural, family.statistics(x))
    rebuilt = inner - family.log_partition() + family.log_base(x)
    tolerance = 200 * _eps() * (float(jnp.abs(inner)) + float(jnp.abs(family.log_partition())) + 1)
    _require_close(rebuilt, family.log_prob(x), tolerance, f"{name}: natural . statistics - log_partition + log_base")
    same = family.with_mean(family.mean())
    _require_close(same.log_prob(x), family.log_prob(x), 2000 * _eps() * 10, f"{name}: with_mean inverts mean")
    draws = jax.vmap(family.statistics)(family.sample(key, (20_000,)))
    error = jnp.std(draws, axis=0) / math.sqrt(20_000) + 1e-6
    pulls = float(jnp.max(jnp.abs(jnp.mean(draws, axis=0) - family.mean()) / error))
    _require(pulls < 6, f"{name}: mean() is the mean of statistics: off by {pulls:.1f} standard errors.")


def check_bijection(
    bijection: AbstractBijection, x: Float[Array, "num ..."], *, tolerance: float | None = None
) -> None:
    """Round trips, log-determinants against automatic differentiation, and `ld + ld_inv = 0`, at the points `x`.

    The tolerance is 1e-10 in float64 and 5e-5 in float32, times the size of the numbers involved.
    """
    tolerance = (1e-10 if x.dtype == jnp.float64 else 5e-5) if tolerance is None else tolerance
    y, log_det = jax.vmap(bijection.forward_and_log_det)(x)
    back, inverse_log_det = jax.vmap(bijection.inverse_and_log_det)(y)
    scale = 1 + float(jnp.max(jnp.abs(x))) + float(jnp.max(jnp.abs(y)))
    _require_close(back, x, tolerance * scale, "inverse after forward is the identity")
    _require_close(log_det + inverse_log_det, 0 * log_det, tolerance * scale, "log-determinants cancel")

    def flat_forward(flat):
        return bijection.forward_and_log_det(flat.reshape(x.shape[1:]))[0].reshape(-1)

    jacobian = jax.vmap(jax.jacfwd(flat_forward))(x.reshape(len(x), -1))
    exact = jnp.linalg.slogdet(jacobian)[1]
    _require_close(log_det, exact, tolerance * scale, "log-determinant equals that of the Jacobian")
    again = jax.vmap(bijection.forward_and_log_det)(back)[0]
    _require_close(again, y, tolerance * scale, "forward after inverse is the identity")


def check_path(path: AbstractPath, target: AbstractDensity, x: Array) -> None:
    """`at(0)` is the start, `at(1)` the target, `log_ratio` the difference, and it adds up, at the points `x`.

    The sum of `log_ratio` over 100,000 temperatures must be within 1e-3 nats of the end-to-end difference computed in
    float64 (in float64: 1e-8), summed as annealed importance sampling sums.
    """
    wide = x.dtype == jnp.float64 or jnp.result_type(float) == jnp.float64

    def at(beta):
        return jax.vmap(path.at(beta).log_density)(x)

    start = jax.vmap(path.start.log_prob)(x)
    scale = 1 + float(jnp.max(jnp.abs(at(1.0)))) + float(jnp.max(jnp.abs(start)))
    _require_close(at(0.0), start, 50 * _eps() * scale, "path.at(0) is path.start, normalised")
    _require_close(at(1.0), jax.vmap(target.log_density)(x), 50 * _eps() * scale, "path.at(1) is the target")
    for beta0, beta1 in ((0.0, 1.0), (0.2, 0.7), (0.6, 0.59), (0.3, 0.3001)):
        ratio = jax.vmap(lambda x, b0=beta0, b1=beta1: path.log_ratio(b0, b1, x))(x)
        _require_close(
            ratio, at(beta1) - at(beta0), 100 * _eps() * scale, "log_ratio is the difference of log densities"
        )
    total = _sum_ratios(path, x, 100_000)
    end_to_end = _float64_difference(path, x)
    _require_close(total, end_to_end, 1e-8 * scale if wide else 1e-3, "log_ratio adds up over 100,000 temperatures")


def _float64_difference(path: AbstractPath, x: Array) -> np.ndarray:
    """`at(1) - at(0)` computed in float64 throughout, whatever the precision in force."""
    with jax.enable_x64(True):

        def widen(leaf):
            return leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf

        wide_path, wide_x = jax.tree.map(widen, (path, x))
        ends = [jax.vmap(wide_path.at(beta).log_density)(wide_x) for beta in (0.0, 1.0)]
        return np.asarray(ends[1] - ends[0])


@eqx.filter_jit
def _sum_ratios(path: AbstractPath, x: Array, num: int) -> Array:
    betas = jnp.linspace(0.0, 1.0, num + 1)

    def step(carry, pair):
        term = jax.vmap(lambda x: path.log_ratio(pair[0], pair[1], x))(x)
        return add_compensated(carry[0], carry[1], term), None

    zeros = jnp.zeros(len(x), betas.dtype)
    return jax.lax.scan(step, (zeros, zeros), (betas[:-1], betas[1:]))[0][0]


def check_conditionals(density: AbstractBlockDensity) -> None:
    """Every block conditional equals the one found by enumerating the joint of all blocks, and `pi P = pi`.

    Where no block is auxiliary the joint is the density itself. An auxiliary first block is summed out of the density,
    so the joint is the density times that block's conditional, and the conditionals of all others are held to it.
    A conditional must not depend on the present value of its own block.
    """
    tables, joint = _enumerate_blocks(density)
    tolerance = max(1e-10, 200 * _eps()) * (1 + float(np.max(np.abs(joint))))
    for block in range(density.num_blocks):
        enumerated = joint - logsumexp(joint, axis=block, keepdims=True)
        given = _over_blocks(
            tables, lambda *blocks, block=block: density.conditional(block, blocks).log_prob(blocks[block])
        )
        _require_close(given, enumerated, tolerance, f"conditional of block {block} equals the enumerated one")
    states, kernel = gibbs_transition_matrix(density)
    log_p = jax.vmap(density.log_density)(states)
    p = np.asarray(jnp.exp(log_p - logsumexp(log_p)), np.float64)
    tolerance = max(1e-10, 100 * _eps())
    _require_close(kernel.sum(axis=1), np.ones(len(p)), tolerance, "conditionals sum to one")
    _require_close(p @ kernel, p, tolerance, "a Gibbs sweep leaves the density invariant (pi P = pi)")


def _enumerate_blocks(density: AbstractBlockDensity) -> tuple[list[Array], Float[Array, "..."]]:
    """All values of each block, and the log joint of all blocks with one axis for each."""
    blocks = density.split(enumerate_states(density.space)[0])
    tables = [
        enumerate_states(density.conditional(i, blocks).space).astype(blocks[i].dtype)
        for i in range(density.num_blocks)
    ]
    joint = _over_blocks(tables, lambda *blocks: density.log_density(density.join(blocks)))
    if joint.size > (density.space.num_points or 0):  # the first block is auxiliary
        joint = joint + _over_blocks(tables, lambda *blocks: density.conditional(0, blocks).log_prob(blocks[0]))
    return tables, joint


def _over_blocks(tables: list[Array], function: Callable) -> Float[Array, "..."]:
    """`function` of every combination of block values, with one axis for each block."""
    for axis in reversed(range(len(tables))):
        function = jax.vmap(function, in_axes=[0 if i == axis else None for i in range(len(tables))])
    return jax.jit(function)(*tables)


def gibbs_transition_matrix(density: AbstractBlockDensity) -> tuple[Array, np.ndarray]:
    """`(states [n, ...], P [n, n])` of one sweep over all blocks, exactly, from the conditionals' probabilities."""
    states = enumerate_states(density.space)
    index = {np.asarray(state).tobytes(): i for i, state in enumerate(states)}
    kernel = np.zeros((len(states), len(states)))
    for row, state in enumerate(states):
        branches: dict[bytes, tuple[tuple[Array, ...], float]] = {b"": (density.split(state), 1.0)}
        for block in range(density.num_blocks):
            branches = _branch(density, block, branches)
        for blocks, probability in branches.values():
            kernel[row, index[np.asarray(density.join(blocks)).tobytes()]] += probability
    return states, kernel


def _branch(density: AbstractBlockDensity, block: int, branches: dict) -> dict:
    """Each partial sweep goes on to every value of the next block."""
    result: dict[bytes, tuple[tuple[Array, ...], float]] = {}
    for blocks, probability in branches.values():
        conditional = density.conditional(block, blocks)
        values = enumerate_states(conditional.space)
        weights = np.exp(np.asarray(jax.vmap(conditional.log_prob)(values), np.float64))
        for value, weight in zip(values, weights, strict=True):
            new = (*blocks[:block], value.astype(blocks[block].dtype), *blocks[block + 1 :])
            name = b"".join(np.asarray(part).tobytes() for part in new)
            result[name] = (new, result.get(name, (new, 0.0))[1] + probability * weight)
    return result


def check_sampler(
    key: PRNGKeyArray,
    sampler: AbstractSampler,
    density: AbstractDensity,
    *,
    num_chains: int = 20_000,
    num_steps: int = 3,
    **grid: Any,
) -> None:
    """Exact draws in, `num_steps` transitions, exact draws out: the sampler leaves `density` invariant.

    On finite spaces the total variation must be within its Monte Carlo error; on continuous ones (which must be
    distributions) the first two moments within 6 standard errors. False alarms: fewer than one key of a million.
    Chains must also move, and differently from each other.
    """
    key_start, key_run = jr.split(key)
    if density.space.num_points is None:
        _require(isinstance(density, AbstractDistribution), "continuous targets must be distributions")
        start = density.sample(key_start, (num_chains,))  # pyright: ignore[reportAttributeAccessIssue]
    else:
        start = jax.jit(lambda key: exact_samples(key, density, num_chains))(key_start)
    end = _advance(key_run, sampler, density, start, num_steps)
    _require(bool(jnp.any(end != start)), "the sampler moves")
    same_start = jnp.broadcast_to(start[:1], start.shape)  # the same shape, so that nothing is compiled anew
    spread = np.asarray(_advance(key_run, sampler, density, same_start, num_steps)[:64]).reshape(64, -1)
    _require(len(np.unique(spread, axis=0)) > 1, "vmapped chains get different noise")
    if density.space.num_points is None:
        _check_moments(end, density, **grid)
    else:
        check_follows(end, density)


@eqx.filter_jit
def _advance(key, sampler, density, positions, num_steps):
    return run_chains(key, density, sampler, positions, num_steps)[0]


def check_normalizer(estimates: Estimate, exact: float, *, coverage: tuple[float, float] | None = (0.90, 0.99)) -> None:
    """Independent estimates (batched along their first axis) agree with the exact log normaliser.

    - Their mean errs in the stated direction, up to 4 standard errors of the mean; an exact one does not err.
    - `value +- 2 s.e.` covers the truth in a fraction of them inside `coverage`; `None` skips that, for
      estimates whose Pareto k says that the error is not to be trusted.
    """
    value = np.asarray(estimates.value, np.float64)
    error = np.asarray(estimates.standard_error, np.float64)
    if estimates.bound == "exact":
        _require_close(value, np.full_like(value, exact), 200 * _eps() * (1 + abs(exact)), "an exact normaliser")
        return
    slack = 4 * value.std(ddof=1) / math.sqrt(len(value)) + 100 * _eps() * (1 + abs(exact))
    excess = value.mean() - exact
    if estimates.bound == "lower":
        _require(excess <= slack, f"a lower bound in expectation: {excess:.3g} above, more than {slack:.3g}.")
    if estimates.bound == "upper":
        _require(excess >= -slack, f"an upper bound in expectation: {-excess:.3g} below, more than {slack:.3g}.")
    if coverage is not None:
        covered = float(np.mean(np.abs(value - exact) <= 2 * error))
        _require(
            coverage[0] <= covered <= coverage[1],
            f"2-sigma intervals cover the truth in {covered:.2f} of {len(value)} runs, not in {coverage}.",
        )


def repeat_normalizer(
    key: PRNGKeyArray, normalizer: AbstractNormalizer, density: AbstractDensity, num: int = 100
) -> Estimate:
    """`num` independent runs, batched: what `check_normalizer` takes."""

    @eqx.filter_jit
    def run(key, normalizer, density):
        return jax.lax.map(lambda key: normalizer(key, density), jr.split(key, num), batch_size=10)

    return run(key, normalizer, density)


def check_save(model: Any) -> None:
    """`load(save(model))` has the same structure and bit-equal arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lnz"
        save(path, model)
        loaded = load(path)
    _require(
        jax.tree.structure(loaded) == jax.tree.structure(model),
        "a loaded model has the structure of the saved one",
    )
    for new, old in zip(jax.tree.leaves(loaded), jax.tree.leaves(model), strict=True):
        same = type(new) is type(old) and np.asarray(new).dtype == np.asarray(old).dtype
        _require(same and np.asarray(new).tobytes() == np.asarray(old).tobytes(), "loaded arrays are bit-equal")


def check_gradient(
    function: Callable[[Any], Array],
    model: Any,
    gradient: Any,
    *,
    tolerance: float,
    directions: Sequence[int] = range(3),
) -> None:
    """`gradient` agrees with central finite differences of `function` along random directions (float64 advised)."""
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(params)
    step = 1e-5 if jnp.result_type(float) == jnp.float64 else 1e-2
    for seed in directions:
        keys = jr.split(jr.key(seed), len(leaves))
        direction = jax.tree.unflatten(
            structure, [jr.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
        )

        def along(t, direction=direction):
            return function(eqx.combine(jax.tree.map(lambda p, d: p + t * d, params, direction), rest))

        numeric = (float(along(step)) - float(along(-step))) / (2 * step)
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), eqx.filter(gradient, eqx.is_inexact_array), direction)
        exact = float(sum(jax.tree.leaves(products)))
        _require(
            abs(numeric - exact) <= tolerance * (1 + abs(exact)),
            f"gradient along direction {seed}: {exact:.6g}, but finite differences give {numeric:.6g}.",
        )
