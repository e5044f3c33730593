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


def _flow(key, space, chosen) -> AbstractBijection:
    """The architecture that `model.kind` names."""
    kind = chosen["kind"]
    if kind not in _SPLINES + _AFFINE:
        raise ValueError(f"`model.kind` must be one of {', '.join(_SPLINES + _AFFINE)}; got {kind!r}.")
    options = {name: chosen[name] for name in ("num_layers", "width", "depth")}
    if kind in _SPLINES:
        options |= {"num_bins": chosen["num_bins"], "bound": chosen["bound"]}
    return getattr(flows, kind)(space, key=key, **options)


def _build_table(key, splits, settings):
    _warn_of_atoms(splits)
    flow = Chain(_flow(key, splits.space, settings["model"]), standardisation(splits))
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
    flow = _flow(key, splits.space, chosen)
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
    model={**_PLANE, "weight_decay": 0.0, "num_samples": 256, "sticking_the_landing": False, "start_scale": 2.0},
    train={"steps": 3000},
"""Flows of pictures: densities of pixels with noise, as models of the pixels."""

import jax.random as jr
import optax

from .. import normalizers, objectives
from .._bijection import Transformed
from .._check import check_positive
from .._space import Binary, Categorical, Euclidean, Interval
from ..bijections import Chain, Inverse, MaskedAutoregressive, Permutation, Scan, Sigmoid, SplineTransformer
from ..distributions import Normal, Uniform
from ..flows import glow
from ..latent import Dequantised, SplineNoise
from ..methods import Gradient
from ..nets import MLP, MaskedMLP
from ._recipe import Recipe


def _build_digits(key, splits, settings):
    """Splines on the box [0, 2]^n, whose bins may end where bits do, over uniform noise: nothing is cut off."""
    chosen, num = settings["model"], splits.space.num_dimensions
    box, splines = Interval(num, 0.0, 2.0), SplineTransformer(chosen["num_bins"], 0.0, 2.0)
    key_flow, key_noise = jr.split(key)

    def layer(key):
        key_net, key_order = jr.split(key)
        net = MaskedMLP(num, splines.num_params, key=key_net, width=chosen["width"], depth=1, last_scale=0.0)
        mix = Permutation(jr.permutation(key_order, num), box)
        return Chain(mix, Inverse(MaskedAutoregressive(box, net, splines)))

    layers = Scan.of(layer, jr.split(key_flow, chosen["num_layers"]))
    flow = Transformed(Uniform(num, 0.0, 2.0), layers)
    return Dequantised(flow, splits.space, _noise(key_noise, num, chosen)), _climb(settings)


def _build_mnist(key, splits, settings):
    chosen, space = settings["model"], splits.space
    if splits.image_shape is None or len(splits.image_shape) != 2:
        raise ValueError(f"`{splits.name}`: Glow needs pictures; got rows of {space.num_dimensions} numbers.")
    num, num_values = space.num_dimensions, 2 if isinstance(space, Binary) else space.num_categories
    layers = glow(
        Euclidean(num),
        key=key,
        num_levels=chosen["num_levels"],
        num_steps=chosen["num_steps"],
        width=chosen["width"],
        image_shape=splits.image_shape,
    )
    onto_box = Sigmoid(Interval(num, 0.0, float(num_values)))
    return Dequantised(Transformed(Normal.standard(num), Chain(layers, onto_box)), space), _climb(settings)


def _noise(key, num, chosen):
    splines = SplineTransformer(4, 0.0, 1.0)
    net = MLP(num, (splines.num_params, num), key=key, width=chosen["noise_width"], depth=1, last_scale=0.0)
    return SplineNoise(net, splines)


def _climb(settings):
    chosen = settings["model"]
    rate = optax.cosine_decay_schedule(chosen["learning_rate"], settings["train"]["steps"])
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adamw(rate, weight_decay=chosen["weight_decay"]))
    return Gradient(objectives.ELBO(), optimizer)


def _hidden(settings):
    num = check_positive(settings["evaluate"]["num_samples"], "evaluate.num_samples")
    return normalizers.Importance(num, chunk_size=256)


def _hidden_while_training(settings):
    return normalizers.Importance(settings["evaluate"]["num_samples_while_training"], chunk_size=256)


flow_digits = Recipe(
    name="flow_digits",
    title="Autoregressive splines of bits with variational noise: a lower bound",
    data="binary_digits",
    build=_build_digits,
    model={
        "num_layers": 3,
        "width": 128,
        "num_bins": 2,
        "noise_width": 64,
        "learning_rate": 6e-3,
        "weight_decay": 1e-4,
    },
    train={"steps": 6000, "batch_size": 100, "keep": "best", "average": 0.99},
    evaluate={"num_samples": 300, "num_samples_while_training": 10},
    hidden=_hidden,
    hidden_while_training=_hidden_while_training,
)

flow_mnist = Recipe(
    name="flow_mnist",
    title="Glow of grey MNIST with uniform noise, in bits a pixel: for a GPU",
    data="mnist",
    space=Categorical,
    build=_build_mnist,
    model={"num_levels": 2, "num_steps": 16, "width": 256, "learning_rate": 1e-3, "weight_decay": 0.0},
    train={"steps": 100_000, "batch_size": 128, "valid_every": 10_000, "average": 0.999},
    evaluate={"num_samples": 10, "num_samples_while_training": 2},
    hidden=_hidden,
    hidden_while_training=_hidden_while_training,
)
