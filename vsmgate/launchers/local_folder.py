"""The folder of one local job, ``STATE/jobs/ID/``.

::

    lock            locked by the supervisor as long as it lives (and by whoever starts it)
    request.json    what to run; from the gateway
    lifetime        another time limit; from the gateway
    record.json     what runs, and how it ended; from the supervisor
    supervisor.log  what went wrong with the supervisor itself
    NAME.stdout     outputs of each service; a service's name has no dot. Of long ones the
    NAME.stderr     beginning is a hole (``max_output`` of the launcher)
    work/           the job's own: ``{directory}``, and where its services start

Folders have mode 0700, files 0600. Everything here is small or bounded, but `remove`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from twisted.logger import Logger

from vsmgate.errors import EngineUnreachable
from vsmgate.launchers.local_files import write_whole
from vsmgate.launchers.local_record import Record

__all__ = ["LONGEST_TAIL", "JobFolder"]

#: Octets of an output that are shown, at most.
LONGEST_TAIL = 1024 * 1024


class JobFolder:
    """Reads and writes the files of one job."""

    _log = Logger()

    def __init__(self, jobs: Path, job_id: str) -> None:
        self.job_id = job_id
        self.path = jobs / job_id
        self.work = self.path / "work"
        self._stamp: tuple[int, int] | None = None
        self._record: Record | None = None

    def make(self) -> None:
        """Make the folder; it may be there already."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.work.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the lock, and give its descriptor; `BlockingIOError` when somebody has it.

        A process that inherits the descriptor goes on holding it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path / "lock", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        finally:
            os.close(descriptor)

    def free(self) -> bool:
        """Return whether nobody holds the lock: no supervisor lives, or is being started."""
        try:
            with self.locked():
                return True
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False

    def record(self) -> Record | None:
        """Return the record; None when there is none. Read again only when it changed."""
        path = self.path / "record.json"
        try:
            status = os.stat(path)
            stamp = (status.st_ino, status.st_mtime_ns)
            if stamp != self._stamp:
                self._record = msgspec.json.decode(path.read_bytes(), type=Record)
                self._stamp = stamp
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:  # the machine lost its power; it is as if it were not there
            return None
        except OSError as error:
            self._log.warn("{path} cannot be read: {error}", path=path, error=error.strerror)
            raise EngineUnreachable(
                f"What is kept of job {self.job_id} cannot be read: {error.strerror}."
            ) from None
        return self._record

    def write_record(self, record: Record) -> None:
        """Replace the record; only when the supervisor is gone."""
        write_whole(str(self.path / "record.json"), msgspec.json.encode(record))

    def write_request(self, request: dict[str, Any]) -> None:
        """Write what is to run."""
        # Not msgspec: what is inherited from the environment need not be UTF-8.
        write_whole(str(self.path / "request.json"), json.dumps(request).encode("ascii"))

    def write_lifetime(self, lifetime: float) -> None:
        """Write another time limit, in seconds from the start."""
        write_whole(str(self.path / "lifetime"), f"{lifetime!r}\n".encode("ascii"))

    def supervisor_log(self) -> BinaryIO:
        """Return the supervisor's log, open to write to."""
        return open(self.path / "supervisor.log", "ab", opener=_private)

    def tail(self, name: str, octets: int) -> bytes:
        """Return at most the last ``octets`` of a file; empty when there is none."""
        try:
            with (self.path / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                octets = min(octets, size, LONGEST_TAIL)
                file.seek(size - octets)
                return file.read(octets)
        except FileNotFoundError:
            return b""

    def last_words(self, service: str) -> str:
        """Return the last lines that a service wrote, at most 2 KiB; stderr if there is any."""
        data = self.tail(f"{service}.stderr", 2048) or self.tail(f"{service}.stdout", 2048)
        return data.decode("utf-8", "replace").strip()

    def remove(self) -> None:
        """Remove all of it, which can take long; nothing happens when it is gone."""
        shutil.rmtree(self.path, ignore_errors=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
