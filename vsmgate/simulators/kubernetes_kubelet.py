"""The scheduler and the only node of a simulated cluster.

Level-triggered, as the real ones: whatever changes, the pod is looked at and what is missing
is done. Every pod has an address of its own, 127.x.y.z, so that fixed ports do not collide.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from signal import SIGKILL
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorProcess, IReactorTime

from vsmgate.simulators.kubernetes_node import container_state, expand, node_object, plain_image
from vsmgate.simulators.kubernetes_objects import ApiError, Change, Objects, Selector
from vsmgate.simulators.kubernetes_runs import Run
from vsmgate.simulators.kubernetes_scheduler import no_room
from vsmgate.simulators.kubernetes_schema import normal_status, strategic_merge

__all__ = ["Kubelet"]

Object = dict[str, Any]

NODE = "simulated"
OVER = ("Succeeded", "Failed")


class Kubelet:
    """``images``: name -> what runs without a command. ``room``: resource -> what there is.

    ``folder``: a folder for each container: its log, and where it starts.
    """

    def __init__(
        self,
        reactor: Any,
        objects: Objects,
        wall: Callable[[], float],
        folder: Path,
        images: Mapping[str, tuple[str, ...]],
        room: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self._reactor = IReactorProcess(reactor)
        self._clock = IReactorTime(reactor)
        self._objects = objects
        self._wall = wall
        self._images = images
        self._runs: dict[str, Run] = {}
        self._addresses = 0
        self._stopping = False
        objects.create("nodes", "", node_object(NODE, room))
        objects.watchers.append(self._changed)

    def logs(self, pod: Object, container: str) -> bytes:
        """Return all that a container wrote."""
        run = self._runs.get(pod["metadata"]["uid"])
        if run is None or container not in run.containers:
            name = pod["metadata"]["name"]
            told = f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating'
            raise ApiError(400, told)
        return self._log(pod, container)

    def place(self, pod: Object, container: str) -> Path:
        """Return the folder of a container."""
        return self.folder / str(pod["metadata"]["uid"]) / container

    def _log(self, pod: Object, container: str) -> bytes:
        return (self.place(pod, container) / "log").read_bytes()

    async def stop(self) -> None:
        """Kill all processes."""
        self._stopping = True
        ends: list[Deferred[None]] = []
        for run in self._runs.values():
            run.cancel()
            if run.left:
                run.over = Deferred()
                ends.append(run.over)
                run.kill(SIGKILL)
        await DeferredList(ends)

    # -- what is to be done ------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        if change.resource == "pods":
            meta = change.object["metadata"]
            self._later(0, meta["namespace"], meta["name"], meta["uid"])
        if change.resource == "secrets" or change.type == "DELETED":
            self._look_at_all()

    def _look_at_all(self) -> None:
        for pod in self._objects.list("pods", "", Selector()):
            meta = pod["metadata"]
            self._later(0, meta["namespace"], meta["name"], meta["uid"])

    def _later(self, seconds: float, namespace: str, name: str, uid: str) -> None:
        self._clock.callLater(seconds, self._look, namespace, name, uid)

    def _look(self, namespace: str, name: str, uid: str) -> None:
        if self._stopping:
            return
        run = self._runs.get(uid)
        try:
            pod = self._objects.get("pods", namespace, name)
        except ApiError:
            if run is not None:
                run.kill(SIGKILL)
            return
        meta, spec = pod["metadata"], pod["spec"]
        if meta["uid"] != uid or pod["status"]["phase"] in OVER:
            return
        if not spec.get("nodeName"):
            self._schedule(pod)
        elif meta.get("deletionTimestamp"):
            if run is None:
                self._objects.remove("pods", namespace, name)
            else:
                run.end(float(meta["deletionGracePeriodSeconds"]), "")
        elif run is None:
            self._start(pod)
        elif "activeDeadlineSeconds" in spec:
            started = datetime.fromisoformat(pod["status"]["startTime"]).timestamp()
            run.expire(max(0.0, started + spec["activeDeadlineSeconds"] - self._wall()))

    # -- scheduling --------------------------------------------------------------------

    def _schedule(self, pod: Object) -> None:
        node = self._objects.get("nodes", "", NODE)
        others = self._objects.list("pods", "", Selector())
        why = no_room(pod, node, [one for one in others if one["status"]["phase"] not in OVER])
        scheduled = {"type": "PodScheduled", "status": "False" if why else "True"}
        scheduled["lastTransitionTime"] = self._objects.now()
        if why:
            known = {c["type"]: c for c in pod["status"].get("conditions") or ()}
            if known.get("PodScheduled", {}).get("message") == why:
                return
            scheduled |= {"reason": "Unschedulable", "message": why}
            self._event(pod, "FailedScheduling", why, "Warning")
        else:
            pod["spec"]["nodeName"] = NODE
            self._event(pod, "Scheduled", f"Successfully assigned to {NODE}")
        self._update(pod, {"conditions": [scheduled]})

    # -- running -----------------------------------------------------------------------

    def _start(self, pod: Object) -> None:
        """Start all containers, or say why not; then it is looked at again."""
        waits = {c["name"]: self._why_not(pod, c) for c in pod["spec"]["containers"]}
        if any(waits.values()):
            states = [
                container_state(c, "waiting", waits[c["name"]] or {"reason": "ContainerCreating"})
                for c in pod["spec"]["containers"]
            ]
            self._update(pod, {"containerStatuses": states})
            return
        meta = pod["metadata"]
        self._addresses += 1
        n = (os.getpid() * 256 + self._addresses) % (120 * 2**16)
        address = f"127.{8 + n // 65536}.{n // 256 % 256}.{n % 256}"
        run = self._runs[meta["uid"]] = Run(
            self.ended, self._clock, meta["namespace"], meta["name"]
        )
        for container in pod["spec"]["containers"]:
            run.states[container["name"]] = self._run(pod, container, address, run)
        self._event(pod, "Started", "Started the containers")
        places = {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "127.0.0.1"}
        self.report(run, {**places, "startTime": self._objects.now()})

    def _why_not(self, pod: Object, container: Object) -> Object | None:
        image = plain_image(container["image"])
        if image not in self._images:
            states = pod["status"].get("containerStatuses") or [{}]
            before = [s.get("state", {}).get("waiting", {}).get("reason") for s in states]
            if "ErrImagePull" in before or "ImagePullBackOff" in before:
                told = f'Back-off pulling image "{container["image"]}"'
                return {"reason": "ImagePullBackOff", "message": told}
            told = f'failed to pull image "{container["image"]}": not found'
            self._event(pod, "Failed", told, "Warning")
            return {"reason": "ErrImagePull", "message": told}
        try:
            self._environment(pod, container, "")
        except ApiError as error:
            return {
                "reason": "CreateContainerConfigError",
                "message": str(error).replace("secrets", "secret"),
            }
        return None

    def _run(self, pod: Object, container: Object, address: str, run: Run) -> Object:
        name = container["name"]
        folder = self.place(pod, name)
        environment = self._environment(pod, container, address)
        argv = list(container.get("command") or self._images[plain_image(container["image"])])
        argv = [expand(part, environment) for part in [*argv, *(container.get("args") or ())]]
        for mount in container.get("volumeMounts") or ():
            inside = folder / "mounts" / mount["name"]
            inside.mkdir(parents=True, exist_ok=True)
            argv = [str(inside) if part == mount["mountPath"] else part for part in argv]
        try:
            run.start(self._reactor, name, argv, environment, folder)
        except FileNotFoundError as error:
            return self._terminated(container, 128, "StartError", str(error))
        return container_state(container, "running", {"startedAt": self._objects.now()})

    def _environment(self, pod: Object, container: Object, address: str) -> dict[str, str]:
        """Return a container's variables; raises `ApiError` for a secret that is not there."""
        result: dict[str, str] = {}
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            if secret := source.get("secretKeyRef"):
                found = self._objects.get("secrets", pod["metadata"]["namespace"], secret["name"])
                value = base64.b64decode(found["data"][secret["key"]]).decode()
            elif field := source.get("fieldRef"):
                value = {"status.podIP": address}.get(field["fieldPath"], "")
            else:
                value = expand(variable.get("value", ""), result)
            result[variable["name"]] = value
        return result

    def _terminated(self, container: Object, code: int, reason: str, message: str) -> Object:
        how = {"exitCode": code, "reason": reason, "finishedAt": self._objects.now()}
        return container_state(
            container, "terminated", how | ({"message": message} if message else {})
        )

    def ended(self, run: Run, name: str, code: int) -> None:
        """Note the end of a container."""
        if self._stopping:
            return
        try:
            pod = self._objects.get("pods", run.namespace, run.name)
        except ApiError:
            return
        container = next(c for c in pod["spec"]["containers"] if c["name"] == name)
        words = ""
        if code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            words = self._log(pod, name)[-2048:].decode("utf-8", "replace")
        reason = "Error" if code else "Completed"
        run.states[name] = self._terminated(container, code, reason, words)
        self.report(run, {})

    def report(self, run: Run, more: Object) -> None:
        """Write a pod's status; take it away when it is deleted and over."""
        pod = self._objects.get("pods", run.namespace, run.name)
        ends = [state["state"].get("terminated") for state in run.states.values()]
        phase = "Running"
        if all(ends):
            failed = run.why or any(end["exitCode"] for end in ends if end)
            phase = "Failed" if failed else "Succeeded"
            run.cancel()
        ready = {"type": "Ready", "status": str(not any(ends))}
        status = {"phase": phase, "containerStatuses": list(run.states.values()), **more}
        if run.why and phase == "Failed":
            told = "Pod was active on the node longer than the specified deadline"
            status |= {"reason": run.why, "message": told}
        deleted = pod["metadata"].get("deletionTimestamp")
        self._update(pod, {**status, "conditions": [ready]})
        if all(ends):
            if deleted:
                self._objects.remove("pods", run.namespace, run.name)
            self._look_at_all()  # there is room now

    def _update(self, pod: Object, status: Object) -> None:
        pod = strategic_merge(pod, {"status": status})
        pod["status"] = normal_status(pod["status"])
        self._objects.replace("pods", pod)

    def _event(self, pod: Object, reason: str, message: str, type_: str = "Normal") -> None:
        meta, now = pod["metadata"], self._objects.now()
        about = {key: meta[key] for key in ("name", "namespace", "uid")}
        event: Object = {"kind": "Event", "apiVersion": "v1", "type": type_, "count": 1}
        event["metadata"] = {"name": f"{meta['name']}.{self._objects.version:x}"}
        event["involvedObject"] = {"kind": "Pod", "apiVersion": "v1", **about}
        event |= {"reason": reason, "message": message, "source": {"component": "kubelet"}}
        event |= {"firstTimestamp": now, "lastTimestamp": now}
        self._objects.create("events", meta["namespace"], event)
