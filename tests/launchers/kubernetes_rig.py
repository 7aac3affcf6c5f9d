from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import convert
from msgspec.structs import replace
from twisted.internet.task import deferLater

from vsmgate.interfaces import Context
from vsmgate.launchers.kubernetes import KubernetesLauncherFactory
from vsmgate.launchers.kubernetes_launcher import KubernetesLauncher
from vsmgate.launchers.kubernetes_plan import KubernetesPlan
from vsmgate.launchers.kubernetes_settings import KubernetesSettings
from vsmgate.model import Launch, Observation, Phase, Secret, Service, Usecase, new_job_id
from vsmgate.simulators.kubernetes import Cluster
from vsmgate.simulators.kubernetes_objects import Selector

SERVICE = Path(__file__).with_name("service.py")
IMAGE = "example/test:1"
PATIENCE = 20.0
T = TypeVar("T")


def usecase_of(services: dict[str, str], **plan: Any) -> Usecase:
    """Return a use case of name -> behaviour."""
    start = ["{python}", "-I", "-S", str(SERVICE).replace("{", "{{")]
    table = {
        name: {"image": IMAGE, "command": [*start, name, does, "{host}", "{port}"]}
        for name, does in services.items()
    }
    return Usecase(
        name="test",
        launcher="kubernetes",
        services={name: Service() for name in services},
        launch={"kubernetes": {"services": table, **plan}},
    )


def launch_of(
    usecase: Usecase,
    parameters: dict[str, Any] | None = None,
    lifetime: float = 3600.0,
    secret: str | None = None,
) -> Launch:
    plan = convert(usecase.launch["kubernetes"], KubernetesPlan)
    shown = None if secret is None else Secret(secret)
    return Launch(new_job_id(), "ada", usecase, plan, parameters or {}, lifetime, shown)


class KubernetesRig:
    """A launcher on a simulated cluster, whose pods are real processes."""

    def __init__(self, reactor: Any, folder: Path, real: Any = None, **cluster: Any) -> None:
        self.reactor = reactor
        self.folder = folder
        self.nudges = 0
        self.cluster = real or Cluster(
            reactor,
            folder / "pods",
            time.time,
            **{"images": {"example/test": (), "vsmgate/demo": ()}, **cluster},
        )
        self.url = self.cluster.listen()
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(self.cluster.kubeconfig(self.url))
        self.factory = KubernetesLauncherFactory()
        self.settings = KubernetesSettings(
            kubeconfig=str(self.kubeconfig), bind="{pod}", python=sys.executable, grace=5
        )
        self.made: list[KubernetesLauncher] = []
        self.launcher = self.again()

    def again(self, **settings: Any) -> KubernetesLauncher:
        context = Context(
            "kubernetes", self.reactor, time.time, self.folder, self.folder, self._nudge
        )
        made = self.factory.make(replace(self.settings, **settings), context)
        assert isinstance(made, KubernetesLauncher)
        self.made.append(made)
        return made

    def _nudge(self) -> None:
        self.nudges += 1

    def launch(self, does: str = "stays", lifetime: float = 3600.0, **plan: Any) -> Launch:
        return launch_of(usecase_of({"renderer": does}, **plan), lifetime=lifetime)

    def pod(self, ref: str) -> dict[str, Any]:
        """Return a pod as the cluster has it."""
        return self.cluster.objects.get("pods", self.cluster.namespace, ref)

    def names(self, kind: str) -> list[str]:
        """Return the names of all pods, or secrets."""
        found = self.cluster.objects.list(kind, self.cluster.namespace, Selector())
        return [each["metadata"]["name"] for each in found]

    def place(self, ref: str, container: str = "renderer") -> Path:
        """Return the folder of a container."""
        assert self.cluster.kubelet is not None
        return self.cluster.kubelet.place(self.pod(ref), container)

    async def told(self, ref: str) -> dict[str, Any]:
        """Return what the service of a pod says that it was given."""
        file = self.place(ref) / "renderer.json"

        async def look() -> dict[str, Any] | None:
            return json.loads(file.read_text()) if file.exists() else None

        return await self.eventually(look)

    async def until(self, ref: str, phase: Phase) -> Observation:
        async def look() -> Observation | None:
            seen = (await self.launcher.poll([ref]))[ref]
            assert phase is Phase.ENDED or seen.phase is not Phase.ENDED, seen
            return seen if seen.phase is phase else None

        return await self.eventually(look)

    async def until_reason(self, ref: str, code: str) -> Observation:
        async def look() -> Observation | None:
            seen = (await self.launcher.poll([ref]))[ref]
            return seen if seen.reason and seen.reason.code == code else None

        return await self.eventually(look)

    async def eventually(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """Return the first result of ``look`` that is not None; bounded."""
        deadline = time.monotonic() + PATIENCE
        while (found := await look()) is None:
            assert time.monotonic() < deadline, "it did not come to be"
            await deferLater(self.reactor, 0.02)
        return found

    async def close(self) -> None:
        for launcher in self.made:
            await launcher.close()
        await self.cluster.stop()
