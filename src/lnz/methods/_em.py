"""Expectation maximisation.

The E step weighs each example by the posterior over components. The M step is maximum likelihood on the weighted
examples.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from ..bijections import inverse_and_log_scale
from ..core import AbstractExponentialFamily, AbstractMethod, AbstractRealFamily, has_marginals
from ..data import SMALLEST_SCALE, is_missing, smallest_gaps
from ..distributions import Mixture, Transformed
from ..modules import check_has_data, freed, model_dtype, replace
from ._clusters import clusters

# With a smaller weight of examples, a component of real numbers would collapse onto a single one.
_FEWEST = 0.01


class _State(eqx.Module):
    """Facts about the data of `EM`: number of rows, whether entries are missing, and each column's smallest scale."""

    num: int = eqx.field(static=True)
    has_missing: bool = eqx.field(static=True)
    floor: Float[Array, "*shape"] | None


def _floor_or_none(floor: Any) -> float | Array | None:
    return floor if floor is None else float(floor) if np.ndim(floor) == 0 else jnp.asarray(floor)


class EM(AbstractMethod):
    """Expectation maximisation for exponential families, `MultivariateNormal`, and mixtures of these.

    The log-likelihood (with `smoothing`, the penalised one) never falls from step to step. Without a mixture one step
    suffices, unless a full covariance has missing entries.

    Steps need all data, `fit(..., batch_size=None)`; arrays on disk are read into memory. Normals and their mixtures
    also take missing entries, `fit(..., observed=mask)`. In a `lnz.Transformed` with an affine bijection only the base
    is trained.

    **Arguments:**

    - `smoothing`: pseudo-observations added to each component, drawn from the member of the family with natural
      parameters zero (fair coins, uniform categories). `2.0` on bits is Laplace's rule `(count + 1) / (n + 2)`. Normals
      have none and need 0.
    - `floor`: smallest standard deviation of each column within a component, for normals: a number or `[*shape]`, in
      units of the data (of the base, in a `Transformed`). For a full covariance: that of a column given those before.
      Default: a tenth of the smallest gap between different values of the column, which has no effect on continuous
      columns. 0 turns it off. The metric `scales_at_floor` counts scales held there.

    Source: Dempster, Laird and Rubin (1977), section 4.3; with missing entries Ghahramani and Jordan (1994), section 3.
    """

    takes_missing: ClassVar[bool] = True
    moves_with_data: ClassVar[bool] = True
    needs_all_rows: ClassVar[bool] = True

    smoothing: float = 0.0
    floor: float | Float[Array, "..."] | None = eqx.field(default=None, converter=_floor_or_none)

    def __check_init__(self):
        if not self.smoothing >= 0:
            raise ValueError(f"`EM(smoothing=...)` must not be negative; got {self.smoothing}.")
        floor = np.asarray(0 if self.floor is None else self.floor)
        if not np.all((floor >= 0) & np.isfinite(floor)):
            raise ValueError(f"`EM(floor=...)` must be finite standard deviations, or 0 for none; got {self.floor}.")

    def init(self, key: PRNGKeyArray, model: Any, data: Array | None) -> tuple[Any, _State]:
        """The initial model, and the smallest scales that the data allow.

        Mixtures of normals start from clusters: k-means++ and ten rounds of Lloyd's algorithm, on columns of equal
        spread. In other mixtures each component starts halfway between a random example and the mean of all.
        """
        data = check_has_data(data, "EM")
        family = _family(model)
        has_missing = bool(jnp.any(is_missing(model.space, data)))
        if has_missing and not has_marginals(model):
            raise TypeError(
                "`EM` takes missing entries (`fit(observed=...)`) only if the model can integrate them out, as normals "
                f"and mixtures of normals can; got {_words(model)}. For a Boltzmann machine use "
                "`lnz.Gradient(lnz.objectives.Imputed(lnz.objectives.PCD(1)), optimizer)`."
            )
        if isinstance(model, Transformed):
            rows = model.space.cast(data, model_dtype(model))
            base, state = self.init(key, model.base, jax.vmap(model.bijection.inverse_and_log_det)(rows)[0])
            return replace(model, base=base), state
        if isinstance(family, AbstractRealFamily):
            return self._init_real(key, model, family, np.asarray(data), has_missing)
        if self.floor:
            raise ValueError(f"`EM(floor=...)` is for normals; {_words(model)} has no scale. Leave it out.")
        state = _State(len(data), has_missing, None)
        if isinstance(model, Mixture):
            model = self._start_by_statistics(key, model, family, model.space.cast(data, model_dtype(model)))
        return freed(model), state

    def _init_real(self, key, model, family: AbstractRealFamily, rows: np.ndarray, has_missing: bool):
        if self.smoothing:
            raise ValueError(
                f"`EM(smoothing={self.smoothing})`: {_words(model)} has no member with natural parameters zero to draw "
                "pseudo-observations from. Leave `smoothing` out: `floor`, on by default, keeps its scales from "
                "collapsing; `EM(floor=0.1)` keeps them above 0.1 in the units of the data."
            )
        floor = self._floors(rows, family)
        state = _State(len(rows), has_missing, floor)
        if not isinstance(model, Mixture):
            if not has_missing:
                return freed(model), state
            complete, _, centres = clusters(key, rows, 1)
            return _fit_about(family, complete, centres[0], floor), state
        some, label, centres = clusters(key, rows, model.num_components)
        # All components start with the spread around the centres and a little of the spread of the centres, so that
        # none collapses onto a single row.
        spread = (some - centres[label]) + 0.1 * (some - some.mean(axis=0))
        one = _fit_about(family, spread, np.zeros(family.space.shape), floor)
        arrays, rest = eqx.partition(one, eqx.is_array)
        components = eqx.combine(jax.tree.map(lambda a: jnp.broadcast_to(a, (len(centres), *a.shape)), arrays), rest)
        components = replace(components, loc=jnp.asarray(centres, family.loc.dtype))
        return replace(model, logits=jnp.zeros_like(model.logits), components=components), state

    def _floors(self, rows: np.ndarray, family: AbstractRealFamily) -> Array:
        """`floor` of every column, by default a tenth of the smallest gap between the column's different values.

        On continuous columns the default has no effect. On rounded or repeated values it stops a component from
        collapsing onto one of them, where the density is unbounded.
        """
        dtype, shape = family.loc.dtype, family.space.shape
        if self.floor is not None:
            if np.shape(self.floor) not in ((), shape):
                got = np.shape(self.floor)
                raise ValueError(f"`EM(floor=...)` needs one number, or the shape of an example, {shape}; got {got}.")
            return jnp.broadcast_to(jnp.asarray(self.floor, dtype), shape)
        gaps = smallest_gaps(rows)
        if not np.all(np.isfinite(gaps)):
            place = np.argwhere(~np.isfinite(gaps))[0].tolist()
            known = rows[(slice(None), *place)]
            known = known[~np.isnan(known)]
            column = place[0] if len(place) == 1 else tuple(place)
            has = f"has one value only, {known[0]:g}" if len(known) else "has no known value"
            raise ValueError(
                f"`data`: column {column} {has}, so the density is unbounded there. Remove it, or give "
                "`EM(floor=...)`, a smallest standard deviation in the units of the data."
            )
        return jnp.asarray(SMALLEST_SCALE * gaps, dtype)

    def _start_by_statistics(self, key, model: Mixture, family: AbstractExponentialFamily, data: Array) -> Mixture:
        rows = jr.choice(key, len(data), (model.num_components,), replace=len(data) < model.num_components)
        means = jnp.mean(jax.vmap(family.statistics)(data), axis=0)
        starts = 0.5 * jax.vmap(family.statistics)(data[rows]) + 0.5 * means[None, :]
        starts = self._smooth(family, starts, jnp.ones(model.num_components, starts.dtype))
        components = eqx.filter_vmap(family.with_expected_statistics)(starts)
        return replace(model, logits=jnp.zeros_like(model.logits), components=components)

    def step(
        self, key: PRNGKeyArray, model: Any, state: _State, batch: Array
    ) -> tuple[Any, _State, dict[str, Float[Array, ""]]]:
        if len(batch) != state.num:
            raise ValueError(
                f"`EM` needs all {state.num} examples at every step; got a batch of {len(batch)}. Use "
                "`batch_size=None`."
            )
        observed = ~is_missing(model.space, batch) if state.has_missing else None
        if isinstance(model, Transformed):
            if observed is None:
                z, log_dets = jax.vmap(model.bijection.inverse_and_log_det)(batch)
            else:
                z, log_scales = jax.vmap(lambda x: inverse_and_log_scale(model.bijection, x))(batch)
                log_dets = jnp.sum(jnp.where(observed, log_scales, 0).reshape(len(batch), -1), axis=1)
            base, state, metrics = self.step(key, model.base, state, z)
            moved = {"log_likelihood": metrics["log_likelihood"] + jnp.mean(log_dets)}
            return replace(model, base=base), state, metrics | moved
        if observed is not None:
            batch = jnp.where(observed, batch, 0)
        if isinstance(model, Mixture):
            log_joint = _over_rows(model.log_joint, batch, observed)  # [n, components]
            log_evidence = logsumexp(log_joint, axis=1)
            responsibility = jnp.exp(log_joint - log_evidence[:, None])
            counts = jnp.sum(responsibility, axis=0)
            components = self._maximise(model, responsibility.T, counts, batch, observed, state)
            logits = jnp.log(counts + self.smoothing) - jnp.log(len(batch) + self.smoothing * len(counts))
            after = replace(model, logits=logits, components=components)
            family = components
        else:
            marginal = model.log_prob if observed is None else model.marginal_log_prob
            log_evidence = _over_rows(marginal, batch, observed)
            ones = jnp.ones(len(batch), log_evidence.dtype)
            after = family = self._maximise_one(model, ones, batch, observed, state)
        metrics = {"log_likelihood": jnp.mean(log_evidence)}
        if isinstance(family, AbstractRealFamily) and state.floor is not None:
            scales = eqx.filter_vmap(_scales)(family) if isinstance(model, Mixture) else family.scales
            # The factor allows for rounding: the logarithms of the scales are stored.
            floor = jnp.broadcast_to(state.floor, scales.shape)
            is_held = (scales <= 1.00001 * floor) & (floor > 0)
            metrics["scales_at_floor"] = jnp.sum(is_held).astype(log_evidence.dtype)
        return after, state, metrics

    def _maximise_one(self, model: Any, weights: Array, batch: Array, observed, state: _State) -> Any:
        if isinstance(model, AbstractRealFamily):
            return model.fit_weighted(batch, weights, _known(state.floor), observed)
        total = jnp.sum(jax.vmap(model.statistics)(batch), axis=0)
        count = jnp.sum(weights)
        return model.with_expected_statistics(self._smooth(model, (total / count)[None], count[None])[0])

    def _maximise(self, model: Mixture, weights: Array, counts: Array, batch: Array, observed, state: _State) -> Any:
        """The components for `weights [components, n]`; those that have lost their examples do not change."""
        before, rest = eqx.partition(freed(model.components), eqx.is_array)
        family = _family(model)
        if isinstance(family, AbstractRealFamily):
            # One component at a time, so that no array of components, examples and variables is stored.
            after = jax.lax.map(
                lambda pair: eqx.filter(
                    eqx.combine(pair[0], rest).fit_weighted(batch, pair[1], _known(state.floor), observed), eqx.is_array
                ),
                (before, weights),
            )
            is_alive = counts > _FEWEST
        else:
            sums = jnp.dot(weights, jax.vmap(family.statistics)(batch), precision=jax.lax.Precision.HIGHEST)
            means = self._smooth(family, sums / jnp.maximum(counts, _tiny(counts))[:, None], counts)
            after = eqx.filter(eqx.filter_vmap(family.with_expected_statistics)(means), eqx.is_array)
            is_alive = counts + self.smoothing > _tiny(counts)
        kept = jax.tree.map(lambda a, b: jnp.where(is_alive.reshape(-1, *(1,) * (a.ndim - 1)), a, b), after, before)
        return eqx.combine(kept, rest)

    def _smooth(self, family: AbstractExponentialFamily, means: Array, counts: Array) -> Array:
        if self.smoothing == 0:
            return means
        flat = family.with_natural(jnp.zeros_like(family.natural)).expected_statistics()
        weight = (counts / (counts + self.smoothing))[:, None]
        return weight * means + (1 - weight) * flat[None, :]


def _fit_about(family: Any, rows: np.ndarray, near: np.ndarray, floor: Array) -> Any:
    dtype = family.loc.dtype
    close = replace(freed(family), loc=jnp.asarray(near, dtype))
    return close.fit_weighted(jnp.asarray(rows, dtype), jnp.ones(len(rows), dtype), floor)


def _tiny(counts: Array) -> float:
    """A count so small that its share of the statistics has lost its digits."""
    return 1e6 * float(jnp.finfo(counts.dtype).tiny)


def _known(floor: Array | None) -> Array:
    if floor is None:
        raise ValueError("`EM.step(state=...)` must be the state that `EM.init` returned for this model.")
    return floor


def _scales(family: AbstractRealFamily) -> Array:
    return family.scales


def _over_rows(function: Any, rows: Array, observed: Array | None) -> Array:
    return jax.vmap(function)(rows) if observed is None else jax.vmap(function)(rows, observed)


def _family(model: Any) -> AbstractExponentialFamily | AbstractRealFamily:
    """The fitted family: the model itself, or one component of a mixture."""
    if isinstance(model, Transformed) and model.bijection.is_affine:
        return _family(model.base)
    family = model.component(0) if isinstance(model, Mixture) else model
    if isinstance(family, AbstractExponentialFamily | AbstractRealFamily):
        return family
    raise TypeError(
        "`EM` trains exponential families, `MultivariateNormal` and mixtures of these, also in affine coordinates; got "
        f"{_words(model)}. Try `lnz.Gradient(lnz.objectives.MaximumLikelihood(), optimizer)`."
    )


def _words(model: Any) -> str:
    """The model in words, such as "a Mixture of Normal"."""
    if isinstance(model, Transformed):
        return f"a Transformed of {_words(model.base)}"
    if isinstance(model, Mixture):
        return f"a Mixture of {type(model.components).__name__}"
    return type(model).__name__
