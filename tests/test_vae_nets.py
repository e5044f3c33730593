"""Networks of autoencoders: both formulations of convolutions are one, and are what PyTorch's layers compute."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import lnz
from lnz.nets import ConvDecoder, ConvEncoder, GatedMLP, ResidualConv
from lnz.nets._strided import convolve, convolve_transposed

# kernel, stride, height and width: whole blocks, kernels that fill no block, sizes that the stride does not divide.
CASES = [(4, 2, 4, 6), (3, 1, 3, 2), (3, 2, 5, 4), (5, 3, 7, 4), (2, 2, 3, 4)]


PLANE: Any = (28, 28)  # what a checker of types would refuse
UNKNOWN: Any = "fast"


def loops(W, x, b, stride, low):
    """PyTorch's Conv2d as its documentation defines it, with as many outputs as `ceil(size / stride)`."""
    num_out, num_in, kernel, _ = W.shape
    _, height, width = x.shape
    y = np.zeros((num_out, -(-height // stride), -(-width // stride)))
    for o, i, j, c, u, v in itertools.product(*map(range, y.shape), range(num_in), range(kernel), range(kernel)):
        row, column = stride * i + u - low, stride * j + v - low
        if 0 <= row < height and 0 <= column < width:
            y[o, i, j] += W[o, c, u, v] * x[c, row, column]
    return y + b[:, None, None]


def transposed_loops(W, x, b, size, stride, low):
    """PyTorch's ConvTranspose2d: each pixel adds a kernel to the output."""
    num_out, kernel = W.shape[1:3]
    y = np.zeros((num_out, *size))
    for c, i, j, o, u, v in itertools.product(*map(range, x.shape), range(num_out), range(kernel), range(kernel)):
        row, column = stride * i + u - low, stride * j + v - low
        if 0 <= row < size[0] and 0 <= column < size[1]:
            y[o, row, column] += W[c, o, u, v] * x[c, i, j]
    return y + b[:, None, None]


@pytest.mark.parametrize(("kernel", "stride", "height", "width"), CASES)
@pytest.mark.parametrize("formulation", ["product", "convolution"])
def test_convolutions_are_those_of_the_definition(kernel, stride, height, width, formulation):
    random = np.random.default_rng(0)
    W = random.standard_normal((2, 3, kernel, kernel)).astype(np.float32)
    x = random.standard_normal((3, height, width)).astype(np.float32)
    b = random.standard_normal(2).astype(np.float32)
    low = (kernel - stride + 1) // 2
    expected = loops(W, x, b, stride, low)
    back = transposed_loops(W, expected, np.arange(3.0), (height, width), stride, low)

    @jax.jit
    def both(W, x, b):
        y = convolve(W, x, b, stride, formulation)
        return y, convolve_transposed(W, y, jnp.arange(3.0), (height, width), stride, formulation)

    y, z = both(W, x, b)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(z, back, atol=2e-4)


@pytest.mark.parametrize("num_out", [1, 40])  # few outputs are scattered, many gathered
def test_transposed_convolutions_take_either_product(num_out):
    random = np.random.default_rng(0)
    W = random.standard_normal((2, num_out, 4, 4)).astype(np.float32)
    x = random.standard_normal((2, 3, 2)).astype(np.float32)
    y = jax.jit(lambda W, x: convolve_transposed(W, x, jnp.zeros(num_out), (6, 4), 2, "product"))(W, x)
    np.testing.assert_allclose(y, transposed_loops(W, x, np.zeros(num_out), (6, 4), 2, 1), atol=1e-5)


def _nets(formulation):
    key = jr.key(0)
    options = {"channels": (3, 4), "num_residual": 1, "activation": jnp.tanh, "formulation": formulation}
    return {
        "encoder": (ConvEncoder((1, 6, 5), (2, 3), key=key, **options), (30,)),
        "decoder": (ConvDecoder(3, (2, 6, 5), key=key, **options), (3,)),
        "residual": (ResidualConv(2, 3, key=key, activation=jnp.tanh, formulation=formulation), (2, 3, 4)),
    }


@pytest.mark.parametrize("name", _nets("auto"))
def test_formulations_are_one(name, precision):
    (product, shape), (convolution, _) = _nets("product")[name], _nets("convolution")[name]
    x = jr.normal(jr.key(1), (3, *shape))
    weights = jr.normal(jr.key(2), (3, *jax.eval_shape(product, x[0]).shape))

    @eqx.filter_jit
    def value_and_gradients(net, x):
        out = jax.vmap(net)(x)
        return out, eqx.filter_grad(lambda pair: jnp.sum(jax.vmap(pair[0])(pair[1]) * weights))((net, x))

    found, expected = value_and_gradients(product, x), value_and_gradients(convolution, x)
    atol = 1e-10 if precision == "float64" else 2e-5
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=atol), jax.tree.leaves(found), jax.tree.leaves(expected)
    )
    assert found[0].dtype == precision
    assert all(jnp.max(jnp.abs(leaf)) > 0 for leaf in jax.tree.leaves(found))


NETS = {
    **{name: net for name, (net, _) in _nets("auto").items()},
    "gated": GatedMLP(3, (2, 2), key=jr.key(0), width=4),
}
SHAPES = {**{name: shape for name, (_, shape) in _nets("auto").items()}, "gated": (3,)}


@pytest.mark.parametrize("name", NETS)
def test_batches_last_are_examples(name):
    """Also with parameters of their own for each example."""
    net, shape = NETS[name], SHAPES[name]
    x = jr.normal(jr.key(1), (2, 3, *shape))
    nets = jax.tree.map(lambda leaf: leaf[None] + jnp.arange(3.0).reshape(3, *(1,) * leaf.ndim), net)

    @eqx.filter_jit
    def all_ways(net, nets, x):
        one_by_one = jnp.stack([jnp.stack([net(x[i, j]) for j in range(3)]) for i in range(2)])
        last = net.call_batch_last(jnp.moveaxis(x, (0, 1), (-2, -1)))
        each = [jax.tree.map(lambda leaf, j=j: leaf[j], nets) for j in range(3)]
        own = jnp.stack([net(row) for net, row in zip(each, x[0], strict=True)])
        nets_last = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), nets)
        own_last = nets_last.call_batch_last(jnp.moveaxis(x[0], 0, -1))
        return one_by_one, jnp.moveaxis(last, (-2, -1), (0, 1)), own, jnp.moveaxis(own_last, -1, 0)

    one_by_one, last, own, own_last = all_ways(net, nets, x)
    np.testing.assert_allclose(last, one_by_one, atol=1e-5)
    np.testing.assert_allclose(own_last, own, rtol=1e-5, atol=1e-4)


def test_gated_units_are_those_of_the_paper():
    net = GatedMLP(2, 1, key=jr.key(0), width=3, depth=2)
    x = np.array([0.3, -2.0], np.float32)
    h = x
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        A, B = np.asarray(W)
        h = (A @ h + b[0]) / (1 + np.exp(-(B @ h + b[1])))
    np.testing.assert_allclose(net(jnp.asarray(x)), net.weights[-1] @ h + net.biases[-1], rtol=1e-5)


def test_encoder_takes_images_in_every_shape():
    net = ConvEncoder((1, 4, 6), 3, key=jr.key(0), channels=(2,))
    x = jr.normal(jr.key(1), (24,))
    flat = net(x)
    assert flat.shape == (3,)
    assert jnp.array_equal(flat, net(x.reshape(4, 6)))
    assert jnp.array_equal(flat, net(x.reshape(1, 4, 6)))
    with pytest.raises(ValueError, match=r"of shape \(1, 4, 6\) or \(24,\) or \(4, 6\); got \(25,\)"):
        net(jnp.zeros(25))


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 5, 1), (1, 1, 5)])
def test_encoder_of_images_one_pixel_wide(shape):
    """Every shape is read in one way, with a batch axis of one too."""
    net = ConvEncoder(shape, 2, key=jr.key(0), channels=(2,))
    x = jr.normal(jr.key(1), shape)
    flat = net(x.reshape(-1))
    assert flat.shape == (2,)
    np.testing.assert_array_equal(net(x), flat)
    for last in (x[..., None], x.reshape(-1, 1)):
        np.testing.assert_allclose(net.call_batch_last(last), flat[:, None], rtol=1e-6)
    if shape[0] == 1 and shape[2] > 1:
        np.testing.assert_array_equal(net(x[0]), flat)


def test_default_layers_have_the_sizes_of_the_picture():
    """The layers and the number of parameters of a common PyTorch model of MNIST."""
    encoder, decoder = eqx.filter_eval_shape(
        lambda key: (ConvEncoder((1, 28, 28), 40, key=key), ConvDecoder(20, (1, 28, 28), key=key)), jr.key(0)
    )
    assert [W.shape for W in encoder.kernels] == [(32, 1, 4, 4), (64, 32, 4, 4)]
    assert [W.shape for W in decoder.kernels] == [(64, 32, 4, 4), (32, 1, 4, 4)]
    assert encoder.last.shape == (40, 64 * 7 * 7)
    assert decoder.first.shape == (64 * 7 * 7, 20)


def test_vae_of_convolutions_is_saved_and_scores(tmp_path):
    key_encoder, key_decoder = jr.split(jr.key(0))
    model = lnz.latent.VAE(
        lnz.Normal.standard(1),
        lnz.Conditional(
            lnz.Bernoulli(jnp.zeros(16)), ConvDecoder(1, (1, 4, 4), key=key_decoder, channels=(2,), num_residual=1)
        ),
        lnz.Conditional(lnz.Normal.standard(1), ConvEncoder((1, 4, 4), 2, key=key_encoder, channels=(2,))),
    )
    lnz.save(tmp_path / "model.lnz", model)
    loaded = lnz.load(tmp_path / "model.lnz")
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    x = jr.bernoulli(jr.key(1), 0.5, (16,)).astype(jnp.float32)
    assert eqx.tree_equal(model.posterior(x), loaded.posterior(x))
    assert jnp.isfinite(loaded.likelihood(jnp.ones(1)).log_prob(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConvEncoder(PLANE, 2, key=jr.key(0)), r"\(channels, height, width\); got \(28, 28\)"),
        (lambda: ConvEncoder((1, 8, 8), 2, key=jr.key(0), kernel=1), "leaves pixels out"),
        (lambda: ConvDecoder(2, (1, 8, 8), key=jr.key(0), channels=()), "a number for each convolution"),
        (lambda: ConvDecoder(0, (1, 8, 8), key=jr.key(0)), "num_in=...*at least 1"),
        (lambda: ConvDecoder(2, (1, 8, 8), key=jr.key(0), formulation=UNKNOWN), "'auto', 'product' or 'convolution'"),
        (lambda: GatedMLP(3, 2, key=jr.key(0), depth=0), "GatedMLP.*at least 1"),
    ],
)
def test_refusals(build, message, untyped):
    with pytest.raises(ValueError, match=message):
        build()
