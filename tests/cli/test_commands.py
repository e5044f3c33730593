"""The commands, called as a user calls them: output, exit codes, files."""

import json
import os
import shutil
import subprocess
import sys

import jax.random as jr
import numpy as np
import pytest

import lnz
from lnz._run import Run
from lnz.cli import main

# The smallest settings that pass through everything: a second of work, the rest is compilation.
_TINY = ["--set", "model.num_hidden=4", "--set", "train.steps=20"]
_TINY += ["--set", "evaluate.num_chains=20", "--set", "evaluate.num_betas=20"]

_CALL_ALL = """
import json, sys
from lnz.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["lnz", *arguments]
    try:
        main()
    except SystemExit as exit:
        if exit.code:
            raise
"""


def call(monkeypatch, *arguments):
    """Exit code of `lnz ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["lnz", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        main()
    return exit_info.value.code


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with an exact run and one with two rows, and what was printed while making them."""
    folder = tmp_path_factory.mktemp("runs")
    commands = [
        ["train", "independent_digits", "--out", str(folder / "independent_digits")],
        ["train", "rbm_digits_exact", "--out", str(folder / "rbm_digits_exact"), *_TINY],
    ]
    # A process of its own, as a user's: without the checker of types, whose time is not what is tested here.
    done = subprocess.run(
        [sys.executable, "-c", _CALL_ALL, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},  # compiles in half the time
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return folder, done.stdout


def test_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typer", None)  # as if it were not installed
    assert call(monkeypatch, "list") == 2
    assert 'pip install "lnz[app]"' in capsys.readouterr().err


def test_list_shows_recipes_and_data(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    assert call(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    for name in ("independent_digits", "mixture_digits", "rbm_digits_exact", "rbm_digits"):
        assert name in out
    for name in ("digits", "binary_digits", "bars_and_stripes", "shifter"):
        assert name in out


def test_progress_is_plain_lines_where_there_is_no_terminal(runs):
    _, out = runs
    assert "\x1b" not in out
    assert "\r" not in out
    lines = [line for line in out.splitlines() if line.startswith("rbm_digits_exact: step ")]
    assert len(lines) == 10  # one a validation
    assert all("steps/s" in line and "valid -" in line and line.endswith(" nats") for line in lines)


def test_run_folder_is_complete(runs):
    folder, _ = runs
    run = folder / "rbm_digits_exact"
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "events.jsonl", "model.lnz", "report.json"]
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"] == "rbm_digits_exact"
    assert config["settings"]["model"]["num_hidden"] == 4
    assert config["settings"]["train"]["steps"] == 20
    assert {"lnz", "jax", "device"} <= set(config["environment"])
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events] == list(range(1, 21))
    report = json.loads((run / "report.json").read_text())
    assert report["num_parameters"] == 64 * 4 + 64 + 4
    assert set(report["seconds"]) == {"train", "compile", "evaluate"}
    row = report["rows"]["rbm_digits_exact (AIS)"]
    assert row["bound"] == "upper"
    assert len(row["per_example"]) == 360
    assert row["stats"]["protocol"].startswith("360 examples")


def test_model_file_reproduces_the_reported_value(runs):
    folder, _ = runs
    run = Run.read(folder / "rbm_digits_exact")
    test = lnz.data.load("binary_digits").test
    again = lnz.evaluate(jr.key(1), run.model, test, partition=lnz.normalizers.Quadrature())
    row = run.rows["rbm_digits_exact"]
    # One float32 program over the same bits, compiled in another process with other options.
    np.testing.assert_allclose(again.per_example, row.per_example, rtol=1e-5)
    assert row.bound == again.bound == "exact"


def test_compare_prints_one_table(runs, monkeypatch, capsys):
    folder, _ = runs
    monkeypatch.setenv("COLUMNS", "80")
    assert call(monkeypatch, "compare", folder / "independent_digits", folder / "rbm_digits_exact") == 0
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    for words in ("higher (less negative) is better", "optimistic in", "one standard error", "betas=20)"):
        assert words in " ".join(out.split())
    assert "rbm_digits_exact (AIS) minus rbm_digits_exact: " in out
    assert "independent_digits" in out


def test_compare_ranks_best_first_and_names_runs_by_folder(runs, tmp_path, monkeypatch, capsys):
    folder, _ = runs
    shutil.copytree(folder / "independent_digits", tmp_path / "baseline")
    report = json.loads((tmp_path / "baseline" / "report.json").read_text())
    for row in report["rows"].values():
        row["value"] -= 1
        row["per_example"] = [value - 1 for value in row["per_example"]]
    (tmp_path / "baseline" / "report.json").write_text(json.dumps(report))
    monkeypatch.setenv("COLUMNS", "120")
    assert call(monkeypatch, "compare", tmp_path / "baseline", folder / "independent_digits") == 0
    first, second = [line for line in capsys.readouterr().out.splitlines() if " exact " in line and "64" in line][:2]
    assert first.startswith("independent_digits")
    assert " best " in first
    assert second.startswith("baseline")
    assert "-1.000 ±0.000" in second


def test_compare_refuses_other_data(runs, tmp_path, monkeypatch, capsys):
    folder, _ = runs
    shutil.copytree(folder / "independent_digits", tmp_path / "other")
    text = (tmp_path / "other" / "report.json").read_text()
    report = json.loads(text)
    report["rows"]["independent_digits"]["stats"]["fingerprint"]["data"] = "0" * 16
    (tmp_path / "other" / "report.json").write_text(json.dumps(report))
    assert call(monkeypatch, "compare", folder / "independent_digits", tmp_path / "other") == 2
    assert "not likelihoods of the same thing" in capsys.readouterr().err


def test_compare_shows_warnings(runs, tmp_path, monkeypatch, capsys):
    folder, _ = runs
    shutil.copytree(folder / "independent_digits", tmp_path / "doubtful")
    report = json.loads((tmp_path / "doubtful" / "report.json").read_text())
    report["rows"]["independent_digits"]["stats"]["warnings"] = ["partition: effective sample size 2.0 is below 10"]
    (tmp_path / "doubtful" / "report.json").write_text(json.dumps(report))
    assert call(monkeypatch, "compare", tmp_path / "doubtful") == 0
    assert "Warning: doubtful: partition: effective sample size 2.0" in capsys.readouterr().out


def test_demo_trains_compares_and_reports(tmp_path, monkeypatch, capsys):
    from lnz.cli import _demo
    from lnz.cli._train import recipes

    assert set(_demo._RECIPES) <= set(recipes())
    monkeypatch.setattr(_demo, "_RECIPES", ("independent_digits",))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second overwrites the first
        assert call(monkeypatch, "demo") == 0
        out = capsys.readouterr().out
        assert "Wrote runs/demo/report.html" in out
        assert "Total " in out
    assert "independent_digits" in (tmp_path / "runs" / "demo" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "rbm_digit", "--out", "new"], "Did you mean 'rbm_digits'?"),
        (["train", "rbm_digits", "--out", "new", "--set", "train.step=5"], "Did you mean 'train.steps'?"),
        (["train", "rbm_digits", "--out", "new", "--set", "train.steps"], "KEY=VALUE"),
        (["train", "rbm_digits", "--out", "new", "--set", "train.steps=many"], "must be of type int"),
        (["train", "independent_digits", "--out", "new", "--set", "train.steps=0"], "at least 1; got 0"),
        (["train", "rbm_digits", "--out", "full"], "--overwrite"),
        (["train", "rbm_digits", "--out", "full/file"], "is a file"),
        (["train", "rbm_digits"], "--out"),
        (["trian"], "Did you mean 'train'?"),
        (["compare", "nowhere"], "no run folder 'nowhere'"),
        (["compare", "full"], "it has no config.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_is_one_sentence(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("something")
    assert call(monkeypatch, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("lnz: ")
    assert words in err
    assert len(err.splitlines()) == 1
    assert (tmp_path / "full" / "file").read_text() == "something"


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lnz", "train", "rbm_digit", "--out", "new", "--debug"])
    with pytest.raises(ValueError, match="Unknown recipe"):
        main()


def test_ctrl_c_is_no_traceback(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lnz.cli._train.start_folder", interrupted)
    assert call(monkeypatch, "train", "rbm_digits", "--out", tmp_path / "new") == 130
    assert capsys.readouterr().err == "lnz: stopped by Ctrl-C.\n"
