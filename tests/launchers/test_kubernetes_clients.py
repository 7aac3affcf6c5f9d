"""kubectl and the official client see, and can use, what the gateway started."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch
from twisted.internet.threads import deferToThread

from tests.launchers.kubernetes_rig import IMAGE, KubernetesRig
from vsmgate.hands.commands import run
from vsmgate.model import LogStream, Phase
from vsmgate.testing.deferreds import deferred

MANAGED = "app.kubernetes.io/managed-by=vsmgate"


@pytest.fixture
def kubectl(
    kubernetes: KubernetesRig, require: Callable[[object, str], None], tmp_path: Path
) -> Callable[..., Any]:
    """Return a coroutine function that runs kubectl and returns what it wrote."""
    program = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    require(program, "kubectl")

    async def ask(*arguments: str, stdin: str = "") -> str:
        assert program is not None
        argv = [program, "--kubeconfig", str(kubernetes.kubeconfig), *arguments]
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        done = await run(kubernetes.reactor, argv, environment, stdin.encode(), timeout=60)
        assert done.status == 0, done.err.decode()
        return done.out.decode()

    return ask


@deferred
async def test_kubectl(kubernetes: KubernetesRig, kubectl: Callable[..., Any]) -> None:
    ref = await kubernetes.launcher.submit(kubernetes.launch())
    seen = await kubernetes.until(ref, Phase.RUNNING)
    table = await kubectl("get", "pods", "-l", MANAGED)
    assert table.split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert table.split()[5:8] == [ref, "1/1", "Running"]
    assert "No resources" not in await kubectl("get", "pods,secrets,services,namespaces,nodes")
    pod = json.loads(await kubectl("get", "pod", ref, "-o", "json"))
    assert pod["status"]["podIP"] == seen.endpoints["renderer"].host
    waited = await kubectl("wait", "--for=condition=Ready", f"pod/{ref}", "--timeout=20s")
    assert "condition met" in waited
    told = await kubectl("describe", "pod", ref)
    assert "vsmgate/owner: ada" in told
    assert "Successfully assigned" in told
    while "listening" not in await kubectl("logs", ref, "--tail=5"):
        pass
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "by-hand"},
        "spec": {"containers": [{"name": "a", "image": IMAGE, "command": ["sleep", "99"]}]},
    }
    assert "created" in await kubectl(
        "create", "--validate=false", "-f", "-", stdin=json.dumps(made)
    )
    assert "deleted" in await kubectl("delete", "pod", "by-hand", "--timeout=20s")
    # What it deletes, the gateway sees: gracefully, then gone.
    assert "deleted" in await kubectl("delete", "pod", ref, "--timeout=20s")
    assert (await kubernetes.until(ref, Phase.ENDED)).reason.code == "cancelled_by_administrator"
    assert await kubectl("get", "pods", "-o", "name") == ""


@deferred
async def test_the_official_client(kubernetes: KubernetesRig) -> None:
    config.load_kube_config(str(kubernetes.kubeconfig))
    core = client.CoreV1Api()
    namespace = kubernetes.cluster.namespace
    ref = await kubernetes.launcher.submit(kubernetes.launch())
    await kubernetes.until(ref, Phase.RUNNING)

    def look() -> None:
        listed = core.list_namespaced_pod(namespace, label_selector=MANAGED)
        (pod,) = listed.items
        assert (pod.metadata.name, pod.status.phase) == (ref, "Running")
        assert pod.spec.containers[0].security_context.capabilities.drop == ["ALL"]
        assert core.read_namespaced_pod_log(ref, namespace, container="renderer") is not None
        assert client.VersionApi().get_code().major == "1"
        what = client.V1ResourceAttributes(namespace=namespace, verb="create", resource="pods")
        asked = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=what)
        )
        rights = client.AuthorizationV1Api()
        assert rights.create_self_subject_access_review(asked).status.allowed
        with pytest.raises(client.ApiException) as caught:
            core.read_namespaced_pod("nosuch", namespace)
        assert caught.value.status == 404
        secret = client.V1Secret(metadata=client.V1ObjectMeta(name="x"), string_data={"a": "b"})
        assert core.create_namespaced_secret(namespace, secret).data == {"a": "Yg=="}
        core.delete_namespaced_secret("x", namespace)
        assert core.list_namespaced_secret(namespace).items == []

    def end() -> list[str]:
        events = watch.Watch().stream(
            core.list_namespaced_pod, namespace, label_selector=MANAGED, timeout_seconds=20
        )
        types = []
        for event in events:
            types.append(event["type"])
            if len(types) == 1:
                core.delete_namespaced_pod(ref, namespace, grace_period_seconds=3)
            if event["type"] == "DELETED":
                break
        return types

    await deferToThread(look)
    types = await deferToThread(end)
    assert types[0] == "ADDED"
    assert types[-1] == "DELETED"
    assert set(types[1:-1]) == {"MODIFIED"}
    assert (await kubernetes.until(ref, Phase.ENDED)).reason is not None
    assert await kubernetes.launcher.logs(ref, "renderer", LogStream.STDOUT, 10) == b""
