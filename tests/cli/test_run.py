"""Run folders: what is written is what is read, and nothing is ever half written."""

import math
import os
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import lnz
from lnz._run import EventLog, Examples, Run, end_folder, read_events, read_runs, start_folder

BOTH_SIDES = lnz.normalizers.AIS(20, 10), lnz.normalizers.ReverseAIS(20, 10, num_warm_up=5)


@pytest.fixture(scope="module")
def run():
    model = lnz.Bernoulli(jnp.zeros(16))
    row = lnz.evaluate(jr.key(0), model, lnz.data.load("bars_and_stripes").test)
    # Numbers that JSON does not have: a Pareto k that could not be fitted, weights without a tail.
    row.stats["partition_weights"] = {"ess": 20.0, "num": 20.0, "pareto_k": math.nan, "other": -math.inf}
    return Run(
        recipe="fair_coins",
        title="Fair coins",
        settings={"seed": 0, "data": {"source": "bars_and_stripes"}, "train": {"steps": 2}},
        digest=None,
        environment={"lnz": "0"},
        model=model,
        history=[{"step": 1.0, "seconds": 0.1, "valid": -11.5}, {"step": 2.0, "seconds": 0.2, "valid": -11.0}],
        status="completed",
        rows={"fair_coins": row},
        bracket=lnz.bracket(jr.key(0), lnz.energy.RBM(3, 2, key=jr.key(1)), *BOTH_SIDES),
        examples=Examples((4, 4), None, {"some": [0, 1]}, {"some": [[0.0] * 16, [1.0] * 16]}),
        data_protocol="made here",
        num_parameters=16,
        seconds={"train": 1.0, "compile": 2.0, "evaluate": 3.0},
    )


def test_read_gives_what_was_written(run, tmp_path):
    run.write(tmp_path)
    again = Run.read(tmp_path)
    for name in ("recipe", "title", "data", "settings", "environment", "history", "seconds", "status", "examples"):
        assert getattr(again, name) == getattr(run, name)
    assert jnp.array_equal(again.model.logits, run.model.logits)
    row, row_again = run.rows["fair_coins"], again.rows["fair_coins"]
    assert np.array_equal(row.per_example, row_again.per_example)
    assert (row.value, row.data_error, row.bound) == (row_again.value, row_again.data_error, row_again.bound)
    weights = row_again.stats["partition_weights"]
    assert math.isnan(weights["pareto_k"])
    assert weights["other"] == -math.inf
    assert str(again.bracket) == str(run.bracket)
    assert again.bracket.assumes == ("stationary start",)
    np.testing.assert_array_equal(again.bracket.lower.stats["log_weights"], run.bracket.lower.stats["log_weights"])


def test_failure_in_the_middle_leaves_no_partial_file(run, tmp_path, monkeypatch):
    run.write(tmp_path)
    before = (tmp_path / "config.json").read_bytes()

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        run.write(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    # An old report beside new files would be a lie, so the folder is no run any more.
    with pytest.raises(FileNotFoundError, match=r"is not finished. `lnz train --resume --out "):
        Run.read(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "events.jsonl", "report.json"])
def test_damaged_folder_is_named(run, tmp_path, file):
    run.write(tmp_path)
    (tmp_path / file).write_bytes(b'{"rows": \xff')
    with pytest.raises(ValueError, match="damaged"):
        Run.read(tmp_path)


def test_equal_folder_names_are_told_apart(run, tmp_path):
    for parent in ("a", "b"):
        run.write(tmp_path / parent / "coins")
    folders = [tmp_path / "a" / "coins", tmp_path / "b" / "coins"]
    assert list(read_runs(folders)) == [str(folder) for folder in folders]
    assert list(read_runs(folders[:1] * 2)) == ["coins"]


def test_used_folder_needs_permission(tmp_path):
    start_folder(tmp_path / "new", overwrite=False)
    (tmp_path / "new" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="already holds something"):
        start_folder(tmp_path / "new", overwrite=False)
    start_folder(tmp_path / "new", overwrite=True)
    assert (tmp_path / "new" / "notes.txt").read_text() == "mine"


def test_events_are_there_at_once_and_a_torn_last_line_is_left_out(tmp_path):
    log = EventLog(tmp_path)
    records = [{"step": 1, "loss": math.inf}, {"step": 2, "loss": 0.5}]
    for record in records:
        log.write(record)
    assert read_events(tmp_path) == records  # before it is closed
    log.close()
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"step": 3, "lo')  # killed while writing
    assert read_events(tmp_path) == records


@pytest.fixture
def replaced(run, tmp_path):
    """A folder whose run was put aside for another, which has not begun."""
    run.write(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000005.ckpt").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    before = files_in(tmp_path)
    start_folder(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["notes.txt"]
    return tmp_path, before


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_overwriting_removes_the_old_run_only(run, replaced):
    folder, _ = replaced
    run.write(folder)
    assert not end_folder(folder)
    names = ["config.json", "events.jsonl", "model.lnz", "notes.txt", "report.json"]
    assert sorted(path.name for path in folder.rglob("*")) == names


@pytest.mark.parametrize("left", ["config.json", "checkpoints/step-000000000.ckpt", "checkpoints/step-000000010.ckpt"])
def test_the_old_run_is_back_where_nothing_took_its_place(replaced, left):
    folder, before = replaced
    (folder / left).parent.mkdir(exist_ok=True)
    (folder / left).write_text("new")
    # A training that was killed before its first checkpoint starts over.
    start_folder(folder, overwrite=True) if left == "config.json" else None
    # One that stopped before its first step has a checkpoint all the same; one that diverged has later ones too.
    assert end_folder(folder, has_diverged="10" in left)
    assert files_in(folder) == before


def test_the_old_run_waits_until_the_new_one_is_whole(run, replaced):
    """Also where that was given up and another begun: half a run never takes the place of a whole one."""
    folder, before = replaced
    aside = {str(Path(".replaced") / name): content for name, content in before.items() if name != "notes.txt"}
    mine = {"notes.txt": b"mine"}
    for number in (10, 20):
        (folder / "checkpoints").mkdir(exist_ok=True)
        new = f"checkpoints/step-0000000{number}.ckpt"
        (folder / new).write_text("new")
        assert not end_folder(folder)
        assert files_in(folder) == aside | mine | {new: b"new"}
        start_folder(folder, overwrite=True)
        assert files_in(folder) == aside | mine
    run.write(folder)
    assert not end_folder(folder)
    assert not (folder / ".replaced").exists()
