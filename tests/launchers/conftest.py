from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.e2e.conftest import make_gateway
from tests.launchers.ecs_rig import EcsRig
from tests.launchers.ecs_site import KEYS, EcsSite
from tests.launchers.kubernetes_real import KUBECONFIG, RealCluster
from tests.launchers.kubernetes_rig import KubernetesRig
from tests.launchers.local_rig import LocalRig
from tests.launchers.rig import Rig
from tests.launchers.slurm_rig import SlurmRig
from tests.launchers.unicore_rig import StandIn, UnicoreRig
from vsmgate.launchers.slurm_settings import RestSettings
from vsmgate.simulators import slurm_cluster
from vsmgate.simulators.slurm_cluster import SlurmCluster

__all__ = ["ecs", "kubernetes", "kubernetes_real", "local", "make_gateway", "slurm", "slurm_rest"]
__all__ += ["unicore", "unicore_site"]


Some = TypeVar("Some", bound=Rig)


def used(rig: Callable[..., Some], *arguments: Any) -> Iterator[Some]:
    """Make a rig; its jobs are over afterwards."""
    from twisted.internet import reactor

    made = rig(reactor, *arguments)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRig]:
    """A local launcher on a folder of its own."""
    yield from used(LocalRig, tmp_path)


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
    """A Slurm launcher on a real cluster."""
    yield from used(SlurmRig, _slurm_here, tmp_path)


@pytest.fixture
def slurm_rest(_slurm_here: SlurmCluster, tmp_path: Path) -> Iterator[SlurmRig]:
    """The same through a real slurmrestd, by the newest API that it has."""
    token = tmp_path / "token"
    token.write_text(f"SLURM_JWT={_slurm_here.token()}\n")
    url = _slurm_here.start_rest()
    newest = _slurm_here.rest_versions[-1]
    rest = RestSettings(url, "root", str(token), newest, allow_http=True)
    yield from used(SlurmRig, _slurm_here, tmp_path, rest)


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
    """An ECS launcher on the stand-in."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    yield from used(EcsRig, _ecs_site, tmp_path)


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesRig]:
    """A Kubernetes launcher on a simulated cluster; no process of a pod is left afterwards."""
    yield from used(KubernetesRig, tmp_path)


@pytest.fixture
def kubernetes_real(tmp_path: Path) -> Iterator[KubernetesRig]:
    """The same with a real API server, where there is one."""
    from twisted.internet import reactor

    if KUBECONFIG not in os.environ:
        pytest.skip(f"{KUBECONFIG} names no API server")
    cluster = RealCluster(reactor, tmp_path / "pods", time.time, {"example/test": ()})
    pytest_twisted.blockon(Deferred.fromCoroutine(cluster.begin()))
    yield from used(KubernetesRig, tmp_path, cluster)


@pytest.fixture(scope="session")
def unicore_site() -> Iterator[StandIn]:
    """One UNICORE stand-in for all tests."""
    site = StandIn()
    yield site
    site.close()


@pytest.fixture
def unicore(unicore_site: StandIn, tmp_path: Path) -> Iterator[UnicoreRig]:
    """A launcher of jobs at a UNICORE site."""
    yield from used(UnicoreRig, unicore_site, tmp_path)
