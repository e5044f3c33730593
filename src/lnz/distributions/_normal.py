import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import AbstractExponentialFamily, AbstractRealFamily, draw_then_score, weighted_moments
from ..modules import AbstractFixable
from ..numerics import cholesky_factor, excess, loc_and_log_scale, loc_and_raw_tril, positive_tril
from ..spaces import Euclidean
from ._closed_form_kl import register_kl

# Numbers below this can be squared, divided by small scales and added, whatever their type.
_LARGE = 1e12


class Normal(AbstractExponentialFamily, AbstractRealFamily, AbstractFixable):
    """Independent normals, `p(x) = prod_i exp(-(x_i - loc_i)^2 / (2 scale_i^2)) / (scale_i sqrt(2 pi))`.

    **Arguments:**

    - `loc`: means `[*shape]`.
    - `scale`: standard deviations, positive, of the same shape or a number.
    - `constant`: do not train it where it is part of a model, such as the prior of a `lnz.latent.VAE` or the base of a
      flow. Fitted on its own it is trained all the same, and is then not constant; the same holds for the parts that a
      `lnz.Conditional` moves. Constant and trainable normals are two structures to JAX, so `jax.tree.map` cannot stack
      them together.

    Log-densities are in nats with respect to Lebesgue measure. The field is `log_scale`, which keeps the scale positive
    in training.
    """

    factorised: ClassVar[bool] = True
    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]
    constant: bool = eqx.field(static=True, default=False)

    def __init__(self, loc, scale, *, constant: bool = False):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "Normal")
        self.constant = constant

    @classmethod
    def standard(cls, num: int | tuple[int, ...]) -> "Normal":
        """Mean zero, variance one, on `Euclidean(num)`: a constant prior or base.

        `Normal(jnp.zeros(num), 1.0)` has the same start and is trained.
        """
        return cls(jnp.zeros(Euclidean(num).shape), 1.0, constant=True)

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    @property
    def space(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    @property
    def natural(self) -> Float[Array, " statistics"]:
        precision = jnp.exp(-2 * self.log_scale)
        return jnp.concatenate([(precision * self.loc).reshape(-1), (-0.5 * precision).reshape(-1)])

    def statistics(self, x: Array) -> Float[Array, " statistics"]:
        x = x.astype(self.loc.dtype).reshape(-1)
        return jnp.concatenate([x, x**2])

    def log_partition(self) -> Float[Array, ""]:
        return jnp.sum(0.5 * (self.loc / self.scale) ** 2 + self.log_scale)

    def log_base(self, x: Array) -> Float[Array, ""]:
        return jnp.asarray(-0.5 * math.log(2 * math.pi) * self.loc.size, self.loc.dtype)

    def closed_form_mean(self) -> Float[Array, "*shape"]:
        """`loc`."""
        return self.loc

    def with_natural(self, natural: Float[Array, " statistics"]) -> "Normal":
        first, second = jnp.split(natural, 2)
        variance = -0.5 / second
        shape = self.loc.shape
        loc, scale = (variance * first).reshape(shape), jnp.sqrt(variance).reshape(shape)
        return type(self)(loc, scale)

    def with_expected_statistics(self, expected: Float[Array, " statistics"]) -> "Normal":
        """From `E[x]` and `E[x^2]`, which lose the digits of a small spread about a large mean.

        Given rows, `fit_weighted` finds the same member without that loss.
        """
        first, second = jnp.split(expected, 2)
        shape = self.loc.shape
        loc, scale = first.reshape(shape), jnp.sqrt(second - first**2).reshape(shape)
        return type(self)(loc, scale)

    @property
    def scales(self) -> Float[Array, "*shape"]:
        return self.scale

    def fit_weighted(self, rows, weights, floor, observed=None) -> "Normal":
        weights = weights.reshape(-1, *(1,) * self.loc.ndim)
        if observed is None:
            weights = jnp.broadcast_to(weights, rows.shape)
        else:
            weights, rows = jnp.where(observed, weights, 0), jnp.where(observed, rows, self.loc[None])
        loc, scale = weighted_moments(rows, weights, self.loc)
        scale = jnp.where(jnp.sum(weights, axis=0) > 0, scale, self.scale)
        return type(self)(loc, jnp.maximum(scale, floor))

    def marginal_log_prob(self, x: Array, observed: Bool[Array, "*shape"]) -> Float[Array, ""]:
        z = jnp.where(observed, (x.astype(self.loc.dtype) - self.loc) * jnp.exp(-self.log_scale), 0)
        return -jnp.sum(0.5 * z**2 + jnp.where(observed, self.log_scale + 0.5 * math.log(2 * math.pi), 0))

    @property
    def reparameterised(self) -> bool:
        return True

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x)
        z = (x.astype(self.loc.dtype) - self.loc) / self.scale
        return -jnp.sum(0.5 * z**2 + self.log_scale + 0.5 * math.log(2 * math.pi))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        noise = jr.normal(key, (*shape, *self.loc.shape), self.loc.dtype)
        return _broadcast(self.loc, noise) + _broadcast(self.scale, noise) * noise

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


def square_of(whiten: Callable[[Array], Array], rest: Float[Array, " n"]) -> Float[Array, ""]:
    """`|whiten(rest)|^2` for a linear `whiten`; infinite where `rest` is infinite or too large to square. NaN stays."""
    largest = jnp.finfo(rest.dtype).max / 16  # the reciprocal of a larger number becomes zero
    rest = jnp.clip(rest, -largest, largest)
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(rest)))
    size = jnp.where(size > _LARGE, size, 1)
    z = whiten(rest / size)
    return size * (size * jnp.sum(z**2))


def _root_of(covariance: Array) -> Array:
    """F with `F'F = covariance`; the covariance may be singular."""
    scale = jnp.sqrt(jnp.diagonal(covariance))
    inverse = 1 / jnp.where(scale > 0, scale, 1)
    values, vectors = jnp.linalg.eigh(inverse[:, None] * covariance * inverse[None, :])
    return jnp.sqrt(jnp.maximum(values, 0))[:, None] * vectors.T * scale[None, :]


def _broadcast(parameter: Array, like: Array) -> Array:
    return jnp.broadcast_to(parameter, like.shape)


class MultivariateNormal(AbstractRealFamily):
    """`N(loc, L L')`: a full covariance, given by its Cholesky factor L.

    **Arguments:**

    - `loc`: mean `[n]`.
    - `scale_tril`: lower-triangular `[n, n]` with a positive diagonal and zeros above it.
      `from_covariance(loc, covariance)` takes the covariance instead.

    Log-densities are in nats with respect to Lebesgue measure. The field `raw_tril` holds the logarithm of the
    diagonal, which keeps the covariance positive definite in training.
    """

    loc: Float[Array, " n"]
    raw_tril: Float[Array, "n n"]

    def __init__(self, loc, scale_tril):
        advice = " For a covariance, use `MultivariateNormal.from_covariance(loc, covariance)`."
        self.loc, self.raw_tril = loc_and_raw_tril(loc, scale_tril, "MultivariateNormal", "scale_tril", advice)

    @classmethod
    def from_covariance(cls, loc, covariance) -> "MultivariateNormal":
        """`N(loc, covariance)`.

        **Raises:** `ValueError` unless the covariance `[n, n]` is symmetric, up to rounding, and positive definite.
        """
        return cls(loc, cholesky_factor(covariance, "MultivariateNormal.from_covariance"))

    @property
    def scale_tril(self) -> Float[Array, "n n"]:
        return positive_tril(self.raw_tril)

    @property
    def covariance(self) -> Float[Array, "n n"]:
        return self.scale_tril @ self.scale_tril.T

    def closed_form_mean(self) -> Float[Array, " n"]:
        """`loc`."""
        return self.loc

    @property
    def space(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    @property
    def reparameterised(self) -> bool:
        return True

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x = self.space.check_example(x)
        scale_tril = self.scale_tril
        square = square_of(
            lambda rest: solve_triangular(scale_tril, rest, lower=True), x.astype(self.loc.dtype) - self.loc
        )
        log_det = jnp.sum(jnp.diagonal(self.raw_tril))
        return -0.5 * square - log_det - 0.5 * math.log(2 * math.pi) * self.loc.shape[0]

    @property
    def scales(self) -> Float[Array, " n"]:
        return jnp.exp(jnp.diagonal(self.raw_tril))

    def fit_weighted(self, rows, weights, floor, observed=None) -> "MultivariateNormal":
        total = jnp.sum(weights)
        share = weights / jnp.where(total > 0, total, 1)
        rest, lost = rows - self.loc[None], jnp.zeros((0, *self.loc.shape), self.loc.dtype)
        if observed is not None:
            rest, spreads = jax.vmap(self._complete)(jnp.where(observed, rest, 0), observed)
            lost = _root_of(jnp.tensordot(share, spreads, 1))
        first = jnp.sum(share[:, None] * rest, axis=0)
        # A second pass: the mean of rows far from `loc` has lost digits.
        shift = first + jnp.sum(share[:, None] * (rest - first[None]), axis=0)
        # QR of the rows, not Cholesky of their squares: a narrow direction keeps its digits, and a flat one is not an
        # error.
        stacked = jnp.concatenate([jnp.sqrt(share)[:, None] * (rest - shift[None]), lost])
        upper = jnp.linalg.qr(jnp.pad(stacked, ((0, max(0, len(self.loc) - len(stacked))), (0, 0))), mode="r")
        upper = upper * jnp.where(jnp.diagonal(upper) < 0, -1, 1).astype(upper.dtype)[:, None]
        diagonal = jnp.maximum(jnp.diagonal(upper), floor)
        return type(self)(self.loc + shift, jnp.triu(upper, 1).T + jnp.diag(diagonal))

    def _complete(self, rest: Array, observed: Array) -> tuple[Array, Array]:
        """`E[x - loc | x[observed]]`, and the conditional covariance of the unobserved entries.

        Source: Little and Rubin (2019), section 11.2.
        """
        upper = self._root(observed)
        known, free = (jnp.where(mask[:, None], self.scale_tril, 0) for mask in (observed, ~observed))
        # `fixed` is an orthonormal basis of the noise that the observed entries determine. It is projected out of the
        # rest: a difference of covariances would lose digits.
        fixed = solve_triangular(upper, known, trans="T", lower=False)
        white = solve_triangular(upper, rest, trans="T", lower=False)
        left = free - (free @ fixed.T) @ fixed
        return jnp.where(observed, rest, free @ (fixed.T @ white)), left @ left.T

    def _root(self, observed: Array) -> Array:
        """Upper triangular R with `R'R` the covariance of the observed entries, and the identity for the others."""
        known = jnp.where(observed[:, None], self.scale_tril, 0)
        others = jnp.where(observed[:, None], 0, jnp.eye(len(self.loc), dtype=self.loc.dtype))
        return jnp.linalg.qr(jnp.concatenate([known.T, others]), mode="r")

    def marginal_log_prob(self, x: Array, observed: Bool[Array, " n"]) -> Float[Array, ""]:
        upper = self._root(observed)
        rest = jnp.where(observed, x.astype(self.loc.dtype) - self.loc, 0)
        square = square_of(lambda rest: solve_triangular(upper, rest, trans="T", lower=False), rest)
        constant = jnp.log(jnp.abs(jnp.diagonal(upper))) + 0.5 * math.log(2 * math.pi)
        return -0.5 * square - jnp.sum(jnp.where(observed, constant, 0))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        return self.sample_and_log_prob(key, shape)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        noise = jr.normal(key, (*shape, *self.loc.shape), self.loc.dtype)
        correlated = noise @ self.scale_tril.T
        # The noise is known, so no triangular solve is needed.
        constant = jnp.sum(jnp.diagonal(self.raw_tril)) + 0.5 * math.log(2 * math.pi) * self.loc.shape[0]
        return _broadcast(self.loc, correlated) + correlated, -0.5 * jnp.sum(noise**2, axis=-1) - constant


# The divergence of normals is a sum of three terms that cannot be negative: the squared distance of the means, the
# squared off-diagonal entries of `L_p^-1 L_q`, and `ratio - 1 - log(ratio)` for the variances on its diagonal. So
# nothing cancels when q is near p.


@register_kl(Normal, Normal)
def _kl_normal_normal(q: Normal, p: Normal) -> Float[Array, ""]:
    distance = (q.loc - p.loc) * jnp.exp(-p.log_scale)
    return 0.5 * jnp.sum(distance**2 + excess(2 * (q.log_scale - p.log_scale)))


@register_kl(MultivariateNormal, Normal)
def _kl_full_normal(q: MultivariateNormal, p: Normal) -> Float[Array, ""]:
    distance = (q.loc - p.loc) * jnp.exp(-p.log_scale)
    off_diagonal = jnp.tril(q.raw_tril, -1) * jnp.exp(-p.log_scale)[:, None]
    ratio = excess(2 * (jnp.diagonal(q.raw_tril) - p.log_scale))
    return 0.5 * (jnp.sum(distance**2 + ratio) + jnp.sum(off_diagonal**2))


@register_kl(Normal, MultivariateNormal)
def _kl_normal_full(q: Normal, p: MultivariateNormal) -> Float[Array, ""]:
    return _kl_to_full(q.loc, jnp.diag(q.scale), q.log_scale, p)


@register_kl(MultivariateNormal, MultivariateNormal)
def _kl_full_full(q: MultivariateNormal, p: MultivariateNormal) -> Float[Array, ""]:
    return _kl_to_full(q.loc, q.scale_tril, jnp.diagonal(q.raw_tril), p)


def _kl_to_full(loc: Array, tril: Array, log_diagonal: Array, p: MultivariateNormal) -> Float[Array, ""]:
    right = jnp.concatenate([(loc - p.loc)[:, None], tril], axis=1)
    solved = solve_triangular(p.scale_tril, right, lower=True)
    distance, off_diagonal = solved[:, 0], jnp.tril(solved[:, 1:], -1)
    ratio = excess(2 * (log_diagonal - jnp.diagonal(p.raw_tril)))
    return 0.5 * (jnp.sum(distance**2 + ratio) + jnp.sum(off_diagonal**2))
