"""Affine maps."""

import numbers
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ..modules import as_floats, build, check_key, check_positive, kind_of
from ._layers import uniform_layer
from ._net import InShape, one_input


class Linear(eqx.Module):
    """`x -> W x + b`, with `W [num_out, num_in]`: `lnz.nets.Linear(784, 20, key=key)`.

    **Arguments:**

    - `num_in`, `num_out`: lengths of x and of the result.
    - `key`: for the initial weights and biases, uniform within `1 / sqrt(num_in)`, as in `MLP`.

    To set the weights, use `Linear.from_parameters(W, b)`.
    """

    W: Float[Array, "out in_"]
    b: Float[Array, " out"]

    def __init__(self, num_in: int, num_out: int, *, key: PRNGKeyArray):
        for name, value in (("num_in", num_in), ("num_out", num_out)):
            if not isinstance(value, numbers.Integral):
                raise TypeError(
                    f"`Linear({name}=...)` must be a whole number; got {kind_of(value)}. To set the weights, use "
                    "`Linear.from_parameters(W, b)`."
                )
            check_positive(value, f"Linear({name}=...)")
        self.W, self.b = uniform_layer(check_key(key), (int(num_out), int(num_in)))

    @classmethod
    def from_parameters(cls, W, b) -> "Linear":
        """The map with the given `W [num_out, num_in]` and `b [num_out]`.

        **Raises:** `ValueError` if the shapes do not fit together.
        """
        W, b = as_floats(W), as_floats(b)
        if W.ndim != 2 or b.shape != W.shape[:1]:
            raise ValueError(
                f"`Linear.from_parameters(W, b)` needs shapes [num_out, num_in] and [num_out]; got {W.shape} and "
                f"{b.shape}." + (" Try `W.T`." if W.ndim == 2 and b.shape == W.shape[1:] else "")
            )
        return build(cls, {"W": W, "b": b})

    @property
    def in_shapes(self) -> tuple[InShape, ...]:
        return ((self.W.shape[-1],),)

    def __call__(self, x: Any) -> Float[Array, " out"]:
        return self.W @ one_input(self, x, "x", "network").astype(self.W.dtype) + self.b
