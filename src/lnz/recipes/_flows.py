"""Normalizing flows: of tables, by maximum likelihood, and of energies in the plane, without data."""

import re
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import flows, objectives
from .._bijection import AbstractBijection, Transformed
from .._model import trainable
from .._space import Euclidean
from ..bijections import Chain
from ..distributions import Normal, PlanarEnergy
from ..methods import Gradient
from ._recipe import Recipe
from ._tables import standardisation

_SPLINES = ("coupling_spline", "autoregressive_spline")
_AFFINE = ("realnvp", "masked_autoregressive", "inverse_autoregressive")
_NUM_CHECKED_ROWS = 100_000
# A column with fewer different values, for each of its rows, is taken for a discrete one.
_FEW_VALUES = 0.05


def _flow(key, space, chosen, fast) -> AbstractBijection:
    """The architecture that `model.kind` names; where it has a choice, `fast` says which direction is the quick one."""
    kind = chosen["kind"]
    if kind == "planar":
        return flows.planar(space, key=key, num_layers=chosen["num_layers"], fast=fast)
    if kind not in _SPLINES + _AFFINE:
        raise ValueError(f"`model.kind` must be one of {', '.join(_SPLINES + _AFFINE)}, planar; got {kind!r}.")
    options = {name: chosen[name] for name in ("num_layers", "width", "depth")}
    if kind in _SPLINES:
        options |= {"num_bins": chosen["num_bins"], "bound": chosen["bound"]}
    return getattr(flows, kind)(space, key=key, **options)


def _build_table(key, splits, settings):
    _warn_of_atoms(splits)
    flow = Chain(_flow(key, splits.space, settings["model"], "density"), standardisation(splits))
    method = Gradient(objectives.MaximumLikelihood(), _optimizer(settings), _all_but_last)
    return Transformed(Normal.standard(splits.space.shape), flow), method


def _build_energy(key, splits, settings):
    chosen = settings["model"]
    found = re.fullmatch("energy_([1-4])", splits.name)
    if found is None:
        raise ValueError(
            f"flow_energy learns from an energy and not from rows: `--data` must be energy_1, energy_2, energy_3 or "
            f"energy_4; got {splits.name!r}. For rows use flow_tabular."
        )
    energy = PlanarEnergy(int(found[1]))
    base = Normal(jnp.zeros(2), chosen["start_scale"])
    objective = objectives.ReverseKL(
        energy, chosen["num_samples"], chosen["sticking_the_landing"], settings["train"]["steps"] // 2
    )
    flow = _flow(key, splits.space, chosen, "draws")
    return Transformed(base, flow), Gradient(objective, _optimizer(settings))


def _optimizer(settings):
    """Adam with decay of the weights, a learning rate that falls to zero, and a limit on single steps."""
    chosen, steps = settings["model"], settings["train"]["steps"]
    rate = optax.cosine_decay_schedule(chosen["learning_rate"], steps)
    return optax.chain(optax.clip_by_global_norm(5.0), optax.adamw(rate, weight_decay=chosen["weight_decay"]))


def _all_but_last(model):
    """The last bijection is the standardisation, which stays as it is."""
    return eqx.tree_at(lambda m: m.bijection.bijections[-1], trainable(model), replace_fn=_all_false)


def _all_false(tree):
    return jax.tree.map(lambda _: False, tree)


def _warn_of_atoms(splits) -> None:
    """Repeated rows and discrete columns: a density can grow there without bound, and its likelihood means little."""
    rows = np.asarray(splits.train[:_NUM_CHECKED_ROWS])
    problems = []
    # Over all parts: a test row that was trained on tells nothing either.
    whole = np.concatenate([rows, splits.valid[:_NUM_CHECKED_ROWS], splits.test[:_NUM_CHECKED_ROWS]])
    num_repeated = len(whole) - len(np.unique(whole, axis=0))
    if num_repeated:
        problems.append(f"{num_repeated} of {len(whole)} rows repeat another one (remove them from the file)")
    counts = [len(np.unique(column)) for column in rows.T]
    few = [i for i, count in enumerate(counts) if count < _FEW_VALUES * len(rows)]
    if few:
        names = [f"{splits.columns[i]!r}" if splits.columns else f"column {i}" for i in few[:3]]
        more = f" and {len(few) - 3} more" if len(few) > 3 else ""
        problems.append(
            f"{', '.join(names)}{more}: in {len(rows)} training rows only {', '.join(str(counts[i]) for i in few[:3])} "
            "different values (leave discrete columns out, or add uniform noise as wide as their steps)"
        )
    if problems:
        warnings.warn(
            f"`{splits.name}`: {'; '.join(problems)}. A density has no bound there: nats of this table say little.",
            stacklevel=2,
        )


_TABLE = {
    "kind": "coupling_spline",
    "num_layers": 6,
    "width": 64,
    "depth": 2,
    "num_bins": 8,
    "bound": 5.0,
    "learning_rate": 2e-3,
    "weight_decay": 1e-4,
}

# In the plane, where nets are small, splines of every variable given those before it are as quick as couplings.
_PLANE = {**_TABLE, "kind": "autoregressive_spline", "num_layers": 3, "width": 32}

flow_moons = Recipe(
    name="flow_moons",
    title="Spline flow by maximum likelihood: the exact density of two half circles",
    data="two_moons",
    space=Euclidean,
    build=_build_table,
    model=_PLANE,
    train={"steps": 2000, "batch_size": 256, "keep": "best", "valid_every": 100},
)

flow_tabular = Recipe(
    name="flow_tabular",
    title="Spline flow of a table by maximum likelihood, in the units of the file",
    data="uci_protein",
    space=Euclidean,
    build=_build_table,
    model=_TABLE,
    train={"steps": 3000, "batch_size": 256, "keep": "best", "valid_every": 250},
)

flow_energy = Recipe(
    name="flow_energy",
    title="Spline flow fitted to an energy in the plane by reverse KL; the data are exact draws, for the test only",
    data="energy_1",
    space=Euclidean,
    build=_build_energy,
    model={
        **_PLANE,
        "num_layers": 4,
        "width": 64,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "num_samples": 256,
        "sticking_the_landing": False,
        "start_scale": 2.0,
    },
    train={"steps": 3000},
)
