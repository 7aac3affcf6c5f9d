"""The numbers of several workers, added up."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vsmgate.relay.totals import Totals, decode, snapshot


class Numbers:
    """A worker's registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.closed = Counter("closed", "Closed.", ("code",), registry=self.registry)
        self.open = Gauge("open", "Open.", registry=self.registry)
        self.took = Histogram("took", "Took.", buckets=(1, 2), registry=self.registry)

    def tell(self, totals: Totals, name: str) -> None:
        totals.tell(name, decode(snapshot(self.registry)))


def value(totals: Totals, name: str, **labels: str) -> float | None:
    for metric in totals.collect():
        for sample in metric.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_sums_and_what_a_dead_worker_leaves() -> None:
    totals, one, two = Totals(), Numbers(), Numbers()
    one.closed.labels("1000").inc(3)
    two.closed.labels("1000").inc(4)
    two.closed.labels("1012").inc()
    one.open.set(5)
    two.open.set(6)
    one.took.observe(0.5)
    two.took.observe(1.5)
    for numbers, name in ((one, "one"), (two, "two"), (two, "two")):
        numbers.tell(totals, name)
    assert value(totals, "closed_total", code="1000") == 7
    assert value(totals, "closed_total", code="1012") == 1
    assert value(totals, "open") == 11
    assert value(totals, "took_bucket", le="1.0") == 1
    assert value(totals, "took_bucket", le="+Inf") == 2
    totals.forget("two")
    totals.forget("two")
    three = Numbers()
    three.closed.labels("1000").inc()
    three.tell(totals, "three")
    assert value(totals, "open") == 5
    assert value(totals, "closed_total", code="1000") == 8
    assert value(totals, "took_sum") == 2.0


def test_prometheus_reads_it_like_a_registry() -> None:
    totals, one = Totals(), Numbers()
    assert generate_latest(totals) == b""  # type: ignore[arg-type]  # all that is used is collect()
    one.closed.labels('a"b\n').inc()
    one.tell(totals, "one")
    assert generate_latest(totals) == generate_latest(one.registry)  # type: ignore[arg-type]


@pytest.mark.parametrize("line", [b"", b"{}", b"[[1]]", b'[["a","b","c",[["x",{},"y"]]]]'])
def test_what_is_no_report(line: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(line)
