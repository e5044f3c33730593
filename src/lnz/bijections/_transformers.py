"""Families of increasing functions of one variable, which couplings and autoregressive maps apply to each variable.

Unconstrained raw numbers select a member of a family; a network computes them from other variables.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..modules import Part
from ..numerics import softplus
from ..spaces import AbstractSpace, has_ends


class AbstractTransformer(Part, eqx.Module):
    """A family of increasing bijections of `[low, high]` (or the whole line), each given by `num_params` raw numbers.

    `raw = 0` is the identity, or near it if a family says so. `raw [num_params, *shape]` and `x [*shape]` may have any
    `shape`; its entries are transformed independently.
    """

    batch_last: ClassVar[bool] = True

    @property
    @abstractmethod
    def num_params(self) -> int: ...

    @abstractmethod
    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        """Whether every member of the family maps the space of each of these variables onto itself."""

    @abstractmethod
    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        """`y [*shape]` and `log dy/dx [*shape]` in nats."""

    @abstractmethod
    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        """`x [*shape]` and `log dx/dy [*shape]` in nats."""


def check_raw(
    transformer: AbstractTransformer, raw: Array, x: Array, num_axes: int, owner: str
) -> Float[Array, "params ..."]:
    """Returns `raw` if it has `num_params` numbers for each entry of `x`; `num_axes` first axes of x are one example.

    **Raises:** `ValueError` otherwise: other shapes would broadcast, and the result would not be a bijection.
    """
    expected, got = (transformer.num_params, *x.shape[:num_axes]), raw.shape[: 1 + num_axes]
    if got != expected:
        raise ValueError(
            f"`{owner}` needs raw numbers of shape {expected}, {transformer.num_params} for each transformed variable; "
            f"got {got}."
        )
    return raw


class AffineTransformer(AbstractTransformer):
    """`y = exp(s) x + t` with `(t, raw s) = raw` and `s = raw s / (1 + |raw s| / max_log_scale)`.

    The soft bound keeps the scale between `exp(-max_log_scale)` and `exp(max_log_scale)`, so that no input of the
    network makes a density overflow.

    Source: Dinh, Sohl-Dickstein and Bengio (2017), section 3.2; arXiv:1605.08803. Their s is bounded by a tanh instead.
    """

    max_log_scale: float = eqx.field(static=True, default=7.0)

    @property
    def num_params(self) -> int:
        return 2

    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        return all_euclidean(variables)

    def _shift_and_log_scale(self, raw):
        shift, log_scale = raw[0], raw[1]
        return shift, log_scale / (1 + jnp.abs(log_scale) / self.max_log_scale)

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        shift, log_scale = self._shift_and_log_scale(raw)
        return shift + jnp.exp(log_scale) * x, log_scale

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        shift, log_scale = self._shift_and_log_scale(raw)
        return (y - shift) * jnp.exp(-log_scale), -log_scale


class SoftplusAffineTransformer(AbstractTransformer):
    """`y = s x + t` with `(t, raw s) = raw` and `s = s_min + softplus(raw s + c)`; c makes `raw s = 0` the identity.

    The scale grows linearly with its raw number, not exponentially as in `AffineTransformer`, so that a network trained
    on little data is less wrong about points far out. The inverse stretches by at most `1 / s_min`.

    **Arguments:**

    - `min_scale`: s_min, between 0 and 1.
    """

    min_scale: float = eqx.field(static=True, default=0.01)

    def __check_init__(self):
        if not 0 < self.min_scale < 1:
            raise ValueError(
                f"`SoftplusAffineTransformer(min_scale=...)` must lie between 0 and 1; got {self.min_scale}."
            )

    @property
    def num_params(self) -> int:
        return 2

    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        return all_euclidean(variables)

    def _scale(self, raw):
        return self.min_scale + softplus(raw[1] + math.log(math.expm1(1 - self.min_scale)))

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        scale = self._scale(raw)
        return raw[0] + scale * x, jnp.log(scale)

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        scale = self._scale(raw)
        return (y - raw[0]) / scale, -jnp.log(scale)


class ShiftTransformer(AbstractTransformer):
    """`y = x + t`, which keeps volume.

    Source: Dinh, Krueger and Bengio (2015), section 3.2 (NICE); arXiv:1410.8516.
    """

    @property
    def num_params(self) -> int:
        return 1

    def fits(self, variables: Sequence[AbstractSpace]) -> bool:
        return all_euclidean(variables)

    def forward(self, raw: Float[Array, "..."], x: Float[Array, "..."]) -> tuple[Array, Array]:
        return x + raw[0], jnp.zeros_like(x)

    def inverse(self, raw: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Array, Array]:
        return y - raw[0], jnp.zeros_like(y)


def all_euclidean(variables: Sequence[AbstractSpace]) -> bool:
    return all(one.is_euclidean for one in variables)


def check_fits(transformer: AbstractTransformer, variables: Sequence[AbstractSpace], owner: str) -> None:
    """Checks that the family maps the space of each variable onto itself.

    **Raises:** `ValueError`, naming `owner`, if it does not.
    """
    if transformer.fits(variables):
        return
    one = next((one for one in variables if not transformer.fits([one])), variables[0])
    low, high = one.ends or (-math.inf, math.inf)
    if one.periodic:
        advice = "`lnz.bijections.CircularSplineTransformer()`"
    elif has_ends(one):
        ends = (str(end) if math.isfinite(end) else name for end, name in ((low, "low"), (high, "high")))
        advice = f"`lnz.bijections.SplineTransformer(num_bins, {', '.join(ends)})`"
    else:
        advice = "`lnz.bijections.AffineTransformer()`"
    raise ValueError(
        f"`{owner}`: {transformer} does not map {one}, the space of a variable, onto itself, so densities would not "
        f"integrate to one. Use {advice}, or let all layers work on R^n and end with `lnz.bijections.ToSupport(space)`."
    )
