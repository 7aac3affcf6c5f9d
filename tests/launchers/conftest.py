from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.e2e.conftest import make_gateway
from tests.launchers.ecs_rig import EcsRig
from tests.launchers.ecs_site import KEYS, EcsSite
from tests.launchers.kubernetes_real import KUBECONFIG, RealCluster
from tests.launchers.kubernetes_rig import KubernetesRig
from tests.launchers.rig import LocalRig
from tests.launchers.slurm_rig import SlurmRig
from tests.launchers.unicore_rig import StandIn, UnicoreRig
from vsmgate.launchers.local_processes import members, send
from vsmgate.launchers.slurm_settings import RestSettings
from vsmgate.simulators import slurm_cluster
from vsmgate.simulators.slurm_cluster import SlurmCluster

__all__ = ["ecs", "kubernetes", "kubernetes_real", "local", "make_gateway", "slurm", "slurm_rest"]
__all__ += ["unicore", "unicore_site"]


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
def _slurm_here(
    require: Callable[[object, str], None], request: pytest.FixtureRequest
) -> SlurmCluster:
    missing = slurm_cluster.missing()
    require(not missing, missing)
    found: SlurmCluster = request.getfixturevalue("_slurm_cluster")
    return found


@pytest.fixture
def slurm(_slurm_here: SlurmCluster, tmp_path: Path) -> Iterator[SlurmRig]:
    """A Slurm launcher on a real cluster; its jobs are over afterwards."""
    from twisted.internet import reactor

    rig = SlurmRig(reactor, _slurm_here, tmp_path)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def slurm_rest(_slurm_here: SlurmCluster, tmp_path: Path) -> Iterator[SlurmRig]:
    """The same through a real slurmrestd."""
    from twisted.internet import reactor

    token = tmp_path / "token"
    token.write_text(f"SLURM_JWT={_slurm_here.token()}\n")
    rest = RestSettings(_slurm_here.start_rest(), "root", str(token), "v0.0.38", allow_http=True)
    rig = SlurmRig(reactor, _slurm_here, tmp_path, rest)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope="session")
def _ecs_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EcsSite]:
    """One stand-in for ECS for all tests; started by the first that wants it."""
    site = EcsSite(tmp_path_factory.mktemp("ecs"))
    try:
        site.register("test", ["renderer"])
        site.register("test-two", ["renderer", "web"])
        site.register("test-missing", ["renderer"], "registry.example.org/no:missing")
        yield site
    finally:
        site.close()


@pytest.fixture
def ecs(_ecs_site: EcsSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcsRig]:
    """An ECS launcher on the stand-in; its tasks are over afterwards."""
    from twisted.internet import reactor

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    rig = EcsRig(reactor, _ecs_site, tmp_path)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesRig]:
    """A Kubernetes launcher on a simulated cluster; no process of a pod is left afterwards."""
    from twisted.internet import reactor

    rig = KubernetesRig(reactor, tmp_path)
    try:
        yield rig
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(rig.close()))


@pytest.fixture
def kubernetes_real(tmp_path: Path) -> Iterator[KubernetesRig]:
    """The same with a real API server, where there is one."""
    from twisted.internet import reactor

    if KUBECONFIG not in os.environ:
        pytest.skip(f"{KUBECONFIG} names no API server")
    cluster = RealCluster(reactor, tmp_path / "pods", time.time, {"example/test": ()})
    pytest_twisted.blockon(Deferred.fromCoroutine(cluster.begin()))
    rig = KubernetesRig(reactor, tmp_path, cluster)
    try:
        yield rig
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(rig.close()))


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
