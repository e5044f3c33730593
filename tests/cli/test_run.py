"""Run folders: what is written is what is read, and nothing is ever half written."""

import builtins
import contextlib
import copy
import dataclasses
import errno
import json
import math
import os
import shutil
import threading
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import lnz
from lnz.files import read_json
from lnz.recipes import flow_moons, rbm_digits_exact
from lnz.runs import (
    Display,
    EventLog,
    Examples,
    Run,
    TrainOptions,
    end_folder,
    follow,
    locked,
    plan,
    read_events,
    read_runs,
    replacing,
    start_folder,
    tabulate,
    train,
    working_folder,
    write_config,
    write_text,
)

BOTH_SIDES = lnz.normalizers.AIS(20, 10), lnz.normalizers.ReverseAIS(20, 10, num_warm_up=5)


@pytest.fixture(scope="module")
def run():
    model = lnz.Bernoulli(jnp.zeros(16))
    row = lnz.evaluate(jr.key(0), model, lnz.data.load("bars_and_stripes").test)
    # Numbers that JSON does not have: a Pareto k that could not be fitted, weights without a tail.
    weights = lnz.Weights(num=20.0, ess=20.0, pareto_k=math.nan, normal_ess=math.inf)
    row = dataclasses.replace(row, denominator=lnz.modules.replace(row.denominator, weights=weights))
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
    assert (row.of, row.protocol, row.warnings) == (row_again.of, row_again.protocol, row_again.warnings)
    weights = row_again.denominator.weights
    assert math.isnan(weights.pareto_k)
    assert weights.normal_ess == math.inf
    assert weights.overlap is None
    assert str(again.bracket) == str(run.bracket)
    assert again.bracket.assumes == ("stationary start",)
    np.testing.assert_array_equal(again.bracket.lower.weights.log_weights, run.bracket.lower.weights.log_weights)


def test_a_run_replaced_while_it_is_read_is_the_old_one_or_the_new_one(run, tmp_path, monkeypatch, untyped):
    """At every place where a file is looked for, and again at every later one, a writer goes one step further."""
    from lnz.runs import _config, _events, _folder, _run

    def staged(folder, new):
        """The rename, the moves to their places, and the end of a replacement."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_folder, "settle", lambda _: None)
            with replacing(folder) as stage:
                new.write_files(stage)
        yield
        names = [path.name for path in sorted((folder / ".whole").iterdir())]
        for name in names:
            os.replace(folder / ".whole" / name, folder / name)
            yield
        (folder / ".whole").rmdir()

    monkeypatch.setattr(os, "fsync", lambda _: None)
    run = dataclasses.replace(run, bracket=None)
    old, new, seen, place = numbered(run, 1), numbered(run, 2), set(), _config._place
    for start in range(1, 10):
        for pause in (1, 3):
            folder = tmp_path / f"{start} {pause}"
            old.write(folder)
            steps, num = staged(folder, new), 0

            def disturbed(folder, name, start=start, pause=pause, steps=steps):
                nonlocal num
                num += 1
                found = place(folder, name)
                if num >= start and (num - start) % pause == 0:
                    next(steps, None)
                return found

            with pytest.MonkeyPatch.context() as patch:
                for module in (_config, _events, _run):
                    patch.setattr(module, "_place", disturbed)
                seen.add(which(folder))
            shutil.rmtree(folder)
    assert seen <= {(1, "fair_coins"), (2, "fair_coins")}
    assert (2, "fair_coins") in seen


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
    with pytest.raises(ValueError, match="is not empty"):
        start_folder(tmp_path / "new", overwrite=False)
    start_folder(tmp_path / "new", overwrite=True)
    assert (tmp_path / "new" / "notes.txt").read_text() == "mine"


def test_events_are_there_at_once_and_a_torn_last_line_is_left_out(tmp_path):
    log = EventLog(tmp_path)
    records = [{"step": 1, "seconds": 0.1, "loss": math.inf}, {"step": 2, "seconds": 0.2, "loss": 0.5}]
    for record in records:
        log.write(record)
    assert read_events(tmp_path) == records  # before it is closed
    log.close()
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"step": 3, "lo')  # killed while writing
    assert read_events(tmp_path) == records


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def which(folder):
    """Which of two runs it is, by every file: 1 for the old one, 2 for the new one; and the name of its row."""
    run = Run.read(folder)
    numbers = {
        int(run.model.logits[0]),
        run.settings["seed"],
        len(run.history),
        int(run.seconds["train"]),
        run.settings["evaluate"]["n"],
    }
    assert len(numbers) == 1, f"half of each: {numbers}"
    return numbers.pop(), *run.rows


def numbered(run, number):
    return dataclasses.replace(
        run,
        model=lnz.Bernoulli(jnp.full(16, float(number))),
        settings={**run.settings, "seed": number, "evaluate": {"n": number}},
        history=run.history[:number],
        seconds={**run.seconds, "train": float(number)},
    )


def train_anew(folder, run):
    """All that `lnz train --overwrite` does to the files."""
    with locked(folder):
        work = start_folder(folder, overwrite=True)
        write_config(work, **{name: getattr(run, name) for name in CONFIG}, model=None)
        log = EventLog(work)
        log.write({"step": 1, "seconds": 0.0})
        log.close()
        for step in (1, 2):
            write_text(work / "checkpoints" / f"step-00000000{step}.ckpt", "new")
        run.write_files(work)
        with replacing(folder, work):
            pass
        write_text(folder / "report.html", "new")


def evaluate_anew(folder, run):
    """All that `lnz evaluate` does to the files."""
    with locked(folder), replacing(folder) as stage:
        run.write_report(stage)
        write_text(stage / "report.html", "new")


CONFIG = ("recipe", "title", "settings", "digest", "environment", "cwd")
WRITES = {"train": train_anew, "write": lambda folder, run: run.write(folder), "evaluate": evaluate_anew}


class Faults:
    """Fails the call number `first` of those that change a disk, and the later ones too if `is_killed`."""

    def __init__(self, patch, first, is_killed):
        self.num, self.first, self.is_killed = 0, first, is_killed
        for module, name in (
            (os, "replace"),
            (os, "rename"),
            (os, "mkdir"),
            (os, "rmdir"),
            (os, "unlink"),
            (os, "fsync"),
            (builtins, "open"),
        ):
            # Syncing takes most of the time, and changes nothing that a process can see.
            call = getattr(module, name) if name != "fsync" else lambda _: None
            patch.setattr(module, name, self.guarded(call))

    def guarded(self, call):
        def guard(*args, **kwargs):
            mode = args[1] if call is REAL_OPEN and len(args) > 1 else kwargs.get("mode", "r")
            if call is not REAL_OPEN or set(mode) & set("wxa"):
                self.num += 1
                if self.num == self.first or (self.is_killed and self.num > self.first):
                    raise OSError(errno.ENOSPC, "No space left on device")
            return call(*args, **kwargs)

        return guard


REAL_OPEN = builtins.open


@pytest.mark.parametrize("is_killed", [False, True], ids=["full disk", "kill"])
@pytest.mark.parametrize("kind", WRITES)
def test_a_fault_at_any_write_leaves_the_old_run_or_the_new_one(run, tmp_path, kind, is_killed, untyped):
    """Whole, to whoever reads at that moment, and after the next writer has tidied up."""
    run = dataclasses.replace(run, bracket=None)
    old, new = numbered(run, 1), numbered(run, 2)
    kept = tmp_path / "kept"
    old.write(kept)
    write_text(kept / "checkpoints" / "step-000000009.ckpt", "old")
    write_text(kept / "report.html", "old")
    (kept / "notes.txt").write_text("mine")
    if kind == "evaluate":  # the model and its training stay
        new = dataclasses.replace(Run.read(kept), rows={"fair_coins anew": run.rows["fair_coins"], **run.rows})
    seen = set()
    for first in range(1, 1000):
        folder = tmp_path / str(first)
        shutil.copytree(kept, folder)
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, first, is_killed)
            with contextlib.suppress(OSError):
                WRITES[kind](folder, new)
        found = which(folder)
        seen.add(found)
        with locked(folder):
            pass
        assert which(folder) == found
        assert not (folder / ".whole").exists()
        assert (folder / "notes.txt").read_text() == "mine"
        if found == (1, "fair_coins"):
            assert {**files_in(folder), **files_in(kept)} == files_in(folder)  # nothing of the old run is missing
        if faults.num < first:
            break
        shutil.rmtree(folder)
    assert first > 15  # both kinds of outcome were met, at many places
    assert len(seen) == 2
    folder = tmp_path / "after"
    shutil.copytree(kept, folder)
    WRITES[kind](folder, new)
    names = {"config.json", "events.jsonl", "model.lnz", "notes.txt", "report.json"}
    names |= {"train": {"step-000000001.ckpt", "step-000000002.ckpt", "report.html", "checkpoints"}}.get(
        kind, {"step-000000009.ckpt", "checkpoints"} | ({"report.html"} if kind == "evaluate" else set())
    )
    assert {path.name for path in folder.rglob("*")} == names
    if "report.html" in names:
        assert (folder / "report.html").read_text() == "new"


def test_a_training_that_comes_to_nothing_leaves_the_run_that_it_was_to_replace(run, tmp_path):
    run.write(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    before = files_in(tmp_path)
    for checkpoint, has_diverged, is_back in (
        (None, False, True),
        ("step-000000000.ckpt", False, True),
        ("step-000000010.ckpt", True, True),
        ("step-000000010.ckpt", False, False),
    ):
        work = start_folder(tmp_path, overwrite=True)
        assert work == tmp_path / ".next"
        write_text(work / "config.json", "new")
        if checkpoint:
            write_text(work / "checkpoints" / checkpoint, "new")
        assert working_folder(tmp_path) == work
        assert end_folder(tmp_path, work, has_diverged) == is_back
        assert (files_in(tmp_path) == before) == is_back
    assert Run.read(tmp_path).history == run.history  # while the other waits to be resumed


def test_an_unfinished_training_of_some_steps_is_kept_too_and_one_of_none_is_not(run, tmp_path):
    for name, step, kept in (("some", 5, True), ("none", 0, False)):
        folder = tmp_path / name
        write_text(folder / "config.json", "{}")
        write_text(folder / "checkpoints" / f"step-00000000{step}.ckpt", "old")
        assert (start_folder(folder, overwrite=True) == folder / ".next") == kept
        assert (folder / "config.json").exists() == kept


def test_what_a_kill_left_blocks_no_new_run(tmp_path):
    for name in (".config.json.0123456789abcdef", ".final/model.lnz", "checkpoints/.step-000000001.ckpt." + "a" * 16):
        write_text(tmp_path / name, "half")
    with pytest.raises(ValueError, match="is not empty"):  # a file in `checkpoints` may be anything
        start_folder(tmp_path, overwrite=False)
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    assert start_folder(tmp_path, overwrite=False) == tmp_path
    assert not list(tmp_path.glob(".config*"))


def test_foreign_checkpoints_are_not_deleted(run, tmp_path):
    run.write(tmp_path)
    write_text(tmp_path / "checkpoints" / "epoch3.pt", "mine")
    train_anew(tmp_path, run)
    assert (tmp_path / "checkpoints" / "epoch3.pt").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", lambda text: text.replace('"seed": 0', '"seed": 7'), "config.json was changed"),
        ("config.json", lambda text: text.replace('"digest": null', '"digest": "0"'), "belong to other data than"),
        (
            "report.json",
            lambda text: text.replace('"completed"', '"ok"'),
            "report.json was changed",
        ),
        ("report.json", lambda text: text.replace('"warnings": []', '"warnings": ["x"]'), "report.json was changed"),
        ("model.lnz", None, "model.lnz is not the model of this training; the likelihoods belong to another"),
    ],
)
def test_files_of_a_run_that_part_are_told(run, tmp_path, file, change, words):
    run.write(tmp_path)
    Run.read(tmp_path)
    if change is None:
        lnz.save(tmp_path / file, lnz.Bernoulli(jnp.ones(16)))
    else:
        (tmp_path / file).write_text(change((tmp_path / file).read_text()))
    with pytest.warns(UserWarning, match=f"do not belong together: .*{words}"):
        again = Run.read(tmp_path)
    if change is None:  # an evaluation anew goes with the model of now, which yet is not that of the training
        again.write_report(tmp_path)
        with pytest.warns(UserWarning, match=r"together: model.lnz is not the model of this training\.$"):
            Run.read(tmp_path)


def places(tree, way=()):
    """Every place in a tree of JSON."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree[:1]) if isinstance(tree, list) else ()
    for name, child in children:
        yield (*way, name)
        yield from places(child, (*way, name))


@pytest.mark.parametrize("file", ["config.json", "report.json", "events.jsonl"])
def test_every_key_of_a_file_may_be_missing_or_wrong(run, tmp_path, file, untyped):
    """The answer is a run, or one line that names the file; of a missing key also that."""
    row = run.rows["fair_coins"]
    run = dataclasses.replace(run, rows={"fair_coins": first_three(row)})
    run.write(tmp_path)
    text = (tmp_path / file).read_text()
    tree = json.loads(text.splitlines()[0] if file == "events.jsonl" else text)
    named, answers = set(), []
    for way in places(tree):
        for value in ("missing", "nan", []):
            changed = copy.deepcopy(tree)
            parent = changed
            for name in way[:-1]:
                parent = parent[name]
            if value == "missing":
                del parent[way[-1]]
            else:
                parent[way[-1]] = value
            (tmp_path / file).write_text(json.dumps(changed) + "\n")
            answer = answer_of(tmp_path)
            answers.append(answer)
            if value == "missing" and f"no {way[-1]!r}" in answer:
                named.add(way)
    assert [answer for answer in answers if answer and (file not in answer or "\n" in answer)] == []
    keys = {way for way in places(tree) if len(way) == 1} if file != "events.jsonl" else {("step",), ("seconds",)}
    assert keys <= named


def first_three(row):
    numerators = lnz.modules.replace(
        row.numerators, value=row.numerators.value[:3], standard_error=row.numerators.standard_error[:3]
    )
    return dataclasses.replace(row, numerators=numerators)


def answer_of(folder):
    """The error of reading a run and of showing its likelihoods, if there is one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            run = Run.read(folder)
        except ValueError as error:
            return str(error)
    str(run.rows), str(run.bracket), tabulate({"run": run})
    return ""


# Reports whose parts are of the right kinds and contradict each other: how to change one, and what is said.
CONTRADICTIONS = {
    "rows beyond": (("examples", "rows", "some"), [0, 10**9], "rows of 'some' beyond the 3 that were evaluated"),
    "rows before": (("examples", "rows", "some"), [0, -1], "rows of 'some' beyond the 3"),
    "rows beyond words": (("examples", "rows", "some"), [0, 10**30], "rows of 'some' beyond the 3"),
    "rows without values": (("examples", "rows"), {"some": [0, 1], "least": [0]}, "rows and values of the same kinds"),
    "no kinds": (("examples",), None, "examples is None"),
    "other kinds": (("examples", "rows"), {}, "needs rows and values of the same kinds, `some` among them"),
    "fewer values": (("examples", "values", "some"), [[0.0] * 16], "has 2 rows and 1 values of 'some'"),
    "no values": (("examples", "values", "some"), [], "has 2 rows and 0 values of 'some'"),
    "ragged values": (
        ("examples", "values", "some"),
        [[0.0] * 16, [0.0]],
        "'some' that are not 16 finite numbers each",
    ),
    "infinite values": (("examples", "values", "some"), [["inf"] * 16] * 2, "'some' that are not 16 finite numbers"),
    "image": (("examples", "image_shape"), [7, 9], r"image_shape \[7, 9\] for examples of 16 numbers"),
    "huge image": (("examples", "image_shape"), [10**6, 10**6], "for examples of 16 numbers"),
    "columns": (("examples", "columns"), ["a", "b"], "has 2 columns for examples of 16 numbers"),
    "labels": (("examples", "labels"), [1, 2], "has 2 labels, not one for each row of `map`"),
    "places": (("examples", "places"), {"some": ["line 2"]}, "has 1 places of 'some', which has other rows"),
    "places of no rows": (("examples", "places"), {"<b>": ["line 2"]}, "has 1 places of '<b>', which has other rows"),
    "other rows": (("rows",), {}, "has no row"),
    "errors": (
        ("rows", "fair_coins", "numerators", "standard_error"),
        [0.5],
        "numerators needs a standard error for each value",
    ),
    "value": (("rows", "fair_coins", "value"), -9.0, r"fair_coins\.value is -9, but follows from .* as -11\.09"),
    "no value": (("rows", "fair_coins", "value"), "nan", "fair_coins.value is nan, but follows"),
    "data error": (("rows", "fair_coins", "data_error"), 0.5, "fair_coins.data_error is 0.5, but follows"),
    "negative data error": (("rows", "fair_coins", "data_error"), -0.1, "fair_coins.data_error is -0.1"),
    "error": (("rows", "fair_coins", "monte_carlo_error"), 0.5, "monte_carlo_error is 0.5, but follows"),
    "own error": (("rows", "fair_coins", "per_example"), [0.5, 0, 0], "per_example is 0.5, but follows"),
    "bound": (("rows", "fair_coins", "bound"), "lower", "bound is lower, but follows from the other fields as exact"),
    "negative error": (("rows", "fair_coins", "denominator", "standard_error"), -0.5, "an error cannot be negative"),
    "exact estimate": (
        ("rows", "fair_coins", "protocol", "estimators"),
        ["AIS"],
        "is exact beside estimates by AIS",
    ),
    "another version": (("rows", "fair_coins", "version"), 2**62, "this lnz reads version 1"),
    "deep": (("rows", "fair_coins", "other"), 700, "report.json is nested too deeply"),
    "deep weights": (("rows", "fair_coins", "numerators", "weights"), 960, "report.json is nested too deeply"),
}


@pytest.mark.parametrize(("way", "value", "words"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_report_that_contradicts_itself_is_damaged(run, tmp_path, way, value, words):
    row = run.rows["fair_coins"]
    dataclasses.replace(run, rows={"fair_coins": first_three(row)}).write(tmp_path)
    assert answer_of(tmp_path) == ""
    tree = json.loads((tmp_path / "report.json").read_text())
    parent = tree
    for name in way[:-1]:
        parent = parent[name]
    is_deep = isinstance(value, int) and value < 2**60
    parent[way[-1]] = "@" if is_deep else value
    content = json.dumps(tree)
    (tmp_path / "report.json").write_text(content.replace('"@"', "[" * value + "]" * value) if is_deep else content)
    with pytest.raises(ValueError, match=words) as error:
        Run.read(tmp_path)
    assert "report.json" in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_another_version_of_the_configuration_is_named(run, tmp_path):
    run.write(tmp_path)
    written = (tmp_path / "config.json").read_text()
    assert json.loads(written)["version"] == 1
    (tmp_path / "config.json").write_text(written.replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match=r"config\.json' has version 2; this lnz reads version 1"):
        Run.read(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("recipe", "another"), ("settings", {"train": {"steps": "many"}})])
def test_a_configuration_that_does_not_fit_its_report_is_damaged(run, tmp_path, name, value):
    run.write(tmp_path)
    tree = json.loads((tmp_path / "config.json").read_text())
    tree[name] = value if name == "recipe" else tree[name] | value
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"config\.json"):
        Run.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ('{"a": NaN}', "has the number 'NaN'; expected finite numbers"),
        ('{"a": 1e999}', "has the number '1e999'"),
        ('{"a": ' + "9" * 5000 + "}", "4300 digits"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "must be an object"),
    ],
)
@pytest.mark.parametrize("file", ["config.json", "report.json", "events.jsonl"])
def test_json_is_read_without_leniency(run, tmp_path, file, content, words):
    run.write(tmp_path)
    (tmp_path / file).write_text(content + "\n")
    with pytest.raises(ValueError, match=words if content != "[]" or file != "events.jsonl" else "expected an object"):
        Run.read(tmp_path)


def test_a_text_in_a_file_gives_a_terminal_no_orders(tmp_path):
    """The escape that sets a window's title, and one byte that stands for "escape [", as values and as keys."""
    (tmp_path / "report.json").write_text(r'{"a\u009b2J": ["\u001b]0;owned\u0007", {"b\n": "c\td"}]}')
    assert read_json(tmp_path / "report.json") == {"a\ufffd2J": ["\ufffd]0;owned\ufffd", {"b\n": "c\td"}]}


class _Stops(Display):
    """Writes down what it is told, and stops the training at a step."""

    def __init__(self, step=math.inf):
        self.told, self.at, self.step = [], 0, step

    def note(self, words):
        self.told.append(words)

    def update(self, record):
        self.at = record["step"]

    def check(self):
        if self.at >= self.step:
            raise KeyboardInterrupt


def test_only_trained_parameters_are_counted():
    """A flow on standardised columns: their means and deviations stay as they are."""
    settings = flow_moons.resolve({"model.flow.num_layers": 1, "model.flow.width": 2})
    splits = flow_moons.load(settings)
    _, model, _ = flow_moons.start(splits, settings)
    sizes = [leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))]
    untrained = 3 * 2  # two means in two parts each, and two deviations
    assert plan(flow_moons, settings).num_parameters == sum(sizes) - untrained


def test_a_run_is_trained_stopped_followed_and_read_without_a_terminal(tmp_path, capsys):
    settings = rbm_digits_exact.resolve({"model.num_hidden": 4, "train.steps": 40})
    planned = plan(rbm_digits_exact, settings)
    assert planned.num_parameters == 64 * 4 + 64 + 4
    assert list(tmp_path.iterdir()) == []
    followed, folder, display = [], tmp_path / "run", _Stops(10)
    watcher = threading.Thread(target=lambda: followed.extend(follow(folder, 0.01)), daemon=True)
    watcher.start()
    with pytest.raises(KeyboardInterrupt, match="the training so far is saved: continue with `lnz train --resume"):
        train(folder, rbm_digits_exact, settings, display=display)
    run = train(folder, rbm_digits_exact, settings, options=TrainOptions(resume=True))
    watcher.join(timeout=30)
    assert not watcher.is_alive()
    assert display.told == [f"data {planned.data_protocol}"]
    # A record that was under way at the stop is told when it is closed.
    assert [record["step"] for record in run.history] == [record["step"] for record in followed]
    assert run.history == Run.read(folder).history
    assert run.status == "completed"
    assert capsys.readouterr().out == ""
