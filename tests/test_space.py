"""Spaces: enumeration, quadrature in chunks, exact draws, and errors for data that do not fit."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table
from jax.scipy.special import logsumexp

import lnz
from lnz import Binary, Euclidean, Grid, Interval, testing
from lnz.spaces import Categorical


@pytest.mark.parametrize(
    ("space", "count"),
    [
        (Binary(3), 8),
        (Binary(()), 2),
        (Binary((2, 2)), 16),
        (Binary(0), 1),
        (Categorical(2, 3), 9),
        (Categorical((), 5), 5),
        (Categorical(4, 1), 1),
    ],
    ids=str,
)
def test_enumeration_has_each_point_once(space, count):
    points, log_weights = space.quadrature()
    assert space.num_points == count
    assert points.shape == (count, *space.shape)
    assert len(np.unique(np.asarray(points).reshape(count, -1), axis=0)) == count
    assert points.dtype == (jnp.float32 if space.kind == "float" else jnp.int32)
    np.testing.assert_array_equal(log_weights, np.zeros(count))
    assert all(bool(space.contains(point)) for point in points[:3])
    assert space.measure.is_counting


def test_enumeration_counts_with_the_first_digit_fastest():
    points, _ = Binary(2).quadrature()
    np.testing.assert_array_equal(points, [[0, 0], [1, 0], [0, 1], [1, 1]])
    points, _ = Categorical(2, 3).quadrature()
    np.testing.assert_array_equal(points[:4], [[0, 0], [1, 0], [2, 0], [0, 1]])
    np.testing.assert_array_equal(Binary(3).quadrature().point(jnp.asarray(6))[0], [0, 1, 1])


def test_quadrature_of_a_gaussian(precision):
    grid = Euclidean(1).quadrature(101, (-8.0, 8.0))
    total = grid.log_integral(lambda x: -0.5 * jnp.sum(x**2))
    # Far beyond any power of the spacing; what is left is rounding, and 1e-15 outside the bounds.
    tolerance = 1e-12 if precision == "float64" else 1e-5
    assert float(total) == pytest.approx(0.5 * math.log(2 * math.pi), abs=tolerance)
    two = Euclidean(2).quadrature(61, (-8.0, 8.0)).log_integral(lambda x: -0.5 * jnp.sum(x**2))
    assert float(two) == pytest.approx(math.log(2 * math.pi), abs=tolerance)


def test_trapezoid_rule_is_exact_for_straight_lines(float64):
    """The integral of 3 + 2 x over [-1, 4] is 30; of the product with another in y over the same, 900."""
    grid = Euclidean(1).quadrature(7, (-1.0, 4.0))
    assert float(jnp.exp(grid.log_integral(lambda x: jnp.log(3 + 2 * x[0])))) == pytest.approx(30.0, rel=1e-12)
    plane = Euclidean(2).quadrature(5, (-1.0, 4.0))
    assert float(jnp.exp(plane.log_integral(lambda x: jnp.sum(jnp.log(3 + 2 * x))))) == pytest.approx(900.0, rel=1e-12)


def test_trapezoid_rule_has_second_order(float64):
    """The error of x^2 on [0, 1] is h^2 / 6."""
    for num in (3, 11):
        points, log_weights = Euclidean(1).quadrature(num, (0.0, 1.0))
        total = jnp.sum(points[:, 0] ** 2 * jnp.exp(log_weights))
        assert float(total) == pytest.approx(1 / 3 + (1 / (num - 1)) ** 2 / 6, rel=1e-12)


def test_interval_uses_its_own_ends():
    points, log_weights = Interval(2, -1.0, 2.0).quadrature(41, bounds=(-50.0, 50.0))
    assert points.shape == (1681, 2)
    assert -1.0 < float(points.min()) < -0.999999  # where a density may be infinite it is not evaluated
    assert 1.999999 < float(points.max()) < 2.0
    assert float(jnp.sum(jnp.exp(log_weights))) == pytest.approx(9.0, rel=1e-5)  # the area
    assert Interval(1).num_points is None
    assert str(Interval(1).measure) == str(Euclidean(1).measure) == "Lebesgue"


def test_shifted_rules_share_no_point_and_agree(float64):
    """Each third of a step beside the last, with equal weights: of one step fewer than there are points."""
    for space in (Euclidean(1), Interval(1, -1.0, 2.0), lnz.Positive(1), lnz.Torus(1), lnz.Product(lnz.Torus(1))):
        rules = [space.quadrature(31, (-3.0, 3.0), shift) for shift in (1 / 6, 1 / 2, 5 / 6)]
        points = np.concatenate([np.asarray(points[:, 0]) for points, _ in rules])
        assert len(np.unique(points)) >= 80  # nearer to the end of an interval than numbers are, all are one
        assert bool(jax.vmap(space.contains)(jnp.asarray(points)[:, None]).all())
    totals = [
        Interval(1, -1.0, 2.0).quadrature(101, shift=s).log_integral(lambda x: jnp.log(3 + 2 * x[0]))
        for s in (0.2, 0.7)
    ]
    np.testing.assert_allclose(np.asarray(totals), np.log(12.0), rtol=1e-12)


@pytest.mark.parametrize("chunk_size", [1, 5, 100])
def test_chunks_do_not_change_the_integral(chunk_size, float64):
    machine = table.rbm(6, 3)
    whole = logsumexp(jax.vmap(machine.log_density)(testing.enumerate_states(machine.space)))
    grid = machine.space.quadrature()
    assert float(grid.log_integral(machine.log_density, chunk_size)) == pytest.approx(float(whole), rel=1e-13)


def test_gradient_through_chunks_is_that_of_the_sum(float64):
    machine = table.rbm(5, 3)
    states = testing.enumerate_states(machine.space)
    chunked = jax.jit(jax.grad(lambda m: m.space.quadrature().log_integral(m.log_density, 7)))(machine)
    plain = jax.jit(jax.grad(lambda m: logsumexp(jax.vmap(m.log_density)(states))))(machine)
    for ours, theirs in zip(jax.tree.leaves(chunked), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)


def test_integral_of_what_is_mostly_impossible():
    log_f = lambda x: jnp.where(jnp.sum(x) == 3, 0.0, -jnp.inf)  # noqa: E731
    for chunk_size in (2, 8):  # chunks without any possible point are no trouble
        assert float(Binary(3).quadrature().log_integral(log_f, chunk_size)) == 0.0


def test_grid_draws_follow_the_density():
    field = table.two_site_field()
    draws = field.space.quadrature().sample(jr.key(0), field.log_density, 2000, chunk_size=3)
    assert draws.shape == (2000, 2)
    testing.check_follows(draws, field)


def test_grid_draws_are_independent():
    draws = Binary(10).quadrature().sample(jr.key(1), lambda x: jnp.zeros(()), 500)
    between = np.corrcoef(np.asarray(draws[:-1, 0]), np.asarray(draws[1:, 0]))[0, 1]
    assert abs(between) < 5 / math.sqrt(500)


@pytest.mark.parametrize(
    ("space", "inside", "outside"),
    [
        (Binary(2), [0.0, 1.0], [0.0, 0.5]),
        (Binary(2), [1.0, 1.0], [math.nan, 1.0]),
        (Categorical(2, 3), [0, 2], [0, 3]),
        (Categorical(2, 3), [1, 1], [-1, 0]),
        (Euclidean(2), [1e30, -5.0], [math.inf, 0.0]),
        (Euclidean(2), [0.0, 0.0], [math.nan, 0.0]),
        (Interval(2, -1.0, 1.0), [-1.0, 1.0], [0.0, 1.1]),
    ],
)
def test_contains(space, inside, outside):
    assert bool(space.contains(jnp.asarray(inside)))
    assert not bool(space.contains(jnp.asarray(outside)))


BAD = np.zeros((5000, 3), np.float32)
BAD[4321, 2] = np.nan  # beyond the first stretch of rows that is looked at


@pytest.mark.parametrize(
    ("space", "data", "error", "words"),
    [
        (Binary(3), np.zeros((5, 4)), ValueError, r"^`x` must have shape \(n, 3\), one .* a row; got \(5, 4\)\.$"),
        (Binary(3), np.zeros(3), ValueError, r"got \(3,\)\. For a single example try `data\[None\]`"),
        (Binary(4), np.zeros((5, 2, 2)), ValueError, r"\(n, 4\).*got \(5, 2, 2\)\. Try `data.reshape\(-1, 4\)`"),
        (Binary((2, 2)), np.zeros((5, 4)), ValueError, r"must have shape \(n, 2, 2\).*got \(5, 4\)"),
        (Euclidean(3), 0.5, ValueError, r"must have shape \(n, 3\).*got \(\)"),
        (Euclidean(3), BAD, ValueError, r"`x` has the value nan at row 4321, column \(2\), .* Euclidean.*missing"),
        (Euclidean(3), jnp.asarray(BAD), ValueError, r"value nan at row 4321, column \(2\)"),
        (Binary(2), np.array([[0, 1], [1, 7]]), ValueError, r"7 at row 1, column \(1\).*try `data > threshold`"),
        (Binary(2), np.array([[0, np.nan]]), ValueError, r"value nan at row 0, column \(1\)"),
        (Binary((2, 2)), np.full((1, 2, 2), 3), ValueError, r"value 3 at row 0, column \(0, 0\)"),
        (Binary(()), np.array([0, 1, 2]), ValueError, r"value 2 at row 2, which is outside"),
        (Categorical(2, 3), np.array([[0, 3]]), ValueError, r"value 3 at row 0, column \(1\).*whole numbers from 0"),
        (Categorical(2, 3), np.array([[0, 0.5]]), ValueError, r"value 0.5"),
        (Interval(1), np.array([[1.5]]), ValueError, r"value 1.5 at row 0, column \(0\).*[Rr]escale"),
        (Binary(3), np.zeros((0, 3)), ValueError, r"`x` has no rows"),
        (Binary(3), np.array([[None] * 3]), ValueError, r"`x` has the value nan at row 0.*missing"),
        (Binary(3), [["0", "1", "1"]], TypeError, r"`x` must be an array of numbers; got text \(<U1\)"),
        (Binary(3), "data.npz", TypeError, r"the name of a file or data set: try `lnz.data.load"),
        (Binary(3), None, TypeError, r"`x` must be an array of numbers; got NoneType"),
        (Binary(3), np.zeros((2, 3), complex), TypeError, r"got complex numbers \(complex128\)"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit(space, data, error, words):
    with pytest.raises(error, match=words):
        space.check_data(data, "x")


@pytest.mark.parametrize("stored", [np.uint8, bool, np.int64, np.float16, np.float64])
def test_data_that_fit_are_kept_as_stored(stored):
    data = np.array([[0, 1], [1, 1]], stored)
    assert Binary(2).check_data(data) is data
    assert Binary(2).cast(data, jnp.float32).dtype == jnp.float32
    assert Categorical(2, 2).cast(data, jnp.float32).dtype == jnp.int32


def test_lists_are_data_too():
    np.testing.assert_array_equal(Binary(2).check_data([[0, 1], [1, 1]]), [[0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Binary(-1), r"`Binary\(...\)` needs a number of dimensions or a shape; got -1"),
        (lambda: Euclidean((2, 1.5)), r"`Euclidean\(...\)` needs"),
        (lambda: Binary(True), r"`Binary\(...\)` needs"),
        (lambda: Categorical(2, 0), r"`Categorical\(num_categories=...\)` must be positive; got 0"),
        (lambda: Interval(1, 1.0, 1.0), r"needs low < high; got 1.0 and 1.0"),
        (lambda: Binary(40).quadrature(), r"Enumerating 2\*\*40 points is out of reach. Use `lnz.normalizers.AIS`"),
        (lambda: Euclidean(8).quadrature(), r"A grid of 201\*\*8 points is out of reach"),
        (lambda: Euclidean(1).quadrature(1), r"needs at least 2 points a dimension; got 1"),
    ],
)
def test_spaces_that_do_not_exist(untyped, make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_spaces_are_values():
    assert Binary(3) == Binary((3,))
    assert Binary(3) != Binary(4)
    assert Euclidean(3) != Binary(3)
    assert isinstance(Binary(3).quadrature(), Grid)
    assert Binary((2, 3)).size == 6
    assert lnz.Euclidean(()).size == 1


RECORD = lnz.Record(place=Euclidean((1, 2)), kind=Categorical((), 3), bits=Binary(2))


def test_a_record_is_packed_and_unpacked():
    values = {"place": np.array([[[0.5, -1.5]], [[2.0, 0.25]]]), "kind": np.array([2, 0]), "bits": np.eye(2)}
    x = RECORD.pack(values)
    np.testing.assert_array_equal(x, [[0.5, -1.5, 2, 1, 0], [2, 0.25, 0, 0, 1]])
    assert RECORD.check_data(x).shape == (2, 5)
    for rows in (x, np.asarray(x)):
        again = RECORD.unpack(rows)
        assert {name: (part.shape, part.dtype.kind) for name, part in again.items()} == {
            "place": ((2, 1, 2), "f"),
            "kind": ((2,), "i"),
            "bits": ((2, 2), "f"),
        }
        for name, part in values.items():
            np.testing.assert_array_equal(again[name], part)
    one = RECORD.unpack(x[0])
    assert one["kind"] == 2
    assert one["kind"].shape == ()


def test_a_record_has_the_measure_of_its_parts():
    parts = "place=Euclidean(shape=(1, 2)), kind=Categorical(shape=(), num_categories=3), bits=Binary(shape=(2,))"
    assert str(RECORD) == f"Record({parts})"
    assert (RECORD.size, RECORD.dimension, RECORD.num_points, RECORD.kind) == (5, 5, None, "float")
    assert str(RECORD.measure) == "Lebesgue x counting"
    assert not RECORD.measure.is_counting
    assert RECORD.measure.is_continuous
    np.testing.assert_array_equal(RECORD.real_entries, [True, True, False, False, False])
    whole = lnz.Record(kind=Categorical((2, 1), 3), number=lnz.Counts(()))
    assert (whole.kind, whole.measure) == ("int", Binary(1).measure)
    assert RECORD.unbounded is None
    inner = lnz.Record(scale=lnz.Positive((2, 1)), angle=lnz.Torus(())).unbounded
    assert inner == lnz.Product(Euclidean(2), lnz.Torus(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lnz.Record(), "at least one part"),
        (lambda: lnz.Record(a=3), r"Record\(a=...\).*got 3"),
        (lambda: RECORD.pack({"place": np.zeros((1, 2)), "kind": 0}), r"needs the parts \['bits', 'kind', 'place'\]"),
        (
            lambda: RECORD.pack({"place": np.zeros((2, 1)), "kind": 0, "bits": np.zeros(2)}),
            r"'place' must have.*\(1, 2\)",
        ),
        (
            lambda: RECORD.pack({"place": np.zeros((4, 1, 2)), "kind": np.zeros(3), "bits": np.zeros((4, 2))}),
            r"'kind' must have the shape \(4,\)",
        ),
        (lambda: RECORD.unpack(np.zeros(4)), r"needs vectors `\[..., 5\]`"),
        (lambda: RECORD.check_data(np.array([[0.0, 0.0, 3.0, 0.0, 0.0]])), "value 3.0 at row 0, column 'kind', which"),
        (lambda: RECORD.check_data(np.array([[0.0, np.inf, 0.0, 0.0, 0.0]])), r"row 0, column 'place\[0, 1\]'"),
        (lambda: lnz.ProductDistribution(lnz.Normal.standard(1), a=lnz.Normal.standard(1)), "got both"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_wrong_records(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_data_of_mixed_kind_are_judged_by_their_real_columns():
    """Bits and categories repeat, real columns may not."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(300, 2)), rng.integers(0, 2, (300, 3))], axis=1).astype(np.float32)
    assert lnz.data.data_warnings(RECORD, rows) == []
    rows[:, 1] = np.round(rows[:, 1])
    assert any("column 1" in words for words in lnz.data.data_warnings(RECORD, rows))


@pytest.mark.parametrize(
    ("space", "advice"),
    [
        (Categorical(3, 256), r"255 \* data.astype"),
        (lnz.Record(grey=Categorical(3, 4), place=Euclidean(())), r"from 0 to 3.*3 \* data"),
        (Binary(3), None),
        (Categorical(3, 2), None),
        (lnz.Counts(3), None),
        (Euclidean(3), None),
    ],
    ids=str,
)
def test_true_is_not_one_of_many_values(space, advice):
    """True may mean 1 or 255 of grey values; of bits, counts and numbers it is 1, and all false is zero."""
    rows = np.zeros((2, *space.shape), bool)
    space.check_data(rows)
    rows[1, 0] = True
    if advice is None:
        space.check_data(rows)
        return
    with pytest.raises(ValueError, match=advice):
        space.check_data(rows)


def test_verbs_refuse_true_for_one_of_many_values():
    model, rows = lnz.Categorical(jnp.zeros((3, 4))), np.eye(3, dtype=bool)
    with pytest.raises(ValueError, match=r"`data` has true and false.*from 0 to 3.*`3 \* data.astype"):
        lnz.evaluate(jr.key(0), model, rows)
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(0.1))
    with pytest.raises(ValueError, match="true may mean 1 or 3"):
        lnz.fit(jr.key(0), model, method, rows, steps=1)


def test_records_in_another_order_are_other_spaces():
    """Their numbers would be matched by place, the a of one with the b of the other."""
    real = lnz.Euclidean(())
    ab, ba = lnz.Record(a=real, b=real), lnz.Record(b=real, a=real)
    assert lnz.spaces.same_set(ab, lnz.Record(a=real, b=real))
    assert lnz.spaces.same_set(ab, lnz.Euclidean(2))
    assert not lnz.spaces.same_set(ab, ba)
    assert not lnz.spaces.is_within(ab, ba)
    normal = lnz.Normal(jnp.zeros(()), 1.0)
    q = lnz.ProductDistribution(b=normal, a=normal)
    target = lnz.density(ab, lambda x: -0.5 * jnp.sum((x - jnp.array([3.0, -3.0])) ** 2))
    with pytest.raises(ValueError, match="lives on"):
        lnz.fit(jr.key(0), q, lnz.Gradient(lnz.objectives.ReverseKL(target), optax.adam(0.1)), None, steps=1)
    with pytest.raises(ValueError, match="on one space"):
        lnz.kl_divergence(lnz.ProductDistribution(a=normal, b=normal), q)
