"""The REST face as a service: listens, drains, stops."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from vsmgate.api.admin import Admin
from vsmgate.api.cors import Cors
from vsmgate.api.desk import Desk
from vsmgate.api.doctor import doctor_route
from vsmgate.api.events import Events
from vsmgate.api.metrics import Metrics
from vsmgate.api.openapi import openapi_route
from vsmgate.api.probes import Probes
from vsmgate.api.route import Routes
from vsmgate.api.sharing import Sharing
from vsmgate.api.site import ApiSite
from vsmgate.api.v0 import V0
from vsmgate.api.v1 import V1
from vsmgate.api.views import Views
from vsmgate.config import JobsConfig, MasterConfig, RelayConfig
from vsmgate.door import Door
from vsmgate.doorstep import Doorstep
from vsmgate.forwarding import read_networks
from vsmgate.hands.certificates import Certificates
from vsmgate.hands.tls import tls_layer

__all__ = ["ApiReactor", "ApiService"]

#: How long running calls may go on when the service stops, and how often that is looked at.
_GRACE = 2.0
_GLANCE = 0.05


class ApiReactor(IReactorTCP, IReactorTime):
    """The slice of a reactor that the face needs."""


class ApiService(Service):
    """Serves the REST API on ``[master] host`` and ``port``.

    ``relay``: for the addresses of services. ``jobs``: for the limits that use cases do
    not set themselves. With ``certificates`` it speaks TLS.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: ApiReactor,
        master: MasterConfig,
        relay: RelayConfig,
        desk: Desk,
        metrics: Metrics,
        jobs: JobsConfig | None = None,
        certificates: Certificates | None = None,
        door: Door | None = None,
    ) -> None:
        self._reactor = reactor
        self._master = master
        self._certificates = certificates
        self._desk = desk
        self._draining = False
        self._listener: IListeningPort | None = None
        #: Set its ``relay_port`` once the relay listens, when that is not the configured one.
        self.views = Views(relay, jobs or JobsConfig())
        probes = Probes(self.problems, metrics, open_metrics=master.open_metrics)
        routes = [
            *V0(desk, self.views).routes(),
            *V1(desk, self.views).routes(),
            *Events(desk, self.views, reactor).routes(),
            doctor_route(desk),
            *Sharing(desk.sharing).routes(),
            *Admin(desk, self.views).routes(),
            *probes.routes(),
        ]
        self.site = ApiSite(
            reactor,
            desk,
            Routes([*routes, openapi_route(routes)]),
            Cors(master.allowed_origins),
            metrics,
            doorstep=Doorstep(
                master.max_unauthenticated,
                master.max_unauthenticated_per_address,
                read_networks((*master.trusted_proxies, *relay.trusted_proxies)),
            ),
            max_calls=master.max_calls_per_user,
            max_body=master.max_body,
            door=door,
            trusted=read_networks(master.trusted_proxies),
            head_timeout=master.head_timeout,
        )

    @property
    def port(self) -> int:
        """The bound port."""
        assert self._listener is not None, "not started"
        port: int = self._listener.getHost().port  # type: ignore[attr-defined]  # listenTCP's is an IPv4Address
        return port

    def problems(self) -> Sequence[str]:
        """Return why the gateway is not ready; empty when it is."""
        problems = list(self._desk.problems())
        if self._draining:
            problems.insert(0, "The gateway is shutting down.")
        return problems

    def drain(self) -> None:
        """Say *not ready* from now on; calls are still answered."""
        self._draining = True

    def startService(self) -> None:
        """Listen; raises `twisted.internet.error.CannotListenError` when that cannot be."""
        master = self._master
        self._listener = self._reactor.listenTCP(
            master.port,
            tls_layer(self.site, self._certificates, self._reactor),  # type: ignore[arg-type]  # upstream wants exactly Protocol.factory
            backlog=1024,
            interface=master.host,
        )
        super().startService()
        self._log.info("REST API on {host}:{port}", host=master.host, port=self.port)

    def stopService(self) -> Deferred[None]:
        """Stop listening, let running calls finish for a moment, and close every connection."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.drain()
        self.site.closing = True
        self.site.strangers.finish()
        if self._listener is not None:
            listener, self._listener = self._listener, None
            stopped = listener.stopListening()
            if stopped is not None:
                await stopped
        for channel in list(self.site.channels):
            if channel.idle:
                channel.loseConnection()
            elif channel.streams:
                channel.cancel()
        await self._quiet(_GRACE)
        for channel in list(self.site.channels):
            channel.cancel()
        await self._quiet(_GRACE)
        for channel in list(self.site.channels):
            channel.forceAbortClient()

    async def _quiet(self, seconds: float) -> None:
        """Wait until there is no connection, for so long at most."""
        end = self._reactor.seconds() + seconds
        while self.site.channels and self._reactor.seconds() < end:
            await deferLater(self._reactor, _GLANCE, lambda: None)
