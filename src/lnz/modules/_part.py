"""The facts that algorithms ask for about the parts of a model."""

from typing import Any, ClassVar

from ._module import HashableMethods


class Part(HashableMethods):
    """A part of a model. Algorithms ask for the facts below; a class of modules overrides those that differ.

    - `batch_last`: its methods take arrays with batch axes last, `[*shape, *batch]`, and its own arrays may have them.
    - `scales_input`: it passes examples to a network, which needs whole numbers scaled to the range of their space.
    - `stochastic`: its log-determinant is an unbiased random estimate, so every call needs a `key`.
    - `assumptions`: the assumptions under which its values are exact, such as `"ODE error near the tolerance 1e-05"`.

    Optional methods, `None` in parts without them:

    - `exact()`: the same part with an exact log-determinant: it needs no key, and the work of d products.
    - `initialise(key, data)`: the part initialised from `data [n, ...]`, with bits as bytes, before the first step of
      training. A second call changes nothing.
    - `origins()`: the arrays that hold the origin of the examples this part produces, the first `[*space.shape]`.
      `equinox.tree_at` calls this method too, with placeholders for arrays.
    - `input_origins()`: the arrays that hold the origin of the examples this part takes. Each is a vector: the origin
      of an example, followed by zeros for inputs appended to the example.
    """

    batch_last: ClassVar[bool] = False
    scales_input: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    assumptions: ClassVar[tuple[str, ...]] = ()
    exact: ClassVar[Any] = None
    initialise: ClassVar[Any] = None
    origins: ClassVar[Any] = None
    input_origins: ClassVar[Any] = None
