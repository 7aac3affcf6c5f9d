from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.e2e.conftest import make_gateway
from tests.launchers import slurm_cluster
from tests.launchers.rig import LocalRig
from tests.launchers.slurm_cluster import SlurmCluster
from tests.launchers.slurm_rig import SlurmRig
from tests.launchers.unicore_rig import StandIn, UnicoreRig
from vsmgate.launchers.local_supervisor import members, send

__all__ = ["local", "make_gateway", "slurm", "unicore", "unicore_site"]


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


@pytest.fixture(scope="session")
def _slurm_cluster() -> Iterator[SlurmCluster]:
    """One Slurm for all tests; started by the first that wants it."""
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def slurm(
    require: Callable[[object, str], None], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[SlurmRig]:
    """A Slurm launcher on a real cluster; its jobs are over afterwards."""
    from twisted.internet import reactor

    missing = slurm_cluster.missing()
    require(not missing, missing)
    rig = SlurmRig(reactor, request.getfixturevalue("_slurm_cluster"), tmp_path)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope="session")
def unicore_site() -> Iterator[StandIn]:
    """One UNICORE stand-in for all tests."""
    site = StandIn()
    yield site
    site.stop()


@pytest.fixture
def unicore(unicore_site: StandIn, tmp_path: Path) -> Iterator[UnicoreRig]:
    """A launcher of jobs at a UNICORE site; they are over afterwards."""
    from twisted.internet import reactor

    rig = UnicoreRig(reactor, unicore_site, tmp_path)
    try:
        yield rig
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(rig.close()))
        for tag in rig.tags:
            unicore_site.remove(tag)
