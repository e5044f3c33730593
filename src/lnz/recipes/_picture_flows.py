"""Recipes of flows for pictures: densities of pixels plus noise, as models of the pixels."""

import jax.random as jr

from .. import normalizers, objectives
from ..bijections import Chain, Inverse, MaskedAutoregressive, Permutation, Scan, Sigmoid, SplineTransformer
from ..distributions import Normal, Transformed, Uniform
from ..flows import glow
from ..latent import Dequantised, SplineNoise
from ..methods import Gradient
from ..nets import MLP, MaskedMLP
from ..runs import Count, Data, Group, Recipe, Settings, Several, Train
from ..spaces import Categorical, Euclidean, Interval
from ._fitting import Rated, decayed_adam


class BitsModel(Rated):
    """An autoregressive flow of bits with noise that a network chooses."""

    num_layers: Count = 3
    """Layers, one after another."""
    width: Count = 128
    """Units of the hidden layer of each masked network."""
    num_bins: Several = 2
    """Pieces of each spline."""
    noise_width: Count = 64
    """Units of the hidden layer of the network that chooses the noise."""


class GlowModel(Rated):
    """Glow of pictures with uniform noise."""

    num_levels: Count = 2
    """Scales; each halves the height and the width of pictures."""
    num_steps: Count = 16
    """Steps per scale: normalisation, mixing of channels, coupling."""
    width: Count = 256
    """Channels of the hidden layers of couplings."""


class Bounded(Group):
    """Log-likelihoods by importance-weighted bounds."""

    num_samples: Several
    """Draws of the noise in each bound."""
    num_repeats: Several
    """Estimates of the bound of each row, at least 2 so that there is an error bar."""
    num_samples_while_training: Several
    """Draws of the noise for each row, in validations during training."""


class BitsSettings(Settings):
    model: BitsModel
    evaluate: Bounded


class GlowSettings(Settings):
    model: GlowModel
    evaluate: Bounded


def _build_digits(key, splits, settings: BitsSettings):
    """Splines on the box [0, 2]^n over uniform noise. Bins may end at the borders of bits, so no mass is cut off."""
    chosen, num = settings.model, splits.space.size
    box, splines = Interval(num, 0.0, 2.0), SplineTransformer(chosen.num_bins, 0.0, 2.0)
    key_flow, key_noise = jr.split(key)

    def layer(key):
        key_net, key_order = jr.split(key)
        net = MaskedMLP(num, splines.num_params, key=key_net, width=chosen.width, depth=1, last_scale=0.0)
        mix = Permutation(jr.permutation(key_order, num), box)
        return Chain(mix, Inverse(MaskedAutoregressive(box, net, splines)))

    layers = Scan.of(layer, jr.split(key_flow, chosen.num_layers))
    flow = Transformed(Uniform(num, 0.0, 2.0), layers)
    model = Dequantised(flow, splits.space, _noise(key_noise, num, chosen))
    return model, Gradient(objectives.ELBO(), decayed_adam(settings))


def _build_mnist(key, splits, settings: GlowSettings):
    chosen, space = settings.model, splits.space
    if splits.image_shape is None or len(splits.image_shape) != 2:
        raise ValueError(f"`{splits.name}`: Glow needs pictures; got rows of {space.size} numbers.")
    num, num_values = space.size, space.num_values
    layers = glow(
        Euclidean(num),
        key=key,
        num_levels=chosen.num_levels,
        num_steps=chosen.num_steps,
        width=chosen.width,
        image_shape=splits.image_shape,
    )
    onto_box = Sigmoid(Interval(num, 0.0, float(num_values)))
    model = Dequantised(Transformed(Normal.standard(num), Chain(layers, onto_box)), space)
    return model, Gradient(objectives.ELBO(), decayed_adam(settings))


def _noise(key, num, chosen):
    splines = SplineTransformer(4, 0.0, 1.0)
    net = MLP(num, (splines.num_params, num), key=key, width=chosen.noise_width, depth=1, last_scale=0.0)
    return SplineNoise(net, splines)


def _hidden(settings):
    """Importance-weighted bounds: with 64 latents, importance weights give no reliable error bar of their mean."""
    chosen = settings.evaluate
    return normalizers.Bound(chosen.num_repeats, num_weights=chosen.num_samples)


def _hidden_while_training(settings):
    return normalizers.Importance(settings.evaluate.num_samples_while_training)


flow_digits = Recipe(
    name="flow_digits",
    title="Autoregressive splines of bits with variational noise: a lower bound",
    build=_build_digits,
    settings=BitsSettings(
        data=Data(source="binary_digits"),
        model=BitsModel(learning_rate=6e-3, weight_decay=1e-4),
        train=Train(steps=4500, batch_size=100, keep="best", average=0.99),
        evaluate=Bounded(num_samples=100, num_repeats=3, num_samples_while_training=10),
    ),
    hidden=_hidden,
    hidden_while_training=_hidden_while_training,
)

flow_mnist = Recipe(
    name="flow_mnist",
    title="Glow of grey MNIST with uniform noise, in bits per pixel: for a GPU",
    space=Categorical,
    build=_build_mnist,
    settings=GlowSettings(
        data=Data(source="mnist"),
        model=GlowModel(),
        train=Train(steps=100_000, batch_size=128, valid_every=10_000, average=0.999),
        # The evaluation passes 1 million pictures (100 for each of 10,000 test rows), the training 12.8 million.
        evaluate=Bounded(num_samples=50, num_repeats=2, num_samples_while_training=2),
    ),
    hidden=_hidden,
    hidden_while_training=_hidden_while_training,
)
