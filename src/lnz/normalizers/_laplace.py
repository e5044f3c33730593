"""Importance sampling from Student's t at the modes of a density."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..bijections import ToSupport, unbounded
from ..core import AbstractDensity, AbstractDistribution, AbstractNormalizer, Estimate, log_mean_exp
from ..modules import check_positive, replace, without_gradient
from ._rays import has_no_ends
from ._weights import with_derivative

_MOST_STEPS = 100
_DECREMENT = 0.1  # a search has converged within this many nats of the top
_DEEP = 15.0  # a mode this many nats below the best gets no equal share


class LaplaceImportance(AbstractNormalizer):
    """`log (1/n) sum_i p~(x_i) / q(x_i)`, `x_i ~ q`, with q from Laplace's approximation. A lower bound in expectation.

        q(u) = 0.9 sum_k a_k t_df(u; m_k, H_k^-1) + 0.1 start(u)

    The coordinates u are unconstrained, `x = ToSupport(space)(u)`. Damped Newton searches climb
    `log p~(x(u)) |dx/du|` from draws of the path's start (the prior, for a posterior). Each mode `m_k` found, with
    positive definite negative Hessian `H_k`, adds a multivariate Student t to q. Half of its share `a_k` follows
    Laplace's evidence, half is equal. The start keeps weights below ten times the largest likelihood and finds mass
    far from every mode.

    For smooth posteriors over up to about 50 real parameters this is far better than annealing. For more parameters,
    hard walls or long curved ridges use `AIS`. `weights.converged` is the fraction of searches that found a mode; if
    0, q is the start alone.

    **Arguments:**

    - `num_samples`: n.
    - `num_starts`: searches.
    - `df`: degrees of freedom of the t, positive.
    - `chunk_size`: samples held in memory at a time.

    **Raises:** `TypeError` on a space that is not made of `Euclidean`, `Positive` and `Interval`.

    Source: Geweke (1989); DiCiccio, Kass, Raftery and Wasserman (1997). The share of the start: Hesterberg (1995).
    """

    num_samples: int = eqx.field(static=True, default=4000)
    num_starts: int = eqx.field(static=True, default=16)
    df: float = eqx.field(static=True, default=5.0)
    chunk_size: int = eqx.field(static=True, default=500)

    def __check_init__(self):
        check_positive(self.chunk_size, "LaplaceImportance(chunk_size=...)")
        check_positive(self.num_starts, "LaplaceImportance(num_starts=...)")
        if check_positive(self.num_samples, "LaplaceImportance(num_samples=...)") < 2:
            raise ValueError("`LaplaceImportance(num_samples=...)` must be at least 2 for an error bar; got 1.")
        if not self.df > 0:
            raise ValueError(f"`LaplaceImportance(df=...)` must be positive; got {self.df}.")

    @property
    def name(self) -> str:
        return "LaplaceImportance"

    def cost(self, density: AbstractDensity) -> int:
        return self.num_samples + self.num_starts * _MOST_STEPS

    def __call__(self, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
        if not has_no_ends(density.space):
            raise TypeError(
                "`LaplaceImportance` needs a space made of `Euclidean`, `Positive` and `Interval`; got "
                f"{density.space}. Use `lnz.normalizers.AIS()`."
            )
        given, density = density, without_gradient(density)
        key_starts, key_draws = jr.split(key)
        start = density.path().start
        to = ToSupport(density.space)

        def log_density(u):
            x, log_det = to.forward_and_log_det(u.reshape(unbounded(density.space).shape))
            return density.log_density(x) + log_det

        x = start.sample(key_starts, (self.num_starts,))
        u = jax.vmap(lambda x: to.inverse_and_log_det(x)[0].reshape(-1))(x)
        modes = jax.vmap(lambda u: _climb(log_density, u))(u)
        log_w, draws = _log_weights(key_draws, log_density, start, to, modes, self)
        estimate = log_mean_exp(log_w)
        weights = replace(estimate.weights, converged=jnp.mean(modes.is_mode.astype(log_w.dtype)))
        estimate = replace(estimate, assumes=("no mode far from those found",), weights=weights)
        return with_derivative(estimate, given, draws, log_w, self.chunk_size)


class _Mode(eqx.Module):
    """The end point of a search: `-Hessian = B' B`, `B = sqrt(eigenvalues) Q' sqrt(diagonal)`."""

    at: Float[Array, " n"]
    root: Float[Array, "n n"]  # B
    inverse_root: Float[Array, "n n"]
    half_log_det: Float[Array, ""]
    log_evidence: Float[Array, ""]  # Laplace's
    is_mode: Bool[Array, ""]


def _climb(log_density, u: Float[Array, " n"]) -> _Mode:
    """A damped Newton search from `u`, in units of the curvature along each variable."""

    def slopes(u):
        gradient, hessian = jax.grad(log_density)(u), jax.hessian(log_density)(u)
        curvature = jnp.abs(jnp.diagonal(hessian))
        unit = jax.lax.rsqrt(jnp.maximum(curvature, 1e-10 * jnp.max(curvature) + 1e-20))
        values, vectors = jnp.linalg.eigh(-hessian * unit[:, None] * unit[None])
        return gradient, unit, values, vectors

    def step(carry):
        u, value, damping, num, _ = carry
        gradient, unit, values, vectors = slopes(u)
        along = vectors.T @ (unit * gradient)
        # The absolute value makes it climb along directions of upward curvature as well.
        scaled = along / (jnp.abs(values) + damping)
        moved = u + unit * (vectors @ scaled)
        new = log_density(moved)
        is_better = jnp.all(jnp.isfinite(moved)) & (new > value)
        decrement = jnp.sum(along**2 / (jnp.abs(values) + 1e-6))
        damping = jnp.clip(jnp.where(is_better, damping / 8, damping * 4), 1e-6, 1e8)
        is_done = (decrement < 1e-5) | (~is_better & (damping >= 1e8))
        return jnp.where(is_better, moved, u), jnp.where(is_better, new, value), damping, num + 1, is_done

    def goes_on(carry):
        return (carry[3] < _MOST_STEPS) & ~carry[4]

    value = log_density(u)
    value = jnp.where(jnp.isnan(value), -jnp.inf, value)
    carry = (u, value, jnp.ones_like(value), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    u, value, *_ = jax.lax.while_loop(goes_on, step, carry)
    gradient, unit, values, vectors = slopes(u)
    floor = 50 * len(u) * jnp.finfo(u.dtype).eps
    decrement = jnp.sum((vectors.T @ (unit * gradient)) ** 2 / jnp.maximum(values, floor))
    is_mode = (values[0] > floor) & (decrement < _DECREMENT) & jnp.isfinite(value) & jnp.all(jnp.isfinite(u))
    values = jnp.where(is_mode, values, 1)
    half_log_det = 0.5 * jnp.sum(jnp.log(values)) - jnp.sum(jnp.log(unit))
    root = jnp.sqrt(values)[:, None] * vectors.T / unit[None]
    inverse = unit[:, None] * vectors / jnp.sqrt(values)[None]
    log_evidence = value + 0.5 * len(u) * math.log(2 * math.pi) - half_log_det
    found = _Mode(u, root, inverse, half_log_det, log_evidence, is_mode)
    # A failed search has no share, but its values must still be finite.
    return jax.tree.map(lambda a: jnp.where(is_mode, a, jnp.zeros_like(a)), found)


def _log_weights(
    key: PRNGKeyArray, log_density, start: AbstractDistribution, to: ToSupport, modes: _Mode, method: LaplaceImportance
) -> tuple[Float[Array, " num_samples"], Array]:
    log_share = _log_shares(modes)
    has_modes = jnp.any(modes.is_mode)
    dtype, num = modes.at.dtype, modes.at.shape[1]
    log_t = jnp.where(has_modes, math.log(0.9), -jnp.inf).astype(dtype)
    log_start = jnp.where(has_modes, math.log(0.1), 0).astype(dtype)
    constant = gammaln(0.5 * (method.df + num)) - gammaln(0.5 * method.df) - 0.5 * num * math.log(method.df * math.pi)

    def log_proposal(u):
        w = jax.vmap(lambda mode: mode.root @ (u - mode.at))(modes)
        tails = -0.5 * (method.df + num) * jnp.log1p(jnp.sum(w**2, axis=1) / method.df)
        of_modes = logsumexp(log_share + modes.half_log_det + tails) + jnp.asarray(constant, dtype)
        x, log_det = to.forward_and_log_det(u.reshape(unbounded(to.space).shape))
        return jnp.logaddexp(log_t + of_modes, log_start + start.log_prob(x) + log_det)

    def one(key):
        key_which, key_mode, key_normal, key_chi, key_start = jr.split(key, 5)
        mode = jax.tree.map(lambda a: a[jr.categorical(key_mode, log_share)], modes)
        chi_square = 2 * jr.gamma(key_chi, 0.5 * method.df, (), dtype)
        w = jr.normal(key_normal, (num,), dtype) * jnp.sqrt(method.df / chi_square)
        from_start = to.inverse_and_log_det(start.sample(key_start))[0].reshape(-1)
        is_start = jr.uniform(key_which, (), dtype) < jnp.exp(log_start)
        u = jnp.where(is_start, from_start, mode.at + mode.inverse_root @ w)
        return log_density(u) - log_proposal(u), to.forward(u.reshape(unbounded(to.space).shape))

    return jax.lax.map(one, jr.split(key, method.num_samples), batch_size=method.chunk_size)


def _log_shares(modes: _Mode) -> Float[Array, " num_starts"]:
    evidence = jnp.where(modes.is_mode, modes.log_evidence, -jnp.inf)
    best = jnp.max(evidence)
    is_near = modes.is_mode & (evidence > best - _DEEP)
    equal = is_near.astype(evidence.dtype) / jnp.maximum(jnp.sum(is_near.astype(evidence.dtype)), 1)
    share = 0.5 * jnp.where(modes.is_mode, jax.nn.softmax(evidence), 0) + 0.5 * equal
    # Without any mode these shares are never drawn.
    return jnp.where(jnp.any(modes.is_mode), jnp.log(share), 0).astype(evidence.dtype)
