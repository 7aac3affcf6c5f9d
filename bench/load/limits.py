"""Limits given on the command line: ``p99=0.2``, ``errors=0``, ``rate=1000``. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["KNOWN", "Limit", "read_limit"]

#: name -> (whether the figure has to be at least the bound, what it is)
KNOWN: Mapping[str, tuple[bool, str]] = {
    "p50": (False, "seconds"),
    "p90": (False, "seconds"),
    "p99": (False, "seconds"),
    "p999": (False, "seconds"),
    "max": (False, "seconds"),
    "opening": (False, "seconds, the 99th percentile of opening a session"),
    "errors": (False, "errors of all kinds"),
    "rate": (True, "answers a second"),
    "megabytes": (True, "MB a second"),
}


@dataclass(frozen=True)
class Limit:
    """``name`` is one of `KNOWN`."""

    name: str
    bound: float

    def met(self, summary: Mapping[str, float]) -> bool:
        """Return whether the figures keep it; without any answer no limit of times is kept."""
        least, _ = KNOWN[self.name]
        if self.name.startswith(("p", "max")) and not summary["answers"]:
            return False
        if self.name == "opening" and not summary["opened"]:
            return False
        value = summary[self.name]
        return value >= self.bound if least else value <= self.bound

    def __str__(self) -> str:
        return f"{self.name} {'>=' if KNOWN[self.name][0] else '<='} {self.bound:g}"


def read_limit(text: str) -> Limit:
    """Return the limit; raises ValueError with what is allowed."""
    name, _, bound = text.partition("=")
    if name not in KNOWN:
        known = ", ".join(f"{key} ({what})" for key, (_, what) in KNOWN.items())
        raise ValueError(f"unknown limit {name!r}; known: {known}")
    try:
        return Limit(name, float(bound))
    except ValueError:
        raise ValueError(f"{text!r} is not NAME=NUMBER") from None


def missed(limits: Sequence[Limit], summary: Mapping[str, float]) -> list[Limit]:
    """Return the limits that are not kept."""
    return [limit for limit in limits if not limit.met(summary)]
