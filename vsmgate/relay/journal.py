"""The relay's records: one line at each end or refusal, and notices for whoever counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.audit import Recorder, Unaudited, Value
from vsmgate.credentials import redact
from vsmgate.errors import GatewayError, TooManyFailures, Unauthenticated
from vsmgate.line_limit import LineLimit
from vsmgate.model import Identity
from vsmgate.relay.desk import Target
from vsmgate.relay.exchange import Exchange
from vsmgate.relay.tunnel import Ending, Tunnel

__all__ = ["Journal", "Passage", "RelayObserver", "Unobserved"]


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


@dataclass(slots=True, eq=False)
class Passage:
    """What is known of one client's connection; times are the reactor's seconds.

    ``tls``: whether a proxy said that the client came by TLS; None: none did. ``leave``: what
    tells the desk of the end of an opened one.
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
    leave: Callable[[], None] | None = None

    def shown(self, identity: Identity) -> None:
        """Note who the client is."""
        self.identity, self.subject = identity, identity.subject

    def admitted(self, target: Target) -> None:
        """Note where the client may go."""
        self.target = target
        self.shown(target.identity)
        # The same strings for all relays of a job, instead of each request's own.
        self.job, self.service = target.job.id, target.service

    def arrived(self) -> Target:
        """Let go of what only the way to the tunnel needed."""
        target, self.target = self.target, None  # it would keep the job as it is now
        assert target is not None
        self.path = ""
        return target


class Journal:
    """Writes the lines and tells the observer."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, observer: RelayObserver, audit: Recorder | None = None
    ) -> None:
        self._audit = audit or Unaudited()
        self._clock = clock
        self._observer = observer
        self._limit = LineLimit(clock.seconds, self._tell_unwritten)

    def opened(self, passage: Passage) -> None:
        """Note that the client has its 101."""
        passage.opened = self._clock.seconds()
        self._observer.opened(passage.service, passage.opened - passage.began)
        if isinstance(passage.tunnel, Tunnel):
            self._record("relay_open", passage)

    def closed(self, passage: Passage, ending: Ending) -> None:
        """Note how an opened passage ended."""
        opened = passage.began if passage.opened is None else passage.opened
        self._observer.closed(passage.service, ending)
        self._record(
            "relay_close" if isinstance(passage.tunnel, Tunnel) else "relay_request",
            passage,
            code=ending.code,
            ended_by=ending.initiator,
            seconds=round(self._clock.seconds() - opened, 3),
        )
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
        if passage.identity is None and not self._limit.allows():
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
        # What the door refused is recorded there, and strangers may not fill this log either.
        if not isinstance(error, Unauthenticated | TooManyFailures):
            self._record("relay_refuse", passage, error.code)

    def finish(self) -> None:
        """Tell of the refusals that were not written."""
        self._limit.finish()

    def _tell_unwritten(self, count: int) -> None:
        self._log.info("{count} more refusals of strangers were not written", count=count)
        self._audit.record("relay_refuse", outcome="refused", count=count)

    def _record(self, action: str, passage: Passage, outcome: str = "ok", **details: Value) -> None:
        identity = passage.identity
        self._audit.record(
            action,
            outcome=outcome,
            subject="" if identity is None else identity.subject,
            authenticator="" if identity is None else identity.authenticator,
            job=passage.job.strip("-"),
            peer=passage.peer,
            request_id=passage.request_id,
            service=passage.service,
            **details,
        )


def _who(passage: Passage) -> dict[str, str]:
    return {
        "request_id": passage.request_id,
        "job": passage.job,
        "service": passage.service,
        "subject": redact(passage.subject),
        "peer": passage.peer,
    }
