import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import AbstractDensity, AbstractPath, GeometricPath
from ..spaces import Euclidean
from ._normal import Normal

_WIDTHS = {2: (0.4,), 3: (0.35, 0.35), 4: (0.4, 0.35)}


class PlanarEnergy(AbstractDensity):
    """`p~(z) = exp(-U(z))`: the test energies of Rezende and Mohamed in the plane, with shapes that no normal has.

    With `w1 = sin(pi z1 / 2)`, `w2 = 3 exp(-((z1 - 1) / 0.6)^2 / 2)` and `w3 = 3 sigmoid((z1 - 1) / 0.3)`:

    - 1: two crescents, `((|z| - 2) / 0.4)^2 / 2 - log(exp(-((z1 - 2) / 0.6)^2 / 2) + exp(-((z1 + 2) / 0.6)^2 / 2))`;
    - 2: a wave, `((z2 - w1) / 0.4)^2 / 2`;
    - 3: a wave that forks for a while, `-log(exp(-((z2 - w1) / 0.35)^2 / 2) + exp(-((z2 - w1 + w2) / 0.35)^2 / 2))`;
    - 4: a wave that forks for good, `-log(exp(-((z2 - w1) / 0.4)^2 / 2) + exp(-((z2 - w1 + w3) / 0.35)^2 / 2))`.

    Unlike the paper's, energies 2 to 4 are confined where `|z1| > half_width`: see `log_normalizer`.

    **Arguments:**

    - `number`: 1, 2, 3 or 4.
    - `half_width`: where energies 2 to 4 begin to be confined.
    - `wall`: standard deviation of the confinement; larger is softer.

    **Raises:** `ValueError` for another number, or if a length is not positive.

    Source: Rezende and Mohamed (2015), table 1; arXiv:1505.05770.
    """

    number: int = eqx.field(static=True)
    half_width: float = eqx.field(static=True, default=4.0)
    wall: float = eqx.field(static=True, default=0.4)

    def __check_init__(self):
        if self.number not in (1, 2, 3, 4):
            raise ValueError(f"`PlanarEnergy(number)` must be 1, 2, 3 or 4; got {self.number!r}.")
        for name in ("half_width", "wall"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`PlanarEnergy({name}=...)` must be positive; got {getattr(self, name)!r}.")

    @property
    def space(self) -> Euclidean:
        return Euclidean(2)

    def log_density(self, x: Array) -> Float[Array, ""]:
        z1, z2 = self.space.check_example(x)
        if self.number == 1:
            # Not `jnp.linalg.norm`, which has no gradient at zero; the floor, the smallest normal number, keeps it
            # finite.
            radius = jnp.sqrt(jnp.maximum(z1**2 + z2**2, jnp.finfo(z1.dtype).tiny))
            return _log_normal(radius - 2, 0.4) + jnp.logaddexp(_log_normal(z1 - 2, 0.6), _log_normal(z1 + 2, 0.6))
        across = z2 - jnp.sin(0.5 * math.pi * z1)
        beyond = _log_normal(jnp.maximum(jnp.abs(z1) - self.half_width, 0), self.wall)
        if self.number == 2:
            return _log_normal(across, 0.4) + beyond
        fork = 3 * (jnp.exp(_log_normal(z1 - 1, 0.6)) if self.number == 3 else jax.nn.sigmoid((z1 - 1) / 0.3))
        first, second = _WIDTHS[self.number]
        return jnp.logaddexp(_log_normal(across, first), _log_normal(across + fork, second)) + beyond

    def log_normalizer(self) -> float:
        """`log int exp(-U)` in nats, in closed form, for energies 2 to 4.

        In the paper these energies extend along z1 without end, so that `exp(-U)` has no normaliser, and the paper does
        not say where they stop. Here `(|z1| - half_width)^2 / (2 wall^2)` is added where `|z1| > half_width`. (A hard
        box would make the divergence infinite for every flow on the plane.) Given z1 the density is then one or two
        normals in z2, and along z1 a plateau between two halves of a normal.

        **Raises:** `ValueError` for energy 1, whose normaliser is finite but has no closed form: use
        `lnz.normalizers.Quadrature`.
        """
        if self.number == 1:
            raise ValueError(
                "The normaliser of energy 1 has no closed form: use `lnz.log_normalizer(key, energy, Quadrature(801))`."
            )
        length = 2 * self.half_width + math.sqrt(2 * math.pi) * self.wall
        return math.log(length) + math.log(math.sqrt(2 * math.pi) * sum(_WIDTHS[self.number]))

    def own_path(self) -> AbstractPath:
        return GeometricPath(Normal(jnp.zeros(2), 2.5), self)


def _log_normal(x: Float[Array, ""], width: float) -> Float[Array, ""]:
    """The log-density of a centred normal, up to its constant."""
    return -0.5 * (x / width) ** 2
