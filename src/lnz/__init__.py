from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._api import *  # noqa: F403


def __getattr__(name: str):
    """Public names are imported when first used: `lnz --help` need not wait for JAX."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _api

    value = getattr(_api, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from . import _api

    return sorted(name for name in vars(_api) if not name.startswith("_"))
