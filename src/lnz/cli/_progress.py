"""The progress of training: a live bar on a terminal, a few plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ..runs import Display

_SECONDS_BETWEEN_LINES = 30.0  # without a bar, the longest silence between two lines


@contextmanager
def show_progress(console: Console, name: str, steps: int, check: Callable[[], None]) -> Iterator[Display]:
    """Show one training on `console`. A bar vanishes when the block ends. The display's `check` calls `check`."""
    if not console.is_terminal:
        yield _Lines(console, name, steps, check)
        return
    bar = _Bar(console, name, steps, check)
    with Live(get_renderable=bar.render, console=console, transient=True, refresh_per_second=8):
        yield bar


class _Bar(Display):
    def __init__(self, console: Console, name: str, steps: int, check: Callable[[], None]):
        self._name, self._check = name, check
        self._progress = Progress(
            SpinnerColumn(),  # moves while JAX compiles
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task(name, total=steps, rate="")
        self._metrics: dict[str, int | float] = {}
        self._kinds: dict[str, str] = {}
        self._words = "reading the data"

    def check(self) -> None:
        self._check()

    def note(self, words: str) -> None:
        self._progress.console.print(f"{self._name}: {words}", soft_wrap=True)

    def update(self, record: dict[str, int | float]) -> None:
        self._metrics |= _metrics(record)  # the last validation stays until the next
        self._words = _in_nats(self._metrics, self._kinds)
        self._progress.update(self._task, completed=record["step"], rate=_rate(record))

    def explain(self, name: str, words: str) -> None:
        self._kinds[name] = words

    def say(self, words: str) -> None:
        self._words = words

    def warn(self, words: str) -> None:
        self._progress.console.print(f"Warning: {words}", style="yellow", soft_wrap=True)

    def render(self) -> Group:
        return Group(self._progress, Padding(Text(self._words, style="dim"), (0, 0, 0, 2)))


class _Lines(Display):
    def __init__(self, console: Console, name: str, steps: int, check: Callable[[], None]):
        self._console, self._name, self._steps, self._check = console, name, steps, check
        self._kinds: dict[str, str] = {}
        self._last = time.monotonic()

    def check(self) -> None:
        self._check()

    def note(self, words: str) -> None:
        self.say(words)

    def update(self, record: dict[str, int | float]) -> None:
        now = time.monotonic()
        is_told = "valid" in record or record["step"] == self._steps  # `fit` validates ten times
        if is_told or now - self._last > _SECONDS_BETWEEN_LINES:
            self._last = now
            words = _in_nats(_metrics(record), self._kinds)
            self.say(f"step {record['step']:.0f} of {self._steps}, {_rate(record)}: {words}")

    def explain(self, name: str, words: str) -> None:
        self._kinds[name] = words

    def say(self, words: str) -> None:
        self._console.print(f"{self._name}: {words}", soft_wrap=True)

    def warn(self, words: str) -> None:
        self.say(f"warning: {words}")


@contextmanager
def show_rows(console: Console, what: str, num: int) -> Iterator[Callable[[int, int], None]]:
    """A callback, called with the number of rows done and of all rows, that shows a bar or a line now and then."""
    if console.is_terminal:
        words = TextColumn("{task.description}", markup=False)
        columns = SpinnerColumn(), words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=num)
            yield lambda done, total: bar.update(task, completed=done)
        return
    console.print(f"{what}: {num} rows", soft_wrap=True)
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(f"{what}: {done} of {total} rows", soft_wrap=True)

    yield tell


def describe_seconds(seconds: Mapping[str, float]) -> str:
    """Format durations, such as "train 12.3 s, compile 4.0 s"."""
    return ", ".join(f"{what} {duration:.1f} s" for what, duration in seconds.items())


def _metrics(record: dict[str, int | float]) -> dict[str, int | float]:
    """The metrics of a record by the names to display."""
    shown = {name: value for name, value in record.items() if name not in ("step", "seconds")}
    if "log_likelihood" in shown:
        shown = {"train": shown.pop("log_likelihood"), **shown}
    return {name.replace("_", " "): value for name, value in shown.items()}


def _rate(record: dict[str, int | float]) -> str:
    return f"{record['step'] / max(record['seconds'], 1e-9):,.0f} steps/s"


def _in_nats(metrics: Mapping[str, int | float], kinds: Mapping[str, str]) -> str:
    words = {name: f" ({kind})" for name, kind in kinds.items()}
    return ", ".join(f"{name} {value:.2f}{words.get(name, '')}" for name, value in metrics.items()) + " nats"
