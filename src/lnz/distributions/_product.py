import functools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution, closed_form_mean, space_of_conditional
from ..modules import model_dtype
from ..spaces import AbstractSpace, Product, Record
from ._closed_form_kl import closed_form_kl, register_kl


class ProductDistribution(AbstractDistribution):
    """`p(x_1, ..., x_k) = p_1(x_1) ... p_k(x_k)`: independent parts, side by side in one vector.

    **Arguments:**

    - `parts`: distributions of real vectors, which may differ in kind. The space is the `Product` of their spaces.
    - `named`: alternatively, distributions of any shape and measure, by name. The space is the `Record` of their
      spaces: `ProductDistribution(mu=lnz.Normal(0.0, 5.0), chosen=lnz.Bernoulli(logits))`.

    **Raises:** `TypeError` if a part is not a distribution; `ValueError` for parts with and without names together.
    """

    parts: tuple[AbstractDistribution, ...]
    space: Product | Record = eqx.field(static=True)

    def __init__(self, *parts: AbstractDistribution, **named: AbstractDistribution):
        if parts and named:
            raise ValueError("`ProductDistribution(...)` takes parts with names or parts without; got both.")
        self.parts = parts or tuple(named.values())
        self.space = _space_of(self.parts, tuple(named))

    def __check_init__(self):
        names = self.space.names if isinstance(self.space, Record) else ()
        if self.space != (expected := _space_of(self.parts, names)):
            raise ValueError(f"`ProductDistribution` lives on {expected}, not on {self.space}.")

    def closed_form_mean(self) -> Array | None:
        """The means of the parts, joined; `None` where one has no closed form."""
        found = [closed_form_mean(part) for part in self.parts]
        means = [mean for mean in found if mean is not None]
        return self._joined(means) if len(means) == len(found) else None

    @property
    def reparameterised(self) -> bool:
        return all(part.reparameterised for part in self.parts)

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        x, start, terms = self.space.check_example(x), 0, []
        keys = [None] * len(self.parts) if key is None else jr.split(key, len(self.parts))
        for part, part_key in zip(self.parts, keys, strict=True):
            piece = x[start : start + part.space.size].reshape(part.space.shape)
            term = part.log_prob(part.space.cast(piece, x.dtype), key=part_key)
            if part.space.kind != self.space.kind:  # the cast rounds
                term = jnp.where(part.space.contains(piece), term, -jnp.inf)
            terms.append(term)
            start += part.space.size
        return functools.reduce(jnp.add, terms)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        keys = jr.split(key, len(self.parts))
        return self._joined([part.sample(k, shape) for part, k in zip(self.parts, keys, strict=True)])

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        keys = jr.split(key, len(self.parts))
        drawn = [part.sample_and_log_prob(k, shape) for part, k in zip(self.parts, keys, strict=True)]
        xs, log_probs = zip(*drawn, strict=True)
        return self._joined(xs), functools.reduce(jnp.add, log_probs)

    def _joined(self, pieces: Sequence[Array]) -> Array:
        if isinstance(self.space, Record):
            return self.space.pack(dict(zip(self.space.names, pieces, strict=True)))
        return jnp.concatenate(pieces, axis=-1)


@register_kl(ProductDistribution, ProductDistribution)
def _kl(q: ProductDistribution, p: ProductDistribution) -> Float[Array, ""] | None:
    if [part.space.shape for part in q.parts] != [part.space.shape for part in p.parts]:
        return None
    terms = []
    for part_q, part_p in zip(q.parts, p.parts, strict=True):
        divergence = closed_form_kl(part_q, part_p)
        if divergence is None:
            return None
        terms.append(divergence)
    return functools.reduce(jnp.add, terms)


def _space_of(parts: tuple[AbstractDistribution, ...], names: tuple[str, ...]) -> Product | Record:
    for part in parts:
        if not isinstance(part, AbstractDistribution):
            raise TypeError(f"`ProductDistribution(...)` needs distributions; got {type(part).__name__}.")
    spaces = [part.space for part in parts]
    return Record(**dict(zip(names, spaces, strict=True))) if names else Product(*spaces)


class Joint(AbstractDistribution):
    """`p(x, y) = p(x) p(y | x)` of concatenated vectors `[x, y]`.

    Maximum likelihood on rows `[x, y]` trains `p(y | x)`: after `lnz.fit`, `model.conditional(x)` is the distribution
    of y at that x. The log-likelihood covers x and y together; a marginal without parameters, such as `lnz.Uniform`,
    adds a constant.

    **Arguments:**

    - `marginal`: the distribution of x.
    - `conditional`: any callable from x to a distribution of vectors, such as `lnz.Conditional`.

    **Raises:** `ValueError` unless both parts are distributions of real vectors and the conditional can take x;
    `TypeError` if the marginal, or the conditional's value, is not a distribution.
    """

    marginal: AbstractDistribution
    conditional: Callable[[Array], AbstractDistribution]

    def __check_init__(self):
        if not isinstance(self.marginal, AbstractDistribution) or not callable(self.conditional):
            raise TypeError(
                "`Joint(marginal, conditional)` needs a distribution and then a callable from x to a distribution; "
                f"got {type(self.marginal).__name__} and {type(self.conditional).__name__}."
            )
        _check_vectors(self.marginal.space, "marginal")
        _check_vectors(self._space_of_y, "conditional")

    @property
    def space(self) -> Product:
        return Product(self.marginal.space, self._space_of_y)

    @property
    def _space_of_y(self) -> AbstractSpace:
        shape = self.marginal.space.shape
        x = jax.ShapeDtypeStruct(shape, model_dtype(self))
        words = f"a vector of shape {shape}, as the marginal has"
        return space_of_conditional(self.conditional, x, "Joint(conditional=...)", words)

    @property
    def reparameterised(self) -> bool:
        x = jax.ShapeDtypeStruct(self.marginal.space.shape, model_dtype(self))
        return self.marginal.reparameterised and eqx.filter_eval_shape(self.conditional, x).reparameterised

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        num = self.marginal.space.shape[0]
        key_x, key_y = (None, None) if key is None else jr.split(key)
        x = self.space.check_example(x)
        first, rest = x[:num], x[num:]
        return self.marginal.log_prob(first, key=key_x) + self.conditional(first).log_prob(rest, key=key_y)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        return self.sample_and_log_prob(key, shape)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        key_x, key_y = jr.split(key)
        x, log_x = self.marginal.sample_and_log_prob(key_x, shape)

        def draw(key, x):
            return self.conditional(x).sample_and_log_prob(key)

        for _ in shape:
            draw = jax.vmap(draw)
        y, log_y = draw(jr.split(key_y, shape) if shape else key_y, x)
        return jnp.concatenate([x, y], axis=-1), log_x + log_y


def _check_vectors(space: AbstractSpace, name: str) -> None:
    if len(space.shape) != 1 or space.measure.is_counting:
        raise ValueError(
            f"`Joint({name}=...)` must be a distribution of vectors of real numbers; this one lives on {space}."
        )
