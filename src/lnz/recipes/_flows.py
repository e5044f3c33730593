"""Normalizing flows: of tables, by maximum likelihood, and of energies in the plane, without data."""

import re

import jax.numpy as jnp

from .. import flows, gradients, objectives
from ..bijections import AbstractBijection, Affine, Chain
from ..distributions import Normal, PlanarEnergy, Transformed
from ..methods import Gradient
from ..runs import Recipe
from ..spaces import Euclidean
from ._fitting import all_but_standardisation, decayed_adam
from ._tables import standardisation, warn_of_atoms

_SPLINES = ("coupling_spline", "autoregressive_spline")
_AFFINE = ("realnvp", "masked_autoregressive", "inverse_autoregressive")
_CHOICES = {"model.kind": (*_SPLINES, *_AFFINE, "planar")}
_WITH_NETWORKS, _WITH_SPLINES = {"model.kind": _SPLINES + _AFFINE}, {"model.kind": _SPLINES}
_BELONGS = {
    "model.width": _WITH_NETWORKS,
    "model.depth": _WITH_NETWORKS,
    "model.num_bins": _WITH_SPLINES,
    "model.bound": _WITH_SPLINES,
}


def _flow(key, space, chosen, fast) -> AbstractBijection:
    """The architecture that `model.kind` names; where it has a choice, `fast` says which direction is the quick one."""
    kind = chosen["kind"]
    if kind == "planar":
        return flows.planar(space, key=key, num_layers=chosen["num_layers"], fast=fast)
    options = {name: chosen[name] for name in ("num_layers", "width", "depth")}
    if kind in _SPLINES:
        options |= {"num_bins": chosen["num_bins"], "bound": chosen["bound"]}
    return getattr(flows, kind)(space, key=key, **options)


def _build_table(key, splits, settings):
    flow = Chain(_flow(key, splits.space, settings["model"], "density"), standardisation(splits))
    warn_of_atoms(splits)
    method = Gradient(objectives.MaximumLikelihood(), decayed_adam(settings), all_but_standardisation)
    base = Normal(jnp.zeros(splits.space.shape), 1.0)  # learned: the splines have no affine map of their own
    return Transformed(base, flow), method


def _build_energy(key, splits, settings):
    chosen = settings["model"]
    found = re.fullmatch("energy_([1-4])", splits.name)
    if found is None:
        raise ValueError(
            f"flow_energy learns from an energy and not from rows: `--data` must be energy_1, energy_2, energy_3 or "
            f"energy_4; got {splits.name!r}. For rows use flow_tabular."
        )
    energy, steps = PlanarEnergy(int(found[1])), settings["train"]["steps"]
    # The tempered target reaches far: the last map scales what the splines, the identity beyond their bound, cannot.
    flow = Chain(_flow(key, splits.space, chosen, "draws"), Affine(jnp.zeros(2), 1.0))
    base = Normal(jnp.zeros(2), chosen["start_scale"])
    # Slowly to the target, and with a rate that rises first: otherwise some starts lose a part of the target for good.
    num_annealed, num_rising = 4 * steps // 5, steps // 20
    gradient = gradients.StickingTheLanding() if chosen["sticking_the_landing"] else gradients.Pathwise()
    objective = objectives.ReverseKL(energy, chosen["num_samples"], gradient, num_annealed)
    return Transformed(base, flow), Gradient(objective, decayed_adam(settings, num_rising=num_rising))


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

# In the plane a layer of splines of every variable given those before it has but two steps to draw in.
_PLANE = {**_TABLE, "kind": "autoregressive_spline", "num_layers": 3, "width": 32}

flow_moons = Recipe(
    name="flow_moons",
    title="Spline flow by maximum likelihood: the exact density of two half circles",
    data="two_moons",
    space=Euclidean,
    build=_build_table,
    choices=_CHOICES,
    belongs=_BELONGS,
    model=_PLANE,
    train={"steps": 2000, "batch_size": 256, "keep": "best", "valid_every": 100},
)

flow_tabular = Recipe(
    name="flow_tabular",
    title="Spline flow of a table by maximum likelihood, in the units of the file",
    data="uci_protein",
    space=Euclidean,
    build=_build_table,
    choices=_CHOICES,
    belongs=_BELONGS,
    model=_TABLE,
    train={"steps": 3000, "batch_size": 256, "keep": "best", "valid_every": 250},
)

flow_energy = Recipe(
    name="flow_energy",
    title="Spline flow fitted to an energy in the plane by reverse KL; the data are exact draws, for the test only",
    data="energy_1",
    space=Euclidean,
    build=_build_energy,
    choices=_CHOICES,
    belongs={**_BELONGS, "train.batch_size": {}},  # it learns from draws of its own, `model.num_samples` a step
    model={
        **_TABLE,
        "num_layers": 8,
        "bound": 10.0,
        "learning_rate": 5e-3,
        "weight_decay": 0.0,
        "num_samples": 256,
        "sticking_the_landing": False,
        "start_scale": 1.0,
    },
    train={"steps": 6000},
)
