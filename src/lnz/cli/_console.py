"""Where the commands print. User strings go through `Text`, never through Rich's markup."""

from rich.console import Console


def console() -> Console:
    """A console on what is standard output now."""
    return Console(highlight=False, markup=False, emoji=False)
