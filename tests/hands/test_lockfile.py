from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from vsmgate.errors import ConfigError
from vsmgate.hands.lockfile import LockFile

HOLD = """
import sys
from pathlib import Path
from vsmgate.hands.lockfile import LockFile
lock = LockFile(Path(sys.argv[1]))
lock.acquire()
print("locked", flush=True)
sys.stdin.read()
"""


class Holder(ProcessProtocol):
    """A process that takes the lock and holds it until it is killed."""

    def __init__(self) -> None:
        self.told = b""
        self.locked: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.told += data  # a line may come in pieces
        if self.told == b"locked\n":
            self.locked.callback(None)

    def processEnded(self, reason: Failure) -> None:
        if not self.locked.called:
            self.locked.errback(reason)
        self.ended.callback(None)


def test_a_lock_is_exclusive_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "master.lock"
    lock = LockFile(path)
    lock.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match=rf"state_dir: .*\(pid {os.getpid()}\).*master.lock"):
        LockFile(path).acquire()
    other = LockFile(tmp_path / "relay.lock")  # a role of its own
    other.acquire()
    lock.release()
    lock.release()
    second = LockFile(path)
    second.acquire()
    second.release()
    other.release()


@pytest_twisted.ensureDeferred
async def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    from twisted.internet import reactor

    path = tmp_path / "master.lock"
    holder = Holder()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [sys.executable, "-c", HOLD, str(path)]
    process = reactor.spawnProcess(holder, sys.executable, arguments, environment)
    await holder.locked.addTimeout(60, reactor)
    with pytest.raises(ConfigError, match=rf"pid {process.pid}\)"):
        LockFile(path).acquire()
    process.signalProcess("KILL")
    await holder.ended.addTimeout(60, reactor)
    lock = LockFile(path)
    lock.acquire()
    lock.release()


def test_an_unusable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"master\.lock cannot be opened: not a directory"):
        LockFile(tmp_path / "file" / "master.lock").acquire()
    with pytest.raises(ConfigError, match="cannot be opened: no such file"):
        LockFile(tmp_path / "missing" / "master.lock").acquire()
