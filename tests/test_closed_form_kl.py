"""Divergences in closed form: against Monte Carlo, against quadrature, and at extreme parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table

import lnz
from lnz.distributions._closed_form_kl import _RULES

normal = table.normal


def tril(seed, num):
    return 0.5 * jnp.tril(normal(seed, num, num), -1) + jnp.diag(0.6 + 0.3 * jnp.abs(normal(seed + 1, num)))


def diagonal(seed=500, num=2, scale=0.5):
    return lnz.Normal(normal(seed, num), jnp.exp(scale * normal(seed + 1, num)))


def full(seed=510, num=2):
    return lnz.MultivariateNormal(0.5 * normal(seed, num), tril(seed + 1, num))


def low_rank(seed):
    return lnz.LowRankNormal(0.5 * normal(seed, 2), 0.5 * normal(seed + 1, 2, 1), jnp.array([0.6, 0.9]))


PAIRS = {
    "normal_normal": lambda: (diagonal(500), diagonal(502)),
    "full_normal": lambda: (full(510), diagonal(502)),
    "normal_full": lambda: (diagonal(500), full(513)),
    "full_full": lambda: (full(510), full(513)),
    "low_rank_normal": lambda: (low_rank(530), diagonal(502)),
    "low_rank_full": lambda: (low_rank(530), full(513)),
    "normal_low_rank": lambda: (diagonal(500), low_rank(533)),
    "full_low_rank": lambda: (full(510), low_rank(533)),
    "low_rank_low_rank": lambda: (low_rank(530), low_rank(533)),
    "laplace_near": lambda: (lnz.Laplace(jnp.array([0.5]), 0.8), lnz.Laplace(jnp.array([0.3]), 1.1)),
    "laplace_far": lambda: (lnz.Laplace(jnp.array([0.5]), 0.4), lnz.Laplace(jnp.array([-0.3]), 0.7)),
    "laplace_normal": lambda: (lnz.Laplace(jnp.array([0.5]), 0.4), lnz.Normal(jnp.array([-0.2]), 0.9)),
    "logistic_normal": lambda: (lnz.Logistic(jnp.array([0.5]), 0.3), lnz.Normal(jnp.array([-0.2]), 0.9)),
    "student_normal": lambda: (lnz.StudentT(jnp.array([0.5]), 0.3, 12.0), lnz.Normal(jnp.array([-0.2]), 0.9)),
    "student_normal_many": lambda: (lnz.StudentT(jnp.array([0.5]), 0.5, 80.0), lnz.Normal(jnp.array([-0.2]), 0.9)),
    "bernoulli": lambda: (lnz.Bernoulli(normal(520, 4)), lnz.Bernoulli(normal(521, 4))),
    "poisson": lambda: (lnz.Poisson(jnp.array([0.5, -2.0])), lnz.Poisson(jnp.array([-0.3, 1.0]))),
    "continuous_bernoulli": lambda: (
        lnz.ContinuousBernoulli(jnp.array([0.0, 3.0])),
        lnz.ContinuousBernoulli(jnp.array([-1.0, 0.4])),
    ),
    "categorical": lambda: (lnz.Categorical(normal(522, 2, 3)), lnz.Categorical(normal(523, 2, 3))),
    "uniform": lambda: (lnz.Uniform(1, -0.5, 1.0), lnz.Uniform(1, -1.0, 2.5)),
    "uniform_torus": lambda: (lnz.Uniform(lnz.Torus(1)), lnz.Uniform(lnz.Torus(1))),
    "product": lambda: (
        lnz.ProductDistribution(diagonal(500, 1), full(510, 1)),
        lnz.ProductDistribution(diagonal(502, 1), diagonal(504, 1)),
    ),
}
pairs = pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS.keys())


def test_every_rule_has_a_pair():
    assert {tuple(type(d) for d in make()) for make in PAIRS.values()} == set(_RULES)


@pairs
def test_is_the_mean_of_the_log_ratio(make):
    """Within 6 standard errors of 20,000 draws: a false alarm in fewer than one of a million keys."""

    @eqx.filter_jit
    def run(q, p):
        x, log_q = q.sample_and_log_prob(jr.key(1), (20_000,))
        ratios = log_q - jax.vmap(p.log_prob)(x)
        return lnz.closed_form_kl(q, p), jnp.mean(ratios), jnp.std(ratios) / jnp.sqrt(20_000.0)

    exact, mean, error = run(*make())
    assert exact.shape == ()
    assert float(error) < 0.05
    assert abs(float(exact - mean)) < 6 * float(error) + 1e-5


@pairs
def test_is_the_integral(make, float64):
    q, p = make()
    # One dimension may have kinks, where the trapezoid rule has second order: an error of about 1e-7 here.
    grid = (100_001, (-30.0, 30.0)) if q.space.size == 1 else (601, (-12.0, 12.0))
    by_grid = lnz.kl_divergence(q, p, num=grid[0], bounds=grid[1])
    exact = jax.jit(lambda: lnz.closed_form_kl(q, p))()
    if isinstance(q, lnz.Uniform):  # on the grid q is uniform over a space of its own
        x = q.sample(jr.key(0))
        assert float(exact) == pytest.approx(float(q.log_prob(x) - p.log_prob(x)))
    else:
        assert float(exact) == pytest.approx(float(by_grid.value), abs=2e-7 + 2 * float(by_grid.standard_error))


@pairs
def test_is_zero_between_equals_and_batches(make, precision):
    q, p = make()
    eps = float(jnp.finfo(jnp.result_type(float)).eps)

    @eqx.filter_jit
    def run(q, p):
        two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]) if eqx.is_array(leaf) else leaf, q)
        axes = jax.tree.map(lambda leaf: 0 if eqx.is_array(leaf) else None, two)
        batched = eqx.filter_vmap(lambda q: lnz.closed_form_kl(q, p), in_axes=(axes,), axis_size=2)(two)
        return lnz.closed_form_kl(q, q), lnz.closed_form_kl(q, p), batched

    if type(q) is type(p) and not isinstance(q, lnz.ProductDistribution):
        assert abs(float(run(q, q)[0])) < 20 * eps
    _, one, batched = run(q, p)
    np.testing.assert_allclose(batched, jnp.stack([one, one]), rtol=10 * eps)


EXTREME = {
    "normal_tiny": lambda: (lnz.Normal(jnp.array([0.0, 1e-9]), 1e-12), lnz.Normal.standard(2)),
    "normal_both_tiny": lambda: (lnz.Normal(jnp.zeros(2), 1e-15), lnz.Normal(jnp.full(2, 2e-15), 2e-15)),
    "normal_wide": lambda: (lnz.Normal(jnp.zeros(2), 1e9), lnz.Normal(jnp.ones(2), 1.0)),
    "low_rank_tiny": lambda: (
        lnz.LowRankNormal(jnp.zeros(3), jnp.array([[1e-9, 1e-9], [1e-9, 1e-9], [2e-9, 2e-9]]), 1e-14),
        lnz.Normal.standard(3),
    ),
    "laplace_tiny": lambda: (lnz.Laplace(jnp.array([0.0, 1.0]), 1e-20), lnz.Laplace(jnp.array([0.0, -1.0]), 1e-10)),
    "laplace_normal_tiny": lambda: (lnz.Laplace(jnp.zeros(2), 1e-20), lnz.Normal.standard(2)),
    "student_many": lambda: (lnz.StudentT(jnp.zeros(2), 1e-9, 1e12), lnz.Normal.standard(2)),
    "bernoulli": lambda: (
        lnz.Bernoulli(jnp.array([1000.0, -1000.0, 1000.0, 0.0])),
        lnz.Bernoulli(jnp.array([1000.0, -1000.0, -1000.0, 1000.0])),
    ),
    "poisson_rare": lambda: (lnz.Poisson(jnp.array([-80.0, 10.0, 0.0])), lnz.Poisson(jnp.array([10.0, -80.0, 0.0]))),
    "continuous_bernoulli": lambda: (
        lnz.ContinuousBernoulli(jnp.array([0.0, 1e4, -1e4, 1e-30])),
        lnz.ContinuousBernoulli(jnp.array([0.0, -1e4, 0.0, 0.0])),
    ),
    "categorical": lambda: (
        lnz.Categorical(jnp.array([1e4, 0.0, -1e4])),
        lnz.Categorical(jnp.array([0.0, 1e4, -1e4])),
    ),
    "full_tiny": lambda: (
        lnz.MultivariateNormal(jnp.zeros(2), jnp.array([[1e-12, 0.0], [1e-12, 1e-12]])),
        lnz.Normal.standard(2),
    ),
}


@pytest.mark.parametrize("make", EXTREME.values(), ids=EXTREME.keys())
def test_extremes_are_finite(make, precision):
    q, p = make()
    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(lambda pair: lnz.closed_form_kl(*pair)))((q, p))
    assert 0 <= float(value) < jnp.inf
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))


def test_known_extremes():
    q, p = EXTREME["bernoulli"]()
    assert float(lnz.closed_form_kl(q, p)) == pytest.approx(1000 + 500 - np.log(2), rel=1e-6)
    # A bit that is 1 once in e^50: what is left is e^-50 (10 - 1 + e^-10), all of whose digits subtraction would lose.
    rare = lnz.closed_form_kl(lnz.Bernoulli(jnp.array([50.0])), lnz.Bernoulli(jnp.array([60.0])))
    assert float(rare) == pytest.approx(np.exp(-50) * (9 + np.exp(-10)), rel=1e-5)


def entropy_near(a, b):
    """Of categories, in NumPy's long numbers, of which 80-bit ones keep ten digits here."""
    a, b = np.longdouble(a), np.longdouble(b)
    log_q, log_p = (t - np.log(np.sum(np.exp(t), axis=-1, keepdims=True)) for t in (a, b))
    return np.sum(np.exp(log_q) * (log_q - log_p))


def bregman(a, b, log_partition, mean):
    a, b = np.longdouble(a), np.longdouble(b)
    return np.sum(log_partition(b) - log_partition(a) - mean(a) * (b - a))


NEAR = {
    "bernoulli": (lnz.Bernoulli, lambda a, b: entropy_near(np.stack([a, 0 * a], -1), np.stack([b, 0 * b], -1))),
    "categorical": (
        lambda t: lnz.Categorical(t.reshape(4, -1)),
        lambda a, b: entropy_near(a.reshape(4, -1), b.reshape(4, -1)),
    ),
    "continuous_bernoulli": (
        lnz.ContinuousBernoulli,
        lambda a, b: bregman(a, b, lambda t: np.log(np.expm1(t) / t), lambda t: -np.exp(t) / -np.expm1(t) - 1 / t),
    ),
    "poisson": (lnz.Poisson, lambda a, b: np.sum(np.exp(a) * (a - b) - np.exp(a) + np.exp(b))),
    "normal": (
        lambda t: lnz.modules._module.replace(lnz.Normal(jnp.zeros_like(t), 1.0), log_scale=t),
        lambda a, b: np.sum(b - a + (np.exp(2 * (a - b)) - 1) / 2),
    ),
}


@pytest.mark.parametrize("name", NEAR)
def test_near_each_other_digits_are_kept(name):
    """Divergences of 1e-11 and less, as between an encoder and its target, in float32 and against 80 bits."""
    make, exact = NEAR[name]
    a = jnp.linspace(-6.0, 7.0, 12, dtype=jnp.float32)
    a = a.at[-1].set(0.3)

    @jax.jit
    def run(a, b):
        return jax.value_and_grad(lambda a, b: lnz.closed_form_kl(make(a), make(b)), (0, 1))(a, b)

    for shift in (1e-6, 1e-4, 1e-2, 0.4, 0.7, 3.0):
        b = a + shift * normal(540, 12).astype(jnp.float32)
        value, gradients = run(a, b)
        a_, b_ = np.longdouble(a), np.longdouble(b)
        assert float(value) == pytest.approx(float(exact(a_, b_)), rel=5e-6), shift
        for i, gradient in enumerate(gradients):
            along = np.longdouble(gradient)
            step = np.longdouble(1e-5) * shift * along / np.max(np.abs(along))
            up, down = ((a_ + s * step * (i == 0), b_ + s * step * (i == 1)) for s in (1, -1))
            slope = float((exact(*up) - exact(*down)) / 2)
            assert float(np.sum(along * step)) == pytest.approx(slope, rel=3e-5), (shift, i)


def test_continuous_bernoullis_far_from_zero_keep_their_digits():
    """There they are exponentials of rate t: `r - log(1 + r)` with `r = b / a - 1`, which no seam may spoil."""
    a = jnp.array([1e4, 1e4, 1e4, 1e4, -3e3, -3e3, 1e4])
    b = jnp.array([1.0001e4, 1.2e4, 1.6e4, 3e3, -3.001e3, -9e3, 5e3])
    bits = lnz.ContinuousBernoulli
    values = jax.jit(jax.vmap(lambda a, b: lnz.closed_form_kl(bits(a), bits(b))))(a, b)
    r = np.longdouble(b) / np.longdouble(a) - 1
    np.testing.assert_allclose(values, (r - np.log1p(r)).astype(float), rtol=1e-5)


def test_what_never_happens_adds_nothing():
    inf = jnp.inf
    sure = lnz.Bernoulli(jnp.array([inf, -inf]))
    assert float(lnz.closed_form_kl(sure, lnz.Bernoulli(jnp.zeros(2)))) == pytest.approx(2 * np.log(2))
    assert float(lnz.closed_form_kl(sure, sure)) == 0
    assert float(lnz.closed_form_kl(lnz.Bernoulli(jnp.zeros(2)), sure)) == inf
    two = lnz.Categorical(jnp.array([0.0, 0.0, -inf]))
    value, gradient = jax.value_and_grad(lambda q: lnz.closed_form_kl(q, lnz.Categorical(jnp.zeros(3))))(two)
    assert float(value) == pytest.approx(np.log(1.5))
    assert bool(jnp.all(jnp.isfinite(gradient.logits)))
    assert float(lnz.closed_form_kl(two, two)) == 0
    assert float(lnz.closed_form_kl(lnz.Categorical(jnp.zeros(3)), two)) == inf
    assert float(lnz.closed_form_kl(lnz.Uniform(2, 0.0, 3.0), lnz.Uniform(2))) == inf


def test_none_where_there_is_none():
    standard = lnz.Normal.standard(1)
    assert lnz.closed_form_kl(table.mixture_of_normals(), standard) is None
    assert lnz.closed_form_kl(lnz.Uniform(2), lnz.Normal.standard(2)) is None
    mixed = lnz.ProductDistribution(standard, table.mixture_of_normals())
    assert lnz.closed_form_kl(mixed, lnz.ProductDistribution(standard, standard)) is None
    other_parts = lnz.ProductDistribution(lnz.Normal.standard(2))
    assert lnz.closed_form_kl(lnz.ProductDistribution(standard, standard), other_parts) is None


def test_a_rule_of_ones_own():
    class Own(lnz.AbstractDistribution):
        inner: lnz.Normal
        space = property(lambda self: self.inner.space)
        reparameterised = property(lambda self: True)

        def log_prob(self, x, *, key=None):
            return self.inner.log_prob(x)

        def sample(self, key, shape=()):
            return self.inner.sample(key, shape)

        def sample_and_log_prob(self, key, shape=()):
            return self.inner.sample_and_log_prob(key, shape)

    own, standard = Own(diagonal(500)), lnz.Normal.standard(2)
    assert lnz.closed_form_kl(own, standard) is None
    try:
        lnz.register_kl(Own, lnz.Normal)(lambda q, p: lnz.closed_form_kl(q.inner, p))
        assert lnz.closed_form_kl(own, standard) == lnz.closed_form_kl(own.inner, standard)
    finally:
        del _RULES[Own, lnz.Normal]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: lnz.closed_form_kl(lnz.Normal.standard(2), lnz.Normal.standard(3)), ValueError, "on one space; got"),
        (
            lambda: lnz.closed_form_kl(lnz.Categorical(jnp.zeros((2, 3))), lnz.Categorical(jnp.zeros((2, 4)))),
            ValueError,
            "as many categories",
        ),
        (lambda: lnz.closed_form_kl(table.rbm(), lnz.Bernoulli(jnp.zeros(4))), TypeError, "`closed_form_kl.q=...."),
        (lambda: lnz.register_kl(lnz.Normal, 3), TypeError, "type_p"),
        (
            lambda: lnz.closed_form_kl(lnz.Poisson(jnp.zeros(1)), lnz.Normal.standard(1)),
            ValueError,
            "distributions on one space",
        ),
    ],
)
def test_what_does_not_fit(untyped, call, error, words):
    with pytest.raises(error, match=words):
        call()
