"""A lock file: one process at a time for what it stands for.

The lock is ``flock(2)`` on the open file: the kernel lets go of it when the process
ends, however it ends, so a stale file never blocks anybody. The file stays; removing
it would let two processes lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from vsmgate.errors import ConfigError, Problem

__all__ = ["LockFile"]


class LockFile:
    """A lock on the file ``path``, held from `acquire` to `release` or the process's end.

    ``what`` it stands for, and the ``key`` of the configuration that says which, are told
    when another process has it.
    """

    def __init__(self, path: Path, what: str = "state directory", key: str = "state_dir") -> None:
        self._path = path
        self._what = what
        self._key = key
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Lock the file for this process and write its pid there; never waits.

        Raises `ConfigError` that names the pid of the process that has it.
        """
        path = self._path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise self._refusal(f"the lock file {path.name} cannot be opened: {reason}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f"another gateway (pid {holder})" if holder else "another gateway"
            detail = (
                f"{who} uses this {self._what} ({path.name} is locked); stop it, or give"
                f" this one a {self._what} of its own"
            )
            raise self._refusal(detail) from error
        except OSError as error:
            os.close(descriptor)
            reason = (error.strerror or str(error)).lower()
            raise self._refusal(f"{path.name} cannot be locked: {reason}") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; does nothing when nothing is held."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def _refusal(self, detail: str) -> ConfigError:
        return ConfigError(str(self._path.parent), [Problem(self._key, detail)])
