"""Conditional bijections and distributions: a network of the context moves some parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.distributions import num_moved


def conditional(template, num_context=2, scale=0.3, **options):
    made = lnz.Conditional.of(template, num_context, key=jr.key(5), width=8, depth=1, **options)
    # The network's output starts at zero.
    return eqx.tree_at(lambda c: c.net, made, table.away_from_identity(made.net, scale))


def planar_like():
    """A template without networks: every variable by an affine map of its own."""
    raw = table.normal(400, 2, 2)
    return lnz.bijections.Elementwise(lnz.bijections.AffineTransformer(), raw)


def maf():
    return lnz.Transformed(lnz.Normal.standard(2), table.flow("masked_autoregressive", 2))


TEMPLATES = {
    "coupling": lambda: lnz.Transformed(lnz.Normal.standard(3), table.flow("realnvp", 3)),
    "maf": maf,
    "triangular": lambda: lnz.Transformed(lnz.Normal.standard(2), table.composed_bijection()),
    "no_network": lambda: lnz.Transformed(lnz.Normal.standard(2), planar_like()),
    "mixed": lambda: table.flow_onto(lnz.Product(lnz.Torus(1), lnz.Positive(1)), "realnvp"),
}


@pytest.mark.parametrize("make", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_vmap_over_contexts_is_a_loop(make, float64):
    model = conditional(make())
    contexts = table.normal(410, 3, 2)
    x = jnp.abs(table.normal(411, 3, *model.template.space.shape)) + 0.1

    @jax.jit
    def log_prob(context, x):
        return model(context).log_prob(x)

    together = jax.jit(jax.vmap(log_prob))(contexts, x)
    one_by_one = jnp.stack([log_prob(c, row) for c, row in zip(contexts, x, strict=True)])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12, atol=1e-12)
    # Contexts outside, examples inside: parameters then have fewer batch axes than examples.
    each_by_each = jax.jit(jax.vmap(lambda c: jax.vmap(lambda row: log_prob(c, row))(x)))(contexts)
    np.testing.assert_allclose(jnp.diagonal(each_by_each), together, rtol=1e-12, atol=1e-12)
    assert float(jnp.std(each_by_each[:, 0])) > 1e-3  # the context matters


def test_starts_as_its_template():
    template = maf()
    model = lnz.Conditional.of(template, 2, key=jr.key(0), width=8)
    x = jnp.array([0.3, -0.4])
    assert float(model(jnp.array([5.0, -7.0])).log_prob(x)) == float(template.log_prob(x))


def test_integrates_to_one_for_each_context(float64):
    # Smooth networks: at the kinks of others quadrature errs by 1e-4.
    smooth = lnz.Transformed(lnz.Normal.standard(2), table.flow("masked_autoregressive", 2, activation=jnp.tanh))
    model = conditional(smooth, scale=0.1)
    for context in table.normal(420, 2, 2):
        total = lnz.testing.exact_log_normalizer(model(context), num=401, bounds=(-16.0, 16.0))
        assert total == pytest.approx(0.0, abs=1e-6)


def test_gradient_is_that_of_finite_differences(float64):
    model = conditional(maf())
    params, rest = eqx.partition(model, lnz.trainable(model))
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    context, x = table.normal(430, 2), table.normal(431, 2)

    @jax.jit
    def log_prob(flat):
        return eqx.combine(unravel(flat), rest)(context).log_prob(x)

    direction = table.normal(432, *flat.shape)
    step = 1e-6
    difference = (log_prob(flat + step * direction) - log_prob(flat - step * direction)) / (2 * step)
    exact = jnp.dot(jax.grad(log_prob)(flat), direction)
    np.testing.assert_allclose(difference, exact, rtol=1e-6)


def test_the_first_variable_of_a_masked_flow_depends_on_the_context(float64):
    """It sees no hidden unit, so that biases of the first layer alone would not reach it."""
    template = lnz.flows.masked_autoregressive(lnz.Euclidean(1), key=jr.key(0), num_layers=1, width=8)
    model = conditional(template)
    contexts = table.normal(440, 2, 2)
    ys = [model(context).forward_and_log_det(jnp.array([0.5]))[0] for context in contexts]
    assert abs(float((ys[0] - ys[1])[0])) > 1e-3


def test_what_moves_is_chosen_by_where():
    template = maf()
    model = conditional(template, where=lambda flow: (flow.base.loc, flow.base.log_scale))
    assert num_moved(template, lambda flow: flow.base.loc) == 2
    moved = model(jnp.array([1.0, 2.0]))
    assert not jnp.array_equal(moved.base.loc, template.base.loc)
    assert all(
        jnp.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(moved.bijection), jax.tree.leaves(template.bijection), strict=True)
    )


def test_frozen_arrays_and_integers_do_not_move():
    class Template(eqx.Module):
        a: jax.Array
        b: lnz.Frozen
        c: jax.Array

    template = Template(jnp.ones(3), lnz.Frozen(jnp.ones(4)), jnp.arange(5))
    assert num_moved(template) == 3
    for where in (lambda t: t.b.value, lambda t: t.c, lambda t: ()):
        with pytest.raises(ValueError, match="must move floating-point arrays"):
            num_moved(template, where)
    with pytest.raises(ValueError, match=r"number for each of the 3 .* got \(2,\)"):
        lnz.Conditional(template, lambda context: context[:2])(jnp.ones(3))


def test_is_saved():
    lnz.testing.check_save(conditional(maf()))


def test_is_an_encoder():
    """A flow posterior for a VAE: its bound improves on that of the template, and stays below the evidence."""
    exact = table.linear_vae()
    template = lnz.Transformed(lnz.Normal.standard(2), lnz.flows.affine(lnz.Euclidean(2), key=jr.key(0)))
    encoder = lnz.Conditional.of(template, 3, key=jr.key(1), width=16, depth=1)
    vae = lnz.latent.VAE(exact.prior, exact.decoder, encoder)
    data = table.linear_vae_marginal().sample(jr.key(2), (256,))
    evidence = jnp.mean(jax.vmap(table.linear_vae_marginal().log_prob)(data))
    objective = lnz.objectives.ELBO()

    def bound(vae):
        return -objective.loss(jr.key(3), vae, objective.init(jr.key(3), vae, data), data)[0]

    method = lnz.Gradient(objective, optax.adam(1e-2))
    trained = lnz.fit(jr.key(4), vae, method, data, steps=300, batch_size=64).model
    before, after = float(bound(vae)), float(bound(trained))
    assert after > before + 0.1
    assert after < float(evidence) + 0.1  # one draw of 256 examples each: standard error about 0.03


def test_learns_a_conditional_density_from_rows():
    """`p(y | x)` with a mean and a spread that depend on x, from rows `[x, y]` alone."""
    key_x, key_y = jr.split(jr.key(6))
    x = jr.uniform(key_x, (2000, 1), minval=-1.0, maxval=1.0)
    y = jnp.sin(2 * x) + 0.1 * jnp.exp(x) * jr.normal(key_y, x.shape)
    template = lnz.Transformed(lnz.Normal.standard(1), lnz.bijections.Affine(jnp.zeros(1), 1.0))
    model = lnz.Joint(
        lnz.Uniform(1, -1.0, 1.0),
        lnz.Conditional.of(template, 1, key=jr.key(7), width=32, where=lambda flow: flow.bijection),
    )
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.adam(optax.cosine_decay_schedule(1e-2, 600)))
    fit = lnz.fit(jr.key(8), model, method, jnp.concatenate([x, y], axis=1), steps=600, batch_size=256)
    for at in (-0.7, 0.1, 0.8):
        flow = fit.model.conditional(jnp.array([at]))
        draws = flow.sample(jr.key(9), (4000,))
        assert float(jnp.mean(draws)) == pytest.approx(np.sin(2 * at), abs=0.06)
        assert float(jnp.std(draws)) == pytest.approx(0.1 * np.exp(at), rel=0.25)


@pytest.mark.parametrize(
    ("marginal", "conditional", "error", "words"),
    [
        (lnz.Bernoulli(jnp.zeros(2)), "real", ValueError, r"Joint\(marginal=...\).*real numbers; .*Binary"),
        (lnz.Normal.standard((2, 2)), "real", ValueError, r"Joint\(marginal=...\).*vectors"),
        (lnz.Normal.standard(2), "bits", ValueError, r"Joint\(conditional=...\).*real numbers; .*Binary"),
        (lnz.Normal.standard(3), "real", ValueError, r"Joint\(conditional=...\)` cannot take a vector of shape \(3,\)"),
        (lnz.Normal.standard(2), "nothing", TypeError, r"Joint\(conditional=...\)` must return a distribution"),
    ],
)
def test_a_joint_of_parts_that_do_not_fit_is_refused_when_it_is_made(marginal, conditional, error, words):
    line = lnz.nets.Linear.from_parameters(jnp.ones((3, 2)), jnp.zeros(3))
    conditionals = {
        "real": lnz.distributions.ConditionalNormal(line, 1.0),
        "bits": lnz.distributions.ConditionalBernoulli(line),
        "nothing": line,
    }
    with pytest.raises(error, match=words):
        lnz.Joint(marginal, conditionals[conditional])


def test_a_frozen_template_is_constant():
    net = lnz.nets.MLP(2, 3, key=jr.key(7), width=4, depth=1)
    template = lnz.Normal(jnp.array([1.0, 2.0, 3.0]), 0.1)
    model = lnz.Conditional(lnz.Frozen(template), net, where=lambda normal: normal.loc)
    context = jnp.array([0.3, -0.2])
    np.testing.assert_allclose(model(context).loc, template.loc + net(context), rtol=1e-6)
    np.testing.assert_allclose(model(context).scale, 0.1, rtol=1e-6)
    arrays = jax.tree.leaves(eqx.filter(model, lnz.trainable(model)))
    assert sum(a.size for a in arrays) == sum(a.size for a in jax.tree.leaves(eqx.filter(net, eqx.is_array)))
    assert num_moved(lnz.Frozen(template)) == 6


def image_encoder():
    return lnz.nets.ConvEncoder((1, 2, 2), 2, key=jr.key(0), channels=(2,), kernel=2, stride=2)


NETS = {
    "MLP": (lambda: lnz.nets.MLP(2, 2, key=jr.key(0), width=3, depth=1), (2,)),
    "GatedMLP": (lambda: lnz.nets.GatedMLP(2, 2, key=jr.key(0), width=3, depth=1), (2,)),
    "LipschitzMLP": (lambda: lnz.nets.LipschitzMLP(2, key=jr.key(0), width=3, depth=1), (2,)),
    "Standardised": (
        lambda: lnz.nets.Standardised(lnz.nets.MLP(2, 2, key=jr.key(0), width=3), jnp.ones(2), jnp.ones(2)),
        (2,),
    ),
    "ConvEncoder": (image_encoder, (1, 2, 2)),
    "ConvEncoder, flat": (image_encoder, (4,)),
    "Linear": (lambda: lnz.nets.Linear.from_parameters(table.normal(1, 2, 2), jnp.zeros(2)), (2,)),
    "Equinox": (lambda: eqx.nn.MLP(2, 2, 3, 1, key=jr.key(0)), (2,)),
    "function": (lambda: lambda context: table.normal(2, 2, 2) @ context, (2,)),
}


def wrong_shapes(shape):
    """A batch, one as long as an example, one of one, the internal layout, a context too long, a number."""
    longer = (*shape[:-1], shape[-1] + 1)
    return [(5, *shape), (shape[-1], *shape), (1, *shape), (*shape, 5), (*shape, shape[-1]), (*shape, 1), longer, ()]


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", NETS)
def test_a_context_has_one_shape(name):
    make, shape = NETS[name]
    net = make()
    model = lnz.Conditional(lnz.Normal(jnp.zeros(2), 1.0), net, where=lambda normal: normal.loc)
    for got in wrong_shapes(shape):
        with pytest.raises(ValueError, match="`context`") as caught:
            model(jnp.ones(got))
        assert str(got) in str(caught.value)
        if name != "function":  # which says nothing of its inputs
            assert str(shape) in str(caught.value)
        if got[-len(shape) :] == shape and name != "function":
            assert "jax.vmap" in str(caught.value)
        if isinstance(net, lnz.nets.AbstractNet):
            with pytest.raises(ValueError, match=r"`x` must be one input"):
                net(jnp.ones(got))
    contexts = table.normal(3, 3, *shape)
    together = jax.vmap(lambda context: model(context).loc)(contexts)
    for context, loc in zip(contexts, together, strict=True):
        np.testing.assert_allclose(model(context).loc, loc, rtol=1e-5, atol=1e-6)
        as_list = model(np.asarray(context).tolist()).loc
        np.testing.assert_allclose(as_list, loc, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("untyped")
def test_a_context_that_is_no_array():
    model = conditional(lnz.Normal(jnp.zeros(2), 1.0))
    for context, words in (("a", "name of a file"), (None, "got NoneType"), ([[1.0], [1.0, 2.0]], "different lengths")):
        with pytest.raises((TypeError, ValueError), match=f"`context`.*{words}"):
            model(context)
