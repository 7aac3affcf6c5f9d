"""Processes that play jobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport

from vsmgate.simulators.processes import Leader
from vsmgate.testing.deferreds import deferred


class Overtaken(Leader):
    """Its process is over before spawnProcess looks whether it is, which it does at its end."""

    def makeConnection(self, transport: IProcessTransport) -> None:
        super().makeConnection(transport)
        pid: Any = transport.pid
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@deferred
async def test_one_that_ends_at_once_is_told(tmp_path: Path) -> None:
    from twisted.internet import reactor as found

    reactor: Any = found
    over: Deferred[int] = Deferred()
    argv = ["/bin/sh", "-c", "exit 3"]
    leader = Overtaken(reactor, argv, {}, tmp_path, tmp_path / "out", None, over.callback)
    assert not over.called  # its owner does not have it yet
    leader.kill()
    assert await over.addTimeout(10, reactor) == 3
