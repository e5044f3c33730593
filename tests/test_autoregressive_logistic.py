"""Grey values that depend on those before them: against the definition, pixel by pixel, and as a decoder."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
import table

import lnz


def near_before(i, j, columns, radius):
    """Whether pixel j comes before i and is within its window, by rows and columns."""
    (row_i, column_i), (row_j, column_j) = divmod(i, columns), divmod(j, columns)
    return j < i and row_i - row_j <= radius and abs(column_i - column_j) <= radius


def log_prob_by_loops(p, x):
    """`sum_i log P(x_i | x_1, ..., x_{i-1})` in float64, from cumulative distribution functions of SciPy."""
    rows, columns = p.image_shape
    loc, centre, unit = (np.asarray(a, np.float64).reshape(-1) for a in (p.loc, p.centre.value, p.unit.value))
    log_scale, K, x = np.asarray(p.log_scale).reshape(-1), p.num_values, np.asarray(x).reshape(-1)
    total = 0.0
    for i in range(rows * columns):
        inputs = []
        for up in range(p.radius, -1, -1):
            for right in range(-p.radius, p.radius + 1):
                if up == 0 and right == 0:
                    break
                row, column = i // columns - up, i % columns + right
                inside = 0 <= row < rows and 0 <= column < columns
                j = row * columns + column
                inputs.append(((x[j] + 0.5) / K - centre[j]) / unit[j] if inside else 0.0)
        inputs += [(loc[i] - centre[i]) / unit[i], *np.asarray(p.context).reshape(-1, rows * columns)[:, i]]
        shift, log_factor = np.asarray(p.net(jnp.asarray(inputs)))
        scale = max(np.exp(log_scale[i] + log_factor), p.min_scale)
        cdf = scipy.stats.logistic(loc[i] + unit[i] * shift, scale).cdf
        above = 1.0 if x[i] == K - 1 else cdf((x[i] + 1) / K)
        below = 0.0 if x[i] == 0 else cdf(x[i] / K)
        total += np.log(above - below)
    return total


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_is_the_product_of_its_definition(radius, float64):
    made = table.autoregressive_grey(4, 3, 5, radius=radius, min_scale=0.1)
    made = eqx.tree_at(lambda d: (d.loc, d.log_scale), made, replace_fn=lambda a: a + 0.2 * table.normal(690, 12))
    x = np.random.default_rng(0).integers(0, 5, (4, 12))
    ours = eqx.filter_jit(lambda p, x: jax.vmap(p.log_prob)(x))(made, jnp.asarray(x))
    np.testing.assert_allclose(ours, [log_prob_by_loops(made, one) for one in x], rtol=1e-11)


def test_a_pixel_depends_on_those_before_it_that_are_near_and_on_no_other(precision):
    rows, columns, radius = 4, 5, 1
    made, num = table.autoregressive_grey(rows, columns, 9, radius=radius), rows * columns

    @jax.jit
    def conditionals(x):
        given = jax.vmap(made.conditionals)(x)
        return given.loc, given.log_scale

    x = jnp.full((1 + num, num), 4, jnp.int32).at[jnp.arange(1, 1 + num), jnp.arange(num)].set(7)
    for parameter in conditionals(x):
        depends = np.asarray(parameter[1:] != parameter[:1])  # [changed, pixel]
        expected = [[near_before(i, j, columns, radius) for i in range(num)] for j in range(num)]
        np.testing.assert_array_equal(depends, expected)


def test_without_a_network_it_is_the_discretised_logistic(precision):
    loc, scale = 0.5 + 0.3 * table.normal(691, 2, 3), jnp.exp(table.normal(692, 2, 3) - 2)
    made = lnz.AutoregressiveLogistic.of(loc, scale, 17, key=jr.key(0))
    plain = lnz.DiscretisedLogistic(loc, scale, 17)
    x = jnp.array([[0, 3, 16], [8, 9, 1]])
    ours, theirs, draws, plain_draws = jax.jit(
        lambda a, b: (a.log_prob(x), b.log_prob(x), a.sample(jr.key(1), (7,)), b.sample(jr.key(1), (7,)))
    )(made, plain)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6 if precision == "float32" else 1e-14)
    np.testing.assert_array_equal(draws, plain_draws)  # of the same noise


def test_moved_by_a_context_one_at_a_time_and_all_at_once(float64):
    made = table.autoregressive_grey(3, 2, 8, radius=1)
    decoder = lnz.Conditional.of(made, 2, key=jr.key(0), where=lambda d: (d.loc, d.context), width=4, depth=1)
    decoder = eqx.tree_at(lambda d: d.net, decoder, table.away_from_identity(decoder.net, 0.5, 693))
    z, keys = table.normal(694, 4, 2), jr.split(jr.key(1), 4)

    @jax.jit
    def draw(key, z):
        x = decoder(z).sample(key, (3,))
        # Several pictures of one context: x and the parameters have batch axes of their own.
        return x, jax.vmap(decoder(z).log_prob)(x)

    x, log_probs = jax.jit(jax.vmap(draw))(keys, z)
    one_by_one = [draw(key, each) for key, each in zip(keys, z, strict=True)]
    np.testing.assert_array_equal(x, [x for x, _ in one_by_one])
    np.testing.assert_allclose(log_probs, [log_prob for _, log_prob in one_by_one], rtol=1e-12)
    assert len(np.unique(log_probs[:, 0])) == 4


def test_grey_values_that_do_not_exist_have_no_probability():
    made = table.autoregressive_grey(1, 2, 5)
    assert jnp.all(jax.jit(jax.vmap(made.log_prob))(jnp.array([[-1, 0], [0, 5]])) == -jnp.inf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_shape": (2, 2)}, r"rows and columns of a picture of 6 pixels; got \(2, 2\)"),
        ({"image_shape": None}, r"rows and columns of a picture of 6 pixels; got \(6,\)"),
        ({"radius": 0}, r"radius"),
        ({"min_scale": 0.0}, r"min_scale=.*must be positive; got 0.0"),
        ({"scale": -1.0}, r"scale=.*must be positive"),
        ({"context": np.zeros((1, 5))}, r"context=.*\('num', 6\); got \(1, 5\)"),
    ],
)
def test_what_cannot_be_built(change, message):
    parts = {"loc": np.full(6, 0.5), "scale": 0.1, "context": np.zeros((1, 6)), "image_shape": (2, 3), **change}
    with pytest.raises(ValueError, match=message):
        lnz.AutoregressiveLogistic(net=lambda h: h[:2], **parts)
