"""The stress table: no input makes a number that is not finite, of any bijection, in either direction and precision."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import table

import lnz
from lnz.bijections import AbstractBijection, AbstractTransformer, Householder, Planar, Radial, Sylvester
from lnz.spaces import Product, Torus

# Parameters of a size that is none of the table's, or without which a map has no direction.
EXTREME = {
    "planar_zero": lambda: Planar(jnp.zeros(3), jnp.zeros(3), jnp.zeros(())),
    "planar_huge": lambda: Planar(jnp.array([1e8, -1e8, 3.0]), jnp.array([-1.0, 2.0, 1e8]), jnp.asarray(0.3)),
    "radial_extreme": lambda: Radial(jnp.zeros(3), jnp.asarray(-1e8), jnp.asarray(-1e8)),
    "sylvester_zero": lambda: Sylvester(jnp.zeros((2, 3)), jnp.zeros((2, 2)), jnp.zeros((2, 2)), jnp.zeros(2)),
    "sylvester_huge": lambda: Sylvester(
        table.normal(10, 2, 3), 1e8 * table.normal(11, 2, 2), 1e8 * table.normal(12, 2, 2), table.normal(13, 2)
    ),
    "householder_zero": lambda: Householder(jnp.zeros((2, 3)).at[0, 1].set(1e8)),
    "sigmoidal_extreme": lambda: lnz.bijections.Elementwise(
        lnz.bijections.SigmoidalTransformer(3), 1e8 * table.normal(14, 9, 3)
    ),
}

STRESSED = table.BIJECTIONS | EXTREME

# By how much all parameters are multiplied, where it is not a thousand, and why.
_NO_NUMBER = "e^s x, with s a parameter, is no floating-point number where s is in the hundreds"
_DEEP = "products of three weights, in several layers, and 1e8 are beyond float32"
GENTLER = {
    "affine": (10.0, _NO_NUMBER),
    "lecture": (10.0, _NO_NUMBER),
    "inverse": (10.0, _NO_NUMBER),
    "chain": (10.0, _NO_NUMBER),
    "concatenate": (10.0, _NO_NUMBER),
    "triangular": (10.0, _NO_NUMBER),
    "stack": (10.0, _NO_NUMBER),
    "lu": (10.0, _NO_NUMBER),
    "glow_step": (10.0, _NO_NUMBER),
    "power": (10.0, _NO_NUMBER),
    "residual": (10.0, _NO_NUMBER),  # for the scale behind it
    "coupling_mixed": (10.0, _DEEP),
    "maf": (10.0, _DEEP),
    "maf_fixed_point": (10.0, _DEEP),
    "maf_residual": (10.0, _DEEP),
    "iaf": (10.0, _DEEP),
    "neural_autoregressive": (10.0, _DEEP),
    "maf_mixed": (3.0, _DEEP),
    "glow": (3.0, _DEEP),
    "continuous": (3.0, "the solver's steps run out, which is an error and not a number"),
    **dict.fromkeys(EXTREME, (1.0, "they are extreme as they are")),
}
# Where these are differentiated in forward mode, because they have no other.
FORWARD_MODE = {"maf_fixed_point", "continuous"}


def numbers_that_hurt(low=None, high=None):
    """Far out, knots of the table's splines, ends of spaces, the numbers beside those, zero, the smallest there are."""
    dtype = jnp.result_type(float)
    info = np.finfo(dtype)
    ends = np.array([e for e in (-5.0, -3.0, 3.0, 5.0, low, high) if e is not None], dtype)
    beside = [np.nextafter(ends, np.asarray(to, dtype)) for to in (-np.inf, np.inf)]
    plain = np.array([0.0, info.tiny, info.smallest_subnormal, info.eps, 0.3, 1.0, 1e4, 1e8], dtype)
    return np.concatenate([plain, -plain, ends, *beside])


def rows_that_hurt(space, least=0.0):
    """Rows of a space: all alike, and mixed in a way in which every number meets others."""
    if isinstance(space, Product):
        parts = [np.asarray(rows_that_hurt(part, least)) for part in space.spaces]
        num = max(len(part) for part in parts)
        return jnp.concatenate([np.resize(part, (num, *part.shape[1:])) for part in parts], axis=1)
    low, high = (getattr(space, name, None) for name in ("low", "high"))
    values = numbers_that_hurt(low, high)
    if isinstance(space, Torus):
        values = np.clip(values, -np.pi, np.nextafter(np.asarray(np.pi, values.dtype), np.asarray(0, values.dtype)))
    elif isinstance(space, lnz.Positive):
        values = np.maximum(np.abs(values), np.asarray(least, values.dtype))
    elif low is not None:
        values = np.clip(values, low, high)
    num, size = len(values), space.size
    mixed = [[values[(i + 5 * j * (k + 1)) % num] for j in range(size)] for i in range(num) for k in range(2)]
    alike = [[value] * size for value in values]
    return jnp.asarray(np.array(alike + mixed, values.dtype).reshape(-1, *space.shape))


def is_within(space, x):
    """Whether a density must be finite: not at zero where numbers are positive, nor at denormals, zero to XLA."""
    if isinstance(space, Product):
        return jnp.all(jnp.stack([is_within(*part) for part in zip(space.spaces, space.split(x), strict=True)]))
    return jnp.all(x >= jnp.finfo(x.dtype).tiny) | (not isinstance(space, lnz.Positive))


@pytest.mark.parametrize("name", STRESSED)
def test_no_input_makes_a_number_that_is_not_finite(name, precision):
    """Values, and gradients with respect to inputs and parameters, as built and with parameters far from that."""
    bijection = STRESSED[name]()
    params, rest = eqx.partition(bijection, eqx.is_inexact_array)

    @jax.jit
    def everything(factor, x, y):
        def scalar(params, x, inverse):
            scaled = jax.tree.map(lambda leaf: factor * leaf, params)
            bijection = eqx.combine(scaled, rest)
            y, log_det = (bijection.inverse_and_log_det if inverse else bijection.forward_and_log_det)(x)
            return jnp.sum(y / y.size) + log_det, (y, log_det)

        def slopes(x, inverse):
            if name in FORWARD_MODE:
                ones = jax.tree.map(jnp.ones_like, (params, x))
                _, slope, aux = jax.jvp(lambda p, x: scalar(p, x, inverse), (params, x), ones, has_aux=True)
                return slope, aux
            return jax.grad(scalar, (0, 1), has_aux=True)(params, x, inverse)

        return [jax.vmap(lambda x, i=i: slopes(x, i))(rows) for i, rows in ((False, x), (True, y))]

    factors = dict.fromkeys((1.0, GENTLER.get(name, (1e3, ""))[0]))
    for factor in factors:
        # With large weights the slope of the way from positive numbers to the line, 1/x, must not be large itself.
        spaces = bijection.domain, bijection.codomain
        rows = [rows_that_hurt(space, 1e-20 if factor > 1 else 0.0) for space in spaces]
        for space, x, (slopes, (y, log_det)) in zip(spaces, rows, everything(jnp.asarray(factor), *rows), strict=True):
            within = jax.vmap(lambda x, space=space: is_within(space, x))(x)
            for leaf in (*jax.tree.leaves(slopes), y, jnp.where(within, log_det, 0)):
                bad = ~np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(axis=1)
                assert not bad.any(), (factor, space, x[np.argmax(bad)])
            assert not np.isnan(log_det).any()
            if isinstance(space, lnz.Positive):  # zero is no positive number
                zero = np.asarray(x == 0).reshape(len(x), -1).any(axis=1)
                assert (log_det[zero] == -jnp.inf).all()


def _classes(node):
    if isinstance(node, tuple):
        return set().union(*map(_classes, node))
    if not isinstance(node, eqx.Module):
        return set()
    return {type(node)}.union(*(_classes(getattr(node, field.name)) for field in dataclasses.fields(node)))


def _final(abstract):
    for found in abstract.__subclasses__():
        if found.__module__.startswith("lnz.") and not found.__name__.startswith("Abstract"):
            yield found
        yield from _final(found)


def test_no_bijection_is_left_out():
    every = {*_final(AbstractBijection), *_final(AbstractTransformer)}
    found = set().union(*(_classes(eqx.filter_eval_shape(make)) for make in STRESSED.values()))
    assert not every - found
