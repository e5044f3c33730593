"""Models of binary pictures: a baseline, mixtures and Boltzmann machines, of 64 pixels and of 784."""

import jax.numpy as jnp
import optax

from .. import normalizers, objectives
from ..distributions import Bernoulli, Mixture
from ..energy import RBM
from ..methods import EM, Gradient
from ..runs import Recipe, column_moments
from ._fitting import are_matrices


def _build_independent(key, splits, settings):
    return Bernoulli(jnp.zeros(splits.space.shape)), EM(settings["model"]["smoothing"])


def _build_mixture(key, splits, settings):
    num_components = settings["model"]["num_components"]
    components = Bernoulli(jnp.zeros((num_components, *splits.space.shape)))
    return Mixture(jnp.zeros(num_components), components), EM(settings["model"]["smoothing"])


def _build_rbm(key, splits, settings):
    chosen, steps = settings["model"], settings["train"]["steps"]
    means, _ = column_moments(splits.train)  # with zeros for what is missing, so that the sums are right
    num = len(splits.train) if splits.observed is None else splits.observed[0].sum(axis=0)
    base_rates = jnp.asarray((len(splits.train) * means + 1) / (num + 2), "float32")
    rbm = RBM(splits.space.size, chosen["num_hidden"], key=key, base_rates=base_rates)
    objective = objectives.PCD(chosen["k"], chosen["num_chains"])
    if splits.observed is not None:
        objective = objectives.Imputed(objective)
    optimizer = optax.chain(
        # Decay the weights only: biases carry the base rates.
        optax.add_decayed_weights(chosen["weight_decay"], mask=are_matrices),
        optax.sgd(optax.linear_schedule(chosen["learning_rate"], 0.0, steps)),
    )
    return rbm, Gradient(objective, optimizer)


def _ais(settings):
    chosen = settings["evaluate"]
    return normalizers.AIS(chosen["num_chains"], chosen["num_betas"])


def _bracket(settings):
    """Forward AIS, and reverse AIS from long-run chains, which is an estimate that assumes them stationary."""
    chosen = settings["evaluate"]
    sizes = chosen["num_chains"], chosen["num_betas"]
    return normalizers.AIS(*sizes), normalizers.ReverseAIS(*sizes, num_warm_up=chosen["num_warm_up"])


def _exact_bracket(settings):
    """Forward AIS, and reverse AIS from exact draws: the hidden layer is enumerated."""
    chosen = settings["evaluate"]
    sizes = chosen["num_chains"], chosen["num_betas"]
    return normalizers.AIS(*sizes), normalizers.ReverseAIS(*sizes)


independent_digits = Recipe(
    name="independent_digits",
    title="Independent pixels by maximum likelihood with Laplace's smoothing: the baseline",
    data="binary_digits",
    build=_build_independent,
    model={"smoothing": 2.0},
    train={"steps": 1},
)

mixture_digits = Recipe(
    name="mixture_digits",
    title="Mixture of Bernoullis by expectation maximisation",
    data="binary_digits",
    build=_build_mixture,
    model={"num_components": 100, "smoothing": 0.3},
    train={"steps": 80, "keep": "best"},
)

rbm_digits_exact = Recipe(
    name="rbm_digits_exact",
    title="RBM with 16 hidden units: log Z by enumeration, and by AIS to compare",
    data="binary_digits",
    build=_build_rbm,
    takes_missing=True,
    model={"num_hidden": 16, "k": 1, "num_chains": 100, "learning_rate": 0.1, "weight_decay": 0.0},
    train={"steps": 40000, "batch_size": 100, "keep": "best"},
    evaluate={"num_chains": 100, "num_betas": 4000},
    partitions=lambda settings: {"": normalizers.Quadrature(), " (AIS)": _ais(settings)},
    validator=lambda settings: normalizers.Quadrature(),
    bracket=_exact_bracket,
)

rbm_digits = Recipe(
    name="rbm_digits",
    title="RBM with 128 hidden units: log Z by AIS",
    data="binary_digits",
    build=_build_rbm,
    takes_missing=True,
    model={"num_hidden": 128, "k": 2, "num_chains": 300, "learning_rate": 0.1, "weight_decay": 3e-4},
    train={"steps": 25000, "batch_size": 100, "keep": "best"},
    evaluate={"num_chains": 100, "num_betas": 2000, "num_warm_up": 5000},
    partitions=lambda settings: {"": _ais(settings)},
    validator=lambda settings: normalizers.AIS(100, 300),
    bracket=_bracket,
)

mixture_mnist = Recipe(
    name="mixture_mnist",
    title="Mixture of 500 Bernoullis by expectation maximisation on binarized MNIST",
    data="binary_mnist",
    build=_build_mixture,
    model={"num_components": 500, "smoothing": 0.3},
    train={"steps": 40, "keep": "best"},
)

rbm_mnist = Recipe(
    name="rbm_mnist",
    title="RBM with 500 hidden units on binarized MNIST by PCD-1, minutes on two cores",
    data="binary_mnist",
    build=_build_rbm,
    takes_missing=True,
    model={"num_hidden": 500, "k": 1, "num_chains": 100, "learning_rate": 0.05, "weight_decay": 0.0},
    train={"steps": 150_000, "batch_size": 100, "valid_every": 15_000},
    evaluate={"num_chains": 100, "num_betas": 30_000, "num_warm_up": 30_000},
    partitions=lambda settings: {"": _ais(settings)},
    validator=lambda settings: normalizers.AIS(100, 1000),
    bracket=_bracket,
)

rbm_mnist_pcd25 = Recipe(
    name="rbm_mnist_pcd25",
    title="RBM with 500 hidden units on binarized MNIST by PCD-25, the long way: for a GPU",
    data="binary_mnist",
    build=_build_rbm,
    takes_missing=True,
    model={"num_hidden": 500, "k": 25, "num_chains": 500, "learning_rate": 0.05, "weight_decay": 0.0},
    train={"steps": 500_000, "batch_size": 100, "valid_every": 25_000},
    evaluate={"num_chains": 500, "num_betas": 20_000, "num_warm_up": 20_000},
    partitions=lambda settings: {"": _ais(settings)},
    validator=lambda settings: normalizers.AIS(100, 1000),
    bracket=_bracket,
)
