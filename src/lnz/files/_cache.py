"""The folder for downloads, converted files and compiled programs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder named by the environment variable `LNZ_CACHE`, otherwise the usual cache folder of the system.

    Its contents can be deleted at any time; lnz makes them again when it needs them.
    """
    if folder := os.environ.get("LNZ_CACHE"):
        return Path(os.path.expanduser(folder)).absolute()
    try:
        from platformdirs import user_cache_path
    except ImportError as error:
        raise ImportError(
            'A cache folder without the environment variable LNZ_CACHE needs `pip install "lnz[app]"`.'
        ) from error
    return user_cache_path("lnz", appauthor=False)
