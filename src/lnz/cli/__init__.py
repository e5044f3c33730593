"""The command line, `lnz`."""

from ._main import main as main
