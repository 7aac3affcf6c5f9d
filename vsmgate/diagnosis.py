"""What keeps a client from a service: steps, findings, and what usually helps. Pure.

The steps of one service, in order; the first that fails ends it, and those after it are
``skipped``::

    engine     the engine runs the job
    address    the engine, or the job, told where the service is
    name       the host's name has an address
    target     the gateway may connect there
    tcp        the port accepts a connection
    tls        the service proves who it is (of services with ``tls``)
    http, or websocket      it answers the probe's request (of services that are asked one)
    secret     it takes the job's secret (of services with ``secret``)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from vsmgate.lifecycle import State
from vsmgate.model import Health, Job, Reason, Service
from vsmgate.reasons import REASONS, remedy

__all__ = [
    "FINDINGS",
    "NOT_ANSWERING",
    "Diagnosis",
    "Finding",
    "Outcome",
    "Step",
    "answer_finding",
    "engine_step",
    "failure",
    "passed",
    "reason",
    "shown",
    "steps_of",
    "table",
    "unaddressed",
    "whole",
]


class Outcome(StrEnum):
    """How a step went."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Step(Struct, frozen=True):
    """One step. ``code``: what was found (stable); ``seconds``: how long it took."""

    step: str
    outcome: Outcome
    seconds: float | None = None
    code: str = ""
    evidence: str = ""
    remedy: str = ""


class Diagnosis(Struct, frozen=True):
    """All steps of a job's services, by name; ``answers``: none of them failed."""

    job_id: str
    state: State
    answers: bool
    summary: str
    services: dict[str, tuple[Step, ...]]


class Finding(NamedTuple):
    """What a failed step found, and what was seen."""

    code: str
    evidence: str


#: The reason code of a running job of which a service does not answer.
NOT_ANSWERING = "not_answering"

_LISTENS = "Look at the service's logs: does it run, and listen at this port on all addresses?"
_NETWORK = "Ask the operator whether a firewall or the route between gateway and node is closed."
_TLS_NAME = "Give tls.server_name as the certificate has it, or a certificate for this host."

#: code -> (meaning, what usually helps).
FINDINGS: Mapping[str, tuple[str, str]] = {
    "no_address": (
        "neither the engine nor the job told where the service is",
        "Wait a moment; where it stays, look at the job's logs: its script reports its ports.",
    ),
    "name_unknown": (
        "the host's name has no address",
        "The operator adds the node to the gateway's DNS, or sets the launcher's name suffix.",
    ),
    "name_timeout": ("the DNS did not answer", "The operator looks at the gateway's resolver."),
    "target_denied": (
        "the gateway may not connect to the address that the job tells",
        "The operator lists it in the launcher's targets, if it is a node of the engine.",
    ),
    "tcp_refused": ("nothing listens at the port", _LISTENS),
    "tcp_filtered": ("nothing answers at the address, or something drops what is sent", _NETWORK),
    "tcp_unreachable": ("there is no way to the address", _NETWORK),
    "tcp_failed": (
        "the gateway could not connect, for a reason of its own",
        "The operator looks at the gateway's limits: open files, free ports.",
    ),
    "tls_untrusted": (
        "the certificate is of no authority that is trusted",
        "Set tls.ca of the service to its authority's certificates.",
    ),
    "tls_name": ("the certificate is for another name", _TLS_NAME),
    "tls_expired": ("the certificate has expired", "Give the service a new certificate."),
    "tls_missing": (
        "the service does not speak TLS",
        "Take tls out of the use case, or let the service speak it.",
    ),
    "tls_authority": (
        "the certificates of tls.ca cannot be read",
        "The operator checks the file of the use case's tls.ca.",
    ),
    "tls_failed": (
        "the TLS handshake failed",
        "Does the service speak TLS 1.2 or newer at this port? Look at its logs.",
    ),
    "speaks_tls": (
        "the service answers in TLS to a plain request",
        "Give the service a tls table in the use case.",
    ),
    "not_http": (
        "the answer is not HTTP",
        'Check the port; for a service without HTTP use health = { kind = "tcp" }.',
    ),
    "http_status": (
        "the answer is not a 2xx",
        "Check health.http: it must answer 2xx without a credential.",
    ),
    "not_websocket": (
        "the answer to the WebSocket handshake is not 101",
        "Check the service's path, and whether it serves as many clients as it can.",
    ),
    "closed": (
        "the service hung up without an answer",
        "Look at its logs; it may be one that takes TLS only, or as many clients as it can.",
    ),
    "silent": (
        "the service takes the connection and says nothing",
        "It may still be loading, or serve as many clients as it can; look at its logs.",
    ),
    "slow": ("it answers, later than the probe waits", "Raise health.timeout of the service."),
    "wrong_secret": (
        "the service does not take the job's secret",
        "It must compare the Authorization header with its environment's VSMGATE_SECRET.",
    ),
}

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?\r?(?:\n|$)")
_TLS_RECORD = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")


def shown(octets: bytes, most: int = 80) -> str:
    """Return foreign octets for people: their first line, printable, not long."""
    line = octets.split(b"\n", 1)[0].rstrip(b"\r")
    text = ascii(line[:most].decode("latin-1"))[1:-1]
    return text + ("..." if len(line) > most else "")


def passed(step: str, evidence: str, seconds: float | None = None) -> Step:
    """Return a step that went well."""
    return Step(step, Outcome.OK, _rounded(seconds), "", evidence)


def failure(step: str, found: Finding, seconds: float | None = None) -> Step:
    """Return a step that failed."""
    helps = FINDINGS[found.code][1]
    return Step(step, Outcome.FAILED, _rounded(seconds), found.code, found.evidence, helps)


def steps_of(service: Service) -> tuple[str, ...]:
    """Return the names of a service's steps after ``engine``."""
    asks = question_of(service.health)
    return (
        "address", "name", "target", "tcp",
        *(("tls",) if service.tls is not None else ()),
        *((asks,) if asks else ()),
        *(("secret",) if service.secret and asks else ()),
    )  # fmt: skip


def unaddressed(name: str) -> Step:
    """Return the failed step of a service whose address is not known."""
    return failure("address", Finding("no_address", f"The address of {name} is not known yet"))


def whole(service: Service, steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return ``steps`` with those that were not come to."""
    done = {step.step for step in steps}
    rest = [Step(name, Outcome.SKIPPED) for name in steps_of(service) if name not in done]
    return (*steps, *rest)


def question_of(health: Health) -> str:
    """Return what a probe asks: ``http``, ``websocket``, or nothing."""
    if health.http is not None:
        return "http"
    return "websocket" if health.kind == "websocket" else ""


def answer_finding(asked: str, head: bytes, what: str, secret: bool) -> Finding | None:
    """Judge the first octets of an answer; None: it is good.

    ``asked``: ``http`` or ``websocket``; ``what`` was asked, for people. ``secret``: the
    service is one that is shown the job's secret.
    """
    line = _STATUS.match(head)
    if line is None:
        if _TLS_RECORD.match(head):
            return Finding("speaks_tls", f"{what} was answered by a TLS record")
        return Finding("not_http", f"{what} was answered {shown(head)!r}")
    status = int(line[1])
    if status == 101 if asked == "websocket" else 200 <= status < 300:
        return None
    seen = f"{what} was answered {shown(head)}"
    if secret and status in (401, 403):
        return Finding("wrong_secret", seen)
    return Finding("not_websocket" if asked == "websocket" else "http_status", seen)


def engine_step(job: Job, stale_since: float | None, trouble: str, now: float) -> Step:
    """Return the first step: where the job is in its engine's eyes.

    ``stale_since``, ``trouble``: since when its engine cannot be asked, and why.
    """
    launcher = job.usecase.launcher
    stale = ""
    if stale_since is not None and not job.ended:
        stale = f" {launcher} cannot be asked since {max(0.0, now - stale_since):.0f} s: {trouble}"
    if job.running:
        ref = f" as {job.engine_ref}" if job.engine_ref else ""
        return passed("engine", f"{launcher} runs the job{ref}.{stale}")
    code, why = str(job.state), ""
    if job.held:
        code, why = "over_quota", f" and held: {REASONS['over_quota'].meaning}"
    elif job.reason is not None:
        code, why = job.reason.code, f": {job.reason.message}"
    seen, helps = [f"The job is {job.state}{why}"], remedy(code)
    if job.queue is not None and job.queue.position is not None:
        seen.append(f"It is number {job.queue.position} in the queue.")
    if job.queue is not None and job.queue.estimated_start is not None:
        wait = max(0.0, job.queue.estimated_start - now)
        seen.append(f"{launcher} expects to start it in {wait:.0f} s.")
    if stale:
        code, helps = "engine_unreachable", remedy("engine_unreachable")
    return Step("engine", Outcome.FAILED, None, code, " ".join(seen) + stale, helps)


def sentence(service: str, steps: Iterable[Step]) -> str:
    """Return what failed, for people; nothing where nothing did."""
    for step in steps:
        if step.outcome is Outcome.FAILED:
            meaning = FINDINGS[step.code][0]
            return f"{service} does not answer ({step.step}: {meaning}). {step.evidence}."
    return ""


def reason(service: str, steps: Sequence[Step]) -> Reason | None:
    """Return the reason of a job whose ``service`` does not answer; None where it does."""
    said = sentence(service, steps)
    helps = next((step.remedy for step in steps if step.outcome is Outcome.FAILED), "")
    return Reason(NOT_ANSWERING, f"{said} {helps}".strip()) if said else None


def table() -> str:
    """Return all findings as a table of Markdown, for ``docs/reasons.md``."""
    rows = ["| code | what was found | what usually helps |", "|---|---|---|"]
    rows += [f"| `{code}` | {meaning} | {helps} |" for code, (meaning, helps) in FINDINGS.items()]
    return "\n".join(rows)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
