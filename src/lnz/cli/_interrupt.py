"""Ctrl-C: once ends training after the stretch under way and saves; twice exits at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """Ctrl-C, with what became of the work in words."""


class Presses:
    """How often Ctrl-C was pressed."""

    def __init__(self):
        self.num = 0

    def check(self) -> None:
        """Raise the `KeyboardInterrupt` that Python raised where it was swallowed, in the garbage collector, say."""
        if self.num:
            raise KeyboardInterrupt


@contextmanager
def watch_ctrl_c() -> Iterator[Presses]:
    """Count presses of Ctrl-C while the block runs; the second ends the process, even inside compiled code.

    Python's own handlers wait until compiled code returns; this thread is woken by the signal itself. Files are
    written whole or not at all, so nothing is damaged.
    """
    presses = Presses()
    if threading.current_thread() is not threading.main_thread():
        yield presses
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(reader, presses), daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield presses
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        watcher.join()
        reader.close()


def _watch(reader: socket.socket, presses: Presses) -> None:
    while received := reader.recv(1):
        presses.num += received[0] == signal.SIGINT
        if presses.num == 2:
            show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
            os.write(2, f"{show_cursor}\nlnz: stopped at once by a second Ctrl-C.\n".encode())
            os._exit(130)
