from __future__ import annotations

import pytest
from msgspec import convert

from tests.launchers.ecs_rig import EcsRig
from tests.launchers.kubernetes_rig import KubernetesRig
from tests.launchers.local_rig import LocalRig
from tests.launchers.slurm_rig import SlurmRig
from tests.launchers.unicore_rig import UnicoreRig
from vsmgate.model import (
    Endpoint,
    Launch,
    LogStream,
    Observation,
    Phase,
    Service,
    Usecase,
    new_job_id,
)
from vsmgate.testing.launchers import (
    LauncherContract,
    LauncherRig,
    ScriptedLauncher,
    ScriptedLauncherFactory,
)


class TestLocalLauncher(LauncherContract):
    @pytest.fixture
    def rig(self, local: LocalRig) -> LauncherRig:
        return local


class TestSlurmLauncher(LauncherContract):
    @pytest.fixture
    def rig(self, slurm: SlurmRig) -> LauncherRig:
        return slurm


class TestEcsLauncher(LauncherContract):
    @pytest.fixture
    def rig(self, ecs: EcsRig) -> LauncherRig:
        return ecs


class TestKubernetesLauncher(LauncherContract):
    @pytest.fixture
    def rig(self, kubernetes: KubernetesRig) -> LauncherRig:
        return kubernetes


class TestKubernetesLauncherOnARealServer(LauncherContract):
    @pytest.fixture
    def rig(self, kubernetes_real: KubernetesRig) -> LauncherRig:
        return kubernetes_real


class TestSlurmRestLauncher(LauncherContract):
    @pytest.fixture
    def rig(self, slurm_rest: SlurmRig) -> LauncherRig:
        return slurm_rest


class TestUnicoreLauncher(LauncherContract):
    @pytest.fixture
    def rig(self, unicore: UnicoreRig) -> LauncherRig:
        return unicore


class ScriptedRig:
    """Plays the engine: a job's phases follow from what it is to do."""

    def __init__(self) -> None:
        self.factory = ScriptedLauncherFactory()
        self.launcher = ScriptedLauncher()
        self._ports = iter(range(5000, 6000))

    def launch(self, does: str) -> Launch:
        usecase = Usecase("test", "scripted", {"renderer": Service()}, {}, title=does)
        return Launch(new_job_id(), "ada", usecase, convert({}, self.factory.plan), {}, 3600.0)

    async def until(self, ref: str, phase: Phase) -> Observation:
        job = self.launcher.jobs[ref.removeprefix("scripted-")]
        job.logs["renderer", LogStream.STDOUT] = b"hello\n"
        does = job.launch.usecase.title
        if job.seen.phase is Phase.STARTING and does == "stays":
            endpoints = {"renderer": Endpoint("127.0.0.1", next(self._ports))}
            job.seen = Observation(Phase.RUNNING, endpoints=endpoints, end_time=4600.0)
        elif job.seen.phase is Phase.STARTING:
            self.launcher.end(job.launch.job_id, "completed" if does == "finishes" else "exited")
        seen = (await self.launcher.poll([ref]))[ref]
        assert seen.phase is phase
        return seen

    def again(self) -> ScriptedLauncher:
        return ScriptedLauncher(self.launcher.jobs)


class TestScriptedLauncher(LauncherContract):
    @pytest.fixture
    def rig(self) -> LauncherRig:
        return ScriptedRig()
