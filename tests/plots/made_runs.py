"""Runs made by hand, whose data are nowhere else."""

import functools

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import lnz
from lnz.runs import Examples, Run

EVIL = '<script>alert("x")</script>&\'"'


@functools.cache
def bars():
    return lnz.data.load("bars_and_stripes").test.astype(np.float32)[:60]


@functools.cache
def fair_coins(num):
    """The likelihoods of fair coins: a report computes none."""
    return lnz.evaluate(jr.key(0), lnz.Bernoulli(jnp.zeros(16)), bars()[:num])


def examples(rows, log_probs, image_shape=None, columns=None, num_some=12, num_extreme=6):
    order = np.argsort(log_probs)
    index = {
        "some": np.arange(min(num_some, len(rows))),
        "least": order[:num_extreme],
        "most": order[::-1][:num_extreme],
    }
    index = {name: numbers.tolist() for name, numbers in index.items()}
    return Examples(image_shape, columns, index, {name: rows[numbers].tolist() for name, numbers in index.items()})


def make_run(model, rows=None, *, image_shape=(4, 4), columns=None, results=None, **changes):
    """A run of `model` on bars and stripes, or on `rows`, whose likelihoods are `results` or those of fair coins."""
    rows = bars() if rows is None else rows
    results = {"made": fair_coins(len(rows))} if results is None else results
    given = {
        "recipe": "made",
        "title": "A model",
        "settings": {"seed": 0, "data": {"source": "/gone/rows.csv"}, "train": {"steps": 2}, "model": {"note": EVIL}},
        "digest": None,
        "environment": {"lnz": "0.1", "device": EVIL},
        "model": model,
        "history": [{"step": step, "seconds": 1.0, "free_energy_data": 2.0, "valid": -1.0 / step} for step in (1, 2)],
        "status": "completed",
        "rows": results,
        "bracket": None,
        "examples": examples(rows, results["made"].per_example, image_shape, columns),
        "data_protocol": "made by hand",
        "num_parameters": 16,
        "seconds": {"train": 1.0, "compile": 2.0, "evaluate": 3.0},
    }
    return Run(**{**given, **changes})


def small_rbm():
    rbm = lnz.energy.RBM(16, 4, key=jr.key(0))
    return lnz.energy.RBM.from_parameters(0.5 * jr.normal(jr.key(1), (16, 4)), rbm.b, rbm.c)
