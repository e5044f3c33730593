"""Where the commands print. User strings go through `Text`, never through Rich's markup."""

from pathlib import Path

from rich.console import Console


def console() -> Console:
    """A console on what is standard output now."""
    return Console(highlight=False, markup=False, emoji=False)


def short_path(path: Path) -> str:
    """`path` from the working directory, where it lies below it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
