"""Laws of bijections and paths."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._bijection import AbstractBijection
from .._compensated import add_compensated
from .._density import AbstractDensity, AbstractPath
from ._inverse import check_inverse
from ._require import eps, require_close


def check_bijection(
    bijection: AbstractBijection, x: Float[Array, "num ..."], *, tolerance: float | None = None
) -> None:
    """Round trips, log-determinants against automatic differentiation, and `ld + ld_inv = 0`, at the points `x`.

    The tolerance is 1e-10 in float64 and 5e-5 in float32, times the size of the numbers involved. A failed round trip
    names the worst example and the layer that loses it, see `check_inverse`.
    """
    tolerance = (1e-10 if x.dtype == jnp.float64 else 5e-5) if tolerance is None else tolerance
    y, log_det, back, inverse_log_det, again, exact = _there_and_back(bijection, x)
    scale = 1 + float(jnp.max(jnp.abs(x))) + float(jnp.max(jnp.abs(y)))
    try:
        require_close(back, x, tolerance * scale, "inverse after forward is the identity")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{check_inverse(bijection, x, tolerance=tolerance)}") from None
    require_close(log_det + inverse_log_det, 0 * log_det, tolerance * scale, "log-determinants cancel")
    require_close(log_det, exact, tolerance * scale, "log-determinant equals that of the Jacobian")
    require_close(again, y, tolerance * scale, "forward after inverse is the identity")


@eqx.filter_jit
def _there_and_back(bijection: AbstractBijection, x: Array) -> tuple[Array, ...]:
    """Everything that is compared, in one program."""

    def flat_forward(flat):
        return bijection.forward_and_log_det(flat.reshape(x.shape[1:]))[0].reshape(-1)

    y, log_det = jax.vmap(bijection.forward_and_log_det)(x)
    back, inverse_log_det = jax.vmap(bijection.inverse_and_log_det)(y)
    again, _ = jax.vmap(bijection.forward_and_log_det)(back)
    jacobian = jax.vmap(jax.jacfwd(flat_forward))(x.reshape(len(x), -1))
    return y, log_det, back, inverse_log_det, again, jnp.linalg.slogdet(jacobian)[1]


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
    require_close(at(0.0), start, 50 * eps() * scale, "path.at(0) is path.start, normalised")
    require_close(at(1.0), jax.vmap(target.log_density)(x), 50 * eps() * scale, "path.at(1) is the target")
    for beta0, beta1 in ((0.0, 1.0), (0.2, 0.7), (0.6, 0.59), (0.3, 0.3001)):
        ratio = jax.vmap(lambda x, b0=beta0, b1=beta1: path.log_ratio(b0, b1, x))(x)
        require_close(ratio, at(beta1) - at(beta0), 100 * eps() * scale, "log_ratio is the difference of log densities")
    total = _sum_ratios(path, x, 100_000)
    end_to_end = _float64_difference(path, x)
    require_close(total, end_to_end, 1e-8 * scale if wide else 1e-3, "log_ratio adds up over 100,000 temperatures")


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
