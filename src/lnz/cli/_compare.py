from pathlib import Path

from .._run import Run, read_runs
from ._console import console, short_path
from ._table import print_comparison


def compare(folders: list[Path], html: Path | None) -> None:
    """The command `lnz compare`."""
    runs = read_runs(folders)
    print_comparison(console(), runs)
    if html is not None:
        write_html(html, runs)


def write_html(path: Path, runs: dict[str, Run]) -> None:
    from ..plots import write_report

    write_report(path, runs)
    console().print(f"Wrote {short_path(path)}: open it in a browser", soft_wrap=True)
