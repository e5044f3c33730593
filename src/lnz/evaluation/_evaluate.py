"""Likelihoods of examples in nats, with their errors and the direction of the bound."""

import dataclasses
import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import (
    AbstractBayesianModel,
    AbstractDensity,
    AbstractModel,
    AbstractNormalizer,
    AbstractSampler,
    Drawn,
    Estimate,
    Local,
    LogLikelihood,
    Protocol,
    RandomVariable,
    UnreliableEstimateWarning,
    assumptions,
    check_resolved,
    faulty_rows,
    integral,
    local,
    needs_no_method,
    other_rounding,
    unknown_rows,
    useless_rows,
)
from ..data import (
    AbstractSource,
    Resident,
    UnboundedDensityWarning,
    as_source,
    canonical,
    data_warnings,
    known_entries,
    some_rows,
)
from ..modules import check_key, check_positive, kind_of, model_dtype, replace, unmasked
from ._narrow import narrow_scales
from ._normalize import check_normalizer, check_positions, check_repeats, default_normalizer, exact_draws

# Draws per example of an estimated log-determinant: their spread gives the error.
_NUM_DRAWS = 4

# A rough number of multiplications that takes one to a few minutes on two cores.
_MUCH_WORK = 10**12


def evaluate(
    key: PRNGKeyArray,
    model: AbstractModel,
    data: Any,
    *,
    hidden: AbstractNormalizer | None = None,
    partition: AbstractNormalizer | None = None,
    batch_size: int | None = None,
    observed: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> LogLikelihood:
    """Mean log-likelihood of `data` in nats per example, with both errors and the direction of the bound.

    `log p(x) = log numerator(x) - log denominator`. An estimated numerator makes it a lower bound, an estimated
    denominator an upper bound (optimistic), both together only an estimate. Default methods, costs and warnings:
    `docs/evaluate.md`.

    **Arguments:**

    - `data`: examples `[n, *model.space.shape]`, float64 if columns lie far from zero (`lnz.local`). A `np.memmap` or
      `lnz.data.Stream` is read in blocks.
    - `hidden`: normaliser for numerators without a closed form (latent variables). `Bound()` gives the ELBO.
    - `partition`: normaliser for a denominator without a closed form (energy models, energy priors).
    - `batch_size`: examples on the device at a time; the result does not depend on it.
    - `observed`: mask of the known entries, `[n, ...]`, such as `~np.isnan(data)`, for the likelihood of these alone. A
      masked array as `data` brings its own. For Boltzmann machines, normals and mixtures of normals.
    - `progress`: called after each batch with the examples done and the total.

    **Returns:** a `LogLikelihood`. If numerators are estimated, its `unreliable_rows` have too few effective weights or
    mass beyond their draws.

    **Raises:** `TypeError` or `ValueError` for bad arguments, including a method that would have no effect.
    """
    key_hidden, key_partition = jr.split(check_key(key))
    if not isinstance(model, AbstractModel):
        hint = " Try `fit.model`." if hasattr(model, "model") and hasattr(model, "history") else ""
        if isinstance(model, AbstractBayesianModel):
            hint = " A Bayesian model is evaluated by its predictive distribution, `model.predictive(data)`."
        raise TypeError(f"`model` must be a model with a likelihood of examples; got {kind_of(model)}.{hint}")
    space = model.space  # read once: a model with latents traces it each time
    there = local(model)
    data, observed = unmasked(data, observed)
    if observed is None:
        source = as_source(data, space)
        some = some_rows(source)
        check_resolved(space, some, there)
    else:
        array, observed = known_entries(space, data, observed)
        source = Resident(array)
        some = np.where(observed, array, np.nan)
        check_resolved(space, some, there)
    about_data = data_warnings(space, some)
    narrow = narrow_scales(model, some)
    about_data += [] if narrow is None else [narrow]
    about_data += [] if observed is None else unknown_rows(observed)
    model = there.model
    example = space.cast(there.to_local(source.rows(0, 1))[0], model_dtype(model))
    known = None if observed is None else jnp.asarray(observed[0])
    hidden = _method_for(lambda: model.numerator(example, known), hidden, "hidden", model)
    partition = _method_for(model.denominator, partition, "partition", model)
    _check_positions(hidden, source.num_rows)
    # Make densities only for methods with given positions.
    by_draws = [
        (method, make())
        for method, make in ((hidden, lambda: model.numerator(example, known)), (partition, model.denominator))
        if exact_draws(method) is not None
    ]
    for method, density in by_draws:
        check_positions(method, density)
    if batch_size is None:
        batch_size = 512 if hidden is None or not hidden.is_random else 16
    check_positive(batch_size, "batch_size")
    _warn_of_much_work(hidden, lambda: model.numerator(example, known), model, source.num_rows)

    batches = _batches(source, there, observed, batch_size)
    fingerprint = _Fingerprint(space.shape, source.num_rows)
    numerators = _numerators(model, key_hidden, batches, source.num_rows, hidden, fingerprint, progress)
    about_rounding = _rounding(model, key_hidden, source, there, observed, batch_size, hidden)
    denominator = _denominator(model, key_partition, partition)
    for method, density in by_draws:
        check_repeats(method, density, denominator if method is partition else _row(numerators, 0))
    per_example = np.asarray(numerators.value, np.float64) - float(denominator.value)
    # Use the likeliest row, because two log-densities of minus infinity have no difference.
    likeliest = int(np.argmax(np.nan_to_num(per_example, nan=-np.inf, neginf=-np.inf)))
    example = space.cast(there.to_local(source.rows(likeliest, likeliest + 1))[0], model_dtype(model))
    # The constant of the energy is left out of numerators and denominator, because it could swallow their digits.
    offset = _offset(model, example)
    num_dimensions, notes = space.dimension, ()
    if observed is not None:
        num_dimensions = float(np.mean(observed)) * space.dimension
        notes = (f"on average {num_dimensions:.1f} known entries of an example, others summed out",)
    used = ((hidden, numerators), (partition, denominator))
    result = LogLikelihood(
        _shifted(numerators, offset, assumptions(model)),
        _shifted(denominator, offset),
        RandomVariable(
            fingerprint.result(),
            str(space),
            str(space.measure),
            num_dimensions,
            # Bits per dimension are usual for grey values, but not for binary data.
            space.measure.is_counting and any(part.num_values != 2 for part in space.parts),
        ),
        Protocol(
            _method_name(hidden, numerators),
            _method_name(partition, denominator),
            tuple(method.name for method, estimate in used if method and estimate.bound != "exact"),
            notes,
        ),
    )
    about_estimates = [*about_rounding, *faulty_rows(per_example), *_doubts(numerators, denominator)]
    for sentence in about_data:
        warnings.warn(sentence, UnboundedDensityWarning, stacklevel=2)
    for note in about_estimates:
        warnings.warn(f"evaluate: {note}.", UnreliableEstimateWarning, stacklevel=2)
    return dataclasses.replace(result, warnings=(*about_data, *about_estimates))


def _method_for(
    make: Callable[[], AbstractDensity], method: AbstractNormalizer | None, argument: str, model: AbstractModel
) -> AbstractNormalizer | None:
    """`method` or the default; `None` if the log normaliser is known, which the types of the density decide."""
    found: list[Any] = []

    def choose():
        density = make()
        known = needs_no_method(density)
        found.append((known, None if known else default_normalizer(density, for_each_row=argument == "hidden")))

    jax.eval_shape(choose)
    ((known, default),) = found
    if method is None:
        return default
    check_normalizer(method, argument)
    if known:
        name = type(model).__name__
        why = {
            "hidden": f"the numerator of {name} has a closed form, without latent variables that must be summed out by "
            "a method",
            "partition": f"this {name} is normalised and has no partition function to estimate",
        }[argument]
        raise ValueError(f"`{argument}={type(method).__name__}(...)` would have no effect: {why}. Leave it out.")
    return method


def _check_positions(hidden: AbstractNormalizer | None, num: int) -> None:
    """**Raises:** `ValueError` if exact draws of one row's latents would start the chains of all rows."""
    if num > 1 and hidden is not None and hidden.exact_draws is not None:
        raise ValueError(
            "`hidden=ReverseAIS(positions=...)`: the positions are exact draws of the latents of one example, but "
            f"there are {num}, and for the others the result would not be a bound. Take one row at a time, with draws "
            "for that row: `lnz.log_normalizer(key, lnz.condition(model, x), ReverseAIS(positions=...))`; or, for "
            "examples that the model draws itself, `lnz.simulated_bracket(key, model)`."
        )


def _warn_of_much_work(
    hidden: AbstractNormalizer | None, make: Callable[[], AbstractDensity], model: AbstractModel, num: int
) -> None:
    if hidden is None or hidden.is_smooth:
        return
    costs: list[int] = []
    jax.eval_shape(lambda: costs.append(hidden.cost(make())))
    num_sweeps = num * costs[0]
    size = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array)))
    if num_sweeps * size > _MUCH_WORK:
        warnings.warn(
            f"evaluate: {hidden.name} for each of {num} examples makes {num_sweeps:,} sweeps over a model of "
            f"{size:,} numbers, which takes minutes or hours on a few cores. Take fewer rows, or fewer chains and "
            "temperatures, such as `hidden=lnz.normalizers.AIS(20, 200)`.",
            stacklevel=3,
        )


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Some rows: as given, with NaN for unknown entries, and as passed to the device, padded to one size."""

    start: int
    given: np.ndarray | Array
    rows: np.ndarray | Array
    observed: np.ndarray | None


def _batches(source: AbstractSource, there: Local, observed: np.ndarray | None, batch_size: int) -> Iterator[_Batch]:
    num = source.num_rows
    size = min(batch_size, 2 ** math.ceil(math.log2(num)))
    for start in range(0, num, size):
        given = source.rows(start, min(start + size, num))
        fill = np.minimum(np.arange(size), len(given) - 1)
        rows, known = there.to_local(given, first_row=start)[fill], None
        if observed is not None:
            known = observed[start + fill]
            given = np.where(known[: len(given)], given, np.nan)
        yield _Batch(start, given, rows, known)


def _numerators(model, key, batches, num, hidden, fingerprint, progress) -> Estimate:
    """The numerators of all rows: values, errors, and the diagnostics that are one number per row."""
    parts: list[Any] = []
    estimate = None
    for batch in batches:
        fingerprint.update(batch.given)
        start, rows, known = jax.tree.map(jnp.asarray, (np.int32(batch.start), batch.rows, batch.observed))
        estimate = _numerators_at_once(model, key, start, rows, known, hidden)
        one_each = replace(estimate.weights, log_weights=None)
        arrays = jax.device_get((estimate.value, estimate.standard_error, one_each))
        parts.append(jax.tree.map(lambda array: array[: len(batch.given)], arrays))  # noqa: B023 (called at once)
        if progress is not None:
            progress(batch.start + len(batch.given), num)
    value, standard_error, weights = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    assert estimate is not None  # there is a first batch
    if weights.num is not None:  # the same for all
        weights = replace(weights, num=np.asarray(weights.num[0]))
    return Estimate(value, standard_error, estimate.bound, estimate.assumes, weights)


@eqx.filter_jit
def _numerators_at_once(model, key, start, rows, observed, hidden) -> Estimate:
    dtype = model_dtype(model)

    def one(number, x, known):
        # The key does not depend on the number of rows or on the batch.
        key_row = jr.fold_in(key, number)
        density = model.numerator(model.space.cast(x, dtype), known)
        if not isinstance(density, Drawn):
            return integral(key_row, density, hidden)
        draws = jax.vmap(lambda key: integral(key, density))(jr.split(key_row, _NUM_DRAWS))
        error = jnp.std(draws.value, ddof=1) / math.sqrt(_NUM_DRAWS)
        return Estimate(jnp.mean(draws.value), error, draws.bound, draws.assumes)

    return jax.vmap(one)(start + jnp.arange(len(rows), dtype=jnp.int32), rows, observed)


def _row(estimates: Estimate, number: int) -> Estimate:
    return Estimate(estimates.value[number], estimates.standard_error[number], estimates.bound)


# Changes of a row beyond this many nats plus this share of its value are more than the error of float32 itself.
_CHANGED, _CHANGED_PART = 0.05, 1e-4


def _rounding(model, key, source: AbstractSource, there: Local, observed, batch_size: int, hidden) -> list[str]:
    """A warning if the number type of the model does not hold the digits that its densities need.

    One batch of evenly spaced rows is scored twice, with the two numbers of the model's type next to each value. The
    check uses the program compiled for all rows, with the same keys in both passes.
    """
    # Sums over latents cost more. They are skipped if a layer of the model moves the rows to where digits suffice.
    unfit = hidden is not None and (there.origin is not None or not hidden.is_smooth)
    if not model.space.measure.is_continuous or unfit or np.can_cast(source.rows(0, 1).dtype, model_dtype(model)):
        return []
    size = min(batch_size, 2 ** math.ceil(math.log2(source.num_rows)))
    numbers = np.linspace(0, source.num_rows - 1, size).astype(int)
    given = np.concatenate([np.asarray(source.rows(i, i + 1)) for i in numbers.tolist()])
    image = np.asarray(there.to_local(given))
    other = other_rounding(given.astype(np.float64) - (0 if there.origin is None else there.origin), image)
    if other is None:
        return []
    known = None if observed is None else jnp.asarray(observed[numbers])
    one, two = (
        np.asarray(_numerators_at_once(model, key, jnp.int32(0), jnp.asarray(rows), known, hidden).value, np.float64)
        for rows in (image, other)
    )
    with np.errstate(invalid="ignore"):
        change = np.where(one == two, 0, np.abs(one - two))  # zero if both are minus infinity, too
    bad = ~(change <= _CHANGED + _CHANGED_PART * np.abs(one))
    if not bad.any():
        return []
    worst = int(np.argmax(np.where(np.isnan(change), np.inf, change)))
    return [
        f"{model_dtype(model)} does not hold the digits of the data: {np.unique(numbers[bad]).size} of "
        f"{np.unique(numbers).size} checked rows change by up to {change[worst]:.2g} nats with their last "
        f"digit, first row {numbers[bad][0]}"
    ]


@eqx.filter_jit
def _denominator(model, key, partition) -> Estimate:
    return integral(key, model.denominator(), partition)


# Even good weights exceed the threshold of Pareto k by chance: 3 of 500 examples of an optimal linear VAE did.
_UNRELIABLE_BY_CHANCE = 0.05
_TOO_SMALL = ", so its error bar is too small"


def _shifted(estimate: Estimate, offset: float, assumes: tuple[str, ...] = ()) -> Estimate:
    """The estimate in float64, plus a constant."""
    weights = jax.tree.map(np.asarray, estimate.weights)
    if weights.log_weights is not None:
        weights = replace(weights, log_weights=np.asarray(weights.log_weights, np.float64) + offset)
    return replace(
        estimate,
        value=np.asarray(np.asarray(estimate.value, np.float64) + offset),
        standard_error=np.asarray(estimate.standard_error, np.float64),
        assumes=tuple(dict.fromkeys(estimate.assumes + assumes)),
        weights=weights,
    )


def _doubts(numerators: Estimate, denominator: Estimate) -> list[str]:
    """The reasons, in words, why the errors of the two integrals cannot be trusted."""
    doubts = [f"partition: {'; '.join(denominator.doubts)}{_TOO_SMALL}"] if denominator.doubts else []
    weights, num = numerators.weights, len(numerators.value)
    if not weights.are_judged:
        return doubts
    num_bad = int(np.sum(numerators.unreliable_rows()))
    if weights.ess is None:  # grids are deterministic, so no row is unreliable by chance
        few = "mass on the edge of the grid, or a grid that is too coarse"
        return doubts if not num_bad else [*doubts, f"hidden: {num_bad} of {num} examples have {few}{_TOO_SMALL}"]
    if num_bad > _UNRELIABLE_BY_CHANCE * num:
        few = "too few effective weights, or mass beyond their draws"
        return [*doubts, f"hidden: {num_bad} of {num} examples have {few}{_TOO_SMALL}"]
    return doubts + useless_rows(num, numerators.weights)


def _offset(model: AbstractModel, example: Array) -> float:
    """The constant that an energy model leaves out of its denominator and its numerators."""
    denominator = model.denominator()
    if denominator is model or not isinstance(denominator, type(model)):
        return 0.0
    return float(model.log_density(example)) - float(denominator.log_density(example))  # pyright: ignore[reportAttributeAccessIssue]


def _method_name(method: AbstractNormalizer | None, estimate: Estimate) -> str:
    if method is None:
        unbiased = f"estimated without bias ({_NUM_DRAWS} draws for each example)"
        words = "exact" if estimate.bound == "exact" else unbiased
        return ", ".join([words, *(f"assuming {what}" for what in estimate.assumes)])
    if estimate.bound == "exact":
        return f"exact ({type(method).__name__})"
    fields = _numbers(method)
    fields += [
        f"{name}={type(value).__name__}({', '.join(_numbers(value))})"
        for name, value in vars(method).items()
        if isinstance(value, AbstractSampler)
    ]
    inner = [(name, value) for name, value in vars(method).items() if isinstance(value, AbstractNormalizer)]
    fields += [f"{name}={_method_name(value, estimate)}" for name, value in inner]
    betas = getattr(method, "betas", None)
    if betas is not None and not isinstance(betas, int):
        fields.append(f"betas=array of {len(betas)}")
    return f"{type(method).__name__}({', '.join(fields)})"


def _numbers(module: eqx.Module) -> list[str]:
    return [
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in vars(module).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


class _Fingerprint:
    """Fingerprint of the data: equal for equal numbers as they were given, regardless of their type."""

    def __init__(self, shape: tuple[int, ...], num: int):
        self._hash = hashlib.sha256(repr((num, *shape)).encode())

    def update(self, rows: Any) -> None:
        for piece in canonical(rows):
            self._hash.update(piece)

    def result(self) -> str:
        return self._hash.hexdigest()[:16]
