"""The Kubernetes launcher on a simulated cluster; the contract runs on it too."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from twisted.web.server import Site

from tests.launchers.answering import Answering
from tests.launchers.kubernetes_rig import KubernetesRig, launch_of, usecase_of
from vsmgate.errors import EngineRefused
from vsmgate.launchers.kubernetes_pod import render_secret
from vsmgate.model import LogStream, Phase, Secret, Service, Usecase
from vsmgate.simulators.kubernetes_objects import Selector
from vsmgate.testing.deferreds import deferred

NASTY = ["$(id)", "; rm -rf /", "`id` && x | y > z", "--wrap=", "", " a b ", "'\"\\", "../../", "*"]
NASTY += ["$(VSMGATE_SECRET)", "$$(VSMGATE_SECRET)", "$$$(VSMGATE_SECRET)", "\u202egnp.exe", "%s"]
NASTY += ["<pod x>", "!!", "${HOME}", "$", "a'$(id)'b", "/tmp"]
SECRET = "s3cret-of-the-job"


@deferred
async def test_services_answer_where_it_says_and_get_values_literally(
    kubernetes: KubernetesRig,
) -> None:
    usecase = usecase_of({"renderer": "stays", "back_end": "stays"})
    how = usecase.launch["kubernetes"]["services"]["renderer"]
    how["command"] += ["{parameters.word}", ["{parameters.words}"], "{ports.back_end}/x"]
    how["environment"] = {"WORD": "{parameters.word}", "BY": "{owner}", "AT": "{host}:{port}"}
    words = {"word": NASTY[9], "words": NASTY[:-1]}
    launch = launch_of(usecase, words, secret=Secret(SECRET))
    ref = await kubernetes.launcher.submit(launch)
    seen = await kubernetes.until(ref, Phase.RUNNING)
    assert seen.endpoints.keys() == {"renderer", "back_end"}
    for name, endpoint in seen.endpoints.items():

        async def answers(name: str = name, at: Any = endpoint) -> bool | None:
            try:
                with socket.create_connection((at.host, at.port), timeout=5) as connection:
                    return connection.recv(100) == name.encode()
            except ConnectionRefusedError:
                return None

        assert await kubernetes.eventually(answers)
    told = await kubernetes.told(ref)
    place, other = (seen.endpoints[name] for name in ("renderer", "back_end"))
    assert told["argv"][1:] == [
        "renderer", "stays", place.host, str(place.port),
        NASTY[9], *NASTY[:-1], f"{other.port}/x",
    ]  # fmt: skip
    expected = {"WORD": NASTY[9], "BY": "ada", "AT": f"{place.host}:{place.port}"}
    expected |= {"VSMGATE_PORT": str(place.port), "VSMGATE_PORT_BACK_END": str(other.port)}
    expected |= {"VSMGATE_SECRET": SECRET, "VSMGATE_TAG": launch.tag, "VSMGATE_HOST": place.host}
    assert told["environment"].items() >= expected.items()
    # The secret is in the Secret, and nowhere else that Kubernetes shows.
    assert SECRET not in json.dumps(kubernetes.pod(ref))
    assert SECRET not in " ".join(told["argv"])
    everything = kubernetes.cluster.objects
    assert len(everything.list("secrets", "", Selector())) == 1
    assert SECRET not in json.dumps(everything.list("events", "", Selector()))
    await kubernetes.launcher.cancel(ref)
    assert everything.list("secrets", "", Selector()) == []


@deferred
async def test_what_a_cut_short_submit_left_is_removed(kubernetes: KubernetesRig) -> None:
    launch = launch_of(kubernetes.launch().usecase, secret=Secret(SECRET))
    left = render_secret(launch, launch.secret)
    kubernetes.cluster.objects.create("secrets", kubernetes.cluster.namespace, left)
    assert kubernetes.names("secrets") == [launch.tag]
    await kubernetes.launcher.abandon(launch.tag)
    assert kubernetes.names("secrets") == []
    await kubernetes.launcher.abandon(launch.tag)
    await kubernetes.launcher.abandon("kube-root-ca.crt")
    ref = await kubernetes.launcher.submit(launch)
    await kubernetes.launcher.abandon(launch.tag)
    assert kubernetes.names("pods") == kubernetes.names("secrets") == [ref]


@deferred
async def test_what_a_pod_says_of_itself(kubernetes: KubernetesRig) -> None:
    launch = kubernetes.launch(
        lifetime=90.5,
        labels={"team": "vis"},
        node_selector={"kubernetes.io/hostname": "simulated"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        pull_secrets=["registry"],
        service_account="jobs",
        volumes={"data": {"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}},
        security={"run_as_user": 1000},
    )
    launch.plan.services["renderer"].mounts["data"] = "/gpfs"
    launch.plan.services["renderer"].limits["nvidia.com/gpu"] = "0"
    pod = kubernetes.pod(await kubernetes.launcher.submit(launch))
    assert pod["metadata"]["name"] == launch.tag
    assert pod["metadata"]["labels"] == {
        "team": "vis",
        "app.kubernetes.io/managed-by": "vsmgate",
        "vsmgate/job": launch.job_id,
        "vsmgate/usecase": "test",
    }
    assert pod["metadata"]["annotations"]["vsmgate/owner"] == "ada"
    spec = pod["spec"]
    expected = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 91,
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": "jobs",
        "nodeSelector": {"kubernetes.io/hostname": "simulated"},
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    assert spec.items() >= expected.items()
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["ports"] == [{"name": "renderer", "containerPort": 8000, "protocol": "TCP"}]
    assert {m["name"]: m["mountPath"] for m in container["volumeMounts"]} == {
        "data": "/gpfs",
        "vsmgate-tmp": "/tmp",
    }
    assert "VSMGATE_SECRET" not in json.dumps(spec)
    assert kubernetes.cluster.objects.list("secrets", "", Selector()) == []


@deferred
async def test_fixed_ports_and_one_container_for_all(kubernetes: KubernetesRig) -> None:
    usecase = usecase_of({"renderer": "stays"})
    container = usecase.launch["kubernetes"].pop("services")["renderer"]
    usecase.launch["kubernetes"]["container"] = container
    services = {"renderer": Service(port=5000), "a-service-with-a-long-name": Service()}
    usecase = Usecase("test", "kubernetes", services, usecase.launch)
    refs = [await kubernetes.launcher.submit(launch_of(usecase)) for _ in range(2)]
    seen = [await kubernetes.until(ref, Phase.RUNNING) for ref in refs]
    assert [one.endpoints["renderer"].port for one in seen] == [5000, 5000]
    assert seen[0].endpoints["renderer"].host != seen[1].endpoints["renderer"].host
    assert [c["name"] for c in kubernetes.pod(refs[0])["spec"]["containers"]] == ["job"]

    async def both_listen() -> bool | None:
        logs = [await kubernetes.launcher.logs(r, "renderer", LogStream.STDOUT, 99) for r in refs]
        return True if all(b"listening" in log for log in logs) else None

    assert await kubernetes.eventually(both_listen)


@deferred
async def test_a_second_submit_of_a_job_is_the_same_pod(kubernetes: KubernetesRig) -> None:
    launch = kubernetes.launch()
    launch = replace(launch, secret=Secret(SECRET))
    first = await kubernetes.launcher.submit(launch)
    uid = kubernetes.pod(first)["metadata"]["uid"]
    assert await kubernetes.launcher.submit(launch) == first
    assert await kubernetes.again().submit(launch) == first
    assert kubernetes.pod(first)["metadata"]["uid"] == uid
    other = kubernetes.launch()
    pod = {"metadata": {"name": other.tag}, "kind": "Pod", "spec": {}, "status": {}}
    pod["status"] = {"phase": "Succeeded"}
    kubernetes.cluster.objects.create("pods", "vsmgate", pod)
    with pytest.raises(EngineRefused) as caught:
        await kubernetes.launcher.submit(other)
    assert caught.value.code == "name_taken"
    assert await kubernetes.launcher.find([other.tag]) == {}


@deferred
async def test_an_image_that_cannot_be_pulled_says_so_while_it_starts(
    kubernetes: KubernetesRig,
) -> None:
    launch = kubernetes.launch()
    how = replace(launch.plan.services["renderer"], image="example/missing:2")
    launch = replace(launch, plan=replace(launch.plan, services={"renderer": how}))
    ref = await kubernetes.launcher.submit(launch)
    seen = await kubernetes.until_reason(ref, "image_pull")
    assert seen.phase is Phase.STARTING
    assert "example/missing:2" in seen.reason.native
    await kubernetes.launcher.cancel(ref)
    assert (await kubernetes.until(ref, Phase.ENDED)).reason.code == "cancelled_by_administrator"


@deferred
async def test_a_pod_without_room_waits_and_says_why(kubernetes: KubernetesRig) -> None:
    def sized(**requests: str) -> Any:
        launch = kubernetes.launch()
        launch.plan.services["renderer"].requests.update(requests)
        return launch

    first = await kubernetes.launcher.submit(sized(cpu="6"))
    await kubernetes.until(first, Phase.RUNNING)
    second = await kubernetes.launcher.submit(sized(cpu="3000m"))
    seen = await kubernetes.until_reason(second, "queued_resources")
    assert seen.phase is Phase.QUEUED
    assert seen.queue.reason == "queued_resources"
    assert "Insufficient cpu" in seen.reason.native
    for launch in (sized(memory="1Ti"), kubernetes.launch(node_selector={"gpu": "a100"})):
        never = await kubernetes.launcher.submit(launch)
        seen = await kubernetes.until_reason(never, "impossible_resources")
        assert "waits for ever" in seen.reason.message
    await kubernetes.launcher.cancel(first)
    await kubernetes.until(second, Phase.RUNNING)


@deferred
async def test_a_secret_that_is_missing_is_told(kubernetes: KubernetesRig) -> None:
    big = kubernetes.launch()
    big.plan.services["renderer"].requests["cpu"] = "8"
    first = await kubernetes.launcher.submit(big)
    await kubernetes.until(first, Phase.RUNNING)
    launch = launch_of(usecase_of({"renderer": "stays"}), secret=Secret(SECRET))
    launch.plan.services["renderer"].requests["cpu"] = "8"
    ref = await kubernetes.launcher.submit(launch)
    kubernetes.cluster.objects.remove("secrets", "vsmgate", launch.tag)
    await kubernetes.launcher.cancel(first)
    seen = await kubernetes.until_reason(ref, "bad_container")
    assert seen.phase is Phase.STARTING
    assert "not found" in seen.reason.native


@deferred
async def test_the_deadline(kubernetes: KubernetesRig) -> None:
    ref = await kubernetes.launcher.submit(kubernetes.launch(lifetime=2.0))
    seen = await kubernetes.until(ref, Phase.RUNNING)
    assert seen.end_time is not None
    assert (await kubernetes.until(ref, Phase.ENDED)).reason.code == "walltime"


@deferred
async def test_a_job_that_loses_a_service_ends(kubernetes: KubernetesRig) -> None:
    launch = launch_of(usecase_of({"renderer": "stays", "backend": "fails"}))
    ref = await kubernetes.launcher.submit(launch)
    seen = await kubernetes.until(ref, Phase.ENDED)
    assert seen.reason.code == "exited"
    assert "Service backend ended with exit code 3" in seen.reason.message
    assert "no graphics card" in seen.reason.native

    async def over() -> str | None:
        phase = kubernetes.pod(ref)["status"]["phase"]
        return phase if phase != "Running" else None

    assert await kubernetes.eventually(over) == "Failed"
    later = kubernetes.again()  # a gateway that was killed before it noted the end
    assert (await later.poll([ref]))[ref].reason.code == "exited"
    log = await later.logs(ref, "backend", LogStream.STDOUT, 1000)
    assert b"no graphics card" in log
    await later.forget(ref)
    assert kubernetes.cluster.objects.list("pods", "", Selector()) == []
    assert (await later.poll([ref]))[ref].phase is Phase.UNKNOWN


@deferred
async def test_a_program_that_is_not_in_the_image(kubernetes: KubernetesRig) -> None:
    usecase = usecase_of({"renderer": "stays"})
    usecase.launch["kubernetes"]["services"]["renderer"]["command"] = ["no-such-program"]
    ref = await kubernetes.launcher.submit(launch_of(usecase))
    assert (await kubernetes.until(ref, Phase.ENDED)).reason.code == "program_missing"


@deferred
async def test_what_others_do_to_a_pod_is_told(kubernetes: KubernetesRig) -> None:
    refs = [await kubernetes.launcher.submit(kubernetes.launch()) for _ in range(2)]
    for ref in refs:
        await kubernetes.until(ref, Phase.RUNNING)
    deleted, preempted = refs
    why = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    pod = kubernetes.pod(preempted)
    pod["status"]["conditions"].append(why)
    kubernetes.cluster.objects.replace("pods", pod)
    await kubernetes.launcher.poll(refs)
    for ref in refs:
        kubernetes.cluster.objects.remove("pods", "vsmgate", ref)
    seen = await kubernetes.launcher.poll(refs)
    assert seen[deleted].reason.code == "cancelled_by_administrator"
    assert seen[preempted].reason.code == "preempted"
    # Who has never seen them cannot know.
    later = await kubernetes.again().poll(refs)
    assert {one.phase for one in later.values()} == {Phase.UNKNOWN}


@deferred
async def test_a_watch_nudges_and_begins_again(kubernetes: KubernetesRig) -> None:
    async def nudged(more_than: int = 0) -> int | None:
        return kubernetes.nudges if kubernetes.nudges > more_than else None

    await kubernetes.launcher.poll([kubernetes.launch().tag])

    async def watching() -> bool | None:
        return True if kubernetes.cluster.objects.watchers[1:] else None

    await kubernetes.eventually(watching)
    ref = await kubernetes.launcher.submit(kubernetes.launch())
    assert await kubernetes.eventually(nudged)  # the pod came up
    await kubernetes.until(ref, Phase.RUNNING)
    watches = [uri for _, uri in kubernetes.cluster.api.asked if "watch=1" in uri]
    assert len(watches) == 1
    # A version that the server has forgotten: the launcher lists, and watches from there.
    kubernetes.cluster.objects.forget_changes()
    old = kubernetes.again()
    await old._api.watch("1", lambda: None)
    before = kubernetes.nudges
    await kubernetes.launcher.cancel(ref)
    assert await kubernetes.eventually(lambda: nudged(before))


@deferred
async def test_a_pod_that_a_list_leaves_out_is_asked_for_before_its_job_ends(
    kubernetes: KubernetesRig,
) -> None:
    ref = await kubernetes.launcher.submit(kubernetes.launch())
    before = await kubernetes.until(ref, Phase.RUNNING)
    pod = kubernetes.pod(ref)
    del pod["metadata"]["labels"]["app.kubernetes.io/managed-by"]
    kubernetes.cluster.objects.replace("pods", pod)
    assert (await kubernetes.launcher.poll([ref]))[ref] == before


@deferred
async def test_a_pod_that_cannot_be_ended_does_not_hide_the_others(
    kubernetes: KubernetesRig,
) -> None:
    usecase = usecase_of({"renderer": "stays", "backend": "fails"})
    first = await kubernetes.launcher.submit(launch_of(usecase))
    second = await kubernetes.launcher.submit(kubernetes.launch())
    kubernetes.cluster.api.access.denied |= {"patch pods", "delete pods"}
    assert (await kubernetes.until(first, Phase.ENDED)).reason.code == "exited"
    await kubernetes.until(second, Phase.RUNNING)
    kubernetes.cluster.api.access.denied.clear()
    await kubernetes.launcher.forget(first)

    async def alone() -> bool | None:
        left = kubernetes.cluster.objects.list("pods", "", Selector())
        return True if [pod["metadata"]["name"] for pod in left] == [second] else None

    assert await kubernetes.eventually(alone)


@deferred
async def test_watches_that_are_cut_off_do_not_follow_each_other_at_once(
    kubernetes: KubernetesRig, tmp_path: Path
) -> None:
    server = Answering()
    server.body = b'{"metadata": {"resourceVersion": "1"}, "items": []}'
    port = kubernetes.reactor.listenTCP(0, Site(server), interface="127.0.0.1")
    config = kubernetes.cluster.kubeconfig(f"http://127.0.0.1:{port.getHost().port}")
    (tmp_path / "other").write_text(config)
    launcher = kubernetes.again(kubeconfig=str(tmp_path / "other"))
    tag = kubernetes.launch().tag

    async def nudged() -> bool | None:
        return True if kubernetes.nudges else None

    try:
        await launcher.poll([tag])
        assert await kubernetes.eventually(nudged)  # the watch is over
        for _ in range(3):
            await launcher.poll([tag])
        assert len([r for r in server.asked if b"watch=1" in r.uri]) == 1
    finally:
        await launcher.close()
        await port.stopListening()


@deferred
async def test_many_pods_are_listed_in_pages(kubernetes: KubernetesRig) -> None:
    objects = kubernetes.cluster.objects
    tags = []
    for _ in range(450):
        launch = kubernetes.launch()
        tags.append(launch.tag)
        labels = {"app.kubernetes.io/managed-by": "vsmgate", "vsmgate/job": launch.job_id}
        pod = {"metadata": {"name": launch.tag, "labels": labels}, "kind": "Pod"}
        objects.create("pods", "vsmgate", {**pod, "spec": {}, "status": {"phase": "Failed"}})
    found = await kubernetes.launcher.find(tags)
    assert found == {tag: tag for tag in tags}
    asked = kubernetes.cluster.api.asked
    lists = [uri for _, uri in asked if "limit=" in uri]
    assert len(lists) == 3

    class Forgetful(list[tuple[str, str]]):
        """Lets the list grow too old between its first two pages."""

        def append(self, question: tuple[str, str]) -> None:
            super().append(question)
            if len(self) == 2:
                objects.remove("pods", "vsmgate", tags[0])
                objects.forget_changes()

    kubernetes.cluster.api.asked = Forgetful()
    assert await kubernetes.launcher.find(tags) == {tag: tag for tag in tags[1:]}
    pages = [uri.partition("continue=")[2] for _, uri in kubernetes.cluster.api.asked]
    assert [bool(page) for page in pages] == [False, True, False, True, True]
