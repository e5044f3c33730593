"""Products of fewer bits: the setting reaches every product, and costs what `docs/precision.md` says."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table

import lnz
from lnz.energy import RBM
from lnz.energy._bipartite import BipartiteDensity
from lnz.normalizers import AIS, Quadrature
from lnz.objectives import PCD
from lnz.samplers import Gibbs, run_chains

SPLIT = "BF16_BF16_F32_X3"
KEY = jr.key(0)
BITS = jnp.asarray(np.random.RandomState(0).uniform(size=(6, 4)) < 0.5, jnp.float32)


def products(function):
    """How many matrix products a program has, also within its loops, and how many of them take the setting."""
    text = str(jax.make_jaxpr(function)(table.rbm()))
    return text.count("dot_general["), text.count(f"precision={SPLIT}")


def gradient(rbm):
    objective, params = PCD(2, 5), eqx.filter(rbm, lnz.trainable(rbm))
    state, rest = objective.init(KEY, rbm, BITS), eqx.filter(rbm, lnz.trainable(rbm), inverse=True)
    return jax.grad(lambda p: objective.loss(KEY, eqx.combine(p, rest), state, BITS)[0])(params)


@pytest.mark.parametrize(
    "function",
    [
        lambda rbm: AIS(5, 4).log_weights(KEY, rbm),
        lambda rbm: run_chains(KEY, rbm, Gibbs(), BITS, 3)[0],
        lambda rbm: jax.vmap(rbm.log_density)(BITS),
        gradient,
    ],
    ids=["annealing", "sampling", "likelihood", "training"],
)
def test_every_product_takes_the_setting(function):
    with jax.default_matmul_precision(SPLIT):
        num, num_split = products(function)
    assert num == num_split >= 2
    assert products(function) == (num, 0)


def test_what_was_compiled_for_another_setting_is_not_used(monkeypatch):
    traced, original = [], BipartiteDensity.hidden_natural
    monkeypatch.setattr(BipartiteDensity, "hidden_natural", lambda self, v: traced.append(v) or original(self, v))
    rbm, method = RBM(5, 3, key=KEY), AIS(20, 5)
    lnz.log_normalizer(KEY, rbm, method)
    num = len(traced)
    assert num > 0
    lnz.log_normalizer(KEY, rbm, method)
    assert len(traced) == num
    with jax.default_matmul_precision(SPLIT):
        lnz.log_normalizer(KEY, rbm, method)
    assert len(traced) > num


def split(x):
    """The two bfloat16 that XLA makes of a float32: the upper one cut off, the lower one rounded."""
    high = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return jnp.asarray(high, jnp.bfloat16), jnp.asarray(x - high, jnp.bfloat16)


def test_three_products_of_bits_are_one_with_weights_of_16_bits():
    random = np.random.RandomState(1)
    W = random.normal(size=(784, 100)).astype(np.float32)
    v = (random.uniform(size=(50, 784)) < 0.5).astype(np.float32)
    (v_high, v_low), (W_high, W_low) = split(v), split(W)
    assert not np.any(v_low)
    near = np.asarray(W_high, np.float64) + np.asarray(W_low, np.float64)
    assert 2.0**-17 < np.max(np.abs(near - W) / np.abs(W)) < 2.0**-15
    products = [(v_high, W_high), (v_high, W_low), (v_low, W_high)]
    three = sum(np.asarray(jnp.matmul(a, b, preferred_element_type=jnp.float32)) for a, b in products)
    in_float32 = 784 * 2.0**-24 * (v @ np.abs(W))
    np.testing.assert_array_less(np.abs(three - v.astype(np.float64) @ near), in_float32)
    exact = v.astype(np.float64) @ W.astype(np.float64)
    np.testing.assert_array_less(np.abs(three - exact), 2.0**-15 * (v @ np.abs(W)) + in_float32)


def test_log_z_moves_by_what_is_stated():
    """By enumeration in float64, where nothing but the weights differs."""
    W, b, c = (np.asarray(a) for a in (table.rbm(8, 6, 2.0).W, table.normal(1, 8), table.normal(2, 6)))
    near_W, near_b = (sum(np.asarray(part, np.float64) for part in split(a)) for a in (W, b))
    with jax.enable_x64(True):
        both = [(np.asarray(a, np.float64) for a in one) for one in ((W, b, c), (near_W, near_b, c))]
        machines = [RBM.from_parameters(*one) for one in both]
        log_z, near_log_z = (float(lnz.log_normalizer(KEY, rbm, Quadrature()).value) for rbm in machines)
        v, _ = machines[0].space.quadrature()
        log_p, near_log_p = (np.asarray(jax.vmap(rbm.log_density)(v)) for rbm in machines)
    shift = np.log(np.sum(np.exp(log_p - log_z + near_log_p - log_p)))  # log E_p[p~' / p~]
    assert near_log_z - log_z == pytest.approx(shift, rel=1e-6)
    assert 0 < abs(shift) < 2.0**-15 * (np.abs(W).sum() + np.abs(b).sum())
    assert abs(shift) < 1e-4  # nats


def test_environment_records_it():
    assert lnz.files._environment.environment()["products"] == "default"
    with jax.default_matmul_precision(SPLIT):
        assert lnz.files._environment.environment()["products"] == SPLIT
