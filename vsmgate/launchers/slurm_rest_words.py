"""What slurmrestd is told and says: jobs as JSON, in both shapes that it had. Pure.

Up to the API v0.0.38 (Slurm 22.05) a description has plain values; from v0.0.40 on (23.11) numbers
are objects and the environment is a list. Both were checked on a real one. v0.0.39 is neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from vsmgate.errors import EngineRefused
from vsmgate.launchers.slurm_client import SECRET_VARIABLE, Order

__all__ = ["UNKNOWN_JOB", "VERSION", "RestAnswer", "description", "parse_answer", "time_limit"]

#: The APIs that are spoken: v0.0.38, and v0.0.40 on.
VERSION = re.compile(r"v0\.0\.(38|4[0-9]|[5-9][0-9])", re.ASCII)
#: ESLURM_INVALID_JOB_ID.
UNKNOWN_JOB = 2017

Field = tuple[str, Callable[[str], Any]]


def _number(value: str) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": int(value)}


def _megabytes(value: str) -> int:
    """Return what ``--mem`` means in MB, its default unit; KB are rounded up."""
    unit = value[-1] if value[-1].isalpha() else "M"
    count = int(value.rstrip("KMGT"))
    return -(-count // 1024) if unit == "K" else count * 1024 ** "MGT".index(unit)


_SAME: Mapping[str, Field] = {
    "account": ("account", str),
    "partition": ("partition", str),
    "qos": ("qos", str),
    "reservation": ("reservation", str),
    "constraint": ("constraints", str),
    "comment": ("comment", str),
    "nodes": ("nodes", str),  # not a list: 22.05 has it in its OpenAPI, and takes it for nothing
    "cpus-per-task": ("cpus_per_task", int),
    "nice": ("nice", int),
    "licenses": ("licenses", str),
    "wckey": ("wckey", str),
}
_OLD: Mapping[str, Field] = {
    **_SAME,
    "time": ("time_limit", int),
    "exclusive": ("exclusive", lambda value: value or "exclusive"),
    "mem": ("memory_per_node", _megabytes),
    "gres": ("gres", str),
    "hint": ("cpu_binding_hint", str),
}
_NEW: Mapping[str, Field] = {
    **_SAME,
    "time": ("time_limit", _number),
    "exclusive": ("shared", lambda value: [value or "none"]),
    "mem": ("memory_per_node", lambda value: _number(str(_megabytes(value)))),
    "gres": (
        "tres_per_node",
        lambda value: ",".join(f"gres/{part}" for part in value.split(",")),
    ),
}


def description(order: Order, version: str) -> bytes:
    """Return the body that submits a job.

    Raises `EngineRefused`, code ``bad_resource``, for an option that the API does not have.
    """
    old = version == "v0.0.38"
    # Not empty: slurmrestd wants a variable at least.
    environment = {"VSMGATE_TAG": order.name}
    if order.secret is not None:
        environment[SECRET_VARIABLE] = order.secret.reveal()
    job: dict[str, Any] = {
        "name": order.name,
        "current_working_directory": "/",
        "standard_output": order.output,
        "open_mode": "append" if old else ["APPEND"],
        "requeue": False,
        "environment": environment if old else [f"{k}={v}" for k, v in environment.items()],
    }
    fields = _OLD if old else _NEW
    for option in order.options:
        name, _, value = option.removeprefix("--").partition("=")
        if name not in fields:
            detail = f"slurmrestd {version} has nothing for the option --{name} of the use case."
            raise EngineRefused(detail, code="bad_resource")
        key, convert = fields[name]
        try:
            job[key] = convert(value)
        except ValueError:
            detail = f"{value!r} is no value for --{name}."
            raise EngineRefused(detail, code="bad_resource") from None
    return msgspec.json.encode({"script": order.script, "job": job})


def time_limit(minutes: int, version: str) -> bytes:
    """Return the body that sets a job's time limit."""
    convert = (_OLD if version == "v0.0.38" else _NEW)["time"][1]
    return msgspec.json.encode({"time_limit": convert(str(minutes))})


class _Trouble(Struct):
    error: str = ""
    description: str = ""
    error_number: int = 0
    error_code: int = 0


class RestAnswer(Struct):
    """What every answer has. ``errors`` may be there although it was done: warnings.

    ``job_id``: of a job that was submitted. That of a changed one is text up to v0.0.41.
    """

    errors: list[_Trouble] = []
    job_id: int | str = 0

    @property
    def words(self) -> str:
        """What went wrong; the first is the cause, in Slurm's own words."""
        told = [trouble.error or trouble.description for trouble in self.errors]
        return told[0] if told else ""

    @property
    def unknown_job(self) -> bool:
        """Whether Slurm does not know a job of that number."""
        return any(UNKNOWN_JOB in (t.error_number, t.error_code) for t in self.errors)


_DECODER = msgspec.json.Decoder(RestAnswer)


def parse_answer(body: bytes) -> RestAnswer | None:
    """Return an answer without its jobs; None when it is none of slurmrestd's."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
