from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.launchers.rig import LocalRig
from vsmgate.launchers.local_supervisor import members, send


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRig]:
    """A local launcher; once every job was asked to end, nothing of any may be left."""
    from twisted.internet import reactor

    rig = LocalRig(reactor, tmp_path)
    yield rig
    try:
        pytest_twisted.blockon(Deferred.fromCoroutine(_cancel_all(rig)))
    finally:
        for tag in rig.tags:
            for process in members(tag):
                send(process, signal.SIGKILL)


async def _cancel_all(rig: LocalRig) -> None:
    for ref in (await rig.launcher.find(rig.tags)).values():
        await rig.launcher.cancel(ref)
    await rig.eventually(rig.gone)
