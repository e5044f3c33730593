"""The base class of the parts of a model."""

from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array

from ._module import HashableMethods


class AbstractPart(HashableMethods, eqx.Module):
    """A part of a model. Algorithms ask for the facts below; a class overrides those that differ.

    - `batch_last`: its methods take arrays with batch axes last, `[*shape, *batch]`, and so may its own arrays have.
    - `scales_input`: it passes examples to a network, which needs whole numbers scaled to the range of their space.
    - `stochastic`: its log-determinant is an unbiased random estimate, so every call needs a `key`.
    - `assumptions`: the assumptions under which its values are exact, such as `"ODE error near the tolerance 1e-05"`.
    - `initialise(key, data)`: the part initialised from `data [n, ...]`, with bits as bytes, before the first step of
      training. A second call changes nothing. `None` for parts that need no data.
    """

    batch_last: ClassVar[bool] = False
    scales_input: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    assumptions: ClassVar[tuple[str, ...]] = ()
    initialise: ClassVar[Any] = None

    def exact(self) -> "AbstractPart":
        """The same part with an exact log-determinant: it needs no key, and the work of d products."""
        return self

    def origins(self) -> tuple[Array, ...]:
        """The arrays that hold the origin of the examples this part produces, the first `[*space.shape]`; or `()`.

        `equinox.tree_at` calls this method too, with placeholders for arrays.
        """
        return ()

    def input_origins(self) -> tuple[Array, ...]:
        """The arrays that hold the origin of the examples this part takes; `()` if there are none.

        Each is a vector: the origin of an example, followed by zeros for inputs appended to the example.
        """
        return ()
