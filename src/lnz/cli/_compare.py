from pathlib import Path

from ..files import check_name, short_path
from ..runs import Run, read_runs
from ._console import console
from ._table import print_comparison


def compare(folders: list[Path], html: Path | None) -> None:
    """The command `lnz compare`."""
    _check_is_no_folder(html, "--html")
    runs = read_runs(folders)
    print_comparison(console(), runs)
    if html is not None:
        write_html(html, runs)


def report(folders: list[Path], out: Path | None) -> None:
    """The command `lnz report`. It writes to `out`, by default to `report.html` in the run's own folder."""
    if out is None and len(folders) > 1:
        raise ValueError("`lnz report` of several runs needs `--out FILE`, such as `--out report.html`.")
    _check_is_no_folder(out, "--out")
    write_html(folders[0] / "report.html" if out is None else out, read_runs(folders))


def write_html(path: Path, runs: dict[str, Run]) -> None:
    from ..plots import write_report

    write_report(path, runs)
    console().print(f"Wrote {short_path(path)}: open it in a browser", soft_wrap=True)


def _check_is_no_folder(path: Path | None, option: str) -> None:
    if path is None:
        return
    check_name(path, option)
    if path.is_dir():
        raise ValueError(
            f"`{option} {path}` is a folder; add the name of a file, such as {str(path / 'report.html')!r}."
        )
