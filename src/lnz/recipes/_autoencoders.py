"""Variational autoencoders: one builder, of which every factor is a setting."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .. import flows, gradients, normalizers, objectives
from ..distributions import (
    AutoregressiveLogistic,
    Bernoulli,
    Conditional,
    DiscretisedLogistic,
    Mixture,
    MultivariateNormal,
    Normal,
    Transformed,
    num_moved,
)
from ..latent import VAE, Hierarchical, TopDown, VampPrior
from ..methods import Gradient
from ..modules import trainable
from ..nets import MLP, ConvDecoder, ConvEncoder, GatedMLP, Standardised
from ..runs import Recipe, column_moments
from ..spaces import AbstractSpace, Binary, Categorical, Euclidean
from ._fitting import all_false, are_matrices, decayed_adam
from ._tables import standardisation, table_moments, warn_of_atoms

_GRADIENTS = {
    "reparameterised": gradients.Pathwise,
    "doubly_reparameterised": gradients.DoublyReparameterised,
    "sticking_the_landing": gradients.StickingTheLanding,
}
_CHOICES = {
    "model.likelihood": ("independent", "autoregressive"),
    "model.network": ("mlp", "gated", "conv"),
    "model.posterior": ("normal", "full", "planar", "iaf"),
    "model.prior": ("normal", "mixture", "vampprior", "flow"),
    "model.objective": ("elbo", "iwae"),
    "model.gradient": tuple(_GRADIENTS),
}
_WITH_ELBO = {"model.objective": ("elbo",)}
_WITH_DENSE = {"model.network": ("mlp", "gated"), "model.num_layers": (2,)}
_AUTOREGRESSIVE = {"model.likelihood": ("autoregressive",)}
_BELONGS = {
    "model.radius": _AUTOREGRESSIVE,
    "model.num_context": _AUTOREGRESSIVE,
    "model.pixel_width": _AUTOREGRESSIVE,
    "model.width": _WITH_DENSE,
    "model.depth": _WITH_DENSE,
    "model.num_flow_layers": {"model.posterior": ("planar", "iaf")},
    "model.flow_width": {"model.posterior": ("iaf",), "model.prior": ("flow",)},
    "model.num_components": {"model.prior": ("mixture", "vampprior")},
    "model.beta": _WITH_ELBO,
    "model.num_warm_up": _WITH_ELBO,
    "model.free_bits": _WITH_ELBO,
    "model.gradient": {"model.objective": ("iwae",)},
}


def _build(key, splits, settings):
    chosen, num_latent = settings["model"], settings["model"]["num_latent"]
    keys = jr.split(key, 5)
    template, where = _likelihood(keys[4], splits, chosen)
    decoder = _conditional(template, num_latent, keys[0], splits, chosen, where, is_decoder=True)
    posterior, where = _posterior(keys[1], num_latent, chosen)
    if chosen["num_layers"] == 1:
        encoder = _conditional(posterior, splits.space.size, keys[2], splits, chosen, where)
        model = VAE(_prior(keys[3], num_latent, splits, chosen), decoder, encoder)
    else:
        model = _hierarchy(keys, splits, chosen, decoder)
    objective = _objective(chosen, settings["train"]["steps"])
    return model, Gradient(objective, decayed_adam(settings, are_matrices), _all_but_units)


def _all_but_units(model):
    """What is trained: not the units of a table."""
    chosen = trainable(model)
    if isinstance(_template(model), Transformed):
        chosen = eqx.tree_at(lambda model: _template(model).bijection, chosen, replace_fn=all_false)
    return chosen


def _template(model):
    return model.decoder.template


def _objective(chosen, num_steps):
    num = chosen["num_samples"]
    if chosen["objective"] == "iwae":
        return objectives.IWAE(num, _GRADIENTS[chosen["gradient"]]())
    if chosen["num_warm_up"] >= num_steps:
        warnings.warn(
            f"`model.num_warm_up={chosen['num_warm_up']}` is not over after `train.steps={num_steps}`: the KL never "
            "gets its full weight. Set it lower.",
            stacklevel=2,
        )
    options = {name: chosen[name] for name in ("beta", "num_warm_up", "free_bits")}
    return objectives.ELBO(num, **options)


def _hierarchy(keys, splits, chosen, decoder):
    """Two layers of latents; the decoder sees both, the lower layer's posterior x and the upper one."""
    if chosen["num_layers"] != 2 or chosen["posterior"] != "normal":
        raise ValueError(
            f"`model.num_layers` must be 1, or 2 with `model.posterior=normal`; got {chosen['num_layers']} with "
            f"{chosen['posterior']!r}."
        )
    num, half = splits.space.size, chosen["num_latent"] // 2
    lower, upper = chosen["num_latent"] - half, half
    key_up, key_down, key_infer, key_top = jr.split(keys[2], 4)
    infer_upper = _conditional(Normal.standard(upper), num, key_up, splits, chosen)
    # Of x and the upper layer together: the network of pictures alone will not do.
    net = _network(num + upper, 2 * lower, key_infer, chosen)
    if not isinstance(splits.space, Binary):
        means, scales = _moments(splits)
        net = Standardised(net, np.append(means, np.zeros(upper)), np.append(scales, np.ones(upper)))
    encoder = TopDown(infer_upper, Conditional(Normal.standard(lower), net))
    below = Conditional(Normal.standard(lower), _network(upper, 2 * lower, key_down, chosen))
    top = _prior(key_top, upper, splits, chosen)
    return Hierarchical(top, (below,), decoder, encoder, skip=True)


def _conditional(template, num_in, key, splits, chosen, where=None, is_decoder=False):
    num_out = num_moved(template, where)
    if chosen["network"] == "conv":
        rows, columns = _image_shape(splits, "model.network=conv")
        if is_decoder:
            made = ConvDecoder(num_in, (num_out // (rows * columns), rows, columns), key=key)
        else:
            made = ConvEncoder((1, rows, columns), num_out, key=key)
    else:
        made = _network(num_in, num_out, key, chosen)
    if not is_decoder and not isinstance(splits.space, Binary):
        made = Standardised(made, *_moments(splits))
    return Conditional(template, made, where)


def _image_shape(splits, setting):
    if splits.image_shape is None or len(splits.image_shape) != 2:
        raise ValueError(f"`{setting}` needs pictures; `{splits.name}` has rows of {splits.space.size} numbers.")
    return splits.image_shape


def _network(num_in, num_out, key, chosen):
    make = GatedMLP if chosen["network"] == "gated" else MLP
    # Near zero at the start: every posterior is near the prior, and every pixel at its base rate.
    return make(num_in, num_out, key=key, width=chosen["width"], depth=chosen["depth"], last_scale=0.1)


def _likelihood(key, splits, chosen):
    """A distribution of x that starts as that of the training data, and which of its arrays the latents move."""
    means, _ = column_moments(splits.train)
    is_autoregressive = chosen["likelihood"] == "autoregressive"
    if is_autoregressive and not isinstance(splits.space, Categorical):
        raise ValueError(f"`model.likelihood=autoregressive` needs grey values; `{splits.name}` is of {splits.space}.")
    if isinstance(splits.space, Binary):
        num = len(splits.train)
        rates = (num * means + 1) / (num + 2)
        return Bernoulli(jnp.asarray(np.log(rates) - np.log1p(-rates), "float32")), None
    if isinstance(splits.space, Categorical):
        num_values, scales = splits.space.num_categories, _moments(splits)[1]
        # Its standard deviation is 1.8 scales.
        parts = (means + 0.5) / num_values, scales / (1.8 * num_values), num_values
        if is_autoregressive:
            options = {"radius": chosen["radius"], "num_context": chosen["num_context"], "width": chosen["pixel_width"]}
            image_shape = _image_shape(splits, "model.likelihood=autoregressive")
            grey = AutoregressiveLogistic.of(*parts, key=key, image_shape=image_shape, **options)
            return grey, lambda grey: (grey.loc, grey.context)
        grey = DiscretisedLogistic(*parts)
        return grey, lambda grey: grey.loc  # a scale for each pixel: one that z moves learns the training rows by heart
    num = splits.space.size
    # A scale for each column that does not depend on z: where it did, a density could grow on single rows for ever.
    template = Transformed(Normal.standard(num), standardisation(splits))
    warn_of_atoms(splits)
    return template, lambda likelihood: likelihood.base.loc


def _moments(splits):
    if isinstance(splits.space, Euclidean):  # columns may have any units
        return table_moments(splits)
    means, scales = column_moments(splits.train)
    return means, np.maximum(scales, 1e-3 * max(scales.max(), 1e-30))


def _posterior(key, num, chosen):
    kind = chosen["posterior"]
    normal = Normal.standard(num)
    if kind == "normal":
        return normal, None
    if kind == "full":
        return MultivariateNormal(jnp.zeros(num), jnp.eye(num)), None
    if kind == "planar":
        layers = flows.planar(Euclidean(num), key=key, num_layers=chosen["num_flow_layers"])
        return Transformed(normal, layers), None
    options = {"num_layers": chosen["num_flow_layers"], "width": chosen["flow_width"], "depth": 1}
    layers = flows.inverse_autoregressive(Euclidean(num), key=key, **options)
    return Transformed(normal, layers), _base_and_first_biases


def _base_and_first_biases(flow):
    """The base, and what lets each autoregressive layer see x."""
    nets = [node for node in jax.tree.leaves(flow.bijection, is_leaf=_has_biases) if _has_biases(node)]
    return flow.base.loc, flow.base.log_scale, *(net.biases[0] for net in nets)


def _has_biases(node):
    return hasattr(node, "biases")


def _prior(key, num, splits, chosen):
    kind = chosen["prior"]
    if kind == "normal":
        return Normal.standard(num)
    if kind == "vampprior":
        return VampPrior.of(splits.space, chosen["num_components"], key=key)
    if kind == "mixture":
        num_components = chosen["num_components"]
        return Mixture(jnp.zeros(num_components), Normal(jr.normal(key, (num_components, num)), 1.0))
    layers = flows.masked_autoregressive(Euclidean(num), key=key, num_layers=2, width=chosen["flow_width"], depth=1)
    return Transformed(Normal.standard(num), layers)


def _hidden(settings):
    return normalizers.Importance(settings["evaluate"]["num_samples"])


def _hidden_while_training(settings):
    return normalizers.Importance(settings["evaluate"]["num_samples_while_training"])


_MODEL = {
    "likelihood": "independent",
    "radius": 3,
    "num_context": 8,
    "pixel_width": 48,
    "network": "mlp",
    "width": 500,
    "depth": 1,
    "num_latent": 20,
    "num_layers": 1,
    "posterior": "normal",
    "num_flow_layers": 4,
    "flow_width": 64,
    "prior": "normal",
    "num_components": 500,
    "objective": "elbo",
    "num_samples": 1,
    "gradient": "reparameterised",
    "beta": 1.0,
    "num_warm_up": 0,
    "free_bits": 0.0,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
}


def _recipe(name, title, data, train, space: type[AbstractSpace] = Binary, num_importance=5000, **model):
    return Recipe(
        name=name,
        title=title,
        data=data,
        space=space,
        build=_build,
        choices=_CHOICES,
        belongs=_BELONGS,
        model={**_MODEL, **model},
        train=train,
        evaluate={"num_samples": num_importance, "num_samples_while_training": 50},
        hidden=_hidden,
        hidden_while_training=_hidden_while_training,
    )


_DIGITS = {"width": 256, "num_latent": 16, "learning_rate": 2e-3, "weight_decay": 0.1}
_MNIST = {"width": 300, "depth": 2, "num_latent": 40, "num_warm_up": 10_000, "learning_rate": 5e-4}
_MNIST_TRAIN = {"steps": 200_000, "batch_size": 128, "keep": "best", "valid_every": 10_000}

vae_digits = _recipe(
    "vae_digits",
    "Variational autoencoder of small digits, IWAE-8: a lower bound by importance sampling",
    "binary_digits",
    {"steps": 3000, "batch_size": 128, "keep": "best", "valid_every": 300},
    posterior="full",
    objective="iwae",
    num_samples=8,
    **_DIGITS,
)

vae_mnist = _recipe(
    "vae_mnist",
    "Variational autoencoder of binarized MNIST by the ELBO: short on a CPU by `--set train.steps=20000`",
    "binary_mnist",
    _MNIST_TRAIN,
    **_MNIST,
)

vae_mnist_conv = _recipe(
    "vae_mnist_conv",
    "The same with strided convolutions and their transposes",
    "binary_mnist",
    _MNIST_TRAIN,
    **{**_MNIST, "network": "conv"},
)

iwae_mnist = _recipe(
    "iwae_mnist",
    "Importance-weighted autoencoder of binarized MNIST, 50 draws: for a GPU",
    "binary_mnist",
    _MNIST_TRAIN,
    objective="iwae",
    gradient="doubly_reparameterised",
    num_samples=50,
    **{**_MNIST, "num_latent": 50, "num_warm_up": 0},
)

vae_mnist_planar = _recipe(
    "vae_mnist_planar",
    "A posterior of 80 amortised planar layers: for a GPU",
    "binary_mnist",
    _MNIST_TRAIN,
    posterior="planar",
    num_flow_layers=80,
    **_MNIST,
)

vae_mnist_iaf = _recipe(
    "vae_mnist_iaf",
    "A posterior of 4 inverse autoregressive layers that see x",
    "binary_mnist",
    _MNIST_TRAIN,
    posterior="iaf",
    **{**_MNIST, "flow_width": 320},
)

vampprior_mnist = _recipe(
    "vampprior_mnist",
    "VampPrior of 500 pseudo-inputs, gated networks",
    "binary_mnist",
    _MNIST_TRAIN,
    prior="vampprior",
    **{**_MNIST, "network": "gated"},
)

hvae_mnist = _recipe(
    "hvae_mnist",
    "Two layers of latents with a VampPrior on top, gated networks",
    "binary_mnist",
    _MNIST_TRAIN,
    prior="vampprior",
    num_layers=2,
    **{**_MNIST, "network": "gated", "num_latent": 80},
)

vae_frey = _recipe(
    "vae_frey",
    "Frey faces by logistics that see the pixels before them, in bits a pixel",
    "frey",
    {"steps": 1250, "batch_size": 100, "keep": "best", "valid_every": 125, "average": 0.99},
    space=Categorical,
    likelihood="autoregressive",
    num_latent=40,
    width=300,
    depth=2,
    network="gated",
    learning_rate=1e-3,
    weight_decay=0.1,
    num_warm_up=400,
)

vae_faces = _recipe(
    "vae_faces",
    "Faces of 64 x 64 pixels by convolutions and discretised logistics: for attribute vectors such as the smile",
    "faces",
    {"steps": 20_000, "batch_size": 64, "keep": "best", "valid_every": 1000},
    space=Categorical,
    num_importance=500,
    network="conv",
    num_latent=64,
)

vae_gaussian = _recipe(
    "vae_gaussian",
    "Variational autoencoder of a table, normal with a learned scale for each column",
    "uci_protein",
    {"steps": 10_000, "batch_size": 256, "keep": "best", "valid_every": 500},
    space=Euclidean,
    width=128,
    num_latent=6,
)
