"""Reads what Slurm's commands print, and tells passing failures from refusals. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from vsmgate.errors import EngineError, EngineRefused, EngineUnreachable

__all__ = ["JOB_FORMAT", "RECORD_FORMAT", "Partition", "SlurmJob", "failure", "is_unknown_job"]
__all__ += ["parse_jobs", "parse_json", "parse_number", "parse_partitions"]
__all__ += ["parse_partitions_json", "parse_records", "select"]

#: No value has it, whereas job names and reasons of other people may hold anything printable.
_SEPARATOR = "\x1f"
#: For ``squeue -o``: number, state, reason, first node, start, end, user, name.
JOB_FORMAT = _SEPARATOR.join(("%i", "%T", "%r", "%B", "%S", "%e", "%u", "%j"))
#: For ``sacct -P --delimiter=``.
RECORD_FORMAT = "JobIDRaw,State,ExitCode,Start,End,User,JobName"


class SlurmJob(Struct, frozen=True):
    """One job. Times are Unix seconds (None: not known); ``status``: its exit code if known."""

    number: int
    state: str
    user: str
    name: str
    reason: str = ""
    node: str = ""
    start: float | None = None
    end: float | None = None
    status: int | None = None


def parse_number(text: str) -> int:
    """Return the job's number out of ``sbatch --parsable``'s ``NUMBER[;CLUSTER]``.

    Raises `EngineUnreachable` when there is none: Slurm may have the job nevertheless.
    """
    for line in reversed(text.splitlines()):
        if match := re.fullmatch(r"([1-9][0-9]{0,9})(;[^;]*)?", line.strip(), re.ASCII):
            return int(match[1])
    raise EngineUnreachable(f"sbatch said {_short(text)!r} instead of a job's number.")


def parse_jobs(text: str) -> list[SlurmJob]:
    """Return the jobs in the output of ``squeue -h -o JOB_FORMAT``."""
    jobs = []
    for fields in _lines(text, 8):
        number, state, reason, node, start, end, user, name = fields
        if number.isdecimal():  # not one of an array
            place = "" if node in ("n/a", "(null)", "None") else node
            times = _time(start), _time(end)
            jobs.append(SlurmJob(int(number), state, user, name, reason, place, *times))
    return jobs


def parse_records(text: str) -> list[SlurmJob]:
    """Return the jobs in the output of ``sacct -n -X -P -o RECORD_FORMAT``."""
    jobs = []
    for fields in _lines(text, 7):
        number, state, status, start, end, user, name = fields
        if number.isdecimal() and state:
            word = state.split()[0]  # CANCELLED by 1000
            code = status.partition(":")[0]
            jobs.append(
                SlurmJob(
                    int(number),
                    word,
                    user,
                    name,
                    start=_time(start),
                    end=_time(end),
                    status=int(code) if code.isdecimal() else None,
                )
            )
    return jobs


class _Number(Struct):
    set: bool = False
    number: float = 0


class _JsonJob(Struct):
    job_id: int
    job_state: str | list[str]
    user_name: str = ""
    name: str = ""
    state_reason: str = ""
    batch_host: str = ""
    start_time: float | _Number | None = None
    end_time: float | _Number | None = None


class _Json(Struct):
    jobs: list[_JsonJob]


_DECODER = msgspec.json.Decoder(_Json)


def parse_json(data: bytes) -> list[SlurmJob]:
    """Return the jobs in what ``squeue --json`` or slurmrestd says: all of the cluster."""
    try:
        answer = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineUnreachable(f"Slurm's list of jobs cannot be read: {error}.") from None
    return [
        SlurmJob(
            job.job_id,
            _state(job.job_state),
            job.user_name,
            job.name,
            job.state_reason,
            job.batch_host,
            _moment(job.start_time),
            _moment(job.end_time),
        )
        for job in answer.jobs
    ]


class Partition(Struct, frozen=True):
    """A partition; ``works``: it is up, and not all of its nodes are down."""

    name: str
    works: bool


def parse_partitions(text: str) -> list[Partition]:
    """Return what ``sinfo --format=%R|%a|%F`` lists; ``%F`` is allocated/idle/other/total."""
    found = []
    for line in text.splitlines():
        name, _, rest = line.strip().partition("|")
        state, _, counts = rest.partition("|")
        nodes = [count for count in counts.split("/")[:2] if count not in ("", "0")]
        found.append(Partition(name, state == "up" and bool(nodes)))
    return found


class _JsonPartition(Struct, frozen=True):
    """One of slurmrestd; ``state`` is text up to v0.0.39, and a list below ``partition`` later."""

    name: str
    state: str = ""
    partition: dict[str, Any] = {}


class _JsonPartitions(Struct, frozen=True):
    partitions: list[_JsonPartition]


def parse_partitions_json(data: bytes) -> list[Partition]:
    """Return what slurmrestd lists; it does not tell how the nodes are."""
    try:
        listed = msgspec.json.decode(data, type=_JsonPartitions).partitions
    except msgspec.MsgspecError as error:
        raise EngineUnreachable(f"slurmrestd lists no partitions: {error}.") from None
    return [
        Partition(each.name, "UP" in (each.state, *each.partition.get("state", ())))
        for each in listed
    ]


def select(
    jobs: Iterable[SlurmJob], numbers: Collection[int], names: Collection[str], user: str
) -> list[SlurmJob]:
    """Return those of ``jobs`` that were asked for, by number or by name; see `SlurmClient`."""
    wanted, named = set(numbers), set(names)
    return [
        job
        for job in jobs
        if (job.number in wanted or job.name in named) and user in ("", job.user)
    ]


# -- failures ------------------------------------------------------------------------------

#: The controller may have done it, or will do it at another time.
_PASSING = re.compile(
    "unable to contact|socket timed out|zero bytes|connection (refused|reset|timed out)|"
    "communication connection failure|failed to access|munge|authentication error|"
    "in standby|temporarily|timed out|unexpected message|slurm_receive|slurm_send|"
    "transport endpoint|no route to host|network is unreachable|host.* not found|"
    "dns srv|unspecified error|interrupted|closed by remote host",
    re.IGNORECASE,
)
#: What the controller says -> reason code; the others give ``engine_refused``.
_REFUSALS = (
    ("invalid partition|partition name", "bad_partition"),
    ("invalid account", "bad_account"),
    ("invalid qos", "bad_qos"),
    ("reservation", "bad_reservation"),
    ("feature specification", "bad_constraint"),
    ("generic resource|gres", "bad_gres"),
    ("time limit", "bad_time_limit"),
    ("node (configuration|count)|can not be satisfied|cpu count|memory", "impossible_resources"),
    ("policy|limit", "limit_reached"),
    ("not permitted|permission denied|invalid user|access", "not_permitted"),
)


def failure(command: str, text: str) -> EngineError:
    """Return the error for a command that failed and wrote ``text``."""
    words = _short(text) or "nothing"
    if _PASSING.search(words):
        return EngineUnreachable(f"Slurm cannot be asked now; {command} said: {words}")
    for pattern, code in _REFUSALS:
        if re.search(pattern, words, re.IGNORECASE):
            return EngineRefused(f"Slurm refused the job: {words}", code=code, native=words)
    return EngineRefused(f"{command} failed: {words}", native=words)


def is_unknown_job(text: str) -> bool:
    """Return whether a command failed only for a job that is over, or was never there."""
    return "Invalid job id" in text or "already" in text


def _short(text: str) -> str:
    """Return a command's own words without its name before each line, bounded."""
    lines = (re.sub(r"^(\S*/)?\w+: (error: |fatal: )?", "", line) for line in text.splitlines())
    kept = " ".join(line.strip() for line in lines if line.strip())
    return "".join(c if c.isprintable() else " " for c in kept)[:500]


def _lines(text: str, count: int) -> Iterator[list[str]]:
    for line in text.split("\n"):
        fields = line.split(_SEPARATOR, count - 1)
        if len(fields) == count:
            yield [field.strip() for field in fields]


def _time(text: str) -> float | None:
    """Return a time that was asked for in ``%s``; None for N/A, NONE, Unknown."""
    return float(text) if text.isdecimal() and int(text) > 0 else None


def _moment(value: float | _Number | None) -> float | None:
    number = value.number if isinstance(value, _Number) and value.set else value
    return float(number) if isinstance(number, int | float) and number > 0 else None


def _state(states: str | list[str]) -> str:
    """Return one word; newer versions list a state with its flags."""
    if isinstance(states, str):
        return states
    for flag in ("COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD"):
        if flag in states:
            return flag
    return states[0] if states else ""
