"""The density of every layered Boltzmann machine: two layers, with no connections within a layer."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractBlockDensity, AbstractCollapsibleDensity, AbstractDistribution, AbstractPath
from ..spaces import AbstractSpace
from ._units import AbstractUnits


class BipartiteDensity(AbstractBlockDensity, AbstractCollapsibleDensity):
    """`log p~(v) = offset + b.t(v) + A_h(c + t(v) W)`: hidden units summed out, at inverse temperature beta.

    The joint is `log p~(v, h) = beta (offset + t(v)'W t(h) + b.t(v) + c.t(h)) + (1 - beta) (start_offset +
    start_b.t(v) + start_c.t(h))`, where A is the log partition function of a layer's units (a sum of softplus for
    Bernoulli units). At beta = 1 it is a restricted Boltzmann machine; other betas lie on the way from independent
    units with biases `start_b` and `start_c`. Products come before scaling by beta, so that a batch of chains at
    different beta shares one `t(v) @ W`.

    Source: Salakhutdinov and Murray (2008), equations 10 and 16 to 18.
    """

    visible: AbstractUnits
    hidden: AbstractUnits
    W: Float[Array, "visible hidden"]
    b: Float[Array, " visible"]
    c: Float[Array, " hidden"]
    offset: Float[Array, ""] | float = 0.0
    beta: Float[Array, ""] | float = 1.0
    start_b: Float[Array, " visible"] | float = 0.0
    start_c: Float[Array, " hidden"] | float = 0.0
    start_offset: Float[Array, ""] | float = 0.0

    @property
    def num_blocks(self) -> int:
        return 2

    @property
    def space(self) -> AbstractSpace:
        return self.visible.space

    def hidden_natural(self, v: Array) -> Float[Array, " hidden"]:
        """Input of the hidden units given v."""
        v = self.visible.space.check_example(v, "v")
        input = self.c + self.visible.statistics(v, self.W.dtype) @ self.W
        return self.beta * input + (1 - self.beta) * self.start_c

    def visible_natural(self, h: Array) -> Float[Array, " visible"]:
        """Input of the visible units given h."""
        h = self.hidden.space.check_example(h, "h")
        input = self.b + self.hidden.statistics(h, self.W.dtype) @ self.W.T
        return self.beta * input + (1 - self.beta) * self.start_b

    def log_density(self, x: Array) -> Float[Array, ""]:
        x = self.space.check_example(x)
        bias = self.beta * self.b + (1 - self.beta) * self.start_b
        constant = self.beta * self.offset + (1 - self.beta) * self.start_offset
        linear = jnp.dot(self.visible.statistics(x, self.W.dtype), bias)
        base = self.visible.log_base(x)
        return constant + linear + base + self.hidden.log_partition(self.hidden_natural(x))

    def split(self, x: Array) -> tuple[Array, ...]:
        hidden = self.hidden.space
        return jnp.zeros(hidden.shape, self.W.dtype if hidden.kind == "float" else jnp.int32), x

    def join(self, blocks: tuple[Array, ...]) -> Array:
        return blocks[1]

    def conditional(self, index: int, blocks: tuple[Array, ...]) -> AbstractDistribution:
        h, v = blocks
        if index == 0:
            return self.hidden.distribution(self.hidden_natural(v))
        return self.visible.distribution(self.visible_natural(h))

    def transpose(self) -> "BipartiteDensity":
        """The same joint as a density over the hidden layer; it has the same log Z."""
        return BipartiteDensity(
            self.hidden,
            self.visible,
            self.W.T,
            self.c,
            self.b,
            self.offset,
            self.beta,
            self.start_c,
            self.start_b,
            self.start_offset,
        )

    def collapsed(self) -> "BipartiteDensity":
        return self if self._visible_is_smaller() else self.transpose()

    def expand(self, key: PRNGKeyArray, y: Array) -> Array:
        if self._visible_is_smaller():
            return y
        return self.visible.distribution(self.visible_natural(y)).sample(key)

    def _visible_is_smaller(self) -> bool:
        visible, hidden = self.visible.space.num_points, self.hidden.space.num_points
        if visible is None or hidden is None:
            return visible is not None
        return visible <= hidden

    def own_path(self) -> AbstractPath:
        return BipartitePath(self, self.b)


class BipartitePath(AbstractPath):
    """From independent visible units with biases `start_b` to `target`, hidden units switched on by beta.

    **Arguments:**

    - `target`: the density at beta = 1.
    - `start_b`: visible biases of the start. The log-odds of the data's mean (the base rates) start much closer to a
      trained model than uniform bits.

    Source: Salakhutdinov and Murray (2008), equations 16 to 18.
    """

    target: BipartiteDensity
    start_b: Float[Array, " visible"]

    @property
    def start(self) -> AbstractDistribution:
        return self.target.visible.distribution(self.start_b)

    def _start_offset(self) -> Float[Array, ""]:
        # Makes at(0) normalised: independent visible units times free hidden units.
        free = self.target.hidden.log_partition(jnp.zeros_like(self.target.c))
        return -(self.target.visible.log_partition(self.start_b) + free)

    def at(self, beta: Float[Array, ""] | float) -> BipartiteDensity:
        target = _collapse_beta(self.target)
        return BipartiteDensity(
            target.visible,
            target.hidden,
            target.W,
            target.b,
            target.c,
            target.offset,
            beta,
            start_b=self.start_b,
            start_offset=self._start_offset(),
        )

    def log_ratio(self, beta0: Float[Array, ""] | float, beta1: Float[Array, ""] | float, x: Array) -> Float[Array, ""]:
        density = self.at(beta0)
        t = density.visible.statistics(x, density.W.dtype)
        # At beta the hidden input is beta (c + t W): it moves by (beta1 - beta0) times the bracket.
        input = density.c + t @ density.W
        change = beta1 - beta0
        linear = density.offset - density.start_offset + jnp.dot(t, density.b - self.start_b)
        moved = change * linear + density.hidden.log_partition_difference(beta0 * input, change * input)
        return jnp.where(change == 0, 0, moved)  # zero times an infinite bias is NaN


def _collapse_beta(density: BipartiteDensity) -> BipartiteDensity:
    """The same density written with beta = 1, for annealing towards a density that is already tempered."""
    if isinstance(density.beta, float) and density.beta == 1.0:
        return density
    beta, rest = density.beta, 1 - density.beta
    return BipartiteDensity(
        density.visible,
        density.hidden,
        beta * density.W,
        beta * density.b + rest * density.start_b,
        beta * density.c + rest * density.start_c,
        beta * density.offset + rest * density.start_offset,
    )
