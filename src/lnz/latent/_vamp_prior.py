import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDistribution
from ..distributions import Mixture
from ..modules import Part, as_floats, check_positive, is_false, replace
from ..spaces import AbstractSpace, check_is_space

# A part of the range at each end: the logit of an end is infinite, and near it the sigmoid hardly learns.
_MARGIN = 0.02


class VampPrior(Part, eqx.Module):
    """`p(z) = sum_k w_k q(z | u_k)`: the encoder's own posteriors at K learned pseudo-inputs u_k, mixed.

    It is a function of the encoder, not a distribution, so that the encoder is not stored twice. The `prior` of
    `lnz.latent.VAE(VampPrior(u), decoder, encoder)` is the `Mixture` made from the current encoder. The best prior for
    the ELBO is the average of `q(z | x)` over the data; this approximates it with K terms.

    **Arguments:**

    - `pseudo_inputs`: the u_k at the start `[K, *shape]`, examples such as rows of the data. `VampPrior.of` leaves
      their choice to `fit`.
    - `log_weights`: `log w_k` up to a constant, `[K]`, trained with the rest. By default all weights stay at 1/K, as in
      the paper.
    - `bounds`: `(low, high)` between which the u_k stay, `(0.0, 1.0)` for bits; by default they are free.

    **Raises:** `ValueError` if shapes do not fit or pseudo-inputs lie outside `bounds`.

    Source: Tomczak and Welling (2018); arXiv:1705.07120. Differs: a sigmoid in place of their hard tanh, whose gradient
    is zero outside, and free pseudo-inputs in place of the outputs of a linear layer.
    """

    raw: Float[Array, "num *shape"]
    log_weights: Float[Array, " num"] | None
    bounds: tuple[float, float] | None = eqx.field(static=True)
    waits_for_data: bool = eqx.field(static=True)

    def __init__(self, pseudo_inputs, log_weights=None, *, bounds: tuple[float, float] | None = None):
        self.bounds = None if bounds is None else (float(bounds[0]), float(bounds[1]))
        self.raw = _raw(as_floats(pseudo_inputs), self.bounds)
        self.log_weights = None if log_weights is None else as_floats(log_weights)
        self.waits_for_data = False

    def __check_init__(self):
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"`VampPrior(bounds=...)` must be (low, high) with low < high; got {self.bounds}.")
        if isinstance(self.log_weights, jax.Array) and self.log_weights.shape != self.raw.shape[:1]:
            raise ValueError(
                f"`VampPrior(log_weights=...)` needs one number for each of {len(self.raw)} pseudo-inputs; got shape "
                f"{self.log_weights.shape}."
            )

    @classmethod
    def of(cls, space: AbstractSpace, num: int, *, key: PRNGKeyArray, learn_weights: bool = False) -> "VampPrior":
        """`num` pseudo-inputs in `space`, which `lnz.fit` replaces by rows of its data, drawn without replacement.

        Until then they are random: uniform within bounds, else standard normal.

        **Arguments:**

        - `space`: the space of the data: `lnz.Binary`, `lnz.Interval` or `lnz.Euclidean`.
        - `learn_weights`: whether the weights of the components are learned.

        **Raises:** `TypeError` for other spaces, such as categories, whose examples cannot be learned by gradients.
        """
        num = check_positive(num, "VampPrior.of(num=...)")
        low, high = check_is_space(space, "VampPrior.of(space)").ends or (math.nan, math.nan)
        bounds = (low, high) if math.isfinite(low) and math.isfinite(high) else None
        if space.kind == "int" or space.periodic or (bounds is None and not space.is_euclidean):
            raise TypeError(
                f"`VampPrior.of(space=...)`: pseudo-inputs are learned by gradients, and examples of {space} have "
                "none. Use a `Mixture` as prior."
            )
        draw = jr.normal if bounds is None else jr.logistic
        # A logistic variable is the logit of a uniform one.
        prior = cls(jnp.zeros((num, *space.shape)), jnp.zeros(num) if learn_weights else None, bounds=bounds)
        return replace(prior, raw=draw(key, (num, *space.shape)), waits_for_data=True)

    @property
    def pseudo_inputs(self) -> Float[Array, "num *shape"]:
        """The u_k. Within bounds they are `low + (high - low) sigmoid(raw)`, so that training cannot move them outside.

        A pseudo-input that starts within 2% of the range from an end is moved to 2%, where the sigmoid can still learn.
        """
        if self.bounds is None:
            return self.raw
        low, high = self.bounds
        return low + (high - low) * jax.nn.sigmoid(self.raw)

    def __call__(self, encoder: Callable[[Array], AbstractDistribution]) -> Mixture:
        log_weights = jnp.zeros(len(self.raw), self.raw.dtype) if self.log_weights is None else self.log_weights
        return Mixture(log_weights, eqx.filter_vmap(lambda u: encoder(u))(self.pseudo_inputs))

    def initialise(self, key: PRNGKeyArray, data: Array) -> "VampPrior":
        """The prior with rows of `data [n, *shape]` as pseudo-inputs, if `VampPrior.of` made it.

        **Raises:** `ValueError` if there are fewer rows than pseudo-inputs: two equal pseudo-inputs would stay equal.
        """
        if not self.waits_for_data:
            return self
        num = len(self.raw)
        if data.shape[1:] != self.raw.shape[1:] or len(data) < num:
            raise ValueError(
                f"`VampPrior` takes its {num} pseudo-inputs of shape {self.raw.shape[1:]} from the rows of the data; "
                f"got data of shape {data.shape}."
            )
        rows = jnp.asarray(data)[jr.permutation(key, len(data))[:num]].astype(self.raw.dtype)
        return replace(self, raw=_raw(rows, self.bounds), waits_for_data=False)


def _raw(inputs: Array, bounds: tuple[float, float] | None) -> Array:
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ValueError(f"`VampPrior(pseudo_inputs=...)` needs rows `[K, *shape]`; got shape {inputs.shape}.")
    if bounds is None:
        return inputs
    low, high = bounds
    if is_false(jnp.all((inputs >= low) & (inputs <= high))):
        raise ValueError(
            f"`VampPrior(pseudo_inputs=...)` must lie within bounds={bounds}; got values from "
            f"{np.min(np.asarray(inputs))} to {np.max(np.asarray(inputs))}."
        )
    share = jnp.clip((inputs - low) / (high - low), _MARGIN, 1 - _MARGIN)
    return jnp.log(share) - jnp.log1p(-share)
