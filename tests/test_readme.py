"""The README's example runs as it stands, only shorter."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def example():
    return re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[1]


def test_the_example_is_short():
    assert len([line for line in example().splitlines() if line.strip()]) < 15


@pytest.mark.filterwarnings("ignore::lnz.UnreliableEstimateWarning")  # of a model trained for 50 steps
def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = example().replace("steps=5000", "steps=50")
    assert "steps=50," in code
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert "nats per example (exact, n = 360" in printed[0]
    assert "nats per example (upper bound, n = 360" in printed[1]
    assert printed[2].startswith("[")
    assert names["images"].shape == (100, 64)
    assert (tmp_path / "rbm.lnz").is_file()
