"""Parts of models that are not computed exactly: random log-determinants, and maps computed to a tolerance."""

from typing import Any

import jax
from jaxtyping import Array

from ..modules import Part


def _is_tolerant(node: Any) -> bool:
    return isinstance(node, Part) and bool(node.assumptions)


def assumptions(model: Any) -> tuple[str, ...]:
    """The assumptions under which densities of `model` are exact, for the `assumes` of an `Estimate`."""
    parts = (node for node in jax.tree.leaves(model, is_leaf=_is_tolerant) if _is_tolerant(node))
    return tuple(dict.fromkeys(what for part in parts for what in part.assumptions))


def _is_stochastic(node: Any) -> bool:
    return isinstance(node, Part) and node.stochastic


def is_stochastic(model: Any) -> bool:
    """Whether any part of `model` estimates its log-determinant, so that `log_prob` needs a `key`."""
    return any(map(_is_stochastic, jax.tree.leaves(model, is_leaf=_is_stochastic)))


def exact_log_det(model: Any) -> Any:
    """`model`, a bijection or a flow over one, with every estimated log-determinant replaced by the exact one.

    The parameters stay the same, so one can train with the estimate and evaluate without it. A residual layer then
    computes the determinant of a d x d Jacobian, and a continuous layer the whole trace at each step.
    """
    return jax.tree.map(lambda node: node.exact() if _is_stochastic(node) else node, model, is_leaf=_is_stochastic)


def need_key(key: Array | None, owner: str) -> Array:
    if key is None:
        raise ValueError(
            f"`{owner}` estimates its log-determinant by random probes and needs a key: pass `key=`, such as "
            "`flow.log_prob(x, key=key)`, with a key of its own for each example. For numbers without noise use "
            "`lnz.bijections.exact_log_det(flow)`."
        )
    return key
