"""How recipes of densities are fitted: rates that fall to zero, and a standardisation that stays as it is."""

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
    """How fast weights decay."""


def falling_rate(settings, num_rising=0):
    """The learning rate: it rises from zero in `num_rising` steps, and falls to zero along a half cosine."""
    most, steps = settings.model.learning_rate, settings.train.steps
    if not num_rising:
        return optax.cosine_decay_schedule(most, steps)
    return optax.warmup_cosine_decay_schedule(0.0, most, num_rising, steps)


def decayed_adam(settings, mask=None, num_rising=0):
    """Adam with decay of the weights (those that `mask` chooses), a rate that falls to zero, and a limit on steps."""
    adam = optax.adamw(falling_rate(settings, num_rising), weight_decay=settings.model.weight_decay, mask=mask)
    return optax.chain(optax.clip_by_global_norm(5.0), adam)


def are_matrices(params):
    """Which parameters are weights: not biases, nor what a likelihood starts from, whose zero means nothing."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def all_but_standardisation(model):
    """What is trained: not the standardisation, which is the only bijection or the last of a chain."""
    return eqx.tree_at(_standardisation, trainable(model), replace_fn=all_false)


def _standardisation(model):
    return model.bijection.bijections[-1] if isinstance(model.bijection, Chain) else model.bijection


def all_false(tree):
    return jax.tree.map(lambda _: False, tree)
