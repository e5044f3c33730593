"""Invertible maps and the distributions that they push forward."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._batch_last import batch_last, over_batch, understands_batches
from ._check import model_dtype
from ._density import AbstractDistribution, closed_form_mean
from ._local import origins
from ._model import AbstractDataDependent
from ._module import HashableMethods, field_names, replace
from ._real_family import has_marginals
from ._register import register
from ._space import AbstractSpace, Euclidean
from ._stochastic import is_stochastic
from ._supports import has_circles, has_ends, is_rounded, is_within, nearest_inside

if TYPE_CHECKING:  # a checker would take an abstract attribute for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractBijection(HashableMethods, eqx.Module):
    """An invertible map from `domain` to `codomain` with its log-determinants.

    Log-determinants are with respect to the base measures of the two spaces, in nats.

    A class of maps `y = A x + b` may declare `affine: ClassVar[bool] = True`, or a property of that name where it
    depends on its parts: then the mean of what it pushes forward is known. A field called so declares nothing.
    """

    affine: ClassVar[bool]
    domain: AbstractVar[AbstractSpace]
    codomain: AbstractVar[AbstractSpace]

    @abstractmethod
    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        """`y = f(x)` of ONE example and `log |det df/dx|`."""

    @abstractmethod
    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        """`x = f^-1(y)` of ONE example and `log |det df^-1/dy|`."""

    def forward(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """`y = f(x)` of ONE example."""
        return self.forward_and_log_det(x, key=key)[0]

    def inverse(self, y: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """`x = f^-1(y)` of ONE example."""
        return self.inverse_and_log_det(y, key=key)[0]


class AbstractBatchLastBijection(AbstractBijection):
    """A bijection written for arrays `[*shape, *batch]`, which is how it is fast under `jax.vmap` on a CPU.

    Its own arrays may have batch axes last too, when `jax.vmap` made them: a flow with parameters for each example.
    """

    batch_last: ClassVar[bool] = True

    @abstractmethod
    def forward_batch_last(self, x: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        """`y [*shape, *batch]` and `log |det df/dx| [*batch]` of `x [*shape, *batch]`, with keys `[*batch]` or none."""

    @abstractmethod
    def inverse_batch_last(self, y: Array, key: Array | None = None) -> tuple[Array, Float[Array, "..."]]:
        """`x [*shape, *batch]` and `log |det df^-1/dy| [*batch]` of `y [*shape, *batch]`."""

    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        x = self.domain.check_example(x)
        return batch_last(_forward, self, _typed(key), x, takes_batched_parameters=understands_batches(self))

    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        y = self.codomain.check_example(y, "y")
        return batch_last(_inverse, self, _typed(key), y, takes_batched_parameters=understands_batches(self))


class AbstractSelfMap(AbstractBijection):
    """A bijection of a space to itself."""

    space: AbstractVar[AbstractSpace]

    @property
    def domain(self) -> AbstractSpace:
        return self.space

    @property
    def codomain(self) -> AbstractSpace:
        return self.space


class AbstractEuclideanMap(AbstractBijection):
    """A bijection of `R^shape` to itself."""

    shape: AbstractVar[tuple[int, ...]]  # of one example; its arrays may have axes of layers or batches too

    @property
    def domain(self) -> Euclidean:
        return Euclidean(self.shape)

    @property
    def codomain(self) -> Euclidean:
        return Euclidean(self.shape)


class AbstractStartable(AbstractBijection):
    """A bijection of which some part, perhaps deep inside, takes something from the data that reach it.

    Only the layers before a part know what reaches it. So whoever holds bijections passes the data through them,
    and starts each on the way.
    """

    waits_for_data: AbstractVar[bool]

    @abstractmethod
    def start(self, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple["AbstractStartable", Array]:
        """The bijection, started, and what leaves it, `[n, ...]`, of the rows `x [n, ...]` that reach it.

        `inverse` says that they come from the codomain and leave to the domain. Parts that have been started before do
        not change.
        """


def start(bijection: AbstractBijection, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple[Any, Array]:
    """`AbstractStartable.start` of any bijection; most have nothing to start.

    **Raises:** `TypeError` if something that waits for data is inside a bijection that does not pass them on.
    """
    if isinstance(bijection, AbstractStartable) and bijection.waits_for_data:
        return bijection.start(key, x, inverse)
    if waits_for_data(bijection):
        raise TypeError(
            f"A part of `{type(bijection).__name__}` takes its start from data (as `ActNorm` does), but "
            f"{type(bijection).__name__} is no `AbstractStartable`, which would pass them on."
        )
    return bijection, started_from(bijection, key, x, inverse)


def started_from(bijection: AbstractBijection, key: PRNGKeyArray, x: Array, inverse: bool) -> Array:
    """What leaves a bijection, of rows `[n, ...]`."""
    function = bijection.inverse_and_log_det if inverse else bijection.forward_and_log_det
    return jax.vmap(lambda x, key: function(x, key=key)[0])(x, jax.random.split(key, len(x)))


def waits_for_data(tree: Any) -> bool:
    """Whether a part of `tree`, at any depth, takes its start from data."""

    def is_startable(node):
        return isinstance(node, AbstractStartable)

    if is_startable(tree):
        return tree.waits_for_data
    children = vars(tree).values() if isinstance(tree, eqx.Module) else jax.tree.leaves(tree, is_leaf=_is_module)
    return any(waits_for_data(child) for child in children if child is not tree)


def _is_module(node):
    return isinstance(node, eqx.Module)


_MOST_ROWS = 1024


@eqx.filter_jit
def _started(bijection, key, rows):
    return start(bijection, key, rows, inverse=True)[0]


class AbstractVelocityBijection(AbstractBijection):
    """A bijection that carries x from time 0 (domain) to time 1 (codomain) along `dx/dt = velocity(t, x)`."""

    @abstractmethod
    def velocity(self, t: Float[Array, ""], x: Array) -> Array:
        """`dx/dt` of ONE example at time t."""


def is_affine(bijection: AbstractBijection) -> bool:
    """Whether its class declares it `affine`: then it takes the mean to the mean."""
    return "affine" not in field_names(type(bijection)) and getattr(bijection, "affine", False) is True


def is_elementwise(bijection: AbstractBijection) -> bool:
    """Whether its class declares it `elementwise`: then each entry is a function of the same entry alone."""
    return getattr(bijection, "elementwise", False) is True


def inverse_and_log_scale(bijection: AbstractBijection, y: Array) -> tuple[Array, Float[Array, "..."]]:
    """The inverse of an elementwise bijection, and the logarithm of its slope, entry by entry."""
    x, slope = jax.jvp(lambda y: bijection.inverse_and_log_det(y)[0], (y,), (jnp.ones_like(y),))
    return x, jnp.log(jnp.abs(slope))


def _typed(key: PRNGKeyArray | None) -> PRNGKeyArray | None:
    """An old-style key has an axis of its own, which would be taken for one of the batch."""
    if key is None or jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def _forward(bijection, key, x):
    return bijection.forward_batch_last(x, key)


def _inverse(bijection, key, y):
    return bijection.inverse_batch_last(y, key)


def forward_batch_last(bijection: AbstractBijection, x: Array, key: Array | None = None):
    """`forward_and_log_det` of any bijection on `[*shape, *batch]`."""
    if isinstance(bijection, AbstractBatchLastBijection):
        return bijection.forward_batch_last(x, key)
    return _one_by_one(bijection.forward_and_log_det, x, key, x.ndim - len(bijection.domain.shape))


def inverse_batch_last(bijection: AbstractBijection, y: Array, key: Array | None = None):
    """`inverse_and_log_det` of any bijection on `[*shape, *batch]`."""
    if isinstance(bijection, AbstractBatchLastBijection):
        return bijection.inverse_batch_last(y, key)
    return _one_by_one(bijection.inverse_and_log_det, y, key, y.ndim - len(bijection.codomain.shape))


def _one_by_one(function, x, key, num_batch):
    if key is None:
        return over_batch(function, num_batch)(x)
    batch = x.shape[x.ndim - num_batch :]
    # A key that all examples share has no batch axes of its own.
    keys = jnp.broadcast_to(key[(..., *(None,) * (num_batch - key.ndim))], batch)
    return over_batch(lambda x, key: function(x, key=key), num_batch)(x, keys)


@register
class Transformed(AbstractDistribution, AbstractDataDependent):
    """The distribution of `f(z)`, `z ~ base`: a normalizing flow.

    `log p(x) = log base(f^-1(x)) + log |det df^-1/dx|` in nats.

    **Arguments:**

    - `base`: on the domain of the bijection, or on a part of it, such as a uniform that an affine map moves.
    - `bijection`: from that domain onto the space of the flow.

    **Raises:** `ValueError` if the base has mass outside the domain: the result would not integrate to one.

    Source: Rezende and Mohamed (2015), equation 5; arXiv:1505.05770.
    """

    base: AbstractDistribution
    bijection: AbstractBijection

    def __init__(self, base: AbstractDistribution, bijection: AbstractBijection):
        for_each_of = getattr(bijection, "for_each_of", None)  # a map of single numbers, as `Affine(1.0, 2.0)`
        if for_each_of is not None and isinstance(base, AbstractDistribution) and bijection.domain.shape == ():
            bijection = for_each_of(base.space.shape)
        self.base, self.bijection = base, bijection

    def __check_init__(self):
        if not isinstance(self.base, AbstractDistribution) or not isinstance(self.bijection, AbstractBijection):
            raise TypeError(
                "`Transformed(base, bijection)` needs a distribution and then a bijection; got "
                f"{type(self.base).__name__} and {type(self.bijection).__name__}."
            )
        if self.base.space.shape != self.bijection.domain.shape:
            raise ValueError(
                f"`Transformed(base, bijection)`: the base lives on {self.base.space}, but the bijection starts from "
                f"{self.bijection.domain}."
            )
        if self.base.space.base_measure != self.bijection.domain.base_measure:
            raise ValueError(
                f"`Transformed(base, bijection)`: the base has {self.base.space.base_measure} measure "
                f"({self.base.space}), but the bijection starts from {self.bijection.domain}, with "
                f"{self.bijection.domain.base_measure} measure. A flow needs a base with a density."
            )
        # A smaller base is fine: it says itself that its density is zero on the rest of the domain.
        if not is_within(self.base.space, self.bijection.domain):
            domain = self.bijection.domain
            raise ValueError(
                f"`Transformed(base, bijection)`: the base lives on {self.base.space}, but the bijection takes only "
                f"{domain}, so the result would not integrate to one. Use a base on that space: with `space = "
                f"bijection.domain`, `lnz.Transformed(lnz.flows.base_for(space), lnz.bijections.ToSupport(space))`."
            )

    @property
    def space(self) -> AbstractSpace:
        return self.bijection.codomain

    def origins(self) -> tuple[Any, ...]:
        """Those of the bijection."""
        return origins(self.bijection)

    def closed_form_mean(self) -> Array | None:
        """The image of the base's mean under an affine map; `None` for other maps."""
        mean = closed_form_mean(self.base) if is_affine(self.bijection) else None
        return None if mean is None else self.bijection.forward_and_log_det(mean)[0]

    @property
    def has_marginals(self) -> bool:
        return has_marginals(self.base) and is_elementwise(self.bijection)

    def marginal_log_prob(self, x: Array, observed: Bool[Array, "..."]) -> Float[Array, ""]:
        """`log p(x[observed])` of ONE example in nats, if the base has marginals and the bijection is elementwise."""
        z, log_scale = inverse_and_log_scale(self.bijection, jnp.where(observed, self.space.check_example(x), 0))
        return self.base.marginal_log_prob(z, observed) + jnp.sum(jnp.where(observed, log_scale, 0))  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def reparameterised(self) -> bool:
        return self.base.reparameterised

    def initialise(self, key: PRNGKeyArray, data: Array) -> "Transformed":
        """The flow, of which every `lnz.bijections.ActNorm` has taken its start from `data [n, *shape]`.

        At most 1024 rows, drawn by `key`, go through the layers from data to base, and each layer is started by what
        reaches it. Without such a layer nothing happens, and a second time nothing changes.

        **Raises:** `ValueError` if the rows are no points of the flow's space, as in a flow that is the prior of
        a latent model: then start it before, from latents.
        """
        if not waits_for_data(self.bijection):
            return self
        if data.shape[1:] != self.space.shape:
            raise ValueError(
                f"`initialise(key, data)`: the flow lives on {self.space}, and its `ActNorm` layers start from such "
                f"rows; got rows of shape {data.shape[1:]}."
            )
        key_rows, key_layers = jax.random.split(key)
        if len(data) > _MOST_ROWS:
            data = jnp.asarray(data)[jax.random.permutation(key_rows, len(data))[:_MOST_ROWS]]
        rows = self.space.cast(data, model_dtype(self))
        return replace(self, bijection=_started(self.bijection, key_layers, rows))

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        key_base, key_map = (None, None) if key is None or not is_stochastic(self) else jax.random.split(key)
        x = self.space.check_example(x)
        z, log_det = self.bijection.inverse_and_log_det(x, key=key_map)
        log_prob = self.base.log_prob(z, key=key_base) + log_det
        if not has_circles(self.space):
            return log_prob
        # Maps of circles wrap their input: a number that is not an angle would have the density of one.
        outside = ~self.space.elements_within(x) & ~jnp.isnan(x)
        return jnp.where(jnp.any(outside), -jnp.inf, log_prob)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        return self._push(key, shape)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        """Draws inside the space, with the log-probabilities of the draws as they are returned.

        Near an end of a space numbers are so coarse that a draw is rounded far from `f(z)`, in units of the base. Where
        one is, log-probabilities come from `log_prob`; their gradients do not notice the rounding.
        """
        x, log_prob = self._push(key, shape)
        if not has_ends(self.space) or is_stochastic(self):
            return x, log_prob
        rounded = is_rounded(self.space, x)
        arrays, rest = eqx.partition(self, eqx.is_inexact_array)
        arrays, points = jax.lax.stop_gradient((arrays, x))
        score = eqx.combine(arrays, rest).log_prob
        for _ in shape:
            score = jax.vmap(score)
        again = jax.lax.cond(
            jnp.any(rounded), lambda: score(points).astype(log_prob.dtype), lambda: jax.lax.stop_gradient(log_prob)
        )
        return x, jnp.where(rounded, again + (log_prob - jax.lax.stop_gradient(log_prob)), log_prob)

    def _push(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> tuple[Array, Float[Array, "..."]]:
        key_base, key_map = jax.random.split(key)

        def push(key, z, log_prob):
            x, log_det = self.bijection.forward_and_log_det(z, key=key)
            return x, log_prob - log_det

        for _ in shape:
            push = jax.vmap(push)
        # A key for each draw and layer may take longer than the map itself, so none are made where none are used.
        keys = None
        if is_stochastic(self.bijection):
            keys = jax.random.split(key_map, shape) if shape else key_map
        x, log_prob = push(keys, *self.base.sample_and_log_prob(key_base, shape))
        return nearest_inside(self.space, x), log_prob
