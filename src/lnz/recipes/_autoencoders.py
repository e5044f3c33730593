"""Recipes of variational autoencoders: one builder, with a setting for every factor."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from pydantic import model_validator

from .. import normalizers
from ..distributions import Bernoulli, Conditional, Normal, Transformed, num_moved
from ..latent import VAE, Hierarchical, TopDown
from ..methods import Gradient
from ..modules import trainable
from ..nets import Standardised
from ..runs import Count, Data, Group, Recipe, Settings, Several, Train, column_moments
from ..spaces import AbstractSpace, Binary, Categorical, Euclidean
from . import _vae as vae
from ._fitting import Rated, all_false, are_matrices, decayed_adam
from ._tables import standardisation, table_moments, warn_of_atoms


class VAEModel(Rated):
    """A variational autoencoder and its objective."""

    likelihood: vae.Likelihood = vae.Independent()
    """Distribution of x given the latents."""
    network: vae.Network = vae.Plain()
    """Networks of the encoder and the decoder."""
    num_latent: Count = 20
    """Latent dimensions, summed over all layers."""
    layers: vae.Layers = vae.OneLayer()
    """Layers of latents."""
    posterior: vae.Posterior = vae.NormalPosterior()
    """Distribution of the latents given x."""
    prior: vae.Prior = vae.NormalPrior()
    """Distribution of the latents, or of the upper half of them."""
    objective: vae.Objective = vae.ELBO()
    """Objective that training maximises."""

    @model_validator(mode="after")
    def _check_layers(self):
        if isinstance(self.layers, vae.TwoLayers) and not isinstance(self.posterior, vae.NormalPosterior):
            raise ValueError(f"`model.layers=two` needs `model.posterior=normal`; got {self.posterior.kind}.")
        return self


class Weighted(Group):
    """Log-likelihoods by importance sampling."""

    num_samples: Several = 5000
    """Draws of the latents for each row, at least 2 for an error bar."""
    num_samples_while_training: Several = 50
    """Draws of the latents for each row, in validations during training."""


class VAESettings(Settings):
    model: VAEModel
    evaluate: Weighted


def _build(key, splits, settings: VAESettings):
    chosen, num_latent = settings.model, settings.model.num_latent
    keys = jr.split(key, 5)
    template, where = _likelihood(keys[4], splits, chosen)
    net = chosen.network.decoder(num_latent, num_moved(template, where), splits, keys[0])
    decoder = Conditional(template, net, where)
    posterior, where = chosen.posterior.template(num_latent, keys[1])
    if isinstance(chosen.layers, vae.TwoLayers):
        model = _hierarchy(keys, splits, chosen, chosen.layers, decoder)
    else:
        encoder = _encoder(posterior, keys[2], splits, chosen, where)
        model = VAE(chosen.prior.build(num_latent, splits.space, keys[3]), decoder, encoder)
    objective = chosen.objective.build(settings.train.steps)
    return model, Gradient(objective, decayed_adam(settings, are_matrices), _all_but_units)


def _all_but_units(model):
    """A filter of the trainable arrays: all but the units of a table."""
    chosen = trainable(model)
    if isinstance(_template(model), Transformed):
        chosen = eqx.tree_at(lambda model: _template(model).bijection, chosen, replace_fn=all_false)
    return chosen


def _template(model):
    return model.decoder.template


def _hierarchy(keys, splits, chosen, between, decoder):
    """Two layers of latents. The decoder sees both; the posterior of the lower layer sees x and the upper layer."""
    num, half, layer = splits.space.size, chosen.num_latent // 2, chosen.network.layer
    lower, upper = chosen.num_latent - half, half
    key_up, key_down, key_infer, key_top = jr.split(keys[2], 4)
    infer_upper = _encoder(Normal.standard(upper), key_up, splits, chosen)
    # The input is x with the upper layer, so a network of pictures alone does not suit.
    net = vae.dense(layer, num + upper, 2 * lower, between, key_infer)
    if splits.space.num_values != 2:
        means, scales = _moments(splits)
        net = Standardised(net, np.append(means, np.zeros(upper)), np.append(scales, np.ones(upper)))
    encoder = TopDown(infer_upper, Conditional(Normal.standard(lower), net))
    below = Conditional(Normal.standard(lower), vae.dense(layer, upper, 2 * lower, between, key_down))
    top = chosen.prior.build(upper, splits.space, key_top)
    return Hierarchical(top, (below,), decoder, encoder, skip=True)


def _encoder(template, key, splits, chosen, where=None):
    made = chosen.network.encoder(splits.space.size, num_moved(template, where), splits, key)
    if splits.space.num_values != 2:
        made = Standardised(made, *_moments(splits))
    return Conditional(template, made, where)


def _likelihood(key, splits, chosen):
    """A distribution of x that starts at the moments of the training data, and a selector of its arrays that z moves.

    `None` as the selector stands for all arrays.
    """
    means, _ = column_moments(splits.train)
    num_values = splits.space.num_values or 0
    if num_values > 2:
        scales = _moments(splits)[1]
        # The standard deviation of a logistic is 1.8 scales.
        parts = (means + 0.5) / num_values, scales / (1.8 * num_values), num_values
        return chosen.likelihood.grey(parts, splits, key)
    if not isinstance(chosen.likelihood, vae.Independent):
        raise ValueError(f"`model.likelihood=autoregressive` needs grey values; `{splits.name}` is of {splits.space}.")
    if num_values == 2:
        num = len(splits.train)
        rates = (num * means + 1) / (num + 2)
        return Bernoulli(jnp.asarray(np.log(rates) - np.log1p(-rates), "float32")), None
    num = splits.space.size
    # A scale for each column that does not depend on z: otherwise the density could grow on single rows without bound.
    template = Transformed(Normal.standard(num), standardisation(splits))
    warn_of_atoms(splits)
    return template, lambda likelihood: likelihood.base.loc


def _moments(splits):
    if splits.space.num_values is None:  # columns may have any units
        return table_moments(splits)
    means, scales = column_moments(splits.train)
    return means, np.maximum(scales, 1e-3 * max(scales.max(), 1e-30))


def _hidden(settings: VAESettings):
    return normalizers.Importance(settings.evaluate.num_samples)


def _hidden_while_training(settings: VAESettings):
    return normalizers.Importance(settings.evaluate.num_samples_while_training)


def _recipe(name, title, source, model, train, space: type[AbstractSpace] = Binary, num_importance=5000):
    return Recipe(
        name=name,
        title=title,
        space=space,
        build=_build,
        settings=VAESettings(
            data=Data(source=source), model=model, train=train, evaluate=Weighted(num_samples=num_importance)
        ),
        hidden=_hidden,
        hidden_while_training=_hidden_while_training,
    )


def _of_mnist(**changes):
    usual = {
        "network": vae.Plain(width=300, depth=2),
        "num_latent": 40,
        "objective": vae.ELBO(num_warm_up=10_000),
        "learning_rate": 5e-4,
    }
    return VAEModel(**{**usual, **changes})


_MNIST_TRAIN = Train(steps=200_000, batch_size=128, keep="best", valid_every=10_000)

vae_digits = _recipe(
    "vae_digits",
    "Variational autoencoder of small digits: a lower bound by importance sampling",
    "binary_digits",
    VAEModel(
        network=vae.Plain(width=256),
        num_latent=16,
        posterior=vae.FullPosterior(),
        objective=vae.IWAE(num_samples=8),
        learning_rate=2e-3,
        weight_decay=0.1,
    ),
    Train(steps=3000, batch_size=128, keep="best", valid_every=300),
)

vae_mnist = _recipe(
    "vae_mnist",
    "Variational autoencoder of binarized MNIST by the ELBO: on a CPU use `--set train.steps=20000`",
    "binary_mnist",
    _of_mnist(),
    _MNIST_TRAIN,
)

vae_mnist_conv = _recipe(
    "vae_mnist_conv",
    "vae_mnist with strided convolutions and their transposes",
    "binary_mnist",
    _of_mnist(network=vae.Convolutional()),
    _MNIST_TRAIN,
)

iwae_mnist = _recipe(
    "iwae_mnist",
    "Importance-weighted autoencoder of binarized MNIST: for a GPU",
    "binary_mnist",
    _of_mnist(num_latent=50, objective=vae.IWAE(num_samples=50, gradient="doubly_reparameterised")),
    _MNIST_TRAIN,
)

vae_mnist_planar = _recipe(
    "vae_mnist_planar",
    "A posterior of 80 amortised planar layers: for a GPU",
    "binary_mnist",
    _of_mnist(posterior=vae.PlanarPosterior(num_layers=80)),
    _MNIST_TRAIN,
)

vae_mnist_iaf = _recipe(
    "vae_mnist_iaf",
    "A posterior of 4 inverse autoregressive layers that see x",
    "binary_mnist",
    _of_mnist(posterior=vae.AutoregressivePosterior(width=320)),
    _MNIST_TRAIN,
)

vampprior_mnist = _recipe(
    "vampprior_mnist",
    "VampPrior of 500 pseudo-inputs, gated networks",
    "binary_mnist",
    _of_mnist(prior=vae.VampPriorOf(), network=vae.Gated(width=300, depth=2)),
    _MNIST_TRAIN,
)

hvae_mnist = _recipe(
    "hvae_mnist",
    "Two layers of latents with a VampPrior on top, gated networks",
    "binary_mnist",
    _of_mnist(prior=vae.VampPriorOf(), network=vae.Gated(width=300, depth=2), layers=vae.TwoLayers(), num_latent=80),
    _MNIST_TRAIN,
)

vae_frey = _recipe(
    "vae_frey",
    "Frey faces by autoregressive logistics, in bits per pixel",
    "frey",
    VAEModel(
        likelihood=vae.Autoregressive(),
        network=vae.Gated(width=300, depth=2),
        num_latent=40,
        objective=vae.ELBO(num_warm_up=400),
        weight_decay=0.1,
    ),
    Train(steps=1250, batch_size=100, keep="best", valid_every=125, average=0.99),
    space=Categorical,
)

vae_faces = _recipe(
    "vae_faces",
    "Faces of 64 x 64 pixels by convolutions and discretised logistics: for attribute vectors such as the smile",
    "faces",
    VAEModel(network=vae.Convolutional(), num_latent=64),
    Train(steps=20_000, batch_size=64, keep="best", valid_every=1000),
    space=Categorical,
    num_importance=500,
)

vae_gaussian = _recipe(
    "vae_gaussian",
    "Variational autoencoder of a table, normal with a learned scale for each column",
    "uci_protein",
    VAEModel(network=vae.Plain(width=128), num_latent=6),
    Train(steps=10_000, batch_size=256, keep="best", valid_every=500),
    space=Euclidean,
)
