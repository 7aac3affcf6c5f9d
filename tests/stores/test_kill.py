from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest_twisted
from sqlalchemy.engine import make_url
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from vsmgate.hands.database import Database
from vsmgate.stores.store import SqlStore
from vsmgate.testing.stores import FREE, new_job

ROOT = Path(__file__).parents[2]


class Killer(ProcessProtocol):
    """Kills the process once it told ``octets`` of output; ``ended`` fires with how it ended."""

    def __init__(self, octets: int) -> None:
        self.told = b""
        self.complaints = b""
        self.ended: Deferred[BaseException] = Deferred()
        self._octets = octets

    def outReceived(self, data: bytes) -> None:
        self.told += data
        if len(self.told) >= self._octets:
            self._octets = sys.maxsize
            self.transport.signalProcess("KILL")

    def errReceived(self, data: bytes) -> None:
        self.complaints += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.value)


@pytest_twisted.ensureDeferred
async def test_a_kill_in_the_middle_of_writes_loses_no_committed_job(tmp_path: Path) -> None:
    from twisted.internet import reactor

    path = tmp_path / "jobs.sqlite3"
    committed: list[tuple[str, int]] = []
    for octets in (1, 400, 700, 1500):
        killer = Killer(octets)
        arguments = [sys.executable, str(Path(__file__).with_name("writer.py")), str(path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        reactor.spawnProcess(killer, sys.executable, arguments, environment)
        reason = await killer.ended.addTimeout(60, reactor)
        assert isinstance(reason, ProcessTerminated), killer.complaints.decode()
        assert reason.signal == 9, killer.complaints.decode()
        lines = killer.told.decode().split("\n")[:-1]  # the last may be cut short
        assert lines
        committed += [(job_id, int(revision)) for job_id, revision in map(str.split, lines)]

    store = SqlStore(Database(make_url("sqlite://").set(database=str(path)), reactor), float)
    await store.open()
    jobs = {job.id: job for job in await store.live()}
    for job_id, revision in committed:
        assert (jobs[job_id].name, jobs[job_id].revision) == ("committed", revision)
    # A transaction may be there that the kill kept from being told; never the other way.
    assert len(committed) <= len(jobs)
    last = max(job.revision for job in jobs.values())
    assert (await store.add(new_job(), FREE, None))[0].revision == last + 1
    await store.close()
