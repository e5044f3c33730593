"""One gate for arrays: whatever holds the numbers, a verb gives those of float64 NumPy, or says what to do."""

import datetime
import decimal
import re

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import table
from scipy import sparse, stats

import lnz
from lnz.data import known_entries
from lnz.modules import as_numbers, check_same_columns

KEY = jr.key(0)
# Quarters, which every type of number here holds, and no whole numbers throughout.
X = np.array([[0.25, -1.5], [1.75, 0.5], [-0.75, 2.25], [0.5, -0.25], [2.5, 1.25], [-1.25, -2.0]])
LOC, SCALE, PRIOR_SCALE = np.array([0.1, -0.2]), np.array([1.0, 2.0]), 3.0
SENTINEL = -9999.0


class Frame:
    """What the gate knows of a table of pandas."""

    def __init__(self, **columns):
        self.cells = {name: np.asarray(values) for name, values in columns.items()}
        self.columns = list(self.cells)
        self.dtypes = [values.dtype for values in self.cells.values()]

    @property
    def iloc(self):
        return self

    def __getitem__(self, place):
        return self.cells[self.columns[place[1]]]

    def to_numpy(self):
        return np.array(list(self.cells.values()), object).T

    def drop(self, columns):
        return Frame(**{name: values for name, values in self.cells.items() if name not in columns})


class Lazy:
    def collect(self): ...
    def collect_schema(self): ...


class Elsewhere:
    """A tensor that NumPy cannot have."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Use tensor.detach().numpy() instead.")


class NAType:
    """What pandas puts into missing cells."""


def frame(first, second):
    return Frame(a=first, b=second)


def masked(x):
    x = x.copy()
    x[3, 1] = SENTINEL
    return np.ma.masked_equal(x, SENTINEL)


def with_missing(x):
    return [[None if i == 3 and j == 1 else float(cell) for j, cell in enumerate(row)] for i, row in enumerate(x)]


DAYS = np.datetime64("2024-01-01", "ns") + np.arange(len(X)) * np.timedelta64(1, "D")

HONOURED = {
    "float64": lambda x: x,
    "big-endian": lambda x: x.astype(">f8"),
    "big-endian, single": lambda x: x.astype(">f4"),
    "half": lambda x: x.astype(np.float16),
    "bfloat16": lambda x: jnp.asarray(x, jnp.bfloat16),
    "bfloat16 of NumPy": lambda x: x.astype(jnp.bfloat16),
    "long double": lambda x: x.astype(np.longdouble),
    "Fortran order, reversed": lambda x: np.asfortranarray(x[::-1])[::-1],
    "list of lists": lambda x: x.tolist(),
    "list of JAX arrays": lambda x: [jnp.asarray(row, jnp.float32) for row in x],
    "objects": lambda x: x.astype(object),
    "decimals": lambda x: np.array([[decimal.Decimal(float(cell)) for cell in row] for row in x]),
    "matrix": lambda x: np.asarray(x).view(np.matrix),
    "masked, nothing masked": lambda x: np.ma.masked_equal(x, SENTINEL),
    "frame": lambda x: frame(*x.T),
    "frame of objects": lambda x: frame(*x.T.astype(object)),
    "frame, big-endian": lambda x: frame(*x.T.astype(">f4")),
}

REFUSED = {
    "masked": (masked, ["masked array with 1 masked entries", "row 3, column 1", "observed=~"]),
    "list of masked rows": (lambda x: list(masked(x)), ["masked array with 1", "row 3, column 1"]),
    "scipy, rows": (sparse.csr_matrix, [r"sparse matrix, \(6, 2\)", r"\.toarray\(\)"]),
    "scipy, array": (sparse.coo_array, [r"\.toarray\(\)"]),
    "records": (lambda x: np.rec.fromarrays(x.T, names="a,b"), ["fields 'a', 'b'", r"np.stack\("]),
    "dates": (lambda x: np.stack([DAYS, DAYS], axis=1), ["dates", r"np.timedelta64\(1, 's'\)"]),
    "text": (lambda x: x.astype(str), ["text", r"\.astype\(float\)"]),
    "complex": (lambda x: x + 1j, ["complex numbers", r"x\.real"]),
    "complex, JAX": (lambda x: jnp.asarray(x + 1j), ["complex"]),
    "random keys": (lambda x: jr.split(KEY, 12).reshape(6, 2), ["random keys"]),
    "object column of text": (
        lambda x: np.array([[a, str(b)] for a, b in x], object),
        ["column 1 holds text", "Drop such columns"],
    ),
    "frame with text and dates": (
        lambda x: Frame(a=x[:, 0], name=np.array(list("uvwxyz"), object), day=DAYS),
        ["column 'name' holds text", "column 'day' holds dates", r"`\w+\.drop\(columns=\['name', 'day'\]\)`"],
    ),
    "frame with a date object": (
        lambda x: frame(x[:, 0], np.array([datetime.date(2024, 1, 1)] * 6, object)),
        ["column 'b' holds dates"],
    ),
    "frame with bits": (lambda x: frame(x[:, 0], x[:, 1] > 0), ["column 'b' holds true and false", "0 and 1"]),
    "large whole numbers": (
        lambda x: np.round(x).astype(np.int64) + (2**60 + 2**5 * np.arange(2) + 1),
        ["has the whole number 11529215046068469", "row 0, column", "which floats round", "Subtract a constant"],
    ),
    "frame with large whole numbers": (
        lambda x: frame(x[:, 0], 2**53 + np.arange(6)),
        ["column 'b' holds whole numbers beyond 2\\*\\*53, which floats round", "differences from a constant"],
    ),
    "frame with large objects": (
        lambda x: frame(x[:, 0], np.array([2**70 + i for i in range(6)], object)),
        ["column 'b' holds whole numbers beyond"],
    ),
    "lazy frame": (lambda x: Lazy(), ["Lazy", r"\.collect\(\)"]),
    "elsewhere": (lambda x: Elsewhere(), ["Elsewhere", r"tensor\.detach\(\)\.numpy\(\)"]),
    "nothing": (lambda x: None, ["NoneType"]),
}  # fmt: skip

# Missing cells become nan, which models of complete examples refuse with their place.
MISSING = {
    "None": with_missing,
    "NA": lambda x: frame(x[:, 0], np.array([*x[:3, 1], NAType(), *x[4:, 1]], object)),
}


def model():
    return lnz.Normal(jnp.asarray(LOC), jnp.asarray(SCALE))


def conjugate():
    return lnz.bayes.NormalMean(lnz.Normal(jnp.zeros(2), PRIOR_SCALE), 1.0)


VERBS = {
    "evaluate": lambda data: lnz.evaluate(KEY, model(), data).value,
    "fit": lambda data: lnz.fit(KEY, model(), lnz.EM(), data, steps=1).model.loc,
    "standardise": lambda data: lnz.flows.standardise(data).forward_and_log_det(jnp.zeros(2))[0],
    "condition": lambda data: lnz.condition(conjugate(), data).log_density(jnp.zeros(2)),
}
RIGHT = {
    "evaluate": stats.norm.logpdf(X, LOC, SCALE).sum(axis=1).mean(),
    "fit": X.mean(axis=0),
    "standardise": X.mean(axis=0),
    "condition": stats.norm.logpdf(X).sum() + 2 * stats.norm.logpdf(0, 0, PRIOR_SCALE),
}
BITS = np.eye(4, dtype=np.uint8)
SIX = np.zeros(6)
REFUSING_VERBS = {
    **VERBS,
    "fit, valid": lambda data: lnz.fit(KEY, model(), lnz.EM(), X, steps=1, valid=data),
    "sample, start": lambda data: lnz.sample(KEY, table.markov_field(), 6, start=data),
    "sample, clamp": lambda data: lnz.sample(KEY, table.rbm(), 2, clamp=(data, BITS == 1)),
    "embed": lambda data: lnz.latent.embed(table.linear_vae(), data),
    "decode": lambda data: lnz.latent.decode(table.linear_vae(), data),
    "traverse, x": lambda data: lnz.latent.traverse(table.linear_vae(), 0, [0.0], x=data),
    "traverse, z": lambda data: lnz.latent.traverse(table.linear_vae(), 0, [0.0], z=data),
    "interpolate": lambda data: lnz.latent.interpolate(table.linear_vae(), data, data),
    "attributes": lambda data: lnz.latent.attribute_vector(data, SIX > 0),
    "log_prob": lambda data: model().log_prob(data),
    "diagnose": lambda data: lnz.diagnose(KEY, table.linear_vae(), data),
}
TAKES_MASKS = {"evaluate", "fit", "fit, valid", "standardise"}  # where the model does
NEEDS_NOTHING = {"fit", "sample, start", "traverse, x", "traverse, z", "fit, valid"}  # `None` has a meaning


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.usefixtures("untyped")
def test_numbers_are_those_of_float64(verb):
    for name, make in HONOURED.items():
        got = np.asarray(VERBS[verb](make(X)))
        np.testing.assert_allclose(got, RIGHT[verb], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("untyped")
def test_what_is_no_numbers_is_refused_with_a_remedy(name):
    make, words = REFUSED[name]
    for verb, call in REFUSING_VERBS.items():
        if (name == "nothing" and verb in NEEDS_NOTHING) or ("masked" in name and verb in TAKES_MASKS):
            continue
        with pytest.raises((TypeError, ValueError)) as caught:
            call(make(X))
        for word in words:
            assert caught.match(word), verb


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.usefixtures("untyped")
def test_missing_cells_are_missing(name):
    data = MISSING[name](X)
    expected = X.copy()
    expected[3, 1] = np.nan
    np.testing.assert_array_equal(as_numbers(data), expected)
    with pytest.raises(ValueError, match=r"`data` has the value nan at row 3, column (\(1\)|'b').*missing"):
        lnz.evaluate(KEY, model(), data)


@pytest.mark.usefixtures("untyped")
def test_large_whole_numbers_that_floats_hold_pass():
    x = np.array([[2**62, 3], [2**53, -(2**63)]])
    np.testing.assert_array_equal(lnz.modules._arrays.as_numbers(x), x)
    assert not lnz.modules._arrays.rounded_by_floats(np.array([0, 2**63, 2**64 - 2**11], np.uint64)).any()
    ends = np.array([-(2**63) + 1, 2**53 + 1, -(2**54) - 2])
    np.testing.assert_array_equal(
        lnz.modules._arrays.rounded_by_floats(ends), [int(float(n)) != n for n in ends.tolist()]
    )


def test_held_out_rows_may_be_masked():
    held_out = masked(X)
    fit = lnz.fit(KEY, model(), lnz.EM(), X, steps=2, valid=held_out)
    assert fit.history[-1]["valid"] == pytest.approx(lnz.evaluate(KEY, fit.model, held_out).value, abs=1e-6)
    with pytest.raises(ValueError, match=r"`valid` is a masked array, and `evaluator` would not see its mask"):
        lnz.fit(KEY, model(), lnz.EM(), X, steps=2, valid=lnz.Validation(held_out, evaluator=lambda *_: None))
    with pytest.raises(ValueError, match=r"also take `np\.ma\.masked_invalid\(valid\)`"):
        lnz.fit(KEY, model(), lnz.EM(), X, steps=2, valid=np.where(X[0, 0] == X, np.nan, X))
    known = np.ma.masked_invalid(np.where(X[0, 0] == X, np.nan, X))
    assert np.isfinite(lnz.fit(KEY, model(), lnz.EM(), X, steps=2, valid=known).history[-1]["valid"])


def test_masked_arrays_are_observed_or_refused():
    machine, known = table.rbm(), np.ones((4, 4), bool)
    known[1, 2] = False
    masked_bits = np.ma.masked_array(np.where(known, BITS, 99), ~known)  # 99 is no bit
    given = lnz.evaluate(KEY, machine, BITS, observed=known)
    np.testing.assert_array_equal(lnz.evaluate(KEY, machine, masked_bits).per_example, given.per_example)
    with pytest.raises(TypeError, match="masked array, needs a method"):
        lnz.fit(KEY, machine, lnz.Gradient(lnz.objectives.PCD(1), optax.sgd(0.1)), masked_bits, steps=1)
    with pytest.raises(ValueError, match="masked array and `observed` is given too"):
        lnz.evaluate(KEY, machine, masked_bits, observed=known)


def test_bits_may_be_a_table_of_true_and_false():
    assert as_numbers(frame(X[:, 0] > 0, X[:, 1] > 0)).dtype == bool
    assert as_numbers(np.array([[True, False]], object)).dtype == bool


@pytest.mark.parametrize("module", ["pandas", "polars", "pyarrow"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tables_of_other_libraries(module, untyped):
    library = pytest.importorskip(module, reason="tables are taken as they are where their library is installed")
    columns = {"a": X[:, 0].tolist(), "b": X[:, 1].tolist()}
    make = library.table if module == "pyarrow" else library.DataFrame
    np.testing.assert_array_equal(as_numbers(make(columns)), X)
    mixed = make({"c": list("123456"), "d": [True, False] * 3, **columns})
    with pytest.raises(TypeError, match="column 'c' holds text, column 'd' holds true and false") as caught:
        as_numbers(mixed, "mixed")
    # Its advice, word by word, but for the column that is named as an example.
    scope = {"np": np, "mixed": mixed, "float": float}
    np.testing.assert_array_equal(as_numbers(eval(re.search(r"`(mixed\.drop.*?)`", str(caught.value))[1], scope)), X)
    advised = re.search(r"`x = (.*?)`", str(caught.value))[1]
    assert eval(advised, scope).astype(float).tolist() == [1, 2, 3, 4, 5, 6]
    assert eval(advised.replace("'c'", "'d'"), scope).astype(float).tolist() == [1, 0] * 3
    dates = [datetime.date(2026, 1, day) for day in range(1, 7)]
    with pytest.raises(TypeError, match="holds dates") as caught:
        as_numbers(make({"d": dates, **columns}), "mixed")
    scope["x"] = np.asarray(
        eval(re.search(r"`x = (.*?)`", str(caught.value))[1], {**scope, "mixed": make({"d": dates})})
    )
    if module != "pandas":  # whose dates without a time are objects
        seconds = eval(re.search(r"since the first, `(.*?)`", str(caught.value))[1], scope)
        assert seconds.tolist() == [86400.0 * day for day in range(6)]
    known, other = make({"a": [True], "b": [False]}), make({"b": [True], "a": [True]})
    with pytest.raises(ValueError, match="in another order") as caught:
        check_same_columns(known, other)
    ordered = eval(re.search(r"Try `(.*?)`\.", str(caught.value))[1], {"data": known, "observed": other})
    check_same_columns(known, ordered)
    missing = as_numbers(make({**columns, "b": [*columns["b"][:5], None]}))
    with pytest.raises(ValueError, match=r"np\.ma\.masked_invalid") as caught:
        lnz.evaluate(KEY, model(), make({"a": [1, None], "b": [2, 3]}))
    advised = re.search(r"take `(.*?)`", str(caught.value))[1]
    masked = eval(advised, {"np": np, "float": float, "data": make({"a": [1, None], "b": [2, 3]})})
    assert np.isfinite(lnz.evaluate(KEY, model(), masked).value)
    assert np.isnan(missing[5, 1])
    assert np.isfinite(missing).sum() == 11
    if module == "pandas":
        nullable = make(columns).astype("Float64")
        np.testing.assert_array_equal(as_numbers(nullable), X)
        nullable.iloc[3, 1] = library.NA
        assert np.argwhere(np.isnan(as_numbers(nullable))).tolist() == [[3, 1]]
        known = library.DataFrame(X > 0, columns=["a", "b"]).astype("boolean")
        np.testing.assert_array_equal(known_entries(lnz.Euclidean(2), X, known)[1], X > 0)
        known.iloc[0, 0] = library.NA
        with pytest.raises(TypeError, match=r"`observed` .* missing cells.*`observed.fillna\(False\)`"):
            known_entries(lnz.Euclidean(2), X, known)
        assert not known_entries(lnz.Euclidean(2), X, known.fillna(False))[1][0, 0]
        whole = library.DataFrame({"a": [1, None], "b": [2, 3]}).astype("Int64")
        with pytest.raises(ValueError, match=re.escape("take `np.ma.masked_invalid(data.astype(float))`")):
            lnz.evaluate(KEY, model(), whole)
        assert np.isfinite(lnz.evaluate(KEY, model(), np.ma.masked_invalid(whole.astype(float))).value)


def test_a_stream_of_the_other_byte_order(tmp_path):
    x = np.arange(128.0).reshape(64, 2).astype(">f8")  # two rows to each of the 32 pieces: one block is all of them
    np.save(tmp_path / "rows.npy", x)
    stream = lnz.data.Stream(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    rows = np.asarray(stream.block(KEY, 0))
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], x)


COVARIANCE = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.0, 0.3, 2.0]])
SKEW = COVARIANCE + np.array([[0, 0, 0], [0.2, 0, 0], [0, 0, 0]])
SINGULAR = np.array([[1.0, 1.0], [1.0, 1.0]])
WRONG_COVARIANCES = {
    "asymmetric": (SKEW, r"must be symmetric; its numbers at \(0, 1\) and \(1, 0\) are 0.6 and 0.8, 0.2 apart"),
    "singular": (SINGULAR, r"positive definite; its smallest eigenvalue is .*`covariance \+ .* \* np.eye\(2\)`"),
    "indefinite": (np.array([[1.0, 2.0], [2.0, 1.0]]), r"positive definite; its smallest eigenvalue is -1"),
    "not square": (np.ones((2, 3)), r"\(2, 3\)"),
    "not finite": (np.array([[1.0, np.nan], [np.nan, 1.0]]), "finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_COVARIANCES)
def test_wrong_covariances(name, untyped):
    covariance, words = WRONG_COVARIANCES[name]
    with pytest.raises(ValueError, match=words):
        lnz.MultivariateNormal.from_covariance(jnp.zeros(len(covariance)), covariance)


def test_a_covariance_is_no_factor(precision, untyped):
    x = np.array([0.3, -0.2, 0.5])
    normal = lnz.MultivariateNormal.from_covariance(jnp.zeros(3), COVARIANCE)
    right = stats.multivariate_normal.logpdf(x, np.zeros(3), COVARIANCE)
    assert float(normal.log_prob(jnp.asarray(x))) == pytest.approx(right, rel=1e-5)
    rounded = jnp.asarray(COVARIANCE) @ jnp.eye(3) + jnp.finfo(jnp.result_type(float)).eps * jnp.triu(jnp.ones((3, 3)))
    lnz.MultivariateNormal.from_covariance(jnp.zeros(3), rounded)
    for make in (lnz.MultivariateNormal, lnz.bijections.TriangularAffine):
        with pytest.raises(
            ValueError, match=r"must be lower triangular; the largest number above its diagonal is 0\.6"
        ):
            make(jnp.zeros(3), jnp.asarray(COVARIANCE))


@pytest.mark.parametrize("verb", ["evaluate", "fit", "valid", "clamp"])
def test_two_tables_are_matched_by_their_place_and_so_must_agree_in_names(verb, untyped):
    data, seen = Frame(a=X[:, 0], b=X[:, 1]), Frame(a=[True] * 6, b=[True] * 5 + [False])
    normal = lnz.Normal(jnp.zeros(2), jnp.ones(2))

    def call(other):
        if verb == "evaluate":
            return lnz.evaluate(KEY, normal, data, observed=other)
        if verb == "fit":
            return lnz.fit(KEY, normal, lnz.EM(), data, steps=1, observed=other)
        if verb == "valid":
            return lnz.fit(KEY, normal, lnz.EM(), data, steps=1, valid=other)
        return lnz.sample(KEY, lnz.energy.RBM(2, 2, key=KEY), 6, clamp=(data, other))

    other = Frame(a=X[:, 0], b=X[:, 1]) if verb == "valid" else seen
    if verb in ("fit", "evaluate"):
        call(other)
    turned = Frame(**{name: other.cells[name] for name in "ba"})
    with pytest.raises(ValueError, match=r"the same columns in another order\. Try `\w+\[list\(\w+\.columns\)\]`"):
        call(turned)
    with pytest.raises(ValueError, match=r"column 'c' where `.*` has 'b'"):
        call(Frame(a=other.cells["a"], c=other.cells["b"]))
    with pytest.raises(ValueError, match="1 columns instead of 2"):
        call(Frame(a=other.cells["a"]))
