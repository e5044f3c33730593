"""The page on variational autoencoders: its blocks run as they stand, only shorter, and the names on it exist."""

import functools
import re
import warnings
from pathlib import Path

import pytest

import lnz

PAGE = (Path(__file__).parents[1] / "docs" / "vae.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAMES = sorted(set(re.findall(r"lnz(?:\.\w+)+", PAGE)))


def test_blocks_run_one_after_another(capsys):
    names = {}
    for block in BLOCKS:
        for long, short in (("steps=200", "steps=2"), ("width=64", "width=8"), ("num_layers=4", "num_layers=2")):
            block = block.replace(long, short)
        block = block.replace("x.test)", "x.test[:8])")
        with warnings.catch_warnings():  # nothing was learned in two steps
            warnings.simplefilter("ignore")
            exec(compile(block, "docs/vae.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("lower bound") >= 2
    assert "ELBO" in printed


@pytest.mark.parametrize("name", NAMES)
def test_names_exist(name):
    functools.reduce(getattr, name.split(".")[1:], lnz)
