"""Ctrl-C and SIGTERM. The first one ends the work and saves it; a second Ctrl-C exits at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupted(Exception):
    """Raised when a signal ended the work. The message says how much of the work is saved."""


class Presses:
    """The signals received so far."""

    def __init__(self):
        self.signal: signal.Signals | None = None  # the first signal
        self.num = 0  # number of Ctrl-C signals

    @property
    def name(self) -> str:
        return _NAMES[self.signal or signal.SIGINT]

    @property
    def code(self) -> int:
        """The exit code of a process ended by this signal, by the convention of shells: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal came: Python's own is swallowed in the garbage collector, say."""
        if self.signal is not None:
            raise KeyboardInterrupt


_watching: list[Presses] = []


@contextmanager
def watch_signals() -> Iterator[Presses]:
    """Handle Ctrl-C and SIGTERM while the block runs. Each raises `KeyboardInterrupt`, SIGTERM only once.

    A second Ctrl-C ends the process, even inside compiled code: Python's own handlers wait until that code returns, but
    the signal itself wakes a thread. Files are written whole or not at all, so nothing is damaged. A nested block
    shares the handlers of the outer one.
    """
    if _watching or threading.current_thread() is not threading.main_thread():
        yield _watching[0] if _watching else Presses()
        return
    presses = Presses()

    def hear(number: int, _) -> None:
        is_first = presses.signal is None
        if is_first:
            presses.signal = signal.Signals(number)
        # `timeout` sends SIGTERM twice; the second one must not interrupt the saving.
        if is_first or number == signal.SIGINT:
            raise KeyboardInterrupt

    with ExitStack() as stack:
        for number in _NAMES:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # a shell's background job ignores Ctrl-C
                stack.callback(signal.signal, number, signal.signal(number, hear))
        stack.enter_context(_second_press_exits(presses))
        stack.enter_context(_no_tracebacks_where_it_is_swallowed())
        _watching.append(presses)
        stack.callback(_watching.clear)
        yield presses


@contextmanager
def _second_press_exits(presses: Presses) -> Iterator[None]:
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(reader, presses), daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        watcher.join()
        reader.close()


@contextmanager
def _no_tracebacks_where_it_is_swallowed() -> Iterator[None]:
    before = sys.unraisablehook

    def hook(unraisable) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _watch(reader: socket.socket, presses: Presses) -> None:
    while received := reader.recv(1):
        presses.num += received[0] == signal.SIGINT
        if presses.num == 2:
            show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
            os.write(2, f"{show_cursor}\nlnz: stopped at once by a second Ctrl-C.\n".encode())
            os._exit(130)
