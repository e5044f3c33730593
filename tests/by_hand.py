"""Likelihoods whose numbers a test chooses."""

import numpy as np

import lnz
from lnz.core import flip_bound


def likelihood(
    per_example, bound="exact", error=0.0, *, warnings=(), weights=None, assumes=(), num_dimensions=2, **about
):
    """A likelihood with these log-probabilities, whose error and bound are those of the denominator."""
    of = {"data": "d", "space": "s", "base_measure": "counting", **about}
    rows = np.asarray(per_example, np.float64)
    denominator = lnz.Estimate(
        np.zeros(()), np.asarray(error), flip_bound(bound), tuple(assumes), weights or lnz.Weights()
    )
    return lnz.LogLikelihood(
        lnz.Estimate(rows, np.zeros(len(rows)), "exact"),
        denominator,
        lnz.RandomVariable(**of, num_dimensions=num_dimensions),
        lnz.Protocol(),
        tuple(warnings),
    )
