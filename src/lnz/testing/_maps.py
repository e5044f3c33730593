"""Laws of bijections and paths."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..bijections import AbstractBijection
from ..core import AbstractDensity, AbstractPath
from ..numerics import add_compensated
from ..spaces import AbstractSpace
from ._inverse import check_inverse
from ._require import eps, require, require_close


def check_bijection(
    bijection: AbstractBijection, x: Float[Array, "num ..."], *, tolerance: float | None = None
) -> None:
    """Checks round trips, log-determinants against automatic differentiation, and `ld + ld_inv = 0`, at the points `x`.

    Between spaces whose entries are tied, as on a sphere, derivatives are taken along their tangent bases.

    The tolerance is 1e-10 in float64 and 5e-5 in float32, times the size of the numbers involved. A failed round trip
    names the worst example and the layer that loses it, see `check_inverse`.
    """
    tolerance = (1e-10 if x.dtype == jnp.float64 else 5e-5) if tolerance is None else tolerance
    y, log_det = _forward(bijection, x)
    back, inverse_log_det = _inverse(bijection, y)
    again, _ = _forward(bijection, back)
    exact = _log_det_of_jacobian(bijection, x)
    scale = 1 + float(np.max(np.abs(x))) + float(np.max(np.abs(y)))
    try:
        require_close(back, x, tolerance * scale, "inverse after forward is the identity")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{check_inverse(bijection, x, tolerance=tolerance)}") from None
    require_close(log_det, -np.asarray(inverse_log_det), tolerance * scale, "log-determinants cancel")
    require_close(log_det, exact, tolerance * scale, "log-determinant equals that of the Jacobian")
    require_close(again, y, tolerance * scale, "forward after inverse is the identity")


@eqx.filter_jit
def _forward(bijection: AbstractBijection, x: Array) -> tuple[Array, Array]:
    return jax.vmap(bijection.forward_and_log_det)(x)


@eqx.filter_jit
def _inverse(bijection: AbstractBijection, y: Array) -> tuple[Array, Array]:
    return jax.vmap(bijection.inverse_and_log_det)(y)


@eqx.filter_jit
def _log_det_of_jacobian(bijection: AbstractBijection, x: Array) -> Array:
    def flat_forward(flat):
        return bijection.forward(flat.reshape(x.shape[1:])).reshape(-1)

    jacobian = jax.vmap(jax.jacfwd(flat_forward))(x.reshape(len(x), -1))
    if any(space.dimension < space.size for space in (bijection.domain, bijection.codomain)):
        start, end = _frames(bijection.domain, x), _frames(bijection.codomain, jax.vmap(bijection.forward)(x))
        jacobian = jnp.einsum("nia,nij,njb->nab", end, jacobian, start)
    return jnp.linalg.slogdet(jacobian)[1]


def _frames(space: AbstractSpace, x: Array) -> Array:
    return jax.vmap(space.tangent_basis)(x).reshape(len(x), space.size, space.dimension)


def check_path(path: AbstractPath, target: AbstractDensity, x: Array) -> None:
    """Checks at `x` that `at(0)` is the start, `at(1)` the target, and `log_ratio` a difference that adds up.

    The sum of `log_ratio` over 100,000 temperatures must be within 1e-3 nats (in float64: 1e-8) of the end-to-end
    difference computed in float64; it is summed as in annealed importance sampling. Between equal temperatures
    `log_ratio` must be zero everywhere. Where the target is impossible, it must be minus infinity on the way up, and so
    must the sum.
    """
    wide = x.dtype == jnp.float64 or jnp.result_type(float) == jnp.float64

    start, at_start, at_end, of_target, ratios, differences, standing = map(np.asarray, _along(path, target, x))
    possible = of_target > -np.inf
    require(possible.any(), "some of the points are possible under the target")
    scale = 1 + float(np.max(np.abs(at_end[possible]))) + float(np.max(np.abs(start)))
    require_close(at_start, start, 50 * eps() * scale, "path.at(0) is path.start, normalised")
    require_close(at_end[possible], of_target[possible], 50 * eps() * scale, "path.at(1) is the target")
    what = "log_ratio is the difference of log densities"
    require_close(ratios[:, possible], differences[:, possible], 100 * eps() * scale, what)
    require((standing == 0).all(), "log_ratio between equal temperatures is zero")
    total = np.asarray(_sum_ratios(path, x, 100_000))
    end_to_end = _float64_difference(path, x)
    what = "log_ratio adds up over 100,000 temperatures"
    require_close(total[possible], end_to_end[possible], 1e-8 * scale if wide else 1e-3, what)
    upward = ratios[[b0 < b1 for b0, b1 in _PAIRS]]
    none_possible = [at_end[~possible], upward[:, ~possible], total[~possible]]
    require(all((part == -np.inf).all() for part in none_possible), "impossible points keep a weight of zero")


_PAIRS = ((0.0, 1.0), (0.2, 0.7), (0.6, 0.59), (0.3, 0.3001))


@eqx.filter_jit
def _along(path: AbstractPath, target: AbstractDensity, x: Array) -> tuple[Array, ...]:
    """All numbers compared at single temperatures, in one program."""

    def at(beta):
        return jax.vmap(path.at(beta).log_density)(x)

    def ratio(b0, b1):
        return jax.vmap(lambda x: path.log_ratio(b0, b1, x))(x)

    ratios, differences = [ratio(b0, b1) for b0, b1 in _PAIRS], [at(b1) - at(b0) for b0, b1 in _PAIRS]
    standing = [ratio(b, b) for b in (jnp.zeros(()), jnp.full((), 0.3), jnp.ones(()))]
    start, of_target = jax.vmap(path.start.log_prob)(x), jax.vmap(target.log_density)(x)
    return start, at(0.0), at(1.0), of_target, jnp.stack(ratios), jnp.stack(differences), jnp.stack(standing)


def _float64_difference(path: AbstractPath, x: Array) -> np.ndarray:
    """`at(1) - at(0)` computed in float64 throughout, whatever the precision in force."""
    with jax.enable_x64(True):

        def widen(leaf):
            return leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf

        return np.asarray(_end_to_end(*jax.tree.map(widen, (path, x))))


@eqx.filter_jit
def _end_to_end(path: AbstractPath, x: Array) -> Array:
    start, end = (jax.vmap(path.at(beta).log_density)(x) for beta in (0.0, 1.0))
    return end - start


@eqx.filter_jit
def _sum_ratios(path: AbstractPath, x: Array, num: int) -> Array:
    betas = jnp.linspace(0.0, 1.0, num + 1)

    def step(carry, pair):
        term = jax.vmap(lambda x: path.log_ratio(pair[0], pair[1], x))(x)
        return add_compensated(carry[0], carry[1], term), None

    zeros = jnp.zeros(len(x), betas.dtype)
    return jax.lax.scan(step, (zeros, zeros), (betas[:-1], betas[1:]))[0][0]
