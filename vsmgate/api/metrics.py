"""What Prometheus reads: one registry, the gateway's numbers, no label per user.

The relay and the jobs' services tell their numbers to `Metrics`; the number of jobs is
asked when somebody reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vsmgate.errors import GatewayError
from vsmgate.lifecycle import State
from vsmgate.model import Job
from vsmgate.relay.tunnel import Ending

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_STATUSES = frozenset(map(int, HTTPStatus))
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
_STARTS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 900, 3600, 14400)


class Counting(Protocol):
    """What is asked for the number of jobs."""

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """Return how many live jobs there are by (state, use case, launcher)."""


class Collected(Protocol):
    """What metrics are read from."""

    def collect(self) -> Iterable[Metric]:
        """Return all of them."""


class Metrics:
    """The gateway's numbers."""

    def __init__(self, desk: Counting) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(_Jobs(desk))
        #: The relay's, apart: where it runs in processes of its own, this one reads their sums.
        self.relays = CollectorRegistry()
        self.relay_source: Collected = self.relays
        self._requests = Counter(
            "vsmgate_http_requests",
            "Answered REST requests.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "vsmgate_http_request_seconds",
            "From a whole REST request to its answer.",
            ("route",),
            registry=registry,
        )
        self._queue_seconds = Histogram(
            "vsmgate_job_queue_seconds",
            "From the engine's acceptance of a job until it ran.",
            ("usecase", "launcher"),
            buckets=_STARTS,
            registry=registry,
        )
        self._start_seconds = Histogram(
            "vsmgate_job_start_seconds",
            "From the request of a job until every service answered.",
            ("usecase", "launcher"),
            buckets=_STARTS,
            registry=registry,
        )
        self._failures = Counter(
            "vsmgate_job_failures",
            "Jobs that failed or were lost.",
            ("reason",),
            registry=registry,
        )
        self._ended = Counter(
            "vsmgate_jobs_ended",
            "Jobs that ended, by how and why (docs/reasons.md).",
            ("state", "reason", "launcher"),
            registry=registry,
        )
        self._relays = Gauge(
            "vsmgate_relay_connections", "Open relays.", ("service",), registry=self.relays
        )
        self._opening_seconds = Histogram(
            "vsmgate_relay_opening_seconds",
            "From a client's connection to its 101.",
            ("service",),
            registry=self.relays,
        )
        self._closed = Counter(
            "vsmgate_relay_closed",
            "Relays that are over, by who ended them.",
            ("service", "initiator", "code"),
            registry=self.relays,
        )
        self._octets = Counter(
            "vsmgate_relay_bytes",
            "Octets of relays that are over.",
            ("service", "direction"),
            registry=self.relays,
        )
        refused = Counter(
            "vsmgate_relay_refused",
            "WebSocket handshakes answered with an HTTP error.",
            ("code",),
            registry=self.relays,
        )
        #: Finding a metric by its labels takes longer than counting.
        self._refused = cache(refused.labels)
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._starting: set[str] = set()

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered REST request; ``route`` is its pattern, not its address."""
        method = method if method in _METHODS else "other"
        key = (route, method, status)
        found = self._answered.get(key)
        if found is None:
            found = self._answered[key] = (
                self._requests.labels(route, method, str(status)),
                self._request_seconds.labels(route),
            )
        count, duration = found
        count.inc()
        duration.observe(seconds)

    # -- the jobs' notices (`vsmgate.jobs.book.JobBook.watch`) ----------------------------

    def job_changed(self, job: Job) -> None:
        """Count a job that became ready, with the time that took, or that ended.

        A job that was ready before this process saw it started in another's time.
        """
        if job.ready and job.id in self._starting:
            self._started(job)
        if job.ready or job.ended:
            self._starting.discard(job.id)
        else:
            self._starting.add(job.id)
        if job.ended:
            code = job.reason.code if job.reason else "unknown"
            self._ended.labels(str(job.state), code, job.usecase.launcher).inc()
        if job.state in (State.FAILED, State.LOST):
            self._failures.labels(job.reason.code if job.reason else "unknown").inc()

    def _started(self, job: Job) -> None:
        labels = (job.usecase.name, job.usecase.launcher)
        timings = job.timings
        if timings.submitted_at is not None and timings.running_at is not None:
            waited = max(0.0, timings.running_at - timings.submitted_at)
            self._queue_seconds.labels(*labels).observe(waited)
        if timings.ready_at is not None:
            took = max(0.0, timings.ready_at - job.created_at)
            self._start_seconds.labels(*labels).observe(took)

    # -- the relay's notices (`vsmgate.relay.journal.RelayObserver`) ----------------------

    def opened(self, service: str, seconds: float) -> None:
        """Count a relay that opened."""
        self._relays.labels(service).inc()
        self._opening_seconds.labels(service).observe(seconds)

    def closed(self, service: str, ending: Ending) -> None:
        """Count a relay that is over."""
        self._relays.labels(service).dec()
        self._closed.labels(service, ending.initiator, _close_code(ending.code)).inc()
        self._octets.labels(service, "from_client").inc(ending.client_octets)
        self._octets.labels(service, "from_service").inc(ending.service_octets)

    def refused(self, error: GatewayError) -> None:
        """Count a handshake that was refused."""
        self._refused(error.code).inc()

    def render(self) -> bytes:
        """Return everything in Prometheus's text format."""
        relays: Any = self.relay_source  # whatever collects will do
        return generate_latest(self.registry) + generate_latest(relays)


def _close_code(code: int | None) -> str:
    """Return a label; peers can send thousands of private codes (RFC 6455 section 7.4.2).

    So can services that answer plain requests, whose statuses are here too.
    """
    if code is None:
        return "none"
    known = code in _STATUSES or 1000 <= code < 1016 or 4400 <= code < 4500
    return str(code) if known else "other"


class _Jobs(Collector):
    """``vsmgate_jobs``, counted when read."""

    def __init__(self, desk: Counting) -> None:
        self._desk = desk

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name the metric without counting."""
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Count."""
        family = self._family()
        for labels, number in self._desk.counts().items():
            family.add_metric(labels, number)
        return [family]

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "vsmgate_jobs", "Live jobs.", labels=("state", "usecase", "launcher")
        )
