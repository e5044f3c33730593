"""Settings: names in groups."""

from collections.abc import Iterator, Mapping
from typing import Any

Settings = dict[str, Any]
# Of a setting: it means something only where one of the other settings has one of the values.
Owners = Mapping[str, tuple[Any, ...]]


def has_meaning(owners: Owners, chosen: Mapping[str, Any]) -> bool:
    """Whether a setting with these `owners` has an effect beside the `chosen` settings."""
    return any(chosen[owner] in values for owner, values in owners.items())


def flatten(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`("train.steps", 100)` and so on."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
