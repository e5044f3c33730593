"""The console on which the commands print. User strings go through `Text`, never through Rich's markup."""

from rich.console import Console


def console() -> Console:
    """Return a console on the current standard output."""
    return Console(highlight=False, markup=False, emoji=False)
