"""The table of small instances over which every law runs: one line makes a newcomer obey all of them.

Each entry is a function without arguments, because an instance has the precision in force where it is built.
"""

import functools
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.stats

import lnz
from lnz.energy import DBM, RBM, BernoulliUnits, CategoricalUnits, MarkovField
from lnz.spaces import Categorical


def normal(seed, *shape):
    """The same numbers in both precisions: `jax.random` draws others in float64."""
    return jnp.asarray(_numbers(seed, *shape))


def _numbers(seed, *shape):
    """In NumPy, so that nothing is compiled for each shape: the first draws of a key are the same, however many."""
    num = math.prod(shape)
    draws = _draws(seed, 1024) if num <= 1024 else _draws(seed, num)
    return draws[:num].reshape(shape).astype(jnp.result_type(float))


@functools.cache
def _draws(seed, num):
    with jax.ensure_compile_time_eval():
        return np.asarray(jr.normal(jr.key(seed), (num,), jnp.float32))


def rbm(visible=4, hidden=3, scale=1.0, seed=0):
    W, b, c = scale * normal(seed, visible, hidden), normal(seed + 1, visible), normal(seed + 2, hidden)
    return RBM.from_parameters(W, b, c)


def potts_rbm():
    machine = RBM(CategoricalUnits(2, 3), BernoulliUnits(2), key=jr.key(3))
    return lnz.modules._module.replace(machine, W=normal(4, 6, 2), b=normal(5, 6), c=normal(6, 2))


def potts_hidden_rbm():
    return potts_rbm().transpose()


def dbm(*sizes, seed=7):
    machine = DBM(*sizes, key=jr.key(seed))
    keys = range(seed, seed + 2 * len(sizes))
    weights = tuple(normal(k, *W.shape) for k, W in zip(keys, machine.weights, strict=False))
    biases = tuple(normal(k + 50, *b.shape) for k, b in zip(keys, machine.biases, strict=False))
    return lnz.modules._module.replace(machine, weights=weights, biases=biases)


def markov_field():
    """Four three-state sites on a ring with a chord, a triangle and single-site energies, at T = 1.5."""
    cliques = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 1, 2), (3,)]
    potentials = [normal(20 + i, *(3,) * len(clique)) for i, clique in enumerate(cliques)]
    return MarkovField(4, 3, cliques, potentials, temperature=1.5)


def two_site_field():
    """Sixteen states."""
    return MarkovField(2, 4, [(0, 1), (0,)], [normal(30, 4, 4), normal(31, 4)], temperature=0.7)


def affine_flow():
    return lnz.Transformed(lnz.Normal.standard(1), lnz.bijections.Affine(jnp.ones(1), 2.0))


def composed_bijection():
    tril = jnp.array([[1.5, 0.0], [0.7, 0.6]])
    return lnz.bijections.Chain(
        lnz.bijections.TriangularAffine(jnp.array([0.3, -0.2]), tril),
        lnz.bijections.Affine(jnp.array([1.0, 0.0]), jnp.array([0.5, 1.2])),
        lnz.bijections.Inverse(lnz.bijections.Affine(jnp.array([0.1, 0.2]), jnp.array([1.1, 0.9]))),
    )


def composed_flow():
    return lnz.Transformed(lnz.Normal.standard(2), composed_bijection())


def away_from_identity(module, scale=0.05, seed=300):
    """Every parameter moved by a random number: a law at the identity would hold for much that is wrong."""
    leaves, structure = jax.tree.flatten(module)
    moved = [
        # By NumPy, which compiles nothing, unless a test builds it within a program.
        jnp.asarray(
            (leaf if isinstance(leaf, jax.core.Tracer) else np.asarray(leaf))
            + (scale * _numbers(seed + i, *leaf.shape)).astype(leaf.dtype)
        )
        if eqx.is_inexact_array(leaf)
        else leaf
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, moved)


def flow(architecture, num, **options):
    make = getattr(lnz.flows, architecture)
    return away_from_identity(make(lnz.Euclidean(num), key=jr.key(1), num_layers=2, width=12, **options))


def bijection_onto(space, architecture="coupling_spline", scale=0.05, **options):
    make = getattr(lnz.flows, architecture)
    return away_from_identity(make(space, key=jr.key(1), num_layers=2, width=12, **options), scale)


def flow_onto(space, architecture="coupling_spline", **options):
    return lnz.Transformed(lnz.flows.base_for(space), bijection_onto(space, architecture, **options))


def circular_real_positive():
    return lnz.Product(lnz.Torus(1), lnz.Euclidean(1), lnz.Positive(1))


def flow_of_mixture():
    base = lnz.Mixture(normal(72, 2), lnz.Normal(normal(73, 2, 2), jnp.array([[0.5, 0.7], [1.0, 0.6]])))
    return lnz.Transformed(base, composed_bijection())


def glow():
    """Two levels: a 4 x 4 image becomes 4 channels, of which 2 become 8."""
    space, shape = lnz.Euclidean(16), (4, 4)
    made = lnz.flows.glow(space, key=jr.key(1), num_levels=2, num_steps=2, width=4, image_shape=shape)
    return away_from_identity(made, 0.1)


def dequantised(variational=False, num=1):
    """Variables of three values: splines on the box, and splines of x on the unit interval as noise."""
    space, splines = lnz.Interval(num, 0.0, 3.0), lnz.bijections.SplineTransformer(3, 0.0, 3.0)
    layers = lnz.bijections.Elementwise(splines, 0.5 * normal(311, splines.num_params, num), space)
    if num == 2:
        net = lnz.nets.MLP(1, (splines.num_params, 1), key=jr.key(310), width=4, depth=1)
        layers = lnz.bijections.Chain(layers, lnz.bijections.Coupling(space, 1, net, splines))
    noise = None
    if variational:
        unit = lnz.bijections.SplineTransformer(2, 0.0, 1.0)
        net = lnz.nets.MLP(num, (unit.num_params, num), key=jr.key(312), width=4, depth=1, last_scale=0.0)
        noise = lnz.latent.SplineNoise(away_from_identity(net, 0.3), unit)
    return lnz.Dequantised(lnz.Transformed(lnz.Uniform(num, 0.0, 3.0), layers), Categorical(num, 3), noise)


def dense_flow(architecture, num, **options):
    """Two layers that have no networks, moved far."""
    make = getattr(lnz.flows, architecture)
    return away_from_identity(make(lnz.Euclidean(num), key=jr.key(1), num_layers=2, **options), 0.7)


def glow_step():
    """An image of 3 channels through what stands between two couplings of Glow."""
    space = lnz.Euclidean((3, 2, 2))
    mix = lnz.bijections.InvertibleConv(lnz.bijections.LULinear(normal(96, 3), normal(97, 3, 3)), 2, 2)
    return away_from_identity(lnz.bijections.Chain(lnz.bijections.ActNorm(space), mix), 0.3)


def inside(space, num=7):
    """Points of a continuous space."""
    return jax.vmap(space.from_unbounded)(normal(1, num, *space.unbounded.shape))[0]


def continuous_flow():
    """As exact as the precision allows: the law's tolerance is wider than the solver's by a hundred, or forty."""
    tolerance = 1e-12 if jnp.result_type(float) == jnp.float64 else 1e-6
    options = {"rtol": tolerance, "atol": tolerance, "solver": "dopri8", "adjoint": "forward"}
    make = lnz.flows.continuous(lnz.Euclidean(3), key=jr.key(1), width=6, depth=1, **options)
    return away_from_identity(make, 0.3)


def linear_vae(encoder="exact"):
    """Probabilistic PCA: x = W z + b + noise, z in R^2, x in R^3. Its posterior is a known normal."""
    W, b, noise = normal(40, 3, 2), normal(41, 3), jnp.asarray(0.7)
    decoder = lnz.distributions.ConditionalNormal(lnz.nets.Linear.from_parameters(W, b), noise)
    gram = W.T @ W + noise**2 * jnp.eye(2)
    inverse = jnp.linalg.inv(gram)
    to_z = lnz.nets.Linear.from_parameters(inverse @ W.T, -inverse @ W.T @ b)
    if encoder == "exact":
        tril = jnp.linalg.cholesky(noise**2 * inverse)
        return lnz.latent.VAE(
            lnz.Normal.standard(2), decoder, lnz.distributions.ConditionalMultivariateNormal(to_z, tril)
        )
    # Mean field at its optimum: the diagonal of the precision; the gap is a known Kullback-Leibler divergence.
    scale = noise / jnp.sqrt(jnp.diagonal(gram))
    return lnz.latent.VAE(lnz.Normal.standard(2), decoder, lnz.distributions.ConditionalNormal(to_z, scale))


def linear_vae_marginal():
    vae = linear_vae()
    W = vae.decoder.net.W
    covariance = W @ W.T + jnp.exp(2 * vae.decoder.log_scale) * jnp.eye(3)
    return lnz.MultivariateNormal.from_covariance(vae.decoder.net.b, covariance)


def bit_decoder(latents, pixels, seed=510):
    net = lnz.nets.MLP(latents, pixels, key=jr.key(seed), width=4, depth=1, activation=jnp.tanh)
    return lnz.distributions.ConditionalBernoulli(away_from_identity(net, 0.7, seed))


def normal_encoder(num_in, latents, seed=520, scale=1.0, move=0.5):
    net = lnz.nets.MLP(num_in, 2 * latents, key=jr.key(seed), width=4, depth=1, activation=jnp.tanh)
    return lnz.Conditional(lnz.Normal(jnp.zeros(latents), scale), away_from_identity(net, move, seed))


def vamp_vae():
    """Three bits, one latent; the prior is a function of the encoder."""
    prior = lnz.latent.VampPrior(jax.nn.sigmoid(normal(501, 3, 3)), normal(502, 3), bounds=(0.0, 1.0))
    return lnz.latent.VAE(prior, bit_decoder(1, 3), normal_encoder(3, 1))


def bit_encoder(num_in, latents, seed=530):
    net = lnz.nets.MLP(num_in, latents, key=jr.key(seed), width=4, depth=1, activation=jnp.tanh)
    return lnz.distributions.ConditionalBernoulli(away_from_identity(net, 0.5, seed))


def rbm_vae():
    """Four bits, three binary latents, whose prior is a machine with two hidden units."""
    return lnz.latent.VAE(rbm(3, 2, seed=540), bit_decoder(3, 4), bit_encoder(4, 3))


def hierarchical(kind):
    """Three bits under two layers of one latent each; posteriors that are wide enough for importance sampling."""

    def wide(num_in, seed):
        return normal_encoder(num_in, 1, seed, scale=2.5, move=0.1)

    below = normal_encoder(1, 1, 550, move=0.3)
    if kind == "bottom_up":
        encoder = lnz.latent.BottomUp(wide(3, 520), wide(1, 560))
    elif kind == "top_down":
        encoder = lnz.latent.TopDown(wide(3, 520), wide(4, 570))
    else:
        networks = [lnz.nets.MLP(n, 3, key=jr.key(n), width=4, depth=1, activation=jnp.tanh) for n in (3, 3)]
        messages = wide(3, 580), wide(3, 590)
        encoder = lnz.latent.Ladder(tuple(away_from_identity(net, 0.5) for net in networks), messages)
    return lnz.latent.Hierarchical(lnz.Normal.standard(1), (below,), bit_decoder(1, 3), encoder)


def layered(order, sizes=(1, 1)):
    """Layers of these sizes, the bottom first, drawn in this order."""
    drawn = sizes[::-1] if order == "down" else sizes
    pairs = itertools.pairwise(drawn)
    first = lnz.Normal(normal(610, drawn[0]), 0.8)
    return lnz.Layered(first, tuple(normal_encoder(m, n, 620 + m) for m, n in pairs), order)


def made(num):
    net = lnz.AutoregressiveBernoulli.of(num, key=jr.key(650), width=12, activation=jnp.tanh)
    return away_from_identity(net, 0.7, 660)


def autoregressive_grey(rows, columns, num_values, seed=680, **options):
    """Grey values, in one long row, that depend on each other: with scales that do not see a single value."""
    loc = jnp.linspace(0.2, 0.9, rows * columns)
    made = lnz.AutoregressiveLogistic.of(
        loc, 0.3, num_values, key=jr.key(seed), image_shape=(rows, columns), width=5, num_context=2, **options
    )
    return eqx.tree_at(lambda d: (d.net, d.context), made, away_from_identity((made.net, made.context), 0.8, seed))


def bits_vae():
    """Two latent bits, three bits of data: everything about it can be enumerated."""
    decoder = lnz.distributions.ConditionalBernoulli(
        lnz.nets.Linear.from_parameters(1.5 * normal(42, 3, 2), normal(43, 3))
    )
    encoder = lnz.distributions.ConditionalBernoulli(lnz.nets.Linear.from_parameters(normal(44, 2, 3), normal(45, 2)))
    return lnz.latent.VAE(lnz.Bernoulli(normal(46, 2)), decoder, encoder)


def conjugate():
    return lnz.bayes.NormalMean(lnz.Normal(jnp.array([0.5]), 1.5), 0.8)


def conjugate_data():
    return 1.2 + 0.8 * normal(60, 5, 1)


def tempered_rbm():
    """On the way from the base rates to the machine: what a sampler meets in the middle of annealing."""
    return rbm().path(jnp.array([0.2, 0.4, 0.6, 0.7])).at(0.37)


def clamped_rbm():
    return rbm(5, 3, seed=12).clamp(jnp.array([1.0, 0.0, 0.0, 0.0, 1.0]), jnp.array([True, False, True, False, False]))


def clamped_dbm():
    return dbm(3, 2, 2).clamp(jnp.array([0.0, 1.0, 0.0]), jnp.array([False, True, False]))


def mixture_of_bernoullis():
    return lnz.Mixture(normal(70, 3), lnz.Bernoulli(normal(71, 3, 4)))


def mixture_of_normals():
    return lnz.Mixture(normal(72, 2), lnz.Normal(normal(73, 2, 1), jnp.array([[0.5], [1.0]])))


class BothKinds(lnz.AbstractDistribution):
    """A bit, and a real number that depends on it."""

    @property
    def space(self):
        return lnz.Record(bit=lnz.Binary(()), real=lnz.Euclidean(()))

    @property
    def reparameterised(self):
        return False

    def log_prob(self, x, *, key=None):
        bit, real = x
        return jnp.log(0.4 + 0.2 * bit) + jax.scipy.stats.norm.logpdf(real, 1.5 * bit - 0.5, 1 - 0.5 * bit)

    def sample(self, key, shape=()):
        key_bit, key_real = jr.split(key)
        bit = jr.bernoulli(key_bit, 0.6, shape).astype(float)
        return jnp.stack([bit, 1.5 * bit - 0.5 + (1 - 0.5 * bit) * jr.normal(key_real, shape)], axis=-1)

    def sample_and_log_prob(self, key, shape=()):
        raise NotImplementedError("`sample` and `log_prob` are enough here.")


def product():
    return lnz.ProductDistribution(lnz.Normal(normal(100, 1), 0.8), lnz.Uniform(lnz.Torus(1)))


def joint():
    """Regression with noise: y = W x + b + noise."""
    line = lnz.nets.Linear.from_parameters(normal(102, 1, 1), normal(103, 1))
    return lnz.Joint(lnz.Normal(normal(101, 1), 0.8), lnz.distributions.ConditionalNormal(line, 0.7))


class Walled(lnz.AbstractDensity):
    """A posterior, and zero where `x[0] > 0`; its path starts at the prior."""

    density: lnz.Posterior

    @property
    def space(self):
        return self.density.space

    def log_density(self, x):
        return jnp.where(x[0] > 0, -jnp.inf, self.density.log_density(x))

    def path(self):
        return lnz.GeometricPath(self.density.prior, self)


def walled():
    return Walled(lnz.condition(linear_vae("diagonal"), normal(90, 3)))


def hard_core(num=8):
    """A ring where neighbours are never both occupied."""
    edge = jnp.array([[0.1, -0.2], [-0.2, jnp.inf]])
    return lnz.energy.MarkovField(num, 2, [(i, (i + 1) % num) for i in range(num)], [edge] * num)


SPACES = {
    "euclidean": lambda: lnz.Euclidean((2, 1)),
    "positive": lambda: lnz.Positive(2),
    "interval": lambda: lnz.Interval((), -1.0, 2.0),
    "torus": lambda: lnz.Torus(2),
    "record": lambda: lnz.Record(scale=lnz.Positive((1, 1)), angle=lnz.Torus(()), share=lnz.Interval(1)),
    "record_mixed": lambda: lnz.Record(place=lnz.Euclidean(()), kind=Categorical((1, 2), 3), bit=lnz.Binary(())),
    "record_discrete": lambda: lnz.Record(kind=Categorical((), 3), bits=lnz.Binary(2)),
    "binary": lambda: lnz.Binary((2, 2)),
    "categorical": lambda: Categorical(2, 3),
    "counts": lambda: lnz.Counts(2),
}

DISTRIBUTIONS = {
    "bernoulli": lambda: lnz.Bernoulli(normal(80, 4)),
    "bernoulli_image": lambda: lnz.Bernoulli(normal(81, 2, 2)),
    "categorical": lambda: lnz.Categorical(normal(82, 3, 4)),
    "continuous_bernoulli": lambda: lnz.ContinuousBernoulli(jnp.array([2.5])),
    "discretised_logistic": lambda: lnz.DiscretisedLogistic(jnp.array([0.1, 0.6]), jnp.array([0.05, 0.3]), 5),
    "discretised_logistic_mixture": lambda: lnz.DiscretisedLogisticMixture(
        normal(104, 2, 2), 0.5 + 0.3 * normal(105, 2, 2), jnp.exp(normal(106, 2, 2) - 2), 4
    ),
    "poisson": lambda: lnz.Poisson(jnp.log(jnp.array([2.5]))),
    "negative_binomial": lambda: lnz.NegativeBinomial(jnp.log(jnp.array([2.5])), jnp.log(jnp.array([3.0]))),
    "normal": lambda: lnz.Normal(normal(83, 2), jnp.array([0.6, 1.3])),
    "multivariate_normal": lambda: lnz.MultivariateNormal(normal(84, 2), jnp.array([[0.9, 0.0], [0.5, 0.7]])),
    "laplace": lambda: lnz.Laplace(normal(85, 1), 0.5),
    "logistic": lambda: lnz.Logistic(normal(86, 1), 0.4),
    "student_t": lambda: lnz.StudentT(normal(87, 1), 0.3, 9.0),
    "low_rank_normal": lambda: lnz.LowRankNormal(normal(88, 2), normal(89, 2, 1), jnp.array([0.6, 0.9])),
    "uniform": lambda: lnz.Uniform(2, -1.0, 2.0),
    "uniform_torus": lambda: lnz.Uniform(lnz.Torus(2)),
    "product": product,
    "record": lambda: lnz.ProductDistribution(
        place=lnz.Normal(jnp.asarray(0.3), 0.8), kind=lnz.Categorical(normal(641, 2, 3)), bit=lnz.Bernoulli(normal(642))
    ),
    "joint": joint,
    "layered_down": lambda: layered("down"),
    "layered_up": lambda: layered("up"),
    "layered_bits": lambda: lnz.Layered(lnz.Bernoulli(normal(630, 2)), (bit_encoder(2, 3, 631),)),
    "autoregressive_bits": lambda: made(4),
    "autoregressive_grey": lambda: autoregressive_grey(2, 2, 3, radius=1),
    "mixture_of_bernoullis": mixture_of_bernoullis,
    "mixture_of_normals": mixture_of_normals,
    "affine_flow": affine_flow,
    "composed_flow": composed_flow,
    "spline_flow": lambda: lnz.Transformed(
        lnz.Normal.standard(1),
        lnz.bijections.Elementwise(lnz.bijections.SplineTransformer(5), normal(94, 14, 1)),
    ),
    # Smooth ones: on a grid in the plane the kinks of splines and of rectified units would hide errors.
    "coupling_flow": lambda: lnz.Transformed(lnz.Normal.standard(2), flow("realnvp", 2, activation=jnp.tanh)),
    "autoregressive_flow": lambda: lnz.Transformed(
        lnz.Normal.standard(2), flow("masked_autoregressive", 2, activation=jnp.tanh)
    ),
    "flow_of_mixture": flow_of_mixture,
    "flow_interval": lambda: flow_onto(lnz.Interval(1, -1.0, 2.0), "masked_autoregressive"),
    "flow_positive": lambda: flow_onto(lnz.Positive(1), "masked_autoregressive"),
    "linear_vae_marginal_2d": lambda: lnz.MultivariateNormal.from_covariance(
        jnp.zeros(2), jnp.array([[1.0, 0.6], [0.6, 0.8]])
    ),
}

# Densities on finite spaces, with all that block densities need.
ENERGIES = {
    "rbm": rbm,
    "rbm_wide": lambda: rbm(3, 5, seed=10),
    "rbm_strong": lambda: rbm(4, 4, scale=2.0, seed=11),
    "rbm_tempered": tempered_rbm,
    "rbm_temperature": lambda: rbm().density(temperature=1.7),
    "rbm_conditioned": lambda: lnz.condition(rbm(), jnp.array([1.0, 0.0, 1.0, 1.0])),
    "rbm_clamped": clamped_rbm,
    "rbm_clamped_tempered": lambda: clamped_rbm().path().at(0.6),
    "dbm_clamped": clamped_dbm,
    "potts_rbm": potts_rbm,
    "potts_hidden_rbm": potts_hidden_rbm,
    "dbm_joint": lambda: dbm(3, 2, 2).joint(),
    "deep_dbm_joint": lambda: dbm(2, 2, 2, 1).joint(),
    "dbm_conditioned": lambda: lnz.condition(dbm(3, 3, 2), jnp.array([1.0, 0.0, 1.0])),
    "markov_field": markov_field,
    "markov_field_16": two_site_field,
    "markov_field_tempered": lambda: two_site_field().path().at(0.4),
}


def every_kind():
    """Four independent variables, one of each continuous kind, whose log normaliser is known: see `EVERY_KIND`."""
    space = lnz.Product(lnz.Euclidean(1), lnz.Positive(1), lnz.Interval(1, -1.0, 2.0), lnz.Torus(1))

    def log_density(x):
        u = (x[2] + 1) / 3
        normal, gamma = -0.5 * ((x[0] - 1) / 0.5) ** 2, 1.5 * jnp.log(x[1]) - 3 * x[1]
        beta, von_mises = jnp.log(u) + 4 * jnp.log1p(-u), 2 * jnp.cos(x[3] - 3)
        return normal + gamma + beta + von_mises

    return lnz.density(space, log_density)


EVERY_KIND = {
    "normal": scipy.stats.norm(1, 0.5),
    "gamma": scipy.stats.gamma(2.5, scale=1 / 3),
    "beta": scipy.stats.beta(2, 5, loc=-1, scale=3),
    "von_mises": scipy.stats.vonmises(2),  # of the angle less 3
}


def coupled_counts():
    """`x ~ Poisson(3)`, `y given x ~ Poisson(1 + x)`, up to exp(7)."""

    def log_density(x):
        x = x.astype(jnp.result_type(float))
        first = x[0] * jnp.log(3.0) - jax.lax.lgamma(x[0] + 1)
        return 5 + first + x[1] * jnp.log1p(x[0]) - x[0] - jax.lax.lgamma(x[1] + 1)

    return lnz.density(lnz.Counts(2), log_density)


def bits_without_blocks():
    """A chain of six bits: the same density as a Markov field, known as a function alone."""
    return lnz.density(lnz.Binary(6), lambda x: 2 * jnp.sum(x[1:] * x[:-1]) - jnp.sum(x))


# Everything with a path, on any space.
PATHS = {
    "every_kind": every_kind,
    "coupled_counts": coupled_counts,
    "bits_without_blocks": bits_without_blocks,
    **{name: make for name, make in ENERGIES.items()},
    "posterior": lambda: lnz.condition(linear_vae("diagonal"), normal(90, 3)),
    "bayesian": lambda: lnz.condition(conjugate(), conjugate_data()),
    "mixture_of_normals": mixture_of_normals,
    "hard_core": hard_core,
    "walled": walled,
}


def stack():
    """Two different maps, one of them with bounds, side by side with themselves."""
    lu = lnz.bijections.LULinear(normal(320, 3), normal(321, 3, 3))
    splines = lnz.bijections.Elementwise(lnz.bijections.SplineTransformer(5), normal(94, 14, 3))
    return lnz.bijections.Stack(lu, lnz.bijections.Inverse(splines))


def vmap_of_flows():
    """Two flows of positive numbers."""

    def make(key):
        return lnz.flows.coupling_spline(lnz.Positive(2), key=key, num_layers=2, width=4)

    return away_from_identity(lnz.bijections.Vmap.of(make, jr.split(jr.key(1), 2)), 0.3)


def side_by_side():
    """Two real numbers in reverse order, and an angle that is turned."""
    turn = lnz.bijections.Elementwise(lnz.bijections.RotationTransformer(), 0.7 * normal(330, 1, 1), lnz.Torus(1))
    real = lnz.bijections.Chain(lnz.bijections.Flip(lnz.Euclidean(2)), lnz.bijections.Affine(normal(331, 2), 1.5))
    return lnz.bijections.Concatenate(real, turn)


BIJECTIONS = {
    "lecture": lambda: lnz.bijections.Affine(jnp.ones(1), 2.0),
    "affine": lambda: lnz.bijections.Affine(normal(91, 3), jnp.array([0.5, 1.5, 2.0])),
    "triangular": lambda: lnz.flows.affine(lnz.Euclidean(3), key=jr.key(92)),
    "chain": composed_bijection,
    "inverse": lambda: lnz.bijections.Inverse(composed_bijection()),
    "concatenate": side_by_side,
    "stack": stack,
    "vmap": vmap_of_flows,
    "residual": lambda: flow("residual", 3, depth=1),
    "spline": lambda: lnz.bijections.Elementwise(lnz.bijections.SplineTransformer(5), normal(94, 14, 3)),
    "continuous": continuous_flow,
    "realnvp": lambda: flow("realnvp", 3),
    "coupling_spline": lambda: flow("coupling_spline", 4, bound=3.0),
    "coupling_nice": lambda: flow("coupling", 3, transformer=lnz.bijections.ShiftTransformer()),
    "maf": lambda: flow("masked_autoregressive", 3),
    "maf_one": lambda: flow("masked_autoregressive", 1),
    "maf_residual": lambda: flow("masked_autoregressive", 6, residual=True, order="random"),
    "maf_fixed_point": lambda: flow("masked_autoregressive", 6, inversion="fixed_point"),
    "iaf": lambda: flow("inverse_autoregressive", 9),
    "autoregressive_spline": lambda: flow("autoregressive_spline", 5, bound=3.0),
    "to_interval": lambda: lnz.bijections.ToSupport(lnz.Interval((2, 2), -1.0, 3.0)),
    "coupling_mixed": lambda: bijection_onto(circular_real_positive(), bound=3.0),
    "maf_mixed": lambda: bijection_onto(circular_real_positive(), "masked_autoregressive", order="random"),
    "glow": glow,
    "planar": lambda: dense_flow("planar", 3),
    "planar_one": lambda: dense_flow("planar", 1, fast="density"),
    "radial": lambda: dense_flow("radial", 3),
    "sylvester_orthogonal": lambda: dense_flow("sylvester", 4, num_orthogonal=2),
    "sylvester_householder": lambda: dense_flow("sylvester", 3, num_householder=2, fast="density"),
    "lu": lambda: lnz.bijections.LULinear(normal(98, 4), normal(99, 4, 4)),
    "householder": lambda: lnz.bijections.Householder(normal(98, 2, 4)),
    "glow_step": glow_step,
    "sigmoid": lambda: lnz.bijections.Sigmoid(lnz.Interval(3, -1.0, 2.0)),
    "logit": lambda: lnz.bijections.Inverse(lnz.bijections.Sigmoid(lnz.Interval(3))),
    "tanh": lambda: lnz.bijections.Tanh(lnz.Euclidean(3)),
    "softplus": lambda: lnz.bijections.Softplus(lnz.Positive(3)),
    "exp": lambda: lnz.bijections.Exp(lnz.Positive((2, 2))),
    "power": lambda: lnz.bijections.Power(jnp.array([0.5, 1.0, 1.7])),
    "leaky_relu": lambda: lnz.bijections.LeakyReLU(lnz.Euclidean(3), 0.2),
    "sigmoidal": lambda: lnz.bijections.Elementwise(lnz.bijections.SigmoidalTransformer(3), normal(94, 9, 3)),
    "neural_autoregressive": lambda: flow("neural_autoregressive", 5, num_units=3),
    "neural_coupling": lambda: flow("coupling", 3, transformer=lnz.bijections.SigmoidalTransformer(3)),
}

SAMPLERS = {
    "gibbs": (lambda: lnz.samplers.Gibbs(), ENERGIES),
    "gibbs_3": (lambda: lnz.samplers.Gibbs(num_sweeps=3), {"rbm": rbm, "markov_field": markov_field}),
    "parallel_tempering": (
        lambda: lnz.samplers.ParallelTempering(3),
        {
            name: ENERGIES[name]
            for name in ("rbm_strong", "rbm_clamped", "rbm_tempered", "dbm_joint", "markov_field_16")
        },
    ),
    "metropolis": (
        lambda: lnz.samplers.Metropolis(),
        {name: DISTRIBUTIONS[name] for name in ("bernoulli_image", "categorical", "poisson")},
    ),
    "hmc": (
        lambda: lnz.samplers.HMC(step_size=0.4, num_steps=5),
        {
            name: DISTRIBUTIONS[name]
            for name in ("normal", "multivariate_normal", "mixture_of_normals", "composed_flow")
        },
    ),
    "in_turn": (
        lambda: lnz.samplers.InTurn(continuous=lnz.samplers.HMC(step_size=0.6, num_steps=4)),
        {"both_kinds": BothKinds},
    ),
}

# Densities for which a hundred draws are enough: where Pareto k is good.
FINITE = {
    "rbm": rbm,
    "rbm_clamped": clamped_rbm,
    "rbm_tempered": tempered_rbm,
    "potts_rbm": potts_rbm,
    "dbm_joint": ENERGIES["dbm_joint"],
    "markov_field": markov_field,
}
EASY = {
    "rbm": lambda: rbm(scale=0.3),
    "posterior": PATHS["posterior"],
    "bayesian": PATHS["bayesian"],
}
NORMALIZERS = {
    "ais": (lambda: lnz.normalizers.AIS(100, 60), "lower", FINITE),
    "ais_in_batches": (
        lambda: lnz.normalizers.AIS(100, 60, batch_size=20),
        "lower",
        {name: FINITE[name] for name in ("rbm", "rbm_clamped")},
    ),
    "reverse_ais": (lambda: lnz.normalizers.ReverseAIS(100, 60), "upper", FINITE),
    "bar": (
        lambda: lnz.normalizers.BAR(lnz.normalizers.AIS(100, 60), lnz.normalizers.ReverseAIS(60, 60)),
        "estimate",
        {name: FINITE[name] for name in ("potts_rbm", "rbm_clamped", "rbm_tempered")},
    ),
    "importance": (lambda: lnz.normalizers.Importance(400), "lower", EASY),
    "quadrature": (lambda: lnz.normalizers.Quadrature(), "exact", FINITE),
}

MODELS = {
    "bernoulli": lambda: lnz.Bernoulli(normal(80, 4)),
    "discretised_logistic": DISTRIBUTIONS["discretised_logistic"],
    "poisson": DISTRIBUTIONS["poisson"],
    "record": DISTRIBUTIONS["record"],
    "student_t": DISTRIBUTIONS["student_t"],
    "low_rank_normal": DISTRIBUTIONS["low_rank_normal"],
    "mixture": mixture_of_bernoullis,
    "rbm": rbm,
    "potts_rbm": potts_rbm,
    "markov_field": markov_field,
    "dbm": lambda: dbm(3, 2, 2),
    "flow": composed_flow,
    "coupling_flow": lambda: lnz.Transformed(lnz.Normal.standard(3), flow("coupling_spline", 3)),
    "autoregressive_flow": lambda: lnz.Transformed(lnz.Normal.standard(3), flow("masked_autoregressive", 3)),
    "linear_vae": linear_vae,
    "bits_vae": bits_vae,
    "dequantised": lambda: dequantised(variational=True),
    "vamp_vae": vamp_vae,
    "rbm_vae": rbm_vae,
    "autoregressive_bits": lambda: made(4),
    "autoregressive_grey": lambda: autoregressive_grey(2, 2, 3, radius=1),
    "ladder": lambda: hierarchical("ladder"),
    "top_down": lambda: hierarchical("top_down"),
    "glow": glow,
    "conjugate": conjugate,
    "posterior": lambda: lnz.condition(linear_vae(), normal(90, 3)),
    "bipartite": lambda: dbm(3, 2, 2).joint(),
    "ais": lambda: lnz.normalizers.AIS(10, jnp.linspace(0.0, 1.0, 5)),
    "bound": lambda: lnz.normalizers.Bound(10, lnz.Normal.standard(2), num_weights=3),
}
