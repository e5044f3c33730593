"""Citations: what was used names its sources, and every source named has an entry."""

import ast
import functools
import re
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import optax
import pytest
import table

import lnz
from lnz.modules._cite import _entries

ROOT = Path(lnz.__file__).parent
# `Salakhutdinov and Murray (2008)`, `Vehtari, Simpson, Gelman, Yao and Gabry (2024)`, `Vehtari et al. (2024)`
CITATION = re.compile(r"([A-Z][\w-]+)((?:, [A-Z][\w-]+)*(?: and [A-Z][\w-]+| et al\.)?) \((\d{4})\)")


def keys(obj):
    return re.findall(r"@\w+\{([^,]+),", lnz.cite(obj))


@functools.cache
def citations():
    """`(file and citation, citation)` for each that stands after `Source:` in a docstring."""
    every = []
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
                continue
            _, found, source = (ast.get_docstring(node) or "").partition("Source:")
            if found:
                for match in CITATION.finditer(re.sub(r"\s+", " ", source)):
                    every.append((f"{file.relative_to(ROOT)}: {match[0]}", match[0]))
    return every


def test_the_pattern_finds_citations():
    text = "Hinton and Sejnowski (1986), section 4; Smolensky (1986). For machines, Vehtari et al. (2024)."
    assert [match[0] for match in CITATION.finditer(text)] == [
        "Hinton and Sejnowski (1986)",
        "Smolensky (1986)",
        "Vehtari et al. (2024)",
    ]
    assert len(citations()) > 25


@pytest.mark.parametrize(("place", "citation"), citations(), ids=[place for place, _ in citations()])
def test_every_source_has_one_entry(place, citation):
    found = [key for key, (pattern, _) in _entries().items() if pattern.search(citation)]
    assert len(found) == 1, f"{place}: references.bib has {found or 'no entry'}"


@pytest.mark.parametrize("key", _entries())
def test_every_entry_is_complete_and_used(key):
    pattern, entry = _entries()[key]
    assert any(pattern.search(citation) for _, citation in citations()), "nothing cites it"
    assert all(re.search(rf"\b{field}\s*=\s*\{{", entry) for field in ("author", "title", "year"))
    assert entry.count("{") == entry.count("}")


def test_keys_are_sorted_and_differ():
    text = (ROOT / "references.bib").read_text("utf-8")
    assert len(re.findall(r"^@", text, re.MULTILINE)) == len(_entries())


def test_annealed_importance_sampling():
    assert keys(lnz.normalizers.AIS()) == ["neal2001", "salakhutdinov2008"]
    assert lnz.cite(lnz.normalizers.AIS()).startswith("@article{neal2001,\n  author = {Neal, Radford M.}")


def test_reverse_annealing_names_both_papers():
    assert keys(lnz.normalizers.ReverseAIS()) == ["burda2015", "grosse2015"]


def test_parts_are_cited_with_the_whole():
    method = lnz.Gradient(lnz.objectives.PCD(1, precondition=lnz.energy.centred_gradient), optax.sgd(0.1))
    assert keys(method) == ["melchior2016", "tieleman2008", "younes1989"]
    assert "geman1984" in keys(lnz.normalizers.AIS(sampler=lnz.samplers.Gibbs()))
    assert "rezende2015" in keys(table.composed_flow())


def test_what_was_fitted_and_how():
    model, method = table.rbm(), lnz.Gradient(lnz.objectives.CD(1), optax.sgd(0.1))
    assert set(keys([model, method])) >= {"smolensky1986", "hinton2002", "hinton2012"}
    assert keys({"model": model}) == keys(model)
    assert keys((model,)) == keys(model)


def test_classes_and_functions():
    assert keys(lnz.latent.VAE) == ["kingma2014", "rezende2014"]
    assert keys(lnz.log_mean_exp) == ["burda2016"]
    assert keys(lnz.pareto_k) == ["vehtari2024", "zhang2009"]


@pytest.mark.parametrize("obj", [lnz.Bernoulli(jnp.zeros(2)), lnz.Uniform(1), [], None, jnp.zeros(3), jr.key(0)])
def test_nothing_to_cite(obj):
    assert lnz.cite(obj) == ""
