"""Shared parts of recipes: learning rates that fall to zero, optimizers, and filters of trainable arrays."""

import equinox as eqx
import jax
import optax

from ..bijections import Chain
from ..modules import trainable
from ..runs import Group, NotNegative, Positive


class Rated(Group):
    """Settings of a model that is trained by gradients."""

    learning_rate: Positive = 1e-3
    """Highest learning rate; it falls to zero."""
    weight_decay: NotNegative = 0.0
    """Coefficient of the weight decay."""


def falling_rate(settings, num_rising=0):
    """A learning rate that rises from zero in `num_rising` steps and falls to zero along half a cosine."""
    most, steps = settings.model.learning_rate, settings.train.steps
    if not num_rising:
        return optax.cosine_decay_schedule(most, steps)
    return optax.warmup_cosine_decay_schedule(0.0, most, num_rising, steps)


def decayed_adam(settings, mask=None, num_rising=0):
    """Adam with weight decay (where `mask` is true), a rate that falls to zero, and gradient clipping."""
    adam = optax.adamw(falling_rate(settings, num_rising), weight_decay=settings.model.weight_decay, mask=mask)
    return optax.chain(optax.clip_by_global_norm(5.0), adam)


def are_matrices(params):
    """A mask of the weights: not biases, nor starting values of a likelihood, for which zero is arbitrary."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def all_but_standardisation(model):
    """A filter of the trainable arrays: all but the standardisation, the only bijection or the last of a chain."""
    return eqx.tree_at(_standardisation, trainable(model), replace_fn=all_false)


def _standardisation(model):
    return model.bijection.bijections[-1] if isinstance(model.bijection, Chain) else model.bijection


def all_false(tree):
    return jax.tree.map(lambda _: False, tree)
