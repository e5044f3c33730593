"""The verbs that answer: log normalisers, brackets, likelihoods, samples and comparisons."""

import dataclasses
import hashlib
import math
import warnings
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from . import normalizers, samplers
from ._algorithm import AbstractSampler
from ._check import check_key, check_positive, model_dtype
from ._density import (
    AbstractCollapsibleDensity,
    AbstractDensity,
    AbstractDistribution,
    AbstractModel,
    AbstractNormalizer,
)
from ._estimate import (
    Bracket,
    Estimate,
    LogLikelihood,
    UnreliableEstimateWarning,
    flip_bound,
    join_bounds,
    unreliable_reasons,
    warn_if_unreliable,
)
from ._fit import Fit
from ._missing import known_entries
from ._model import (
    AbstractBayesianModel,
    AbstractClampable,
    AbstractEnergyModel,
    AbstractLatentEnergyModel,
    AbstractLatentModel,
)

# Enumerated without being asked: about a second's work for a denominator, and little for each example.
_FEW_STATES = 2**20
_VERY_FEW_STATES = 2**10

_LOW_ACCEPTANCE = 0.1


class UnreliableSampleWarning(UserWarning):
    """The chains behind a sample hardly moved."""


def log_normalizer(key: PRNGKeyArray, density: AbstractDensity, method: AbstractNormalizer | None = None) -> Estimate:
    """`log int exp(density.log_density(x)) dx` in nats: log Z, log p(x) or the evidence, depending on the density.

    **Arguments:**

    - `density`: an energy model, or `lnz.condition(model, x)`.
    - `method`: such as `lnz.normalizers.AIS(num_chains=100, betas=1000)`. By default exact
      enumeration where the density (or its smaller layer) has at most 2**20 states, else `AIS()`.

    **Returns:** an `Estimate` that says which way it errs; it warns if its error bar cannot be trusted.
    """
    key = check_key(key)
    if not isinstance(density, AbstractDensity):
        raise TypeError(
            f"`log_normalizer(density=...)` needs a density; got {type(density).__name__}. For a model with latent "
            "variables use `lnz.condition(model, x)`; to evaluate a model on data use `lnz.evaluate`."
        )
    if method is None and isinstance(density, AbstractDistribution):
        return Estimate.exact(jnp.zeros((), model_dtype(density)))  # normalised by definition
    if method is None:
        method = _default_normalizer(density, _FEW_STATES, normalizers.AIS())
    estimate = _normalize(_check_normalizer(method, "method"), key, density)
    warn_if_unreliable(estimate, f"{type(method).__name__} of {type(density).__name__}")
    return estimate


@eqx.filter_jit
def _normalize(method: AbstractNormalizer, key: PRNGKeyArray, density: AbstractDensity) -> Estimate:
    return method(key, density)


def _default_normalizer(density: AbstractDensity, few: int, otherwise: AbstractNormalizer) -> AbstractNormalizer:
    small = density.collapsed() if isinstance(density, AbstractCollapsibleDensity) else density
    num_points = small.space.num_points
    return normalizers.Quadrature() if num_points is not None and num_points <= few else otherwise


def _check_normalizer(method: Any, argument: str) -> AbstractNormalizer:
    if not isinstance(method, AbstractNormalizer):
        raise TypeError(
            f"`{argument}` must be a normaliser such as `lnz.normalizers.AIS()`, with its brackets; got {method!r}."
        )
    return method


def bracket(
    key: PRNGKeyArray,
    density: AbstractDensity,
    lower: AbstractNormalizer | None = None,
    upper: AbstractNormalizer | None = None,
) -> Bracket:
    """A two-sided interval for the log normaliser: forward AIS from below, reverse AIS from above.

    The upper side needs exact draws of the density. Where it cannot be enumerated, pass
    `upper=lnz.normalizers.ReverseAIS(positions=...)` with exact draws, or `ReverseAIS(num_warm_up=...)` for
    long-run chains; the bracket then says that it assumes a stationary start.

    **Returns:** a `Bracket`, `[lower - 2 s.e., upper + 2 s.e.]` in nats.
    """
    key_lower, key_upper = jr.split(check_key(key))
    lower = normalizers.AIS() if lower is None else _check_normalizer(lower, "lower")
    upper = normalizers.ReverseAIS() if upper is None else _check_normalizer(upper, "upper")
    return Bracket(log_normalizer(key_lower, density, lower), log_normalizer(key_upper, density, upper))


def evaluate(
    key: PRNGKeyArray,
    model: AbstractModel,
    data: Any,
    *,
    hidden: AbstractNormalizer | None = None,
    partition: AbstractNormalizer | None = None,
    batch_size: int | None = None,
    observed: Any = None,
) -> LogLikelihood:
    """Mean log-likelihood of `data` in nats per example, with both errors and the direction of the bound.

    `log p(x) = log numerator(x) - log denominator`. An estimated numerator makes it a lower bound, an estimated
    denominator an upper bound (optimistic), both together only an estimate.

    **Arguments:**

    - `data`: examples `[n, *model.space.shape]`.
    - `hidden`: normaliser for numerators that have no closed form (latent variables). By default enumeration of at
      most 2**10 states, `Importance(1000)` for latent-variable models, else `AIS()`.
    - `partition`: normaliser for a denominator that has none (energy models). By default
      enumeration of at most 2**20 states, else `AIS()`.
    - `batch_size`: examples held in memory at a time; by default 512, or 16 where each needs an estimate of its own.
    - `observed`: which entries of `data` are known, `[n, ...]` of true and false, such as `~np.isnan(data)`; the
      likelihood is then that of these entries alone, with the others summed out by `hidden`. For Boltzmann machines.

    A method for an integral that has a closed form is not used, and the protocol says "exact".

    **Returns:** a `LogLikelihood`; its `stats["protocol"]` states what was done.
    """
    key_hidden, key_partition = jr.split(check_key(key))
    if not isinstance(model, AbstractModel):
        hint = " Try `fit.model`." if isinstance(model, Fit) else ""
        if isinstance(model, AbstractBayesianModel):
            hint = " A Bayesian model is evaluated by its predictive distribution, `model.predictive(data)`."
        raise TypeError(f"`model` must be a model with a likelihood of examples; got {type(model).__name__}.{hint}")
    if observed is None:
        array = model.space.check_data(data, "data")
    else:
        if not isinstance(model, AbstractClampable):
            raise TypeError(
                "`observed` needs a model whose variables can be held fixed, such as an RBM; got "
                f"{type(model).__name__}."
            )
        array, observed = known_entries(model.space, data, observed)
    dtype = model_dtype(model)
    example = model.space.cast(array[0], dtype)
    if observed is None:
        hidden, partition = _default_methods(model, example, hidden, partition)
    else:
        clamped = model.clamp(example, jnp.asarray(observed[0]))  # pyright: ignore[reportAttributeAccessIssue]
        _, partition = _default_methods(model, example, normalizers.AIS(), partition)
        few = _default_normalizer(clamped, _VERY_FEW_STATES, normalizers.AIS())
        hidden = few if hidden is None else _check_normalizer(hidden, "hidden")
    if batch_size is None:
        batch_size = 512 if hidden is None or isinstance(hidden, normalizers.Quadrature) else 16
    check_positive(batch_size, "batch_size")

    rows = jnp.asarray(array.astype(dtype) if array.dtype.kind == "f" else array)
    numerators = _numerators(model, key_hidden, rows, observed, hidden, dtype, min(batch_size, len(rows)))
    denominator = _denominator(model, key_partition, partition)
    per_example = np.asarray(numerators.value, np.float64) - float(denominator.value)
    if observed is not None:  # a value that is not known has no part in what was evaluated
        array = np.where(observed, array, np.nan)
    result = _summarise(model, array, per_example, numerators, denominator, hidden, partition)
    if observed is None:
        return result
    mean_known = float(np.mean(observed)) * model.space.num_dimensions
    protocol = f"{result.stats['protocol']}; on average {mean_known:.1f} known entries of an example, others summed out"
    return dataclasses.replace(result, stats={**result.stats, "num_dimensions": mean_known, "protocol": protocol})


def _default_methods(model, example, hidden, partition):
    if hidden is not None:
        _check_normalizer(hidden, "hidden")
    elif isinstance(model, AbstractLatentModel):
        hidden = _default_normalizer(model.condition(example), _VERY_FEW_STATES, normalizers.Importance(1000))
    elif isinstance(model, AbstractLatentEnergyModel):
        hidden = _default_normalizer(model.condition(example), _VERY_FEW_STATES, normalizers.AIS())
    if partition is not None:
        _check_normalizer(partition, "partition")
    elif isinstance(model, AbstractEnergyModel | AbstractLatentEnergyModel):
        joint = model if isinstance(model, AbstractEnergyModel) else model.joint()
        partition = _default_normalizer(joint, _FEW_STATES, normalizers.AIS())
    has_exact_numerator = isinstance(model, AbstractDistribution | AbstractEnergyModel)
    has_exact_denominator = isinstance(model, AbstractDistribution | AbstractLatentModel)
    return None if has_exact_numerator else hidden, None if has_exact_denominator else partition


@eqx.filter_jit
def _numerators(model, key, rows, observed, hidden, dtype, batch_size) -> Estimate:
    def one(inputs):
        key, x, known = inputs
        x = model.space.cast(x, dtype)
        return model.log_numerator(key, x, hidden) if known is None else hidden(key, model.clamp(x, known))

    return jax.lax.map(one, (jr.split(key, len(rows)), rows, observed), batch_size=batch_size)


@eqx.filter_jit
def _denominator(model, key, partition) -> Estimate:
    return model.log_denominator(key, partition)


# Even good weights have a Pareto k above its threshold now and then: 3 of 500 examples of an optimal linear VAE.
_UNRELIABLE_BY_CHANCE = 0.05


def _summarise(
    model, array, per_example, numerators: Estimate, denominator: Estimate, hidden, partition
) -> LogLikelihood:
    num = len(per_example)
    shared_error = float(denominator.standard_error)
    own_error = float(np.sqrt(np.sum(np.asarray(numerators.standard_error, np.float64) ** 2))) / num
    bound = join_bounds(numerators.bound, flip_bound(denominator.bound))
    stats: dict[str, Any] = {
        "num_dimensions": model.space.num_dimensions,
        "fingerprint": _fingerprint(model.space, array),
        "hidden_error": own_error,
        "partition_error": shared_error,
        "log_partition": float(denominator.value),
    }
    notes = []
    if denominator.stats:
        scalars = {name: float(value) for name, value in denominator.stats.items() if np.ndim(value) == 0}
        stats["partition_weights"] = scalars
        if "log_weights" in denominator.stats:
            stats["partition_log_weights"] = np.asarray(denominator.stats["log_weights"], np.float64)
        notes += [f"partition: {reason}" for reason in unreliable_reasons(denominator.stats)]
    if numerators.stats:
        columns = {name: np.asarray(value) for name, value in numerators.stats.items() if np.ndim(value) == 1}
        bad = [bool(unreliable_reasons({name: column[i] for name, column in columns.items()})) for i in range(num)]
        # The typical example; how many are worse than the rules allow is said in words.
        stats["hidden_weights"] = {name: float(np.median(column)) for name, column in columns.items()}
        stats["hidden_unreliable"] = sum(bad)
        if sum(bad) > _UNRELIABLE_BY_CHANCE * num:
            notes.append(f"hidden: {sum(bad)} of {num} examples have too few effective weights")
    stats["warnings"] = notes
    stats["protocol"] = (
        f"{num} examples of {model.space}; numerator {_method_name(hidden, numerators)}; "
        f"denominator {_method_name(partition, denominator)}"
    )
    for note in notes:
        warnings.warn(f"evaluate: {note}. The error bar is too small.", UnreliableEstimateWarning, stacklevel=3)
    return LogLikelihood(
        value=float(np.mean(per_example)),
        monte_carlo_error=math.hypot(own_error, shared_error),
        data_error=float(np.std(per_example, ddof=1) / math.sqrt(num)) if num > 1 else math.nan,
        bound=bound,
        per_example=per_example,
        stats=stats,
        assumes=tuple(dict.fromkeys(numerators.assumes + denominator.assumes)),
    )


def _method_name(method: AbstractNormalizer | None, estimate: Estimate) -> str:
    if method is None:
        return "exact"
    if estimate.bound == "exact":
        return f"exact ({type(method).__name__})"
    fields = [
        f"{name}={value}"
        for name, value in vars(method).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    inner = [(name, value) for name, value in vars(method).items() if isinstance(value, AbstractNormalizer)]
    fields += [f"{name}={_method_name(value, estimate)}" for name, value in inner]
    betas = getattr(method, "betas", None)
    if betas is not None and not isinstance(betas, int):
        fields.append(f"betas=array of {len(betas)}")
    return f"{type(method).__name__}({', '.join(fields)})"


def _fingerprint(space, array) -> dict[str, str]:
    """What the log-probabilities are of: equal for equal values, whatever their number type."""
    canonical = np.ascontiguousarray(np.asarray(array), dtype=np.float32)
    digest = hashlib.sha256(repr(canonical.shape).encode() + canonical.tobytes()).hexdigest()
    return {"data": digest[:16], "space": str(space), "base_measure": space.base_measure}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows of one table, best first; differences are paired, example by example."""

    rows: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        width = max(len(row["name"]) for row in self.rows)
        lines = [f"{'model':<{width}}  nats/example      bound  data s.e.  MC s.e.  bits/dim  to best (paired s.e.)"]
        for row in self.rows:
            difference = (
                "best" if row["difference"] is None else f"{row['difference']:.3f} ({row['difference_error']:.3f})"
            )
            lines.append(
                f"{row['name']:<{width}}  {row['value']:>12.3f}  {row['bound']:>9}  {row['data_error']:>9.3f}  "
                f"{row['monte_carlo_error']:>7.3f}  {row['bits_per_dimension']:>8.4f}  {difference}"
            )
        return "\n".join(lines)


def compare(results: Mapping[str, LogLikelihood]) -> Comparison:
    """Several models' likelihoods of the same examples, best first, with paired differences to the best.

    The error of a difference is that of the mean of per-example differences, which is often far smaller than
    either row's own data error and holds the noise of estimated numerators already, joined in quadrature with
    the errors of both log partition functions (none for rows that share one estimate).

    **Raises:** `ValueError` if the rows are not log-probabilities of the same examples under the same base measure.
    """
    if not isinstance(results, Mapping) or not all(isinstance(r, LogLikelihood) for r in results.values()):
        raise TypeError("`compare(results)` needs names and results of `evaluate`: `{'a': lnz.evaluate(...), ...}`.")
    if not results:
        raise ValueError("`compare(results)` needs at least one row.")
    first_name, first = next(iter(results.items()))
    for name, result in results.items():
        for what, value in first.stats["fingerprint"].items():
            other = result.stats["fingerprint"][what]
            if other != value:
                raise ValueError(
                    f"`compare`: {first_name!r} and {name!r} are not likelihoods of the same thing: their {what} "
                    f"differ ({value} and {other}). Evaluate both on the same examples in the same space."
                )
    ranked = sorted(results.items(), key=lambda item: -item[1].value)
    best_name, best = ranked[0]
    rows = []
    for name, result in ranked:
        paired = result.per_example - best.per_example
        spread = np.std(paired, ddof=1) / math.sqrt(len(paired)) if len(paired) > 1 else math.nan
        error = math.hypot(spread, _partition_error(result, best))
        rows.append(
            {
                "name": name,
                "value": result.value,
                "bound": result.bound,
                "data_error": result.data_error,
                "monte_carlo_error": result.monte_carlo_error,
                "bits_per_dimension": result.bits_per_dimension,
                "difference": None if name == best_name else float(np.mean(paired)),
                "difference_error": None if name == best_name else error,
                "warnings": result.warnings,
                "protocol": result.stats["protocol"],
            }
        )
    return Comparison(tuple(rows))


def _partition_error(first: LogLikelihood, second: LogLikelihood) -> float:
    """The error of the difference of two log partition functions."""
    shared = first.stats.get("log_partition")
    if shared is not None and shared == second.stats.get("log_partition"):
        return 0.0  # the same estimate: it cancels
    return math.hypot(first.stats.get("partition_error", 0.0), second.stats.get("partition_error", 0.0))


def sample(
    key: PRNGKeyArray,
    model: Any,
    num: int,
    *,
    num_steps: int = 1000,
    sampler: AbstractSampler | None = None,
    start: Any = None,
    clamp: tuple[Any, Any] | None = None,
) -> Array:
    """`num` draws from `model`, `[num, *model.space.shape]`.

    Distributions and latent-variable models are sampled exactly, ancestrally. For other densities each draw is the end
    of a chain of its own: `num_steps` steps of `sampler` from `start`, or from the start of the density's
    path. Such draws are only as good as the chain's mixing.

    **Arguments:**

    - `num_steps`: sampler steps a chain; not used by exact samplers.
    - `sampler`: by default `Gibbs()` where blocks can be drawn, else `HMC()`.
    - `start`: positions to start from `[num, ...]`.
    - `clamp`: `(values, mask)`: entries where `mask` is true are held at `values`, each of the shape of one example or
      `[num, ...]`, and the others drawn given them. For Boltzmann machines.
    """
    key = check_key(key)
    num = check_positive(num, "num")
    check_positive(num_steps, "num_steps")
    if clamp is not None:
        return _sample_clamped(key, model, num, num_steps, sampler, start, clamp)
    if isinstance(model, AbstractDistribution):
        return _sample_exactly(key, model, num)
    if isinstance(model, AbstractLatentModel):
        return _sample_ancestrally(key, model, num)
    if isinstance(model, AbstractLatentEnergyModel):
        states = sample(key, model.joint(), num, num_steps=num_steps, sampler=sampler, start=start)
        return jax.vmap(model.observed)(states)
    if isinstance(model, AbstractBayesianModel):
        raise TypeError(
            f"`sample`: {type(model).__name__} defines no distribution of data before it has seen any. Sample its "
            "posterior, `lnz.condition(model, data)`."
        )
    if not isinstance(model, AbstractDensity):
        raise TypeError(f"`sample(model=...)` needs a model or a density; got {type(model).__name__}.")
    if sampler is None:
        sampler = samplers.default_sampler(model)
    elif not isinstance(sampler, AbstractSampler):
        raise TypeError(
            f"`sampler` must be a sampler such as `lnz.samplers.Gibbs()`, with its brackets; got {sampler!r}."
        )
    key_start, key_run = jr.split(key)
    if start is None:
        start = model.path().start.sample(key_start, (num,))
    else:
        start = model.space.cast(model.space.check_data(start, "start"), model_dtype(model))
        if len(start) != num:
            raise ValueError(f"`start` must have one row for each of the {num} draws; got {len(start)}.")
    positions, info = _run(key_run, model, sampler, start, num_steps)
    if "acceptance" in info and float(info["acceptance"]) < _LOW_ACCEPTANCE:
        warnings.warn(
            f"sample: {type(sampler).__name__} accepted only {float(info['acceptance']):.1%} of its proposals, so the "
            "draws are still near where the chains started. Use a smaller `step_size`.",
            UnreliableSampleWarning,
            stacklevel=2,
        )
    return positions


def _sample_clamped(key, model, num, num_steps, sampler, start, clamp) -> Array:
    if not isinstance(model, AbstractClampable):
        raise TypeError(
            f"`clamp` needs a model whose variables can be held fixed, such as an RBM; got {type(model).__name__}."
        )
    if start is not None:
        raise ValueError("`sample(clamp=..., start=...)`: clamped chains start from the path; leave out `start`.")
    if not (isinstance(clamp, tuple) and len(clamp) == 2):
        raise ValueError(f"`clamp` must be `(values, mask)`; got {clamp!r}.")
    shape = model.space.shape
    parts = []
    for name, part in zip(("values", "mask"), clamp, strict=True):
        array = np.asarray(part)
        if array.shape not in (shape, (num, *shape)):
            raise ValueError(f"`clamp`: {name} must have shape {shape} or {(num, *shape)}; got {array.shape}.")
        parts.append(np.broadcast_to(array, (num, *shape)))
    values, mask = parts
    if mask.dtype != bool:
        raise TypeError(f"`clamp`: mask must be true and false; got {mask.dtype}. Try `mask.astype(bool)`.")
    known = model.space.check_data(np.where(mask, values, np.zeros((), values.dtype)), "clamp")
    return _run_clamped(key, model, sampler, model.space.cast(known, model_dtype(model)), jnp.asarray(mask), num_steps)


@eqx.filter_jit
def _run_clamped(key, model, sampler, values, mask, num_steps):
    def one(key, values, mask):
        density = model.clamp(values, mask)
        key_start, key_run = jr.split(key)
        start = density.path().start.sample(key_start, (1,))
        chosen = samplers.default_sampler(density) if sampler is None else sampler
        positions, _ = samplers.run_chains(key_run, density, chosen, start, num_steps)
        return model.observed(positions[0]) if isinstance(model, AbstractLatentEnergyModel) else positions[0]

    return jax.vmap(one)(jr.split(key, len(values)), values, mask)


@eqx.filter_jit
def _run(key, density, sampler, start, num_steps):
    return samplers.run_chains(key, density, sampler, start, num_steps)


@eqx.filter_jit
def _sample_exactly(key, model, num):
    return model.sample(key, (num,))


@eqx.filter_jit
def _sample_ancestrally(key, model, num):
    key_z, key_x = jr.split(key)
    z = model.prior.sample(key_z, (num,))
    return jax.vmap(lambda key, z: model.likelihood(z).sample(key))(jr.split(key_x, num), z)
