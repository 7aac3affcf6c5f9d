from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.launchers import rig
from vsmgate.launchers.kubernetes import KubernetesLauncherFactory
from vsmgate.launchers.kubernetes_plan import KubernetesPlan
from vsmgate.launchers.kubernetes_settings import KubernetesSettings
from vsmgate.model import Observation, Usecase
from vsmgate.simulators.kubernetes import Cluster
from vsmgate.simulators.kubernetes_objects import Selector

IMAGE = "example/test:1"


def usecase_of(services: dict[str, str], **plan: Any) -> Usecase:
    """Return a use case of name -> behaviour."""
    return rig.usecase_of("kubernetes", services, {"image": IMAGE}, **plan)


launch_of = partial(rig.launch_of, KubernetesPlan)


class KubernetesRig(rig.Rig):
    """A launcher on a simulated cluster, whose pods are real processes."""

    factory = KubernetesLauncherFactory()
    usecase_of = staticmethod(usecase_of)

    def __init__(self, reactor: Any, folder: Path, real: Any = None, **cluster: Any) -> None:
        self.cluster = real or Cluster(
            reactor,
            folder / "pods",
            time.time,
            **{"images": {"example/test": (), "vsmgate/demo": ()}, **cluster},
        )
        self.url = self.cluster.listen()
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(self.cluster.kubeconfig(self.url))
        settings = KubernetesSettings(
            kubeconfig=str(self.kubeconfig), bind="{pod}", python=sys.executable, grace=5
        )
        super().__init__(reactor, folder, settings)

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

    async def until_reason(self, ref: str, code: str) -> Observation:
        async def look() -> Observation | None:
            seen = (await self.launcher.poll([ref]))[ref]
            return seen if seen.reason and seen.reason.code == code else None

        return await self.eventually(look)

    async def close(self) -> None:
        await super().close()
        await self.cluster.stop()
