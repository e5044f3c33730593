"""What users pass by mistake: an error that says so, never a plausible wrong number."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import table
from jax.scipy.special import logsumexp

import lnz
from lnz.energy import DBM, RBM
from lnz.energy._units import as_units

ONE_EXAMPLES = {
    "rbm.log_density": lambda: (table.rbm().log_density, (4,)),
    "rbm.free_energy": lambda: (table.rbm().free_energy, (4,)),
    "rbm.hidden_given_visible": lambda: (table.rbm().hidden_given_visible, (4,)),
    "rbm.visible_given_hidden": lambda: (table.rbm().visible_given_hidden, (3,)),
    "rbm.condition": lambda: (table.rbm().condition, (4,)),
    "rbm.energy_v": lambda: (lambda v: table.rbm().energy(v, jnp.zeros(3)), (4,)),
    "rbm.energy_h": lambda: (lambda h: table.rbm().energy(jnp.zeros(4), h), (3,)),
    "dbm.condition": lambda: (table.dbm(3, 2, 2).condition, (3,)),
    "markov_field.energy": lambda: (table.markov_field().energy, (4,)),
    "affine.forward": lambda: (table.BIJECTIONS["affine"]().forward_and_log_det, (3,)),
    "affine.inverse": lambda: (table.BIJECTIONS["affine"]().inverse_and_log_det, (3,)),
    "triangular.forward": lambda: (table.BIJECTIONS["chain"]().bijections[0].forward_and_log_det, (2,)),
    "triangular.inverse": lambda: (table.BIJECTIONS["chain"]().bijections[0].inverse_and_log_det, (2,)),
    "vae.posterior": lambda: (table.linear_vae().posterior, (3,)),
    "vae.condition": lambda: (lambda x: lnz.condition(table.linear_vae(), x), (3,)),
    **{
        f"{name}.log_prob": lambda make=make: (make().log_prob, make().space.shape)
        for name, make in table.DISTRIBUTIONS.items()
    },
}


@pytest.mark.parametrize("make", ONE_EXAMPLES.values(), ids=ONE_EXAMPLES)
def test_a_batch_is_no_example(untyped, make):
    f, shape = make()
    batch = jnp.zeros((5, *shape))
    with pytest.raises(ValueError, match=r"must be one example of shape .*; got \(5, .*`jax.vmap\(f\)\(.*\)`"):
        f(batch)
    with pytest.raises(ValueError, match=r"must be one example of shape"):
        f(jnp.zeros((*shape[:-1], shape[-1] + 1)))  # a wrong length
    with pytest.raises(ValueError, match=r"must be one example of shape"):
        f(jnp.zeros(()))  # would broadcast

    @eqx.filter_jit
    def both():
        return f(jnp.zeros(shape)), eqx.filter_vmap(f)(batch)

    alone, mapped = (eqx.filter(made, eqx.is_array) for made in both())
    for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(mapped), strict=True):
        np.testing.assert_allclose(many[0], one, rtol=1e-5, atol=1e-6)


def test_message_for_a_batch():
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        lnz.Binary(64).check_example(np.zeros((3, 64)), "v")
    assert str(caught.value) == (
        "`v` must be one example of shape (64,); got (3, 64). For a batch use `jax.vmap(f)(v)`."
    )


def test_an_encoderless_vae_checks_in_its_likelihood(untyped):
    vae = lnz.latent.VAE(lnz.Normal.standard(2), table.linear_vae().decoder, None)
    with pytest.raises(ValueError, match=r"`x` must be one example of shape \(3,\); got \(1,\)"):
        lnz.condition(vae, jnp.zeros(1)).log_density(jnp.zeros(2))


def test_examples_may_be_lists_or_numpy(untyped):
    machine, v = table.rbm(), [1, 0, 1, 1]
    expected = machine.free_energy(jnp.asarray(v, jnp.float32))
    for stored in (v, np.array(v), np.array(v, bool)):
        assert machine.free_energy(stored) == expected
    assert lnz.Bernoulli(jnp.zeros(2)).log_prob([0, 1]) == pytest.approx(-2 * math.log(2))
    assert lnz.Categorical(jnp.zeros((2, 3))).log_prob([0, 2]) == pytest.approx(-2 * math.log(3))
    assert lnz.Normal.standard(2).log_prob([0, 1]) == pytest.approx(-0.5 - math.log(2 * math.pi))


def test_theta_of_a_conjugate_model_is_one_example(untyped):
    posterior = lnz.condition(table.conjugate(), table.conjugate_data())
    with pytest.raises(ValueError, match=r"must be one example of shape \(1,\)"):
        posterior.log_likelihood(jnp.zeros((5, 1)))


INF = math.inf


@pytest.mark.parametrize(
    ("logits", "x", "expected"),
    [
        ([INF, 0.3], [1, 1], -math.log1p(math.exp(-0.3))),
        ([INF, 0.3], [0, 1], -INF),
        ([-INF, 0.3], [0, 0], -math.log1p(math.exp(0.3))),
        ([-INF, 0.3], [1, 0], -INF),
        ([INF, -INF], [1, 0], 0.0),
        ([INF, -INF], [0, 0], -INF),
        ([INF, -INF], [0, 1], -INF),  # two contradictions do not cancel
        ([INF, -INF], [1, 1], -INF),
    ],
)
def test_bits_that_never_vary(precision, logits, x, expected):
    def log_prob(logits):
        return lnz.Bernoulli(logits).log_prob(jnp.asarray(x, logits.dtype))

    logits = jnp.asarray(logits, jnp.result_type(float))
    assert float(log_prob(logits)) == pytest.approx(expected, rel=1e-6)
    gradient = np.asarray(jax.grad(log_prob)(logits))
    assert np.isfinite(gradient).all()
    if expected != -INF and np.isfinite(logits[1]):
        assert gradient[1] == pytest.approx(x[1] - 1 / (1 + math.exp(-0.3)), rel=1e-6)
    assert (gradient[np.isinf(logits)] == 0).all()


def test_mixtures_of_bits_that_never_vary(precision):
    """A mixture of Bernoullis goes by products: the same numbers, and no gradient that is not finite."""
    logits = jnp.asarray([[INF, 0.3], [-INF, 0.3], [0.2, -INF], [INF, -INF]], jnp.result_type(float))
    rows = jnp.asarray([[0, 0], [0, 1], [1, 0], [1, 1]], logits.dtype)

    def log_joints(logits):
        return jax.vmap(lnz.Mixture(jnp.zeros(4, logits.dtype), lnz.Bernoulli(logits)).log_joint)(rows)

    each = [[float(lnz.Bernoulli(row).log_prob(x)) - math.log(4) for row in logits] for x in rows]
    np.testing.assert_allclose(log_joints(logits), each, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda logits: jnp.sum(jax.nn.logsumexp(log_joints(logits), axis=1)))(logits)).all()


def test_not_a_number_is_not_hidden():
    assert jnp.isnan(lnz.Bernoulli(jnp.array([jnp.nan, 0.0])).log_prob(jnp.zeros(2)))


def test_a_probability_table_with_zeros_and_ones(precision):
    probs = np.array([0.0, 1.0, 0.25])
    bits = lnz.Bernoulli.from_probs(probs)
    states, _ = bits.space.quadrature()
    x = np.asarray(states)
    expected = np.prod(np.where(x == 1, probs[None], 1 - probs[None]), axis=1)
    np.testing.assert_allclose(jnp.exp(jax.vmap(bits.log_prob)(states)), expected, rtol=1e-6)
    draws = np.asarray(bits.sample(jr.key(0), (100,)))
    assert (draws[:, 0] == 0).all()
    assert (draws[:, 1] == 1).all()


def test_mixture_of_fixed_bits_is_one_matrix_product():
    """A prototype a component; and the log-probabilities of a batch come of `dot_general`, not of a sum over pairs."""
    probs = np.array([[0.0, 1.0, 1.0], [0.5, 0.5, 1.0]])
    mixture = lnz.Mixture(jnp.zeros(2), lnz.Bernoulli.from_probs(probs))
    states, _ = lnz.Binary(3).quadrature()
    x = np.asarray(states)
    joint = np.prod(np.where(x[:, None] == 1, probs[None], 1 - probs[None]), axis=2)
    got = jnp.exp(jax.vmap(mixture.log_prob)(states))
    np.testing.assert_allclose(got, joint.mean(axis=1), rtol=1e-6)
    sizes = [
        math.prod(variable.aval.shape)
        for equation in jax.make_jaxpr(jax.vmap(mixture.log_joint))(jnp.zeros((50, 3))).eqns
        for variable in equation.outvars
    ]
    assert max(sizes) <= 50 * 3  # never 50 examples x 2 components x 3 bits


def test_impossible_categories(precision):
    logits = jnp.asarray([[0.0, -INF, 1.0], [0.2, 0.1, -INF]], jnp.result_type(float))

    def log_prob(logits, x):
        return lnz.Categorical(logits).log_prob(jnp.asarray(x, jnp.int32))

    weights = np.exp(np.asarray(logits))
    probs = weights / weights.sum(axis=1, keepdims=True)
    for x in np.ndindex(3, 3):
        with np.errstate(divide="ignore"):
            expected = np.log(probs[0, x[0]]) + np.log(probs[1, x[1]])
        np.testing.assert_allclose(log_prob(logits, x), expected, rtol=1e-5)
    gradient = np.asarray(jax.grad(log_prob)(logits, (2, 0)))
    expected = np.array([[0, 0, 1], [1, 0, 0]]) - probs
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    assert np.isfinite(np.asarray(jax.grad(log_prob)(logits, (1, 0)))[np.isfinite(logits)]).all()
    assert log_prob(logits, (3, 0)) == log_prob(logits, (-1, 0)) == -INF  # outside the space


@pytest.mark.parametrize("probs", [[-0.1, 0.5], [0.5, 1.1], [math.nan, 0.5]])
def test_probabilities_outside_zero_to_one(probs):
    with pytest.raises(ValueError, match=r"`Bernoulli.from_probs\(probs\)` needs probabilities from 0 to 1"):
        lnz.Bernoulli.from_probs(probs)


@pytest.mark.parametrize("convert", [list, np.array, lambda x: np.array(x, np.int64)])
def test_logits_may_be_lists_or_numpy(precision, convert):
    logits = convert([0, 1, 2])
    for make in (lnz.Bernoulli, lnz.Categorical, lambda x: lnz.Mixture(x, lnz.Normal(jnp.zeros((3, 1)), 1.0))):
        made = make(logits).logits
        assert isinstance(made, jax.Array)
        assert made.dtype == precision
        np.testing.assert_array_equal(made, [0, 1, 2])


def test_logits_keep_their_precision():
    assert lnz.Bernoulli(jnp.zeros(2, jnp.bfloat16)).logits.dtype == jnp.bfloat16


def test_distributions_are_built_under_vmap_and_jit():
    logits = table.normal(0, 5, 3)
    made = eqx.filter_jit(eqx.filter_vmap(lnz.Bernoulli))(logits)
    np.testing.assert_array_equal(made.logits, logits)
    log_probs = jax.jit(jax.vmap(lambda row: lnz.Categorical(row).log_prob(jnp.asarray(1))))(logits)
    np.testing.assert_allclose(log_probs, logits[:, 1] - logsumexp(logits, axis=1), rtol=1e-5)


@pytest.mark.parametrize("make", [lnz.Normal, lnz.bijections.Affine], ids=["Normal", "Affine"])
@pytest.mark.parametrize(("loc", "scale"), [((3,), (2,)), ((), (3,)), ((2, 3), (2,)), ((3,), (1, 3))])
def test_scale_that_does_not_fit(make, loc, scale):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (checked below)
        make(jnp.zeros(loc), jnp.ones(scale))
    assert f"got loc of shape {loc} and scale of shape {scale}" in str(caught.value)


@pytest.mark.parametrize("scale", [2.0, [2.0], [[2.0], [2.0]], np.full((2, 3), 2)])
def test_scale_that_fits(scale):
    np.testing.assert_allclose(lnz.Normal(np.zeros((2, 3)), scale).scale, np.full((2, 3), 2.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: lnz.Normal(jnp.zeros(2), [1.0, -1.0]), ValueError, r"`Normal\(scale=...\)` must be positive"),
        (
            lambda: lnz.MultivariateNormal(jnp.zeros(3), jnp.eye(2)),
            ValueError,
            r"`MultivariateNormal\(loc, scale_tril\)` needs .* got \(3,\) and \(2, 2\)",
        ),
        (lambda: lnz.MultivariateNormal(0.0, 1.0), ValueError, r"got \(\) and \(\)"),
        (lambda: lnz.MultivariateNormal(jnp.zeros(2), -jnp.eye(2)), ValueError, r"from_covariance\(loc, covariance\)"),
        (
            lambda: lnz.bijections.TriangularAffine(jnp.zeros(2), jnp.eye(3)),
            ValueError,
            r"`TriangularAffine\(loc, tril\)` needs .* got \(2,\) and \(3, 3\)",
        ),
        (
            lambda: lnz.bijections.TriangularAffine(jnp.zeros(2), -jnp.eye(2)),
            ValueError,
            r"`TriangularAffine\(tril=...\)` needs a positive diagonal; got \[-1. -1.\]\.$",
        ),
        (
            lambda: lnz.bijections.Chain([lnz.bijections.Affine(jnp.ones(2), 2.0)] * 2),
            TypeError,
            r"`Chain\(...\)` needs bijections, one by one; argument 0 is list. Try `Chain\(\*bijections\)`",
        ),
        (
            lambda: lnz.bijections.Stack((lnz.bijections.Affine(jnp.ones(2), 2.0),)),
            TypeError,
            r"argument 0 is tuple. Try `Stack\(\*bijections\)`",
        ),
        (
            lambda: lnz.bijections.Concatenate(lnz.bijections.Affine(jnp.ones(2), 2.0), lnz.bijections.Exp),
            TypeError,
            r"`Concatenate\(...\)` needs bijections, one by one; argument 1 is the class Exp, not an instance",
        ),
        (
            lambda: lnz.Mixture(jnp.zeros(2), [lnz.Normal.standard(1), lnz.Normal.standard(1)]),
            TypeError,
            r"got list. Stack components of one class: `jax.tree.map\(lambda \*leaves: jnp.stack\(leaves\), \*comp",
        ),
        (lambda: lnz.Mixture(jnp.zeros(2), lnz.Uniform(1)), ValueError, r"Uniform has no arrays"),
        (lambda: lnz.Mixture(0.0, lnz.Normal.standard(1)), ValueError, r"needs one log weight a component"),
        (lambda: lnz.Categorical(3), ValueError, r"`Categorical\(logits\)` needs log-probabilities"),
        (
            lambda: lnz.Transformed(lnz.bijections.Affine(0.0, 1.0), lnz.Normal.standard(())),
            TypeError,
            r"`Transformed\(base, bijection\)` needs a distribution and then a bijection; got Affine and Normal",
        ),
        (lambda: RBM(4, 3, key=0), TypeError, r"`key` must be a JAX random key; got the number 0. Try `jax.random.key"),
        (lambda: DBM(4, 3, key=0), TypeError, r"`key` must be a JAX random key; got the number 0"),
        (lambda: as_units(True, "hidden"), ValueError, r"`hidden` must be a positive number"),
        (lambda: as_units(np.int64(0), "hidden"), ValueError, r"`hidden` must be a positive number"),
        (lambda: DBM(4, np.int64(0), key=jr.key(0)), ValueError, r"at least two positive numbers"),
        (lambda: table.rbm().density(0.0), ValueError, r"`density\(temperature=...\)` must be positive"),
        (lambda: table.rbm().density(np.float32(-1)), ValueError, r"`density\(temperature=...\)` must be positive"),
        (lambda: lnz.data.load(3), TypeError, r"`load\(name\)` needs the name of a data set.*; got int"),
        (lambda: lnz.data.load(["digits"]), TypeError, r"`load\(name\)` needs the name of a data set"),
    ],
)  # fmt: skip
def test_constructors_say_what_is_wrong(untyped, make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_the_advice_to_stack_works():
    components = [lnz.Normal(jnp.array([-1.0]), 1.0), lnz.Normal(jnp.array([2.0]), 0.5)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *components)
    mixture = lnz.Mixture(jnp.zeros(2), stacked)
    x = jnp.array([0.3])
    expected = np.mean([math.exp(component.log_prob(x)) for component in components])
    assert math.exp(mixture.log_prob(x)) == pytest.approx(expected, rel=1e-5)


def test_sizes_may_be_numpy_numbers(untyped):
    machine = RBM(np.int64(4), np.int32(3), key=jr.key(0))
    assert machine.space == lnz.Binary(4)
    assert type(machine.visible.num) is int
    np.testing.assert_array_equal(machine.W, RBM(4, 3, key=jr.key(0)).W)
    assert DBM(np.int64(4), 3, key=jr.key(0)).space == lnz.Binary(4)


def test_temperatures_share_compiled_code(untyped, precision):
    machine, v = table.rbm(), jnp.ones(4)
    traces = []

    @eqx.filter_jit
    def log_density(density):
        traces.append(None)
        return density.log_density(v)

    for temperature in (1.7, 2, np.float32(3)):
        input = np.asarray(machine.c + v @ machine.W, np.float64) / temperature
        expected = float(v @ machine.b) / temperature + np.sum(np.logaddexp(0, input))
        assert float(log_density(machine.density(temperature))) == pytest.approx(float(expected), rel=1e-5)
    assert len(traces) == 1
    assert machine.density(1.7).beta.dtype == machine.W.dtype
    assert all(type(machine.density(one).beta) is float for one in (1.0, 1))
    gradient = jax.grad(lambda t: machine.density(t).log_density(v))(jnp.asarray(2.0, machine.W.dtype))
    assert jnp.isfinite(gradient)


@pytest.mark.parametrize("space", [lnz.Binary(6), lnz.spaces.Categorical(6, 3), lnz.Euclidean(6), lnz.Interval(6)])
def test_missing_values_are_called_missing(space):
    data = np.zeros((5, 6))
    data[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"nan at row 3, column \(5\).* It is missing: remove or fill in") as caught:
        space.check_data(data)
    assert "threshold" not in str(caught.value)


def test_whole_splits_are_no_data():
    splits = lnz.data.load("bars_and_stripes")
    with pytest.raises(TypeError, match=r"pass `bars_and_stripes.train`, not the whole Splits"):
        splits.space.check_data(splits)


def test_ragged_lists():
    with pytest.raises(ValueError, match=r"`valid` must be an array, but its rows have different lengths"):
        lnz.Binary(2).check_data([[0, 1], [1]], "valid")


def test_draws_from_a_grid_of_several_chunks():
    """2**12 points are four chunks of the default size; a fair bit has standard error 1/2 / sqrt(n), bound 5 of it."""
    draws = lnz.Binary(12).quadrature().sample(jr.key(0), lambda x: jnp.log(3.0) * x[11], 400)
    assert float(draws[:, 11].mean()) == pytest.approx(0.75, abs=5 * math.sqrt(0.1875 / 400))
    np.testing.assert_allclose(draws[:, :11].mean(axis=0), 0.5, atol=5 * 0.5 / 20)


def test_save_with_wrong_arguments(untyped, tmp_path):
    model = lnz.Normal.standard(1)
    with pytest.raises(TypeError, match=r"`save\(path, model\)` needs the path of a file first; got Normal"):
        lnz.save(model, tmp_path / "m.lnz")
    with pytest.raises(IsADirectoryError, match=r"is a folder. Add the name of a file"):
        lnz.save(tmp_path, model)
    with pytest.raises(TypeError, match=r"got a Fit: pass `fit.model`"):
        lnz.save(tmp_path / "m.lnz", lnz.Fit(model, [], "completed", (), 0.0))
    assert list(tmp_path.iterdir()) == []


BITS = lnz.Bernoulli(jnp.zeros(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lnz.normalizers.Importance(10.5), "whole number"),
        (lambda: lnz.samplers.Gibbs(1.5), "whole number"),
        (lambda: lnz.samplers.HMC(-1.0), "positive"),
        (lambda: lnz.objectives.ELBO(0), "at least 1"),
        (lambda: lnz.normalizers.AIS(10.5), "whole number"),
        (lambda: lnz.normalizers.AIS(betas=jnp.linspace(1.0, 0.0, 5)), "increase from 0 to 1"),
        (lambda: lnz.normalizers.AIS(betas=10.5), "whole number of temperatures"),
        (lambda: lnz.normalizers.AIS(sampler=lnz.samplers.Gibbs), "with its brackets"),
        (lambda: lnz.normalizers.AIS(path=jnp.ones(3)), "rbm.path"),
        (lambda: lnz.normalizers.Quadrature(bounds=(5.0, -5.0)), "low < high"),
        (lambda: lnz.compare([1.0]), "names and results"),
        (lambda: lnz.sample(jax.random.key(0), BITS, 2, sampler=lnz.samplers.Gibbs()), "sampled exactly"),
        (
            lambda: lnz.sample(jax.random.key(0), BITS, 2, start=jnp.zeros((2, 3))),
            r"`sample\(start=...\)` has no effect",
        ),
        (lambda: lnz.sample(jax.random.key(0), BITS, 2, sampler=lnz.samplers.Gibbs), "with its brackets"),
    ],
)
def test_bad_options_of_algorithms_are_explained(call, message, untyped):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
