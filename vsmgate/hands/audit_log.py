"""The audit log: JSON lines that are only ever appended to a file.

Each entry is one write to a file opened with O_APPEND, so several processes may share it. A
file that was moved or removed is noticed at the next entry, and a new one is made. An entry
that cannot be written is lost and the gateway goes on: users keep their work when a disk
is full. That is told at once in the gateway's log, and in the file itself when it can be
written again, with the number of entries that are missing.

A disk may also hang: so the file is written in a thread, and open WebSockets go on meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock

from twisted.logger import Logger

from vsmgate.audit import Entry, Tally, Value, line_of, stamp
from vsmgate.errors import ConfigError, Problem
from vsmgate.hands.threads import OwnThreads

__all__ = ["MOST", "PATIENCE", "AuditLog"]

#: Entries that may wait for the disk; further ones are lost.
MOST = 10_000

#: Seconds that the disk has at the end for what waits.
PATIENCE = 3.0


class AuditLog:
    """Appends entries to the file ``path``; ``wall`` is Unix time, ``seconds`` a steady clock.

    ``thread`` makes the calls that may block, one after the other.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        wall: Callable[[], float],
        seconds: Callable[[], float],
        thread: OwnThreads | None = None,
    ) -> None:
        self._path = path
        self._wall = wall
        self._tally = Tally(seconds)
        self._thread = thread or OwnThreads("audit")
        self._descriptor = -1
        self._torn = False
        self._counting = Lock()
        self._waiting = self._lost = 0

    def open(self) -> None:
        """Open the file, made with mode 0600 where it is missing; fails with `ConfigError`."""
        try:
            self._reopen()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            problem = Problem("audit.file", f"cannot be opened for appending: {reason}")
            raise ConfigError(str(self._path), [problem]) from None
        self._thread.start()

    def record(
        self,
        action: str,
        *,
        outcome: str = "ok",
        subject: str = "",
        authenticator: str = "",
        job: str = "",
        peer: str = "",
        request_id: str = "",
        **details: Value,
    ) -> None:
        """Write an entry (see `vsmgate.audit.Recorder`)."""
        entry = Entry(
            stamp(self._wall()),
            action,
            outcome,
            subject,
            authenticator,
            job,
            peer,
            request_id,
            details,
        )
        with self._counting:
            room = self._waiting < MOST
            self._waiting += room
        if room:
            self._thread.callInThread(self._write, entry)
        else:
            self._lose("the disk does not answer")

    def refused(self, action: str, outcome: str, peer: str, request_id: str, face: str) -> None:
        """Write what a stranger tried, once a minute for each ``peer``; `flush` tells the rest."""
        if self._tally.first(f"{action} {outcome} {peer}"):
            self.record(action, outcome=outcome, peer=peer, request_id=request_id, face=face)

    def flush(self, *, everything: bool = False) -> None:
        """Write how often strangers tried the same again."""
        for name, count in self._tally.take(everything=everything):
            if name == Tally.OTHERS:
                self.record("others", outcome="refused", count=count)
            else:
                action, outcome, peer = name.split(" ", 2)
                self.record(action, outcome=outcome, peer=peer, count=count)

    def close(self) -> None:
        """Write what waits, what was only counted so far too, and let go of the file.

        What a disk that hangs does not take within `PATIENCE` is left to the process's end.
        """
        self.flush(everything=True)
        written = Event()
        self._thread.callInThread(written.set)
        if self._thread.started and not written.wait(PATIENCE):
            self._log.critical(
                "the audit log {path} cannot be written, {count} entries may be lost: the disk"
                " does not answer",
                path=self._path,
                count=self._waiting + self._lost,
            )
            return
        self._thread.stop()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # -- inside -----------------------------------------------------------------------

    def _write(self, entry: Entry) -> None:
        try:
            self._follow()
            if lost := self._lost:
                # Entries that waited are older than the gap, and come after this line.
                gap = Entry(stamp(self._wall()), "audit_gap", "lost", details={"count": lost})
                self._append(line_of(gap))
                self._log.warn(
                    "the audit log {path} is written again; {count} entries are missing",
                    path=self._path,
                    count=lost,
                )
                with self._counting:
                    self._lost -= lost
            self._append(line_of(entry))
        except OSError as error:
            self._lose(error.strerror or str(error))
        finally:
            with self._counting:
                self._waiting -= 1

    def _lose(self, reason: str) -> None:
        with self._counting:
            first = not self._lost
            self._lost += 1
        if first:
            self._log.critical(
                "the audit log {path} cannot be written, ENTRIES ARE BEING LOST: {reason}",
                path=self._path,
                reason=reason,
            )

    def _append(self, line: bytes) -> None:
        # What a full disk cut off must not swallow the next line.
        line = b"\n" + line if self._torn else line
        written = os.write(self._descriptor, line)
        self._torn = 0 < written < len(line)
        if written < len(line):
            raise OSError(28, "the disk is full")

    def _follow(self) -> None:
        """Open the file again when it is not at its path any more."""
        if self._descriptor >= 0:
            ours = os.fstat(self._descriptor)
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                pass
            else:
                if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                    return
        self._reopen()

    def _reopen(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._torn = descriptor, False
