"""What the Kubernetes API answers, as far as it matters here. Pure.

Shapes: the Kubernetes API reference, core/v1 Pod and meta/v1 Status. What is not named is
skipped, and everything may be missing.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import Struct

from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.hands.http_client import HttpAnswer

__all__ = [
    "BAD_CREDENTIALS",
    "Anything",
    "Condition",
    "ContainerStatus",
    "Metadata",
    "Pod",
    "PodList",
    "Review",
    "Status",
]
__all__ += ["Terminated", "WatchEvent", "decode", "read_status", "refusal", "words_of"]

T = TypeVar("T")

BAD_CREDENTIALS = "Kubernetes does not accept the gateway's credentials. Tell its operator."


class Metadata(Struct, frozen=True, rename="camel"):
    """Of an object, or of a list of them (``resource_version``, ``cont``)."""

    name: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None
    cont: str = msgspec.field(name="continue", default="")


class Condition(Struct, frozen=True):
    """One of a pod's conditions."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None


class Waiting(Struct, frozen=True):
    """Why a container does not run yet."""

    reason: str | None = None
    message: str | None = None


class Terminated(Struct, frozen=True, rename="camel"):
    """How a container ended."""

    exit_code: int = 0
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    finished_at: str | None = None


class ContainerState(Struct, frozen=True):
    """One of the three."""

    waiting: Waiting | None = None
    running: dict[str, str | None] | None = None
    terminated: Terminated | None = None


class ContainerStatus(Struct, frozen=True):
    """What the node's kubelet says of a container."""

    name: str = ""
    state: ContainerState = ContainerState()


class PodStatus(Struct, frozen=True, rename="camel"):
    """What became of a pod."""

    phase: str = ""
    reason: str | None = None
    message: str | None = None
    pod_ip: str | None = msgspec.field(name="podIP", default=None)
    start_time: str | None = None
    conditions: list[Condition] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None


class PodSpec(Struct, frozen=True, rename="camel"):
    """What was asked for, as far as we look at it again."""

    node_name: str | None = None
    active_deadline_seconds: int | None = None


class Pod(Struct, frozen=True):
    """A pod."""

    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class PodList(Struct, frozen=True):
    """A page of pods."""

    metadata: Metadata
    items: list[Pod] | None


class Allowed(Struct, frozen=True):
    """What was found of a right."""

    allowed: bool


class Review(Struct, frozen=True):
    """The answer to a SelfSubjectAccessReview."""

    status: Allowed


class Anything(Struct, frozen=True):
    """Any object of the API, of which only that matters: a proxy's page is none."""

    kind: str


class Status(Struct, frozen=True):
    """What an error's body is."""

    kind: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0


class _Thing(Struct, frozen=True):
    metadata: Metadata = Metadata()
    code: int = 0


class WatchEvent(Struct, frozen=True):
    """One line of a watch; ``object`` is a pod, or a Status when ``type`` is ERROR."""

    type: str
    object: _Thing


def decode(answer: HttpAnswer, shape: type[T]) -> T:
    """Return a good answer's body; raises `EngineUnreachable` when it is something else."""
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineUnreachable(
            f"What answers for the Kubernetes API (HTTP {answer.status}) does not speak it."
        ) from None


def read_status(answer: HttpAnswer) -> Status | None:
    """Return the Status object of an error; None when it is no answer of Kubernetes."""
    try:
        status = msgspec.json.decode(answer.body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return status if status.kind == "Status" else None


#: Pattern over a refusal's message -> code. The others give ``engine_refused``.
_REFUSALS = (
    (" is invalid: | cannot be handled as a |too large", "bad_resource"),
    ("exceeded quota", "limit_reached"),
    ("is being terminated", "bad_namespace"),
    ("violates PodSecurity|securityContext|security context", "not_permitted"),
    ("serviceaccount|service account", "bad_service_account"),
    ("maximum|minimum|LimitRange|limit to request ratio", "impossible_resources"),
    ("must specify|PriorityClass|RuntimeClass|Invalid value", "bad_resource"),
)


def refusal(status: int, told: Status) -> EngineRefused | EngineUnreachable:
    """Return the error for a question to create something that Kubernetes did not take.

    What names the gateway's own account is not told: it is the operator's.
    """
    words = words_of(told.message)
    if status == 401:
        return EngineRefused(BAD_CREDENTIALS, code="bad_credentials")
    if status == 403 and re.search(r"User \"", told.message):
        sentence = "The gateway may not make pods or secrets there. Tell its operator."
        return EngineRefused(sentence, code="not_permitted")
    if status == 404:
        sentence = f"Kubernetes cannot run it there: {words}."
        return EngineRefused(sentence, code="bad_namespace", native=words)
    too_large = "request is too large" in words  # etcd's own limit, told with 500
    if too_large or status in (400, 403, 405, 413, 415, 422):  # not 409: somebody was quicker
        found = (code for pattern, code in _REFUSALS if re.search(pattern, told.message))
        code = next(found, "engine_refused")
        return EngineRefused(f"Kubernetes refused the pod: {words}", code=code, native=words)
    if status >= 500:  # its words name nodes, webhooks: for the log only
        words = "it failed; tell its operator"
    return EngineUnreachable(f"Kubernetes cannot do it now (HTTP {status}): {words}")


def words_of(text: str | None) -> str:
    """Return an engine's words as one line of bounded length."""
    line = " ".join((text or "").split())
    return "".join(c if c.isprintable() else " " for c in line)[:500]
