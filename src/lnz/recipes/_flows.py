"""Recipes of normalizing flows: for tables, by maximum likelihood, and for energies in the plane, without data."""

import re
from typing import Annotated, Literal

import jax.numpy as jnp
from pydantic import Field

from .. import flows, gradients, objectives
from ..bijections import AbstractBijection, Affine, Chain
from ..distributions import Normal, PlanarEnergy, Transformed
from ..methods import Gradient
from ..runs import Choice, Count, Data, ExactSettings, Positive, Recipe, Several, Train, TrainOnDraws
from ..spaces import Euclidean
from ._fitting import Rated, all_but_standardisation, decayed_adam
from ._tables import standardisation, warn_of_atoms


class _Layered(Choice):
    num_layers: Count = 6
    """Layers, one after another."""


class _WithNetworks(_Layered):
    width: Count = 64
    """Units of each hidden layer of the networks."""
    depth: Count = 2
    """Hidden layers of the networks."""

    def build(self, space, key, fast) -> AbstractBijection:
        """The architecture of `lnz.flows` with this name; `fast` names the fast direction if there is a choice."""
        options = self.model_dump(exclude={"kind"})
        return getattr(flows, self.kind)(space, key=key, **options)


class _Splines(_WithNetworks):
    num_bins: Several = 8
    """Pieces of each spline."""
    bound: Positive = 5.0
    """Splines cover -bound to bound; a layer is the identity outside."""


class CouplingSpline(_Splines):
    """Couplings by rational-quadratic splines."""

    kind: Literal["coupling_spline"] = "coupling_spline"


class AutoregressiveSpline(_Splines):
    """Splines of each variable, given the variables before it."""

    kind: Literal["autoregressive_spline"] = "autoregressive_spline"


class RealNVP(_WithNetworks):
    """Affine couplings."""

    kind: Literal["realnvp"] = "realnvp"


class MaskedAutoregressive(_WithNetworks):
    """Affine maps of each variable, given the variables before it; fast densities."""

    kind: Literal["masked_autoregressive"] = "masked_autoregressive"


class InverseAutoregressive(_WithNetworks):
    """Affine maps of each variable, given the variables before it; fast draws."""

    kind: Literal["inverse_autoregressive"] = "inverse_autoregressive"


class Planar(_Layered):
    """Bends of the space along one direction."""

    kind: Literal["planar"] = "planar"

    def build(self, space, key, fast) -> AbstractBijection:
        return flows.planar(space, key=key, num_layers=self.num_layers, fast=fast)


Flow = Annotated[
    CouplingSpline | AutoregressiveSpline | RealNVP | MaskedAutoregressive | InverseAutoregressive | Planar,
    Field(discriminator="kind"),
]


class TableModel(Rated):
    """A flow of standardised columns."""

    flow: Flow = CouplingSpline()
    """The architecture."""


class EnergyModel(Rated):
    """A flow that is fitted to an energy."""

    flow: Flow = CouplingSpline(num_layers=8, bound=10.0)
    """The architecture."""
    num_samples: Count = 256
    """Draws from the flow per step."""
    sticking_the_landing: bool = False
    """Whether the gradient leaves out the score of the flow, which has mean zero."""
    start_scale: Positive = 1.0
    """Initial standard deviation of the base."""


class TableSettings(ExactSettings):
    model: TableModel


class EnergySettings(ExactSettings):
    model: EnergyModel
    train: TrainOnDraws


def _build_table(key, splits, settings: TableSettings):
    flow = Chain(settings.model.flow.build(splits.space, key, "density"), standardisation(splits))
    warn_of_atoms(splits)
    method = Gradient(objectives.MaximumLikelihood(), decayed_adam(settings), all_but_standardisation)
    base = Normal(jnp.zeros(splits.space.shape), 1.0)  # learned: the splines have no affine map of their own
    return Transformed(base, flow), method


def _build_energy(key, splits, settings: EnergySettings):
    chosen = settings.model
    found = re.fullmatch("energy_([1-4])", splits.name)
    if found is None:
        raise ValueError(
            f"flow_energy learns from an energy and not from rows: `--data` must be energy_1, energy_2, energy_3 or "
            f"energy_4; got {splits.name!r}. For rows use flow_tabular."
        )
    energy, steps = PlanarEnergy(int(found[1])), settings.train.steps
    # The tempered target reaches beyond the bound of the splines, where they are the identity: the last map scales it.
    flow = Chain(chosen.flow.build(splits.space, key, "draws"), Affine(jnp.zeros(2), 1.0))
    base = Normal(jnp.zeros(2), chosen.start_scale)
    # Anneal slowly and let the learning rate rise first: otherwise some starts lose a part of the target for good.
    num_annealed, num_rising = 4 * steps // 5, steps // 20
    gradient = gradients.StickingTheLanding() if chosen.sticking_the_landing else gradients.Pathwise()
    objective = objectives.ReverseKL(energy, chosen.num_samples, gradient, num_annealed)
    return Transformed(base, flow), Gradient(objective, decayed_adam(settings, num_rising=num_rising))


flow_moons = Recipe(
    name="flow_moons",
    title="Spline flow by maximum likelihood: the exact density of two half circles",
    space=Euclidean,
    build=_build_table,
    settings=TableSettings(
        data=Data(source="two_moons"),
        # In the plane, an autoregressive layer needs only two sequential steps to draw.
        model=TableModel(flow=AutoregressiveSpline(num_layers=3, width=32), learning_rate=2e-3, weight_decay=1e-4),
        train=Train(steps=2000, batch_size=256, keep="best", valid_every=100),
    ),
)

flow_tabular = Recipe(
    name="flow_tabular",
    title="Spline flow of a table by maximum likelihood, in the units of the file",
    space=Euclidean,
    build=_build_table,
    settings=TableSettings(
        data=Data(source="uci_protein"),
        model=TableModel(learning_rate=2e-3, weight_decay=1e-4),
        train=Train(steps=3000, batch_size=256, keep="best", valid_every=250),
    ),
)

flow_energy = Recipe(
    name="flow_energy",
    title="Spline flow fitted to an energy in the plane by reverse KL; the data are exact draws, for the test only",
    space=Euclidean,
    build=_build_energy,
    settings=EnergySettings(
        data=Data(source="energy_1"), model=EnergyModel(learning_rate=5e-3), train=TrainOnDraws(steps=6000)
    ),
)
