"""Glow and its parts: two ways to convolve, squares of pixels, levels, and what the data start."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table

import lnz
from lnz.bijections import Coupling, OnFirst, Reshape, Squeeze
from lnz.nets import ConvNet


def reference(net, x):
    """The same network, one pixel at a time."""
    first, middle, last = (np.asarray(W) for W in net.weights)
    b_first, b_middle, b_last = (np.asarray(b) for b in net.biases)

    def convolve(W, h, b):
        out = np.broadcast_to(b[..., None, None], (*b.shape, *h.shape[1:])).copy()
        for i, j in np.ndindex(*h.shape[1:]):
            for di, dj in np.ndindex(3, 3):
                y, x = i + di - 1, j + dj - 1
                if 0 <= y < h.shape[1] and 0 <= x < h.shape[2]:
                    out[..., i, j] += W[..., di, dj] @ h[:, y, x]
        return out

    h = np.maximum(convolve(first, np.asarray(x), b_first), 0)
    h = np.maximum(np.einsum("oc,chw->ohw", middle, h) + b_middle[:, None, None], 0)
    return convolve(last, h, b_last)


@pytest.mark.parametrize("formulation", ["product", "convolution"])
def test_both_formulations_are_the_convolution(formulation, precision):
    net = table.away_from_identity(ConvNet(2, (2, 3), key=jr.key(0), width=4, formulation=formulation), 0.2)
    x = table.normal(1, 5, 2, 3, 4)
    expected = np.stack([reference(net, row) for row in x])
    tolerance = 2e-5 if precision == "float32" else 1e-12
    last = jnp.moveaxis(x, 0, -1)
    np.testing.assert_allclose(jnp.moveaxis(net.call_batch_last(last), -1, 0), expected, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(net(x[0]), expected[0], atol=tolerance, rtol=tolerance)  # no batch


def test_both_formulations_have_the_same_gradient(float64):
    nets = [ConvNet(1, 2, key=jr.key(0), width=4, formulation=name) for name in ("product", "convolution")]
    x = jnp.moveaxis(table.normal(1, 2, 1, 2, 2), 0, -1)

    def gradient(net):
        return jax.tree.leaves(
            eqx.filter_jit(eqx.filter_grad(lambda net: jnp.sum(jnp.sin(net.call_batch_last(x)))))(net)
        )

    for a, b in zip(*map(gradient, nets), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("formulation", ["product", "convolution"])
def test_weights_of_their_own_for_each_example(formulation, float64):
    """What a hypernetwork makes: parameters batched with the images."""

    def make(key):
        net = ConvNet(2, (1, 1), key=key, width=3, formulation=formulation)
        return Coupling(lnz.Euclidean((3, 2, 2)), 2, net, lnz.bijections.ShiftTransformer())

    couplings = eqx.filter_vmap(make)(jr.split(jr.key(0), 4))
    x = table.normal(2, 4, 3, 2, 2)
    together = eqx.filter_vmap(lambda coupling, x: coupling.forward_and_log_det(x)[0])(couplings, x)
    for i in range(4):
        alone = jax.tree.map(lambda leaf, i=i: leaf[i] if eqx.is_array(leaf) else leaf, couplings)
        np.testing.assert_allclose(together[i], alone.forward_and_log_det(x[i])[0], atol=1e-12)


def test_squares_of_pixels_become_channels():
    squeeze = Squeeze(lnz.Euclidean((1, 4, 4)))
    y, log_det = squeeze.forward_and_log_det(jnp.arange(16.0).reshape(1, 4, 4))
    assert y.shape == (4, 2, 2)
    np.testing.assert_array_equal(y[:, 0, 0], [0, 1, 4, 5])  # one square of 2 x 2 pixels
    np.testing.assert_array_equal(y[0], [[0, 2], [8, 10]])
    assert log_det == 0
    with pytest.raises(ValueError, match="even height and width"):
        Squeeze(lnz.Euclidean((1, 3, 4)))


def test_what_is_factored_out_is_carried_along():
    inner = lnz.bijections.Affine(jnp.ones((1, 2, 2)), 2.0 * jnp.ones((1, 2, 2)))
    y, log_det = OnFirst(inner, 3).forward_and_log_det(jnp.ones((3, 2, 2)))
    np.testing.assert_array_equal(y[0], 3 * np.ones((2, 2)))
    np.testing.assert_array_equal(y[1:], np.ones((2, 2, 2)))
    assert float(log_det) == pytest.approx(4 * np.log(2))
    with pytest.raises(ValueError, match="at least 1"):
        OnFirst(inner, 0)
    with pytest.raises(ValueError, match="the same number of entries"):
        Reshape(lnz.Euclidean(4), lnz.Euclidean((2, 3)))


def test_levels_see_half_of_the_channels():
    """With two levels of a 4 x 4 image: 4 channels, of which 2 go on and become 8 of one pixel."""

    def make(key):
        return lnz.flows.glow(lnz.Euclidean((4, 4)), key=key, num_levels=2, num_steps=1, width=4)

    bijection = eqx.filter_eval_shape(make, jr.key(0))
    kept = [leaf for leaf in jax.tree.leaves(bijection, is_leaf=_is_first) if _is_first(leaf)]
    assert [(part.bijection.domain.shape, part.domain.shape) for part in kept] == [((2, 2, 2), (4, 2, 2))]


def _is_first(node):
    return isinstance(node, OnFirst)


def test_shapes_that_do_not_fit_are_refused():
    def make(shape, **options):
        return lnz.flows.glow(lnz.Euclidean(shape), key=jr.key(0), width=2, num_steps=1, **options)

    with pytest.raises(ValueError, match="halves height and width 3 times"):
        make((28, 28), num_levels=3)
    with pytest.raises(ValueError, match="image_shape"):
        make(784)
    with pytest.raises(ValueError, match="as many pixels"):
        make(783, image_shape=(28, 28))


def test_training_of_grey_images_starts_from_the_data_and_improves():
    """Dequantised Glow: activations are normalised by noisy images, not by whole numbers, and the bound rises."""
    import optax

    space = lnz.spaces.Categorical(16, 4)
    images = np.asarray(jr.randint(jr.key(1), (64, 16), 0, 2), np.uint8) + np.arange(16, dtype=np.uint8) // 8
    box = lnz.Interval(16, 0.0, 4.0)
    glow = lnz.flows.glow(lnz.Euclidean(16), key=jr.key(0), num_levels=1, num_steps=1, width=8, image_shape=(4, 4))
    flow = lnz.Transformed(lnz.Normal.standard(16), lnz.bijections.Chain(glow, lnz.bijections.Sigmoid(box)))
    model = lnz.Dequantised(flow, space)
    method = lnz.Gradient(lnz.objectives.ELBO(), optax.adam(3e-3))
    started, _ = method.init(jr.key(2), model, jnp.asarray(images))
    x = jnp.asarray(images, jnp.int32)
    y = jax.vmap(lambda key, x: started.posterior(x).sample(key))(jr.split(jr.key(3), 64), x)
    z, _ = jax.vmap(started.flow.bijection.inverse_and_log_det)(y)
    # Four channels of a 2 x 2 image, 256 numbers each, of which the data are one sample and these another.
    per_channel = jnp.moveaxis(z.reshape(64, 2, 2, 2, 2), (2, 4), (0, 1)).reshape(4, -1)
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(per_channel**2, axis=1)), 1.0, atol=0.3)
    fit = lnz.fit(jr.key(4), model, method, images, steps=150, batch_size=32)
    elbo = [record["elbo"] for record in fit.history]
    assert np.mean(elbo[-10:]) > np.mean(elbo[:10]) + 1
    # A uniform distribution of the grey values has -22.2 nats; two values a pixel have at best -11.1.
    assert -22.2 < np.mean(elbo[-10:]) < -11.1
