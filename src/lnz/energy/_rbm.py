import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractBlockDensity,
    AbstractCollapsibleDensity,
    AbstractDistribution,
    AbstractEnergyModel,
    AbstractExponentialFamily,
)
from ..data import is_missing
from ..modules import Frozen, check_key, is_false, register, replace
from ..spaces import AbstractSpace
from ._bipartite import BipartiteDensity, BipartitePath
from ._units import AbstractUnits, BernoulliUnits, as_units, clamp_units

_CHUNK_ROWS = 8192


class RBM(
    AbstractEnergyModel,
    AbstractBlockDensity,
    AbstractCollapsibleDensity,
):
    """Restricted Boltzmann machine, `p(v, h) = exp(-E(v, h)) / Z`, `E(v, h) = -v'Wh - b'v - c'h`.

    As a density it lives on v, with h summed out: `log p~(v) = -F(v)`, exact. Z is a sum over all states: exact by
    `lnz.normalizers.Quadrature` up to 25 units in the smaller layer, else estimated by `lnz.normalizers.AIS`.

    On a GPU, choose the precision of products by `with jax.default_matmul_precision("BF16_BF16_F32_X3"):` around `fit`,
    `evaluate` and the other verbs. For bits, this changes each weight by at most 2**-15 of itself; JAX's own default,
    TensorFloat-32, by 2**-10. `docs/precision.md` has the cost.

    **Arguments:**

    - `visible`, `hidden`: numbers of Bernoulli units, or units such as `lnz.energy.CategoricalUnits(5, 3)` (for which v
      and h in the energy are one-hot).
    - `key`: for the random weights, normal with standard deviation 0.01.
    - `base_rates`: mean of the training data, if known, of the shape of an example (for categories, one rate each,
      `[*shape, num_categories]`) or flat. The visible biases and annealed importance sampling start at its log-odds
      (Hinton 2012, section 8).

    **Raises:** `ValueError` if a number of units is not positive or `base_rates` are not inside (0, 1).

    Source: Smolensky (1986); Hinton (2002), section 5.
    """

    visible: AbstractUnits
    hidden: AbstractUnits
    W: Float[Array, "visible hidden"]
    b: Float[Array, " visible"]
    c: Float[Array, " hidden"]
    base_rates: Frozen | None

    def __init__(
        self,
        visible: int | AbstractUnits,
        hidden: int | AbstractUnits,
        *,
        key: PRNGKeyArray,
        base_rates: Array | None = None,
    ):
        self.visible = as_units(visible, "RBM(visible=...)")
        self.hidden = as_units(hidden, "RBM(hidden=...)")
        self.W = 0.01 * jr.normal(check_key(key), (self.visible.size, self.hidden.size))
        self.c = jnp.zeros(self.hidden.size)
        if base_rates is None:
            self.b, self.base_rates = jnp.zeros(self.visible.size), None
        else:
            self.b = _natural_of_rates(self.visible, base_rates)
            self.base_rates = Frozen(jnp.asarray(base_rates, self.b.dtype).reshape(-1))

    def __check_init__(self):
        if isinstance(self.W, jax.Array) and self.W.shape[-2:] != (self.visible.size, self.hidden.size):
            raise ValueError(
                f"`RBM`: W of shape {self.W.shape} does not join {self.visible.size} visible and {self.hidden.size} "
                "hidden units."
            )
        # A tree of the same form, such as a filter or a gradient, has other things in place of arrays.
        rates = getattr(self.base_rates, "value", None)
        if isinstance(rates, jax.Array) and rates.shape[-1:] != (self.visible.size,):
            raise ValueError(f"`RBM`: base rates of shape {rates.shape} do not fit {self.visible.size} visible units.")

    @classmethod
    def from_parameters(cls, W, b, c) -> "RBM":
        """A machine of Bernoulli units with given `W [visible, hidden]`, `b [visible]`, `c [hidden]`.

        **Raises:** `ValueError` if the shapes do not fit together.
        """
        W = jnp.asarray(W, jnp.result_type(float, jnp.asarray(W).dtype))
        b, c = jnp.asarray(b, W.dtype), jnp.asarray(c, W.dtype)
        if W.ndim != 2 or b.shape != W.shape[:1] or c.shape != W.shape[1:]:
            raise ValueError(
                f"`RBM.from_parameters(W, b, c)` needs shapes [visible, hidden], [visible], [hidden]; got {W.shape}, "
                f"{b.shape}, {c.shape}." + (" Try `W.T`." if b.shape + c.shape == W.shape[::-1] else "")
            )
        rbm = cls(*W.shape, key=jr.key(0))
        return replace(rbm, W=W, b=b, c=c)

    @property
    def space(self) -> AbstractSpace:
        return self.visible.space

    @property
    def num_blocks(self) -> int:
        return 2

    def density(self, temperature: Float[Array, ""] | float = 1.0) -> BipartiteDensity:
        """`p(v) ~ sum_h exp(-E(v, h) / T)`, the density on v at temperature T."""
        if is_false(jnp.all(jnp.asarray(temperature) > 0)):
            raise ValueError(f"`density(temperature=...)` must be positive; got {temperature}.")
        # An array, so that another temperature runs the same compiled code; 1 stays a number, which costs nothing.
        is_one = isinstance(temperature, int | float) and temperature == 1
        beta = 1.0 if is_one else jnp.asarray(1 / temperature, self.W.dtype)
        return BipartiteDensity(self.visible, self.hidden, self.W, self.b, self.c, beta=beta)

    def energy(self, v: Array, h: Array) -> Float[Array, ""]:
        """`E(v, h) = -v'Wh - b'v - c'h` of ONE joint state."""
        v, h = self.visible.space.check_example(v, "v"), self.hidden.space.check_example(h, "h")
        v, h = self.visible.statistics(v, self.W.dtype), self.hidden.statistics(h, self.W.dtype)
        return -(v @ self.W @ h + self.b @ v + self.c @ h)

    def free_energy(self, v: Array) -> Float[Array, ""]:
        """`F(v) = -log sum_h exp(-E(v, h))` of ONE example, in nats, so that `p(v) = exp(-F(v)) / Z`."""
        return -self.log_density(self.space.check_example(v, "v"))

    def hidden_given_visible(self, v: Array) -> AbstractDistribution:
        """`p(h | v)`, with `P(h_j = 1) = sigmoid(c_j + (v'W)_j)` for Bernoulli units."""
        return self.hidden.distribution(self.density().hidden_natural(v))

    def visible_given_hidden(self, h: Array) -> AbstractDistribution:
        """`p(v | h)`, with `P(v_i = 1) = sigmoid(b_i + (Wh)_i)` for Bernoulli units."""
        return self.visible.distribution(self.density().visible_natural(h))

    def transpose(self) -> "RBM":
        """The machine with its layers exchanged: a density on h with the same log Z."""
        return replace(self, visible=self.hidden, hidden=self.visible, W=self.W.T, b=self.c, c=self.b, base_rates=None)

    def log_density(self, x: Array) -> Float[Array, ""]:
        return self.density().log_density(x)

    def split(self, x: Array) -> tuple[Array, ...]:
        return self.density().split(x)

    def join(self, blocks: tuple[Array, ...]) -> Array:
        return self.density().join(blocks)

    def conditional(self, index: int, blocks: tuple[Array, ...]) -> AbstractDistribution:
        return self.density().conditional(index, blocks)

    def collapsed(self) -> BipartiteDensity:
        return self.density().collapsed()

    def expand(self, key: PRNGKeyArray, y: Array) -> Array:
        return self.density().expand(key, y)

    def own_path(self, base_rates: Array | None = None) -> BipartitePath:
        """From independent visible units to this machine: `rbm.path(base_rates)`.

        **Arguments:**

        - `base_rates`: expected state of each visible unit at the start, such as the smoothed mean of the training
          data, shaped as for `RBM`. By default the rates that `fit` stored, else the start has the visible biases b.
        """
        if base_rates is None and self.base_rates is not None:
            base_rates = self.base_rates.value
        start_b = self.b if base_rates is None else _natural_of_rates(self.visible, base_rates)
        return BipartitePath(self.density(), start_b)

    def condition(self, x: Array) -> BipartiteDensity:
        """`h -> -E(x, h)`: independent hidden units, whose log normaliser is `-F(x)`."""
        v = self.visible.statistics(self.space.check_example(x), self.W.dtype)
        return BipartiteDensity(
            visible=self.hidden,
            hidden=BernoulliUnits(0),
            W=jnp.zeros((self.hidden.size, 0), self.W.dtype),
            b=self.c + v @ self.W,
            c=jnp.zeros(0, self.W.dtype),
            offset=jnp.dot(v, self.b),
        )

    def clamp(self, values: Array, mask: Array) -> "RBM":
        """This machine with the visible units where `mask` is true held fixed at `values`.

        Its log normaliser is `log p~` of those units alone, all others summed out; its samples are draws of the others
        given them.

        **Raises:** `ValueError` or `TypeError` for wrong shapes, a mask that is not boolean, or values outside the
        space.
        """
        return replace(self, visible=clamp_units(self.visible, values, mask, self.space))

    def initialise(self, key: PRNGKeyArray, data: Array) -> "RBM":
        """Store the base rates of `data`, smoothed by two pseudo-observations of a uniform distribution.

        Missing entries do not count. Visible biases that are all zero start at the log-odds of the base rates, as with
        `RBM(base_rates=...)`: from zero, PCD learned nothing at all where most units are on.
        """
        if self.base_rates is not None:
            return self
        total, num = _total_statistics(self.visible, jnp.asarray(data), self.W.dtype)
        uniform = self.visible.distribution(jnp.zeros_like(self.b)).expected_statistics()
        rates = (total + 2 * uniform) / (num + 2)
        # Without a branch, so that the memory of training can be estimated without any data.
        b = jnp.where(jnp.all(self.b == 0), _natural_of_rates(self.visible, rates).astype(self.b.dtype), self.b)
        return replace(self, b=b, base_rates=Frozen(rates))


@functools.partial(jax.jit, static_argnums=2)
def _total_statistics(
    units: AbstractUnits, data: Array, dtype: Any
) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
    """Sum over the known entries of `data [n, ...]`, and their number; rows become floats chunk by chunk."""

    def one(v):
        missing = is_missing(units.space, v)
        known = jnp.repeat((~missing).astype(dtype).reshape(-1), units.size // max(1, v.size))
        return known * units.statistics(jnp.where(missing, jnp.zeros_like(v), v), dtype), known

    def total(rows):
        return jax.tree.map(lambda values: jnp.sum(values, axis=0), jax.vmap(one)(rows))

    num_chunks = len(data) // _CHUNK_ROWS

    def add(i, so_far):
        rows = jax.lax.dynamic_slice_in_dim(data, i * _CHUNK_ROWS, _CHUNK_ROWS)
        return jax.tree.map(jnp.add, so_far, total(rows))

    rest = total(data[num_chunks * _CHUNK_ROWS :])
    return rest if num_chunks == 0 else jax.lax.fori_loop(0, num_chunks, add, rest)


def _natural_of_rates(units: AbstractUnits, base_rates: Array) -> Float[Array, " size"]:
    rates = jnp.asarray(base_rates, jnp.result_type(float))
    shape = units.space.shape
    if units.size != units.space.size:
        shape = (*shape, units.size // units.space.size)  # a rate for each category
    if rates.shape not in (shape, (units.size,)):
        flat = "" if shape == (units.size,) else f", or flat, ({units.size},)"
        raise ValueError(f"`base_rates` must have shape {shape}{flat}; got {rates.shape}.")
    rates = rates.reshape(-1)
    if is_false(jnp.all((rates > 0) & (rates < 1))):
        raise ValueError(
            "`base_rates` must lie strictly between 0 and 1; smooth them, for instance "
            "`(data.sum(0) + 1) / (len(data) + 2)`."
        )
    family: AbstractExponentialFamily = units.distribution(jnp.zeros_like(rates))
    return family.with_expected_statistics(rates).natural


@register
def centred_gradient(model: RBM, gradient: RBM, positive: Array, negative: Array) -> RBM:
    """The gradient of `-log p` in coordinates where both layers have mean zero.

    Subtracting the means makes learning insensitive to flipping zeros and ones, and removes a large part of the
    coupling between weights and biases. Give it to an objective: `PCD(precondition=centred_gradient)`.

    **Arguments:**

    - `model`, `gradient`: a machine and the plain gradient of the loss with respect to it.
    - `positive`, `negative`: data and model samples `[n, ...]`; the offsets are the averages of both.

    Source: Melchior, Fischer and Wiskott (2016), algorithm 1 (average of data and model means as offset).
    """

    def means(v):
        natural = jax.vmap(model.density().hidden_natural)(v)
        h = jax.vmap(lambda n: model.hidden.distribution(n).expected_statistics())(natural)
        t = jax.vmap(lambda v: model.visible.statistics(v, model.W.dtype))(v)
        return jnp.mean(t, axis=0), jnp.mean(h, axis=0)

    (v_data, h_data), (v_model, h_model) = means(positive), means(negative)
    v_mean, h_mean = 0.5 * (v_data + v_model), 0.5 * (h_data + h_model)
    W = gradient.W - jnp.outer(v_mean, gradient.c) - jnp.outer(gradient.b, h_mean)
    return replace(gradient, W=W, b=gradient.b - W @ h_mean, c=gradient.c - W.T @ v_mean)
