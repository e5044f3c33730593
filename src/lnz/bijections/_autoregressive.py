from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..nets import MaskedMLP, PeriodicMaskedMLP
from ..numerics import call_net
from ..spaces import AbstractSpace, each_variable
from ._bijection import AbstractBatchLastBijection, AbstractSelfMap
from ._substitution import substitute
from ._transformers import AbstractTransformer, check_fits

_FEW_VARIABLES = 4


class MaskedAutoregressive(AbstractBatchLastBijection, AbstractSelfMap):
    """`y_i = f(x_i; net_i(x_1, ..., x_{i-1}))` with all parameters from one pass of a masked network.

    Forward is parallel: one pass. Inverse is sequential in the variables but costs little more than a pass, because
    each hidden unit is computed once, as soon as its inputs are known. Use it directly if draws must be fast (inverse
    autoregressive flow), and inside `Inverse` if densities must be fast (masked autoregressive flow).

    **Arguments:**

    - `space`: of vectors `[n]`.
    - `net`: `lnz.nets.MaskedMLP(n, transformer.num_params)`; or, if some variables are angles, a
      `lnz.nets.PeriodicMaskedMLP`, for which the inverse takes one pass per variable.
    - `transformer`: the family of functions, such as `lnz.bijections.SplineTransformer()`.
    - `inversion`: `"substitution"` is exact and goes variable by variable. `"fixed_point"` repeats
      `x <- f^-1(y; net(x))` for all variables at once until none moves by more than `tolerance * (1 + |x_i|)`; after n
      repetitions it is exact. It is faster if variables depend weakly on each other, but cannot be differentiated in
      reverse mode. `lnz.evaluate` reports its tolerance as an assumption.
    - `tolerance`: of `"fixed_point"`; positive.

    Source: Kingma et al. (2016), section 3 (arXiv:1606.04934); Papamakarios, Pavlakou and Murray (2017), section
    3.1 (arXiv:1705.07057). Fixed point: Song, Meng, Liao and Ermon (2021), Jacobi iteration; arXiv:2002.03629.
    """

    space: AbstractSpace = eqx.field(static=True)
    net: MaskedMLP | PeriodicMaskedMLP
    transformer: AbstractTransformer
    inversion: Literal["substitution", "fixed_point"] = eqx.field(static=True, default="substitution")
    tolerance: float = eqx.field(static=True, default=1e-6)

    def __check_init__(self):
        if self.space.shape != (self.net.num,):
            raise ValueError(
                f"`MaskedAutoregressive(space, net)`: the network has {self.net.num} inputs, but {self.space} has "
                f"shape {self.space.shape}."
            )
        check_fits(self.transformer, each_variable(self.space), "MaskedAutoregressive(space, net, transformer)")
        masked = self.net if isinstance(self.net, MaskedMLP) else self.net.net
        last, expected = masked.biases[-1], (self.transformer.num_params, masked.num)
        if isinstance(last, jax.Array) and last.shape[-2:] != expected:
            raise ValueError(
                f"`MaskedAutoregressive(net=...)` needs {self.transformer.num_params} raw numbers per variable, as "
                f"from `lnz.nets.MaskedMLP({masked.num}, {self.transformer.num_params})`; got {last.shape[-2]}."
            )
        if self.inversion not in ("substitution", "fixed_point"):
            raise ValueError(
                "`MaskedAutoregressive(inversion=...)` must be 'substitution' or 'fixed_point'; got "
                f"{self.inversion!r}."
            )
        if not self.tolerance > 0:
            raise ValueError(f"`MaskedAutoregressive(tolerance=...)` must be positive; got {self.tolerance}.")

    @property
    def assumptions(self) -> tuple[str, ...]:
        if self.inversion != "fixed_point":
            return ()
        return (f"inverses of autoregressive layers, if any, by repetition to the tolerance {self.tolerance:g}",)

    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        y, log_derivative = self.transformer.forward(call_net(self.net, x), x)
        return y, jnp.sum(log_derivative, axis=0)

    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        if self.inversion == "fixed_point":
            x, log_derivative = self._fixed_point(y)
        elif isinstance(self.net, MaskedMLP) and self._can_substitute(self.net):
            x, log_derivative = substitute(self.net, self.transformer.inverse, y)
        else:
            x, log_derivative = self._one_by_one(y)
        return x, jnp.sum(log_derivative, axis=0)

    def _can_substitute(self, net):
        # With few variables, whole passes are faster than small steps. Substitution supports neither separate weights
        # for each example nor transformers with arrays, which may differ between variables.
        *inner, last = net.weights
        shared = all(W.ndim == 2 for W in inner) and last.ndim == 3
        return net.num > _FEW_VARIABLES and shared and not jax.tree.leaves(self.transformer)

    def _fixed_point(self, y):
        def moves(carry):
            x, before, i = carry
            moved = jnp.abs(x - before) > self.tolerance * (1 + jnp.abs(x))
            return (i < 1) | (jnp.any(moved) & (i < self.net.num))

        def repeat(carry):
            x, _, i = carry
            return self.transformer.inverse(call_net(self.net, x), y)[0], x, i + 1

        x, _, _ = jax.lax.while_loop(moves, repeat, (y, y, 0))
        return self.transformer.inverse(call_net(self.net, x), y)

    def _one_by_one(self, y):
        """One pass of the whole network for each variable."""
        x = y
        for _ in range(self.net.num - 1):
            x, _ = self.transformer.inverse(call_net(self.net, x), y)
        return self.transformer.inverse(call_net(self.net, x), y)
