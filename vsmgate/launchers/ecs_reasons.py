"""ECS's words, and what they are here. Pure; the tables are in docs/engines/ecs.md too."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address

from vsmgate.launchers.ecs_answers import Container, Task, public
from vsmgate.launchers.ecs_ref import EcsRef
from vsmgate.model import Endpoint, Observation, Phase, QueuePlace, Reason

__all__ = ["address_of", "observation"]

#: What the agent or ECS says -> code, sentence; the first that fits.
_WORDS = (
    (
        "CannotPull|ImagePull|pull access denied|manifest unknown",
        "image_pull",
        "A container's image cannot be pulled: its name is wrong, or the task may not.",
    ),
    ("OutOfMemory", "out_of_memory", "A container used more memory than it was given."),
    (
        "executable file not found|CannotStartContainer.*no such file",
        "program_missing",
        "A container's program is not in its image.",
    ),
    ("Capacity is unavailable", "no_capacity", "ECS found no room for the task."),
    (
        r"Host EC2|TerminationNotice|InfrastructureHealth|maintenance on the underlying|"
        "agent disconnected",
        "node_failed",
        "The machine that the task ran on went away.",
    ),
    ("SpotInterruption|Spot", "preempted", "The spot capacity that the task ran on was taken."),
    ("health checks?", "unhealthy", "A container failed its health checks."),
)
_WAITING = Reason("queued_resources", "ECS makes room for the task, and connects it.")
_STARTING = Reason("starting", "ECS pulls the images, and starts the containers.")


def address_of(task: Task) -> str:
    """Return the private address of an awsvpc task's interface; empty without a good one."""
    for attachment in task.attachments:
        if attachment.type not in ("ElasticNetworkInterface", "eni"):
            continue
        for detail in attachment.details:
            if detail.name == "privateIPv4Address":
                try:
                    return str(IPv4Address(detail.value))
                except AddressValueError:
                    return ""
    return ""


def observation(task: Task, ref: EcsRef) -> Observation:
    """Return what a poll says of a task.

    DEPROVISIONING counts as ended: the containers are gone, only the interface goes yet.
    """
    match task.last_status:
        case "STOPPED" | "DEPROVISIONING" | "DELETED":
            return Observation(Phase.ENDED, reason=_end_reason(task, ref))
        case "PROVISIONING":
            waits = Reason(_WAITING.code, _WAITING.message, task.last_status)
            place = QueuePlace(reason=_WAITING.code)
            return Observation(Phase.QUEUED, reason=waits, queue=place)
        case "RUNNING":
            host = address_of(task)
            places = ref.places if host else ()
            return Observation(Phase.RUNNING, {p.service: Endpoint(host, p.port) for p in places})
    if task.started_at is not None and task.last_status not in ("PENDING", "ACTIVATING"):
        return Observation(Phase.RUNNING)  # it is on its way out
    said = " ".join(container.reason or "" for container in task.containers)
    why = _by_words(said) or _by_words(task.stopped_reason) or _STARTING
    native = public(" ".join(filter(None, [task.last_status, said])))
    return Observation(Phase.STARTING, reason=Reason(why.code, why.message, native))


def _by_words(text: str) -> Reason | None:
    for pattern, code, sentence in _WORDS:
        if re.search(pattern, text, re.IGNORECASE):
            return Reason(code, sentence)
    return None


def _end_reason(task: Task, ref: EcsRef) -> Reason:
    native = _native(task)
    if found := _by_words(f"{task.stop_code} {task.stopped_reason}"):
        return Reason(found.code, found.message, native)
    if task.stop_code in ("UserInitiated", "ServiceSchedulerInitiated"):
        sentence = "The task was stopped in ECS (StopTask)."
        return Reason("cancelled_by_administrator", sentence, native)
    if found := _by_words(" ".join(container.reason or "" for container in task.containers)):
        return Reason(found.code, found.message, native)
    if task.stop_code == "TaskFailedToStart":
        return Reason("start_failed", "ECS could not start the task.", native)
    services = {place.container: f"Service {place.service}" for place in ref.places}
    culprit = _culprit(task)
    if culprit is None:
        return Reason("start_failed", "The task ended, and ECS does not say why.", native)
    who = services.get(culprit.name, f"Container {public(culprit.name)}")
    return _exit_reason(who, culprit.exit_code or 0, native)


def _culprit(task: Task) -> Container | None:
    """Return the container whose end ended the task.

    ECS does not tell which was first. It ends the others by SIGTERM and SIGKILL, so one with
    another exit code is it; a fault before a success.
    """
    ended = [container for container in task.containers if container.exit_code is not None]
    ranks: Mapping[int, int] = {143: 2, 137: 2, 0: 1}
    return min(ended, key=lambda container: ranks.get(container.exit_code or 0, 0), default=None)


def _exit_reason(who: str, status: int, native: str) -> Reason:
    if status == 0:
        return Reason("completed", f"{who} ended by itself (exit code 0).", native)
    look = "look at the job's logs"
    if status == 127:
        sentence = (
            f"The program of {who[0].lower()}{who[1:]} was not found (exit code 127); {look}."
        )
        return Reason("program_missing", sentence, native)
    if status <= 128:
        return Reason("exited", f"{who} ended with exit code {status}; {look}.", native)
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        name = f"signal {status - 128}"
    hint = "perhaps it ran out of memory; " if status == 137 else ""
    return Reason("killed", f"{who} was killed by {name}; {hint}{look}.", native)


def _native(task: Task) -> str:
    parts = [": ".join(filter(None, [task.stop_code, task.stopped_reason]))]
    for container in task.containers:
        code = "" if container.exit_code is None else f"exit code {container.exit_code}"
        if said := ", ".join(filter(None, [code, container.reason])):
            parts.append(f"{container.name}: {said}")
    return public("; ".join(filter(None, parts)))
