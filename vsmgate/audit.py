"""What is kept of who did what: the entries of the audit log, and how many. Pure.

`Recorder.record` is all that the rest of the gateway knows of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from msgspec import Struct

__all__ = ["AuditConfig", "Entry", "Recorder", "Tally", "Unaudited", "Value", "line_of", "stamp"]

Value = str | int | float | bool | None

#: The longest text of an entry: clients choose some of them.
_LONGEST = 512


class AuditConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[audit]``: ``file``: the log; None: ``audit.jsonl`` in the state directory."""

    file: str | None = None


class Entry(Struct, frozen=True, omit_defaults=True):
    """One line: who (``subject``, by which authenticator) did what, to which job, from where.

    ``outcome``: ``ok``, or an error's code. ``peer``: the client's address. ``details``: what
    else belongs to the action.
    """

    time: str
    action: str
    outcome: str
    subject: str = ""
    authenticator: str = ""
    job: str = ""
    peer: str = ""
    request_id: str = ""
    details: dict[str, Value] = {}


class Recorder(Protocol):
    """Whoever keeps entries."""

    def record(
        self,
        action: str,
        *,
        outcome: str = "ok",
        subject: str = "",
        authenticator: str = "",
        job: str = "",
        peer: str = "",
        request_id: str = "",
        **details: Value,
    ) -> None:
        """Keep an entry; never fails. A detail that is None is left out."""


class Unaudited:
    """Nobody keeps them."""

    def record(self, action: str, **_: Value) -> None:
        """Do nothing."""


def line_of(entry: Entry) -> bytes:
    """Return the entry as one line of JSON; whatever a client chose stays inside of it.

    In ASCII: there are characters that end a line, move a terminal's cursor, or turn the
    direction of writing, and that JSON lets stand as they are.
    """
    shown = _cut(msgspec.structs.asdict(entry))
    shown["details"] = _cut(entry.details)
    told = {name: value for name, value in shown.items() if value}
    return (
        json.dumps(told, separators=(",", ":")).encode("ascii").replace(b"\x7f", b"\\u007f") + b"\n"
    )


def _cut(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        # What a client sent may hold surrogates, which are no JSON.
        name: value[:_LONGEST].encode("utf-8", "replace").decode()
        if isinstance(value, str)
        else value
        for name, value in values.items()
        if value is not None
    }


def stamp(now: float) -> str:
    """Return Unix time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


class Tally:
    """Counts what strangers can do without end, so that each gets a line in ``window`` seconds.

    ``seconds`` is a clock. At most ``most`` names are told apart at a time; the others are
    counted together.
    """

    OTHERS = "others"

    def __init__(
        self, seconds: Callable[[], float], window: float = 60.0, most: int = 1000
    ) -> None:
        self._seconds = seconds
        self._window = window
        self._most = most
        self._open: dict[str, tuple[float, int]] = {}

    def first(self, name: str) -> bool:
        """Count one more of ``name``; tells whether it is the first, which deserves a line."""
        if name not in self._open and len(self._open) >= self._most:
            name = self.OTHERS
        since, count = self._open.get(name, (self._seconds(), -1))
        self._open[name] = since, count + 1
        return count < 0

    def take(self, *, everything: bool = False) -> list[tuple[str, int]]:
        """Return the names whose window is over, with how often each was counted besides."""
        now = self._seconds()
        over = [n for n, (at, _) in self._open.items() if everything or now - at >= self._window]
        found = [(name, self._open.pop(name)[1]) for name in over]
        return [(name, count) for name, count in found if count]
