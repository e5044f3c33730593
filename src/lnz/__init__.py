"""Explicit generative models on one scale: train, sample and evaluate in nats, with error bars and bounds."""

import sys
from importlib import import_module, util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._api import *  # noqa: F403


def __getattr__(name: str):
    """Import a public name on its first use, so that `lnz --help` does not wait for JAX."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lnz")
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # A subpackage is imported alone: lnz itself runs `from . import samplers` while other subpackages are loading.
    if util.find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    from . import _api

    if not hasattr(_api, name):
        # `name` and `obj` let Python itself ask "Did you mean ...?".
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    value = getattr(_api, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from . import _api

    return sorted(name for name in vars(_api) if not name.startswith("_"))
