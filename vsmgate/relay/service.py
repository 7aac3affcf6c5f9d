"""The relay's Twisted service: listens, counts, and drains."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from vsmgate.config import RelayConfig
from vsmgate.door import Door
from vsmgate.doorstep import Doorstep
from vsmgate.errors import Forbidden, GatewayError, Unauthenticated, Unavailable
from vsmgate.forwarding import read_networks
from vsmgate.hands.certificates import Certificates
from vsmgate.hands.descriptors import room_for_pairs
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.epoll_set import EpollSet
from vsmgate.hands.proxy_protocol import behind_proxy
from vsmgate.hands.tls import tls_layer
from vsmgate.relay.curfew import Curfew
from vsmgate.relay.desk import Credential, Desk, Target
from vsmgate.relay.engines import wire_maker
from vsmgate.relay.journal import Journal, Passage, RelayObserver, Unobserved
from vsmgate.relay.listener import Listener
from vsmgate.relay.opening import Opening
from vsmgate.relay.patrol import Patrol
from vsmgate.relay.places import Places, Shared
from vsmgate.relay.route import origins_of
from vsmgate.relay.tunnel import Ending, Tunnel, TunnelLimits

__all__ = ["RelayService"]

RESTART = 1012  #: the close code of a gateway that goes (RFC 6455, IANA registry)

#: Seconds that a service which must stop at once waits for what it closes.
HASTE = 2.0


class RelayService(Service):
    """The WebSocket face.

    ``reactor`` provides TCP, time and name resolution; ``dialler`` reaches services,
    and with ``certificates`` the listener speaks TLS. ``listener``: the descriptor of a
    listening socket to take instead of an own one. ``others``: see `Places`.
    Starting fails with `twisted.internet.error.CannotListenError` where the port cannot be had.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: RelayConfig,
        desk: Desk,
        observer: RelayObserver | None = None,
        dialler: Dialler | None = None,
        certificates: Certificates | None = None,
        listener: int | None = None,
        door: Door | None = None,
        others: Shared | None = None,
    ) -> None:
        self.reactor = reactor
        self.dialler = dialler or Dialler(reactor)
        self._certificates = certificates
        self._listener = listener
        self.config = config
        self.desk = desk
        self.places = Places(config.max_per_user, others)
        self.limits = TunnelLimits(
            stall_timeout=config.stall_timeout,
            dead_peer_timeout=config.dead_peer_timeout,
            linger=config.linger,
        )
        self.epoll = EpollSet(reactor)
        self.make_wire = wire_maker(config.engine, reactor, self.epoll)
        self.origins: frozenset[str] = frozenset()
        self.trusted = read_networks(config.trusted_proxies)
        self.draining = False
        self._door = door or Door()
        self._journal = Journal(reactor, observer or Unobserved(), self._door.audit)
        self._listening: IListeningPort | None = None
        self._most = config.max_connections
        self._openings: dict[Opening, Callable[[], None]] = {}
        self._doorstep = Doorstep(
            config.max_unauthenticated, config.max_unauthenticated_per_address, self.trusted
        )
        self._passages: set[Passage] = set()
        self._waiting: list[Deferred[bool]] = []
        grace = config.expiry_grace if config.expiry == "close" else None
        self._curfew = Curfew(reactor, desk, grace)
        self._patrol = Patrol(reactor, desk)

    # -- for the roof -----------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where it listens; 0 while it does not."""
        host: Any = None if self._listening is None else self._listening.getHost()
        return 0 if host is None else int(host.port)

    @property
    def relays(self) -> int:
        """How many relays are open."""
        return len(self._passages)

    def privilegedStartService(self) -> None:
        """Listen while the process may still take low ports."""
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """Listen."""
        super().startService()
        self._listen()

    def drain(self) -> Deferred[None]:
        """Take nobody new, wait for the relays, and close those that stay; fires when all are gone.

        Waits up to ``drain``, then closes with 1012 over ``drain_spread``, then up to
        ``linger`` for what the closing relays still hold.
        """
        config = self.config
        return Deferred.fromCoroutine(self._end(config.drain, config.drain_spread, config.linger))

    def stopService(self) -> Deferred[None]:
        """Close everything at once; after `drain` there is nothing left to close."""
        super().stopService()
        return Deferred.fromCoroutine(self._end(0.0, 0.0, HASTE))

    # -- for openings -------------------------------------------------------------------

    def entered(self, opening: Opening, peer: str) -> GatewayError | None:
        """Count a new connection from ``peer``; returns why there is no room for it."""
        error: GatewayError | None = None
        full = len(self._openings) + len(self._passages) >= self._most
        self._openings[opening] = _nothing
        try:
            self._openings[opening] = self._doorstep.enter(peer)
        except GatewayError as refusal:
            error = refusal
        return Unavailable("The gateway has as many connections as it can.") if full else error

    def known(self, opening: Opening) -> None:
        """The client has shown who it is."""
        self._openings[opening]()

    async def admit(self, passage: Passage, credential: Credential | None) -> Target:
        """Return where ``passage`` may dial; what an address may try is limited here."""
        door, who = self._door, (passage.peer, passage.request_id, "relay")
        # Sessions cannot be guessed and cost nothing; a page whose session is over asks often.
        counted = None if credential is None or credential.kind == "session" else credential
        if counted is not None:
            door.check(counted.secret, *who)
        try:
            target = await self.desk.admit(passage.job, passage.service, credential, passage.shown)
        except Unauthenticated:
            if counted is not None:
                door.failed(counted.secret, *who)
            raise
        if counted is not None and counted.kind == "bearer":
            door.passed(counted.secret)
        return target

    def opened(self, opening: Opening, passage: Passage) -> None:
        """``passage.tunnel`` has taken over."""
        self._leave(opening)
        self._passages.add(passage)
        target = passage.arrived()
        self._journal.opened(passage)
        self._curfew.begin(passage)
        self._patrol.begin(passage)
        revoked = partial(self.reactor.callLater, 0, self._revoked, passage)
        passage.leave = self.desk.visit(target, isinstance(passage.tunnel, Tunnel), revoked)

    def ended(self, passage: Passage, ending: Ending) -> None:
        """The tunnel of an opened passage is over."""
        self._passages.discard(passage)
        if passage.leave is not None:
            passage.leave()
            passage.leave = None  # what it holds may hold the passage
        self._curfew.end(passage)
        self._patrol.end(passage)
        self._journal.closed(passage, ending)
        self._tell()

    def refused(self, passage: Passage, error: GatewayError) -> None:
        """The client is being answered with an error."""
        self._journal.refused(passage, error)

    def left(self, opening: Opening) -> None:
        """The connection of an opening that came to no tunnel is gone."""
        self._leave(opening)
        self._tell()

    # -- inside ---------------------------------------------------------------------------

    def _leave(self, opening: Opening) -> None:
        self._openings.pop(opening, _nothing)()

    def _listen(self) -> None:
        if self._listening is None:
            config = self.config
            self._most = min(config.max_connections, room_for_pairs())
            if self._most < config.max_connections:
                self._log.warn(
                    "room for {most} connections, not for max_connections = {wanted}: "
                    "this process may not open more files (ulimit -n, LimitNOFILE)",
                    most=self._most,
                    wanted=config.max_connections,
                )
            factory = behind_proxy(
                tls_layer(Listener(self), self._certificates, self.reactor),
                config.proxy_protocol,
                config.head_timeout,
                self.reactor,
            )
            if self._listener is None:
                self._listening = self.reactor.listenTCP(
                    config.port, factory, backlog=1024, interface=config.host
                )
            else:
                family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
                self._listening = self.reactor.adoptStreamPort(self._listener, family, factory)
            self.origins = origins_of(config, self.port)
            self._log.info("relay listens on {host}:{port}", host=config.host, port=self.port)

    async def _end(self, wait: float, spread: float, linger: float) -> None:
        self.draining = True
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)
        for opening in list(self._openings):
            opening.refuse(Unavailable("The gateway is about to restart."))
        await self._gone(wait)
        rest = list(self._passages)
        if rest:
            self._log.info("closing {count} relays", count=len(rest))
        calls = [
            self.reactor.callLater(spread * number / len(rest), self._close, passage)
            for number, passage in enumerate(rest)
        ]
        await self._gone(spread + linger)
        for call in calls:
            if call.active():
                call.cancel()
        for passage in list(self._passages):
            assert passage.tunnel is not None
            passage.tunnel.abort()
        await self._gone(HASTE)
        self._journal.finish()

    def _revoked(self, passage: Passage) -> None:
        if passage in self._passages and passage.tunnel is not None:
            passage.tunnel.close(Forbidden.close, "Your right on this job has ended.")

    def _close(self, passage: Passage) -> None:
        if passage in self._passages and passage.tunnel is not None:
            passage.tunnel.close(RESTART, "The gateway restarts.")

    def _tell(self) -> None:
        if not self._openings and not self._passages:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(True)

    async def _gone(self, seconds: float) -> bool:
        """Wait until nobody is connected, for ``seconds`` at most; tells whether it is so."""
        if not self._openings and not self._passages:
            return True
        waiting: Deferred[bool] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return await waiting.addTimeout(seconds, self.reactor, onTimeoutCancel=lambda *_: False)


def _nothing() -> None:
    """Leave no doorstep."""
