"""The interface of spaces: the sets in which examples live, with the base measure of densities on them."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..modules import as_numbers, column_names, is_real, kind_of
from ._grid import Grid
from ._measure import Measure

if TYPE_CHECKING:  # type checkers would take an `AbstractVar` for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractSpace(eqx.Module):
    """The set in which one example lives, with the base measure of densities on it and its coordinates.

    `shape` is the shape of one example and `size` its number of entries. `dimension` is the dimension of the set: a
    sphere in R^3 has size 3 and dimension 2. Log-densities under different `measure`s cannot be compared. `num_points`
    is the number of points of a finite space, else `None`. `kind` is the type in which entries are stored.

    Samplers, normalisers and bijections use these attributes and never check the class of a space. Attributes that most
    spaces lack have defaults:

    - `ends`: for arrays of independent numbers, the two ends; each number takes every real, or whole, value between.
    - `periodic`: the two ends of each number are the same point.
    - `num_values`: K, if each entry is one of `0, 1, ..., K - 1`.
    - `spaces`: the independent parts, one after the other in a vector.
    - `entry_names`: names of the entries of a vector, for error messages.
    - `propose`: a symmetric proposal for discrete entries, `propose(key, x) -> (another x, whether it is allowed)`, for
      `lnz.samplers.Metropolis`.
    """

    shape: AbstractVar[tuple[int, ...]]
    measure: AbstractVar[Measure]
    kind: AbstractVar[str]  # "float" or "int"
    advice: AbstractVar[str]  # what to try when data have values outside the space
    ends: ClassVar[tuple[float, float] | None] = None
    periodic: ClassVar[bool] = False
    num_values: ClassVar[int | None] = None
    spaces: ClassVar[tuple["AbstractSpace", ...]] = ()
    entry_names: ClassVar[tuple[str, ...] | None] = None
    propose: ClassVar[Callable[[PRNGKeyArray, Array], tuple[Array, Array]] | None] = None

    @property
    @abstractmethod
    def num_points(self) -> int | None: ...

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Degrees of freedom of one example, the divisor of bits per dimension."""

    @abstractmethod
    def elements_within(self, x: Any) -> Any:
        """Mask of the allowed numbers in `x` (one example, or rows of examples; NumPy or JAX).

        If the entries of an example depend on each other, all of them are allowed or none.
        """

    def contains(self, x: Array) -> Bool[Array, ""]:
        """Whether one example lies in the space."""
        return jnp.all(self.elements_within(x))

    @abstractmethod
    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        """A grid that integrates smooth functions on this space.

        Finite spaces are enumerated and ignore all arguments. Continuous spaces use the trapezoid rule in unbounded
        coordinates, with `num` points per dimension between `bounds`. For a smooth density that has died out at the
        bounds, the rule converges faster than any power of the spacing.

        With a `shift` between 0 and 1 the rule has one point in each of the `num - 1` steps instead, at this fraction
        of the step, all with equal weights. Rules with different shifts share no points, so their difference reveals
        too coarse a grid.
        """

    @abstractmethod
    def reference_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        """Draws `[*shape, *self.shape]` from the reference distribution, the start of default annealing paths."""

    @abstractmethod
    def reference_log_prob(self, x: Array) -> Float[Array, ""]:
        """Log-probability of ONE example under the reference distribution, in nats; minus infinity outside."""

    @property
    @abstractmethod
    def unbounded(self) -> "AbstractSpace | None":
        """The space of the unbounded coordinates u: R^n, or circles. `None` if there are none, as for bits."""

    @abstractmethod
    def from_unbounded(self, u: Array) -> tuple[Array, Float[Array, "..."]]:
        """`x(u)` and the logarithm of the volume element dx/du in nats, with respect to both base measures.

        `u` is `[*self.unbounded.shape, *batch]`: all axes after those of one example are batch axes.
        """

    @abstractmethod
    def to_unbounded(self, x: Array) -> tuple[Array, Float[Array, "..."]]:
        """The inverse of `from_unbounded`: `u`, and `log du/dx`, which is minus infinity outside the space."""

    @abstractmethod
    def tangent_basis(self, x: Array) -> Array:
        """Orthonormal directions in which ONE example can move, `[*shape, dimension]`.

        **Raises:** `TypeError` for a discrete space.
        """

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def parts(self) -> tuple["AbstractSpace", ...]:
        """The independent parts, none of which has parts itself. A space without parts is its own single part."""
        return tuple(part for space in self.spaces for part in space.parts) if self.spaces else (self,)

    @property
    def is_euclidean(self) -> bool:
        """Whether the space is all of R^shape."""
        return all(part.measure.is_continuous and part.ends == (-math.inf, math.inf) for part in self.parts)

    @property
    def real_entries(self) -> Bool[np.ndarray, "*shape"]:
        """Mask of the continuous entries."""
        return self.join([np.full(part.shape, part.measure.is_continuous) for part in self.parts])

    def split(self, x: Array | np.ndarray, axis: int = 0) -> list:
        """`x` cut into `parts`, each in the shape of its part. The vector of all parts lies along axis 0 or -1."""
        if not self.spaces:
            return [x]
        ends = list(itertools.accumulate(part.size for part in self.parts))
        pieces = []
        for part, start, end in zip(self.parts, [0, *ends], ends, strict=False):
            piece = x[start:end] if axis == 0 else x[..., start:end]
            if len(part.shape) != 1:
                rest = piece.shape[1:] if axis == 0 else piece.shape[:-1]
                piece = piece.reshape((*part.shape, *rest) if axis == 0 else (*rest, *part.shape))
            pieces.append(piece)
        return pieces

    def join(self, pieces: Sequence[Any], axis: int = 0) -> Any:
        """The inverse of `split`."""
        if not self.spaces:
            return pieces[0]
        flat = []
        for part, piece in zip(self.parts, pieces, strict=True):
            num = len(part.shape)
            rest = piece.shape[num:] if axis == 0 else piece.shape[: piece.ndim - num]
            shape = (part.size, *rest) if axis == 0 else (*rest, part.size)
            flat.append(piece if num == 1 else piece.reshape(shape))
        if all(isinstance(piece, np.ndarray) for piece in flat):
            return np.concatenate(flat, axis)
        dtypes = {piece.dtype for piece in flat}
        if len(dtypes) > 1:  # whole numbers beside real ones are stored as real ones
            floats = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
            flat = [piece.astype(jnp.result_type(*floats or [float])) for piece in flat]
        return jnp.concatenate(flat, axis)

    def check_example(self, x: Any, argument: str = "x") -> Array:
        """`x` as an array with the shape of ONE example. Values are not checked, so compiled code is not slowed.

        **Raises:** `ValueError` for another shape, such as a batch, which would broadcast into plausible wrong numbers.
        """
        return jnp.asarray(self.as_example(x, argument))

    def as_example(self, x: Any, argument: str = "x") -> np.ndarray | Array:
        """Like `check_example`, but a NumPy array stays a NumPy array and keeps the digits of float64."""
        if not isinstance(x, jax.Array) or not is_real(x.dtype):
            x = as_numbers(x, argument)
        if x.shape != self.shape:
            is_batch = x.ndim > len(self.shape) and x.shape[x.ndim - len(self.shape) :] == self.shape
            advice = f" For a batch use `jax.vmap(f)({argument})`." if is_batch else ""
            raise ValueError(f"`{argument}` must be one example of shape {self.shape}; got {x.shape}.{advice}")
        return x

    def cast(self, x, dtype) -> Array:
        """`x` in the number type for models of precision `dtype`."""
        return jnp.asarray(x).astype(dtype if self.kind == "float" else jnp.int32)

    def check_data(self, data, argument: str = "data", first_row: int = 0) -> np.ndarray | Array:
        """`data` as an array of examples `[n, *shape]`.

        **Raises:** `TypeError` if `data` is not a numeric array; `ValueError` if it is empty, has another shape, or has
        values outside the space. The message names the column and the row, counted from `first_row`.
        """
        names, array = column_names(data), as_numbers(data, argument)
        if array.ndim != 1 + len(self.shape) or array.shape[1:] != self.shape:
            raise ValueError(
                f"`{argument}` must have shape (n, {', '.join(map(str, self.shape))}), one example of "
                f"{self} a row; got {array.shape}.{_shape_advice(array.shape, self.shape)}"
            )
        if array.shape[0] == 0:
            raise ValueError(f"`{argument}` has no rows.")
        self._check_booleans(array, argument)
        is_float = getattr(getattr(data, "dtype", None), "kind", "") == "f"
        floats = f"{argument}.astype(float)" if hasattr(data, "astype") else f"np.asarray({argument}, float)"
        missing = (
            "It is missing: remove or fill in the rows with missing values. Normals, mixtures of normals and Boltzmann "
            f"machines also take `np.ma.masked_invalid({argument if is_float else floats})`."
        )
        self._check_values(np.asarray(array), argument, first_row, names or self.entry_names, missing)
        return array

    def _check_booleans(self, array: Any, argument: str) -> None:
        if array.dtype != bool:
            return
        for part, piece in zip(self.parts, self.split(np.asarray(array), -1), strict=True):
            if (num := part.num_values or 0) > 2 and piece.any():
                raise ValueError(
                    f"`{argument}` has true and false, but {part} has whole numbers from 0 to {num - 1}, so that true "
                    f"may mean 1 or {num - 1}. Pass whole numbers: `{argument}.astype(np.int32)` if it means 1, "
                    f"`{num - 1} * {argument}.astype(np.int32)` if it means {num - 1}."
                )

    def _check_values(
        self, array: np.ndarray, argument: str, first_row: int, names: Sequence[Any] | None, missing: str
    ) -> None:
        for start in range(0, len(array), 4096):
            part = array[start : start + 4096]
            bad = ~np.asarray(self.elements_within(part))
            if bad.any():
                row, *column = np.argwhere(bad)[0].tolist()
                place = f"row {first_row + start + row}" + (f", column {tuple(column)}" if column else "")
                place = (
                    place.replace(",)", ")") if names is None else f"{place[: place.index('(')]}{names[column[0]]!r}"
                )
                value = part[(row, *column)]
                raise ValueError(
                    f"`{argument}` has the value {value} at {place}, which is outside {self}. "
                    f"{self.advice if value == value else missing}"  # only nan differs from itself
                )


def _shape_advice(got: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if got == shape:
        return " For a single example try `data[None]`."
    if len(shape) == 1 and math.prod(got[1:]) == shape[0]:
        return f" Try `data.reshape(-1, {shape[0]})`."
    return ""


def _as_shape(shape: int | tuple[int, ...], name: str) -> tuple[int, ...]:
    result = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if not all(isinstance(n, int | np.integer) and n >= 0 for n in result) or isinstance(shape, bool):
        raise ValueError(f"`{name}(...)` needs a number of dimensions or a shape; got {shape!r}.")
    return tuple(int(n) for n in result)


def check_is_space(space: Any, owner: str) -> AbstractSpace:
    """Return `space`, or raise a `TypeError` that names `owner` if it is not a space."""
    if not isinstance(space, AbstractSpace):
        raise TypeError(f"`{owner}` needs a space, such as `lnz.Euclidean(2)`; got {kind_of(space)}.")
    return space


def check_kind(space: Any, kind: type[AbstractSpace], owner: str) -> None:
    """Raise a `TypeError` that names `owner` if `space` is not of this class."""
    if not isinstance(space, kind):
        raise TypeError(
            f"`{owner}` needs `lnz.{kind.__name__}`; got {space}. A map onto another support is "
            "`lnz.bijections.ToSupport(space)`."
        )
