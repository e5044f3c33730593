"""Explicit generative models on one scale: train, sample and evaluate in nats, with error bars and bounds."""

import sys
from importlib import import_module, util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._api import *  # noqa: F403


def __getattr__(name: str):
    """Public names are imported when first used: `lnz --help` need not wait for JAX."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lnz")
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # A part of lnz comes alone: lnz itself says `from . import samplers` while the other parts are being imported.
    if util.find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    from . import _api

    if not hasattr(_api, name):
        # With these two, Python itself asks "Did you mean ...?".
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    value = getattr(_api, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from . import _api

    return sorted(name for name in vars(_api) if not name.startswith("_"))
