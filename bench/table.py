"""The results of a run: kept by work and relay, shown as text, JSON and SVG. Pure."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bench.charts import bars
from bench.goals import Verdict, ratio
from bench.works import WORKS, Sample, Work

__all__ = ["Table"]

REFERENCES = ("haproxy", "nginx")
OURS = ("transports", "sockets")


class Table:
    """``results``: work -> relay -> one sample a round. ``skipped``: (work, relay) -> why."""

    def __init__(self, works: Sequence[str], names: Sequence[str]) -> None:
        self.results: dict[str, dict[str, list[Sample]]] = {
            work: {name: [] for name in names} for work in works
        }
        self.skipped: dict[tuple[str, str], str] = {}
        self.versions: dict[str, str] = {}

    def add(self, work: Work, name: str, sample: Sample, version: str = "") -> None:
        """Keep a sample."""
        self.results[work.name][name].append(sample)
        self.versions.setdefault(name, version)

    def skip(self, work: Work, name: str, why: str) -> None:
        """Keep why there is none; what was measured of it before does not count."""
        self.results[work.name][name] = []
        self.skipped[work.name, name] = why

    def text(self) -> str:
        """Return the table: medians, times in microseconds, ratios to the references."""
        lines = []
        for name, version in self.versions.items():
            lines.append(f"{name:12}{version}")
        for work in self.results:
            lines += ["", *self._work(WORKS[work])]
        reasons: dict[tuple[str, str], list[str]] = {}
        for (work, name), why in self.skipped.items():
            reasons.setdefault((name, why), []).append(work)
        if reasons:
            lines.append("")
        for (name, why), works in reasons.items():
            lines.append(f"skipped {name} ({', '.join(works)}): {why}")
        return "\n".join(lines)

    def _work(self, work: Work) -> Iterator[str]:
        row = self.results[work.name]
        measured = [samples[0].details for samples in row.values() if samples]
        details = [d for d in ("p50", "p99", "p999") if any(d in each for each in measured)]
        sign = "more is better" if work.more else "less is better"
        yield f"{work.title} [{work.name}; {work.unit}; {sign}]"
        heads = [
            "median",
            *(f"{d} us" for d in details),
            "per core",
            "busy %",
            "/haproxy",
            "/nginx",
        ]
        yield f"  {'':12}" + "".join(f"{head:>11}" for head in heads)
        for name, samples in row.items():
            if not samples:
                continue
            cells = [_figure(statistics.median(s.value for s in samples))]
            for detail in details:
                cells.append(_figure(statistics.median(s.details[detail] for s in samples)))
            own = [s.details["per_core"] for s in samples if "per_core" in s.details]
            cells.append(_figure(statistics.median(own)) if own else "")
            busy = [
                100 * s.value / s.details["per_core"] for s in samples if "per_core" in s.details
            ]
            cells.append(f"{statistics.median(busy):.0f}" if busy else "")
            for reference in REFERENCES:
                against = ratio(samples, row.get(reference, ()))
                cells.append("" if against is None else f"{against:.2f}")
            yield f"  {name:12}" + "".join(f"{cell:>11}" for cell in cells)

    def headroom(self) -> str:
        """Say whether the load generator was fast enough: three times the gateway's relay."""
        lines = []
        for work, row in self.results.items():
            medians = {
                name: statistics.median(s.value for s in samples)
                for name, samples in row.items()
                if samples
            }
            direct = medians.pop("direct", None)
            if not work.startswith("echo") or direct is None or not medians:
                continue
            times = {name: direct / value for name, value in medians.items()}
            said = ", ".join(f"{name} {value:.1f}" for name, value in times.items())
            enough = min(times.get(name, 3.0) for name in OURS) >= 3
            mark = "" if enough else "  NOT ENOUGH: the load generator limits this work"
            lines.append(f"direct as a multiple, {work}: {said}{mark}")
        return "\n".join(lines)

    def json(self, verdicts: Sequence[Verdict] = ()) -> str:
        """Return everything."""
        found: dict[str, Any] = {
            "machine": {
                "cpu": _cpu_model(),
                "cores": os.cpu_count(),
                "kernel": platform.release(),
                "python": platform.python_version(),
            },
            "versions": self.versions,
            "works": {
                work: {
                    "title": WORKS[work].title,
                    "unit": WORKS[work].unit,
                    "relays": {
                        name: {
                            "median": statistics.median(s.value for s in samples),
                            "rounds": [asdict(sample) for sample in samples],
                            "ratios": {
                                reference: ratio(samples, row.get(reference, ()))
                                for reference in REFERENCES
                            },
                        }
                        for name, samples in row.items()
                        if samples
                    },
                }
                for work, row in self.results.items()
            },
            "goals": [
                {
                    **asdict(verdict.goal),
                    "measured": verdict.measured,
                    "per_core": verdict.per_core,
                    "met": verdict.met,
                }
                for verdict in verdicts
            ],
            "skipped": [
                {"work": work, "relay": name, "why": why}
                for (work, name), why in self.skipped.items()
            ],
        }
        return json.dumps(found, indent=1) + "\n"

    def svg(self) -> str:
        """Return one panel of bars for each work; a direct connection is not drawn."""
        panels = []
        for work, row in self.results.items():
            medians = {
                name: statistics.median(s.value for s in samples)
                for name, samples in row.items()
                if samples and name != "direct"
            }
            if medians:
                panels.append((f"{WORKS[work].title} ({WORKS[work].unit})", medians))
        return bars("One core for the relay", panels, OURS)


def _figure(value: float) -> str:
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
