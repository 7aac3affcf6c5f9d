"""The numbers of several relay processes, added up.

A worker sends a `snapshot` of its registry now and then; `Totals` is what Prometheus
reads instead of a registry. What a dead worker counted stays counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

__all__ = ["Family", "Totals", "decode", "snapshot"]

Sample = tuple[str, dict[str, str], float]
Key = tuple[str, tuple[tuple[str, str], ...]]


class Family(Struct, frozen=True, array_like=True):
    """One metric: name, help, type, and its samples (name, labels, value)."""

    name: str
    documentation: str
    kind: str
    samples: tuple[Sample, ...]


def snapshot(registry: CollectorRegistry) -> bytes:
    """Return all numbers of ``registry`` as one line of JSON."""
    families = [
        Family(
            family.name,
            family.documentation,
            family.type,
            tuple((s.name, dict(s.labels), s.value) for s in family.samples),
        )
        for family in registry.collect()
    ]
    return msgspec.json.encode(families) + b"\n"


def decode(line: bytes) -> tuple[Family, ...]:
    """Return what `snapshot` gave; raise `msgspec.MsgspecError` for anything else."""
    return msgspec.json.decode(line, type=tuple[Family, ...])


class Totals:
    """Adds up what workers told; each has a ``name`` of its own, never used again."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Family, ...]] = {}
        self._gone: tuple[Family, ...] = ()

    def tell(self, name: str, families: tuple[Family, ...]) -> None:
        """Take over the newest numbers of a worker."""
        self._told[name] = families

    def forget(self, name: str) -> None:
        """The worker is dead: it has no open relays, but what it counted happened."""
        told = self._told.pop(name, ())
        counted = tuple(family for family in told if family.kind != "gauge")
        self._gone = tuple(_added([self._gone, counted]))

    def collect(self) -> Iterable[Metric]:
        """Yield the sums, as a registry does."""
        for family in _added([self._gone, *self._told.values()]):
            metric = Metric(family.name, family.documentation, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric


def _added(reports: Iterable[tuple[Family, ...]]) -> Iterator[Family]:
    """Yield each family once, with the sum of every sample."""
    found: dict[str, Family] = {}
    sums: dict[str, dict[Key, float]] = {}
    for report in reports:
        for family in report:
            found.setdefault(family.name, family)
            of_family = sums.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = (name, tuple(labels.items()))
                if name.endswith("_created"):  # a moment: the earliest
                    of_family[key] = min(value, of_family.get(key, value))
                else:
                    of_family[key] = of_family.get(key, 0.0) + value
    for name, family in found.items():
        samples = tuple((sample, dict(labels), n) for (sample, labels), n in sums[name].items())
        yield Family(name, family.documentation, family.kind, samples)
