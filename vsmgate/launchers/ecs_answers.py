"""What ECS answers, as values, and what its refusals mean. Pure.

The shapes are those of the API reference (AmazonECS/latest/APIReference, version
2014-11-13); of CloudWatch Logs only what `GetLogEvents` answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from vsmgate.errors import EngineError, EngineRefused, EngineUnreachable

__all__ = [
    "Cluster",
    "Clusters",
    "Container",
    "Defined",
    "Described",
    "Events",
    "Failed",
    "Listed",
    "Ran",
    "Stopped",
    "Task",
]
__all__ += ["decode", "failure", "is_credentials", "public", "unplaced"]

T = TypeVar("T")


class _Camel(Struct, frozen=True, rename="camel"):
    """ECS's names are in camel case; what we do not know is passed over."""


class Pair(_Camel, frozen=True):
    """A name with its value."""

    name: str = ""
    value: str = ""


class Attachment(_Camel, frozen=True):
    """A network interface, or something else that is attached."""

    type: str = ""
    status: str = ""
    details: tuple[Pair, ...] = ()


class Container(_Camel, frozen=True):
    """One container; ``exit_code``: once it ended. ``reason``: the agent's words."""

    name: str = ""
    last_status: str = ""
    exit_code: int | None = None
    reason: str | None = None


class ContainerOverride(_Camel, frozen=True):
    """What was overridden in a container."""

    name: str = ""
    environment: tuple[Pair, ...] = ()


class Overrides(_Camel, frozen=True):
    """What was overridden in a task."""

    container_overrides: tuple[ContainerOverride, ...] = ()


class Task(_Camel, frozen=True):
    """One task. Times are Unix seconds."""

    task_arn: str
    last_status: str = ""
    desired_status: str = ""
    started_by: str = ""
    stop_code: str = ""
    stopped_reason: str = ""
    created_at: float | None = None
    started_at: float | None = None
    attachments: tuple[Attachment, ...] = ()
    containers: tuple[Container, ...] = ()
    overrides: Overrides = Overrides()


class Failed(_Camel, frozen=True):
    """One of ``failures``."""

    arn: str = ""
    reason: str = ""
    detail: str = ""


class Ran(_Camel, frozen=True):
    """The answer to ``RunTask``."""

    tasks: tuple[Task, ...]
    failures: tuple[Failed, ...] = ()


class Described(_Camel, frozen=True):
    """The answer to ``DescribeTasks``."""

    tasks: tuple[Task, ...]


class Stopped(_Camel, frozen=True):
    """The answer to ``StopTask``."""

    task: Task


class Listed(_Camel, frozen=True):
    """The answer to ``ListTasks``."""

    task_arns: tuple[str, ...]


class Cluster(_Camel, frozen=True):
    """One cluster; ``machines``: container instances."""

    status: str = "MISSING"
    machines: int = msgspec.field(name="registeredContainerInstancesCount", default=0)


class Clusters(_Camel, frozen=True):
    """The answer to ``DescribeClusters`` for one."""

    clusters: tuple[Cluster, ...]


class _Container(_Camel, frozen=True):
    name: str = ""


class Definition(_Camel, frozen=True):
    """One task definition."""

    status: str = "ACTIVE"
    network_mode: str | None = None
    containers: tuple[_Container, ...] = msgspec.field(name="containerDefinitions", default=())


class Defined(_Camel, frozen=True):
    """The answer to ``DescribeTaskDefinition``."""

    task_definition: Definition


class Event(_Camel, frozen=True):
    """One line that a container wrote."""

    message: str = ""


class Events(_Camel, frozen=True):
    """The answer to ``GetLogEvents``; the events are in the order of time."""

    events: tuple[Event, ...]
    next_backward_token: str | None = None


class _Error(Struct):
    type: str = msgspec.field(name="__type")
    message: str | None = None
    Message: str | None = None  # some of AWS's fronts spell it so
    resource_ids: list[str] = msgspec.field(name="resourceIds", default_factory=list)


def decode(body: bytes, into: type[T]) -> T:
    """Return an answer; raises `EngineUnreachable` for what is none."""
    try:
        return msgspec.json.decode(body, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise EngineUnreachable("ECS gave an answer that is not its own.") from None


# -- refusals ------------------------------------------------------------------------------

_PASSING = re.compile(
    "throttl|too ?many ?requests|rate exceeded|request ?limit|slow ?down|bandwidth|"
    "server ?exception|internal ?(failure|error|server)|unavailable|request ?timeout",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(
    "ExpiredToken|UnrecognizedClient|InvalidSignature|SignatureDoesNotMatch|IncompleteSignature|"
    "InvalidClientTokenId|MissingAuthenticationToken|RequestExpired|InvalidToken|AuthFailure|"
    "OptInRequired|NotAuthorized|InvalidAccessKeyId",
)
_PERMISSION = re.compile("AccessDenied|UnauthorizedOperation|Blocked|not authorized")
#: What type and message of the others say -> reason code; else ``engine_refused``.
_REFUSALS = (
    ("ClusterNotFound", "no_cluster"),
    ("task was not found|task not found", "no_task"),
    ("ResourceNotFound", "not_found"),
    ("Platform", "bad_platform"),
    ("override.*not a container|container named|not a container in", "bad_container"),
    (r"no container instances", "impossible_resources"),
    ("network ?configuration|subnet|security ?group|public ip|network ?mode", "bad_network"),
    ("capacity ?provider|launch type", "bad_capacity_provider"),
    (
        r"task ?definition.*(not found|inactive|does not|unable)|unable to describe task|"
        r"revision is missing",
        "no_task_definition",
    ),
    ("limit", "limit_reached"),
    ("fargate configuration|cpu|memory|resource", "bad_resource"),
)
_ARN = re.compile(r"arn:aws[^\s,'\"()]*[:/]([^\s:/,'\"()]+)")
_ACCOUNT = re.compile(r"(?<![0-9a-f-])[0-9]{12}(?![0-9a-f])")


def public(text: str) -> str:
    """Return AWS's words as users may read them: one line, without ARNs and account numbers."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return _ACCOUNT.sub("(account)", _ARN.sub(r"\1", line))[:500]


def failure(status: int, body: bytes) -> tuple[EngineError, str, list[str]]:
    """Return the error for an answer that is none, AWS's own words, and the ids it names.

    The words are for the operator's log: they may name roles and the account.
    """
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A proxy's page, a portal's, a load balancer's: not AWS's word on the question.
        words = f"status {status}: {body[:200]!r}"
        return EngineUnreachable(f"ECS cannot be asked now: status {status}."), words, []
    kind = error.type.rpartition("#")[2].partition(":")[0][:100]
    message = (error.message or error.Message or "")[:2000]
    words = f"{kind}: {message}"
    return _meaning(status, kind, message), words, error.resource_ids


def is_credentials(error: EngineError) -> bool:
    """Return whether other credentials might do."""
    return error.code == "bad_credentials"


def unplaced(failures: Sequence[Failed]) -> EngineError:
    """Return the error for a ``RunTask`` that ran nothing.

    ECS keeps no queue: what it cannot place now it forgets. That is a refusal, because an
    engine that counts as unreachable would leave all other jobs of the launcher unwatched.
    """
    if not failures:
        return EngineUnreachable("ECS ran nothing, and does not say why.")
    reason = public(f"{failures[0].reason} {failures[0].detail}")
    if re.search("above your limit|limit", reason, re.IGNORECASE):
        detail = f"A limit of the AWS account is reached: {reason}"
        return EngineRefused(detail, code="limit_reached", native=reason)
    if re.match("RESOURCE|AGENT|Capacity is unavailable|EMPTY CAPACITY", reason, re.IGNORECASE):
        detail = f"ECS has no room for the task now ({reason}), and keeps no queue. Try later."
        return EngineRefused(detail, code="no_capacity", native=reason)
    if re.match("ATTRIBUTE|LOCATION|INACTIVE|MemberOf", reason, re.IGNORECASE):
        detail = f"No machine of the cluster fits what the task asks for ({reason})."
        return EngineRefused(detail, code="impossible_resources", native=reason)
    return EngineRefused(f"ECS did not run the task: {reason}", native=reason)


def _meaning(status: int, kind: str, message: str) -> EngineError:
    if status >= 500 or _PASSING.search(kind) or re.search("rate exceeded", message, re.IGNORECASE):
        return EngineUnreachable(f"ECS cannot be asked now: {kind or status}.")
    if _CREDENTIALS.search(kind):
        detail = "AWS refuses the gateway's credentials; its operator has to renew them."
        return EngineRefused(detail, code="bad_credentials", native=kind)
    if _PERMISSION.search(kind) or _PERMISSION.search(message):
        detail = "The gateway lacks a permission in AWS; its operator finds in the log which."
        return EngineRefused(detail, code="not_permitted", native=kind)
    words = public(f"{kind}: {message}")
    for pattern, code in _REFUSALS:
        if re.search(pattern, words, re.IGNORECASE):
            return EngineRefused(f"ECS refused: {words}", code=code, native=words)
    return EngineRefused(f"ECS refused: {words}", native=words)
