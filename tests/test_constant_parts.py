"""A standard normal is a constant part of a model: a prior or a base, which training leaves as it is."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest
import table

import lnz
from lnz.latent import VAE

DECAY = optax.adamw(0.1, weight_decay=0.5)


def line(num_out, num_in, seed):
    return lnz.nets.Linear.from_parameters(table.normal(seed, num_out, num_in), jnp.zeros(num_out))


def vae(prior):
    return VAE(
        prior,
        lnz.distributions.ConditionalNormal(line(3, 2, 0), 1.0),
        lnz.distributions.ConditionalNormal(line(2, 3, 1), 1.0),
    )


def flow(base):
    return lnz.Transformed(base, lnz.bijections.Affine(jnp.ones(2), 2.0))


PARTS = {
    "prior": (vae, lnz.objectives.ELBO(), 3, lambda model: model.prior),
    "base": (flow, lnz.objectives.MaximumLikelihood(), 2, lambda model: model.base),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_standard_normal_stays_standard_and_another_normal_is_learned(name):
    make, objective, num, part = PARTS[name]
    x = 3 + table.normal(2, 20, num)

    def fitted(normal):
        return lnz.fit(jr.key(0), make(normal), lnz.Gradient(objective, DECAY), x, steps=3).model

    start = make(lnz.Normal.standard(2))
    constant, learned = fitted(lnz.Normal.standard(2)), fitted(lnz.Normal(jnp.zeros(2), 1.0))
    assert eqx.tree_equal(part(constant), part(start))
    assert not eqx.tree_equal(constant, start)
    assert jnp.all(part(learned).loc != 0)
    assert jnp.all(part(learned).log_scale != 0)


def num_trained(model):
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, lnz.trainable(model))))


def test_what_is_trained():
    """Two numbers for each standard normal that is no constant."""
    bijection = lnz.bijections.Affine(jnp.ones(2), 2.0)
    assert num_trained(lnz.Normal.standard(2)) == 4  # on its own: there is nothing else to train
    assert num_trained(lnz.Frozen(lnz.Normal.standard(2))) == 0
    assert num_trained(lnz.Transformed(lnz.Normal.standard(2), bijection)) == num_trained(bijection)
    assert num_trained(lnz.Transformed(lnz.flows.base_for(lnz.Euclidean(2)), bijection)) == num_trained(bijection)
    assert num_trained(lnz.Transformed(lnz.Normal(jnp.zeros(2), 1.0), bijection)) == num_trained(bijection) + 4
    assert num_trained(lnz.ProductDistribution(lnz.Normal.standard(2), lnz.Laplace(jnp.zeros(3), 1.0))) == 6
    hierarchy = table.hierarchical("bottom_up")
    learned = lnz.modules._module.replace(hierarchy, top=lnz.Normal(jnp.zeros(1), 1.0))
    assert num_trained(learned) == num_trained(hierarchy) + 2

    def with_base(model):  # a filter made from the default one
        chosen = lnz.trainable(model)
        return eqx.tree_at(lambda model: model.base.loc, chosen, True)

    model = lnz.Transformed(lnz.Normal.standard(2), bijection)
    assert len(jax.tree.leaves(eqx.filter(model, with_base(model)))) == len(jax.tree.leaves(bijection)) + 1


class Line(eqx.Module):
    """Of a user: whether to add a constant term."""

    w: jax.Array
    constant: bool = eqx.field(static=True, default=True)


class Held(lnz.AbstractFixable):
    w: jax.Array
    constant: bool = eqx.field(static=True, default=True)


def test_only_a_declared_part_is_constant():
    assert num_trained((Line(jnp.ones(2)), jnp.ones(1))) == 3
    assert num_trained((Held(jnp.ones(2)), jnp.ones(1))) == 1
    assert num_trained((Held(jnp.ones(2), constant=False), jnp.ones(1))) == 3


LIKELIHOOD = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(0.1))


def test_nothing_to_train_is_an_error():
    model = lnz.ProductDistribution(lnz.Normal.standard(2), lnz.Normal.standard(1))
    words = r"no part of this ProductDistribution .*`model.parts\[0\]` \(Normal\), `model.parts\[1\]`.*`lnz.Normal\(jnp"
    with pytest.raises(ValueError, match=words):
        lnz.fit(jr.key(0), model, LIKELIHOOD, table.normal(3, 20, 3), steps=1)
    with pytest.raises(ValueError, match=r"Uniform has no floating-point arrays"):
        lnz.fit(jr.key(0), lnz.Uniform(2), LIKELIHOOD, jnp.full((5, 2), 0.3), steps=1)
    of_none = lnz.Gradient(LIKELIHOOD.objective, optax.sgd(0.1), filter=lambda m: jax.tree.map(lambda _: False, m))
    with pytest.raises(ValueError, match=r"`Gradient\(filter=...\)` selects no array of this Normal"):
        lnz.fit(jr.key(0), lnz.Normal(jnp.zeros(2), 1.0), of_none, table.normal(3, 20, 2), steps=1)


def test_a_normal_that_has_moved_is_no_standard_one():
    start, x = lnz.Normal.standard(2), 3 + table.normal(3, 20, 2)
    for method in (LIKELIHOOD, lnz.EM()):
        fitted = lnz.fit(jr.key(0), start, method, x, steps=2).model
        assert fitted.constant is False
        assert num_trained(flow(fitted)) == num_trained(flow(start)) + 4
    assert start.with_natural(start.natural).constant is False
    assert start.with_expected_statistics(start.expected_statistics()).constant is False


def test_what_a_network_moves_is_no_constant():
    """Of a posterior all that depends on x is a parameter: to the search for a better one of the same kind, too."""
    standard, planar = lnz.Normal.standard(2), lnz.flows.planar(lnz.Euclidean(2), key=jr.key(0), num_layers=1)

    def made(template, **options):
        conditional = lnz.Conditional.of(template, 3, key=jr.key(1), width=4, depth=1, **options)
        return eqx.filter_eval_shape(conditional, jnp.ones(3))

    assert made(standard).constant is False
    assert made(standard, where=lambda normal: normal.loc).constant is False
    assert made(lnz.Transformed(standard, planar)).base.constant is False
    assert made(lnz.Transformed(standard, planar), where=lambda flow: flow.base.loc).base.constant is False
    assert made(lnz.Transformed(standard, planar), where=lambda flow: flow.bijection).base.constant is True
    masked = lnz.Transformed(standard, table.flow("masked_autoregressive", 2))
    assert made(masked).base.constant is True
    assert num_trained(lnz.Conditional(lnz.Frozen(standard), line(4, 3, 5))) == 16


def test_model_files_know_what_is_constant(tmp_path):
    model = lnz.ProductDistribution(lnz.Normal.standard(2), lnz.Normal(jnp.ones(3), 2.0))
    lnz.save(tmp_path / "model.lnz", model)
    again = lnz.load(tmp_path / "model.lnz")
    assert eqx.tree_equal(again, model)
    assert num_trained(again) == num_trained(model) == 6
