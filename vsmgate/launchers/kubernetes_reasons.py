"""Kubernetes' words, and what they are here. Pure; docs/engines/kubernetes.md has the tables."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from datetime import datetime

import msgspec

from vsmgate.launchers.kubernetes_answers import (
    Condition,
    ContainerStatus,
    Pod,
    Terminated,
    words_of,
)
from vsmgate.launchers.kubernetes_pod import SERVICES
from vsmgate.model import Endpoint, Observation, Phase, Port, QueuePlace, Reason
from vsmgate.targets import read_host

__all__ = ["observation", "places_of", "vanished"]

#: What a deadline of one second means: we ended the pod, because a service of it had ended.
ENDED_BY_US = 1

#: Why a container waits -> code, sentence. The others are steps on the way.
_WAITS = {
    "InvalidImageName": ("bad_image", "The image of {name} is no good name"),
    **dict.fromkeys(
        (
            "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull",
            "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed",
        ),
        (
            "image_pull",
            "The image of {name} cannot be pulled: it is not there, its name is wrong, or the "
            "cluster has no right to it",
        ),
    ),
    **dict.fromkeys(
        ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
        ("bad_container", "Kubernetes cannot make the container of {name} as it is asked for"),
    ),
}  # fmt: skip

#: A pod's own reason -> code, sentence.
_ENDS = {
    "DeadlineExceeded": ("walltime", "The job reached its limit of time."),
    "Evicted": ("evicted", "The pod was evicted: its node ran short of something."),
    "Preempting": ("preempted", "The pod was ended to make room for another."),
    "Preempted": ("preempted", "The pod was ended to make room for another."),
    "NodeLost": ("node_failed", "The pod's node is lost."),
    "NodeShutdown": ("node_failed", "The pod's node was shut down."),
    "Shutdown": ("node_failed", "The pod's node was shut down."),
    "Terminated": ("node_failed", "The pod's node was shut down."),
    **dict.fromkeys(
        ("OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfephemeral-storage", "NodeAffinity"),
        ("node_failed", "The node that was chosen had no room any more; start it again."),
    ),
    "UnexpectedAdmissionError": ("node_failed", "The node did not take the pod."),
}
#: Why a pod is being disrupted (its condition DisruptionTarget) -> code, sentence.
_DISRUPTIONS = {
    "PreemptionByScheduler": ("preempted", "The pod was ended to make room for another."),
    "PreemptionByKubeScheduler": ("preempted", "The pod was ended to make room for another."),
    "EvictionByEvictionAPI": ("evicted", "The pod was evicted, as when its node is drained."),
    "DeletionByTaintManager": ("node_failed", "The pod's node is lost or may not run it."),
    "DeletionByPodGC": ("node_failed", "The pod's node is gone."),
    "TerminationByKubelet": ("evicted", "The pod's node ended it: it ran short or shut down."),
}
_DELETED = Reason("cancelled_by_administrator", "The pod was deleted in Kubernetes.")
#: What a container's runtime (runc, crun) says of a program that is not in the image.
_NO_PROGRAM = "(?i)executable file .*not found|exec: .*no such file or directory"
#: Taints that come and go with the state of a node; Kubernetes 1.36 names none any more.
_PASSING = r"node.kubernetes.io/|node.cloudprovider.kubernetes.io/|unschedulable|taint\(s\)"


def places_of(pod: Pod) -> dict[str, tuple[str, int]]:
    """Return service -> its container and port, as `kubernetes_pod` wrote it down."""
    text = (pod.metadata.annotations or {}).get(SERVICES, "{}")
    try:
        return msgspec.json.decode(text, type=dict[str, tuple[str, Port]])
    except msgspec.DecodeError:
        return {}


def observation(pod: Pod) -> Observation:
    """Return what a poll says of a pod that is there."""
    places = places_of(pod)
    names = {container: name for name, (container, _) in places.items()}
    states = [s for s in pod.status.container_statuses or () if s.name in names]
    ended = [(names[s.name], s.state.terminated) for s in states if s.state.terminated]
    if pod.status.phase in ("Succeeded", "Failed"):
        return Observation(Phase.ENDED, reason=_end_reason(pod, ended))
    lost = _disruption(pod) if pod.metadata.deletion_timestamp else None
    if lost is not None and (lost.code == "node_failed" or pod.status.reason == "NodeLost"):
        return vanished(pod)  # nobody may be there to finish its deletion
    if ended and not pod.metadata.deletion_timestamp:
        return Observation(Phase.ENDED, reason=_first_reason(ended))
    if not pod.spec.node_name:
        why = _queue_reason(pod)
        return Observation(Phase.QUEUED, reason=why, queue=QueuePlace(reason=why.code))
    endpoints = _endpoints(pod, places)
    going = pod.metadata.deletion_timestamp is not None and pod.status.phase == "Running"
    waiting = [s for s in states if s.state.running is None]
    if going:
        return Observation(Phase.RUNNING, endpoints)
    if pod.status.phase != "Running" or waiting or not endpoints:
        every = [*(pod.status.init_container_statuses or ()), *states]
        return Observation(Phase.STARTING, reason=next(_wait_reasons(every, names), None))
    return Observation(Phase.RUNNING, endpoints, end_time=_end_time(pod))


def vanished(last: Pod) -> Observation:
    """Return how a pod ended that was there as ``last``, and is not any more."""
    return Observation(Phase.ENDED, reason=_disruption(last) or _DELETED)


def _endpoints(pod: Pod, places: dict[str, tuple[str, int]]) -> dict[str, Endpoint]:
    try:
        host = read_host(pod.status.pod_ip or "")
    except ValueError:
        return {}
    if host is None:  # a pod has an address, never a name
        return {}
    return {name: Endpoint(str(host), port) for name, (_, port) in places.items()}


def _end_time(pod: Pod) -> float | None:
    start, seconds = _moment(pod.status.start_time), pod.spec.active_deadline_seconds
    return None if start is None or seconds is None else start + seconds


def _moment(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return None


def _condition(pod: Pod, type_: str) -> Condition | None:
    return next((c for c in pod.status.conditions or () if c.type == type_), None)


# -- waiting -------------------------------------------------------------------------------


def _wait_reasons(states: list[ContainerStatus], names: dict[str, str]) -> Iterator[Reason]:
    for status in states:
        waiting = status.state.waiting
        if waiting is None or waiting.reason not in _WAITS:
            continue
        code, sentence = _WAITS[waiting.reason]
        native = words_of(": ".join(filter(None, (waiting.reason, waiting.message))))
        if re.search(_NO_PROGRAM, native):
            code, sentence = "program_missing", "The image of {name} has no such program"
        name = names.get(status.name, status.name)
        yield Reason(code, f"{sentence.format(name=name)}.", native)


def _queue_reason(pod: Pod) -> Reason:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is None or scheduled.status != "False":
        return Reason("queued", "Kubernetes has not chosen a node yet.")
    native = words_of(scheduled.message or scheduled.reason)
    if scheduled.reason == "SchedulingGated":
        return Reason("held", "The pod is held by a scheduling gate.", native)
    if re.search("persistentvolumeclaim", native, re.IGNORECASE):
        sentence = "A volume that the job needs is not there, or not where it could run."
        return Reason("bad_volume", sentence, native)
    if _impossible(native):
        sentence = (
            "No node of the cluster, as it is, ever fits what the job asks for: it waits for "
            "ever. Stop it, and ask for less."
        )
        return Reason("impossible_resources", sentence, native)
    if re.search(r"[Ii]nsufficient|[Tt]oo many pods|free ports|max node group", native):
        return Reason("queued_resources", "The job waits for free resources.", native)
    if re.search("taint|unschedulable|unavailable|no nodes available", native):
        sentence = "The nodes that it could run on are down, closed or reserved."
        return Reason("nodes_unavailable", sentence, native)
    return Reason("unschedulable", "Kubernetes finds no node for it now.", native)


def _impossible(native: str) -> bool:
    """Whether no node ever fits: for each the scheduler gave a reason that does not pass.

    Its message is ``0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match ....
    preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.``
    """
    total = re.match(r"0/([0-9]+) nodes are available: ", native)
    if total is None or total[1] == "0":
        return False
    reasons, _, preemption = native[total.end() :].partition("preemption:")
    lasting = 0
    for part in re.findall(r"([0-9]+ [^,]+)", reasons):
        count, _, why = part.partition(" ")
        taint = "taint" in why and not re.search(_PASSING, why)
        if taint or re.search("didn't match|didn't satisfy|affinity", why):
            lasting += int(count)
    useless = re.search(rf"\b{total[1]} Preemption is not helpful", preemption)
    nothing_passing = not re.search(_PASSING, reasons)
    return lasting >= int(total[1]) or bool(useless and nothing_passing)


# -- the end -------------------------------------------------------------------------------


def _end_reason(pod: Pod, ended: list[tuple[str, Terminated]]) -> Reason:
    ours = pod.spec.active_deadline_seconds == ENDED_BY_US
    if reason := _disruption(pod):
        return reason
    if pod.metadata.deletion_timestamp:
        return _DELETED
    if pod.status.reason in _ENDS and not (ours and ended):
        code, sentence = _ENDS[pod.status.reason]
        native = ": ".join(filter(None, (pod.status.reason, pod.status.message)))
        return Reason(code, sentence, words_of(native))
    if ended:
        return _first_reason(ended)
    if pod.status.phase == "Succeeded":
        return Reason("completed", "The job ended by itself.")
    native = words_of(pod.status.message or pod.status.reason)
    return Reason("exited", "The pod failed.", native)


def _disruption(pod: Pod) -> Reason | None:
    target = _condition(pod, "DisruptionTarget")
    if target is not None and target.status == "True" and target.reason in _DISRUPTIONS:
        code, sentence = _DISRUPTIONS[target.reason]
        if target.reason == "TerminationByKubelet":  # for either reason, which the pod tells
            code, sentence = _ENDS.get(pod.status.reason or "", (code, sentence))
        return Reason(code, sentence, words_of(f"{target.reason}: {target.message or ''}"))
    if pod.status.reason == "NodeLost":
        return Reason(*_ENDS["NodeLost"], words_of(pod.status.message))
    return None


def _first_reason(ended: list[tuple[str, Terminated]]) -> Reason:
    """Return why the service that ended first did so; of those at once, one with a fault."""
    name, how = min(
        ended, key=lambda item: (_moment(item[1].finished_at) or 0.0, item[1].exit_code == 0)
    )
    native = words_of(how.message or how.reason)
    look = f"look at the last lines of its output, the job's logs of {name}"
    if how.reason == "OOMKilled":
        sentence = f"Service {name} used more memory than it was given."
        return Reason("out_of_memory", sentence, native)
    if how.exit_code == 0:
        return Reason("completed", f"Service {name} ended by itself (exit code 0).")
    never = how.reason in ("StartError", "ContainerCannotRun")
    if how.exit_code == 127 or (never and re.search(_NO_PROGRAM, native)):
        sentence = f"The program of service {name} is not in its image"
        return Reason("program_missing", f"{sentence} (exit code {how.exit_code}).", native)
    if never:
        sentence = f"The container of {name} cannot be started as it is asked for."
        return Reason("bad_container", sentence, native)
    if how.exit_code <= 128 or how.exit_code > 128 + signal.SIGRTMAX:
        sentence = f"Service {name} ended with exit code {how.exit_code}; {look}."
        return Reason("exited", sentence, native)
    number = how.exit_code - 128
    try:
        signal_name = signal.Signals(number).name
    except ValueError:
        signal_name = f"signal {number}"
    return Reason("killed", f"Service {name} was killed by {signal_name}; {look}.", native)
