"""Interfaces of densities, distributions, models and the paths between densities. Every algorithm acts on these."""

import functools
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import HashableMethods, Part, check_key, check_shape, model_dtype
from ..spaces import AbstractSpace
from ._estimate import Estimate
from ._stochastic import assumptions, is_stochastic

if TYPE_CHECKING:  # type checkers would take an `AbstractVar` for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractNormalizer(eqx.Module):
    """An algorithm for `log int exp(density.log_density(x)) dx`.

    Optional attributes or properties of a class:

    - `is_smooth`: for a fixed key the estimate is a smooth function of the density, without chains or searches.
    - `is_random`: the estimate depends on the key.
    - `exact_draws`: draws of the one density the method was made for; its chains start from them.
    """

    is_smooth: ClassVar[bool] = False
    is_random: ClassVar[bool] = True
    exact_draws: ClassVar[Any] = None

    @property
    @abstractmethod
    def name(self) -> str:
        """Name for tables of results, such as "AIS" or "IWAE-5000"."""

    @abstractmethod
    def cost(self, density: "AbstractDensity") -> int:
        """Number of density evaluations, or of sweeps through the variables, per estimate."""

    @abstractmethod
    def __call__(self, key: PRNGKeyArray, density: "AbstractDensity") -> Estimate:
        """The log normaliser of `density` in nats, with its error and the direction of its bias."""


class AbstractDensity(Part, eqx.Module):
    """A density known up to a constant, on one space.

    `space` says where one example lives and sets the base measure. A density of your own needs only `space` and
    `log_density`; `lnz.density(space, function)` makes one from a plain function.
    """

    own_path: ClassVar[Any] = None  # an optional method: see `path`

    space: AbstractVar[AbstractSpace]

    @abstractmethod
    def log_density(self, x: Array) -> Float[Array, ""]:
        """`log p~(x)` of ONE example in nats, up to the log normaliser."""

    def path(self, *args: Any, **kwargs: Any) -> "AbstractPath":
        """A path from a normalised distribution that can be sampled (beta = 0) to this density (beta = 1).

        A class that knows a good path defines `own_path(...)`, which receives the arguments, as in
        `rbm.path(base_rates)`. Every other density takes the geometric path from the reference distribution of its
        space (`lnz.Reference`), such as the standard normal.
        """
        if self.own_path is not None:
            return self.own_path(*args, **kwargs)
        if args or kwargs:
            raise TypeError(
                f"`path()` of {type(self).__name__} takes no arguments. For another start pass "
                "`lnz.GeometricPath(start, density)`."
            )
        # Imported here, because the modules of paths import this one.
        from ._path import GeometricPath
        from ._reference import Reference

        return GeometricPath(Reference(self.space, model_dtype(self)), self)


class AbstractPath(HashableMethods, eqx.Module):
    """A family of densities from `start` (beta = 0) to a target (beta = 1).

    Only paths know about annealing: samplers see the density `at(beta)`. `at(0)` is `start`, normalised; `at(1)` is the
    target, with the target's own constant.
    """

    start: AbstractVar["AbstractDistribution"]

    @abstractmethod
    def at(self, beta: Float[Array, ""] | float) -> AbstractDensity:
        """The density at inverse temperature `beta` in [0, 1].

        It must keep the arrays of the model unscaled: a weight matrix scaled for each chain would turn one matrix
        product into a batch of them.
        """

    @abstractmethod
    def log_ratio(self, beta0: Float[Array, ""] | float, beta1: Float[Array, ""] | float, x: Array) -> Float[Array, ""]:
        """`at(beta1).log_density(x) - at(beta0).log_density(x)` in nats, computed without cancellation.

        Annealed importance sampling sums these increments. With 100,000 temperatures each one is a hundred-thousandth
        of a difference of hundreds, so plain subtraction in float32 is not enough.

        The result is zero for equal temperatures, also at points that are impossible under the target (`scale_ratio`).
        """


class AbstractModel(Part, eqx.Module):
    """An explicit generative model of examples in `space`.

    Its log-likelihood is the difference of two log normalisers, a numerator for each example and a denominator shared
    by all: `log p(x) = log int p~(x, z) dz - log int int p~(x, z) dz dx`. A model returns the densities that have these
    normalisers, and their types decide which method computes them.

    Optional methods, `None` in models without them:

    - `condition(x)`: the density of everything unobserved given ONE example. It has the same log normaliser as
      `numerator(x)`; see `lnz.condition`.
    - `clamp(values, mask)`: the density of all free variables, given `x[mask] == values[mask]`. Its log normaliser is
      `log p~(x[mask])`.
    - `ancestor()`: the density from which samples start, such as the prior of a latent-variable model. A model without
      an ancestor is itself a density of examples.
    - `descend(key, state)`: an example, given one draw of `ancestor()` or of `clamp(values, mask)`.
    """

    condition: ClassVar[Any] = None
    clamp: ClassVar[Any] = None
    ancestor: ClassVar[Any] = None
    descend: ClassVar[Any] = None

    space: AbstractVar[AbstractSpace]

    @abstractmethod
    def numerator(self, x: Array, observed: Array | None = None) -> AbstractDensity:
        """`z -> log p~(x, z)` for ONE example: a density over everything else, or `lnz.Known(value)` if that is known.

        With `observed`, a mask of the shape of x, it is a density over everything except `x[observed]`.

        **Raises:** `TypeError` for a mask if the model cannot sum over single entries of x.
        """

    @abstractmethod
    def denominator(self) -> AbstractDensity:
        """`(x, z) -> log p~(x, z)`: `lnz.Known(0)` for a normalised model."""


class AbstractDistribution(AbstractDensity, AbstractModel):
    """A normalised density that can be sampled.

    The denominator is exact, and so is the numerator, with two exceptions. If a flow estimates its log-determinants,
    the numerator is `lnz.Drawn`. If a flow is computed to a tolerance, the numerator states it in `assumes`.

    Optional attributes and methods:

    - `closed_form_mean()`: `E[x]`, or `None` if a part has no closed form; see `mean`.
    - `marginal_log_prob(x, observed)`: `log p(x[observed])` in closed form, if `has_marginals` is true.
    - `factorised`: the components are independent, and every array has the shape of the space.
    """

    closed_form_mean: ClassVar[Any] = None
    factorised: ClassVar[bool] = False
    has_marginals: ClassVar[bool] = False
    marginal_log_prob: ClassVar[Any] = None

    def __init_subclass__(cls, **kwargs: Any):
        """Make every class check `key` and `shape` when it draws, because the errors of `jax.random` name neither."""
        super().__init_subclass__(**kwargs)
        for name in ("sample", "sample_and_log_prob"):
            draw = vars(cls).get(name)
            if draw is not None and not getattr(draw, "__isabstractmethod__", False):
                setattr(cls, name, _with_checks(draw))

    @property
    @abstractmethod
    def reparameterised(self) -> bool:
        """Whether draws are differentiable functions of the parameters, with unbiased gradients."""

    @abstractmethod
    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        """`log p(x)` of ONE example in nats, with respect to `space.measure`.

        Only distributions whose log-density is itself estimated need a `key`.
        """

    @abstractmethod
    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        """Independent draws `[*shape, *space.shape]`; one key draws the whole batch."""

    @abstractmethod
    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        """Draws with their log-probabilities, sharing work between the two where possible."""

    def log_density(self, x: Array) -> Float[Array, ""]:
        return self.log_prob(x)

    def mean(self) -> Array:
        """`E[x]`, of the shape of one example, in closed form.

        **Raises:** `NotImplementedError` if there is none.
        """
        mean = closed_form_mean(self)
        if mean is None:
            raise NotImplementedError(
                f"`mean()`: no closed form is known for this {type(self).__name__}. Average draws of it: "
                "`jnp.mean(distribution.sample(key, (1000,)), axis=0)`."
            )
        return mean

    def own_path(self) -> AbstractPath:
        from ._path import GeometricPath

        return GeometricPath(self, self)

    def numerator(self, x: Array, observed: Array | None = None) -> AbstractDensity:
        """`log p(x)`, by draws if a flow estimates its log-determinants; with `observed`, `log p(x[observed])`."""
        from ._integral import Drawn, Known

        if observed is not None:
            if not self.has_marginals:
                raise cannot_hold(self)
            return Known(self.marginal_log_prob(x, observed), assumptions(self))
        if is_stochastic(self):
            return Drawn(eqx.Partial(_log_prob_by, self, x), assumptions(self))
        return Known(self.log_prob(x), assumptions(self))

    def denominator(self) -> AbstractDensity:
        from ._integral import Known

        return Known(jnp.zeros((), jnp.result_type(float)))


def root_of(model: Any) -> Any:
    """The last ancestor of `model`, which is drawn first when `model` is sampled."""
    while isinstance(model, AbstractModel) and model.ancestor is not None:
        model = model.ancestor()
    return model


def _log_prob_by(distribution: AbstractDistribution, x: Array, key: PRNGKeyArray) -> Float[Array, ""]:
    return distribution.log_prob(x, key=key)


def cannot_hold(model: Any) -> TypeError:
    """The error for a model that cannot sum over single entries of x."""
    return TypeError(
        "`observed`, or a masked array, needs a model whose variables can be held fixed, such as an RBM, or "
        f"whose marginals have a closed form, such as normals and mixtures of them; got {type(model).__name__}."
    )


def _with_checks(draw: Callable) -> Callable:
    @functools.wraps(draw)
    def checked(self, key, shape=()):
        return draw(self, check_key(key), check_shape(shape))

    setattr(checked, "checks_arguments", True)  # noqa: B010 (of a function)
    return checked


def closed_form_mean(distribution: AbstractDistribution) -> Array | None:
    """`E[x]`, or `None` if no closed form is known."""
    return None if distribution.closed_form_mean is None else distribution.closed_form_mean()


class AbstractBlockDensity(AbstractDensity):
    """A density for Gibbs sampling: each block can be drawn given all the others.

    The blocks together are the state of a sweep. A block may be auxiliary, like the hidden units of a restricted
    Boltzmann machine: `log_density` sums it out. Auxiliary blocks come first in the order. `split` fills them with
    zeros, and nothing reads these before the blocks are drawn.

    Optional: `not_connected()` says why changes of single variables may not lead from every possible state to every
    other, in words; `None` if they do.
    """

    not_connected: ClassVar[Any] = None

    num_blocks: AbstractVar[int]

    @abstractmethod
    def split(self, x: Array) -> tuple[Array, ...]:
        """The blocks of one example."""

    @abstractmethod
    def join(self, blocks: tuple[Array, ...]) -> Array:
        """The example made of these blocks."""

    @abstractmethod
    def conditional(self, index: int, blocks: tuple[Array, ...]) -> AbstractDistribution:
        """The distribution of block `index` given all the others."""


def gibbs_sweep(
    key: PRNGKeyArray, density: AbstractBlockDensity, blocks: tuple[Array, ...], order: tuple[int, ...]
) -> tuple[Array, ...]:
    """Draw each block of `order` in turn from its conditional."""
    for key_block, index in zip(jr.split(key, len(order)), order, strict=True):
        drawn = density.conditional(index, blocks).sample(key_block)
        blocks = (*blocks[:index], drawn, *blocks[index + 1 :])
    return blocks


class AbstractCollapsibleDensity(AbstractDensity):
    """A density with the same normaliser as one on a smaller space, which takes less time to enumerate."""

    @abstractmethod
    def collapsed(self) -> AbstractDensity:
        """A density with the same log normaliser on the smallest space known (perhaps itself)."""

    @abstractmethod
    def expand(self, key: PRNGKeyArray, y: Array) -> Array:
        """A draw of this density from an exact draw `y` of `collapsed()`."""


def smallest(density: AbstractDensity) -> AbstractDensity:
    """The density with the same log normaliser on the smallest space known: `density` itself, or its `collapsed()`."""
    return density.collapsed() if isinstance(density, AbstractCollapsibleDensity) else density
