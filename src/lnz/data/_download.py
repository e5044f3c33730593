"""Downloads with a checksum into the cache folder."""

import logging
from pathlib import Path

from ..files import cache_folder
from ._checks import missing_extra

_SECONDS = 30  # without an answer


def fetch(name: str, file_name: str, url: str, sha256: str) -> Path:
    """The path of a downloaded file, fetched on the first call.

    **Raises:** `OSError` if it cannot be fetched or has the wrong checksum; the message says where to put a copy.
    """
    folder = cache_folder()
    try:
        import pooch
    except ImportError as error:
        raise ImportError(missing_extra(f"Downloading `{name}`")) from error
    by_hand = f"put {file_name} into `{folder}` by hand, or set LNZ_DATA to a folder that has it"
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch logs the address and the path of every download
    try:
        found = pooch.retrieve(
            url,
            f"sha256:{sha256}",
            file_name,
            folder,
            downloader=pooch.HTTPDownloader(timeout=_SECONDS),  # pyright: ignore[reportArgumentType]
        )
    except ValueError as error:  # raised by pooch for a wrong checksum
        raise OSError(
            f"The file from {url} for `{name}` is not the expected one (its SHA-256 is not {sha256[:16]}...): try "
            f"again later, or {by_hand}."
        ) from error
    except OSError as error:  # includes everything that requests raises
        raise OSError(f"`{name}` cannot be downloaded from {url} ({_cause(error)}): {by_hand}.") from error
    finally:
        logger.setLevel(level)
    return Path(found)


def _cause(error: BaseException) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__
