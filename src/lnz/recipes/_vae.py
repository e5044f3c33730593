"""The parts of a variational autoencoder: each is a choice, with its settings and its builder."""

import warnings
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
import jax.random as jr
from pydantic import Field

from .. import flows, gradients, objectives
from ..distributions import (
    AutoregressiveLogistic,
    DiscretisedLogistic,
    Mixture,
    MultivariateNormal,
    Normal,
    Transformed,
)
from ..latent import VampPrior
from ..nets import MLP, ConvDecoder, ConvEncoder, GatedMLP
from ..runs import Choice, Count, CountOrZero, NotNegative
from ..spaces import Euclidean

_GRADIENTS = {
    "reparameterised": gradients.Pathwise(),
    "doubly_reparameterised": gradients.DoublyReparameterised(),
    "sticking_the_landing": gradients.StickingTheLanding(),
}


def image_shape(splits, setting):
    """**Raises:** `ValueError` for data that are not grey pictures; the message names the setting that needs them."""
    if splits.image_shape is None or len(splits.image_shape) != 2:
        raise ValueError(f"`{setting}` needs pictures; `{splits.name}` has rows of {splits.space.size} numbers.")
    return splits.image_shape


class Independent(Choice):
    """Pixels independent of each other given the latents."""

    kind: Literal["independent"] = "independent"

    def grey(self, parts, splits, key):
        """A distribution of grey values, and a selector of its arrays that the latents move."""
        grey = DiscretisedLogistic(*parts)
        return grey, lambda grey: grey.loc  # not the scales: moved by z, they would overfit the training rows


class Autoregressive(Choice):
    """Grey pixels that depend on the latents and on the pixels before them."""

    kind: Literal["autoregressive"] = "autoregressive"
    radius: Count = 3
    """Distance in pixels over which a pixel depends on others."""
    num_context: Count = 8
    """Numbers per pixel that the latents pass to it beside its mean."""
    width: Count = 48
    """Channels of the network over the neighbours."""

    def grey(self, parts, splits, key):
        shape = image_shape(splits, "model.likelihood=autoregressive")
        sizes = {"radius": self.radius, "num_context": self.num_context, "width": self.width}
        grey = AutoregressiveLogistic.of(*parts, key=key, image_shape=shape, **sizes)
        return grey, lambda grey: (grey.loc, grey.context)


class _Dense(Choice):
    layer: ClassVar = MLP
    width: Count = 500
    """Units of each hidden layer."""
    depth: Count = 1
    """Hidden layers."""

    def encoder(self, num_in, num_out, splits, key):
        return dense(self.layer, num_in, num_out, self, key)

    def decoder(self, num_in, num_out, splits, key):
        return dense(self.layer, num_in, num_out, self, key)


def dense(layer, num_in, num_out, sizes, key):
    # Outputs start near zero, so that every posterior is near the prior, and every pixel at its base rate.
    return layer(num_in, num_out, key=key, width=sizes.width, depth=sizes.depth, last_scale=0.1)


class Plain(_Dense):
    """Fully connected layers with rectifiers."""

    kind: Literal["mlp"] = "mlp"


class Gated(_Dense):
    """Fully connected layers with gated units."""

    layer: ClassVar = GatedMLP
    kind: Literal["gated"] = "gated"


class Convolutional(Choice):
    """Strided convolutions, and their transposes in the decoder, for pictures."""

    layer: ClassVar = MLP
    kind: Literal["conv"] = "conv"

    def encoder(self, num_in, num_out, splits, key):
        return ConvEncoder((1, *image_shape(splits, "model.network=conv")), num_out, key=key)

    def decoder(self, num_in, num_out, splits, key):
        rows, columns = image_shape(splits, "model.network=conv")
        return ConvDecoder(num_in, (num_out // (rows * columns), rows, columns), key=key)


class OneLayer(Choice):
    """All latents at once."""

    kind: Literal["one"] = "one"


class TwoLayers(Choice):
    """Half of the latents above the other half; the decoder sees both."""

    kind: Literal["two"] = "two"
    width: Count = 300
    """Units of each hidden layer of the networks between the layers of latents."""
    depth: Count = 2
    """Hidden layers of the networks between the layers of latents."""


class NormalPosterior(Choice):
    """Independent normals."""

    kind: Literal["normal"] = "normal"

    def template(self, num, key):
        """A distribution of the latents, and a selector of its arrays that x moves, or `None` for all arrays."""
        return Normal.standard(num), None


class FullPosterior(Choice):
    """A normal with a full covariance for each x."""

    kind: Literal["full"] = "full"

    def template(self, num, key):
        return MultivariateNormal(jnp.zeros(num), jnp.eye(num)), None


class PlanarPosterior(Choice):
    """Planar layers over a normal; x sets all their parameters."""

    kind: Literal["planar"] = "planar"
    num_layers: Count = 4
    """Layers of the flow."""

    def template(self, num, key):
        layers = flows.planar(Euclidean(num), key=key, num_layers=self.num_layers)
        return Transformed(Normal.standard(num), layers), None


class AutoregressivePosterior(Choice):
    """Inverse autoregressive layers over a normal; the layers see x."""

    kind: Literal["iaf"] = "iaf"
    num_layers: Count = 4
    """Layers of the flow."""
    width: Count = 64
    """Units of the hidden layer of each."""

    def template(self, num, key):
        sizes = {"num_layers": self.num_layers, "width": self.width, "depth": 1}
        layers = flows.inverse_autoregressive(Euclidean(num), key=key, **sizes)
        return Transformed(Normal.standard(num), layers), _base_and_first_biases


def _base_and_first_biases(flow):
    """The base, and the biases by which each autoregressive layer sees x."""
    nets = [node for node in jax.tree.leaves(flow.bijection, is_leaf=_has_biases) if _has_biases(node)]
    return flow.base.loc, flow.base.log_scale, *(net.biases[0] for net in nets)


def _has_biases(node):
    return hasattr(node, "biases")


class NormalPrior(Choice):
    """The standard normal."""

    kind: Literal["normal"] = "normal"

    def build(self, num, space, key):
        return Normal.standard(num)


class MixturePrior(Choice):
    """A mixture of learned normals."""

    kind: Literal["mixture"] = "mixture"
    num_components: Count = 500
    """Components of the mixture."""

    def build(self, num, space, key):
        means = jr.normal(key, (self.num_components, num))
        return Mixture(jnp.zeros(self.num_components), Normal(means, 1.0))


class VampPriorOf(Choice):
    """The mixture of the posteriors at learned pseudo-inputs."""

    kind: Literal["vampprior"] = "vampprior"
    num_components: Count = 500
    """Components of the mixture."""

    def build(self, num, space, key):
        return VampPrior.of(space, self.num_components, key=key)


class FlowPrior(Choice):
    """Two masked autoregressive layers over a normal."""

    kind: Literal["flow"] = "flow"
    width: Count = 64
    """Units of the hidden layer of each."""

    def build(self, num, space, key):
        layers = flows.masked_autoregressive(Euclidean(num), key=key, num_layers=2, width=self.width, depth=1)
        return Transformed(Normal.standard(num), layers)


class ELBO(Choice):
    """The evidence lower bound."""

    kind: Literal["elbo"] = "elbo"
    num_samples: Count = 1
    """Draws of the latents for each row of a step."""
    beta: NotNegative = 1.0
    """Weight of the KL."""
    num_warm_up: CountOrZero = 0
    """Steps over which the weight of the KL rises from zero; 0 for none."""
    free_bits: NotNegative = 0.0
    """Nats of KL per latent dimension that are not penalised."""

    def build(self, num_steps):
        if self.num_warm_up >= num_steps:
            warnings.warn(
                f"`model.objective.num_warm_up={self.num_warm_up}` is not over after `train.steps={num_steps}`: the KL "
                "never gets its full weight. Set it lower.",
                stacklevel=2,
            )
        return objectives.ELBO(**self.model_dump(exclude={"kind"}))


class IWAE(Choice):
    """The importance-weighted bound of several draws."""

    kind: Literal["iwae"] = "iwae"
    num_samples: Count = 1
    """Draws of the latents for each row of a step."""
    gradient: Literal["reparameterised", "doubly_reparameterised", "sticking_the_landing"] = "reparameterised"
    """Estimator of the encoder's gradient."""

    def build(self, num_steps):
        return objectives.IWAE(self.num_samples, _GRADIENTS[self.gradient])


Likelihood = Annotated[Independent | Autoregressive, Field(discriminator="kind")]
Network = Annotated[Plain | Gated | Convolutional, Field(discriminator="kind")]
Layers = Annotated[OneLayer | TwoLayers, Field(discriminator="kind")]
Posterior = Annotated[
    NormalPosterior | FullPosterior | PlanarPosterior | AutoregressivePosterior, Field(discriminator="kind")
]
Prior = Annotated[NormalPrior | MixturePrior | VampPriorOf | FlowPrior, Field(discriminator="kind")]
Objective = Annotated[ELBO | IWAE, Field(discriminator="kind")]
