"""Kullback-Leibler divergences with a closed form: a table of rules by pair of types."""

from collections.abc import Callable
from typing import TypeVar

from jaxtyping import Array, Float

from ..core import AbstractDistribution
from ..spaces import names_agree

Rule = TypeVar("Rule", bound=Callable)

_RULES: dict[tuple[type, type], Callable] = {}


def register_kl(type_q: type, type_p: type) -> Callable[[Rule], Rule]:
    """Make a function `(q, p) -> KL(q || p)` the rule of `closed_form_kl` for distributions of these two types.

    A decorator. The rule returns a number in nats, or `None` where this pair has no closed form after all. It may
    assume that examples of `q` and `p` have one shape and one base measure; their spaces may have different ends.

    ```python
    @lnz.register_kl(MyPosterior, lnz.Normal)
    def _(q, p): ...
    ```

    **Arguments:**

    - `type_q`, `type_p`: classes of distributions. They are compared exactly, since classes are final here.

    **Raises:** `TypeError` unless both are classes of distributions.
    """
    for argument, cls in (("type_q", type_q), ("type_p", type_p)):
        if not (isinstance(cls, type) and issubclass(cls, AbstractDistribution)):
            raise TypeError(f"`register_kl({argument}=...)` needs a class of distributions; got {cls!r}.")

    def add(rule: Rule) -> Rule:
        _RULES[type_q, type_p] = rule
        return rule

    return add


def closed_form_kl(q: AbstractDistribution, p: AbstractDistribution) -> Float[Array, ""] | None:
    """`KL(q || p) = E_q[log q(x) - log p(x)]` in nats where it has a closed form, else `None`.

    Exact up to rounding, differentiable in the parameters of both, and usable under `jax.jit` and `jax.vmap`: types and
    shapes alone decide which rule applies. Rules exist for normals of every kind against normals, for Laplace, logistic
    and Student's t against normals, and for pairs of Bernoullis, categoricals, Laplaces, Poissons, continuous
    Bernoullis, uniforms, and products of these. Add one with `lnz.register_kl`. There is no general rule for
    exponential families: the general formula subtracts large numbers, and it is wrong where the base measure depends on
    a parameter.

    Without a rule, draw from q (`lnz.objectives.ELBO` does), or use `lnz.kl_divergence` in few dimensions.

    **Arguments:**

    - `q`, `p`: distributions of examples of one shape, both with densities or both with probabilities.

    **Returns:** a number, infinite where q has mass and p has none; or `None`.

    **Raises:** `TypeError` unless both are distributions; `ValueError` for shapes that differ, or a density beside a
    probability.
    """
    for argument, distribution in (("q", q), ("p", p)):
        if not isinstance(distribution, AbstractDistribution):
            raise TypeError(
                f"`closed_form_kl({argument}=...)` must be a distribution, such as `lnz.Normal.standard(2)`; got "
                f"{type(distribution).__name__}."
            )
    # Ends may differ: the divergence is then infinite, or p is wider than it needs to be.
    is_alike = q.space.shape == p.space.shape and q.space.measure == p.space.measure
    if not is_alike or not names_agree(q.space, p.space):
        raise ValueError(f"`closed_form_kl(q, p)` needs distributions on one space; got {q.space} and {p.space}.")
    rule = _RULES.get((type(q), type(p)))
    return None if rule is None else rule(q, p)
