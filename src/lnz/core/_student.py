"""Quantiles of Student's t distribution, for error bars from few draws."""

import math
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

# The probability of a normal distribution within two standard deviations, 0.9545.
TWO_SIGMA = math.erf(math.sqrt(2))

_MANY = 10_000
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(100)


def student_quantile(
    degrees: Float[np.ndarray, "*batch"] | float, level: float = TWO_SIGMA
) -> Float[np.ndarray, "*batch"]:
    """The `q` with `P(|T| <= q) = level`, for T with `degrees` degrees of freedom (normal, if infinitely many).

    With `v = degrees` and `T = sqrt(v) tan(angle)`, the probability is `int_0^angle cos^(v - 1)`, up to a constant of
    gamma functions. Above 10,000 degrees an expansion around the normal replaces the integral. The relative error is
    below 1e-8 for one degree or more and levels up to 0.999. The result is NaN for non-positive degrees.

    **Raises:** `ValueError` for a level outside (0, 1).

    Source: Abramowitz and Stegun (1964), equation 26.7.5, for the expansion.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` must be a probability between 0 and 1, such as 0.954; got {level}.")
    shape = np.shape(degrees)
    degrees, places = np.unique(np.asarray(degrees, np.float64), return_inverse=True)
    few = np.where(degrees > 0, np.minimum(degrees, _MANY), np.nan)
    many = np.where(degrees > _MANY, degrees, np.inf)
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    expansion = z + (z**3 + z) / (4 * many) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * many**2)
    quantiles = np.where(degrees > _MANY, expansion, _solve(few, level))
    return np.asarray(quantiles[places].reshape(shape))


def _solve(degrees: Float[np.ndarray, "*batch"], level: float) -> Float[np.ndarray, "*batch"]:
    ratios = [math.exp(math.lgamma(0.5 * v) - math.lgamma(0.5 * (v + 1))) for v in degrees.flat]
    whole = 0.5 * math.sqrt(math.pi) * np.reshape(ratios, degrees.shape)
    wanted = level * whole
    low, high = np.zeros_like(degrees), np.full_like(degrees, 0.5 * math.pi)
    for _ in range(30):
        angle = 0.5 * (low + high)
        is_below = _integral(angle, degrees) < wanted
        low, high = np.where(is_below, angle, low), np.where(is_below, high, angle)
    angle = low + (wanted - _integral(low, degrees)) / np.cos(low) ** (
        degrees - 1
    )  # one Newton step gives the remaining digits
    return np.where(np.isnan(degrees), np.nan, np.sqrt(degrees) * np.tan(angle))


def _integral(angle: Float[np.ndarray, "*batch"], degrees: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """`int_0^angle cos^(degrees - 1)`, by Gauss-Legendre quadrature."""
    half = 0.5 * angle
    return half * (np.cos(half[..., None] * (_NODES + 1)) ** (degrees[..., None] - 1) @ _WEIGHTS)
