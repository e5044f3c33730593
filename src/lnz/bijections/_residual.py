import math
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..core import need_key
from ..nets import LipschitzMLP
from ..numerics import call_net, over_batch
from ..spaces import AbstractSpace, Euclidean, check_kind
from ._bijection import AbstractBatchLastBijection, AbstractSelfMap

_AS_GOOD_AS_ROUNDING = 1e-10


class Residual(AbstractBatchLastBijection, AbstractSelfMap):
    """`y = x + g(x)` with `|g(x) - g(x')| <= L |x - x'|`, L < 1: free-form Jacobians.

    Forward is one pass. Inverse repeats `x <- y - g(x)`, which converges as L^k, until the error is at most
    `tolerance (1 + |y|)`, or rounding error if that is larger. It is differentiable in both modes and to any order.
    Densities are cheap under `Inverse`, as in `lnz.flows.residual`.

    **Arguments:**

    - `space`: of vectors `[n]`.
    - `net`: g, from `[n]` to `[n]`, such as `lnz.nets.LipschitzMLP`. Its property `lipschitz` is a guaranteed L.
    - `log_det`: `"exact"`, from the whole Jacobian (n passes and n^3); or `"unbiased"`, the series
      `sum_k (-1)^(k+1) tr(J^k) / k` with a random number of terms, which needs a key. Its value and first derivatives
      are unbiased; second derivatives and `exp(log_prob)` are not.
    - `num_terms`: number of terms that `"unbiased"` always computes.
    - `continuation`: probability of each further term, by default L: see the field.
    - `tolerance`: of the inverse. `lnz.evaluate` reports one above 1e-10 as an assumption.

    **Raises:** `ValueError` if `log_det="unbiased"` gets no key.

    Source: Behrmann et al. (2019), theorem 1 and algorithm 1 (arXiv:1811.00995); Chen, Behrmann, Duvenaud and Jacobsen
    (2019), sections 3.1 and 3.2; arXiv:1906.02735.
    """

    space: AbstractSpace = eqx.field(static=True)
    net: Callable
    log_det: Literal["exact", "unbiased"] = eqx.field(static=True, default="exact")
    num_terms: int = eqx.field(static=True, default=4)
    continuation: float | None = eqx.field(static=True, default=None)
    """Probability of each further term of `"unbiased"`.

    The default, L, gives finite variance. The paper's 0.5 needs fewer terms, but guarantees finite variance only if
    L^2 < 0.5.
    """
    tolerance: float = eqx.field(static=True, default=1e-12)

    def __check_init__(self):
        lipschitz = getattr(self.net, "lipschitz", None)
        if not isinstance(lipschitz, float) or not 0 < lipschitz < 1:
            raise ValueError(
                "`Residual(net=...)` is invertible if the network has a `lipschitz` constant below one; got "
                f"{type(self.net).__name__} with {lipschitz}. Try `lnz.nets.LipschitzMLP(n, coefficient=0.9, key=key)`."
            )
        if len(self.space.shape) != 1:
            raise ValueError(f"`Residual(space)` needs vectors, such as `lnz.Euclidean(n)`; got {self.space}.")
        check_kind(self.space, Euclidean, "Residual(space)")
        if self.log_det not in ("exact", "unbiased"):
            raise ValueError(f"`Residual(log_det=...)` must be 'exact' or 'unbiased'; got {self.log_det!r}.")
        if self.num_terms < 1:
            raise ValueError(f"`Residual(num_terms=...)` must be at least 1; got {self.num_terms}.")
        if self.continuation is not None and not 0 < self.continuation < 1:
            raise ValueError(f"`Residual(continuation=...)` is a probability between 0 and 1; got {self.continuation}.")
        if not self.tolerance > 0:
            raise ValueError(f"`Residual(tolerance=...)` must be positive; got {self.tolerance}.")

    @property
    def lipschitz(self) -> float:
        """The bound on the slope of g, below one."""
        return getattr(self.net, "lipschitz")  # noqa: B009 (of any callable)

    @property
    def stochastic(self) -> bool:
        return self.log_det == "unbiased"

    def exact(self) -> "Residual":
        return Residual(self.space, self.net, "exact", self.num_terms, self.continuation, self.tolerance)

    @property
    def assumptions(self) -> tuple[str, ...]:
        if self.tolerance <= _AS_GOOD_AS_ROUNDING:
            return ()
        return (f"inverses of residual layers, if any, to the tolerance {self.tolerance:g}",)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        return x + self._moved(_prepared(self.net), x), self._log_det(x, key)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        x = self._solve(_prepared(self.net), y)
        return x, -self._log_det(x, key)

    def _moved(self, g, x):
        step = g(x)
        if step.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"`Residual(net=...)` needs a network from {x.shape[:1]} to the same shape; got {step.shape[:1]}."
            )
        return step

    def _solve(self, g, y):
        """The root of `x + g(x) - y`; its derivatives solve the linearised equation (implicit function theorem)."""

        def solve(residual, start):
            return self._iterate(residual, start, 1 + _norm(y))

        def solve_linear(residual, right):
            def linear(matvec, right):
                return self._iterate(lambda t: matvec(t) - right, right, _norm(right))

            return jax.lax.custom_linear_solve(residual, right, linear, linear)

        return jax.lax.custom_root(lambda x: x + self._moved(g, x) - y, y, solve, solve_linear)

    def _iterate(self, residual, start, scale):
        """`x <- x - residual(x)`, a contraction by L, until the residual certifies the tolerance.

        The bound is `|x - x*| <= |residual(x)| / (1 - L)`.
        """
        eps = float(jnp.finfo(start.dtype).eps)
        lipschitz = self.lipschitz
        allowed = max(self.tolerance * (1 - lipschitz), 8 * eps) * scale
        # Rounding may keep the residual above `allowed`. The contraction has reached rounding after this many steps.
        most = math.ceil(math.log(eps * (1 - lipschitz)) / math.log(lipschitz))

        def is_far(carry):
            _, error, i = carry
            return jnp.any(_norm(error) > allowed) & (i < most)

        def repeat(carry):
            x, error, i = carry
            x = x - error
            return x, residual(x), i + 1

        return jax.lax.while_loop(is_far, repeat, (start, residual(start), 0))[0]

    def _log_det(self, x, key):
        if self.log_det == "exact":
            return _exact_log_det(_prepared(self.net), x)
        key = need_key(key, "Residual(log_det='unbiased')")
        continuation = self.lipschitz if self.continuation is None else self.continuation
        probe, num = _draw(key, x, self.num_terms, continuation)
        return _estimated_log_det(self.net, x, probe, num, self.num_terms, continuation)


def _prepared(net: Callable) -> Callable:
    """The network with its weights normalised once, not at each of many calls."""
    if isinstance(net, LipschitzMLP):
        weights = net.normalised()
        return lambda x: net.apply(weights, x)
    return lambda x: call_net(net, x)


def _norm(x: Array) -> Array:
    # Divided by its size first: squares of large numbers overflow.
    size = jnp.maximum(jnp.max(jnp.abs(x), axis=0), jnp.finfo(x.dtype).tiny)
    return size * jnp.sqrt(jnp.sum((x / size[None]) ** 2, axis=0))


def _exact_log_det(g: Callable, x: Array) -> Array:
    _, push = jax.linearize(g, x)
    num = x.shape[0]
    basis = jnp.eye(num, dtype=x.dtype).reshape(num, num, *(1,) * (x.ndim - 1))
    columns = jax.vmap(push)(jnp.broadcast_to(basis, (num, *x.shape)))  # [column, row, *batch]
    jacobian = jnp.moveaxis(columns, (1, 0), (-2, -1))
    return jnp.linalg.slogdet(jnp.eye(num, dtype=x.dtype).reshape(*(1,) * (x.ndim - 1), num, num) + jacobian)[1]


def _draw(key: Array, x: Array, num_terms: int, continuation: float) -> tuple[Array, Array]:
    """A Gaussian probe `[n, *batch]` and numbers of terms `[*batch]`, `P(N >= k) = continuation^(k - num_terms)`."""

    def one(key):
        key_probe, key_num = jr.split(key)
        u = jr.uniform(key_num, (), x.dtype, minval=jnp.finfo(x.dtype).tiny)
        further = jnp.floor(jnp.log(u) / math.log(continuation))
        return jr.normal(key_probe, (x.shape[0],), x.dtype), num_terms + further.astype(jnp.int32)

    batch = x.shape[1:]
    keys = jnp.broadcast_to(key.reshape((*key.shape, *(1,) * (len(batch) - key.ndim))), batch)
    return over_batch(one, len(batch))(keys)


def _estimated_log_det(net, x, probe, num, num_terms, continuation):
    """The series with `v' J^k v` for `tr(J^k)`, each term divided by the probability of being computed.

    Its derivative is `(sum_k (-1)^k v' J^k / P(N >= k)) dJ v`, with a Neumann series. The sum is treated as a constant,
    so the gradient stores nothing from the loop.
    """
    arrays, rest = eqx.partition((net, x), eqx.is_array)
    fixed_net, fixed_x = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    _, pull = jax.vjp(_prepared(fixed_net), fixed_x)

    def is_short(carry):
        return jnp.any(carry[0] <= num)

    def term(carry):
        k, left, value, row = carry
        left = pull(left)[0]
        weight = continuation ** -jnp.maximum(k - num_terms, 0).astype(x.dtype)
        weight = jnp.where(k <= num, weight, 0) * jnp.where(k % 2 == 1, 1, -1).astype(x.dtype)
        value = value + weight / k.astype(x.dtype) * jnp.sum(left * probe, axis=0)
        return k + 1, left, value, row - weight[None] * left

    start = (jnp.ones((), jnp.int32), probe, jnp.zeros(x.shape[1:], x.dtype), probe)
    _, _, value, row = jax.lax.stop_gradient(jax.lax.while_loop(is_short, term, start))
    slope = jnp.sum(row * jax.jvp(_prepared(net), (x,), (probe,))[1], axis=0)
    return jax.lax.stop_gradient(value) + slope - jax.lax.stop_gradient(slope)
