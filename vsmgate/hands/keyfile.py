"""A secret key in a file, made at the first need."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from vsmgate.errors import ConfigError, Problem

__all__ = ["key_in"]


def key_in(path: Path, size: int) -> bytes:
    """Return the ``size`` octets in the file ``path``, which is made (mode 0600) when missing.

    Of several processes that make it at the same time all get the same key. Raises
    `ConfigError`.
    """
    try:
        if not path.exists():
            _make(path, size)
        key = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        problem = Problem(path.name, f"the key file cannot be read or made: {reason}")
        raise ConfigError(str(path), [problem]) from error
    if len(key) != size:
        detail = f"the key file must have {size} octets; remove it, and a new one is made"
        raise ConfigError(str(path), [Problem(path.name, detail)])
    return key


def _make(path: Path, size: int) -> None:
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(size))
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)  # unlike a rename this never replaces another's
    except FileExistsError:
        pass  # another process was faster: its key counts
    finally:
        os.unlink(draft)
