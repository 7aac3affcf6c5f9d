"""Files below one folder, and nothing else.

Paths are absolute, as clients get them from ``fs-get-root``. Every path is resolved first,
links and ``..`` and all, and refused when it leads out of the folder.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from vsmgate.demo.jsonrpc import InternalError, InvalidParams

__all__ = ["Entry", "Folder"]


@dataclass(frozen=True)
class Entry:
    """One thing in a folder; ``size`` in octets, None for folders."""

    name: str
    path: str
    size: int | None


class Folder:
    """The folder that the backend may touch."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve(strict=True)

    def resolve(self, path: str) -> Path:
        """The real path; raises `InvalidParams` when it is not in the folder."""
        try:
            given = Path(path)
            real = given.resolve()
            if real.is_symlink():  # what a loop of links ends as, from Python 3.13 on
                raise ValueError
        except (OSError, RuntimeError, ValueError):
            # A loop of links, or a zero octet.
            raise InvalidParams(f"'{path}' is not a path") from None
        if not given.is_absolute() or not real.is_relative_to(self.root):
            raise InvalidParams(f"'{path}' is outside '{self.root}'")
        return real

    def kind(self, path: str) -> str | None:
        """``file``, ``directory``, or None when there is neither."""
        real = self.resolve(path)
        if real.is_dir():
            return "directory"
        return "file" if real.is_file() else None

    def entries(self, path: str) -> tuple[list[Entry], list[Entry]]:
        """Folders and files in a folder, sorted by name. What leads out of it is left out."""
        real = self.resolve(path)
        if not real.is_dir():
            raise InvalidParams(f"'{path}' is not a directory")
        folders, files = [], []
        for child in real.iterdir():
            try:
                mode = self.resolve(str(child)).stat()
            except (InvalidParams, OSError):
                continue
            if stat.S_ISDIR(mode.st_mode):
                folders.append(Entry(child.name, str(child), None))
            elif stat.S_ISREG(mode.st_mode):
                files.append(Entry(child.name, str(child), mode.st_size))
        return sorted(folders, key=_order), sorted(files, key=_order)

    def head(self, path: str, size: int) -> bytes:
        """The first octets of a file."""
        real = self.resolve(path)
        if not real.is_file():
            raise InvalidParams(f"'{path}' is not a regular file")
        with real.open("rb") as file:
            return file.read(size)

    def write(self, path: str, content: bytes) -> None:
        """Write a file; raises `InternalError` with the reason when that fails."""
        real = self.resolve(path)
        # The path has no links any more; should one appear meanwhile, it is not followed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            if real.exists() and not real.is_file():
                raise InvalidParams(f"'{path}' is not a regular file")
            with open(os.open(real, flags, 0o644), "wb") as file:
                file.write(content)
        except OSError as error:
            raise InternalError(f"Cannot write '{path}': {error.strerror}") from None


def _order(entry: Entry) -> str:
    return unicodedata.normalize("NFD", entry.name.casefold())
