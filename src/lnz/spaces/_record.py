"""Records: named parts of any shape and support in one vector."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._product import AbstractJoined
from ._space import AbstractSpace


class Record(AbstractJoined):
    """Named parts of any shape and support: `Record(mu=Euclidean(()), sigma=Positive(3), chosen=Binary(2))`.

    An example is one vector, so that samplers, normalisers and flows treat it like any other array. `unpack(x)` returns
    a dict of the parts in their own shapes, and `pack(values)` returns the vector. Base measure, reference
    distribution, quadrature and unbounded coordinates combine those of the parts. Categories and counts beside real
    numbers are stored as real numbers, and `unpack` returns them as `int32`.

    ```python
    space = lnz.Record(mu=lnz.Euclidean(()), sigma=lnz.Positive(()))
    density = lnz.density(space, lambda x: log_joint(**space.unpack(x)))
    draws = space.unpack(lnz.sample(key, density, 1000))  # {"mu": [1000], "sigma": [1000]}
    ```

    **Arguments:**

    - `parts`: spaces, by name, in the order of the vector.

    **Raises:** `ValueError` if there are no parts; `TypeError` for a part that is not a space.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    spaces: tuple[AbstractSpace, ...] = eqx.field(static=True)
    advice = "Each entry must lie in the space of its own part; `pack` makes vectors of named parts."

    def __init__(self, **parts: AbstractSpace):
        self.names, self.spaces = tuple(parts), tuple(parts.values())

    def __check_init__(self):
        if not self.spaces:
            raise ValueError("`Record(...)` needs at least one part, such as `Record(mu=lnz.Euclidean(()))`.")
        if len(set(self.names)) != len(self.spaces):
            raise ValueError(f"`Record(...)` needs one name for each part; got {self.names} for {self.spaces}.")
        for name, space in zip(self.names, self.spaces, strict=True):
            if not isinstance(space, AbstractSpace):
                raise TypeError(f"`Record({name}=...)` must be a space, such as `lnz.Positive(3)`; got {space!r}.")

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{name}={space}' for name, space in zip(self.names, self.spaces, strict=True))})"

    @property
    def entry_names(self) -> tuple[str, ...]:
        """Names of the entries of a vector: `mu`, `sigma[0]`, `sigma[1]`, ..."""
        return tuple(
            f"{name}{list(index) if index else ''}"
            for name, space in zip(self.names, self.spaces, strict=True)
            for index in np.ndindex(*space.shape)
        )

    def unpack(self, x: Array | np.ndarray) -> dict[str, Any]:
        """The parts `[..., *part shape]` of one example, or of rows of examples, by name."""
        if x.shape[x.ndim - 1 :] != self.shape:
            raise ValueError(f"`unpack(x)` needs vectors `[..., {self.size}]` of {self}; got shape {x.shape}.")
        found, start = {}, 0
        for name, space in zip(self.names, self.spaces, strict=True):
            piece = x[..., start : start + space.size].reshape(*x.shape[:-1], *space.shape)
            found[name] = piece.astype(np.int32) if space.kind == "int" else piece
            start += space.size
        return found

    def pack(self, values: Mapping[str, Any]) -> Array:
        """The vector of one example, or rows of vectors, from parts `[..., *part shape]` by name.

        **Raises:** `ValueError` for a part that is missing or unknown, or has another shape.
        """
        if set(values) != set(self.names):
            raise ValueError(f"`pack(values)` needs the parts {sorted(self.names)}; got {sorted(values)}.")
        arrays, batch = [], None
        for name, space in zip(self.names, self.spaces, strict=True):
            array = jnp.asarray(values[name])
            rows = array.shape[: array.ndim - len(space.shape)]
            if array.shape[array.ndim - len(space.shape) :] != space.shape or batch not in (None, rows):
                raise ValueError(
                    f"`pack(values)`: {name!r} must have the shape {(*(batch or ()), *space.shape)} of {space}, after "
                    f"any axes that all parts share; got {array.shape}."
                )
            batch = rows
            arrays.append(array.reshape(*rows, space.size))
        dtype = jnp.int32
        if self.kind == "float":
            floats = [array.dtype for array in arrays if jnp.issubdtype(array.dtype, jnp.floating)]
            dtype = jnp.result_type(*floats) if floats else jnp.result_type(float)
        return jnp.concatenate([array.astype(dtype) for array in arrays], axis=-1)
