"""Looks at local jobs: their folders, and the processes that their records name."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from twisted.logger import Logger

from vsmgate.launchers.local_folder import JobFolder
from vsmgate.launchers.local_ports import Ports
from vsmgate.launchers.local_processes import Process, boot_id, look, members, send
from vsmgate.launchers.local_record import Cause, LocalRef, Record, observation
from vsmgate.model import JOB_ID, Observation, Phase

__all__ = ["JobTable", "Known", "supervisor"]

#: A machine does not restart under a process.
BOOT = boot_id()


class Known(NamedTuple):
    """A job that is here."""

    folder: JobFolder
    record: Record


def supervisor(record: Record) -> Process | None:
    """Return a job's supervisor if it lives; never another process that has its pid now."""
    found = look(record.pid) if record.boot == BOOT else None
    return found if found is not None and found.start == record.start else None


class JobTable:
    """Knows the jobs under a folder. Nothing is kept that the folder does not say too."""

    _log = Logger()

    def __init__(self, path: Path, ports: Ports) -> None:
        self._path = path
        self._ports = ports
        self._live: dict[str, JobFolder] = {}

    def folder(self, job_id: str) -> JobFolder:
        """Return a job's folder, which need not exist."""
        return self._live.get(job_id) or JobFolder(self._path, job_id)

    def known(self, ref: str) -> Known | None:
        """Return the job of ``ref``; None when there is none, or another of its id."""
        parsed = LocalRef.parse(ref)
        if parsed is None:
            return None
        folder = self.folder(parsed.job_id)
        record = folder.record()
        if record is None or (record.pid, record.start) != (parsed.pid, parsed.start):
            return None
        return Known(folder, record)

    def running(self) -> list[Known]:
        """Return the jobs that run, known to anybody or not; reads all folders."""
        try:
            names = sorted(os.listdir(self._path))
        except FileNotFoundError:
            return []
        found = []
        for name in filter(JOB_ID.fullmatch, names):
            folder = JobFolder(self._path, name)
            record = folder.record()
            if record is not None and not record.ended and supervisor(record) is not None:
                found.append(Known(folder, record))
        return found

    def observe(self, ref: str) -> Observation:
        """Return what a poll says of ``ref``."""
        known = self.known(ref)
        if known is None:
            return Observation(Phase.UNKNOWN)
        folder, record = known
        if not record.ended and supervisor(record) is None:
            # It may have written its last words since.
            record = self._bury(folder, folder.record() or record)
        if record.ended:
            self.release(folder)
        else:
            self._live[folder.job_id] = folder
            self._ports.note(folder.job_id, frozenset(s.port for s in record.services.values()))
        return observation(record, folder.last_words)

    def end(self, folder: JobFolder, record: Record) -> None:
        """Ask for the end of a job; nothing happens when it has ended."""
        if record.ended:
            return
        found = supervisor(record)
        if found is None or not send(found, signal.SIGTERM):
            self._bury(folder, folder.record() or record)

    def release(self, folder: JobFolder) -> None:
        """Give up what is held for a job that has ended."""
        self._live.pop(folder.job_id, None)
        self._ports.release(folder.job_id)

    def discard(self, folder: JobFolder) -> None:
        """Remove a job that did not start; there is not much of it."""
        self.release(folder)
        folder.remove()

    def _bury(self, folder: JobFolder, record: Record) -> Record:
        """End what a dead supervisor left; return the record, ended once that is gone."""
        if record.ended:
            return record
        cause = record.cause or Cause("killed" if record.boot == BOOT else "rebooted")
        record = replace(record, cause=cause)
        if record.boot == BOOT:
            left = list(members(record.tag, _session(record)))
            for process in left:
                send(process, signal.SIGKILL)
            if left:
                return record
        record = replace(record, ended=True)
        try:
            folder.write_record(record)
        except OSError as error:  # the next look comes to the same end
            self._log.warn("{job}: {error}", job=folder.job_id, error=error.strerror)
        return record


def _session(record: Record) -> int | None:
    """Return the job's session if a service in it lives; else its number may be another's."""
    for service in record.services.values():
        found = look(service.pid)
        if found is not None and found.start == service.start:
            return record.pid
    return None
