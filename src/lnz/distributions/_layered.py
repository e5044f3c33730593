import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution
from ..modules import model_dtype
from ..spaces import AbstractSpace, Binary, side_by_side


class Layered(AbstractDistribution):
    """`p(z_1, ..., z_L) = p(z_L) prod_l p(z_l | z_{l+1})`: layers of vectors, each drawn given the one drawn before it.

    An example is the vector `[z_1, ..., z_L]`, bottom layer first, whatever the order of drawing. A prior drawn from
    the top and a posterior drawn from the bottom, `q(z_1) prod_l q(z_{l+1} | z_l)`, therefore live on one space. It is
    `Binary` or `Euclidean` if all layers are; otherwise it is a `Product`, and every layer must have a density with
    respect to Lebesgue measure.

    **Arguments:**

    - `first`: the distribution of the layer drawn first.
    - `conditionals`: for the other layers, in the order of drawing: callables from a vector to a distribution of
      vectors, such as `lnz.Conditional`.
    - `order`: `"down"` draws from the top, and `first` is the distribution of z_L; `"up"` draws from the bottom, and
      `first` is the distribution of z_1.

    **Raises:** `ValueError` for discrete layers other than bits, and for bits beside continuous layers. `first` is
    checked at once, the other layers when the space is first needed, as in `log_prob` and `sample`.
    """

    first: AbstractDistribution
    conditionals: tuple[Callable[[Array], AbstractDistribution], ...]
    order: Literal["down", "up"] = eqx.field(static=True, default="down")

    def __check_init__(self):
        if not isinstance(self.first, AbstractDistribution) or not all(callable(c) for c in self.conditionals):
            raise TypeError(
                "`Layered(first, conditionals)` needs a distribution and then a tuple of callables that return one; "
                f"got {type(self.first).__name__} and {self.conditionals!r}."
            )
        if self.order not in ("down", "up"):
            raise ValueError(f"`Layered(order=...)` must be 'down' or 'up'; got {self.order!r}.")
        _check_layers([self.first.space])

    @property
    def layer_spaces(self) -> tuple[AbstractSpace, ...]:
        """The spaces of z_1, ..., z_L."""
        spaces = [self.first.space]
        for conditional in self.conditionals:
            spaces.append(self._of_shape(conditional, spaces[-1], lambda d: d.space))
        for space in spaces:
            if len(space.shape) != 1:
                raise ValueError(f"`Layered(...)` needs layers of vectors; one is {space}.")
        _check_layers(spaces)
        return tuple(self._bottom_first(spaces))

    @property
    def space(self) -> AbstractSpace:
        spaces = self.layer_spaces
        if _are_bits(spaces):
            return Binary(sum(space.size for space in spaces))
        return side_by_side(spaces)

    @property
    def reparameterised(self) -> bool:
        spaces = self._bottom_first(list(self.layer_spaces))  # in the order of drawing
        pairs = zip(self.conditionals, spaces, strict=False)
        rest = [self._of_shape(conditional, space, lambda d: d.reparameterised) for conditional, space in pairs]
        return self.first.reparameterised and all(rest)

    def split(self, z: Array) -> list[Array]:
        """The layers `z_1, ..., z_L` of one example."""
        ends = list(itertools.accumulate(space.shape[0] for space in self.layer_spaces))
        return [z[start:end] for start, end in itertools.pairwise([0, *ends])]

    def log_prob(self, x: Array, *, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        layers = self._bottom_first(self.split(self.space.check_example(x)))  # in the order of drawing
        keys = [None] * len(layers) if key is None else list(jr.split(key, len(layers)))
        total = self.first.log_prob(layers[0], key=keys[0])
        for conditional, (given, z), layer_key in zip(
            self.conditionals, itertools.pairwise(layers), keys[1:], strict=True
        ):
            total = total + conditional(given).log_prob(z, key=layer_key)
        return total

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
        return self.sample_and_log_prob(key, shape)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> tuple[Array, Float[Array, "..."]]:
        _ = self.layer_spaces  # raises a clear error for layers that do not fit
        keys = jr.split(key, 1 + len(self.conditionals))
        z, total = self.first.sample_and_log_prob(keys[0], shape)
        layers = [z]
        for conditional, layer_key in zip(self.conditionals, keys[1:], strict=True):

            def draw(key, given, conditional=conditional):
                return conditional(given).sample_and_log_prob(key)

            for _ in shape:
                draw = jax.vmap(draw)
            z, log_prob = draw(jr.split(layer_key, shape) if shape else layer_key, layers[-1])
            layers.append(z)
            total = total + log_prob
        return jnp.concatenate(self._bottom_first(layers), axis=-1), total

    def _bottom_first(self, layers: list) -> list:
        """Layers in the order of drawing, reordered with the bottom first; and the other way round."""
        return layers[::-1] if self.order == "down" else layers

    def _of_shape(self, conditional, space, what):
        """`what(conditional(z))` for static facts of the conditional distribution; nothing is computed."""
        z = jax.ShapeDtypeStruct(space.shape, jnp.int32 if space.kind == "int" else model_dtype(self))
        return eqx.filter_eval_shape(lambda conditional, z: what(conditional(z)), conditional, z)


def _check_layers(spaces: Sequence[AbstractSpace]) -> None:
    if _are_bits(spaces):
        return
    if any(space.measure.is_counting for space in spaces):
        raise ValueError(
            "`Layered(...)` needs layers that are all of bits, such as `lnz.Bernoulli`, or all continuous, such as "
            f"`lnz.Normal`, so that an example is one vector; got {', '.join(map(str, spaces))}."
        )


def _are_bits(spaces: Sequence[AbstractSpace]) -> bool:
    return all(space.num_values == 2 and space.kind == "float" for space in spaces)
