"""The entry point: runs a command, and reports a user's mistake in one sentence."""

import atexit
import signal
import sys
import warnings
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ._interrupt import Presses

_MISTAKES = (ValueError, TypeError, OSError, ImportError, FloatingPointError)


def main() -> NoReturn:
    """The command `lnz`.

    The exit code is 0, or 2 for a mistake, which one sentence on stderr explains, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        # Imported here, because Ctrl-C would show a traceback while modules are imported above.
        from ._interrupt import watch_signals

        with watch_signals() as presses:
            code = _main(presses)
            atexit.unregister(_ignore_signals)
            atexit.register(_ignore_signals)  # the last to be registered runs first
    except KeyboardInterrupt:  # outside the `with` block
        code = _complain("stopped by Ctrl-C.", 130)
    sys.exit(code)


def _ignore_signals() -> None:
    """Ignore signals while libraries clean up at the end of the process, when nothing is left to save."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _main(presses: "Presses") -> int:
    from ._interrupt import Interrupted

    arguments = sys.argv[1:]
    debug = "--debug" in arguments  # anywhere on the line, because users add it after an error
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _run(arguments)
        presses.check()
        return code
    except Interrupted as interrupted:
        return _complain(str(interrupted), presses.code)
    except KeyboardInterrupt:
        return _complain(f"stopped by {presses.name}.", presses.code)
    except Exception as error:
        if debug:
            raise
        if presses.signal is not None and not isinstance(error, OSError):
            # For example, NumPy turns a Ctrl-C during its import into an ImportError.
            return _complain(f"stopped by {presses.name}.", presses.code)
        code = 2 if presses.signal is None else presses.code
        if isinstance(error, _MISTAKES):
            return _complain(_in_words(error), code)
        what = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        return _complain(f"unexpected {what} (`lnz ... --debug` shows where).", code)


def _run(arguments: list[str]) -> int:
    try:
        import rich  # noqa: F401
        import typer
    except ImportError as error:
        return _complain(f'the command line needs `pip install "lnz[app]"` ({error}).', 2)
    from ._app import app

    # Click's class, which newer versions of Typer bundle.
    usage_error: type[Exception] = typer.BadParameter.__bases__[0]
    try:
        code = app(arguments, prog_name="lnz", standalone_mode=False) or 0
    except usage_error as error:
        message = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        if not message:  # `lnz` alone has printed its help
            return 2
        message = message if message.endswith("?") else message.rstrip(".") + "."
        return _complain(f"{message}{_hint(message, arguments)} See `lnz --help`.", 2)
    except typer.Abort:
        code = 130
    if code == 130:  # Typer translates Ctrl-C into this code, or into `Abort`, depending on its version
        raise KeyboardInterrupt
    return code


def _hint(message: str, arguments: list[str]) -> str:
    """A hint for a beginner who calls `lnz train RECIPE data.csv --steps 100`."""
    if arguments[:1] != ["train"]:
        return ""
    if "extra argument" in message:
        return " Give the data with `--data FILE`."
    if "No such option" in message:
        return " Change a setting of the recipe with `--set`, such as `--set train.steps=2000`."
    return ""


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{str(error.filename)!r}: {error.strerror}."
    return str(error) or type(error).__name__


def _show_warning(message: Warning | str, *_: object) -> None:
    """Print a warning as one line, without the file and line number of the library."""
    print(f"lnz: warning: {message}", file=sys.stderr, flush=True)


def _complain(sentence: str, code: int) -> int:
    print(f"lnz: {sentence}", file=sys.stderr)
    return code
