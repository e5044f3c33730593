"""Every law of `lnz.testing` over every instance of the table, in both precisions."""

import functools
import itertools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special
import table
from jax.scipy.special import logsumexp

import lnz
from lnz import testing
from lnz.core import integral, root_of
from lnz.data import known_entries
from lnz.evaluation._evaluate import _method_for
from lnz.normalizers import AIS, Importance, Quadrature, ReverseAIS


def cases(instances):
    return pytest.mark.parametrize("make", instances.values(), ids=instances.keys())


@cases(table.SPACES)
def test_space(make, precision):
    testing.check_space(make(), jr.key(0), num=51)


@cases(table.SPACES)
@pytest.mark.usefixtures("untyped")
def test_entries_may_be_missing_in_every_space(make, precision):
    """Whatever is written where nothing is known: the rows are those of the space, and say what they said."""
    space = make()
    rows = np.asarray(space.reference_sample(jr.key(0), (6,), jnp.result_type(float)))
    known = np.random.RandomState(1).uniform(size=rows.shape) < 0.5
    for cells in (rows, np.where(known, rows, np.nan), np.ones_like(rows, int) if space.kind == "int" else rows):
        array, observed = known_entries(space, cells, known)
        assert np.asarray(space.elements_within(array)).all()
        np.testing.assert_array_equal(observed, known)
        np.testing.assert_array_equal(array[known], cells[known])


@cases(table.DISTRIBUTIONS)
def test_distribution(make, precision):
    distribution = make()
    # Splines have kinks in their densities, where the trapezoid rule converges slowly.
    num = 100_001 if distribution.space.size == 1 else 401
    num = 401 if isinstance(distribution.space, lnz.Counts) else num
    fine = {} if distribution.space.num_points else {"num": num, "bounds": (-16.0, 16.0)}
    testing.check_density(distribution, jr.key(0), **fine)


# Those that understand batch axes of their own arrays (`batch_last(takes_batched_parameters=True)`), and flows of them.
BATCH_LAST = [
    "bernoulli_image",
    "autoregressive_bits",
    "mixture_of_bernoullis",
    "mixture_of_normals",
    "flow_of_mixture",
    "affine_flow",
]


@pytest.mark.parametrize("name", BATCH_LAST)
def test_arrays_batched_one_at_a_time_give_what_a_loop_gives(name, float64):
    """With as many examples as the array has rows: what is aligned to the wrong axis would broadcast in silence."""
    distribution = table.DISTRIBUTIONS[name]()
    leaves, structure = jax.tree.flatten(distribution)
    draws = distribution.sample(jr.key(0), (5,))

    def log_prob(number, leaf, x):
        return jax.tree.unflatten(structure, [*leaves[:number], leaf, *leaves[number + 1 :]]).log_prob(x)

    @jax.jit
    def both():
        found = []
        for number, leaf in enumerate(leaves):
            if not eqx.is_inexact_array(leaf):
                continue
            size = leaf.shape[0] if leaf.ndim else 2
            moved = leaf[None] + 0.3 * table.normal(640 + number, size, *leaf.shape)
            x = jnp.resize(draws, (size, *draws.shape[1:]))
            f = functools.partial(log_prob, number)
            found += [(jax.vmap(f)(moved, x), jax.lax.map(lambda pair, f=f: f(*pair), (moved, x)))]
        return found

    for together, alone in both():
        np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)


ALONE = {name: make for name, make in table.DISTRIBUTIONS.items() if isinstance(make().space, lnz.Euclidean)}
ALONE = {name: make for name, make in ALONE.items() if type(make()).__module__.startswith("lnz.distributions")}


@cases(ALONE)
def test_no_point_is_too_far_for_a_log_density(make, precision):
    """Infinite, or too large to be squared: less likely than others, and never NaN."""
    distribution = make()
    x = np.asarray(distribution.sample(jr.key(0)))
    far = []
    for size in (1e3, 1e25, float(np.finfo(x.dtype).max), np.inf):
        for sign in (size, -size):
            far += [np.where(np.arange(x.size).reshape(x.shape) == place, sign, x) for place in (0, x.size - 1)]
        far.append(np.where(np.arange(x.size).reshape(x.shape) % 2, size, -size))
    log_probs = np.asarray(jax.jit(jax.vmap(distribution.log_prob))(np.stack([x, *far]).astype(x.dtype)))
    assert np.all(log_probs[1:] < log_probs[0])


@pytest.mark.parametrize("name", ["normals", "full normals", "bits"])
def test_a_mixture_without_any_mass_at_a_point_has_a_gradient(name):
    components, x = {
        "normals": (lnz.Normal(jnp.zeros((2, 1)), jnp.ones((2, 1))), [1e30]),
        "full normals": (jax.vmap(lnz.MultivariateNormal)(jnp.zeros((2, 2)), jnp.stack([jnp.eye(2)] * 2)), [1e30, 0.0]),
        "bits": (lnz.Bernoulli(jnp.full((2, 1), -jnp.inf)), [1.0]),
    }[name]
    mixture = lnz.Mixture(jnp.zeros(2), components)
    value, gradient = eqx.filter_value_and_grad(lambda mixture: mixture.log_prob(jnp.asarray(x)))(mixture)
    assert value == -jnp.inf
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(gradient))


NO_MEAN = {
    "categorical",
    "uniform_torus",
    "product",  # of which a part is an angle
    "record",  # of which a part is a category
    "joint",
    "layered_down",
    "layered_up",
    "layered_bits",
    "autoregressive_bits",
    "autoregressive_grey",
    "spline_flow",
    "coupling_flow",
    "autoregressive_flow",
    "flow_interval",
    "flow_positive",
}


def test_means_in_closed_form():
    """Those that there are obey a law of `check_density`; what has none says so."""
    for name, make in table.DISTRIBUTIONS.items():
        if name in NO_MEAN:
            with pytest.raises(NotImplementedError, match=r"no closed form is known for this .*Average draws"):
                jax.eval_shape(lambda make=make: make().mean())
        else:
            assert jax.eval_shape(lambda make=make: make().mean()).shape == make().space.shape, name
    assert jnp.isnan(lnz.StudentT(jnp.zeros(1), 1.0, 0.9).mean()[0])  # the integral does not converge


def test_maps_that_say_they_are_affine_take_means_to_means(float64):
    shapes = {name: eqx.filter_eval_shape(make) for name, make in table.BIJECTIONS.items()}
    found = [name for name, bijection in shapes.items() if bijection.is_affine]
    assert found == ["lecture", "affine", "triangular", "chain", "inverse", "lu", "householder"]

    @jax.jit
    def images():
        images = []
        for bijection in (table.BIJECTIONS[name]() for name in found):
            a, b = 3 * table.normal(320, 2, *bijection.domain.shape)
            images.append(jnp.stack([bijection.forward_and_log_det(x)[0] for x in (a, b, (a + b) / 2)]))
        return images

    for name, y in zip(found, images(), strict=True):
        np.testing.assert_allclose((y[0] + y[1]) / 2, y[2], rtol=1e-12, atol=1e-12, err_msg=name)


class Sinh(lnz.AbstractBijection):
    """`y = sinh(affine(x))`: a field called affine, of a map that is not."""

    affine: object

    @property
    def domain(self):
        return lnz.Euclidean(1)

    @property
    def codomain(self):
        return lnz.Euclidean(1)

    def forward_and_log_det(self, x, *, key=None):
        raise NotImplementedError

    def inverse_and_log_det(self, y, *, key=None):
        raise NotImplementedError


@pytest.mark.parametrize("field", [True, lnz.bijections.Affine(jnp.ones(1), 1.0)], ids=["true", "a part"])
def test_a_field_called_affine_declares_nothing(field):
    flow = lnz.Transformed(lnz.Normal(jnp.zeros(1), 1.0), Sinh(field))
    with pytest.raises(NotImplementedError, match="no closed form is known"):
        flow.mean()


@cases(table.ENERGIES)
def test_energy_has_one_normalizer(make, precision):
    density = make()
    testing.check_density(density, jr.key(0))
    exact = testing.exact_log_normalizer(density)
    assert lnz.log_normalizer(jr.key(0), density, Quadrature()).value == pytest.approx(exact, rel=1e-5)


@cases(table.ENERGIES)
def test_gibbs_conditionals(make, precision):
    testing.check_conditionals(make())


def test_a_sampler_that_never_moves_a_block_breaks_the_law():
    field = table.two_site_field()

    class Stuck(lnz.AbstractBlockDensity):
        field: lnz.energy.MarkovField

        @property
        def space(self):
            return self.field.space

        @property
        def num_blocks(self):
            return self.field.num_blocks

        def own_path(self):
            return self.field.path()

        def log_density(self, x):
            return self.field.log_density(x)

        def split(self, x):
            return self.field.split(x)

        def join(self, blocks):
            return self.field.join(blocks)

        def conditional(self, index, blocks):
            if index == 0:
                return self.field.conditional(index, blocks)
            here = jax.nn.one_hot(blocks[1], 4)
            return lnz.Categorical(jnp.log(0.999 * here + 0.00025))

    with pytest.raises(AssertionError, match="conditional of block 1"):
        testing.check_conditionals(Stuck(field))


@cases(table.PATHS)
def test_path(make, precision):
    density = make()
    testing.check_path(density.path(), density, density.path().start.sample(jr.key(1), (5,)))


def test_float32_increments_add_up_to_the_float64_difference():
    """100,000 increments of a machine whose log densities are in the hundreds, in float32, against float64."""

    def machine():
        return lnz.energy.RBM.from_parameters(
            0.4 * table.normal(200, 100, 60), table.normal(201, 100), table.normal(202, 60)
        )

    x = (table.normal(203, 8, 100) > 0).astype(jnp.float32)
    total = testing._maps._sum_ratios(machine().path(), x, 100_000)
    assert total.dtype == jnp.float32
    with jax.enable_x64(True):
        path = machine().path()
        wide = x.astype(jnp.float64)
        exact = jax.vmap(lambda x: path.at(1.0).log_density(x) - path.at(0.0).log_density(x))(wide)
        assert exact.dtype == jnp.float64
        assert float(jnp.max(jnp.abs(exact))) > 100
        error = np.abs(np.asarray(total, np.float64) - np.asarray(exact))
    assert error.max() < 1e-3


def test_plain_subtraction_would_not_do():
    """The law can fail: the same sum by subtracting log densities misses its tolerance."""
    machine = lnz.energy.RBM.from_parameters(
        0.4 * table.normal(200, 100, 60), table.normal(201, 100), table.normal(202, 60)
    )
    path, x = machine.path(), (table.normal(203, 8, 100) > 0).astype(jnp.float32)
    betas = jnp.linspace(0.0, 1.0, 100_001)

    def subtract(total, pair):
        high, low = (jax.vmap(path.at(beta).log_density)(x) for beta in pair)
        return total + (high - low), None

    total, _ = jax.jit(lambda: jax.lax.scan(subtract, jnp.zeros(8), (betas[1:], betas[:-1])))()
    assert float(jnp.max(jnp.abs(total - jax.vmap(lambda x: path.log_ratio(0.0, 1.0, x))(x)))) > 1e-3


def test_reversed_path(precision):
    rbm = table.rbm()
    path = lnz.ReversedPath(rbm.path())
    x = rbm.path().start.sample(jr.key(1), (5,))
    for beta in (0.0, 0.3, 1.0):
        there = jax.vmap(path.at(1 - beta).log_density)(x)
        back = jax.vmap(rbm.path().at(beta).log_density)(x)
        np.testing.assert_allclose(there, back, rtol=1e-5)


@cases(table.BIJECTIONS)
def test_bijection(make, precision):
    bijection = make()
    testing.check_bijection(bijection, table.inside(bijection.domain))


SAMPLER_CASES = {
    f"{sampler_name}-{name}": (make_sampler, make)
    for sampler_name, (make_sampler, instances) in table.SAMPLERS.items()
    for name, make in instances.items()
}


@cases(SAMPLER_CASES)
def test_sampler_leaves_density_invariant(make, precision):
    make_sampler, make_density = make
    density = make_density()
    grid = {} if density.space.num_points else {"num": 401, "bounds": (-9.0, 9.0)}
    testing.check_sampler(jr.key(2), make_sampler(), density, **grid)


@pytest.mark.parametrize("make", [table.rbm, table.two_site_field, table.tempered_rbm])
def test_gibbs_follows_its_transition_matrix(make):
    density = make()
    states, kernel = testing.gibbs_transition_matrix(density)
    assert len(states) == 16
    num = 4000
    sampler = lnz.samplers.Gibbs()
    starts = jnp.repeat(states, num, axis=0)
    ends = testing._algorithms._advance(jr.key(3), sampler, density, starts, 1).reshape(16, num, -1)
    for row, end in zip(kernel, ends, strict=True):
        seen = np.array([np.mean(np.all(np.asarray(end) == np.asarray(s).reshape(-1), axis=1)) for s in states])
        # Total variation: its mean plus a margin that 1 of a million runs exceeds (McDiarmid), over 16 rows.
        allowed = 0.5 * np.sum(np.sqrt(row * (1 - row) / num)) + np.sqrt(np.log(16e6) / (2 * num))
        assert 0.5 * np.abs(seen - row).sum() < allowed


NORMALIZER_CASES = {
    f"{normalizer_name}-{name}": (make_normalizer, make, bound)
    for normalizer_name, (make_normalizer, bound, instances) in table.NORMALIZERS.items()
    for name, make in instances.items()
}


@cases(NORMALIZER_CASES)
def test_normalizer_covers_the_truth(make, precision):
    make_normalizer, make_density, bound = make
    density = make_density()
    exact = testing.exact_log_normalizer(density)
    estimates = testing.repeat_normalizer(jr.key(4), make_normalizer(), density)
    assert estimates.bound == bound
    testing.check_normalizer(estimates, exact)


@pytest.mark.parametrize("name", table.NORMALIZERS)
def test_the_derivative_of_an_estimate_is_that_of_log_z(name):
    """Means of units and of their products, by enumeration: not what a path through decisions of chains would give."""
    W, b, c = np.full((3, 2), 0.5), np.array([2.0, -2.0, 1.0]), np.array([-1.5, 0.5])
    v, h = np.split(np.array(list(itertools.product([0, 1], repeat=5))), [3], axis=1)
    p = scipy.special.softmax(np.einsum("ni,ij,nj->n", v, W, h) + v @ b + h @ c)
    exact = (np.einsum("n,ni,nj->ij", p, v, h), p @ v, p @ h)
    method = table.NORMALIZERS[name][0]()

    @jax.jit
    def gradients(keys, parameters):
        def value(parameters, key):
            return method(key, lnz.energy.RBM.from_parameters(*parameters)).value

        return jax.vmap(jax.grad(value), in_axes=(None, 0))(parameters, keys)

    found = gradients(jr.split(jr.key(3), 8), tuple(jnp.asarray(x, jnp.float32) for x in (W, b, c)))
    # At least 500 chains, so standard errors below 0.022: a false alarm of 11 numbers once in 1000 keys.
    for mean, right in zip(found, exact, strict=True):
        np.testing.assert_allclose(np.mean(mean, axis=0), right, atol=0.09)


def test_ais_with_hmc_covers_the_truth(precision):
    """log p(x) of a linear VAE, from its prior: recovered by AIS over HMC, which caches gradients."""
    vae = table.linear_vae()
    x = table.normal(93, 3)
    posterior = lnz.condition(vae, x)
    exact = float(table.linear_vae_marginal().log_prob(x))

    def from_prior(density):
        return lnz.GeometricPath(density.prior, density)

    ais = AIS(50, 40, path=from_prior, sampler=lnz.samplers.HMC(0.5, 4))
    testing.check_normalizer(testing.repeat_normalizer(jr.key(16), ais, posterior), exact)
    draws = vae.posterior(x).sample(jr.key(7), (50,))
    reverse = ReverseAIS(betas=40, path=from_prior, sampler=lnz.samplers.HMC(0.5, 4), positions=draws)
    upper = reverse(jr.key(8), posterior)
    assert upper.bound == "upper"
    assert abs(float(upper.value) - exact) < 5 * float(upper.standard_error) + 1e-3


def test_importance_that_must_not_be_trusted_warns():
    machine = table.rbm(20, 6, scale=2.0)
    with pytest.warns(lnz.UnreliableEstimateWarning, match="effective sample size"):
        estimate = lnz.log_normalizer(jr.key(0), machine, Importance(500))
    assert not estimate.reliable
    assert "UNRELIABLE" in str(estimate)


def test_stale_path_is_refused():
    """A path made before training ends at another model: its estimate would be tight and wrong."""
    before, after = table.rbm(), table.rbm(seed=5)
    with pytest.raises(Exception, match="ends at another density"):
        lnz.log_normalizer(jr.key(0), after, AIS(10, 10, path=before.path()))
    with pytest.raises(ValueError, match="starts on"):
        lnz.log_normalizer(jr.key(0), table.rbm(3, 2), AIS(10, 10, path=before.path()))
    rates = jnp.full(4, 0.3)
    fresh = lnz.log_normalizer(jr.key(0), after, AIS(200, 200, path=lambda rbm: rbm.path(rates)))
    assert abs(float(fresh.value) - testing.exact_log_normalizer(after)) < 5 * float(fresh.standard_error)


def test_quadrature_that_misses_mass_says_so():
    shifted = lnz.Normal(jnp.full(1, 12.0), 1.0)
    with pytest.warns(lnz.UnreliableEstimateWarning, match="edge of the grid"):
        estimate = lnz.log_normalizer(jr.key(0), shifted, Quadrature())
    assert not estimate.reliable
    wide = lnz.log_normalizer(jr.key(0), shifted, Quadrature(num=401, bounds=(-20.0, 20.0)))
    assert abs(float(wide.value)) < 1e-4
    assert wide.reliable


def test_distribution_is_normalised_by_definition():
    estimate = lnz.log_normalizer(jr.key(0), lnz.Normal.standard(2))
    assert estimate.bound == "exact"
    assert estimate.value == 0


def test_sampler_that_rejects_everything_warns():
    model = table.conjugate()
    many = 1.0 + 0.8 * table.normal(61, 20_000, 1)
    with pytest.warns(lnz.UnreliableSampleWarning, match="accepted only"):
        lnz.sample(jr.key(0), lnz.condition(model, many), 5, num_steps=5)


def test_float32_model_works_under_float64():
    machine = table.rbm()
    assert machine.W.dtype == jnp.float32
    with jax.enable_x64(True):
        for method in (AIS(20, 20), ReverseAIS(20, 20)):
            assert lnz.log_normalizer(jr.key(0), machine, method).value.dtype == jnp.float32
        assert lnz.sample(jr.key(0), machine, 3, num_steps=2).dtype == jnp.float32


def test_chains_may_start_from_stored_bits():
    machine = table.rbm()
    start = np.array([[0, 1, 1, 0], [1, 1, 0, 0]], np.uint8)
    assert lnz.sample(jr.key(0), machine, 2, num_steps=2, start=start).shape == (2, 4)


def test_reverse_ais_from_long_chains_is_only_an_estimate():
    machine = table.rbm()
    estimate = lnz.log_normalizer(jr.key(0), machine, ReverseAIS(100, 100, num_warm_up=20))
    assert estimate.bound == "estimate"
    assert estimate.assumes == ("stationary start",)
    both = lnz.bracket(jr.key(0), machine, AIS(100, 100), ReverseAIS(100, 100, num_warm_up=20))
    assert both.assumes == ("stationary start",)
    assert "assumes stationary start" in str(both)


@pytest.mark.filterwarnings("ignore::lnz.UnreliableEstimateWarning")  # k of 100 chains is itself noisy
def test_bracket_contains_the_truth():
    machine = table.rbm(6, 5)
    exact = testing.exact_log_normalizer(machine)
    lower, upper = AIS(100, 100), ReverseAIS(100, 100)
    hits = 0
    for seed in range(100):
        low, high = lnz.bracket(jr.key(seed), machine, lower, upper).interval
        hits += low <= exact <= high
    assert hits >= 93  # the design's figure; each side fails alone in about 2 of 100


def test_stale_hmc_state_is_wrong_and_refresh_mends_it(float64):
    """The law behind `refresh`: a cached gradient of an earlier density accepts wrongly."""
    first, second = lnz.Normal(jnp.zeros(1), 1.0), lnz.Normal(jnp.full(1, 3.0), 0.5)
    hmc = lnz.samplers.HMC(0.3, 3)
    state = hmc.init(jr.key(0), first, jnp.zeros(1))
    fresh = hmc.refresh(second, state)
    assert fresh.log_density == second.log_prob(jnp.zeros(1))
    np.testing.assert_allclose(fresh.gradient, jnp.full(1, 12.0))
    assert not np.allclose(state.gradient, fresh.gradient)


# The default method for the numerators and for the denominator, and the bounds of both.
INTEGRALS = {
    "bernoulli": (None, None, "exact", "exact"),
    "mixture": (None, None, "exact", "exact"),
    "continuous": (None, None, "exact", "exact"),
    "rbm": (None, "Quadrature", "exact", "exact"),
    "markov_field": (None, "Quadrature", "exact", "exact"),
    "dbm": ("Quadrature", "Quadrature", "exact", "exact"),
    "rbm_vae": ("Quadrature", "Quadrature", "exact", "exact"),
    "bits_vae": ("Quadrature", None, "exact", "exact"),
    "linear_vae": ("IWAE-5000", None, "lower", "exact"),
    "dequantised": ("IWAE-5000", None, "lower", "exact"),
    "large_rbm": (None, "AIS", "exact", "lower"),
    "large_dbm": ("AIS", "AIS", "lower", "lower"),
}
EVALUATED = {
    **{name: table.MODELS[name] for name in INTEGRALS.keys() & table.MODELS.keys()},
    "large_rbm": lambda: table.rbm(22, 21),
    "large_dbm": lambda: table.dbm(4, 25, 25),
    "continuous": lambda: lnz.Transformed(lnz.Normal.standard(3), table.continuous_flow()),
}


def default_integral(argument, make, model):
    """The name of the default method and the estimate, of which only the bound and what it assumes are computed."""
    method = _method_for(make, None, argument, model)
    estimate = eqx.filter_eval_shape(lambda key: integral(key, make(), method), jr.key(0))
    return None if method is None else method.name, estimate.bound, estimate.assumes


def test_types_alone_decide_which_normaliser_serves():
    found = {}
    for name, make in EVALUATED.items():
        model = make()
        x = model.space.cast(np.zeros(model.space.shape), jnp.float32)
        hidden, lower, first = default_integral("hidden", functools.partial(model.numerator, x), model)
        partition, upper, second = default_integral("partition", model.denominator, model)
        found[name] = (hidden, partition, lower, upper)
        assumes = [what.split(" near")[0] for what in first + second]
        assert assumes == (["ODE error"] if name == "continuous" else []), name
    assert found == INTEGRALS


def test_every_model_is_a_density_of_examples_or_descends_from_one():
    def draw(key, model):
        state = model.ancestor().path().start.sample(key)
        return model.descend(key, state)

    for name, make in EVALUATED.items():
        model = make()
        assert isinstance(root_of(model), lnz.AbstractDensity), name
        if model.ancestor is not None:
            assert eqx.filter_eval_shape(draw, jr.key(0), model).shape == model.space.shape, name


@cases(table.MODELS)
def test_save_and_load_are_bit_equal(make, precision):
    testing.check_save(make())


def test_elbo_plus_divergence_is_log_evidence(float64):
    """log p(x) = ELBO + KL(q || p(z|x)), with both integrals by quadrature."""
    vae = table.linear_vae("diagonal")
    x = table.normal(93, 3)
    q, joint = vae.posterior(x), lnz.condition(vae, x)
    log_evidence = float(table.linear_vae_marginal().log_prob(x))
    z, log_w = joint.space.quadrature(401, (-8.0, 8.0))
    log_q = jax.vmap(q.log_prob)(z)
    weight = jnp.exp(log_q + log_w)
    log_joint = jax.vmap(joint.log_density)(z)
    elbo = jnp.sum(weight * (log_joint - log_q))
    divergence = jnp.sum(weight * (log_q - (log_joint - logsumexp(log_joint + log_w))))
    assert divergence > 0.01
    assert float(elbo + divergence) == pytest.approx(log_evidence, abs=1e-9)
    # The mean-field optimum of a normal posterior has a closed-form gap.
    tril = table.linear_vae().posterior(x).scale_tril
    precision_matrix = jnp.linalg.inv(tril @ tril.T)
    gap = 0.5 * (jnp.sum(jnp.log(jnp.diagonal(precision_matrix))) - jnp.linalg.slogdet(precision_matrix)[1])
    assert float(divergence) == pytest.approx(float(gap), abs=1e-9)


def test_exact_encoder_makes_the_bound_tight(precision):
    vae = table.linear_vae("exact")
    x = table.normal(94, 20, 3)
    loss, _ = lnz.objectives.ELBO(4, analytic_kl=False).loss(jr.key(0), vae, (), x)
    exact = -jnp.mean(jax.vmap(table.linear_vae_marginal().log_prob)(x))
    assert float(loss) == pytest.approx(float(exact), abs=1e-4 if precision == "float32" else 1e-10)


def test_bounds_are_ordered(float64):
    """ELBO <= E[IWAE-K] <= log p(x), increasing in K."""
    vae = table.linear_vae("diagonal")
    x = table.normal(95, 4000, 3)
    exact = float(jnp.mean(jax.vmap(table.linear_vae_marginal().log_prob)(x)))
    values = [-float(lnz.objectives.IWAE(k).loss(jr.key(k), vae, (), x)[0]) for k in (1, 4, 16)]
    elbo = -float(lnz.objectives.ELBO(1).loss(jr.key(0), vae, (), x)[0])
    assert elbo < values[1] < values[2] < exact + 0.01
    assert values[0] == pytest.approx(elbo, abs=0.1)


def test_conjugate_model_agrees_with_quadrature_and_verbs(precision):
    model, data = table.conjugate(), table.conjugate_data()
    posterior = lnz.condition(model, data)
    evidence = float(model.log_evidence(data))
    assert testing.exact_log_normalizer(posterior) == pytest.approx(evidence, abs=1e-4)
    theta = jnp.array([0.9])
    normalised = float(posterior.log_density(theta)) - evidence
    assert float(model.posterior(data).log_prob(theta)) == pytest.approx(normalised, abs=1e-4)
    ais = lnz.log_normalizer(jr.key(0), posterior, AIS(200, 50, sampler=lnz.samplers.HMC(0.3, 5)))
    assert abs(float(ais.value) - evidence) < 4 * float(ais.standard_error)
    draws = lnz.sample(jr.key(1), posterior, 4000, num_steps=60, sampler=lnz.samplers.HMC(0.3, 5))
    exact = model.posterior(data)
    assert abs(float(draws.mean() - exact.loc[0])) < 5 * float(exact.scale[0]) / np.sqrt(4000)
    assert float(draws.std()) == pytest.approx(float(exact.scale[0]), rel=0.06)  # 5 standard errors
    # The predictive density is p(data and new) / p(data).
    new = jnp.array([[0.3]])
    both = float(model.log_evidence(jnp.concatenate([data, new]))) - evidence
    assert float(model.predictive(data).log_prob(new[0])) == pytest.approx(both, abs=1e-4)


def test_improper_prior_has_no_evidence():
    class Flat(lnz.AbstractDensity):
        space: lnz.Euclidean

        def log_density(self, x):
            return jnp.zeros(())

    posterior = lnz.Posterior(Flat(lnz.Euclidean(1)), lambda theta: -0.5 * jnp.sum(theta**2))
    with pytest.raises(ValueError, match="improper"):
        lnz.log_normalizer(jr.key(0), posterior, AIS(10, 10))


def test_improper_prior_is_fine_for_mcmc():
    posterior = lnz.Posterior(
        lnz.Posterior(lnz.Normal.standard(1), lambda z: 0.5 * jnp.sum(z**2)),
        lambda z: -0.5 * jnp.sum((z - 2) ** 2),
    )
    draws = lnz.sample(
        jr.key(0), posterior, 2000, num_steps=60, sampler=lnz.samplers.HMC(0.5, 4), start=jnp.zeros((2000, 1))
    )
    assert abs(float(draws.mean()) - 2.0) < 5 / np.sqrt(2000)


@pytest.mark.filterwarnings("ignore::lnz.UnreliableEstimateWarning")  # k of 50 chains is itself noisy
@pytest.mark.parametrize("sizes", [(3, 2, 2), (3, 3, 2)])
def test_dbm_likelihood_by_enumeration_of_everything(sizes, precision):
    machine = table.dbm(*sizes)
    states, _ = lnz.Binary(sum(sizes)).quadrature()
    first, second = sizes[0], sizes[0] + sizes[1]

    def negative_energy(state):
        v, h1, h2 = state[:first], state[first:second], state[second:]
        W1, W2 = machine.weights
        b0, b1, b2 = machine.biases
        return v @ W1 @ h1 + h1 @ W2 @ h2 + b0 @ v + b1 @ h1 + b2 @ h2

    scores = jax.vmap(negative_energy)(states)
    log_z = logsumexp(scores)
    visible = states[::1, :first]
    x = lnz.Binary(first).quadrature().point(jnp.asarray(5))[0]
    match = jnp.all(visible == x[None], axis=1)
    exact = logsumexp(jnp.where(match, scores, -jnp.inf)) - log_z
    result = lnz.evaluate(jr.key(0), machine, x[None])
    assert result.bound == "exact"
    assert result.value == pytest.approx(float(exact), abs=2e-5)
    estimated = lnz.evaluate(jr.key(0), machine, x[None], hidden=AIS(50, 50), partition=AIS(50, 50))
    assert estimated.bound == "estimate"
    assert abs(estimated.value - float(exact)) < 5 * estimated.monte_carlo_error


def test_transposed_machine_has_the_same_normalizer(precision):
    machine = table.rbm(5, 3)
    ours = testing.exact_log_normalizer(machine)
    assert testing.exact_log_normalizer(machine.transpose()) == pytest.approx(ours, rel=1e-6)


def test_free_energy_sums_hidden_units(precision):
    machine = table.rbm()
    v = jnp.array([1.0, 0.0, 1.0, 1.0])
    hidden, _ = lnz.Binary(3).quadrature()
    by_hand = -logsumexp(jnp.stack([-machine.energy(v, h) for h in hidden]))
    assert float(machine.free_energy(v)) == pytest.approx(float(by_hand), abs=1e-5)
    posterior = lnz.log_normalizer(jr.key(0), lnz.condition(machine, v), Quadrature())
    assert float(posterior.value) == pytest.approx(-float(machine.free_energy(v)), abs=1e-5)


def test_temperature_divides_the_energy(precision):
    machine = table.rbm()
    v = jnp.array([1.0, 0.0, 1.0, 1.0])
    hidden, _ = lnz.Binary(3).quadrature()
    by_hand = logsumexp(jnp.stack([-machine.energy(v, h) / 1.7 for h in hidden]))
    assert float(machine.density(temperature=1.7).log_density(v)) == pytest.approx(float(by_hand), abs=1e-5)


@pytest.mark.parametrize(
    "ais", [AIS(20, 50), ReverseAIS(20, 50, positions=jnp.zeros((20, 24)))], ids=["ais", "reverse"]
)
def test_annealing_needs_two_products_a_temperature(ais):
    """Counted in the compiled program: the ratio shares its product with the hidden units drawn next."""
    rbm = lnz.energy.RBM(24, 16, key=jr.key(0))
    text = jax.jit(lambda key, rbm: ais.log_weights(key, rbm)).lower(jr.key(0), rbm).compile().as_text()
    products = [line for line in text.splitlines() if re.search(r"\[\d\d+,\d\d+\]\{[\d,]+\} dot\(", line)]
    assert sum("/while/body/" in line for line in products) == 2
    assert len(products) == 3  # and one for the last ratio


def test_batches_of_chains_need_less_memory():
    rbm = lnz.energy.RBM(40, 30, key=jr.key(0))

    def temporary(batch_size):
        ais = lnz.normalizers.AIS(2000, 5, batch_size=batch_size)
        return jax.jit(ais.log_weights).lower(jr.key(1), rbm).compile().memory_analysis().temp_size_in_bytes

    assert temporary(20) < 0.6 * temporary(None)  # the start of all chains stays: 2000 x 40 numbers


@pytest.mark.parametrize("normalizer", [lnz.normalizers.AIS, lnz.normalizers.ReverseAIS])
@pytest.mark.parametrize(("batch_size", "message"), [(30, "must divide"), (200, "must divide"), (0, "at least 1")])
def test_wrong_batch_of_chains(normalizer, batch_size, message):
    with pytest.raises(ValueError, match=message):
        normalizer(100, 10, batch_size=batch_size)
