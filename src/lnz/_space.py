"""Spaces: where examples live, with the base measure of every density on them."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ._arrays import as_numbers, column_names, is_real
from ._register import register

if TYPE_CHECKING:  # a checker would take an abstract attribute for an argument of every constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class Grid(eqx.Module):
    """Points and log weights that integrate functions on a space: `log int f = logsumexp(log f + log_w)`.

    Points are made from their index, so that a grid of `2**25` points costs no memory: iterate in chunks
    with `log_integral`, or unpack a small one, `points, log_weights = space.quadrature()`.
    """

    size: int = eqx.field(static=True)
    point: Callable = eqx.field(static=True)  # index [] -> (x, log weight)
    on_edge: Callable | None = eqx.field(static=True, default=None)  # index [] -> whether there may be mass beyond

    def __call__(self, index: Int[Array, ""]):
        """The point and log weight number `index`, for `0 <= index < size`."""
        return self.point(index)

    def __iter__(self) -> Iterator:
        points, log_weights = jax.vmap(self.point)(jnp.arange(self.size))
        return iter((points, log_weights))

    def chunk_log_integrals(self, log_f: Callable, chunk_size: int = 2**14) -> Float[Array, " chunks"]:
        """`logsumexp` of `log_f(x) + log weight` over each chunk of points, in bounded memory.

        Each chunk is recomputed in the backward pass, so that gradients are bounded in memory too.
        """
        return self._by_chunks(log_f, chunk_size, lambda index, log_terms: log_sum(log_terms))

    def log_integral_and_edge(self, log_f: Callable, chunk_size: int = 2**14) -> tuple[Array, Array]:
        """`log_integral` and the share of the integral that comes from points on the edge, zero without an edge."""
        if self.on_edge is None:
            total = self.log_integral(log_f, chunk_size)
            return total, jnp.zeros_like(total)
        on_edge = self.on_edge

        def sums(index, log_terms):
            return log_sum(log_terms), log_sum(jnp.where(jax.vmap(on_edge)(index), log_terms, -jnp.inf))

        totals, edges = self._by_chunks(log_f, chunk_size, sums)
        total, edge = log_sum(totals), jax.lax.stop_gradient(log_sum(edges))
        return total, jnp.where(edge == -jnp.inf, 0, jnp.exp(edge - jax.lax.stop_gradient(total)))

    def _by_chunks(self, log_f: Callable, chunk_size: int, reduce: Callable) -> Any:
        """`reduce(index, log terms)` of each chunk of points; terms past the last point are minus infinity."""
        chunk_size = min(chunk_size, self.size)
        num_chunks = -(-self.size // chunk_size)

        @jax.checkpoint
        def one_chunk(first):
            index = jnp.minimum(first + jnp.arange(chunk_size), self.size - 1)
            log_terms = jax.vmap(lambda i: self._log_term(log_f, i))(index)
            return reduce(index, jnp.where(first + jnp.arange(chunk_size) < self.size, log_terms, -jnp.inf))

        return jax.lax.map(one_chunk, jnp.arange(num_chunks) * chunk_size)

    def log_integral(self, log_f: Callable, chunk_size: int = 2**14) -> Float[Array, ""]:
        """`log int exp(log_f(x)) dx` in nats, with respect to the space's base measure."""
        return jax.scipy.special.logsumexp(self.chunk_log_integrals(log_f, chunk_size))

    def sample(self, key, log_f: Callable, num: int, chunk_size: int = 2**10):
        """`num` independent exact draws from `exp(log_f)` on the grid points, `[num, ...]`.

        A draw picks a chunk, then a point of it, so that memory is that of a few chunks and of one number for each.
        Both are drawn with some 46 random bits: the 23 of `jax.random.categorical` by default prefer the first of many
        equal points, and never draw those of probability below 1e-7 or so.
        """
        chunk_size = min(chunk_size, self.size)
        log_masses = self.chunk_log_integrals(log_f, chunk_size)

        def one(key):
            key_chunk, key_point = jax.random.split(key)
            first = jax.random.categorical(key_chunk, log_masses, mode="high") * chunk_size
            index = jnp.minimum(first + jnp.arange(chunk_size), self.size - 1)
            log_p = jax.vmap(lambda i: self._log_term(log_f, i))(index)
            log_p = jnp.where(first + jnp.arange(chunk_size) < self.size, log_p, -jnp.inf)
            return index[jax.random.categorical(key_point, log_p, mode="high")]

        index = jax.lax.map(one, jax.random.split(key, num), batch_size=8)
        return jax.vmap(self.point)(index)[0]

    def _log_term(self, log_f: Callable, index):
        x, log_weight = self.point(index)
        value = log_f(x)
        return value + log_weight.astype(value.dtype)


def log_sum(values: Array) -> Float[Array, ""]:
    """`logsumexp` with a gradient of zero, not NaN, where all are minus infinity."""
    return jax.scipy.special.logsumexp(values, where=values != -jnp.inf)  # a NaN stays one


class AbstractSpace(eqx.Module):
    """The set in which one example lives, and the base measure of densities on it.

    `shape` is that of one example. `base_measure` is `"counting"` (probabilities) or `"Lebesgue"`
    (densities): numbers under different base measures cannot be compared. `num_points` is the number of
    points of a finite space, else `None`. `kind` says how numbers of this space are stored.
    """

    shape: AbstractVar[tuple[int, ...]]
    base_measure: eqx.AbstractClassVar[str]
    kind: eqx.AbstractClassVar[str]  # "float" or "int"
    advice: eqx.AbstractClassVar[str]  # what to try when data have values outside the space

    @property
    @abstractmethod
    def num_points(self) -> int | None: ...

    @abstractmethod
    def elements_within(self, x: Any) -> Any:
        """Which of the numbers in `x` (an example, or rows of them; NumPy or JAX) are allowed."""

    def contains(self, x: Array) -> Bool[Array, ""]:
        """Whether one example lies in the space."""
        return jnp.all(self.elements_within(x))

    @abstractmethod
    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        """A grid that integrates smooth functions on this space.

        Finite spaces are enumerated and ignore all arguments. Continuous ones use the trapezoid rule with
        `num` points a dimension in unbounded coordinates, between `bounds`, which for a smooth density that has died
        out at the bounds converges faster than any power of the spacing.

        With a `shift` between 0 and 1 the rule has a point at this part of each of the `num - 1` steps instead, all
        with equal weights: rules with other shifts share no point, so their difference shows a grid that is too coarse.
        """

    @property
    def num_dimensions(self) -> int:
        return math.prod(self.shape)

    def check_example(self, x: Any, argument: str = "x") -> Array:
        """`x` as an array, if it has the shape of ONE example; values are not looked at, so it is free when compiled.

        **Raises:** `ValueError` for another shape, such as a batch, which would broadcast into plausible wrong numbers.
        """
        return jnp.asarray(self.as_example(x, argument))

    def as_example(self, x: Any, argument: str = "x") -> np.ndarray | Array:
        """`check_example` of numbers that stay where they are: NumPy arrays keep the digits of float64."""
        if not isinstance(x, jax.Array) or not is_real(x.dtype):
            x = as_numbers(x, argument)
        if x.shape != self.shape:
            is_batch = x.ndim > len(self.shape) and x.shape[x.ndim - len(self.shape) :] == self.shape
            advice = f" For a batch use `jax.vmap(f)({argument})`." if is_batch else ""
            raise ValueError(f"`{argument}` must be one example of shape {self.shape}; got {x.shape}.{advice}")
        return x

    def cast(self, x, dtype) -> Array:
        """`x` as numbers that models of precision `dtype` compute with."""
        return jnp.asarray(x).astype(dtype if self.kind == "float" else jnp.int32)

    def check_data(self, data, argument: str = "data", first_row: int = 0) -> np.ndarray | Array:
        """`data` as an array of examples `[n, *shape]`, or an error that names row (from `first_row`) and column.

        **Raises:** `TypeError` if `data` is no numeric array; `ValueError` if it is empty, has another shape,
        or has values outside the space.
        """
        names, array = column_names(data), as_numbers(data, argument)
        if array.ndim != 1 + len(self.shape) or array.shape[1:] != self.shape:
            raise ValueError(
                f"`{argument}` must have shape (n, {', '.join(map(str, self.shape))}), one example of "
                f"{self} a row; got {array.shape}.{_shape_advice(array.shape, self.shape)}"
            )
        if array.shape[0] == 0:
            raise ValueError(f"`{argument}` has no rows.")
        self._check_values(np.asarray(array), argument, first_row, names)
        return array

    def _check_values(self, array: np.ndarray, argument: str, first_row: int, names: list[Any] | None) -> None:
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
                advice = (
                    "It is missing: remove or fill in the rows with missing values. Normals, mixtures of normals and "
                    f"Boltzmann machines also take `np.ma.masked_invalid({argument})`."
                )
                raise ValueError(
                    f"`{argument}` has the value {value} at {place}, which is outside {self}. "
                    f"{self.advice if value == value else advice}"  # only nan differs from itself
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


def check_kind(space: Any, kind: type[AbstractSpace], owner: str) -> None:
    """
    **Raises:** `TypeError` in the name of `owner` if `space` is not one of this kind.
    """
    if not isinstance(space, kind):
        raise TypeError(
            f"`{owner}` needs `lnz.{kind.__name__}`; got {space}. A map onto another support is "
            "`lnz.bijections.ToSupport(space)`."
        )


def _enumeration(shape: tuple[int, ...], num_categories: int, dtype) -> Grid:
    num = math.prod(shape)
    size = num_categories**num
    if size > 2**31 - 1:
        raise ValueError(
            f"Enumerating {num_categories}**{num} points is out of reach. Use `lnz.normalizers.AIS` instead."
        )
    place_values = np.array([num_categories**i for i in range(num)], dtype=np.int32)

    def point(index):
        digits = (index.astype(jnp.int32) // place_values) % num_categories
        kind = jnp.result_type(float) if dtype is float else jnp.int32
        return digits.reshape(shape).astype(kind), jnp.zeros((), jnp.result_type(float))

    return Grid(size, point)


@register
class Binary(AbstractSpace):
    """`{0, 1}^shape` with counting measure. Examples are stored as floating-point zeros and ones.

    `Binary(64)` is 64 bits; `Binary(())` is one bit; `Binary((8, 8))` is a binary image.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "counting"
    kind = "float"
    advice = "Binary models need 0 and 1: try `data > threshold`."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Binary")

    @property
    def num_points(self) -> int:
        return 2**self.num_dimensions

    def elements_within(self, x):
        return (x == 0) | (x == 1)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _enumeration(self.shape, 2, float)


@register
class Categorical(AbstractSpace):
    """`{0, ..., num_categories - 1}^shape` with counting measure. Examples are stored as `int32`."""

    shape: tuple[int, ...] = eqx.field(static=True)
    num_categories: int = eqx.field(static=True)
    base_measure = "counting"
    kind = "int"
    advice = "Categories are whole numbers from 0."

    def __init__(self, shape: int | tuple[int, ...], num_categories: int):
        self.shape = _as_shape(shape, "Categorical")
        if num_categories < 1:
            raise ValueError(f"`Categorical(num_categories=...)` must be positive; got {num_categories}.")
        self.num_categories = num_categories

    @property
    def num_points(self) -> int:
        return self.num_categories**self.num_dimensions

    def elements_within(self, x):
        return (x >= 0) & (x < self.num_categories) & (x % 1 == 0)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _enumeration(self.shape, self.num_categories, int)


@register
class Counts(AbstractSpace):
    """`{0, 1, 2, ...}^shape` with counting measure. Examples are stored as `int32`.

    The set is infinite: `quadrature(num)` sums over `0, ..., num - 1` in each variable and ignores `bounds`. The sum
    lacks exactly the mass of the examples with some count of `num` or more.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "counting"
    kind = "int"
    advice = "Counts are whole numbers from 0, below 2**31."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Counts")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        with np.errstate(invalid="ignore"):  # the remainder of infinity is no number, and so not zero
            return (x >= 0) & (x <= _LARGEST_COUNT) & (x % 1 == 0)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        if num < 1:
            raise ValueError(f"`quadrature(num=...)` needs at least one count, 0; got {num}.")
        grid = _enumeration(self.shape, num, int)
        return Grid(grid.size, grid.point, lambda index: jnp.any(grid.point(index)[0] == num - 1))


# The largest that float32 holds and `int32` too.
_LARGEST_COUNT = 2**31 - 128


def _trapezoid(shape: tuple[int, ...], num: int, bounds: tuple[float, float], shift: float | Array | None) -> Grid:
    if num < 2:
        raise ValueError(f"`quadrature(num=...)` needs at least 2 points a dimension; got {num}.")
    num_dimensions, num_steps = math.prod(shape), num - 1
    size = num**num_dimensions
    if size > 2**31 - 1:
        raise ValueError(
            f"A grid of {num}**{num_dimensions} points is out of reach. Use `lnz.normalizers.Importance` or `AIS`."
        )
    low, high = bounds
    step = (high - low) / num_steps
    num = num if shift is None else num_steps
    place_values = np.array([num**i for i in range(num_dimensions)], dtype=np.int32)

    def at_ends(index):
        digits = (index.astype(jnp.int32) // place_values) % num
        return digits, (digits == 0) | (digits == num - 1)

    def point(index):
        dtype = jnp.result_type(float)
        digits, at_end = at_ends(index)
        log_weight = num_dimensions * math.log(step)
        if shift is None:  # the ends have half a step on one side only
            log_weight = log_weight - math.log(2) * jnp.sum(at_end, dtype=dtype)
        places = digits.astype(dtype) + (0 if shift is None else jnp.asarray(shift, dtype))
        return (low + step * places).reshape(shape), jnp.asarray(log_weight, dtype)

    return Grid(num**num_dimensions, point, lambda index: jnp.any(at_ends(index)[1]))


def innermost(low: float, high: float, dtype: Any) -> tuple[float, float]:
    """The outermost normal numbers of `dtype` inside finite ends."""
    # Of this part of the width even the reciprocal times a thousand is a number.
    least = float(jnp.finfo(dtype).tiny) * 1024 * (max(1.0, high - low) if 0 in (low, high) else 1.0)
    ends = np.asarray(low, dtype), np.asarray(high, dtype)
    above, below = float(np.nextafter(*ends)), float(np.nextafter(*ends[::-1]))
    return (least if abs(above) < least else above), (-least if abs(below) < least else below)


@register
class Euclidean(AbstractSpace):
    """`R^shape` with Lebesgue measure."""

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "Lebesgue"
    kind = "float"
    advice = "Remove or fill in the rows with missing or infinite values."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Euclidean")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        return abs(x) < math.inf

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        return _trapezoid(self.shape, num, bounds, shift)


_REACH = 3.5  # in t, where an end is 1e-22 of the width away


@register
class Interval(AbstractSpace):
    """`[low, high]^shape` with Lebesgue measure.

    `quadrature` ignores `bounds`. It is the trapezoid rule in t, with `x = low + (high - low) sigmoid(pi sinh t)`. It
    is right also for densities that are infinite at an end, as far as floating-point numbers tell x from the end.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)
    base_measure = "Lebesgue"
    kind = "float"
    advice = "Rescale the data or choose a wider interval."

    def __init__(self, shape: int | tuple[int, ...], low: float = 0.0, high: float = 1.0):
        self.shape = _as_shape(shape, "Interval")
        self.low, self.high = float(low), float(high)

    def __check_init__(self):
        if not self.low < self.high:
            raise ValueError(f"`Interval(low=..., high=...)` needs low < high; got {self.low} and {self.high}.")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        return (x >= self.low) & (x <= self.high)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        """The double-exponential formula.

        Source: Takahasi and Mori (1974).
        """
        lines = _trapezoid(self.shape, num, (-_REACH, _REACH), shift)
        width = self.high - self.low

        def point(index):
            t, log_weight = lines.point(index)
            z = math.pi * jnp.sinh(t)
            distance = width * jax.nn.sigmoid(-jnp.abs(z))  # from the nearer end
            x = jnp.where(z > 0, self.high - distance, self.low + distance)
            low, high = innermost(self.low, self.high, x.dtype)
            x = jnp.where(x < low, low, jnp.where(x > high, high, x))
            log_slope = jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z) + jnp.log(math.pi * width * jnp.cosh(t))
            return x, log_weight + jnp.sum(log_slope)

        def on_edge(index):
            # Nearer to an end than this there is no number: what a singular density has there goes unseen.
            x, _ = point(index)
            low, high = innermost(self.low, self.high, x.dtype)
            assert lines.on_edge is not None
            return lines.on_edge(index) | jnp.any((x == low) | (x == high))

        return Grid(lines.size, point, on_edge)


@register
class Positive(AbstractSpace):
    """`(0, inf)^shape` with Lebesgue measure. `quadrature` is the trapezoid rule in `log x`, with `bounds` on that."""

    shape: tuple[int, ...] = eqx.field(static=True)
    base_measure = "Lebesgue"
    kind = "float"
    advice = "Zero is outside: shift or drop such values, or use `lnz.Euclidean`."

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = _as_shape(shape, "Positive")

    @property
    def num_points(self) -> None:
        return None

    def elements_within(self, x):
        return (x > 0) & (x < math.inf)

    def quadrature(
        self, num: int = 201, bounds: tuple[float, float] = (-10.0, 10.0), shift: float | Array | None = None
    ) -> Grid:
        logs = _trapezoid(self.shape, num, bounds, shift)

        def point(index):
            log_x, log_weight = logs.point(index)
            return jnp.exp(log_x), log_weight + jnp.sum(log_x)

        return Grid(logs.size, point, logs.on_edge)
