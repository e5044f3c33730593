"""Functions with batch axes last are functions of one example to `vmap`, `grad` and `jvp`, in any order."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table

import lnz
from lnz.numerics import aligned, batch_last

NUM_CALLS = []


def _columns(parameters, x):
    W, b = parameters
    NUM_CALLS.append(x.shape)
    y = jnp.tensordot(W, x, 1) + aligned(b, 1, x.ndim - 1)
    return jnp.tanh(y), jnp.sum(y * y, axis=0)


def fast(W, b, x):
    return batch_last(_columns, (W, b), x, takes_batched_parameters=True)


def slow(W, b, x):
    return batch_last(_columns, (W, b), x)


def plain(W, b, x):
    y = W @ x + b
    return jnp.tanh(y), jnp.sum(y * y)


def scalar(f, W, b, x):
    y, total = f(W, b, x)
    return jnp.sum(y) + total


def scanned(f, W, b, x):
    return jax.lax.scan(lambda x, _: (f(W.T @ W, jnp.zeros_like(x), x)[0], None), x, None, length=3)[0]


USES = {
    "one": lambda f, W, b, xs, bs: f(W, b, xs[0, 0]),
    "vmap": lambda f, W, b, xs, bs: jax.vmap(lambda x: f(W, b, x))(xs[0]),
    "vmap_vmap": lambda f, W, b, xs, bs: jax.vmap(jax.vmap(lambda x: f(W, b, x)))(xs),
    "vmap_last": lambda f, W, b, xs, bs: jax.vmap(lambda x: f(W, b, x), -1, -1)(xs[0].T),
    "jit": lambda f, W, b, xs, bs: jax.jit(jax.vmap(lambda x: f(W, b, x)))(xs[0]),
    "grad_vmap": lambda f, W, b, xs, bs: jax.grad(
        lambda p: jnp.sum(jax.vmap(lambda x: scalar(f, *p, x))(xs[0])),
    )((W, b)),
    "vmap_grad": lambda f, W, b, xs, bs: jax.vmap(jax.grad(lambda x: scalar(f, W, b, x)))(xs[0]),
    "vmap_grad_parameters": lambda f, W, b, xs, bs: jax.vmap(jax.grad(lambda b, x: scalar(f, W, b, x)))(bs, xs[0]),
    "jacfwd": lambda f, W, b, xs, bs: jax.vmap(jax.jacfwd(lambda x: f(W, b, x)[0]))(xs[0]),
    "jacrev": lambda f, W, b, xs, bs: jax.vmap(jax.jacrev(lambda x: f(W, b, x)[0]))(xs[0]),
    "hessian": lambda f, W, b, xs, bs: jax.hessian(lambda x: scalar(f, W, b, x))(xs[0, 0]),
    "own_bias": lambda f, W, b, xs, bs: jax.vmap(lambda b, x: f(W, b, x))(bs, xs[0]),
    "own_bias_outside": lambda f, W, b, xs, bs: jax.vmap(lambda b, x: jax.vmap(lambda x: f(W, b, x))(x))(
        bs, jnp.swapaxes(xs, 0, 1)
    ),
    "own_bias_inside": lambda f, W, b, xs, bs: jax.vmap(lambda x: jax.vmap(lambda b, x: f(W, b, x))(bs, x))(xs),
    "own_bias_only": lambda f, W, b, xs, bs: jax.vmap(lambda b: f(W, b, xs[0, 0]))(bs),
    "scan": lambda f, W, b, xs, bs: jax.vmap(lambda x: scanned(f, W, b, x))(xs[0]),
    "grad_scan": lambda f, W, b, xs, bs: jax.grad(
        lambda W: jnp.sum(jax.vmap(lambda x: scanned(f, W, b, x))(xs[0])),
    )(W),
    "checkpoint": lambda f, W, b, xs, bs: jax.grad(
        jax.checkpoint(lambda W: jnp.sum(jax.vmap(lambda x: scalar(f, W, b, x))(xs[0]))),
    )(W),
}


@pytest.mark.parametrize("f", [fast, slow])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_it_is_the_plain_function(use, f, float64):
    W, b = table.normal(1, 3, 4), table.normal(2, 3)
    xs, bs = table.normal(3, 2, 5, 4), table.normal(4, 5, 3)
    ours, theirs = use(f, W, b, xs, bs), use(plain, W, b, xs, bs)
    jax.tree.map(lambda a, c: np.testing.assert_allclose(a, c, rtol=1e-12, atol=1e-12), ours, theirs)


def test_the_batch_comes_last():
    NUM_CALLS.clear()
    W, b, x = table.normal(1, 3, 4), table.normal(2, 3), table.normal(3, 5, 4)
    jax.vmap(lambda x: fast(W, b, x))(x)
    assert NUM_CALLS[-1] == (4, 5)


@pytest.mark.parametrize("name", ["coupling_spline", "masked_autoregressive", "inverse_autoregressive"])
def test_a_flow_with_biases_for_each_example(name, float64):
    """Parameters with batch axes give what a loop over examples gives."""
    flow = table.away_from_identity(getattr(lnz.flows, name)(lnz.Euclidean(5), key=jr.key(0), num_layers=2, width=8))
    biases, rest = eqx.partition(flow, lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim == 2)
    shifts = jax.tree.map(lambda leaf: 0.1 * table.normal(5, 4, *leaf.shape), biases)
    x = table.normal(6, 4, 3, 5)

    def both(shift, x):
        mine = eqx.combine(jax.tree.map(jnp.add, biases, shift), rest)
        return jax.vmap(mine.forward_and_log_det)(x), jax.vmap(mine.inverse_and_log_det)(x)

    together = jax.vmap(both)(shifts, x)
    for i in range(4):
        alone = both(jax.tree.map(lambda leaf, i=i: leaf[i], shifts), x[i])
        jax.tree.map(lambda a, c, i=i: np.testing.assert_allclose(a[i], c, rtol=1e-9, atol=1e-9), together, alone)


def test_an_inverse_with_one_array_for_each_example(float64):
    """Whichever weight or bias of the network it is."""
    net = lnz.nets.MaskedMLP(6, 2, key=jr.key(0), width=8, depth=1)
    leaves, structure = jax.tree.flatten(net)
    changed = [leaf[None] + 0.1 * table.normal(5, 3, *leaf.shape) for leaf in leaves]
    y = table.normal(6, 3, 6)

    def inverse(leaves, y):
        net = jax.tree.unflatten(structure, leaves)
        maf = lnz.bijections.MaskedAutoregressive(lnz.Euclidean(6), net, lnz.bijections.AffineTransformer())
        x, log_det = maf.inverse_and_log_det(y)
        return x, log_det, maf.forward_and_log_det(x)[0]

    def with_own(i, own):
        return jax.vmap(lambda own, y: inverse([*leaves[:i], own, *leaves[i + 1 :]], y))(own, y)

    together = jax.jit(lambda changed: [with_own(i, own) for i, own in enumerate(changed)])

    alone = jax.jit(inverse)
    for i, found in enumerate(together(changed)):
        np.testing.assert_allclose(found[2], y, rtol=1e-9, atol=1e-9)
        own = [changed[j][1] if i == j else leaf for j, leaf in enumerate(leaves)]
        jax.tree.map(lambda a, c: np.testing.assert_allclose(a[1], c, rtol=1e-9, atol=1e-9), found, alone(own, y[1]))


@pytest.mark.parametrize("name", ["coupling_spline", "masked_autoregressive"])
def test_such_a_flow_is_not_mapped_one_example_at_a_time(name):
    """The shapes that reach the networks have the batch last, biases of their own or not."""
    flow = getattr(lnz.flows, name)(lnz.Euclidean(4), key=jr.key(0), num_layers=1, width=8)
    assert lnz.numerics._batch_last.understands_batches(flow)
    assert not lnz.numerics._batch_last.understands_batches(
        lnz.bijections.Coupling(
            lnz.Euclidean(2), 1, eqx.nn.Linear(1, 2, key=jr.key(0)), lnz.bijections.AffineTransformer()
        )
    )


def test_an_affine_map_inside_a_scan_comes_back_from_a_file():
    def layer(key):
        return lnz.bijections.Chain(
            lnz.bijections.Affine(jr.normal(key, (3,)), 2.0), lnz.bijections.Flip(lnz.Euclidean(3))
        )

    lnz.testing._densities.check_save(lnz.bijections.Scan.of(layer, jr.split(jr.key(0), 2)))
