"""Maps that are not computed exactly: by random estimates, which can be made exact, or to a tolerance."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array


class AbstractStochastic(eqx.Module):
    """A part of a model whose log-determinant may be an unbiased random estimate, which needs a `key`."""

    @property
    @abstractmethod
    def stochastic(self) -> bool:
        """Whether the log-determinant is estimated, so that every call needs a `key`."""

    @abstractmethod
    def exact(self) -> "AbstractStochastic":
        """The same map with its log-determinant computed exactly: no key, and the work of d products."""


class AbstractTolerant(eqx.Module):
    """A part of a model that is computed to a tolerance which is not rounding, so that its densities are too."""

    @property
    @abstractmethod
    def assumptions(self) -> tuple[str, ...]:
        """What is assumed by whoever takes its values for exact, such as `"ODE error near the tolerance 1e-05"`."""


def _is_tolerant(node: Any) -> bool:
    return isinstance(node, AbstractTolerant)


def assumptions(model: Any) -> tuple[str, ...]:
    """What is assumed by whoever takes densities of `model` for exact: for the `assumes` of an `Estimate`."""
    parts = (node for node in jax.tree.leaves(model, is_leaf=_is_tolerant) if _is_tolerant(node))
    return tuple(dict.fromkeys(what for part in parts for what in part.assumptions))


def _is_stochastic(node: Any) -> bool:
    return isinstance(node, AbstractStochastic)


def is_stochastic(model: Any) -> bool:
    """Whether any part of `model` estimates its log-determinant, so that `log_prob` needs a `key`."""
    return any(_is_stochastic(node) and node.stochastic for node in jax.tree.leaves(model, is_leaf=_is_stochastic))


def exact_log_det(model: Any) -> Any:
    """`model` (a bijection, or a flow over one) with every estimated log-determinant replaced by the exact one.

    The parameters are the same: train with the estimate, evaluate without. Exact means the determinant of a d x d
    Jacobian for each residual layer, the whole trace at each step of a continuous one.
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
