"""The commands, called as a user calls them: output, exit codes, files."""

import contextlib
import csv
import dataclasses
import errno
import json
import math
import os
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import warnings
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import lnz
from lnz.cli import main
from lnz.core import least_likely_first
from lnz.recipes import independent_digits
from lnz.runs import Data, Examples, Run, rows_for
from lnz.runs._form import sealed

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
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return folder, done.stdout


@contextlib.contextmanager
def edited(folder):
    """The report of a run, to be changed, and then sealed as if it had been written so."""
    report = json.loads((folder / "report.json").read_text())
    yield report
    (folder / "report.json").write_text(sealed(report))


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


def test_list_shows_the_settings_of_a_recipe(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert call(monkeypatch, "list", "vae_digits") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "model.prior=normal Distribution of the latents, or of the upper half of them: one of normal, mixture, vampp"
        in out
    )
    assert "mixture: A mixture of learned normals." in out
    words = (
        "model.prior.num_components=500 with model.prior=mixture or model.prior=vampprior Components of the mixture: "
    )
    assert words + "a whole number, at least 1." in out
    assert call(monkeypatch, "list", "vae_digit") == 2
    assert "Did you mean 'vae_digits'?" in capsys.readouterr().err
    assert call(monkeypatch, "list", "vae_digits", "--json") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["default"]["model"]["num_latent"] == 16
    assert call(monkeypatch, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["vae_digits"] == schema


def test_progress_is_plain_lines_where_there_is_no_terminal(runs):
    _, out = runs
    assert "\x1b" not in out
    assert "\r" not in out
    lines = [line for line in out.splitlines() if line.startswith("rbm_digits_exact: step ")]
    assert len(lines) == 10  # one a validation
    assert all("steps/s" in line and "valid -" in line and line.endswith(" nats") for line in lines)
    assert all(re.search(r"valid -[\d.]+ \(exact\)", line) for line in lines)


def test_run_folder_is_complete(runs):
    folder, _ = runs
    run = folder / "rbm_digits_exact"
    files = ["checkpoints", "config.json", "events.jsonl", "model.lnz", "report.html", "report.json"]
    assert sorted(path.name for path in run.iterdir()) == files
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
    assert row["protocol"]["denominator"] == "AIS(num_chains=20, betas=20)"


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
    with edited(tmp_path / "baseline") as report:
        for row in report["rows"].values():
            row["value"] -= 1
            row["bits_per_dimension"] += 1 / 64 / math.log(2)
            for values in (row, "per_example"), (row["numerators"], "value"):
                values[0][values[1]] = [value - 1 for value in values[0][values[1]]]
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
    with edited(tmp_path / "other") as report:
        report["rows"]["independent_digits"]["of"]["data"] = "0" * 16
    assert call(monkeypatch, "compare", folder / "independent_digits", tmp_path / "other") == 2
    err = capsys.readouterr().err
    assert "not likelihoods of the same thing. They differ in data (360 examples each, with other values" in err
    assert "0000" not in err
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["settings"]["data"]["binarize"] = "threshold"
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("lnz.runs._run._parted_files", lambda *_: [])  # edited as it is
    assert call(monkeypatch, "compare", folder / "independent_digits", tmp_path / "other") == 2
    assert "the setting data.binarize (none and threshold); in data (360" in capsys.readouterr().err
    config["settings"]["data"]["source"] = "digits"
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    assert call(monkeypatch, "compare", folder / "independent_digits", tmp_path / "other") == 2
    assert "differ in data set (binary_digits and digits); in data (360" in capsys.readouterr().err


def test_compare_shows_warnings(runs, tmp_path, monkeypatch, capsys):
    folder, _ = runs
    shutil.copytree(folder / "independent_digits", tmp_path / "doubtful")
    with edited(tmp_path / "doubtful") as report:
        report["rows"]["independent_digits"]["warnings"] = ["partition: effective sample size 2.0 is below 10"]
    assert call(monkeypatch, "compare", tmp_path / "doubtful") == 0
    assert "Warning: doubtful: partition: effective sample size 2.0" in capsys.readouterr().out


def test_demo_trains_compares_and_reports(tmp_path, monkeypatch, capsys):
    from lnz.cli import _demo
    from lnz.recipes import all_recipes, flow_digits

    assert set(_demo._RECIPES) <= set(all_recipes())
    small = dataclasses.replace(
        flow_digits,
        settings=flow_digits.resolve(
            {
                "model.num_layers": 1,
                "model.width": 8,
                "model.noise_width": 4,
                "train.steps": 2,
                "train.keep": "last",
                "evaluate.num_samples": 20,
                "evaluate.num_repeats": 2,
                "evaluate.num_samples_while_training": 2,
            }
        ),
    )
    found = {"independent_digits": _demo.find_recipe("independent_digits"), "flow_digits": small}
    monkeypatch.setattr(_demo, "find_recipe", found.__getitem__)
    monkeypatch.chdir(tmp_path)
    for names in (("independent_digits",), tuple(found)):  # the second overwrites the first
        monkeypatch.setattr(_demo, "_RECIPES", names)
        assert call(monkeypatch, "demo") == 0
        out = capsys.readouterr().out
        assert "Wrote runs/demo/report.html" in out
        assert "Total " in out
    report = (tmp_path / "runs" / "demo" / "report.html").read_text("utf-8")
    assert "independent_digits" in report
    assert "flow_digits" in report


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "rbm_digit", "--out", "new"], "Did you mean 'rbm_digits'?"),
        (["train", "rbm_digits", "--out", "new", "--set", "train.step=5"], "Did you mean 'train.steps'?"),
        (["train", "rbm_digits", "--out", "new", "--set", "train.steps"], "KEY=VALUE"),
        (
            ["train", "rbm_digits", "--out", "new", "--set", "train.steps=many"],
            "must be a whole number, at least 1 and less than 2**31, such as 18000; got 'many'",
        ),
        (
            ["train", "independent_digits", "--out", "new", "--set", "train.steps=0"],
            "at least 1 and less than 2**31, such as 1; got 0",
        ),
        (["train", "rbm_digits", "--out", "full"], "--overwrite"),
        (["train", "rbm_digits", "--out", "full/file"], "is a file"),
        (["train", "rbm_digits"], "--out"),
        (
            ["train", "vae_digits", "--out", "new", "--dry-run", "--set", "model.num_latent=0"],
            "`model.num_latent` must be a whole number, at least 1, such as 16; got 0",
        ),
        (["train", "--out", "new"], "needs a RECIPE"),
        (["train", "rbm_digits", "--out", "new", "--resume"], "no run folder 'new'"),
        (["train", "rbm_digits", "--out", "full", "--resume"], "it has no config.json"),
        (["train", "rbm_digits", "--out", "new", "--data", "nowhere.csv"], "There is no file 'nowhere.csv'"),
        (["train", "rbm_digits", "--out", "new", "--data", "digits"], "data.binarize=threshold"),
        (
            ["train", "rbm_digits", "--out", "new", "--set", "data.binarize=often"],
            "one of none, sample, threshold; got 'often'",
        ),
        (["train", "rbm_digits", "--out", "new", "--set", "train.average=2"], "(Decay of"),
        (
            ["train", "rbm_digits", "--out", "new", "--set", "train.patience=-1"],
            "a whole number, at least 0, such as 0; got -1",
        ),
        (["train", "normal", "--out", "new", "--data", "table.csv"], "column \"name\" has text ('Ada' in line 2)"),
        (["train", "full/config.json", "--out", "new"], "it has no config.json"),
        (["train", "normal", "--out", "new", "--data", "digits"], "`digits`: column 0 hardly varies"),
        (["train", "rbm_digits", "--out", "new", "--set", "train.batch_size=99999"], "Use 0 for all of them"),
        (["train", "rbm_digits", "--out", "new", "--set", "train.keep=frog"], "one of last, best; got 'frog'"),
        (
            ["train", "rbm_digits", "--out", "new", "--set", "evaluate.num_chains=0"],
            "at least 2, such as 100; got 0. (Chains, at least 2 for an error bar.)",
        ),
        (["train", "rbm_digits", "--out", "new", "--set", "seed=1e30"], "`seed` must be a whole number, at least 0"),
        (["train", "mixture_digits", "--out", "new", "--set", "model.num_components=0"], "a whole number, at least 1"),
        (["train", "mixture_of_normals", "--out", "new", "--set", "model.num_components=99999"], "than there are rows"),
        (["sample", "nowhere", "--out", "s.csv"], "no run folder 'nowhere'"),
        (["sample", "nowhere", "--out", "s.gif"], "must end in one of .npy, .png, .csv, .parquet"),
        (["score", "nowhere", "--data", "table.csv", "--out", "s.txt"], "must end in one of .csv, .parquet"),
        (["evaluate", "nowhere"], "no run folder 'nowhere'"),
        (["report", "a", "b"], "needs `--out FILE`"),
        (
            ["train", "table.csv", "--out", "new"],
            "'table.csv' is a file or folder: data are given by `--data table.csv`",
        ),
        (["train", "normal", "table.csv", "--out", "new"], "(table.csv). Give the data with `--data FILE`. See"),
        (
            ["train", "normal", "--out", "new", "--steps", "5"],
            "Change a setting of the recipe with `--set`, such as `--set train.steps=2000`",
        ),
        (["train", "normal", "--out", "new", "--data", "table.txt"], "There is no file 'table.txt'"),
        (
            ["train", "normal", "--out", "new", "--checkpoint-every", "-3"],
            "`--checkpoint-every` must be a number of seconds",
        ),
        (["evaluate", "table.csv"], "'table.csv' is a file, and a run is a folder. Give data with `--data`"),
        (["report", "nowhere", "--out", "full"], "`--out full` is a folder; add the name of a file"),
        (["compare", "nowhere", "--html", "full"], "`--html full` is a folder; add the name of a file"),
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
    (tmp_path / "table.csv").write_text("height,name\n1.5,Ada\n1.7,Ben\n")
    assert call(monkeypatch, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("lnz: ")
    assert words in err
    assert len(err.splitlines()) == 1
    assert (tmp_path / "full" / "file").read_text() == "something"
    assert sorted(path.name for path in tmp_path.iterdir()) in (["full", "table.csv"], ["full", "new", "table.csv"])


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lnz", "train", "rbm_digit", "--out", "new", "--debug"])
    with pytest.raises(ValueError, match="Unknown recipe"):
        main()


class _Dying:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)


# Every stage of a training, from the first to the last.
_STAGES = [
    "lnz.cli._train.find_recipe",
    "lnz.runs._train.load_data",
    "lnz.runs._train.start_folder",
    "lnz.runs._train.write_config",
    "lnz.recipes.Recipe.fit",
    "lnz.training._training.save_checkpoint",
    "lnz.recipes.Recipe.judge",
    "lnz.recipes.Recipe.bracket_log_z",
    "lnz.runs._run.write_text",
    "lnz.runs._folder.settle",
    "lnz.cli._train.write_html",
]


_SIGNALLED = [
    *((stage, signal.SIGINT, False) for stage in _STAGES),
    ("lnz.recipes.Recipe.fit", signal.SIGTERM, False),
    *((stage, signal.SIGINT, True) for stage in ("lnz.recipes.Recipe.fit", "lnz.recipes.Recipe.judge")),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_at_any_stage_is_one_line_and_loses_nothing(runs, tmp_path, monkeypatch, capsys, untyped):
    kept, _ = runs
    for number, (stage, signal_, swallowed) in enumerate(_SIGNALLED):
        name, code = {signal.SIGINT: ("Ctrl-C", 130), signal.SIGTERM: ("SIGTERM", 143)}[signal_]
        out = tmp_path / str(number)
        shutil.copytree(kept / "independent_digits", out)
        before = signal.getsignal(signal_)
        with monkeypatch.context() as patch:
            module, _, attribute = stage.rpartition(".")
            owner = pkgutil.resolve_name(module)
            real = getattr(owner, attribute)

            def interrupted(*args, real=real, signal_=signal_, swallowed=swallowed, told=[], **kwargs):  # noqa: B006
                if not told:
                    told.append(True)
                    _Dying(signal_) if swallowed else os.kill(os.getpid(), signal_)
                return real(*args, **kwargs)

            patch.setattr(owner, attribute, interrupted)
            signal.signal(signal_, signal.default_int_handler if signal_ == signal.SIGINT else signal.SIG_DFL)
            try:
                assert call(patch, "train", "independent_digits", "--out", out, "--overwrite") == code, stage
            finally:
                signal.signal(signal_, before)
        (line,) = capsys.readouterr().err.splitlines()
        assert re.match(rf"lnz: stopped by {name}( before the first step)?[.;]", line), stage
        assert Run.read(out).rows  # the old one or the new one
        is_waiting = (out / ".next").exists()
        assert is_waiting == (f"continue with `lnz train --resume --out {out}`" in line), stage


def test_a_signal_that_an_import_makes_an_error_of_is_a_signal(monkeypatch, capsys):
    def broken(*_):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy.core failed") from None

    monkeypatch.setattr("lnz.cli._list.print_lists", broken)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert call(monkeypatch, "list") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "lnz: stopped by Ctrl-C.\n"


@pytest.mark.parametrize("num", [1, 3, 5, 8])
def test_a_full_disk_says_what_is_kept_and_how_to_go_on(finished, num, monkeypatch, capsys):
    before, calls = contents(finished), []

    def full(_):
        calls.append(1)
        if len(calls) >= num:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert call(patch, "train", "independent_digits", "--out", finished, "--overwrite") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lnz: No space left on the disk to write '{finished}")
    assert "the earlier run is unchanged" in line
    after = contents(finished)
    assert {name: content for name, content in after.items() if not name.startswith(".next")} == before
    advice = f"make room, and continue with `lnz train --resume --out {finished}`."
    assert (advice in line) == (finished / ".next").exists()
    if advice in line:
        assert call(monkeypatch, "train", "--resume", "--out", finished) == 0
        assert list(Run.read(finished).rows) == ["independent_digits"]
        assert not (finished / ".next").exists()


def test_a_folder_deleted_while_training_is_one_line(tmp_path, monkeypatch, capsys):
    from lnz.runs import EventLog

    def write(log, record):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)

    monkeypatch.setattr(EventLog, "write", write)
    assert call(monkeypatch, "train", "independent_digits", "--out", tmp_path / "run") == 2
    assert re.fullmatch(r"lnz: The folder '.*' was deleted or moved .*\n", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "words"), [("x" * 300, "File name too long"), ("caf\udce9", "not UTF-8")])
@pytest.mark.parametrize("command", ["train", "score", "report", "sample", "data"])
def test_a_name_that_cannot_be_written_is_refused_before_the_work(runs, command, name, words, monkeypatch, capsys):
    folder, _ = runs
    run, out = folder / "independent_digits", folder / name
    arguments = {
        "train": ["train", "independent_digits", "--out", out],
        "score": ["score", run, "--data", "binary_digits", "--out", f"{out}.csv"],
        "report": ["report", run, "--out", f"{out}.html"],
        "sample": ["sample", run, "--out", f"{out}.npy"],
        "data": ["train", "independent_digits", "--data", f"{out}.csv", "--out", folder / "new"],
    }[command]
    for done in ("load_data", "Run.read"):
        monkeypatch.setattr(f"lnz.runs._train.{done}", None)
    assert call(monkeypatch, *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_diverged_training_leaves_the_model_of_the_step_before(tmp_path, monkeypatch, capsys):
    from lnz.training import _training

    run_steps, out = _training.run_steps, tmp_path / "run"

    def diverge(loop, arrays, sums, order, rows, start, stop):
        *rest, is_finite = run_steps(loop, arrays, sums, order, rows, start, stop)
        return (*rest, is_finite & (stop <= 5))

    with monkeypatch.context() as patch:
        patch.setattr(_training, "run_steps", diverge)
        assert call(patch, "train", "rbm_digits_exact", *_TINY, "--out", out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lnz: Training diverged at step 6: ")
    assert f"The model of step 5 is saved: `lnz evaluate {out}` reads it." in line
    run = Run.read(out)
    assert run.status.startswith("Training diverged at step 6: ")
    assert run.history[-1]["step"] == 5
    assert run.rows["rbm_digits_exact"].bound == "exact"


def test_sigterm_once_the_run_is_whole_says_so(tmp_path, monkeypatch, capsys):
    from lnz.runs import _folder

    real, sent = _folder._move, []

    def move(source, target):
        real(source, target)
        if target.name == "model.lnz" and not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(_folder, "_move", move)
    try:
        assert call(monkeypatch, "train", "independent_digits", "--out", tmp_path / "new") == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"lnz: stopped by SIGTERM; the run is complete: `lnz report {tmp_path / 'new'}` writes its report."
    assert Run.read(tmp_path / "new").rows


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_process_ends_is_held(number):
    code = f"""
import atexit, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
@atexit.register
def clean_up():  # as libraries do that were imported before
    os.kill(os.getpid(), {int(number)})
    time.sleep(0.05)
from lnz.cli import main
sys.argv = ["lnz", "--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_is_no_traceback(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lnz.runs._train.check_folder", interrupted)
    assert call(monkeypatch, "train", "rbm_digits", "--out", tmp_path / "new") == 130
    assert capsys.readouterr().err == "lnz: stopped by Ctrl-C.\n"


@pytest.fixture(scope="module")
def number_run(tmp_path_factory):
    """A normal of three columns whose names are years."""
    folder = tmp_path_factory.mktemp("numbers")
    x = np.random.RandomState(0).normal(size=(60, 3))
    parquet.write_table(pa.table(dict(zip(("2019", "2020", "2021"), x.T, strict=True))), folder / "x.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lnz.cli._train.write_html", lambda *_: None)
        assert call(patch, "train", "normal", "--data", folder / "x.parquet", "--out", folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def binarize_runs(tmp_path_factory):
    """Runs on grey pictures, whose bits were made in different ways."""
    folder = tmp_path_factory.mktemp("grey")
    x = np.random.RandomState(0).randint(0, 256, (30, 3, 3)).astype(np.uint8)
    np.save(folder / "grey.npy", x)
    np.save(folder / "bits.npy", x > 127)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lnz.cli._train.write_html", lambda *_: None)
        for how in ("none", "threshold", "sample"):
            data = folder / ("bits.npy" if how == "none" else "grey.npy")
            found[how] = folder / how
            changes = ["--set", f"data.binarize={how}"]
            assert call(patch, "train", "independent_digits", "--data", data, *changes, "--out", found[how]) == 0
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two correlated columns, the first of them Unix seconds, of which float32 holds a single one."""
    random = np.random.RandomState(0)
    x = random.normal(size=(400, 2)) @ np.array([[3.0, 1.0], [0.0, 0.2]]) + [1.7e9, -5.0]
    path = tmp_path_factory.mktemp("data") / "table.csv"
    np.savetxt(path, x, delimiter=",", header="height,weight", comments="")
    return path, x


@pytest.fixture(scope="module")
def normal_run(table, tmp_path_factory):
    path, _ = table
    folder = tmp_path_factory.mktemp("runs") / "normal"
    changes = ["--set", "train.steps=1500"]
    commands = [["train", "normal", "--data", str(path), *changes, "--out", str(folder)]]
    done = subprocess.run(
        [sys.executable, "-c", _CALL_ALL, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return folder


def test_a_table_of_ones_own_is_scored_as_the_closed_form_says(table, normal_run, tmp_path, monkeypatch, capsys):
    from pyarrow import csv
    from scipy.stats import multivariate_normal

    path, x = table
    outlier = tmp_path / "new.csv"
    rows = np.concatenate([x[:20], [[1.7e9, 5.0]]])
    np.savetxt(outlier, rows[:, ::-1], delimiter=",", header="weight,height", comments="")  # another order of columns
    out = tmp_path / "scores.csv"
    monkeypatch.setattr("lnz.cli._files._ROWS_WRITTEN", 8)  # in pieces
    assert call(monkeypatch, "score", normal_run, "--data", outlier, "--out", out, "--anomalous-first") == 0
    scores = csv.read_csv(out).to_pydict()
    assert scores["line"][0] == 22  # as the file counts, whose header is line 1
    assert scores["log_prob"] == sorted(scores["log_prob"])
    assert scores["bound"] == ["exact"] * 21
    assert scores["standard_error"] == [0] * 21
    out = tmp_path / "scores.parquet"
    assert call(monkeypatch, "score", normal_run, "--data", outlier, "--out", out) == 0
    scores = parquet.read_table(out).to_pydict()
    assert scores["line"] == list(range(2, 23))
    split = lnz.data.load(path)
    train = split.train.astype(float)
    exact = multivariate_normal(train.mean(axis=0), np.cov(train.T, bias=True)).logpdf(rows)
    # Adam stops a little off the optimum.
    np.testing.assert_allclose(scores["log_prob"], exact, rtol=0.02, atol=0.02)
    printed = capsys.readouterr().out
    out = tmp_path / "draws.csv"
    assert call(monkeypatch, "sample", normal_run, "--num", "300", "--out", out) == 0
    draws = np.loadtxt(out, delimiter=",", skiprows=1)
    assert len(np.unique(draws[:, 0])) == 300
    assert abs(draws[:, 0].mean() - x[:, 0].mean()) < 1  # 3 / sqrt(300) is 0.17: six standard errors
    assert "nats per example (exact, n = 21" in printed.replace("\n", " ")
    assert "Wrote log p (nats, exact) of 21 rows" in printed
    assert "columns line, log_prob, bound, standard_error; lines count from 1, the header among them" in printed


@pytest.mark.filterwarnings("always")  # elsewhere in the tests they are errors
def test_parameters_are_those_that_are_free(normal_run):
    assert Run.read(normal_run).num_parameters == 2 + 3  # a mean and a covariance


def test_score_names_the_index_that_it_leaves_out(table, normal_run, tmp_path, monkeypatch, capsys):
    _, x = table
    rows = "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(x[:5]))
    (tmp_path / "new.csv").write_text(",height,weight\n" + rows)
    assert call(monkeypatch, "score", normal_run, "--data", tmp_path / "new.csv") == 0
    assert "all rows of new.csv, the index column '' left out" in " ".join(capsys.readouterr().out.split())


def test_score_lists_rows_without_a_finite_density_first(table, normal_run, tmp_path, monkeypatch, capsys):
    """Squares of 3e38 overflow: such a row is out of the ordinary, and told."""
    from pyarrow import csv

    _, x = table
    data, out = tmp_path / "large.csv", tmp_path / "scores.csv"
    np.savetxt(data, [*x[:3], [3e38, -3e38], *x[3:5]], delimiter=",", header="height,weight", comments="")
    assert call(monkeypatch, "score", normal_run, "--data", data, "--out", out, "--anomalous-first") == 0
    assert csv.read_csv(out).to_pydict()["line"][0] == 5
    assert re.search("1 of 6 rows have .*, first line 5", capsys.readouterr().out)


def test_anomalous_rows_come_first_whatever_their_number():
    log_probs = np.array([-1.0, np.nan, -5.0, -np.inf, np.inf, -3.0])
    assert least_likely_first(log_probs).tolist() == [1, 4, 3, 2, 5, 0]


@pytest.mark.filterwarnings("always")
def test_a_model_of_numbers_that_are_none_is_no_success(table, normal_run, tmp_path, monkeypatch, capsys):
    path, _ = table
    broken = tmp_path / "broken"
    shutil.copytree(normal_run, broken)
    model = lnz.load(broken / "model.lnz")
    nothing = jax.tree.map(lambda leaf: np.nan * leaf if eqx.is_inexact_array(leaf) else leaf, model)
    lnz.save(broken / "model.lnz", nothing)
    before, out = contents(broken), tmp_path / "out.csv"
    for command in (["evaluate"], ["score", "--data", path], ["score", "--data", path, "--out", out]):
        assert call(monkeypatch, command[0], broken, *command[1:]) == 2
        assert "are NaN or infinite" in capsys.readouterr().err
    assert call(monkeypatch, "sample", broken, "--num", "3", "--out", out) == 2
    assert "not finite" in capsys.readouterr().err
    assert contents(broken) == before
    assert not out.exists()


def test_score_names_a_bad_cell_of_the_table(normal_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "bad.csv").write_text("height,weight\n1.0,2.0\n1.0,\n")
    assert call(monkeypatch, "score", normal_run, "--data", tmp_path / "bad.csv", "--out", tmp_path / "s.csv") == 2
    err = capsys.readouterr().err
    assert 'column "weight" has missing values (the first in line 3)' in err
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("height,mass\n1000,-5\n", "has no column 'weight': it has 'height', 'mass'."),
        ("height\n1000\n", "has no column 'weight': it has 'height'."),
        ("1000,-5\n", "has no column names, but 'height', 'weight' are needed: write these as its first row"),
        ("weight,id,height\n-5,7,1700000000\n", None),
        (",height,weight\n0,1700000000,-5\n", None),
    ],
)
def test_score_takes_columns_by_their_names(text, words, normal_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "new.csv").write_text(text)
    code = call(monkeypatch, "score", normal_run, "--data", tmp_path / "new.csv", "--out", tmp_path / "s.csv")
    out, err = capsys.readouterr()
    assert code == (0 if words is None else 2)
    if words is not None:
        assert words in err
        return
    line, value, *_ = (tmp_path / "s.csv").read_text().splitlines()[1].split(",")
    assert line == "2"
    assert float(value) > -10  # a row from the middle; with its columns exchanged, below -10,000
    assert ("without the columns 'id', which the model does not know" in out) == ("id" in text)


def test_a_warning_stands_beside_every_score(table, normal_run, tmp_path, monkeypatch, capsys):
    score = lnz.recipes.Recipe.score

    def warned(self, *arguments):
        result = score(self, *arguments)
        return dataclasses.replace(result, warnings=("=Column 1 has atoms",))

    monkeypatch.setattr(lnz.recipes.Recipe, "score", warned)
    path, _ = table
    assert call(monkeypatch, "score", normal_run, "--data", path, "--out", tmp_path / "s.csv") == 0
    out = capsys.readouterr().out
    assert "Wrote log p (nats, exact, with a warning) of 400 rows" in out
    assert "Warning: mean: =Column 1 has atoms." in out
    with open(tmp_path / "s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["warning"] for row in rows} == {"'=Column 1 has atoms."}
    assert call(monkeypatch, "score", normal_run, "--data", path) == 0
    assert "log p in nats (exact, with a warning)" in capsys.readouterr().out


def test_score_tells_of_rows_without_a_number_by_their_lines(table, normal_run, tmp_path, monkeypatch, capsys):
    height, weight = table[1].mean(axis=0).tolist()
    (tmp_path / "new.csv").write_text(f"height,weight\n{height},{weight}\n3e38,-3e38\n{height},{weight}\n")
    assert call(monkeypatch, "score", normal_run, "--data", tmp_path / "new.csv", "--anomalous-first") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1].split()[0] == "3"
    assert re.search(r"Warning: mean: 1 of 3 rows have .*, first line 3[.:]", out)


def test_score_tells_how_many_cells_are_known(tmp_path, monkeypatch, capsys):
    x = np.random.RandomState(0).normal(size=(60, 2))
    np.savetxt(tmp_path / "table.csv", x, delimiter=",", header="height,weight", comments="")
    train = [
        "train",
        "normal",
        "--data",
        tmp_path / "table.csv",
        "--set",
        "data.missing=mask",
        "--set",
        "train.steps=1",
    ]
    assert call(monkeypatch, *train, "--out", tmp_path / "run") == 0
    (tmp_path / "new.csv").write_text("height,weight\n,\n0.1,\n,-0.05\n0.1,9\n")
    options = [tmp_path / "run", "--data", tmp_path / "new.csv", "--anomalous-first"]
    assert call(monkeypatch, "score", *options, "--out", tmp_path / "s.csv") == 0
    out = capsys.readouterr().out
    assert "1 of 4 rows have no known entry, first line 2: each counts as 0 nats" in out
    assert "Rows have from 0 to 2 known entries" in out
    with open(tmp_path / "s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["line"] for row in rows][::3] == ["5", "2"]  # a row of which nothing is known is no anomaly
    assert [row["known_entries"] for row in rows] == ["2", "1", "1", "0"]
    assert call(monkeypatch, "score", *options) == 0
    assert re.search(r"\n +5 .*  2 known\n", capsys.readouterr().out)


@pytest.mark.filterwarnings("ignore:`table.csv`. of 42 different training rows:UserWarning")
def test_what_was_wrong_with_the_training_data_stands_beside_every_result(tmp_path, monkeypatch, capsys):
    """A flow has no smallest scale. The rows evaluated are too few to tell anything by themselves."""
    random = np.random.RandomState(0)
    x = random.normal(size=(60, 3))
    x[:, 2], x[::3, 1] = 1.8 * x[:, 0] + 32, 0
    np.savetxt(tmp_path / "table.csv", x, delimiter=",", header="celsius,rain,fahrenheit", comments="")
    (tmp_path / "new.csv").write_text("celsius,rain,fahrenheit\n1,2,33.8\n")
    values = {"model.flow": "planar", "model.flow.num_layers": 1, "train.steps": 2, "train.batch_size": 20}
    changes = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    run = tmp_path / "run"
    assert call(monkeypatch, "train", "flow_tabular", "--data", tmp_path / "table.csv", *changes, "--out", run) == 0
    report = json.loads((run / "report.json").read_text())
    told = report["rows"]["flow_tabular"]["warnings"]
    assert told == report["warnings"]
    assert re.match("Training: Of 42 different rows, column 1 has the value 0 in ", told[0])
    assert told[1].startswith("Training: Column 2 follows from column 0")
    page = (run / "report.html").read_text()
    assert "bound doubtful" in page
    assert "bound exact" not in page
    commands = [("score", run, "--data", tmp_path / "new.csv"), ("evaluate", run, "--data", tmp_path / "new.csv")]
    for command in [*commands, ("compare", run), ("score", *commands[0][1:], "--out", tmp_path / "s.csv")]:
        capsys.readouterr()
        assert call(monkeypatch, *command) == 0
        out = " ".join(capsys.readouterr().out.split())
        for sentence in told:
            assert " ".join(sentence.split()) in out
    assert "Training: " in (tmp_path / "s.csv").read_text()


def test_score_names_a_value_outside_the_space(runs, tmp_path, monkeypatch, capsys):
    folder, _ = runs
    x = np.zeros((3, 64))
    x[1, 5] = 2
    np.savetxt(tmp_path / "new.csv", x, delimiter=",", fmt="%d")
    assert call(monkeypatch, "score", folder / "independent_digits", "--data", tmp_path / "new.csv") == 2
    assert "has the value 2.0 at line 2, column 5, outside Binary" in capsys.readouterr().err


_GREY = np.random.RandomState(0).randint(0, 256, (5, 3, 3)).astype(np.uint8)
_BITS = _GREY > 127
_AS_IT_IS = independent_digits.settings.model_copy(update={"data": Data(source="x.npy")})
_OTHER_SCALE = {
    "grey": (lnz.spaces.Categorical(9, 256), _GREY, None),
    "grey in floats": (lnz.spaces.Categorical(9, 256), _GREY.astype(float), None),
    "grey, dark": (lnz.spaces.Categorical(9, 256), _BITS.astype(np.uint8), None),
    "grey as true and false": (
        lnz.spaces.Categorical(9, 256),
        _BITS,
        "true and false, but .* from 0 to 255, and 1 may mean",
    ),
    "grey as 0.0 and 1.0": (
        lnz.spaces.Categorical(9, 256),
        _BITS.astype(float),
        "floats of 0 and 1 alone, but .* to 255",
    ),
    "17 levels as true and false": (
        lnz.spaces.Categorical(9, 17),
        _BITS,
        "true and false, but .* from 0 to 16, and 1 may",
    ),
    "17 levels": (lnz.spaces.Categorical(9, 17), _GREY // 16, None),
    "bits as true and false": (lnz.Binary(9), _BITS, None),
    "bits": (lnz.Binary(9), _BITS.astype(np.uint8), None),
    "floats": (lnz.Euclidean(9), _GREY / 255, None),
    "floats as true and false": (lnz.Euclidean(9), _BITS, None),
    "floats as bytes": (
        lnz.Euclidean(9),
        _GREY,
        "whole numbers up to .* pictures of floats from 0 to 1: save .* divided",
    ),
    "floats as dark bytes": (lnz.Euclidean(9), _BITS.astype(np.uint8), "has whole numbers up to 1, but"),
    "floats as whole numbers": (lnz.Interval(9), _GREY.astype(int), "pictures of floats from 0 to 1"),
    "floats up to 255": (lnz.Euclidean(9), _GREY.astype(float), "pictures of floats from 0 to 1"),
}


@pytest.mark.parametrize(("space", "x", "words"), _OTHER_SCALE.values(), ids=_OTHER_SCALE)
def test_pictures_on_another_scale_are_never_taken_as_they_stand(space, x, words, runs, tmp_path):
    run = Run.read(runs[0] / "independent_digits")
    run = dataclasses.replace(run, model=SimpleNamespace(space=space), examples=Examples((3, 3), None, {}, {}))
    np.save(tmp_path / "x.npy", x)
    if words is None:
        rows = rows_for(run, independent_digits, _AS_IT_IS, str(tmp_path / "x.npy")).array
        np.testing.assert_allclose(rows, x.reshape(5, 9), rtol=1e-6)
        return
    with pytest.raises(ValueError, match=words):
        rows_for(run, independent_digits, _AS_IT_IS, str(tmp_path / "x.npy"))


def test_a_folder_is_scored_by_the_names_of_its_files(tmp_path, monkeypatch, capsys):
    from PIL import Image

    random = np.random.RandomState(0)
    (tmp_path / "pictures").mkdir()
    for number in range(1, 13):
        Image.fromarray(255 * random.randint(0, 2, (3, 3)).astype(np.uint8)).save(
            tmp_path / "pictures" / f"img{number}.png"
        )
    changes = ["--set", "data.binarize=threshold"]
    run, data = tmp_path / "run", tmp_path / "pictures"
    monkeypatch.setattr("lnz.cli._train.write_html", lambda *_: None)  # the pictures of a report are not looked at
    assert call(monkeypatch, "train", "independent_digits", "--data", data, *changes, "--out", run) == 0
    assert call(monkeypatch, "score", run, "--data", data) == 0
    out = capsys.readouterr().out
    assert re.findall(r"img\d+\.png", out) == [f"img{number}.png" for number in range(1, 11)]
    assert "in natural order of their names" in out
    assert "all rows of pictures, binary where the value is at least 127.5 (0.5 of 255)" in out
    assert call(monkeypatch, "score", run, "--data", data, "--anomalous-first") == 0
    out = capsys.readouterr().out
    assert "natural order" not in out
    assert "the least likely first" in out
    assert call(monkeypatch, "score", run, "--data", data, "--out", tmp_path / "s.csv") == 0
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0].startswith('"file"') or lines[0].startswith("file")
    assert [line.split(",")[0].strip('"') for line in lines[1:]] == [f"img{number}.png" for number in range(1, 13)]
    (tmp_path / "wide").mkdir()
    Image.fromarray(255 * np.eye(1, 9, dtype=np.uint8)).save(tmp_path / "wide" / "a.png")
    assert call(monkeypatch, "score", run, "--data", tmp_path / "wide") == 2
    assert (
        "has pictures of 1 x 9 pixels (height x width), but the model was trained on 3 x 3" in capsys.readouterr().err
    )


def test_texts_in_tables_are_no_formulas(tmp_path):
    from lnz.cli._files import write_table

    texts = ["=1+1", "+1", "-1", "@a", "\t=1", "\r", "\x01", "a=b", "", "'="]
    values = np.linspace(-2.5, 3, len(texts))
    write_table(tmp_path / "x.csv", {"=head": np.array(texts), "-number": values})
    with open(tmp_path / "x.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["'=head", "'-number"]
    assert [row[0] for row in rows] == [f"'{text}" if i < 7 else text for i, text in enumerate(texts)]
    np.testing.assert_array_equal([float(row[1]) for row in rows], values)
    # Names come back as they were: what one command writes, another one reads.
    rows = lnz.data.read_rows(tmp_path / "x.csv", columns=["-number"])
    np.testing.assert_array_equal(rows.array[:, 0], values)


def test_evaluate_on_other_data_replaces_nothing(table, normal_run, tmp_path, monkeypatch, capsys):
    path, _ = table
    before = {file.name: file.read_bytes() for file in normal_run.iterdir() if file.is_file()}
    out = tmp_path / "result.json"
    assert call(monkeypatch, "evaluate", normal_run, "--data", path, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "n = 400" in printed
    assert f"all rows of {path.name}; 400 examples" in printed
    result = json.loads(out.read_text())["normal"]
    assert len(result["per_example"]) == 400
    assert result["data_protocol"] == f"all rows of {path.name}"
    assert {file.name: file.read_bytes() for file in normal_run.iterdir() if file.is_file()} == before


def test_evaluate_says_that_a_file_is_that_of_the_training(table, normal_run, tmp_path, monkeypatch, capsys):
    path, x = table
    np.savetxt(tmp_path / "other.csv", x[:30], delimiter=",", header="height,weight", comments="")
    for command in ("evaluate", "score"):
        assert call(monkeypatch, command, normal_run, "--data", path) == 0
        assert f"Warning: this run was trained on {path}. " in capsys.readouterr().out
        assert call(monkeypatch, command, normal_run, "--data", tmp_path / "other.csv") == 0
        assert "Warning" not in capsys.readouterr().out


def test_a_training_names_the_estimators_of_its_numbers(tmp_path, monkeypatch, capsys):
    sizes = {"model.network.width": 4, "model.num_latent": 2, "train.steps": 2, "train.valid_every": 2}
    sizes |= {
        "model.objective.num_samples": 3,
        "model.posterior": "normal",
        "train.batch_size": 0,
        "evaluate.num_samples": 40,
        "evaluate.num_samples_while_training": 30,
    }
    changes = [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
    monkeypatch.setattr("lnz.cli._train.write_html", lambda *_: None)  # the pictures of a report are not looked at
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lnz.UnreliableEstimateWarning)  # of a model that has learned nothing
        assert call(monkeypatch, "train", "vae_digits", *changes, "--data", "bars_and_stripes", "--out", tmp_path) == 0
    out = capsys.readouterr().out
    number = r"-[\d.]+"
    pattern = rf"elbo {number}, iwae {number} \(lower bound by IWAE-3\), valid {number} \(.* by IWAE-30.*\)"
    assert re.search(pattern, out)
    assert re.search(r"-[\d.]+ nats per test example \(lower bound by IWAE-40(, with a warning)?\)", out)


def test_compare_shows_what_is_assumed(runs, tmp_path, monkeypatch, capsys):
    folder, _ = runs
    shutil.copytree(folder / "independent_digits", tmp_path / "flow")
    with edited(tmp_path / "flow") as report:
        report["rows"]["independent_digits"]["numerators"]["assumes"] = ["an ODE solved to 1e-5"]
    assert call(monkeypatch, "compare", tmp_path / "flow", folder / "independent_digits") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "flow assumes an ODE solved to 1e-5." in out
    assert "independent_digits assumes" not in out
    results = {
        name: run.rows["independent_digits"] for name, run in lnz.runs._run.read_runs([tmp_path / "flow"]).items()
    }
    assert str(lnz.compare(results)).endswith("flow assumes an ODE solved to 1e-5")


def test_evaluate_anew_replaces_the_rows(runs, tmp_path, monkeypatch, capsys):
    folder, _ = runs
    shutil.copytree(folder / "rbm_digits_exact", tmp_path / "run")
    assert call(monkeypatch, "evaluate", tmp_path / "run", "--set", "evaluate.num_betas=7") == 0
    out = capsys.readouterr().out
    # Beside the number, all that it takes to repeat it: split, binarization, method, seed.
    words = "test part of binary_digits: scikit-learn digits, .* / 360 test, binary where .*; 360 examples .*betas=7.*"
    assert re.search(words + "; seed 0\n", out)
    run = Run.read(tmp_path / "run")
    assert run.settings["evaluate"]["num_betas"] == 7
    assert "betas=7" in run.rows["rbm_digits_exact (AIS)"].how
    exact = Run.read(folder / "rbm_digits_exact").rows["rbm_digits_exact"]
    np.testing.assert_allclose(run.rows["rbm_digits_exact"].per_example, exact.per_example, rtol=1e-5)
    assert call(monkeypatch, "evaluate", tmp_path / "run", "--set", "train.steps=7") == 2
    assert "only settings of `evaluate` can be changed now" in capsys.readouterr().err


@pytest.mark.parametrize("binarize", ["none", "threshold", "sample"])
@pytest.mark.parametrize("ending", ["npy", "csv", "parquet"])
def test_samples_of_a_run_can_be_scored_by_it(binarize_runs, binarize, ending, tmp_path, monkeypatch, capsys):
    """Bits are bits again, also where the run makes bits of grey values."""
    run, out = binarize_runs[binarize], tmp_path / f"samples.{ending}"
    assert call(monkeypatch, "sample", run, "--num", "5", "--out", out) == 0
    assert call(monkeypatch, "score", run, "--data", out, "--out", tmp_path / "s.csv") == 0
    scores = np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1, usecols=1)
    rows = lnz.data.read_rows(out).array
    model = Run.read(run).model
    np.testing.assert_allclose(scores, [model.log_prob(jnp.asarray(row, jnp.float32)) for row in rows], rtol=1e-5)


def test_advice_on_bytes_that_are_bits_works(binarize_runs, tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "x.npy", np.random.RandomState(0).randint(0, 2, (4, 3, 3)).astype(np.uint8))
    arguments = ["score", binarize_runs["threshold"], "--data", tmp_path / "x.npy"]
    assert call(monkeypatch, *arguments) == 2
    assert "If they are bits, leave out `binarize` (`--set data.binarize=none`)" in capsys.readouterr().err
    assert call(monkeypatch, *arguments, "--set", "data.binarize=none") == 0
    assert "all rows of x.npy; 4 examples" in capsys.readouterr().out


# What fails, words of its advice, and what they say to add.
_READING = {
    "score, gaps": ("score", "gaps.csv", "`--set data.missing=mask` of train, evaluate, score", "data.missing=mask"),
    "score, names": ("score", "names.csv", "`--set data.header=yes` or `no`", "data.header=yes"),
    "evaluate, names": ("evaluate", "names.csv", "`--set data.header=yes` or `no`", "data.header=yes"),
}


@pytest.mark.parametrize("name", _READING)
def test_advice_on_how_other_data_are_read_works(number_run, name, tmp_path, monkeypatch, capsys):
    command, file, words, change = _READING[name]
    x = np.random.RandomState(1).normal(size=(12, 3))
    lines = ["2019,2020,2021", *(",".join(map(repr, map(float, row))) for row in x)]
    (tmp_path / "names.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "gaps.csv").write_text("\n".join([*lines, "1.5,,2.5"]) + "\n")
    arguments = [command, number_run, "--data", tmp_path / file]
    arguments += ["--set", "data.header=yes"] if file == "gaps.csv" else []
    assert call(monkeypatch, *arguments) == 2
    assert words in capsys.readouterr().err
    assert call(monkeypatch, *arguments, "--set", change) == 0
    assert f"all rows of {file}" in capsys.readouterr().out


def test_only_how_other_data_are_read_can_be_changed(number_run, monkeypatch, capsys):
    assert call(monkeypatch, "score", number_run, "--data", "x.csv", "--set", "data.seed=3") == 2
    assert "settings of `evaluate` can be changed now, and how `--data FILE` is read" in capsys.readouterr().err
    assert call(monkeypatch, "evaluate", number_run, "--set", "data.header=yes") == 2
    assert (
        "`--set data.header` changes how other data are read: give them with `--data FILE`" in capsys.readouterr().err
    )


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet", "png"])
def test_sample_writes_files(runs, ending, tmp_path, monkeypatch):
    folder, _ = runs
    out = tmp_path / f"samples.{ending}"
    run = folder / "rbm_digits_exact"
    assert call(monkeypatch, "sample", run, "--num", "5", "--num-steps", "3", "--out", out) == 0
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    if ending == "npy":
        draws = np.load(out)
        assert draws.shape == (5, 64)
        assert set(np.unique(draws)) <= {0, 1}
        assert call(monkeypatch, "sample", run, "--num", "5", "--num-steps", "3", "--out", out) == 0
        np.testing.assert_array_equal(np.load(out), draws)
        assert call(monkeypatch, "sample", run, "--num", "5", "--num-steps", "3", "--seed", "1", "--out", out) == 0
        assert np.load(out).tolist() != draws.tolist()
    if ending == "png":
        assert out.read_bytes().startswith(b"\x89PNG")
    if ending == "csv":
        assert len(out.read_text().splitlines()) == 6


def test_config_of_a_run_repeats_it_bit_for_bit(runs, tmp_path, monkeypatch):
    folder, _ = runs
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(monkeypatch, "train", folder / "rbm_digits_exact" / "config.json", "--out", first) == 0
    assert call(monkeypatch, "train", first / "config.json", "--out", second) == 0
    assert (first / "model.lnz").read_bytes() == (second / "model.lnz").read_bytes()
    assert Run.read(first).settings == Run.read(folder / "rbm_digits_exact").settings


def test_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "new"
    assert call(monkeypatch, "train", "rbm_digits", "--out", out, "--dry-run", "--set", "model.num_hidden=10") == 0
    text = capsys.readouterr().out
    assert f"parameters: {64 * 10 + 64 + 10}" in text
    assert '"num_hidden": 10' in text
    assert "expected memory of training" in text
    assert list(tmp_path.iterdir()) == []


def test_help_does_not_wait_for_jax():
    code = """
import sys
from lnz.cli import main
sys.argv = ["lnz", "train", "--help"]
try:
    main()
finally:
    assert "jax" not in sys.modules and "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_what_a_command_compiles_is_kept(tmp_path):
    arguments = ["lnz", "train", "independent_digits", "--dry-run", "--out", "x"]
    code = f"import sys; from lnz.cli import main; sys.argv = {arguments}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMP", "JAX_PERS"))}
    command = [sys.executable, "-c", f"{code}; main()"]
    subprocess.run(command, check=True, capture_output=True, env=environ | {"LNZ_CACHE": str(tmp_path)})
    assert any((tmp_path / "compiled").iterdir())


def test_tensorboard_shows_the_records(tmp_path, monkeypatch):
    reason = "needs lnz[tensorboard]"
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=reason)
    out = tmp_path / "run"
    assert call(monkeypatch, "train", "independent_digits", "--tensorboard", "--out", out) == 0
    events = accumulator.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    (record,) = Run.read(out).history
    assert [(e.step, e.value) for e in events.Scalars("valid")] == [(1, pytest.approx(record["valid"]))]


def test_missing_tensorboard_is_named_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    out = tmp_path / "run"
    assert call(monkeypatch, "train", "independent_digits", "--tensorboard", "--out", out) == 2
    assert 'pip install "lnz[tensorboard]"' in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture
def finished(runs, tmp_path):
    """A copy of a finished run."""
    folder, _ = runs
    copy = tmp_path / "finished"
    shutil.copytree(folder / "rbm_digits_exact", copy)
    return copy


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_refused_resume_leaves_a_finished_run_as_it_is(finished, monkeypatch, capsys):
    for checkpoint in (finished / "checkpoints").iterdir():
        checkpoint.write_bytes(b"damaged")
    before = contents(finished)
    monkeypatch.setattr("warnings.simplefilter", lambda *_, **__: None)
    assert call(monkeypatch, "train", "--resume", "--out", finished) == 2
    assert "damaged" in capsys.readouterr().err  # the warning, which the tests turn into an error
    after = contents(finished)
    assert after.pop("config.json")  # which tells of the environment of now
    assert after == {name: content for name, content in before.items() if name != "config.json"}
    assert Run.read(finished).rows


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vae_digits", "--set", "model.layers=two"], "`model.layers=two` needs `model.posterior=normal`"),
        (["normal", "--data", "digits"], "`digits`: column 0 hardly varies"),
        (["rbm_digits_exact", *_TINY, "--set", "model.learning_rate=1e38"], "Training diverged at step"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_overwrite_by_a_wrong_setting_loses_nothing(finished, arguments, words, monkeypatch, capsys):
    before = contents(finished)
    assert call(monkeypatch, "train", *arguments, "--out", finished, "--overwrite") == 2
    assert words in capsys.readouterr().err
    assert contents(finished) == before


def test_what_is_wrong_with_a_run_folder_is_told(finished, monkeypatch, capsys):
    assert call(monkeypatch, "evaluate", finished / "model.lnz") == 2
    assert f"is a file, and a run is a folder. Give the folder, '{finished}'." in capsys.readouterr().err
    (finished / "model.lnz").write_bytes(b"junk")
    assert call(monkeypatch, "evaluate", finished) == 2
    err = capsys.readouterr().err
    assert "is damaged: `load(path)`: " in err
    assert not err.endswith("..\n")
    (finished / "model.lnz").unlink()
    assert call(monkeypatch, "evaluate", finished) == 2
    assert f"The run folder '{finished}' is damaged: `load(path)`: there is no file" in capsys.readouterr().err
    (finished / "report.json").write_text("{}")
    assert call(monkeypatch, "evaluate", finished) == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_training_at_work_is_not_overwritten(finished, monkeypatch, capsys):
    from lnz.runs import locked

    before = contents(finished)
    with locked(finished):
        assert call(monkeypatch, "train", "independent_digits", "--out", finished, "--overwrite") == 2
    assert "Another `lnz train` is at work" in capsys.readouterr().err
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_hidden", 0, "`model.num_hidden` must be a whole number, at least 1, such as 16; got 0"),
        ("num_hidden", "8", "`model.num_hidden` must be a whole number"),
        ("num_hiden", 8, "Unknown setting of rbm_digits_exact 'model.num_hiden'. Did you mean 'model.num_hidden'?"),
    ],
)
def test_settings_that_a_recipe_refuses_are_named(finished, tmp_path, monkeypatch, capsys, name, value, words):
    config = json.loads((finished / "config.json").read_text())
    config["settings"]["model"][name] = value
    (finished / "config.json").write_text(json.dumps(config))
    assert call(monkeypatch, "train", finished / "config.json", "--out", tmp_path / "new") == 2
    assert f"config.json has settings that rbm_digits_exact refuses: {words}" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_setting_edited_by_hand_is_not_resumed(finished, monkeypatch, capsys):
    config = json.loads((finished / "config.json").read_text())
    config["settings"]["model"]["learning_rate"] = 9.0
    (finished / "config.json").write_text(json.dumps(config))
    assert call(monkeypatch, "train", "--resume", "--out", finished) == 2
    assert "another `label`" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=r"do not belong together: config.json was changed after the training"):
        assert Run.read(finished).rows


def test_a_warning_is_one_line(runs, tmp_path, monkeypatch, capsys):
    folder, _ = runs
    shutil.copytree(folder / "rbm_digits_exact", tmp_path / "run")
    monkeypatch.setattr("lnz.core._reliability._MIN_ESS", (0, 40, 40, 40))  # that no three chains have
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # elsewhere in the tests they are errors
        assert call(monkeypatch, "evaluate", tmp_path / "run", "--set", "evaluate.num_chains=3") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("lnz: warning: ") for line in lines)
    assert any("effective sample size" in line for line in lines)


def test_data_that_changed_are_not_evaluated_as_if_they_had_not(tmp_path, monkeypatch, capsys):
    random, path, out = np.random.RandomState(0), tmp_path / "bits.csv", tmp_path / "run"
    np.savetxt(path, random.randint(0, 2, (100, 3)), delimiter=",", fmt="%d", header="a,b,c", comments="")
    assert call(monkeypatch, "train", "independent_digits", "--data", path, "--out", out) == 0
    np.savetxt(path, random.randint(0, 2, (120, 3)), delimiter=",", fmt="%d", header="a,b,c", comments="")
    for arguments in (["evaluate", out], ["train", "--resume", "--out", out]):
        assert call(monkeypatch, *arguments) == 2
        assert "have changed since" in capsys.readouterr().err
    assert call(monkeypatch, "train", out / "config.json", "--out", tmp_path / "again") == 0
    assert "Warning: the data have changed since" in capsys.readouterr().out


def test_two_trainings_do_not_share_a_folder(finished, monkeypatch, capsys):
    from lnz.runs import locked

    with locked(finished):
        assert call(monkeypatch, "train", "--resume", "--out", finished) == 2
    assert "Another `lnz train` is at work" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_too(monkeypatch, capsys):
    def broken(*_):
        raise LookupError("two\nlines")

    monkeypatch.setattr("lnz.cli._list.print_lists", broken)
    assert call(monkeypatch, "list") == 2
    assert capsys.readouterr().err == "lnz: unexpected LookupError: two lines (`lnz ... --debug` shows where).\n"


def test_tab_completes_recipes():
    from lnz.cli._app import _complete_recipe

    assert {"rbm_digits", "rbm_digits_exact"} <= set(_complete_recipe("rbm_"))
    assert _complete_recipe("nothing") == []


def test_version(monkeypatch, capsys):
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"lnz {lnz.__version__}\n"


def test_no_command_is_answered_by_the_help(monkeypatch, capsys):
    assert call(monkeypatch) == 2
    out, err = capsys.readouterr()
    assert "demo" in out
    assert "lnz:" not in err
