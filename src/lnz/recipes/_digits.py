"""Recipes for binary pictures of 64 or 784 pixels: a baseline, mixtures and Boltzmann machines."""

import jax.numpy as jnp
import optax

from .. import normalizers, objectives
from ..distributions import Bernoulli, Mixture
from ..energy import RBM
from ..methods import EM, Gradient
from ..runs import Count, Data, ExactSettings, Group, NotNegative, Recipe, Settings, Several, Train, column_moments
from ._fitting import Rated, are_matrices


class PixelsModel(Group):
    """Independent pixels."""

    smoothing: NotNegative = 2.0
    """Pseudo-examples added to every pixel, half of them ones."""


class MixtureModel(Group):
    """A mixture of independent pixels."""

    num_components: Count = 100
    """Components of the mixture."""
    smoothing: NotNegative = 0.3
    """Pseudo-examples added to every pixel of a component, half of them ones."""


class RBMModel(Rated):
    """A restricted Boltzmann machine, trained by persistent contrastive divergence."""

    num_hidden: Count
    """Hidden units."""
    k: Count = 1
    """Gibbs sweeps of the chains per step."""
    num_chains: Count = 100
    """Persistent chains."""


class Annealed(Group):
    """Log Z by annealed importance sampling."""

    num_chains: Several = 100
    """Chains, at least 2 for an error bar."""
    num_betas: Count
    """Temperatures; more of them tighten the bound."""


class AnnealedBothWays(Annealed):
    """Log Z from both sides; the upper side starts from long chains."""

    num_warm_up: Count
    """Warm-up sweeps of the chains that reverse annealing starts from."""


class PixelsSettings(ExactSettings):
    model: PixelsModel


class MixtureSettings(ExactSettings):
    model: MixtureModel


class ExactRBMSettings(Settings):
    model: RBMModel
    evaluate: Annealed


class RBMSettings(Settings):
    model: RBMModel
    evaluate: AnnealedBothWays


def _build_independent(key, splits, settings: PixelsSettings):
    return Bernoulli(jnp.zeros(splits.space.shape)), EM(settings.model.smoothing)


def _build_mixture(key, splits, settings: MixtureSettings):
    chosen = settings.model
    components = Bernoulli(jnp.zeros((chosen.num_components, *splits.space.shape)))
    return Mixture(jnp.zeros(chosen.num_components), components), EM(chosen.smoothing)


def _build_rbm(key, splits, settings: ExactRBMSettings | RBMSettings):
    chosen, steps = settings.model, settings.train.steps
    means, _ = column_moments(splits.train)  # missing entries are zeros, so the sums are right
    num = len(splits.train) if splits.observed is None else splits.observed[0].sum(axis=0)
    base_rates = jnp.asarray((len(splits.train) * means + 1) / (num + 2), "float32")
    rbm = RBM(splits.space.size, chosen.num_hidden, key=key, base_rates=base_rates)
    objective = objectives.PCD(chosen.k, chosen.num_chains)
    if splits.observed is not None:
        objective = objectives.Imputed(objective)
    optimizer = optax.chain(
        # Decay the weights only: biases carry the base rates.
        optax.add_decayed_weights(chosen.weight_decay, mask=are_matrices),
        optax.sgd(optax.linear_schedule(chosen.learning_rate, 0.0, steps)),
    )
    return rbm, Gradient(objective, optimizer)


def _ais(settings):
    chosen = settings.evaluate
    return normalizers.AIS(chosen.num_chains, chosen.num_betas)


def _bracket(settings):
    """Forward AIS, and reverse AIS from long-run chains, an estimate that assumes a stationary start."""
    chosen = settings.evaluate
    sizes = chosen.num_chains, chosen.num_betas
    return normalizers.AIS(*sizes), normalizers.ReverseAIS(*sizes, num_warm_up=chosen.num_warm_up)


def _exact_bracket(settings):
    """Forward AIS, and reverse AIS from exact draws: the hidden layer is enumerated."""
    chosen = settings.evaluate
    sizes = chosen.num_chains, chosen.num_betas
    return normalizers.AIS(*sizes), normalizers.ReverseAIS(*sizes)


def _rbm(name, title, settings, num_betas_while_training):
    return Recipe(
        name=name,
        title=title,
        settings=settings,
        build=_build_rbm,
        takes_missing=True,
        partitions=lambda settings: {"": _ais(settings)},
        validator=lambda settings: normalizers.AIS(100, num_betas_while_training),
        bracket=_bracket,
    )


independent_digits = Recipe(
    name="independent_digits",
    title="Independent pixels by maximum likelihood with Laplace's smoothing: the baseline",
    build=_build_independent,
    settings=PixelsSettings(data=Data(source="binary_digits"), model=PixelsModel(), train=Train(steps=1)),
)

mixture_digits = Recipe(
    name="mixture_digits",
    title="Mixture of Bernoullis by expectation maximisation",
    build=_build_mixture,
    settings=MixtureSettings(
        data=Data(source="binary_digits"), model=MixtureModel(), train=Train(steps=80, keep="best")
    ),
)

rbm_digits_exact = Recipe(
    name="rbm_digits_exact",
    title="RBM with few hidden units: log Z by enumeration, and by AIS to compare",
    build=_build_rbm,
    takes_missing=True,
    settings=ExactRBMSettings(
        data=Data(source="binary_digits"),
        model=RBMModel(num_hidden=16, learning_rate=0.1),
        train=Train(steps=40000, batch_size=100, keep="best"),
        evaluate=Annealed(num_betas=4000),
    ),
    partitions=lambda settings: {"": normalizers.Quadrature(), " (AIS)": _ais(settings)},
    validator=lambda settings: normalizers.Quadrature(),
    bracket=_exact_bracket,
)

rbm_digits = _rbm(
    "rbm_digits",
    "RBM of small digits: log Z by AIS",
    RBMSettings(
        data=Data(source="binary_digits"),
        model=RBMModel(num_hidden=128, k=2, num_chains=300, learning_rate=0.1, weight_decay=3e-4),
        train=Train(steps=18000, batch_size=100, keep="best"),
        evaluate=AnnealedBothWays(num_betas=2000, num_warm_up=5000),
    ),
    num_betas_while_training=300,
)

mixture_mnist = Recipe(
    name="mixture_mnist",
    title="Mixture of 500 Bernoullis by expectation maximisation on binarized MNIST",
    build=_build_mixture,
    settings=MixtureSettings(
        data=Data(source="binary_mnist"), model=MixtureModel(num_components=500), train=Train(steps=40, keep="best")
    ),
)

rbm_mnist = _rbm(
    "rbm_mnist",
    "RBM of binarized MNIST by PCD, minutes on two cores",
    RBMSettings(
        data=Data(source="binary_mnist"),
        model=RBMModel(num_hidden=500, learning_rate=0.05),
        train=Train(steps=150_000, batch_size=100, valid_every=15_000),
        evaluate=AnnealedBothWays(num_betas=30_000, num_warm_up=30_000),
    ),
    num_betas_while_training=1000,
)

rbm_mnist_pcd25 = _rbm(
    "rbm_mnist_pcd25",
    "RBM of binarized MNIST by PCD with many sweeps per step, a long run: for a GPU",
    RBMSettings(
        data=Data(source="binary_mnist"),
        model=RBMModel(num_hidden=500, k=25, num_chains=500, learning_rate=0.05),
        train=Train(steps=500_000, batch_size=100, valid_every=25_000),
        evaluate=AnnealedBothWays(num_chains=500, num_betas=20_000, num_warm_up=20_000),
    ),
    num_betas_while_training=1000,
)
