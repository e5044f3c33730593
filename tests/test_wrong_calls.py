"""What a newcomer gets wrong is told by the name of the argument, what came, what was expected and what to try."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table

import lnz
from lnz.modules import registered_names, registered_object

KEY = jr.key(0)
BITS = np.eye(4, dtype=np.uint8)
ADAM = optax.adam(1e-3)


def mlp(num_in, num_out):
    return lnz.nets.MLP(num_in, num_out, key=KEY, width=2, depth=1)


def pcd():
    return lnz.Gradient(lnz.objectives.PCD(1), ADAM)


def likelihood():
    return lnz.Gradient(lnz.objectives.MaximumLikelihood(), ADAM)


def fit(*arguments):
    return lnz.fit(*arguments, steps=1)


def vae():
    decoder = lnz.Conditional(lnz.Bernoulli(jnp.zeros(4)), mlp(2, 4))
    return lnz.latent.VAE(lnz.Normal.standard(2), decoder, lnz.Conditional(lnz.Normal.standard(2), mlp(4, 4)))


def exchanged(vae):
    return lnz.latent.VAE(vae.prior, vae.encoder, vae.decoder)


def prior_last(vae):
    return lnz.latent.VAE(vae.encoder, vae.decoder, vae.prior)


def planar():
    return lnz.flows.planar(lnz.Euclidean(2), key=KEY, num_layers=1)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fit(KEY, pcd(), table.rbm(), BITS), TypeError, r"got RBM. The order of arguments is `lnz.fit\("),
        (lambda: fit(KEY, table.rbm(), lnz.objectives.PCD(1), BITS), TypeError, r"`lnz.Gradient\(PCD\(...\), "),
        (lambda: fit(KEY, table.rbm(), lnz.Gradient, BITS), TypeError, "got the class Gradient, not an instance of it"),
        (lambda: fit(KEY, lnz.energy.RBM, pcd(), BITS), TypeError, "`model` must be .* got the class RBM, not an"),
        (lambda: fit(KEY, planar(), pcd(), BITS), TypeError, r"`lnz.Transformed\(base, bijection\)`"),
        (lambda: fit(KEY, table.conjugate(), pcd(), BITS), TypeError, r"`lnz.condition\(model, data\)`"),
        (lambda: fit(KEY, table.rbm(), pcd(), "a.csv"), TypeError, r"`data` .* try `lnz.data.load\('a.csv'\).train`"),
        (lambda: fit(KEY, table.rbm(), pcd(), (BITS, np.zeros(4))), ValueError, "Pass the examples alone"),
        (lambda: fit(KEY, table.rbm(), likelihood(), BITS), ValueError, "PCD"),
        (lambda: fit(KEY, vae(), likelihood(), BITS), ValueError, "ELBO"),
        (lambda: lnz.Gradient(ADAM, lnz.objectives.PCD(1)), TypeError, "got an optimizer: the objective comes first"),
        (lambda: lnz.Gradient(lnz.objectives.ELBO, ADAM), TypeError, "got the class ELBO, not an instance of it"),
        (lambda: lnz.evaluate(KEY, lnz.energy.RBM, BITS), TypeError, "got the class RBM, not an instance of it"),
        (lambda: exchanged(vae()), ValueError, r"\(in `VAE\(prior, decoder, encoder\)`\)"),
        (lambda: prior_last(vae()), TypeError, "the prior comes first, and is a distribution, .* got a Conditional"),
        (lambda: lnz.Conditional(mlp(2, 4), lnz.Normal.standard(2)), TypeError, "after the template; got Normal"),
        (lambda: lnz.Conditional(lnz.Normal.standard(2), np.zeros((2, 4))), TypeError, "network, .* got ndarray"),
        (lambda: lnz.Conditional(lnz.Normal, mlp(2, 4)), TypeError, "`Conditional.template=.* got the class Normal"),
        (lambda: lnz.Conditional(lnz.Normal.standard(2), mlp(2, 4), "loc"), TypeError, "where=.* got .loc."),
        (lambda: lnz.latent.interpolate(vae(), BITS[0, :3], BITS[1]), ValueError, r"`x0` must be one example of shape"),
        (lambda: lnz.latent.interpolate(vae(), BITS[0], BITS[:2]), ValueError, r"`x1` must be one example of shape"),
        (lambda: lnz.latent.attribute_vector(np.eye(4), np.arange(4)), ValueError, "got the value 2. For one class"),
        (lambda: lnz.data.load(BITS), TypeError, "or the path of a file; got ndarray"),
        (lambda: lnz.data.load("table.txt"), FileNotFoundError, "There is no file 'table.txt'"),
        (lambda: lnz.cite("RBM"), TypeError, "itself, not its name; got 'RBM'"),
    ],
)  # fmt: skip
def test_wrong_call_is_told(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_python_can_ask_what_was_meant():
    with pytest.raises(AttributeError) as caught:
        lnz.evalute  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    assert (caught.value.name, caught.value.obj) == ("evalute", lnz)
    assert "evaluate" in dir(lnz)


DRAWS = {
    "normal": lambda: lnz.Normal(jnp.zeros(2), 1.0),
    "mixture": table.mixture_of_normals,
    "flow": table.affine_flow,
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        (0, (), r"`key` must be a JAX random key; got the number 0. Try `jax.random.key\(0\)`"),
        ((), (), "`key` must be a JAX random key; got tuple"),
        (jr.split(KEY), (), r"`key` must be one key; got an array of 2. Pick one, `key\[0\]`"),
        (KEY, 3, r"`shape` must be a tuple of lengths; got the number 3. Try `\(3,\)`"),
        (KEY, (2.0,), r"`shape` must be a tuple of whole numbers.*got \(2.0,\)"),
        (KEY, None, "`shape` must be a tuple .*got None"),
        (KEY, (-1,), r"`shape` must not have negative lengths; got \(-1,\)"),
    ],
)
def test_wrong_draws_are_told(key, shape, words):
    for make in DRAWS.values():
        distribution = make()
        for draw in (distribution.sample, distribution.sample_and_log_prob):
            with pytest.raises((TypeError, ValueError), match=words):
                draw(key, shape)


def test_every_distribution_checks_its_draws():
    classes = [registered_object(name) for name in registered_names()]
    classes = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, lnz.AbstractDistribution)]
    assert len(classes) > 20
    for cls in classes:
        assert cls.sample.checks_arguments, cls
        assert cls.sample_and_log_prob.checks_arguments, cls


class Short(eqx.Module):
    lipschitz = 0.5

    def __call__(self, x):
        return 0.1 * x[:1]


AFFINE, THREE = lnz.bijections.AffineTransformer(), lnz.Euclidean(3)
# Networks and raw numbers whose shapes would broadcast into a map that is no bijection, or has another determinant.
WRONG_SHAPES = {
    "coupling": lambda: lnz.bijections.Coupling(THREE, 1, mlp(1, (2, 1)), AFFINE),
    "elementwise": lambda: lnz.bijections.Elementwise(AFFINE, jnp.zeros((2, 1)), THREE),
    "elementwise splines": lambda: lnz.bijections.Elementwise(
        lnz.bijections.SplineTransformer(4), jnp.zeros((14, 3)), THREE
    ),
    "autoregressive": lambda: lnz.bijections.MaskedAutoregressive(
        THREE, lnz.nets.MaskedMLP(3, 3, key=KEY, width=4, depth=1), AFFINE
    ),
    "periodic autoregressive": lambda: lnz.bijections.MaskedAutoregressive(
        THREE,
        lnz.nets.PeriodicMaskedMLP(lnz.nets.MaskedMLP(6, 3, key=KEY, width=4, depth=1), jnp.ones(3, jnp.int32)),
        AFFINE,
    ),
    "residual": lambda: lnz.bijections.Residual(THREE, Short()),
    "continuous": lambda: lnz.bijections.Continuous(THREE, lambda t, x: x[:1]),
    "full normal": lambda: lnz.distributions.ConditionalMultivariateNormal(mlp(3, 1), jnp.eye(3)),
}


def used(part):
    return jax.eval_shape(part.forward_and_log_det if isinstance(part, lnz.AbstractBijection) else part, jnp.zeros(3))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_other_shapes_do_not_broadcast(name):
    with pytest.raises(ValueError, match=r"`\w+\(.*needs .*; got|`Continuous\(vector_field=.* got"):
        used(WRONG_SHAPES[name]())
