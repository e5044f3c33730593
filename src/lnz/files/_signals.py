"""Ctrl-C and SIGTERM while `fit` runs: heard even where Python swallows the exception."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def heard(saves: bool) -> Iterator[Callable[[], None]]:
    """Yields a function that raises again what a signal raised in the block and Python swallowed, in a destructor, say.

    Ctrl-C raises `KeyboardInterrupt`, as ever. If the block `saves`, SIGTERM, by which a cluster or a container says
    that it will kill, raises `SystemExit(143)`, once. Handlers of the caller's own stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield _nothing
        return
    raised: list[BaseException] = []

    def hear(number: int, _) -> None:
        is_first = not raised
        error = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        raised.append(error)
        if is_first or number == signal.SIGINT:
            raise error

    def check() -> None:
        if raised:
            raise raised[0]

    usual = {signal.SIGINT: signal.default_int_handler, **({signal.SIGTERM: signal.SIG_DFL} if saves else {})}
    with ExitStack() as stack:
        for number, handler in usual.items():
            if signal.getsignal(number) == handler:
                stack.callback(signal.signal, number, signal.signal(number, hear))
        yield check


def _nothing() -> None:
    pass
