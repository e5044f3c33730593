"""Zip archives, read member by member and never extracted to disk."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._budget import Budget, Metered
from ._checks import Refusal, reading, tidy


class Members:
    """The files in a zip archive by name, without folders."""

    def __init__(self, archive: zipfile.ZipFile, path: Path):
        self.path = path
        self._archive = archive
        self._budget = Budget(path)
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            self._add(info)

    def _add(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        # Such names are harmless here, because nothing is extracted, but no honest archive has them.
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
            raise Refusal(f"`{self.path}` has a member {tidy(name)} outside of the archive: do not trust it.")
        if info.is_dir():
            return
        if name in self._infos:
            raise Refusal(f"`{self.path}` has two members called {tidy(name)}: write the archive again.")
        if info.flag_bits & 1:
            raise Refusal(f"`{self.path}` is encrypted, see member {tidy(name)}: unpack it and load the folder.")
        # The decoders of other methods do not bound how much they expand at once.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refusal(f"`{self.path}` packs {tidy(name)} by another method than deflate: write it with plain zip.")
        self._infos[name] = info

    @property
    def names(self) -> list[str]:
        return sorted(self._infos)

    def size(self, name: str) -> int:
        """The size that the archive states, which may be wrong."""
        return self._infos[name].file_size

    @contextmanager
    def open(self, name: str) -> Iterator[Metered]:
        with self._archive.open(self._infos[name]) as stream, Metered(stream, self._budget) as metered:
            yield metered


@contextmanager
def open_zip(path: Path, kind: str) -> Iterator[Members]:
    """The members of an archive; damage found while they are read becomes a `ValueError` that names `kind`."""
    with reading(path, kind), zipfile.ZipFile(path) as archive:
        yield Members(archive, path)
