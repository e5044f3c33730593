"""The page on porting flows: its snippets of lnz run as they stand, only shorter, and the names in its tables exist."""

import functools
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import lnz

PAGE = (Path(__file__).parents[1] / "docs" / "porting_flows.md").read_text("utf-8")
SNIPPETS = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if code.startswith("# lnz")]
NAMES = sorted(set(re.findall(r"lnz(?:\.\w+)+", PAGE)) - {"lnz.fit.model"})


def test_each_package_has_its_pair():
    for package in ("flowjax", "zuko", "normflows"):
        assert f"```python\n# {package}" in PAGE
    assert len(SNIPPETS) == 4


@pytest.mark.parametrize("code", SNIPPETS, ids=["maf", "spline", "context", "realnvp"])
def test_snippets_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = lnz.data.load("two_moons").train[:128].astype(np.float32)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    code = re.sub("num_layers=[358]", "num_layers=2", code.replace("steps=300", "steps=2"))
    code = code.replace("width=64", "width=8")
    names = {"x": x}
    exec(compile(code, "docs/porting_flows.md", "exec"), names)
    assert names["log_probs"].shape == (128,)
    assert np.all(np.isfinite(names["log_probs"]))
    if "draws" in names:
        assert names["draws"].shape == (1000, 2)
        flow = lnz.load(tmp_path / "flow.lnz")
        np.testing.assert_array_equal(jax.vmap(flow.log_prob)(x), names["log_probs"])


@pytest.mark.parametrize("name", NAMES)
def test_names_exist(name):
    functools.reduce(getattr, name.split(".")[1:], lnz)
