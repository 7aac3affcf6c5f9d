"""The simulated API server beside a real one's answers; and what the launcher reads in answers.

``kubernetes/answers.json`` has what kube-apiserver 1.20.2 (without a kubelet) answered.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from vsmgate.hands.http_client import HttpAnswer, HttpClient, http_client
from vsmgate.launchers.kubernetes_answers import Pod, PodList, Status, decode, refusal
from vsmgate.launchers.kubernetes_reasons import observation
from vsmgate.model import Endpoint, Phase
from vsmgate.simulators.kubernetes import Cluster
from vsmgate.simulators.kubernetes_node import expand
from vsmgate.simulators.kubernetes_objects import Selector
from vsmgate.testing.deferreds import deferred

RECORDED = json.loads((Path(__file__).parent / "kubernetes" / "answers.json").read_text())
CALLS = {call["name"]: call["response"] for call in RECORDED["calls"]}


def shape(value: Any, path: str = "") -> Any:
    """Return a value without what differs from server to server, and from day to day."""
    if isinstance(value, dict):
        return {key: shape(part, f"{path}/{key}") for key, part in sorted(value.items())}
    if isinstance(value, list):
        return [shape(part, path) for part in value]
    last = path.rpartition("/")[2]
    if last in ("uid", "resourceVersion", "clusterIP", "clusterIPs") or last.endswith(
        ("Timestamp", "Time")
    ):
        return None if value is None else type(value).__name__
    return value


class Replayed:
    """Sends the recorded requests to a simulated server without a node."""

    def __init__(self, folder: Path) -> None:
        from twisted.internet import reactor

        tokens = {"user-token": "bob"}
        self.cluster = Cluster(
            reactor,
            folder,
            time.time,
            namespace="default",
            token="secret-token",
            tokens=tokens,
            node=False,
        )
        self.url = self.cluster.listen(tls=False)
        self.client: HttpClient = http_client(reactor, timeout=10.0, persistent=False)

    async def send(self, request: dict[str, Any]) -> HttpAnswer:
        headers = {}
        if request["contentType"]:
            headers["Content-Type"] = request["contentType"]
        if request["token"]:
            headers["Authorization"] = f"Bearer {request['token']}"
        body = None if request["body"] is None else json.dumps(request["body"]).encode()
        return await self.client.request(
            request["method"], self.url + request["path"], headers, body
        )


@deferred
async def test_it_answers_as_the_real_one_did(tmp_path: Path) -> None:
    replayed = Replayed(tmp_path)
    events: list[bytes] = []
    headers = {"Authorization": "Bearer secret-token"}
    url = f"{replayed.url}/api/v1/namespaces/default/pods?watch=1"
    watch = Deferred.fromCoroutine(replayed.client.follow(url, headers, events.append))
    watch.addErrback(lambda _: None)
    assert len(RECORDED["calls"]) == 34
    try:
        for call in RECORDED["calls"]:
            expected = call["response"]
            answer = await replayed.send(call["request"])
            assert answer.status == expected["status"], call["name"]
            if isinstance(expected["body"], str):
                assert answer.body.decode() == expected["body"]
                continue
            body = json.loads(answer.body)
            if call["name"] == "version":
                assert body.keys() == expected["body"].keys()
            elif call["name"] in ("create not json (400)", "create wrong kind (400)"):
                # What it quotes of Go's own parser is no contract.
                whole, start = expected["body"]["message"], len(body["message"])
                assert whole.startswith(body["message"][: min(start, 70)])
                assert shape(body | {"message": whole}) == shape(expected["body"])
            else:
                assert shape(body) == shape(expected["body"]), call["name"]
    finally:
        watch.cancel()
        await replayed.cluster.stop()
    told = [json.loads(line) for line in b"".join(events).splitlines()]
    recorded = [(e["type"], shape(e["object"])) for e in RECORDED["watch"]]
    seen = [(e["type"], shape(e["object"])) for e in told]
    # The real one notes the last moment of a pod as a change of its own.
    assert [e for e in seen if e[0] != "MODIFIED"] == [e for e in recorded if e[0] != "MODIFIED"]
    assert all(event in recorded for event in seen)


def test_what_is_read_of_a_real_servers_pods() -> None:
    """The pods were made by hand: only the annotation of ours is added."""

    def read(name: str) -> Pod:
        body = CALLS[name]["body"]
        body["metadata"]["annotations"]["vsmgate/services"] = '{"renderer":["renderer",5000]}'
        return decode(HttpAnswer(200, json.dumps(body).encode()), Pod)

    pending = observation(read("get pending"))
    assert (pending.phase, pending.queue.reason) == (Phase.QUEUED, "queued")
    pulling = observation(read("status scheduled, image pull fails (a kubelet's act)"))
    assert (pulling.phase, pulling.reason.code) == (Phase.STARTING, "image_pull")
    assert pulling.reason.native == "ImagePullBackOff: Back-off pulling image"
    running = observation(read("get running"))
    assert running.endpoints == {"renderer": Endpoint("127.0.0.1", 5000)}
    assert running.end_time == 1795305600.0
    assert observation(read("get terminating")).phase is Phase.RUNNING
    listed = decode(HttpAnswer(200, json.dumps(CALLS["list by label"]["body"]).encode()), PodList)
    assert [pod.metadata.name for pod in listed.items or ()] == ["vsmgate-abc"]
    failed = CALLS["status failed OOM (a kubelet's act)"]["body"]
    del failed["metadata"]["deletionTimestamp"]
    assert observation(read("status failed OOM (a kubelet's act)")).reason.code == "out_of_memory"


def pod_of(**status: Any) -> Pod:
    """Return a pod on a node with the services renderer and backend."""
    deadline = status.pop("deadline", 3600)
    places = '{"renderer":["renderer",8000],"back_end":["back-end",8001]}'
    containers = status.pop("containers", {})
    states = [{"name": name, "state": state} for name, state in containers.items()]
    body = {
        "metadata": {
            "name": "vsmgate-x",
            "annotations": {"vsmgate/services": places},
            "deletionTimestamp": status.pop("deleted", None),
        },
        "spec": {"nodeName": status.pop("node", "n1"), "activeDeadlineSeconds": deadline},
        "status": {"podIP": "10.1.2.3", "containerStatuses": states, **status},
    }
    return msgspec.convert(body, Pod)


UP = {"running": {"startedAt": "2026-11-22T00:00:00Z"}}


def down(code: int, reason: str = "Error", message: str = "", at: int = 1) -> dict[str, Any]:
    finished = f"2026-11-22T00:00:{at:02}Z"
    how = {"exitCode": code, "reason": reason, "message": message, "finishedAt": finished}
    return {"terminated": how}


#: As runc says it.
NO_FOLDER = 'chdir to cwd ("/x") set in config.json failed: no such file or directory: unknown'


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("0/3 nodes are available: 3 Insufficient cpu.", "queued_resources"),
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are "
            "available: 3 No preemption victims found for incoming pod.",
            "queued_resources",
        ),
        (
            "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: "
            "3 Preemption is not helpful for scheduling.",
            "impossible_resources",
        ),
        (
            "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: true}, 2 node(s) "
            "didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: "
            "3 Preemption is not helpful for scheduling.",
            "impossible_resources",
        ),
        (
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node "
            "affinity/selector.",
            "queued_resources",
        ),
        (
            "0/2 nodes are available: 2 node(s) had untolerated taint "
            "{node.kubernetes.io/not-ready: }. preemption: 0/2 nodes are available: 2 Preemption "
            "is not helpful for scheduling.",
            "nodes_unavailable",
        ),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "nodes_unavailable"),
        # Of 1.36, which names no taints: they may be those of nodes that are not ready.
        (
            "0/3 nodes are available: 3 node(s) had untolerated taint(s). no new claims to "
            "deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for "
            "scheduling.",
            "nodes_unavailable",
        ),
        (
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). no "
            "new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not "
            "helpful for scheduling.",
            "queued_resources",
        ),
        (
            "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 "
            "node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/3 nodes "
            "are available: 3 Preemption is not helpful for scheduling.",
            "nodes_unavailable",
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
            "bad_volume",
        ),
        ('persistentvolumeclaim "data" not found', "bad_volume"),
        ("no nodes available to schedule pods", "nodes_unavailable"),
        ("running PreBind plugin: something new", "unschedulable"),
    ],
)
def test_why_a_pod_waits_for_a_node(message: str, code: str) -> None:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    seen = observation(
        pod_of(node=None, phase="Pending", conditions=[scheduled | {"message": message}])
    )
    assert seen.phase is Phase.QUEUED
    assert (seen.reason.code, seen.reason.native) == (code, message)
    assert seen.queue.reason == code


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        (waits("ErrImagePull", "not found"), "image_pull", "of back_end cannot be pulled"),
        (waits("InvalidImageName"), "bad_image", "no good name"),
        (waits("CreateContainerConfigError", 'secret "x" not found'), "bad_container", "back_end"),
        (waits("RunContainerError", "exec: executable file not found"), "program_missing", "back"),
        (waits("RunContainerError", NO_FOLDER), "bad_container", "back_end"),
    ],
)
def test_why_a_container_waits(state: dict[str, Any], code: str, words: str) -> None:
    seen = observation(pod_of(phase="Pending", containers={"renderer": UP, "back-end": state}))
    assert seen.phase is Phase.STARTING
    assert seen.reason.code == code
    assert words in seen.reason.message


def test_steps_on_the_way_are_no_reasons() -> None:
    creating = {"renderer": waits("ContainerCreating"), "back-end": waits("PodInitializing")}
    seen = observation(pod_of(phase="Pending", containers=creating))
    assert (seen.phase, seen.reason) == (Phase.STARTING, None)
    assert observation(pod_of(phase="Pending")).phase is Phase.STARTING
    half = {"renderer": UP, "back-end": waits("ContainerCreating")}
    assert observation(pod_of(phase="Running", containers=half)).phase is Phase.STARTING
    sidecar = {"renderer": UP, "back-end": UP, "istio-proxy": waits("ContainerCreating")}
    assert observation(pod_of(phase="Running", containers=sidecar)).phase is Phase.RUNNING


@pytest.mark.parametrize("address", ["", "evil.example.org", "10.0.0.1:80", "a b", "::1%eth0x y"])
def test_an_address_that_is_none_is_not_dialled(address: str) -> None:
    both = {"renderer": UP, "back-end": UP}
    seen = observation(pod_of(phase="Running", podIP=address, containers=both))
    assert (seen.phase, seen.endpoints) == (Phase.STARTING, {})


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ({"reason": "DeadlineExceeded"}, "walltime", "limit of time"),
        ({"reason": "Evicted", "message": "low on memory"}, "evicted", "evicted"),
        ({"reason": "NodeLost"}, "node_failed", "lost"),
        ({"reason": "OutOfcpu"}, "node_failed", "no room"),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True"}], "reason": "Evicted"},
            "evicted",
            "evicted",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "DeletionByTaintManager",
                    }
                ],
                "containers": {"renderer": down(143)},
            },
            "node_failed",
            "lost",
        ),
        (
            {
                "reason": "Terminated",
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "TerminationByKubelet",
                    }
                ],
            },
            "node_failed",
            "shut down",
        ),
        ({"deleted": "2026-11-22T00:00:00Z"}, "cancelled_by_administrator", "deleted"),
        ({"containers": {"renderer": down(137, "OOMKilled")}}, "out_of_memory", "more memory"),
        ({"containers": {"renderer": down(1, message="no GPU\n")}}, "exited", "exit code 1"),
        ({"containers": {"renderer": down(127)}}, "program_missing", "not in its image"),
        (
            {
                "containers": {
                    "renderer": down(
                        128,
                        "StartError",
                        'runc failed: exec: "x": executable file not found in $PATH: unknown',
                    )
                }
            },
            "program_missing",
            "not in its image",
        ),
        (
            {
                "containers": {
                    "renderer": down(
                        128, "StartError", 'exec: "/x": stat /x: no such file or directory: unknown'
                    )
                }
            },
            "program_missing",
            "not in its image",
        ),
        # As crun says it.
        (
            {
                "containers": {
                    "renderer": down(
                        128,
                        "StartError",
                        "executable file `x` not found in $PATH: No such file or directory",
                    )
                }
            },
            "program_missing",
            "not in its image",
        ),
        (
            {
                "containers": {
                    "renderer": down(128, "StartError", 'exec: "/x": permission denied: unknown')
                }
            },
            "bad_container",
            "cannot be started",
        ),
        ({"containers": {"renderer": down(139)}}, "killed", "SIGSEGV"),
        (
            {"containers": {"renderer": down(0, at=9), "back-end": down(2, at=3)}},
            "exited",
            "back_end",
        ),
        # Ended by us, because the renderer was gone: that is why, not the deadline.
        (
            {
                "reason": "DeadlineExceeded",
                "deadline": 1,
                "containers": {"renderer": down(3, at=3), "back-end": down(143, at=4)},
            },
            "exited",
            "renderer",
        ),
        ({}, "exited", "failed"),
    ],
)
def test_why_a_pod_failed(status: dict[str, Any], code: str, words: str) -> None:
    seen = observation(pod_of(phase="Failed", **status))
    assert seen.phase is Phase.ENDED
    assert seen.reason.code == code
    assert words in seen.reason.message


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"reason": "NodeLost"}, "node_failed"),
        ({"conditions": [("DeletionByTaintManager", "True")]}, "node_failed"),
        ({"conditions": [("DeletionByTaintManager", "False")]}, None),
        ({"conditions": [("EvictionByEvictionAPI", "True")]}, None),
        ({"reason": "NodeLost", "conditions": [("EvictionByEvictionAPI", "True")]}, "evicted"),
        ({}, None),
    ],
)
def test_a_pod_that_is_deleted_on_a_lost_node_is_over(
    how: dict[str, Any], code: str | None
) -> None:
    """Kubernetes shows it as running until somebody removes its node."""
    how["conditions"] = [
        {"type": "DisruptionTarget", "status": status, "reason": reason}
        for reason, status in how.get("conditions", ())
    ]
    up = {"renderer": UP, "back-end": UP}
    pod = pod_of(phase="Running", deleted="2026-11-22T00:00:00Z", containers=up, **how)
    seen = observation(pod)
    assert seen.phase is (Phase.ENDED if code else Phase.RUNNING)
    assert (seen.reason.code if seen.reason else None) == code


def test_a_pod_that_has_lost_a_service_is_over() -> None:
    half = {"renderer": UP, "back-end": down(0, "Completed")}
    seen = observation(pod_of(phase="Running", containers=half))
    assert (seen.phase, seen.reason.code) == (Phase.ENDED, "completed")
    going = observation(pod_of(phase="Running", containers=half, deleted="2026-11-22T00:00:00Z"))
    assert going.phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("status", "message", "code", "hidden"),
    [
        (401, "Unauthorized", "bad_credentials", "Unauthorized"),
        (
            403,
            'pods is forbidden: User "system:serviceaccount:a:b" cannot create resource',
            "not_permitted",
            "serviceaccount",
        ),
        (403, 'pods "x" is forbidden: exceeded quota: q, requested: cpu=9', "limit_reached", ""),
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted"', "not_permitted", ""),
        (403, "maximum memory usage per Container is 1Gi", "impossible_resources", ""),
        (403, 'error looking up service account a/b: serviceaccount "b" not found', "bad_s", ""),
        (404, 'namespaces "nosuch" not found', "bad_namespace", ""),
        (422, 'Pod "x" is invalid: spec.containers[0].image: Required value', "bad_resource", ""),
        (400, "something else", "engine_refused", ""),
        (403, "failed quota: q: must specify limits.memory for: renderer", "bad_resource", ""),
        (403, "no PriorityClass with name x was found", "bad_resource", ""),
        (403, 'pod rejected: RuntimeClass "x" not found', "bad_resource", ""),
        (
            422,
            'Pod "x" is invalid: spec.securityContext.runAsUser: Invalid value: -1: must be '
            "between 0 and 2147483647, inclusive",
            "bad_resource",
            "",
        ),
        (413, "Request entity too large: limit is 3145728", "bad_resource", ""),
        (500, "etcdserver: request is too large", "bad_resource", ""),
        (500, 'failed calling webhook "w": Post "https://10.0.0.1/x"', "engine_u", "10.0.0.1"),
        (429, "too many requests", "engine_unreachable", ""),
    ],
)
def test_refusals(status: int, message: str, code: str, hidden: str) -> None:
    error = refusal(status, Status("Status", message, "", status))
    assert error.code.startswith(code)
    native = getattr(error, "native", "")
    if hidden:
        assert hidden not in error.detail + native
    else:
        assert message in error.detail


def test_selectors() -> None:
    found = {"metadata": {"name": "x", "labels": {"a": "1", "b": "2"}}, "spec": {"nodeName": "n"}}
    for text in ("a=1", "a==1,b=2", "a", "!c", "a in (1, 3),b notin (3)", "c!=1", ""):
        assert Selector(text)(found), text
    for text in ("a=2", "c", "!a", "a in (2,3)", "b notin (2)"):
        assert not Selector(text)(found), text
    assert Selector("", "metadata.name=x,spec.nodeName=n")(found)
    assert not Selector("", "spec.nodeName!=n")(found)


def test_references_are_expanded_as_kubernetes_does() -> None:
    assert expand("$(A)$$(A)$(B)$A$$$$", {"A": "1"}) == "1$(A)$(B)$A$$"
