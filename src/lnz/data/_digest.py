"""The digest of a file's bytes, which identifies it."""

import hashlib
from pathlib import Path


def digest_of(path: Path) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a file, or of the names and contents of a folder."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        if file != path:
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()[:16]
