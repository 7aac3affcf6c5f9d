"""What a local job's supervisor wrote down, and what it means."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from vsmgate.errors import EngineRefused
from vsmgate.model import JOB_ID, Endpoint, Observation, Phase, Reason

__all__ = ["Cause", "LocalRef", "Record", "ServiceRecord", "observation", "refusal"]


class LocalRef(NamedTuple):
    """The engine ref of a local job: its supervisor (pid and start time) and its folder."""

    pid: int
    start: int
    job_id: str

    @classmethod
    def parse(cls, ref: str) -> LocalRef | None:
        """Return the parts of ``PID:START:JOB``; None when it is no such ref."""
        pid, _, rest = ref.partition(":")
        start, _, job_id = rest.partition(":")
        if not (pid.isdecimal() and start.isdecimal() and JOB_ID.fullmatch(job_id)):
            return None
        return cls(int(pid), int(start), job_id)

    def __str__(self) -> str:
        return f"{self.pid}:{self.start}:{self.job_id}"


class ServiceRecord(Struct, frozen=True):
    """One process. ``status``: its exit code, or minus the signal; None while it runs."""

    pid: int
    start: int
    host: str
    port: int
    status: int | None = None


class Cause(Struct, frozen=True):
    """Why a job ended.

    ``kind``: ``exit`` (of ``service``), ``walltime``, ``memory`` (more than the octets in
    ``detail``), ``signal`` (the supervisor was told
    to end), ``refused`` (``service`` could not be started), and from the gateway, of a
    supervisor that is gone: ``killed``, ``rebooted``.
    """

    kind: str
    service: str = ""
    detail: str = ""


class Record(Struct, frozen=True):
    """``record.json``. ``started_at``: Unix seconds; ``lifetime``: seconds from there."""

    tag: str
    pid: int
    start: int
    boot: str
    started_at: float
    lifetime: float
    services: dict[str, ServiceRecord]
    cause: Cause | None = None
    ended: bool = False


def observation(record: Record, last_words: Callable[[str], str]) -> Observation:
    """Return what a poll says of a job.

    ``last_words(service)`` is asked for the end of a service's output where that explains
    something.
    """
    if record.ended:
        return Observation(Phase.ENDED, reason=_reason(record, last_words))
    if not record.services and record.cause is None:
        return Observation(Phase.STARTING)
    endpoints = {
        name: Endpoint(service.host, service.port)
        for name, service in record.services.items()
        if service.status is None and record.cause is None
    }
    end_time = record.started_at + record.lifetime
    return Observation(Phase.RUNNING, endpoints=endpoints, end_time=end_time)


def refusal(cause: Cause) -> EngineRefused:
    """Return the error for a service that could not be started."""
    whose = f"The program of service {cause.service}" if cause.service else "The job"
    return EngineRefused(f"{whose} could not be started: {cause.detail}.", code="program_unusable")


def _reason(record: Record, last_words: Callable[[str], str]) -> Reason:
    cause = record.cause or Cause("killed")
    name = cause.service
    match cause.kind:
        case "exit":
            return _exit_reason(name, record.services[name].status or 0, last_words)
        case "walltime":
            limit = f"{round(record.lifetime, 1):g} s"
            return Reason("walltime", f"The job reached its limit of time, {limit}.")
        case "memory":
            limit = f"{int(cause.detail) / 1e6:g} MB"
            return Reason(
                "out_of_memory",
                f"The job's processes used more memory than it may have, {limit}. Start it with "
                "less to do, or let the operator raise memory in its use case.",
            )
        case "signal":
            return Reason(
                "cancelled_by_administrator", "The job's supervisor was told to end (SIGTERM)."
            )
        case "refused":
            error = refusal(cause)
            return Reason(error.code, error.detail)
        case "rebooted":
            return Reason(
                "machine_restarted", "The gateway's machine was restarted while the job ran."
            )
        case _:
            return Reason(
                "supervisor_killed",
                "The process that watches over the job was killed from outside (by hand, or for "
                "lack of memory), so its services were ended.",
            )


def _exit_reason(name: str, status: int, last_words: Callable[[str], str]) -> Reason:
    if status == 0:
        return Reason("completed", f"Service {name} ended by itself (exit code 0).")
    look = f"look at the last lines of its output, or at the job's logs of {name}"
    native = last_words(name)
    if status > 0:
        return Reason("exited", f"Service {name} ended with exit code {status}; {look}.", native)
    number = -status
    try:
        signal_name = signal.Signals(number).name
    except ValueError:
        signal_name = f"signal {number}"
    hint = "perhaps the machine ran out of memory; " if number == signal.SIGKILL else ""
    return Reason("killed", f"Service {name} was killed by {signal_name}; {hint}{look}.", native)
