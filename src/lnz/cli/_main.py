"""The entry point: runs a command, and turns what a user did wrong into one sentence."""

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

    Exit code 0; 2 for a mistake, told in one sentence on stderr; 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        # Here, not above: whatever is imported before takes time in which Ctrl-C would show a traceback.
        from ._interrupt import watch_signals

        with watch_signals() as presses:
            code = _main(presses)
            atexit.unregister(_ignore_signals)
            atexit.register(_ignore_signals)  # the last to be registered runs first
    except KeyboardInterrupt:  # before or after the watch
        code = _complain("stopped by Ctrl-C.", 130)
    sys.exit(code)


def _ignore_signals() -> None:
    """The work is done: nothing is left to save while libraries clean up at the end of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _main(presses: "Presses") -> int:
    from ._interrupt import Interrupted

    arguments = sys.argv[1:]
    debug = "--debug" in arguments  # anywhere on the line: it is added after something went wrong
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
            # Such as the ImportError that NumPy makes of a Ctrl-C while it is imported.
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

    usage_error: type[Exception] = typer.BadParameter.__bases__[0]  # click's, which newer Typers carry inside
    try:
        code = app(arguments, prog_name="lnz", standalone_mode=False) or 0
    except usage_error as error:
        message = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        if not message:  # `lnz` alone, which has printed its help
            return 2
        message = message if message.endswith("?") else message.rstrip(".") + "."
        return _complain(f"{message}{_hint(message, arguments)} See `lnz --help`.", 2)
    except typer.Abort:
        code = 130
    if code == 130:  # Typer's translation of Ctrl-C, silent or as `Abort` depending on its version
        raise KeyboardInterrupt
    return code


def _hint(message: str, arguments: list[str]) -> str:
    """What a beginner may have meant who calls `lnz train RECIPE data.csv --steps 100`."""
    if arguments[:1] != ["train"]:
        return ""
    if "extra argument" in message:
        return " Data are given by `--data FILE`."
    if "No such option" in message:
        return " Settings of a recipe are given by `--set`, such as `--set train.steps=2000`."
    return ""


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{str(error.filename)!r}: {error.strerror}."
    return str(error) or type(error).__name__


def _show_warning(message: Warning | str, *_: object) -> None:
    """One line, without the file and line of the library that would stand before it."""
    print(f"lnz: warning: {message}", file=sys.stderr, flush=True)


def _complain(sentence: str, code: int) -> int:
    print(f"lnz: {sentence}", file=sys.stderr)
    return code
