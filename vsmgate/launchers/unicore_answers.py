"""Reads what a UNICORE server answers. Pure.

The server is asked for ``/jobs/ID`` and ``/jobs/ID/details``; the latter is what the site's
batch system says, as JSON or as text in ``rawDetailsData``. Of batch systems only Slurm's
words are known (``scontrol show job``); its times have no zone, so they get the server's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from vsmgate.errors import EngineUnreachable
from vsmgate.launchers.slurm_answers import SlurmJob

__all__ = ["FIELDS", "About", "UnicoreJob", "id_in", "parse_about", "parse_details", "parse_job"]
__all__ += ["parse_list", "words_in"]

#: What of a job's properties is asked for.
FIELDS = ("status", "statusMessage", "exitCode", "submissionTime", "tags", "log")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}", re.ASCII)
_RAW = re.compile(r"(?:^|\s)(JobId|JobState|Reason|StartTime|EndTime)=(\S+)")
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


class UnicoreJob(Struct, frozen=True, rename="camel"):
    """A job's properties, as far as they were asked for."""

    status: str = "UNDEFINED"
    status_message: str = ""
    exit_code: str | int | None = None
    submission_time: str = ""
    tags: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status in ("SUCCESSFUL", "FAILED")

    @property
    def exit_status(self) -> int | None:
        """The exit code as a number, if known."""
        text = str(self.exit_code)
        return int(text) if re.fullmatch(r"-?[0-9]{1,5}", text, re.ASCII) else None


class About(NamedTuple):
    """What a site says of us, and of itself."""

    role: str
    enabled: bool
    message: str


class _Role(Struct, frozen=True):
    selected: str = ""


class _Client(Struct, frozen=True):
    role: _Role = _Role()


class _Submission(Struct, frozen=True):
    enabled: bool = True
    message: str = ""


class _Server(Struct, frozen=True, rename="camel"):
    job_submission: _Submission = _Submission()


class _Base(Struct):
    client: _Client
    server: _Server


class _Jobs(Struct):
    jobs: list[str]


class _Failure(Struct, rename="camel"):
    error_message: str = ""


def id_in(location: str) -> str | None:
    """Return the id at the end of a job's address; None when there is none.

    The rest of an address that a server tells is not used: credentials go to the configured
    place only.
    """
    last = location.rstrip("/").rpartition("/")[2]
    return last if _ID.fullmatch(last) else None


def parse_job(data: bytes) -> UnicoreJob:
    """Return the properties in the answer to ``GET /jobs/ID``."""
    job: UnicoreJob = _decoded(data, UnicoreJob)
    return job


def parse_about(data: bytes) -> About:
    """Return what the answer to a GET of the site itself says."""
    base: _Base = _decoded(data, _Base)
    submission = base.server.job_submission
    return About(base.client.role.selected, submission.enabled, _line(submission.message))


def parse_list(data: bytes) -> list[str]:
    """Return the ids in the answer to ``GET /jobs``."""
    return [found for url in _decoded(data, _Jobs).jobs if (found := id_in(url)) is not None]


def words_in(data: bytes) -> str:
    """Return the ``errorMessage`` of a failure, as one bounded line; empty when there is none."""
    try:
        text = msgspec.json.decode(data, type=_Failure).error_message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return _line(text)


def parse_details(data: bytes, submitted: str) -> SlurmJob | None:
    """Return the job in Slurm's words; None where the batch system is none that is known.

    ``submitted``: the job's ``submissionTime``, which has the server's offset from UTC.
    """
    told = _decoded(data, dict[str, Any])
    found: Mapping[str, str] = {key: value for key, value in told.items() if isinstance(value, str)}
    if raw := found.get("rawDetailsData"):
        found = {match[1]: match[2] for match in _RAW.finditer(raw)}
    state = found.get("JobState", "")
    if not re.fullmatch(r"[A-Z_]{3,40}", state):
        return None
    zone = _zone(submitted)
    reason = found.get("Reason", "")
    return SlurmJob(
        int(number) if _DIGITS.fullmatch(number := found.get("JobId", "")) else 0,
        state,
        "",
        "",
        reason if re.fullmatch(r"[A-Za-z][A-Za-z0-9_(),-]{0,99}", reason) else "",
        start=_time(found.get("StartTime", ""), zone),
        end=_time(found.get("EndTime", ""), zone),
    )


def _decoded(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        start = _line(data[:80].decode("utf-8", "replace"))
        raise EngineUnreachable(f"UNICORE answered something else than asked: {start!r}") from None


def _zone(submitted: str) -> Any:
    try:
        return datetime.fromisoformat(submitted).tzinfo or UTC
    except ValueError:
        return UTC


def _time(text: str, zone: Any) -> float | None:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        return None  # Unknown, N/A


def _line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:500]
