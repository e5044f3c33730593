import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._bijection import AbstractBijection
from .._positive import loc_and_log_scale, loc_and_raw_tril, positive_tril
from .._register import register
from .._space import AbstractSpace, Euclidean


@register
class Affine(AbstractBijection):
    """`y = scale * x + loc`, element by element; `Affine(1.0, 2.0)` is `y = 2 x + 1`.

    **Arguments:**

    - `loc`: shift `[*shape]`.
    - `scale`: positive factors of the same shape or a number. The field is `log_scale`.
    """

    loc: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]

    def __init__(self, loc, scale):
        self.loc, self.log_scale = loc_and_log_scale(loc, scale, "Affine")

    @property
    def scale(self) -> Float[Array, "*shape"]:
        return jnp.exp(self.log_scale)

    @property
    def domain(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    @property
    def codomain(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        return self.scale * self.domain.check_example(x) + self.loc, jnp.sum(self.log_scale)

    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        return (self.codomain.check_example(y, "y") - self.loc) / self.scale, -jnp.sum(self.log_scale)


@register
class TriangularAffine(AbstractBijection):
    """`y = L x + loc` with L lower triangular and its diagonal positive: mixes the dimensions.

    **Arguments:**

    - `loc`: shift `[n]`.
    - `tril`: `[n, n]`; what is above the diagonal is ignored. The field `raw_tril` holds the logarithm of the
      diagonal, so that training keeps the map invertible.
    """

    loc: Float[Array, " n"]
    raw_tril: Float[Array, "n n"]

    def __init__(self, loc, tril):
        self.loc, self.raw_tril = loc_and_raw_tril(loc, tril, "TriangularAffine", "tril")

    @property
    def tril(self) -> Float[Array, "n n"]:
        return positive_tril(self.raw_tril)

    @property
    def domain(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    @property
    def codomain(self) -> Euclidean:
        return Euclidean(self.loc.shape)

    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        return self.tril @ self.domain.check_example(x) + self.loc, jnp.sum(jnp.diagonal(self.raw_tril))

    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        y = self.codomain.check_example(y, "y")
        x = jax.scipy.linalg.solve_triangular(self.tril, y - self.loc, lower=True)
        return x, -jnp.sum(jnp.diagonal(self.raw_tril))


@register
class Inverse(AbstractBijection):
    """`f^-1`: forward and inverse change places."""

    bijection: AbstractBijection

    @property
    def domain(self) -> AbstractSpace:
        return self.bijection.codomain

    @property
    def codomain(self) -> AbstractSpace:
        return self.bijection.domain

    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        return self.bijection.inverse_and_log_det(x, key=key)

    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        return self.bijection.forward_and_log_det(y, key=key)


@register
class Chain(AbstractBijection):
    """`f_k o ... o f_1`: the first bijection listed is applied first; log-determinants add.

    Source: Rezende and Mohamed (2015), equations 6 and 7; arXiv:1505.05770.
    """

    bijections: tuple[AbstractBijection, ...]

    def __init__(self, *bijections: AbstractBijection):
        self.bijections = bijections

    def __check_init__(self):
        if not self.bijections:
            raise ValueError("`Chain(...)` needs at least one bijection.")
        for i, (first, second) in enumerate(zip(self.bijections[:-1], self.bijections[1:], strict=True)):
            if first.codomain != second.domain:
                raise ValueError(
                    f"`Chain(...)`: bijection {i} ends in {first.codomain} but bijection {i + 1} starts in "
                    f"{second.domain}."
                )

    @property
    def domain(self) -> AbstractSpace:
        return self.bijections[0].domain

    @property
    def codomain(self) -> AbstractSpace:
        return self.bijections[-1].codomain

    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        log_det = jnp.zeros((), jnp.result_type(float))
        for key_layer, bijection in zip(self._split(key), self.bijections, strict=True):
            x, layer_log_det = bijection.forward_and_log_det(x, key=key_layer)
            log_det = log_det + layer_log_det
        return x, log_det

    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        log_det = jnp.zeros((), jnp.result_type(float))
        for key_layer, bijection in zip(self._split(key), reversed(self.bijections), strict=True):
            y, layer_log_det = bijection.inverse_and_log_det(y, key=key_layer)
            log_det = log_det + layer_log_det
        return y, log_det

    def _split(self, key: PRNGKeyArray | None):
        num = len(self.bijections)
        return [None] * num if key is None else jax.random.split(key, num)
