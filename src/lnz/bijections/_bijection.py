"""The interface of invertible maps, and functions that take any of them."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import Part
from ..numerics import batch_last, over_batch, understands_batches
from ..spaces import AbstractSpace, Euclidean

if TYPE_CHECKING:  # a checker would take an abstract attribute for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractBijection(Part, eqx.Module):
    """An invertible map from `domain` to `codomain` with its log-determinants.

    Log-determinants are in nats, with respect to the base measures of the two spaces.

    A class may also override two facts, as class attributes or properties:

    - `is_affine`: the map is `y = A x + b`, so that the mean of the pushed-forward distribution is known.
    - `is_elementwise`: each entry of y depends on the same entry of x alone.

    Optional methods, `None` in bijections without them:

    - `start(key, x, inverse)`: takes the starting values of some parts (such as `ActNorm`) from data. The rows
      `x [n, ...]` enter the bijection, from the codomain if `inverse`. Returns the started bijection and the rows that
      leave it, `[n, ...]`. Parts that were started before do not change. Only the preceding layers know which values
      reach a part, so a bijection made of others needs this method, to pass the rows through them.
      `waits_for_data` says whether any part takes its start from data.
    - `for_each_of(shape)`: extends a map of single numbers to examples of this shape.
    - `velocity(t, x)`: `dx/dt` of ONE example at time t, which carries x from time 0 (domain) to time 1 (codomain).
    """

    start: ClassVar[Any] = None
    waits_for_data: ClassVar[bool] = False
    for_each_of: ClassVar[Any] = None
    velocity: ClassVar[Any] = None
    is_affine: ClassVar[bool] = False
    is_elementwise: ClassVar[bool] = False
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
    """A bijection written for arrays `[*shape, *batch]`, the layout that is fast under `jax.vmap` on a CPU.

    Its own arrays may also end in batch axes, added by `jax.vmap`: a flow with separate parameters for each example.
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

    shape: AbstractVar[tuple[int, ...]]  # of one example; the parameters may also have axes of layers or batches

    @property
    def domain(self) -> Euclidean:
        return Euclidean(self.shape)

    @property
    def codomain(self) -> Euclidean:
        return Euclidean(self.shape)


def start(bijection: AbstractBijection, key: PRNGKeyArray, x: Array, inverse: bool) -> tuple[Any, Array]:
    """Calls `bijection.start`, or only maps the rows if the bijection has nothing to start.

    **Raises:** `TypeError` if a part takes its start from data, but the bijection around it has no method `start`.
    """
    if bijection.start is not None and bijection.waits_for_data:
        return bijection.start(key, x, inverse)
    if waits_for_data(bijection):
        raise TypeError(
            f"A part of `{type(bijection).__name__}` takes its start from data (as `ActNorm` does), but "
            f"{type(bijection).__name__} has no method `start` that passes the data on to it."
        )
    return bijection, started_from(bijection, key, x, inverse)


def started_from(bijection: AbstractBijection, key: PRNGKeyArray, x: Array, inverse: bool) -> Array:
    """The rows `[n, ...]` that leave a bijection when the rows `x` enter it."""
    function = bijection.inverse_and_log_det if inverse else bijection.forward_and_log_det
    return jax.vmap(lambda x, key: function(x, key=key)[0])(x, jax.random.split(key, len(x)))


def rows_for_start(key: PRNGKeyArray, data: Any) -> Any:
    """At most 1024 rows of `data`, drawn at random: enough to start a flow."""
    if len(data) <= _MOST_ROWS:
        return data
    return jnp.asarray(data)[jax.random.permutation(key, len(data))[:_MOST_ROWS]]


_MOST_ROWS = 1024


def waits_for_data(tree: Any) -> bool:
    """Whether a part of `tree`, at any depth, takes its start from data."""

    def is_startable(node):
        return isinstance(node, AbstractBijection) and node.start is not None

    if is_startable(tree):
        return tree.waits_for_data
    children = vars(tree).values() if isinstance(tree, eqx.Module) else jax.tree.leaves(tree, is_leaf=_is_module)
    return any(waits_for_data(child) for child in children if child is not tree)


def _is_module(node):
    return isinstance(node, eqx.Module)


def inverse_and_log_scale(bijection: AbstractBijection, y: Array) -> tuple[Array, Float[Array, "..."]]:
    """The inverse of an elementwise bijection, and the logarithm of its slope, entry by entry."""
    x, slope = jax.jvp(lambda y: bijection.inverse_and_log_det(y)[0], (y,), (jnp.ones_like(y),))
    return x, jnp.log(jnp.abs(slope))


def _typed(key: PRNGKeyArray | None) -> PRNGKeyArray | None:
    """Wraps an old-style key, whose extra axis would be taken for a batch axis."""
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
