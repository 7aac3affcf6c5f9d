"""How the files of a local job are written and kept small (standard library only)."""

from __future__ import annotations

import os

__all__ = ["keep_last", "write_whole"]


def write_whole(path: str, data: bytes) -> None:
    """Put ``data`` in place at once; readers see the old file or the new one. Mode 0600."""
    new = f"{path}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    os.replace(new, path)


def keep_last(path: str, octets: int) -> None:
    """Give the disk back a file's beginning; where its file system cannot, all of the file.

    It keeps its length, so that whoever appends to it or reads its end notices nothing.
    """
    try:
        with open(path, "r+b") as file:
            status = os.fstat(file.fileno())
            if status.st_blocks * 512 <= octets + 65536:  # holes have no blocks
                return
            import ctypes  # seldom needed, and not small

            libc = ctypes.CDLL(None)
            span = ctypes.c_long(0), ctypes.c_long(max(0, status.st_size - octets))
            if libc.fallocate(file.fileno(), 3, *span) != 0:  # PUNCH_HOLE | KEEP_SIZE
                file.truncate(0)
    except (OSError, AttributeError):  # removed; or a C library without fallocate(2)
        return
