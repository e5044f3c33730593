"""Rules that decide whether the error bar of an average of importance weights can be trusted."""

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ._weights import Number, Weights

# The effective sample size needed by so many weights, with straight lines between. For normal log weights of any
# spread, at most 11% of averages of 2 to 30 weights are trusted although the truth lies outside of Student's interval.
_NUM_WEIGHTS, _MIN_ESS = (0, 4.7, 8, 20), (0, 4, 4, 10)
# Below this, an average is in effect one of its weights; even draws of a good proposal are not that unlucky.
USELESS_ESS = 2
_MIN_OVERLAP = 0.06
_MAX_OVERLAP = 1.2  # the expectation is at most 1
# Of 1000 averages of 100 normal log weights of spread 2 (2.5), the rules without this one trust 23% (11%), and for 9.9%
# (9.5%) of all the truth lies outside of two standard errors, unnoticed. With this rule it is 4.5% (0.5%).
_MIN_NORMAL_ESS = 5
_FEWEST_OF_TAIL, _ERROR_OF_TAIL = 10, 2.2
_MAX_BEYOND, _MAX_BEYOND_OF_DRAWS, _MAX_OFF_CENTRE, _MAX_CUT_MASS = 1, 0.7, 3.9, 0.01
_MAX_EDGE_MASS = 1e-6
_MAX_GRID_ERROR = 0.1


def pareto_k_threshold(num: Number) -> Any:
    """`min(1 - 1 / log10(n), 0.7)`. An average of `n` weights with a larger k cannot be trusted.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), section 3.2.4; arXiv:1507.02646.
    """
    several = np.maximum(np.asarray(num, float), 2)
    return np.where(np.asarray(num, float) > 1, np.minimum(1 - 1 / np.log10(several), 0.7), -math.inf)


def least_ess(num: Number) -> Any:
    """The effective sample size that an average of `num` weights needs: 10 for 20 weights or more.

    It is half of the weights for 8 to 20 of them, 4 for 5 to 8, and 0.85 of the weights for fewer.
    """
    return np.interp(np.asarray(num, float), _NUM_WEIGHTS, _MIN_ESS)


# Each rule: the diagnostics that it needs, a function that tells where they break it, and the reason in words. The
# functions negate the valid condition, so that NaN breaks a rule. For the given number of weights, `least` is the
# effective sample size needed and `most` the largest k allowed.
_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], Any], str], ...] = (
    (
        ("ess",),
        lambda w: ~((w.least <= w.ess) & (w.ess < math.inf)),
        "effective sample size {ess:.1f} is below {least:.3g}",
    ),
    (
        ("normal_ess",),
        lambda w: ~(w.normal_ess >= np.minimum(_MIN_NORMAL_ESS, w.least)),
        "normal log weights with this spread have an effective sample size of only {normal_ess:.1g} (too few "
        "temperatures, or a proposal too far from the target)",
    ),
    (
        ("overlap",),
        lambda w: ~(w.overlap >= _MIN_OVERLAP),
        "the two directions of annealing overlap by only {overlap:.2g}",
    ),
    (
        ("overlap",),
        lambda w: (w.overlap > _MAX_OVERLAP) & (w.overlap < math.inf),  # infinite where one side of a sum had none
        "the two directions of annealing contradict each other (an overlap of {overlap:.2g}, where 1 is the most): one "
        "of them did not come from its density",
    ),
    (
        ("beyond",),
        lambda w: ~(np.abs(w.beyond) <= (_MAX_BEYOND_OF_DRAWS if w.off_centre is None else _MAX_BEYOND)),
        "along rays through the draws the estimate moves by {beyond:.1f} standard errors: the target is wider than "
        "the draws, or its tails are heavier",
    ),
    (
        ("off_centre",),
        lambda w: ~(w.off_centre <= _MAX_OFF_CENTRE),
        "the chains' distances from their centre differ from those of the target by {off_centre:.1f} standard errors",
    ),
    (
        ("cut_mass",),
        lambda w: ~(w.cut_mass <= _MAX_CUT_MASS),
        "a fraction {cut_mass:.1g} of the mass lies where numbers of this type cannot be told from an end of the "
        "space: use float64",
    ),
    (
        ("edge_mass",),
        lambda w: ~(w.edge_mass <= _MAX_EDGE_MASS),
        "a fraction {edge_mass:.1g} of the mass lies on the edge of the grid: widen `bounds`, for counts raise `num`, "
        "and near an end of an interval other than 0 use float64",
    ),
    (
        ("grid_error",),
        lambda w: ~(w.grid_error <= _MAX_GRID_ERROR),
        "grids shifted against each other differ by {grid_error:.2g} nats: raise `num`, or, except on intervals, let "
        "`bounds` close in on the mass",
    ),
    (
        ("pareto_k", "num"),
        lambda w: w.pareto_k > w.most,
        "Pareto k {pareto_k:.2f} is above {most:.2f}",
    ),
)


def unreliable_reasons(weights: Weights) -> list[str]:
    """Reasons in words not to trust the error bar of an average of importance weights; empty if it can be trusted.

    An error bar is not trusted with

    - `ess` below 10, or for few weights below `least_ess`;
    - `pareto_k` above `pareto_k_threshold`;
    - `normal_ess` below 5, or for few weights below `least_ess`;
    - `overlap` of the two directions of annealing below 0.06 or above 1.2;
    - `beyond` above one standard error for annealed chains, or above 0.7 for draws of a proposal;
    - `off_centre` above 3.9 standard errors;
    - `cut_mass` above 0.01, `edge_mass` above 1e-6, or `grid_error` above 0.1 nats.

    See `Weights` for their meaning. A diagnostic that is NaN breaks its rule, except for a Pareto k that could not be
    fitted (20 weights or fewer, or ties), which is no evidence either way.

    Source: Klimovich, Shirts and Mobley (2015), for the overlap; their 0.03 is for a number of at most 0.5.
    """
    return [words.format(**vars(numbers)) for numbers, is_broken, words in _rules(weights) if is_broken]


def breaks_rules(weights: Weights, shape: tuple[int, ...]) -> Bool[np.ndarray, "..."]:
    """Mask of the averages in a batch that have `unreliable_reasons`, each judged alone."""
    one_each = {name: value for name, value in weights.measured().items() if np.shape(value) in ((), shape)}
    broken = np.zeros(shape, bool)
    for _, is_broken, _ in _rules(Weights(**one_each)):
        broken = broken | is_broken
    return broken


def _rules(weights: Weights) -> Iterator[tuple[SimpleNamespace, Any, str]]:
    """Each rule that applies: the numbers for its words, where it is broken, and its words."""
    measured = {name: np.asarray(value, float) for name, value in weights.measured().items()}
    num = measured.get("num", math.inf)
    numbers = SimpleNamespace(**{"off_centre": None, **measured}, least=least_ess(num), most=pareto_k_threshold(num))
    for needed, is_broken, words in _RULES:
        if measured.keys() >= set(needed):
            yield numbers, is_broken(numbers), words


def normal_ess(log_w: Float[Array, " n"]) -> Float[Array, ""]:
    """`n exp(-u^2)`: the expected effective sample size of n normal log weights of spread u.

    Log weights of annealing are nearly normal, as sums over temperatures, and so are those of a proposal in many
    dimensions. If their spread is large, n draws rarely contain the weights that matter, so that the measured effective
    sample size and Pareto k look too good. The spread is known better.

    A long tail of small weights does no harm, so u is measured above the median: `u^2 = mean((log_w - median)^2)` over
    the upper half of the finite log weights. Bounded weights, as of a proposal wider than its target, spread less
    towards the top. So u is also measured in the upper quarter, eighth and so on, down to ten weights. Above the
    quantile q_p where such a share p begins,

        u_p^2 = mean((log_w - q_p)^2 | log_w > q_p) / (1 + z_p^2 - z_p phi(z_p) / p),

    with the normal quantile z_p. Each u_p, from m weights, is raised by the fraction 2.2 / sqrt(m), two standard
    errors. The least value is used.

    Source: Chatterjee and Diaconis (2018), for the share of the largest weights; arXiv:1511.01437.
    """
    log_w = jax.lax.stop_gradient(log_w)
    finite = jnp.isfinite(log_w)
    median = jnp.nanmedian(jnp.where(finite, log_w, jnp.nan))
    above = finite & (log_w >= median)
    num, num_above = (jnp.sum(which, dtype=log_w.dtype) for which in (finite, above))
    squares = jnp.sum(jnp.where(above, (log_w - median) ** 2, 0)) / jnp.maximum(num_above, 1)
    num_tails = max(0, int(math.log2(max(1, len(log_w) / (2 * _FEWEST_OF_TAIL)))))
    highest_first = -jnp.sort(-jnp.where(finite, log_w, -jnp.inf))
    place = jnp.arange(len(log_w), dtype=log_w.dtype)
    for level in range(2, num_tails + 2):
        z, share = _normal_tail(level)
        size = jnp.floor(num * 0.5**level)
        over = jnp.where(place < size, highest_first - highest_first[size.astype(jnp.int32)], 0)
        in_tail = jnp.sum(over**2) / jnp.maximum(size, 1) / (1 + z**2 - z * share)
        raised = in_tail * (1 + _ERROR_OF_TAIL * jax.lax.rsqrt(jnp.maximum(size, 1))) ** 2
        squares = jnp.where(size >= _FEWEST_OF_TAIL, jnp.minimum(squares, raised), squares)
    return jnp.where(num > 0, num * jnp.exp(-squares), 0)


def _normal_tail(level: int) -> tuple[float, float]:
    """The normal quantile with the probability `2^-level` above it, and the density there divided by it."""
    normal = NormalDist()
    z = normal.inv_cdf(1 - 0.5**level)
    return z, normal.pdf(z) * 2**level


def is_usable(value: Any, standard_error: Any, is_exact: bool) -> Any:
    """Mask of the values and errors that can be used: `value_reasons` for arrays."""
    value, standard_error = np.asarray(value, float), np.asarray(standard_error, float)
    finite = np.isfinite(value) | (is_exact & (value == -math.inf))
    return finite & (standard_error >= 0) & (standard_error < math.inf)


def value_reasons(value: float, standard_error: float, is_exact: bool) -> list[str]:
    """Reasons in words not to use the numbers of an estimate. An exact minus infinity, a true zero, can be used."""
    reasons = []
    if not is_usable(value, 0.0, is_exact):
        what = "is -inf: no draw has any weight" if value == -math.inf else f"is {value}"
        reasons.append(f"its value {what}")
    if not 0 <= standard_error < math.inf:
        reasons.append(f"its standard error is {standard_error}")
    return reasons


def faulty_rows(log_probs: Float[np.ndarray, " n"], name_of: Callable[[int], str] = "row {}".format) -> list[str]:
    """Sentences about rows with a log-probability that is not finite; empty if all are. `name_of` names a row."""
    faults, zeros = np.flatnonzero(~(log_probs < math.inf)), np.flatnonzero(log_probs == -math.inf)
    words = []
    if len(faults):
        words.append(
            f"{len(faults)} of {len(log_probs)} rows have a log-probability that is NaN or plus infinity, first "
            f"{name_of(int(faults[0]))}: look for such numbers in the model, and for values too large for it in the row"
        )
    if len(zeros):
        words.append(f"{len(zeros)} of {len(log_probs)} rows have probability zero, first {name_of(int(zeros[0]))}")
    return words


def useless_rows(num: int, weights: Weights, name_of: Callable[[int], str] = "row {}".format) -> list[str]:
    """A sentence about those of `num` rows that rest on about one weight; empty if there are none."""
    if weights.ess is None or weights.num is None:
        return []
    least = np.minimum(USELESS_ESS, least_ess(weights.num))  # two weights have an effective sample size of at most two
    which = np.flatnonzero(~(np.asarray(weights.ess) >= least))
    if not len(which):
        return []
    return [
        f"hidden: {len(which)} of {num} examples have an effective sample size below {USELESS_ESS}, first "
        f"{name_of(int(which[0]))}: these log-probabilities can be too low by any amount, and so can the mean"
    ]


def unknown_rows(observed: Bool[np.ndarray, "n ..."], name_of: Callable[[int], str] = "row {}".format) -> list[str]:
    """A sentence about rows without any known entry; empty if all have one."""
    which = np.flatnonzero(~observed.reshape(len(observed), -1).any(axis=1))
    if not len(which):
        return []
    return [
        f"{len(which)} of {len(observed)} rows have no known entry, first {name_of(int(which[0]))}: each counts as 0 "
        "nats, whatever the model. Leave them out"
    ]


def least_likely_first(log_probs: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Indices of rows by increasing log-probability, after those whose log-probability is NaN or plus infinity."""
    has_none = ~(log_probs < math.inf)
    return np.lexsort((np.where(has_none, -math.inf, log_probs), ~has_none))


def describe_weights(weights: Weights) -> list[str]:
    """The diagnostics in words, such as "ESS 90.0 of 100"."""
    words = []
    if weights.ess is not None and weights.num is not None:
        words.append(f"ESS {float(weights.ess):.1f} of {int(weights.num)}")
    if weights.pareto_k is not None and not math.isnan(float(weights.pareto_k)):
        words.append(f"Pareto k {float(weights.pareto_k):.2f}")
    if weights.overlap is not None and math.isfinite(float(weights.overlap)):
        words.append(f"overlap {float(weights.overlap):.2f}")
    return words


# The diagnostics of one set of weights, each with the value that stands for "not measured".
_OF_ONE_SET = {"num": math.inf, "ess": math.inf, "pareto_k": math.nan, "overlap": math.inf, "normal_ess": math.inf}
_WORST_IS_LEAST = ("acceptance", "converged")


def join_weights(first: Weights, second: Weights) -> Weights:
    """Diagnostics of a sum of two estimates: those of the less reliable side, and the worse of each other diagnostic.

    `log_weights` and `degrees` of the two sides are dropped.
    """
    sides = [{**side.measured(), "log_weights": None, "degrees": None} for side in (first, second)]
    both = {**sides[0], **sides[1]}
    for name in sides[0].keys() & sides[1].keys() - {"log_weights", "degrees", *_OF_ONE_SET}:
        one, other = sides[0][name], sides[1][name]
        # NaN stays NaN.
        both[name] = jnp.minimum(one, other) if name in _WORST_IS_LEAST else jnp.maximum(jnp.abs(one), jnp.abs(other))
    if all(side.ess is not None and side.num is not None for side in (first, second)):
        first_is_worse = _doubt(first) >= _doubt(second)
        for name, silent in _OF_ONE_SET.items():
            if both.get(name) is not None:
                one, other = (side.get(name, silent) for side in sides)
                both[name] = jnp.where(first_is_worse, one, other)
    return Weights(**both)


def _doubt(weights: Weights) -> Float[Array, "*batch"]:
    """The rules of `unreliable_reasons` for one set of weights as one number, above one if any is broken."""
    ess = jnp.asarray(weights.ess)
    num = jnp.asarray(weights.num, ess.dtype)
    threshold = jnp.minimum(1 - 1 / jnp.log10(num), 0.7)
    min_ess = jnp.interp(num, *(jnp.asarray(points, num.dtype) for points in (_NUM_WEIGHTS, _MIN_ESS)))
    doubt = _infinite_if_nan(min_ess / ess)
    if weights.pareto_k is not None:
        doubt = jnp.fmax(doubt, 1 + weights.pareto_k - threshold)  # fmax ignores a k that could not be fitted
    for value, least in ((weights.overlap, _MIN_OVERLAP), (weights.normal_ess, jnp.minimum(_MIN_NORMAL_ESS, min_ess))):
        if value is not None:
            doubt = jnp.maximum(doubt, _infinite_if_nan(jnp.asarray(least / value)))
    return doubt


def _infinite_if_nan(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    return jnp.where(jnp.isnan(x), jnp.inf, x)


def join_degrees(
    errors: tuple[Float[Array | np.ndarray, "*batch"], Float[Array | np.ndarray, "*batch"]], degrees: tuple[Any, Any]
) -> Float[Array, "*batch"]:
    """Degrees of freedom of `hypot` of two independent standard errors; `None` stands for infinitely many.

    Source: Welch (1947); Satterthwaite (1946), equation 17.
    """
    total = jnp.hypot(*errors)
    total = jnp.where(total > 0, total, 1)
    shares = [
        (jnp.asarray(error) / total) ** 4 / jnp.asarray(number, total.dtype)
        for error, number in zip(errors, degrees, strict=True)
        if number is not None
    ]
    return 1 / sum(shares, start=jnp.zeros_like(total))


def degrees_of(weights: Weights) -> Any:
    """Degrees of freedom of the standard error: `degrees`, else `num - 1`, or `None` if there are no draws to count."""
    if weights.degrees is not None:
        return weights.degrees
    return None if weights.num is None else weights.num - 1
