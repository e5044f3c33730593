"""The folder for downloads and converted files."""

import os
from pathlib import Path

from ._checks import missing_extra


def cache_folder() -> Path:
    """The folder named by the environment variable `LNZ_CACHE`, otherwise the usual one of the system.

    All in it can be removed at any time, and is made again when it is needed.
    """
    if folder := os.environ.get("LNZ_CACHE"):
        return Path(folder).expanduser().absolute()
    try:
        import pooch
    except ImportError as error:
        raise ImportError(missing_extra("A cache folder without the variable LNZ_CACHE")) from error
    return Path(pooch.os_cache("lnz"))
