"""Handlers for Ctrl-C and SIGTERM while `fit` runs, which work even where Python swallows the exception."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def heard(saves: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that raises the exception of an earlier signal again, in case Python swallowed it.

    Python swallows exceptions in destructors, for instance. Ctrl-C raises `KeyboardInterrupt`, as usual. If the block
    `saves`, SIGTERM raises `SystemExit(143)`, once: a cluster or a container sends it before it kills the process.
    The caller's own handlers stay in place.
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
