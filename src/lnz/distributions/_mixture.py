import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractDistribution, closed_form_mean, draw_then_score, has_marginals
from ..modules import as_floats
from ..numerics import aligned, batch_last, log_sum
from ..spaces import AbstractSpace
from ._bernoulli import Bernoulli, log_prob_by_products
from ._normal import Normal


class Mixture(AbstractDistribution):
    """`p(x) = sum_k w_k p_k(x)`, `w = softmax(logits)`.

    **Arguments:**

    - `logits`: log weights `[num_components]`, up to a constant.
    - `components`: one distribution whose arrays have a leading axis of length `num_components`, as `jax.vmap` makes
      it: `Bernoulli(logits)` with logits `[num_components, n]` is `num_components` distributions on `Binary(n)`.
    """

    logits: Float[Array, " num_components"] = eqx.field(converter=as_floats)
    components: AbstractDistribution

    def __check_init__(self):
        if self.logits.ndim == 0:
            raise ValueError(f"`Mixture(logits=...)` needs one log weight a component; got the number {self.logits}.")
        if not isinstance(self.components, AbstractDistribution):
            raise TypeError(
                f"`Mixture(components=...)` must be one distribution with stacked arrays; got "
                f"{type(self.components).__name__}. Stack components of one class: "
                "`jax.tree.map(lambda *leaves: jnp.stack(leaves), *components)`."
            )
        num_components = self.logits.shape[0]
        leaves = jax.tree.leaves(eqx.filter(self.components, eqx.is_array))
        if not leaves:
            raise ValueError(
                f"`Mixture(components=...)`: {type(self.components).__name__} has no arrays, so nothing tells its "
                "components apart."
            )
        for leaf in leaves:
            if leaf.ndim == 0 or leaf.shape[0] != num_components:
                raise ValueError(
                    f"`Mixture(components=...)` must be stacked: every array needs a leading axis of length "
                    f"{num_components}, as `logits` has; got shape {leaf.shape}."
                )

    @property
    def num_components(self) -> int:
        return self.logits.shape[0]

    @property
    def weights(self) -> Float[Array, " num_components"]:
        return jax.nn.softmax(self.logits)

    @property
    def space(self) -> AbstractSpace:
        return self.component(0).space

    def component(self, index: Int[Array, ""] | int) -> AbstractDistribution:
        """Component number `index`, on its own."""
        arrays, rest = eqx.partition(self.components, eqx.is_array)
        return eqx.combine(jax.tree.map(lambda leaf: leaf[index], arrays), rest)

    @property
    def has_marginals(self) -> bool:
        return has_marginals(self.components)

    def log_joint(self, x: Array, observed: Bool[Array, "..."] | None = None) -> Float[Array, " num_components"]:
        """`log w_k + log p_k(x)` for every component; its softmax is the posterior over components.

        - `observed`: mask of the entries of x that count, all by default; the others are integrated out.
        """
        x = self.space.check_example(x)
        log_weights = jax.nn.log_softmax(self.logits)
        if observed is not None:
            marginals = eqx.filter_vmap(_marginal_log_prob, in_axes=(eqx.if_array(0), None, None))
            return log_weights + marginals(self.components, x, observed)
        if isinstance(self.components, Normal):
            loc, log_scale = (
                a.reshape(self.num_components, -1) for a in (self.components.loc, self.components.log_scale)
            )
            x = x.astype(loc.dtype).reshape(-1)
            return batch_last(_log_joint_of_normals, log_weights, loc, log_scale, x, takes_batched_parameters=True)
        log_prob = log_prob_by_products if isinstance(self.components, Bernoulli) else _log_prob
        return log_weights + eqx.filter_vmap(log_prob, in_axes=(eqx.if_array(0), None))(self.components, x)

    def closed_form_mean(self) -> Array | None:
        """The weighted mean of the components' means; `None` where these have no closed form."""
        means = eqx.filter_vmap(closed_form_mean)(self.components)
        return None if means is None else jnp.tensordot(self.weights, means, 1)

    @property
    def reparameterised(self) -> bool:
        return False  # the choice of a component is a jump

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        return log_sum(self.log_joint(x))

    def marginal_log_prob(self, x: Array, observed: Bool[Array, "..."]) -> Float[Array, ""]:
        """`log p(x[observed])` of ONE example in nats, all other entries integrated out.

        Works if the components have marginals.
        """
        return log_sum(self.log_joint(x, observed))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        key_index, key_x = jr.split(key)
        index = jr.categorical(key_index, self.logits, shape=shape)

        def draw(key, index):
            return self.component(index).sample(key)

        for _ in shape:
            draw = jax.vmap(draw)
        return draw(jr.split(key_x, shape) if shape else key_x, index)

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        return draw_then_score(self, key, shape)


def _log_joint_of_normals(log_weights: Array, loc: Array, log_scale: Array, x: Array) -> Array:
    """`[K, *batch]` from `[K]`, `[K, n]` twice and `x [n, *batch]`. All but x may have batch axes or none.

    The array over components, variables and examples has the examples last and is never stored. (Two matrix products
    would do too, but lose the digits of narrow components.)
    """
    num_batch = x.ndim - 1
    # Each may have batch axes or none. Align them one by one: sizes that happen to agree would hide a mistake.
    log_weights, volumes = (aligned(a, 1, num_batch) for a in (log_weights, jnp.sum(log_scale, axis=1)))
    constant = log_weights - volumes - 0.5 * math.log(2 * math.pi) * loc.shape[1]
    # Without a barrier, XLA draws the noise of x again for every component, inside the loop.
    loc, precision, x = jax.lax.optimization_barrier((loc, jnp.exp(-log_scale), x))
    loc, precision = (aligned(a, 2, num_batch) for a in (loc, precision))
    z = (x[None] - loc) * precision
    return constant - 0.5 * jnp.sum(z**2, axis=1)


def _log_prob(component: AbstractDistribution, x: Array) -> Float[Array, ""]:
    return component.log_prob(x)


def _marginal_log_prob(component: AbstractDistribution, x: Array, observed: Array) -> Float[Array, ""]:
    return component.marginal_log_prob(x, observed)  # pyright: ignore[reportAttributeAccessIssue]
