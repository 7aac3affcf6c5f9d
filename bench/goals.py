"""What the gateway's relay has to reach, and whether it did. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.works import Sample

__all__ = ["Verdict", "ratio", "verdicts"]

Results = Mapping[str, Mapping[str, Sequence[Sample]]]


@dataclass(frozen=True)
class Goal:
    """``ours`` at ``work`` against a rival's (or, without one, against the bound itself).

    ``detail``: that detail of the samples instead of their value. ``least``: at least the
    bound; else at most.
    """

    work: str
    ours: str
    rival: str
    bound: float
    least: bool = True
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """A goal, what was measured, and whether that is enough.

    ``per_core``: the same ratio for each second of the relays' processor time; None where
    there is none. On a busy machine it says more.
    """

    goal: Goal
    measured: float
    per_core: float | None = None

    @property
    def met(self) -> bool:
        if self.goal.least:
            return self.measured >= self.goal.bound
        return self.measured <= self.goal.bound

    def __str__(self) -> str:
        goal = self.goal
        what = f"{goal.work}{' ' + goal.detail if goal.detail else ''}"
        against = f" / {goal.rival}" if goal.rival else ""
        sign = ">=" if goal.least else "<="
        mark = "met   " if self.met else "MISSED"
        own = "" if self.per_core is None else f"; per core {self.per_core:.2f}"
        measured = f"{self.measured:,.2f} ({sign} {goal.bound:g}{own})"
        return f"{mark} {what}: {goal.ours}{against} = {measured}"


GOALS = (
    Goal("stream-1m", "sockets", "haproxy", 1.2),
    Goal("stream-1m", "sockets", "nginx", 1.4),
    Goal("stream-256k", "sockets", "haproxy", 1.2),
    Goal("stream-256k", "sockets", "nginx", 1.4),
    Goal("echo-64-64", "sockets", "haproxy", 1.0),
    Goal("echo-64-64", "sockets", "nginx", 0.6),
    Goal("echo-64-64", "sockets", "autobahn", 10),
    Goal("echo-64-64", "sockets", "chp", 3),
    Goal("echo-64-64", "sockets", "haproxy", 1.0, least=False, detail="p99"),
    Goal("idle-1000", "sockets", "", 6, least=False),
    Goal("idle-5000", "sockets", "", 6, least=False),
    Goal("stall", "sockets", "", 300, least=False),
    Goal("tls-stream-1m", "transports", "haproxy", 0.5),
)


def ratio(mine: Sequence[Sample], theirs: Sequence[Sample], detail: str = "") -> float | None:
    """Return the median of the rounds' ratios; None without a round that has both."""
    pairs = [
        (_of(own, detail), _of(other, detail)) for own, other in zip(mine, theirs, strict=False)
    ]
    ratios = [own / other for own, other in pairs if other > 0]
    return statistics.median(ratios) if ratios else None


def verdicts(results: Results) -> Iterator[Verdict]:
    """Yield a verdict for each goal whose parts were measured."""
    for goal in GOALS:
        row = results.get(goal.work, {})
        ours = row.get(goal.ours, ())
        if not ours:
            continue
        if goal.rival:
            measured = ratio(ours, row.get(goal.rival, ()), goal.detail)
        else:
            measured = statistics.median(_of(sample, goal.detail) for sample in ours)
        if measured is not None:
            yield Verdict(goal, measured, _per_core(goal, row))
    yield from _handshakes(results.get("handshakes", {}))


def _handshakes(row: Mapping[str, Sequence[Sample]]) -> Iterator[Verdict]:
    """Yield the verdict on handshakes: 1,000 a second, or as many as the Node.js proxy."""
    ours = row.get("sockets", ())
    if not ours:
        return
    plain = Verdict(
        Goal("handshakes", "sockets", "", 1000), statistics.median(s.value for s in ours)
    )
    against = ratio(ours, row.get("chp", ()))
    if plain.met or against is None:
        yield plain
    else:
        goal = Goal("handshakes", "sockets", "chp", 1.0)
        yield Verdict(goal, against, _per_core(goal, row))


def _per_core(goal: Goal, row: Mapping[str, Sequence[Sample]]) -> float | None:
    ours, theirs = row.get(goal.ours, ()), row.get(goal.rival, ())
    known = [all("per_core" in sample.details for sample in each) for each in (ours, theirs)]
    return ratio(ours, theirs, "per_core") if all(known) and not goal.detail else None


def _of(sample: Sample, detail: str) -> float:
    return sample.details[detail] if detail else sample.value
