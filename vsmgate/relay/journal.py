"""The relay's records: one line at each end or refusal, and notices for whoever counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.credentials import redact
from vsmgate.errors import GatewayError
from vsmgate.model import Identity
from vsmgate.relay.desk import Target
from vsmgate.relay.exchange import Exchange
from vsmgate.relay.tunnel import Ending, Tunnel

__all__ = ["Journal", "Passage", "RelayObserver", "Unobserved"]

#: Refusals written per second; the others are counted (strangers must not fill a disk).
LINES_PER_SECOND = 10


class RelayObserver(Protocol):
    """Whoever counts relays."""

    def opened(self, service: str, seconds: float) -> None:
        """A relay opened, ``seconds`` after the client's connection."""

    def closed(self, service: str, ending: Ending) -> None:
        """A relay that was `opened` is over."""

    def refused(self, error: GatewayError) -> None:
        """A client was answered with an HTTP status instead."""


class Unobserved:
    """Nobody counts."""

    def opened(self, service: str, seconds: float) -> None:
        """Do nothing."""

    def closed(self, service: str, ending: Ending) -> None:
        """Do nothing."""

    def refused(self, error: GatewayError) -> None:
        """Do nothing."""


@dataclass(slots=True)
class Passage:
    """What is known of one client's connection; times are the reactor's seconds.

    ``tls``: whether a proxy said that the client came by TLS; None: none did.
    """

    request_id: str
    peer: str
    began: float
    path: str = "-"
    job: str = "-"
    service: str = "-"
    subject: str = "-"
    identity: Identity | None = None
    target: Target | None = None
    opened: float | None = None
    tls: bool | None = None
    tunnel: Tunnel | Exchange | None = None

    def admitted(self, target: Target) -> None:
        """Note where the client may go, and who it is."""
        self.target, self.identity = target, target.identity
        self.subject = target.identity.subject


class Journal:
    """Writes the lines and tells the observer."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, observer: RelayObserver) -> None:
        self._clock = clock
        self._observer = observer
        self._second = 0.0
        self._lines = 0
        self._unwritten = 0

    def opened(self, passage: Passage) -> None:
        """Note that the client has its 101."""
        passage.opened = self._clock.seconds()
        self._observer.opened(passage.service, passage.opened - passage.began)

    def closed(self, passage: Passage, ending: Ending) -> None:
        """Note how an opened passage ended."""
        opened = passage.began if passage.opened is None else passage.opened
        self._observer.closed(passage.service, ending)
        self._log.info(
            "relay {request_id} job={job} service={service} subject={subject} peer={peer}"
            " ended_by={initiator} code={code}"
            " octets={octets_in}/{octets_out} frames={frames_in}/{frames_out}"
            " open={seconds_open:.3f}s opening={seconds_opening:.3f}s",
            **_who(passage),
            initiator=ending.initiator,
            code=ending.code,
            octets_in=ending.client_octets,
            octets_out=ending.service_octets,
            frames_in=ending.client_frames,
            frames_out=ending.service_frames,
            seconds_open=self._clock.seconds() - opened,
            seconds_opening=opened - passage.began,
        )

    def refused(self, passage: Passage, error: GatewayError) -> None:
        """Note an HTTP answer other than 101."""
        self._observer.refused(error)
        if not self._may_write():
            return
        self._log.info(
            "refused {request_id} status={status} error={error_code} path={path}"
            " job={job} service={service} subject={subject} peer={peer}"
            " after={seconds:.3f}s",
            **_who(passage),
            path=redact(passage.path),
            status=error.status,
            error_code=error.code,
            seconds=self._clock.seconds() - passage.began,
        )

    def finish(self) -> None:
        """Tell of the refusals that were not written."""
        if self._unwritten:
            self._log.info("{count} more refusals were not written", count=self._unwritten)
            self._unwritten = 0

    def _may_write(self) -> bool:
        now = self._clock.seconds()
        if now - self._second >= 1.0:
            self.finish()
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES_PER_SECOND:
            self._unwritten += 1
        return self._lines <= LINES_PER_SECOND


def _who(passage: Passage) -> dict[str, str]:
    return {
        "request_id": passage.request_id,
        "job": passage.job,
        "service": passage.service,
        "subject": redact(passage.subject),
        "peer": passage.peer,
    }
