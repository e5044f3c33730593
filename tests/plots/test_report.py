"""The report: safe to open, needs nothing from outside, and says what the table says."""

import functools
import os
import re
from html.parser import HTMLParser

import jax.numpy as jnp
import jax.random as jr
import pytest

import lnz
from lnz._run import Run
from lnz.plots import write_report

_EVIL = '<script>alert("x")</script>&\'"'


@functools.cache
def fair_coins(data):
    splits = lnz.data.load(data)
    return lnz.evaluate(jr.key(0), lnz.Bernoulli(jnp.zeros(splits.space.shape)), splits.test)


def make_run(model, data="bars_and_stripes", title="A model"):
    """A run of `model` with the likelihoods of fair coins: the report does not compute them."""
    return Run(
        recipe="made",
        title=title,
        data=data,
        settings={"seed": 0, "model": {"note": _EVIL}},
        environment={"lnz": "0.1", "device": _EVIL},
        model=model,
        history=[{"step": step, "seconds": 1.0, "free_energy_data": 2.0, "valid": -1.0 / step} for step in (1, 2)],
        rows={"made": fair_coins(data)},
        data_protocol=lnz.data.load(data).protocol,
        num_parameters=16,
        seconds={"train": 1.0, "compile": 2.0, "evaluate": 3.0},
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    runs = {
        _EVIL: make_run(lnz.Bernoulli(jnp.zeros(16)), title=_EVIL),
        "mixture": make_run(lnz.Mixture(jnp.zeros(3), lnz.Bernoulli(jr.normal(jr.key(0), (3, 16))))),
        "rbm": make_run(lnz.energy.RBM(16, 4, key=jr.key(0))),
    }
    write_report(path, runs)
    return path.read_text("utf-8")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.opened, self.open, self.addresses = [], [], []

    def handle_starttag(self, tag, attributes):
        self.opened.append(tag)
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "srcset", "href")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed(page):
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.opened.count("section") == 5  # likelihood, samples, three models


def test_user_strings_are_escaped(page):
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.opened
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#x27;&quot;") >= 4


def test_page_needs_nothing_from_outside(page):
    tags = Tags()
    tags.feed(page)
    assert tags.addresses
    assert all(address.startswith("data:image/png;base64,") for address in tags.addresses)
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|//|url\(|@import", text)


def test_page_shows_what_it_should(page):
    for words in ("higher (less negative) is better", "one standard error", "Test examples", "Filters", "Components"):
        assert words in page
    assert "Mean image" in page
    assert f"−{16 * 0.6931:.2f}" in page  # fair coins: 16 log 2 nats
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_pictures_are_reproducible(page, tmp_path):
    write_report(tmp_path / "report.html", {"rbm": make_run(lnz.energy.RBM(16, 4, key=jr.key(0)))})
    tags = Tags()
    tags.feed((tmp_path / "report.html").read_text("utf-8"))
    assert len(tags.addresses) == 6  # test examples, samples, and twice two with text
    assert all(address in page for address in tags.addresses)


def test_data_without_pictures_have_a_report_too(tmp_path):
    write_report(tmp_path / "report.html", {"coins": make_run(lnz.Bernoulli(jnp.zeros(19)), "shifter")})
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "coins" in page
    assert "Test examples" not in page


def test_failure_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(tmp_path / "report.html", {"coins": make_run(lnz.Bernoulli(jnp.zeros(19)), "shifter")})
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"
