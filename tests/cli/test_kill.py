"""A training that is really killed, again and again at random moments, ends where an unbroken one ends, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
_HEAR_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
_MAIN = f"{_HEAR_CTRL_C}; from lnz.cli import main; main()"
_NUM_KILLS = int(os.environ.get("LNZ_KILLS", "4"))
_STEPS = 2000 * _NUM_KILLS
_SETTINGS = [
    "model.num_hidden=8",
    f"train.steps={_STEPS}",
    "train.batch_size=50",
    "train.keep=best",
    "train.average=0.99",
]
_SETTINGS += ["evaluate.num_chains=20", "evaluate.num_betas=20"]


def start(folder, *arguments, every="0.2"):
    changes = [part for setting in _SETTINGS for part in ("--set", setting)]
    command = ["train", "rbm_digits_exact", *changes] if "--resume" not in arguments else ["train"]
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, *command, "--out", str(folder), "--checkpoint-every", every, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def num_events(folder):
    events = folder / "events.jsonl"
    return len(events.read_bytes().splitlines()) if events.is_file() else 0


def wait_for_events(process, folder, num):
    deadline = time.monotonic() + 120
    while num_events(folder) < num and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err == ""
    return out


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    finish(start(folder, every="60"))  # nothing that is compared depends on it
    return folder


def contents(folder):
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for event in events:
        del event["seconds"]
    report = json.loads((folder / "report.json").read_text())
    return (folder / "model.lnz").read_bytes(), events, report["rows"], report["bracket"], report["status"]


def test_killed_at_random_moments_and_resumed_equals_unbroken(unbroken, tmp_path):
    folder, random_, num_while_training = tmp_path / "killed", random.Random(0), 0
    process = start(folder)
    for _ in range(_NUM_KILLS):
        if random_.random() < 0.8:  # else somewhere between start and first step
            wait_for_events(process, folder, 1)
        time.sleep(random_.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        events = (folder / "events.jsonl").read_text() if (folder / "events.jsonl").is_file() else ""
        num_while_training += 0 < events.count("\n") < 100  # `fit` writes a hundred records
        begun = (folder / "config.json").is_file()
        process = start(folder, "--resume") if begun else start(folder)
    finish(process)
    assert contents(folder) == contents(unbroken)
    assert num_while_training >= _NUM_KILLS / 2


def test_ctrl_c_saves_and_says_how_to_go_on(unbroken, tmp_path):
    folder = tmp_path / "stopped"
    process = start(folder)
    wait_for_events(process, folder, 5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        err.strip()
        == f"lnz: stopped by Ctrl-C; the training so far is saved: continue with `lnz train --resume --out {folder}`."
    )
    assert "Traceback" not in out
    finish(start(folder, "--resume"))
    assert contents(folder) == contents(unbroken)


def test_ctrl_c_twice_exits_at_once(tmp_path):
    """Inside compiled code, where Python's own handlers would wait."""
    code = """
import os, signal, sys, time
import numpy as np
from lnz.cli._interrupt import watch_signals
x = np.random.RandomState(0).normal(size=(4000, 4000))
with watch_signals():
    print("busy", flush=True)
    np.linalg.svd(x)  # half a minute in LAPACK
"""
    command = [sys.executable, "-c", _HEAR_CTRL_C + code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    for _ in range(60):  # two signals that come before the first was noticed count as one
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "lnz: stopped at once by a second Ctrl-C."
