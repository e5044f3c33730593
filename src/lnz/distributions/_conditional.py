"""Conditional distributions and bijections: a network moves the parameters of a template."""

import itertools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..core import input_origins, origins
from ..modules import Frozen, Part, freed, is_constant, kind_of, model_dtype, per_leaf, trainable
from ..nets import MLP, ConvNet, GatedMLP, LipschitzMLP, MaskedMLP, one_input
from ..numerics import aligned, batch_last, call_net, is_batch_last
from ..spaces import AbstractSpace, as_input


class Conditional(Part, eqx.Module):
    """`context -> template` with parameters `theta_i + net(context)_i`: makes a distribution or bijection conditional.

    The result is a callable that returns a distribution or bijection for each context: the encoder of a
    `lnz.latent.VAE`, or the conditional of a `lnz.Joint`. `jax.vmap` over contexts shares the arrays that do not move.

    **Arguments:**

    - `template`: any module with floating-point arrays. Its arrays are the parameters where the network returns zero.
      They are trained too, also those of `lnz.Normal.standard(n)` if a part of it moves; wrapped as
      `lnz.Frozen(template)` they stay fixed.
    - `net`: from the context to a vector of `num_moved(template)` numbers, one for each parameter that moves.
      `Conditional.of` builds one.
    - `where`: selects the arrays that move, as in `equinox.tree_at`: `lambda flow: flow.base.loc`. For the default, see
      `num_moved`.

    **Raises:** `ValueError` if nothing moves, or if `where` selects anything but trainable floating-point arrays of the
    template; `TypeError` if the template is a class, or `net` or `where` is not a function.

    In a model, its network reads whole numbers rescaled: see `lnz.distributions.distribution_given`.

    Source: Papamakarios, Pavlakou and Murray (2017), section 3.4, give the context as further inputs to each network
    (arXiv:1705.07057). That moves the biases of its first layer by linear functions, here by any.
    """

    scales_input: ClassVar[bool] = True  # see `distribution_given`

    template: Any
    net: Callable[[Array], Array]
    moved: tuple[int, ...] = eqx.field(static=True)  # indices of the template's leaves

    def __init__(self, template: Any, net: Callable[[Array], Array], where: Callable[[Any], Any] | None = None):
        if not callable(net):
            raise TypeError(
                "`Conditional(template, net)` needs a network, a function from the context to a vector, after the "
                f"template; got {kind_of(net)}. Try `Conditional.of(template, num_context, key=key)`."
            )
        self.net, self.moved = net, _moved(template, where)
        self.template = _free_where_moved(template, self.moved)

    @classmethod
    def of(
        cls,
        template: Any,
        num_context: int,
        *,
        key: PRNGKeyArray,
        where: Callable[[Any], Any] | None = None,
        net: Callable = MLP,
        **options: Any,
    ) -> "Conditional":
        """With a network `net(num_context, num, key=key, last_scale=0.0, **options)` for contexts `[num_context]`.

        The output of the network starts at zero, so every context gives the template. A normal with a fixed scale and a
        mean that depends on five numbers is

        ```python
        template = lnz.Frozen(lnz.Normal(jnp.zeros(3), 0.1))  # without `Frozen`, one learned scale for all contexts
        Conditional.of(template, 5, key=key, where=lambda normal: normal.loc)
        ```
        """
        num = num_moved(template, where)
        return cls(template, net(num_context, num, key=key, last_scale=0.0, **options), where)

    def origins(self) -> tuple[Any, ...]:
        """The origins of the template, which the context does not move."""
        return origins(_inside(self.template))

    def input_origins(self) -> tuple[Any, ...]:
        """The origins of the network, for contexts that are examples."""
        return input_origins(self.net)

    def __call__(self, context: Any) -> Any:
        """The template for ONE context; `jax.vmap` maps over a batch of them.

        **Raises:** `ValueError` if the context does not have the shape of one input of the network.
        """
        context = one_input(self.net, context, "context", "`Conditional`'s network")
        if not jnp.issubdtype(context.dtype, jnp.floating):  # whole numbers, such as grey values and counts
            context = context.astype(model_dtype(self))
        leaves, structure = jax.tree.flatten(_inside(self.template))
        start = tuple(leaves[i] for i in self.moved)
        # Add inside the batched function: the numbers keep the layout in which the network leaves them,
        # `[*shape, *batch]`.
        if is_batch_last(self.net):
            moved = batch_last(_shifted, self.net, start, context.ndim, context)
        else:
            moved = self._moved_by_any(start, context)
        for i, leaf in zip(self.moved, moved, strict=True):
            leaves[i] = leaf
        return jax.tree.unflatten(structure, leaves)

    def _moved_by_any(self, start, context):
        """For a network that does not declare its inputs: its own errors would name shapes that the user never sees."""
        try:
            return _shifted(self.net, start, context.ndim, context)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`context` of shape {context.shape} does not suit the network of this `Conditional`, "
                f"{type(self.net).__name__}: {error}"
            ) from error


def distribution_given(conditional: Callable[[Array], Any], x: Array, space: AbstractSpace) -> Any:
    """`conditional(x)` for ONE example of `space`, with whole numbers rescaled for a network.

    The network reads `2 x / (K - 1) - 1` for one of K categories and `log(1 + x)` for counts. Classes that hand
    examples to a network ask for this with `scales_input = True`. Any other callable, such as a function that looks
    categories up in a table, gets x unchanged, and so does a network of `lnz.nets.Standardised`.
    """
    part: Any = conditional
    if space.kind == "int" and isinstance(part, Part) and part.scales_input and not input_origins(part):
        x = as_input(space, x, model_dtype(conditional))
    return conditional(x)


def num_moved(template: Any, where: Callable[[Any], Any] | None = None) -> int:
    """How many numbers `Conditional(template, net, where)` needs from its network.

    `where` selects the arrays that move. By default these are the biases of the first layer of each network in the
    template, and for masked networks the biases of the last layer too, since the first variable sees no others. In a
    template without networks, such as planar or affine maps, all floating-point arrays move except `Frozen` ones.
    """
    leaves = jax.tree.leaves(_inside(template))
    return sum(math.prod(leaves[i].shape) for i in _moved(template, where))


def _shifted(net, start, ndim, context):
    """The arrays `start`, each `[*shape]`, plus the numbers of `net(context) [num, *batch]`.

    One context has `ndim` axes.
    """
    shift = call_net(net, context, ndim)
    sizes = [leaf.size for leaf in start]
    if shift.shape[:1] != (sum(sizes),) or shift.ndim != 1 + context.ndim - ndim:
        raise ValueError(
            f"`Conditional(net=...)` must return a number for each of the {sum(sizes)} parameters that move, shape "
            f"({sum(sizes)},); got {shift.shape}."
        )
    batch, ends, moved = shift.shape[1:], itertools.accumulate(sizes), []
    for leaf, end in zip(start, ends, strict=True):
        part = shift[end - leaf.size : end].reshape(*leaf.shape, *batch)
        moved.append(aligned(leaf, leaf.ndim, len(batch)) + part.astype(leaf.dtype))
    return tuple(moved)


def _inside(template):
    return template.value if isinstance(template, Frozen) else template


def _moved(template, where):
    if isinstance(template, type):
        raise TypeError(f"`Conditional(template=...)` must be a distribution or a bijection; got {kind_of(template)}.")
    if where is not None and not callable(where):
        raise TypeError(
            "`Conditional(where=...)` must be a function of the template, such as `lambda normal: normal.loc`; got "
            f"{where!r}."
        )
    template = _free(_inside(template))
    free = jax.tree.leaves(per_leaf(trainable(template), template))
    if where is None:
        chosen = _numbers(template, _first_biases) or [i for i, is_free in enumerate(free) if is_free]
    else:
        chosen = _numbers(template, where)
    if not chosen or not all(free[i] for i in chosen):
        raise ValueError(
            f"`Conditional(template, where=...)` must move floating-point arrays of the template that are not frozen; "
            f"{type(template).__name__} has {sum(free)} such arrays, and {sum(free[i] for i in chosen)} of the "
            f"{len(chosen)} chosen are among them."
        )
    return tuple(chosen)


def _free(tree):
    """`tree` with its constant parts (`lnz.Normal.standard`) made trainable; `Frozen` parts stay."""
    return jax.tree.map(freed, tree, is_leaf=is_constant)


def _free_where_moved(template, moved):
    numbers = jax.tree.unflatten(jax.tree.structure(template), range(len(jax.tree.leaves(template))))

    def free(node, numbers):
        return node if {*jax.tree.leaves(numbers)}.isdisjoint(moved) else _free(node)

    return jax.tree.map(free, template, numbers, is_leaf=is_constant)


def _numbers(template, where):
    """The indices of the leaves that `where(template)` selects."""
    leaves, structure = jax.tree.flatten(template)
    numbered = jax.tree.unflatten(structure, [_Leaf(i, leaf) for i, leaf in enumerate(leaves)])
    return [leaf.number for leaf in jax.tree.leaves(where(numbered)) if isinstance(leaf, _Leaf)]


class _Leaf:
    """Stands in for an array, so that the output of `where` shows which array it is."""

    def __init__(self, number, value):
        self.number, self.value = number, value


def _first_biases(template):
    nets = [node for node in jax.tree.leaves(template, is_leaf=_is_net) if _is_net(node)]
    return [(net.biases[0], net.biases[-1]) if isinstance(net, MaskedMLP) else net.biases[0] for net in nets]


def _is_net(node):
    return isinstance(node, MLP | GatedMLP | MaskedMLP | ConvNet | LipschitzMLP)
