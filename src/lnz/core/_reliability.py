"""When an average of importance weights carries its error bar, and when not."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

# The effective sample size that an average of so many weights needs, with straight lines between: of normal log weights
# of any spread at most 11% of averages of 2 to 30 are trusted while the truth lies outside of Student's interval.
_NUM_WEIGHTS, _MIN_ESS = (0, 4.7, 8, 20), (0, 4, 4, 10)
# Below it an average is one of its weights: not even the draws of a good proposal are that unlucky.
USELESS_ESS = 2
_MIN_OVERLAP = 0.06
_MAX_OVERLAP = 1.2  # at most 1 in expectation
_MIN_NORMAL_ESS = 5
_FEWEST_OF_TAIL, _ERROR_OF_TAIL = 10, 2.2
_MAX_BEYOND, _MAX_OFF_CENTRE, _MAX_CUT_MASS = 1, 3.9, 0.01
_MAX_EDGE_MASS = 1e-6
_MAX_GRID_ERROR = 0.1


def pareto_k_threshold(num: int) -> float:
    """`min(1 - 1 / log10(n), 0.7)`, above which an average of `n` weights is not to be trusted.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), section 3.2.4; arXiv:1507.02646.
    """
    return min(1 - 1 / math.log10(num), 0.7) if num > 1 else -math.inf


def least_ess(num: float) -> float:
    """The effective sample size that an average of `num` weights needs: 10, of fewer than 20 half of them.

    Of fewer than 8 it is 4, and of fewer than 5, 0.85 of them.
    """
    return float(np.interp(num, _NUM_WEIGHTS, _MIN_ESS))


def unreliable_reasons(stats: Mapping[str, Any]) -> list[str]:
    """Why an average of importance weights cannot carry its error bar; empty when it can.

    The rules: effective sample size below 10, of few weights below `least_ess`; Pareto k above `pareto_k_threshold`; a
    `normal_ess` below 5, of few weights below that least; for the two directions of annealing, an overlap below 0.06;
    for its chains, an estimate that moves by more than one standard error along rays through them, distances from their
    middle that are off by 3.9 standard errors, or a hundredth of the mass too near an end for the number type. A
    diagnostic that is not a number breaks its rule, with one exception: a Pareto k that could not be fitted (20 weights
    or fewer, or ties) counts as no evidence either way.

    Source: for the overlap, Klimovich, Shirts and Mobley (2015), whose 0.03 is of a number that is 0.5 at best.
    """
    # Each guard asks for what is right, so that NaN fails it.
    reasons = []
    min_ess = least_ess(float(stats.get("num", math.inf)))
    if "ess" in stats and not min_ess <= float(stats["ess"]) < math.inf:
        reasons.append(f"effective sample size {float(stats['ess']):.1f} is below {min_ess:.3g}")
    if "normal_ess" in stats and not float(stats["normal_ess"]) >= min(_MIN_NORMAL_ESS, min_ess):
        reasons.append(
            f"log weights that spread like these have, if normal, an effective sample size of "
            f"{float(stats['normal_ess']):.1g} (too few temperatures, or a proposal too far from the target)"
        )
    if "overlap" in stats and not float(stats["overlap"]) >= _MIN_OVERLAP:
        reasons.append(f"the two directions of annealing overlap by only {float(stats['overlap']):.2g}")
    if "overlap" in stats and float(stats["overlap"]) > _MAX_OVERLAP:
        reasons.append(
            "the two directions of annealing contradict each other (an overlap of "
            f"{float(stats['overlap']):.2g}, where 1 is the most): one of them did not come from its density"
        )
    if "beyond" in stats and not abs(float(stats["beyond"])) <= _MAX_BEYOND:
        reasons.append(
            f"along rays through the chains the estimate moves by {float(stats['beyond']):.1f} standard errors: the "
            "target is wider than the chains, or its tails are heavier"
        )
    if "off_centre" in stats and not float(stats["off_centre"]) <= _MAX_OFF_CENTRE:
        reasons.append(
            f"the chains' distances from their middle are not those of the target, by {float(stats['off_centre']):.1f} "
            "standard errors"
        )
    if "cut_mass" in stats and not float(stats["cut_mass"]) <= _MAX_CUT_MASS:
        reasons.append(
            f"a fraction {float(stats['cut_mass']):.1g} of the mass lies where numbers of this type cannot be told "
            "from an end of the space: use float64"
        )
    if "edge_mass" in stats and not float(stats["edge_mass"]) <= _MAX_EDGE_MASS:
        reasons.append(
            f"a fraction {float(stats['edge_mass']):.1g} of the mass lies on the edge of the grid: widen `bounds`"
        )
    if "grid_error" in stats and not float(stats["grid_error"]) <= _MAX_GRID_ERROR:
        reasons.append(
            f"grids shifted against each other differ by {float(stats['grid_error']):.2g} nats: raise `num`, or let "
            "`bounds` close in on the mass"
        )
    if "pareto_k" in stats and not math.isnan(float(stats["pareto_k"])):
        threshold = pareto_k_threshold(int(stats["num"]))
        if not float(stats["pareto_k"]) <= threshold:
            reasons.append(f"Pareto k {float(stats['pareto_k']):.2f} is above {threshold:.2f}")
    return reasons


def normal_ess(log_w: Float[Array, " n"]) -> Float[Array, ""]:
    """`n exp(-u^2)`: the effective sample size that n normal log weights of spread u have in expectation.

    Log weights of annealing are sums over temperatures, and so nearly normal; those of a proposal in many dimensions
    are, too. Where their spread is large, n of them hardly ever hold the weights that matter, and those that were drawn
    look better than they are: the measured effective sample size and Pareto k are taken from them alone. The spread is
    known better. u is measured above the median, for a long tail of small weights does no harm:
    `u^2 = mean((log_w - median)^2)` over the upper half of the finite ones. Weights that have a largest one, as those
    of a proposal wider than its target, spread less the higher one looks. So u is also measured in the upper quarter,
    eighth and so on, down to ten weights, above the quantile q_p where each begins,

        u_p^2 = mean((log_w - q_p)^2 | log_w > q_p) / (1 + z_p^2 - z_p phi(z_p) / p),

    with z_p the normal quantile; the least of all is taken, those of m weights raised by 2.2 / sqrt(m), two errors.

    Of 1000 averages of 100 normal log weights of spread 2 (2.5), the other rules trust 23% (11%) and the truth lies
    outside of two standard errors for 9.9% (9.5%) of all, unseen; with this rule, for 4.5% (0.5%).

    Source: for the share of the largest weights, Chatterjee and Diaconis (2018); arXiv:1511.01437.
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
    """The normal quantile above which a share `2^-level` lies, and the density there over that share."""
    normal = NormalDist()
    z = normal.inv_cdf(1 - 0.5**level)
    return z, normal.pdf(z) * 2**level


def value_reasons(value: float, standard_error: float, is_exact: bool) -> list[str]:
    """Why the numbers of an estimate cannot be used; an exact minus infinity, a true zero, can."""
    reasons = []
    if not (abs(value) < math.inf or (is_exact and value == -math.inf)):
        what = "is -inf: no draw has any weight" if value == -math.inf else f"is {value}"
        reasons.append(f"its value {what}")
    if not 0 <= standard_error < math.inf:
        reasons.append(f"its standard error is {standard_error}")
    return reasons


def faulty_rows(log_probs: Float[np.ndarray, " n"], name_of: Callable[[int], str] = "row {}".format) -> list[str]:
    """In words, which log-probabilities of examples are not finite; empty if all are. `name_of` names a row."""
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


def useless_rows(
    num: int, which: Sequence[int] | Int[np.ndarray, " m"], name_of: Callable[[int], str] = "row {}".format
) -> list[str]:
    """In words, that rows `which` of `num` rest on a single weight or so; empty if there are none."""
    if not len(which):
        return []
    return [
        f"hidden: {len(which)} of {num} examples have an effective sample size below {USELESS_ESS}, first "
        f"{name_of(int(which[0]))}: these log-probabilities can be too low by any amount, and so can the mean"
    ]


def unknown_rows(observed: Bool[np.ndarray, "n ..."], name_of: Callable[[int], str] = "row {}".format) -> list[str]:
    """In words, which rows have no known entry; empty if all have one."""
    which = np.flatnonzero(~observed.reshape(len(observed), -1).any(axis=1))
    if not len(which):
        return []
    return [
        f"{len(which)} of {len(observed)} rows have no known entry, first {name_of(int(which[0]))}: each counts as 0 "
        "nats, whatever the model. Leave them out"
    ]


def least_likely_first(log_probs: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Rows in the order of their log-probability, before them those that have none: NaN or plus infinity."""
    has_none = ~(log_probs < math.inf)
    return np.lexsort((np.where(has_none, -math.inf, log_probs), ~has_none))


def describe_weights(stats: Mapping[str, Any]) -> list[str]:
    """The diagnostics in words, such as "ESS 90.0 of 100"."""
    words = []
    if "ess" in stats:
        words.append(f"ESS {float(stats['ess']):.1f} of {int(stats['num'])}")
    if "pareto_k" in stats and not math.isnan(float(stats["pareto_k"])):
        words.append(f"Pareto k {float(stats['pareto_k']):.2f}")
    if "overlap" in stats and math.isfinite(float(stats["overlap"])):
        words.append(f"overlap {float(stats['overlap']):.2f}")
    return words


def join_stats(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Diagnostics of a sum: those of the side that is to be trusted less; the weights of two sides are not joined."""
    apart = ("log_weights", "degrees")
    first, second = ({name: value for name, value in side.items() if name not in apart} for side in (first, second))
    both = {**first, **second}
    for name in ("edge_mass", "grid_error", "beyond", "off_centre", "cut_mass"):
        if name in first and name in second:
            both[name] = jnp.maximum(jnp.abs(first[name]), jnp.abs(second[name]))  # of a NaN, NaN
    if not {"ess", "num"} <= first.keys() & second.keys():
        return both
    first_is_worse = _doubt(first) >= _doubt(second)
    # What one side did not measure must say nothing: a k that is NaN, and the others without bound.
    like = first["ess"] + second["ess"]
    infinite = jnp.full_like(like, jnp.inf)
    silent = {"pareto_k": jnp.full_like(like, jnp.nan), "overlap": infinite, "normal_ess": infinite}
    for name in ("ess", "num", *silent):
        if name in both:
            one, other = (side[name] if name in side else silent[name] for side in (first, second))
            both[name] = jnp.where(first_is_worse, one, other)
    return both


def _doubt(stats: Mapping[str, Any]) -> Float[Array, "*batch"]:
    """The rules of `unreliable_reasons` as one number, above one where they are broken."""
    num = jnp.asarray(stats["num"], stats["ess"].dtype)
    threshold = jnp.minimum(1 - 1 / jnp.log10(num), 0.7)
    min_ess = jnp.interp(num, *(jnp.asarray(points, num.dtype) for points in (_NUM_WEIGHTS, _MIN_ESS)))
    doubt = _infinite_if_nan(min_ess / stats["ess"])
    if "pareto_k" in stats:
        doubt = jnp.fmax(doubt, 1 + stats["pareto_k"] - threshold)  # fmax: a k that could not be fitted is silent
    for name, least in (("overlap", _MIN_OVERLAP), ("normal_ess", jnp.minimum(_MIN_NORMAL_ESS, min_ess))):
        if name in stats:
            doubt = jnp.maximum(doubt, _infinite_if_nan(least / stats[name]))
    return doubt


def _infinite_if_nan(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    return jnp.where(jnp.isnan(x), jnp.inf, x)


def join_degrees(
    errors: tuple[Float[Array, "*batch"], Float[Array, "*batch"]], degrees: tuple[Any, Any]
) -> Float[Array, "*batch"]:
    """Degrees of freedom of `hypot` of two independent standard errors; `None` stands for infinitely many.

    Source: Welch (1947); Satterthwaite (1946), equation 17.
    """
    total = jnp.hypot(*errors)
    total = jnp.where(total > 0, total, 1)
    shares = [
        (error / total) ** 4 / jnp.asarray(number, total.dtype)
        for error, number in zip(errors, degrees, strict=True)
        if number is not None
    ]
    return 1 / sum(shares, start=jnp.zeros_like(total))


def degrees_of(stats: Mapping[str, Any]) -> Any:
    """Degrees of freedom of the standard error: `degrees`, else `num - 1`; `None` where there are no draws to count."""
    if "degrees" in stats:
        return stats["degrees"]
    return stats["num"] - 1 if "num" in stats else None
