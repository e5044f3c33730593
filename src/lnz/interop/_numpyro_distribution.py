"""The class that `to_numpyro` returns; imported only together with NumPyro."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution
from numpyro.distributions.util import validate_sample

from ..core import AbstractDistribution


class LnzDistribution(Distribution):
    """A distribution of lnz with the interface of NumPyro."""

    arg_constraints = {}  # noqa: RUF012 (NumPyro's own way to say that no parameter is checked)
    pytree_data_fields = ("_arrays",)
    pytree_aux_fields = ("_rest", "_support")

    def __init__(self, distribution: AbstractDistribution, support: Any, *, validate_args: bool | None = None):
        self._arrays, rest = eqx.partition(distribution, eqx.is_array)
        leaves, treedef = jax.tree.flatten(rest)
        self._rest = (tuple(leaves), treedef)  # can be compared and hashed, as the static part of a pytree must be
        self._support = support
        super().__init__((), distribution.space.shape, validate_args=validate_args)

    @property
    def distribution(self) -> AbstractDistribution:
        leaves, treedef = self._rest
        return eqx.combine(self._arrays, jax.tree.unflatten(treedef, leaves))

    @property
    def has_rsample(self) -> bool:
        return self.distribution.reparameterised

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        return self.distribution.sample(key, sample_shape)

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        distribution, value = self.distribution, jnp.asarray(value)
        space = distribution.space
        value = space.cast(value, jnp.result_type(float)) if space.kind == "int" else value
        log_prob = distribution.log_prob
        for _ in range(value.ndim - len(space.shape)):
            log_prob = jax.vmap(log_prob)
        return log_prob(value)
