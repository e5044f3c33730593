"""How the scripts here call other packages, each in an environment of its own."""

import os
import subprocess
import sys

OWN = "lnz"


def add_arguments(parser):
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="NAMES=PYTHON",
        help="packages and the interpreter that has them, such as `zuko,nflows=/envs/torch/bin/python`; repeatable",
    )


def interpreters(arguments):
    """The interpreter of each package, this one first."""
    found = {OWN: sys.executable}
    for item in arguments.peer_python:
        names, _, python = item.partition("=")
        if not python:
            raise SystemExit(f"--peer-python must be NAMES=PYTHON; got {item!r}")
        found |= dict.fromkeys(names.split(","), python)
    return found


def call(name, python, *command, threads=None):
    """What the command printed. Compiled programs are not kept, and peers see none of this package's paths."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION_CACHE")}
    if name != OWN:
        environment.pop("PYTHONPATH", None)
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads)}
    command = [python, *map(str, command)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout
