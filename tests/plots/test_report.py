"""The report: safe to open, needs nothing from outside, and says what the runs say."""

import ast
import copy
import dataclasses
import io
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import by_hand
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from made_runs import EVIL, bars, examples, make_run, small_rbm
from markupsafe import escape
from rich.console import Console

import lnz
from lnz.cli._table import print_comparison
from lnz.plots import write_report


def write(folder, runs):
    write_report(folder / "report.html", runs)
    return (folder / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    runs = {
        EVIL: make_run(lnz.Bernoulli(jnp.zeros(16)), title=EVIL, status=f"stopped early at step 1: {EVIL}"),
        "mixture": make_run(lnz.Mixture(jnp.zeros(3), lnz.Bernoulli(jr.normal(jr.key(0), (3, 16))))),
        "rbm": make_run(small_rbm()),
    }
    return write(tmp_path_factory.mktemp("report"), runs)


class Page(HTMLParser):
    """Tags, addresses, and the words of every section by its heading."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.open, self.addresses, self.sections, self.cells = [], [], [], [], []
        self.attributes = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.opened.append(tag)
        self.attributes.append([name for name, _ in attributes])
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)
        if tag == "section":
            self.sections.append("")
        if tag in ("td", "th"):
            self.cells.append("")
        self.addresses += [value for name, value in attributes if name in ("src", "srcset", "href")]
        assert not [name for name, _ in attributes if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "section" in self.open:
            self.sections[-1] += f"{data} "
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    def section(self, heading):
        (found,) = [text for text in self.sections if text.startswith(heading)]
        return found


def without_pictures(text):
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)


def assert_harmless(text):
    parsed = Page(text)
    assert parsed.open == []
    assert "script" not in parsed.opened
    assert "<script" not in text
    return parsed


def test_page_is_well_formed(page):
    assert assert_harmless(page).opened.count("section") == 5  # likelihood, samples, three models


def test_user_strings_are_escaped(page):
    # Name (title, table, protocol, tile with alternative text, section), title, status, three notes, device.
    assert page.count(str(escape(EVIL))) >= 10
    assert EVIL in Page(page).section(EVIL)


def test_strings_of_a_table_are_escaped(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    model = lnz.Normal(jnp.zeros(3), jnp.ones(3))
    results = {"made": lnz.evaluate(jr.key(0), model, rows)}
    settings = {"data": {"source": f"/somewhere/{EVIL}.csv"}, EVIL: {EVIL: EVIL}, "train": {"steps": 2}}
    run = make_run(
        model,
        rows,
        image_shape=None,
        columns=(EVIL[:13], "$x$ <b>", "café ± 数"),
        results=results,
        settings=settings,
        data_protocol=EVIL,
        digest=EVIL,
        recipe="made",
        history=[{"step": step, "seconds": 1.0, EVIL: 1.0, "$broken": 2.0} for step in (1, 2)],
    )
    text = write(tmp_path, {EVIL: run, "again": run})
    parsed = assert_harmless(text)
    assert {EVIL[:13], "$x$ <b>", "café ± 数"} <= set(parsed.cells)
    # No markup but the report's own: the only bold words are titles of figures.
    assert without_pictures(text).count("<b>") == text.count("<figcaption><b>")


def with_text(value, text):
    """`value` with `text` in place of every string in it."""
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        return {name: with_text(child, text) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_text(child, text) for child in value)
    if isinstance(value, lnz.Estimate):
        return with_fields(value, assumes=with_text(value.assumes, text))
    if isinstance(value, lnz.LogLikelihood | lnz.RandomVariable | lnz.Protocol | lnz.runs._examples.Examples):
        return with_fields(value, **with_text(vars(value), text))
    return value


def with_fields(value, /, **fields):
    """A copy with other fields of any type: the tests' checker of types is no part of a user's program."""
    made = copy.copy(value)
    vars(made).update(fields)
    return made


def run_with_text(text):
    """A run all of whose strings, in every one of its files, are `text`: also those that a reader would refuse."""
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    model = lnz.Normal(jnp.zeros(3), jnp.ones(3))
    exact = lnz.evaluate(jr.key(0), model, rows)
    weights = lnz.Weights(num=2.0, ess=2.0, log_weights=np.array([1.0, 2.0]))
    annealed = dataclasses.replace(
        exact,
        denominator=lnz.modules.replace(exact.denominator, bound="lower", assumes=("a",), weights=weights),
        protocol=dataclasses.replace(exact.protocol, estimators=("AIS",)),
        warnings=("a",),
    )
    lower = lnz.Estimate(jnp.asarray(1.0), jnp.asarray(0.1), "lower", (text,))
    upper = lnz.Estimate(jnp.asarray(2.0), jnp.asarray(0.1), "estimate", (text,))
    shown = examples(rows, exact.per_example, None, ("a", "b", "c"))
    run = make_run(model, rows, image_shape=None, results={"made": exact}, digest="a")
    fields = with_text({**vars(run), "examples": with_fields(shown, labels=["a"])}, text)
    fields["settings"] |= {text: {text: text}}
    fields["environment"] |= {text: text}
    fields["history"] = [{**record, text: 1.0} for record in fields["history"]]
    fields["rows"] = {text: with_text(exact, text), f"{text} (AIS)": with_text(annealed, text)}
    return with_fields(run, **fields | {"bracket": lnz.Bracket(lower, upper, text)})


STRANGE = """<script>alert(1)</script>"'&"""


def test_no_string_of_any_file_of_a_run_is_markup(tmp_path):
    harmless, strange = (write(tmp_path, {text: run_with_text(text)}) for text in ("harmless", STRANGE))
    parsed, expected = assert_harmless(strange), Page(harmless)
    assert STRANGE not in strange
    assert strange.count(str(escape(STRANGE))) >= 40
    assert parsed.opened == expected.opened
    assert parsed.attributes == expected.attributes


@pytest.mark.parametrize("num_runs", [1, 2])
def test_a_row_with_a_warning_is_never_plainly_exact(tmp_path, num_runs):
    plain = make_run(lnz.Bernoulli(jnp.zeros(16)), image_shape=None)
    row = plain.rows["made"]
    warned = row.with_warnings(["Column 3 has atoms. Add noise."])
    runs = {"first": dataclasses.replace(plain, rows={"made": warned})}
    if num_runs == 2:
        denominator = lnz.modules.replace(row.denominator, value=row.denominator.value + 1)
        lower = dataclasses.replace(row, denominator=denominator)
        runs["second"] = dataclasses.replace(plain, rows={"made": lower})
    text = write(tmp_path, runs)
    terminal = Console(width=80, record=True, file=io.StringIO())
    print_comparison(terminal, runs)
    printed = terminal.export_text()
    for page in (without_pictures(text), printed):
        assert "exact (!)" in page
        assert "Column 3 has atoms. Add noise." in " ".join(page.split())
        assert "first stands first, but it has a warning: it is not shown to be the best" in " ".join(page.split()) or (
            num_runs == 1
        )
        assert not re.search(r"\bbest\b(?! *\{|\.)", page.split("</style>")[-1].replace("to be the best", ""))
    assert '<td data-head="Bound" class="bound doubtful">' in text
    assert text.count('class="bound exact"') == num_runs - 1
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize(("num", "margin"), [(20, "is within two standard errors"), (1, "has no error bar")])
def test_a_tie_has_no_best(tmp_path, num, margin):
    made = make_run(lnz.Bernoulli(jnp.zeros(16)), bars()[:num], image_shape=None)
    runs = {"first": made, "second": made}
    text = write(tmp_path, runs)
    terminal = Console(width=80, record=True, file=io.StringIO())
    print_comparison(terminal, runs)
    sentence = f"first stands first, but its lead over second {margin}: it is not shown to be the best"
    for page in (without_pictures(text).split("</style>")[-1], terminal.export_text()):
        assert sentence in " ".join(page.split())
        assert not re.search(r"\bbest\b(?! *\{|\.)", page.replace("to be the best", ""))


def test_markup_is_written_in_templates_alone():
    """A template escapes what it is given; a string of Python with a tag in it would not."""
    package = Path(lnz.__file__).parent
    for file in package.rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text("utf-8")))
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        tags = [text for text in texts if re.search(r"</?[a-z]+\d?(\s+[a-z-]+=|\s*/?>)", text)]
        assert tags == [], file.name
        assert not re.search(r"\bMarkup\(|markupsafe", file.read_text("utf-8")), file.name
    templates = list(package.rglob("*.html"))
    assert templates
    for file in templates:
        assert not re.search(r"\bsafe\b|autoescape", file.read_text("utf-8")), file.name


def test_a_missing_template_engine_is_named(tmp_path, monkeypatch):
    from lnz.plots import _html

    _html.pieces.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r'A report needs `pip install "lnz\[app\]"`'):
        write(tmp_path, {"coins": make_run(lnz.Bernoulli(jnp.zeros(16)))})


def test_page_needs_nothing_from_outside(page):
    parsed = Page(page)
    assert parsed.addresses
    assert all(address.startswith("data:image/png;base64,") for address in parsed.addresses)
    assert not re.search(r"https?:|//|url\(|@import", without_pictures(page))


def test_page_shows_what_it_should(page):
    for words in ("higher (less negative) is better", "one standard error", "Test examples", "made by hand"):
        assert words in page
    assert f"−{16 * 0.6931:.2f}" in page  # fair coins: 16 log 2 nats
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_sections_stand_where_they_belong(page):
    parsed = Page(page)
    belongings = {
        "Mean image": [EVIL],
        "Components": ["mixture"],
        "Filters": ["rbm"],
        "Gibbs chains": ["rbm"],
        "Training": [EVIL, "mixture", "rbm"],
        "Least likely test rows": [EVIL, "mixture", "rbm"],
    }
    for what, owners in belongings.items():
        for name in (EVIL, "mixture", "rbm"):
            assert (what in parsed.section(name)) == (name in owners), (what, name)
    assert "Bracket" not in page
    assert "by AIS" not in Page(page).section("rbm")


def test_status_is_told_in_words(page):
    parsed = Page(page)
    assert "Training: stopped early at step 1" in parsed.section(EVIL)
    assert "Training: completed. 2 of 2 steps in 1.0 s" in parsed.section("rbm")


def test_status_of_training_that_diverged(tmp_path):
    history = [{"step": step, "seconds": 1.0, "loss": float("nan")} for step in (1, 2)]
    run = make_run(small_rbm(), status="Training diverged at step 2: loss = nan.", history=history)
    assert "Training: diverged at step 2: loss = nan. 2 of 2 steps" in write(tmp_path, {"rbm": run})


def test_extreme_rows_are_those_of_the_run(tmp_path):
    log_probs = -100 * np.random.default_rng(0).random(60)
    results = {"made": by_hand.likelihood(log_probs)}
    parsed = Page(write(tmp_path, {"rbm": make_run(small_rbm(), results=results)}))
    words = parsed.section("rbm")
    least, most = words.split("Least likely test rows")[1].split("Most likely test rows")
    order = np.argsort(log_probs)
    for part, expected in ((least, order[:6]), (most, order[::-1][:6])):
        found = re.findall(r"−(\d+\.\d\d)\s+row (\d+)", part)
        assert [int(row) for _, row in found] == expected.tolist()
        assert [float(value) for value, _ in found] == pytest.approx(-log_probs[expected], abs=0.005)


def test_extreme_rows_of_a_table_have_their_values(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
    model = lnz.Normal(jnp.zeros(10), jnp.ones(10))
    results = {"made": lnz.evaluate(jr.key(0), model, rows)}
    columns = tuple(f"name {i}" for i in range(10))
    run = make_run(model, rows, image_shape=None, columns=columns, results=results)
    parsed = Page(write(tmp_path, {"normal": run}))
    assert "the first 8 of 10 columns" in parsed.section("normal")
    assert "name 7" in parsed.cells
    assert "name 8" not in parsed.cells
    first = parsed.cells.index("name 7") + 1
    row = run.examples.rows["least"][0]
    expected = [row, results["made"].per_example[row], *rows[row, :8]]
    found = [float(cell.replace("−", "-")) for cell in parsed.cells[first : first + 10]]
    assert found == pytest.approx(expected, rel=1e-3)
    assert "Test examples" not in "".join(parsed.sections)
    assert "2,000 independent draws, column by column (the first 6 of 10)" in parsed.section("Samples")


@pytest.mark.parametrize("image_shape", [None, (4, 4)])
def test_extreme_rows_are_named_as_the_file_counts(tmp_path, image_shape):
    run = make_run(lnz.Bernoulli(jnp.zeros(16)), image_shape=image_shape)
    places = {kind: [f"line {7 + row}" for row in run.examples.rows[kind]] for kind in ("least", "most")}
    run = dataclasses.replace(run, examples=dataclasses.replace(run.examples, places=places))
    words = Page(write(tmp_path, {"coins": run})).section("coins")
    assert words.count("log p in nats, and the line of the file, whose header counts too") == 2
    first = f"{7 + run.examples.rows['least'][0]}"
    assert re.search(rf"line\s+log p.*\b{first}\b" if image_shape is None else f"line {first}", words)


def test_columns_without_names_are_numbered(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    model = lnz.Normal(jnp.zeros(2), jnp.ones(2))
    run = make_run(model, rows, image_shape=None, results={"made": lnz.evaluate(jr.key(0), model, rows)})
    assert {"column 0", "column 1"} <= set(Page(write(tmp_path, {"normal": run})).cells)


def test_bits_without_pictures_are_lines_of_cells(tmp_path):
    text = write(tmp_path, {"rbm": make_run(small_rbm(), image_shape=None)})
    words = Page(text).section("Samples")
    assert "a line is a row, a cell a column" in words
    assert "one chain each, 1000 steps" in words
    assert "Gibbs chains" not in text


def test_deep_machines_have_chains_too(tmp_path):
    words = Page(write(tmp_path, {"dbm": make_run(lnz.energy.DBM(16, 3, 2, key=jr.key(0)))})).section("dbm")
    assert "started at a draw from the start of annealing" in words
    assert "Filters" in words


def test_categories_are_shown_on_their_scale(tmp_path):
    rows = np.random.default_rng(0).integers(0, 5, size=(30, 16)).astype(np.int32)
    rbm = lnz.energy.RBM(lnz.energy.CategoricalUnits(16, 5), 3, key=jr.key(0))
    results = {"made": lnz.evaluate(jr.key(0), rbm, rows)}
    words = Page(write(tmp_path, {"potts": make_run(rbm, rows, results=results)})).section("potts")
    assert "Gibbs chains" in words
    assert "Filters" not in words  # weights of one-hot vectors are no pictures


def test_models_that_cannot_be_sampled_have_a_report(tmp_path):
    class Bits(lnz.spaces.AbstractDiscreteArray):  # of the user's own, where no sampler knows how to move
        shape: tuple[int, ...] = eqx.field(static=True, default=(16,))
        kind = "float"
        advice = "Only bits."
        propose = None

        @property
        def num_points(self):
            return 2**16

        def elements_within(self, x):
            return (x == 0) | (x == 1)

        def quadrature(self, num=201, bounds=(-10.0, 10.0)):
            return lnz.Binary(16).quadrature()

        def reference_sample(self, key, shape, dtype):
            return lnz.Binary(16).reference_sample(key, shape, dtype)

        def reference_log_prob(self, x):
            return lnz.Binary(16).reference_log_prob(x)

        def propose_value(self, key, old):
            raise AssertionError("no sampler calls it")

    class Stuck(lnz.AbstractEnergyModel):
        space: Bits = Bits()

        def log_density(self, x):
            return -jnp.sum(x)

    words = Page(write(tmp_path, {"stuck": make_run(Stuck())}))
    assert "No sampler fits the variables of" in words.section("Samples")
    assert "No sampler fits the variables of" in words.section("stuck")


def test_missing_data_file_does_not_matter(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a report loads no data")

    monkeypatch.setattr(lnz.data, "load", refuse)
    run = make_run(small_rbm())
    assert not os.path.exists(run.settings["data"]["source"])
    assert "2 models of rows.csv" in write(tmp_path, {"one": run, "two": run})


def test_pictures_are_reproducible(page, tmp_path):
    addresses = Page(write(tmp_path, {"rbm": make_run(small_rbm())})).addresses
    # Test examples, samples, training in light and dark, filters, chains, and six and six extreme rows.
    assert len(addresses) == 2 + 2 + 2 + 12
    assert all(address in page for address in addresses)


def test_a_run_with_one_record_and_few_rows(tmp_path):
    history = [{"step": 1, "seconds": 0.1, "valid": -3.0}]
    run = make_run(small_rbm(), bars()[:3], history=history)
    words = Page(write(tmp_path, {"few": run})).section("few")
    assert "valid is the mean" not in words
    assert len(re.findall(r"row \d", words)) == 6


def test_failure_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(tmp_path / "report.html", {"coins": make_run(lnz.Bernoulli(jnp.zeros(16)))})
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"
