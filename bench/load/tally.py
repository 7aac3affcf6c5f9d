"""What happened during a load: times, sizes, errors by kind, second by second. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from math import ceil

__all__ = ["SHARES", "Second", "Tally", "percentile"]

#: The percentiles that are told, by the name that a limit uses.
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def percentile(ordered: array[float], share: float) -> float:
    """Return the smallest of the sorted values that at least ``share`` of them do not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


@dataclass
class Second:
    """One second of the run; ``times``: of the answers that came in it."""

    times: array[float] = field(default_factory=lambda: array("d"))
    octets: int = 0
    errors: int = 0
    open: int = 0


class Tally:
    """All moments are seconds since the load began.

    ``settled``: when the ramp ends, before which no answer is judged. ``until``: when the
    load ends.
    """

    def __init__(self, settled: int, until: int) -> None:
        self.settled = settled
        self.until = until
        self.seconds: list[Second] = [Second()]
        self.openings = array("d")
        self.errors: Counter[str] = Counter()
        self.open = 0
        self.most_open = 0

    def opened(self, now: float, taken: float) -> None:
        """A session is open, ``taken`` seconds after it dialled."""
        self.openings.append(taken)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self.at(now).open = self.open

    def closed(self, now: float) -> None:
        """An open session is gone."""
        self.open -= 1
        self.at(now).open = self.open

    def answered(self, now: float, taken: float, octets: int) -> None:
        """An answer came ``taken`` seconds after its question."""
        second = self.at(now)
        second.times.append(taken)
        second.octets += octets

    def received(self, now: float, octets: int) -> None:
        """Something came that answers nothing."""
        self.at(now).octets += octets

    def failed(self, now: float, kind: str) -> None:
        """An error of a kind."""
        self.errors[kind] += 1
        self.at(now).errors += 1

    def at(self, now: float) -> Second:
        """Return the second that ``now`` is in."""
        while len(self.seconds) <= int(now):
            self.seconds.append(Second(open=self.open))
        return self.seconds[int(now)]

    @property
    def whole(self) -> list[Second]:
        """The seconds of the load; what came later, while sessions closed, is left out."""
        return self.seconds[: self.until]

    def summary(self) -> dict[str, float]:
        """Return the figures, of which limits speak: of the seconds after the ramp."""
        judged = self.whole[self.settled :]
        times = array("d", sorted(taken for second in judged for taken in second.times))
        openings = array("d", sorted(self.openings))
        span = self.until - self.settled
        return {
            **{name: percentile(times, share) for name, share in SHARES.items()},
            "max": times[-1] if times else 0.0,
            "answers": float(len(times)),
            "rate": len(times) / span,
            "megabytes": sum(second.octets for second in judged) / span / 1e6,
            "opening": percentile(openings, 0.99),
            "opened": float(len(openings)),
            "most_open": float(self.most_open),
            "errors": float(sum(self.errors.values())),
        }
