"""Settings: names in groups."""

from collections.abc import Iterator
from typing import Any

Settings = dict[str, Any]


def flatten(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`("train.steps", 100)` and so on."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
