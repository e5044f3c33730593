"""The inverse self-check names the worst example and the layer that loses it."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table

import lnz
from lnz.bijections import Affine, Chain, Inverse, Scan
from lnz.testing import check_bijection, check_inverse
from lnz.testing._inverse import layers_of


def shift(by):
    return Affine(jnp.full(2, by, jnp.float32), 1.0)


def lossy():
    """Adding and taking away a million costs all digits below a sixteenth; the third layer is innocent."""
    return Chain(shift(1.0), shift(1e6), shift(-1e6), Affine(jnp.zeros(2), 2.0))


def test_the_layer_that_loses_digits_is_named():
    x = jnp.array([[0.0, 1.0], [0.3, 0.7], [2.0, -1.0]])
    report = check_inverse(lossy(), x)
    assert not report.holds
    assert report.row == 1
    assert report.layer == "bijection.bijections[1]"
    assert report.error == pytest.approx(np.abs(np.float32(1e6) + np.float32([1.3, 1.7]) - 1e6 - [1.3, 1.7]).max(), 0.1)
    assert [layer.name for layer in report.layers] == [f"bijection.bijections[{i}]" for i in range(4)]
    assert report.layers[3].error == 0
    assert report.layers[1].size > 9e5
    text = str(report)
    assert "row 1, does not come back" in text
    assert "`bijection.bijections[1]`" in text


def test_scans_and_inverses_are_taken_apart():
    scan = Scan.stack([shift(0.5), shift(1e6), shift(-1e6)])
    x = jnp.array([[0.3, 0.7]])
    assert check_inverse(scan, x).layer == "bijection.layers[1]"
    turned = Inverse(Scan.stack([shift(1e6), shift(-1e6), shift(0.5)]))
    assert check_inverse(turned, x).layer == "bijection.bijection.layers[1]"
    flow = lnz.Transformed(lnz.Normal.standard(2), Chain(scan, Affine(jnp.zeros(2), 1.0)))
    assert check_inverse(flow, x).layer.startswith("bijection.bijection.bijections[0].layers")


def test_layers_compose_to_the_whole(float64):
    flow = table.flow("masked_autoregressive", 3)
    bijection = Inverse(Chain(flow, Inverse(Chain(Affine(jnp.ones(3), 2.0), table.flow("realnvp", 3)))))
    x = whole = table.normal(0, 3)
    for _, layer in layers_of(bijection, "bijection"):
        x, _ = layer.forward_and_log_det(x)
    np.testing.assert_allclose(x, bijection.forward_and_log_det(whole)[0], rtol=1e-12)


def test_a_good_flow_holds(precision):
    flow = lnz.Transformed(lnz.Normal.standard(2), table.flow("coupling_spline", 2))
    report = check_inverse(flow, flow.sample(jr.key(0), (50,)))
    assert report.holds, report
    assert report.layer is None
    assert "comes back" in str(report)


def test_what_is_no_number_is_the_worst():
    report = check_inverse(Affine(jnp.zeros(2), 1e30), jnp.array([[1.0, 1.0], [1e10, 1.0]]))
    assert not report.holds
    assert report.row == 1


def test_estimated_log_determinants_need_no_key():
    flow = lnz.flows.residual(lnz.Euclidean(2), key=jr.key(0), num_layers=2, width=8, log_det="unbiased")
    report = check_inverse(lnz.Transformed(lnz.Normal.standard(2), flow), table.normal(0, 5, 2))
    assert report.holds, report


def test_the_law_says_where():
    with pytest.raises(AssertionError, match=r"(?s)identity: differs.*row 1, does not.*bijections\[1\]"):
        check_bijection(lossy(), jnp.array([[0.0, 1.0], [0.3, 0.7]]))
