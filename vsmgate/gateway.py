"""The running gateway: what starts in which order, and how it ends.

Start: lock the state directory, open the store, read the live jobs, watch their
engines, then listen. End (SIGTERM or Ctrl-C): not ready, no new connections, wait for
relays up to ``drain``, close the rest with 1012, let go of engines; jobs go on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.announcement import announcement, leave, say, why_not
from vsmgate.api.metrics import Metrics
from vsmgate.api.service import ApiService
from vsmgate.assembly import Assembly
from vsmgate.config import Config
from vsmgate.errors import ConfigError, GatewayError
from vsmgate.guard import Guard
from vsmgate.hands.certificates import Certificates
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.keyfile import key_in
from vsmgate.hands.place_locks import PlaceLocks
from vsmgate.job_secrets import JobSecrets
from vsmgate.jobs.access import Access
from vsmgate.jobs.activity import Activity
from vsmgate.jobs.book import JobBook, quota_of
from vsmgate.jobs.chronicle import Chronicle
from vsmgate.jobs.desk import JobDesk
from vsmgate.jobs.doctor import Doctor
from vsmgate.jobs.driver import drivers_of
from vsmgate.jobs.fitness import Fitness, room_in
from vsmgate.jobs.prober import Prober
from vsmgate.jobs.reaper import Reaper
from vsmgate.jobs.strays import tell_strays
from vsmgate.jobs.ticker import Ticker
from vsmgate.relay.crew import Crew, WorkerCommand
from vsmgate.relay.service import RelayService
from vsmgate.relay.totals import Totals
from vsmgate.sessions import KEY_SIZE, Sessions
from vsmgate.signals import take_signals

__all__ = ["Gateway", "WorkerCommand"]

#: Seconds between two looks at what other processes changed in a shared store, and
#: between two at the files of certificates.
REFRESH = 1.0

#: Seconds from a job's stop to its cancelling where the relays are in other processes.
NOTICE = 1.5 * REFRESH


class Gateway(MultiService):
    """All services of one process.

    ``worker``: how to start a relay worker. ``listener``: this is one, which serves a
    listening socket that it inherited.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        assembly: Assembly,
        state_dir: Path,
        reactor: Any,
        wall: Callable[[], float],
        worker: WorkerCommand,
        listener: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.state_dir = state_dir
        self._reactor = reactor
        self._assembly = assembly
        self._is_worker = listener is not None
        master, relay = config.role != "relay", config.role != "master"
        # With workers the relays, and so their news of jobs, are in other processes.
        alone = config.role == "all" and config.relay.workers == 1
        self._locks = () if self._is_worker else assembly.locks
        self._book = JobBook(assembly.store)
        jobs = config.jobs
        quota = quota_of(jobs)
        guard = self._guard = Guard(config, state_dir, assembly.store, reactor, wall)
        key = key_in(state_dir / "relay.key", KEY_SIZE)
        secrets = JobSecrets(key)
        launchers = assembly.launchers if master else {}
        notice = 0.0 if alone else NOTICE
        self.drivers = drivers_of(
            launchers, assembly.plan, self._book, jobs, reactor, wall, notice, secrets
        )
        assembly.nudges.update({n: driver.ticker.nudge for n, driver in self.drivers.items()})
        self._activity = Activity(self._book, reactor, wall, jobs.idle_timeout)
        self._dialler = Dialler(reactor)
        access = Access(
            self._book,
            assembly.store,
            assembly.authenticators,
            wall,
            self._activity.note,
            assembly.rules,
            Sessions(key, config.relay.session_lifetime),
            secrets,
            guard.audit,
            guard.revocations,
        )
        fitness = Fitness(self._book, partial(room_in, state_dir), reactor, wall)
        doctor = Doctor(access, self.drivers, self._dialler, assembly.rules, wall, secrets)
        self._visits = access.visits
        self.desk = JobDesk(
            self._book,
            assembly.store,
            self.drivers,
            access,
            assembly.usecases,
            jobs,
            quota,
            reactor,
            wall,
            doctor,
            guard.permissions,
            guard.revocations,
            fitness.problems,
        )
        metrics = self.metrics = Metrics(self.desk)
        self._book.watch(metrics.job_changed)
        self._watching: list[Any] = [
            self._activity.ticker,
            Ticker("visits", self._visits.tick, reactor),
            *guard.tickers,
        ]
        if not alone:
            self._watching.append(Ticker("refresh", self._refresh, reactor, REFRESH))
        if master:
            self._watching.append(fitness.ticker)
            self._book.watch(Chronicle().note)
            prober = Prober(self._book, reactor, wall, doctor)
            reaper = Reaper(
                self._book,
                assembly.store,
                self.drivers,
                self._activity,
                prober.trouble,
                jobs,
                quota,
                reactor,
                wall,
            )
            driving = [s for driver in self.drivers.values() for s in driver.services]
            self._watching += [*driving, prober, reaper.ticker]
        self._certificates = {
            where: Certificates(face.tls, f"{where}.tls")
            for where, face in (("master", config.master), ("relay", config.relay))
            if face.tls is not None
        }
        if self._certificates:
            self._watching.append(Ticker("certificates", self._renew, reactor))
        certificate = self._certificates.get
        self.api = ApiService(
            reactor, config.master, config.relay, self.desk, metrics, jobs,
            certificate("master"), guard.door,
        )  # fmt: skip
        self.relay: RelayService | Crew
        if self._is_worker or config.relay.workers == 1:
            others = PlaceLocks(state_dir / "relay.places") if self._is_worker else None
            self.relay = RelayService(
                reactor, config.relay, access, metrics, self._dialler, certificate("relay"),
                listener, guard.door, others,
            )  # fmt: skip
        else:
            metrics.relay_source = totals = Totals()
            self.relay = Crew(reactor, config.relay, worker, totals)
        self._faces = [face for face, here in ((self.api, master), (self.relay, relay)) if here]
        self._ending = False

    async def _refresh(self) -> float:
        await self._book.refresh()
        return REFRESH

    async def _renew(self) -> float:
        self._renew_now()
        return REFRESH

    # -- start --------------------------------------------------------------------

    def startService(self) -> None:
        """Begin to start; what fails ends the process with a clear line and status 1."""
        super().startService()
        # Not before the reactor runs: only then can a failure end it.
        self._reactor.callLater(0, self._begin)

    def _begin(self) -> None:
        take_signals(self._reactor, self._signalled, self._renew_now, worker=self._is_worker)
        Deferred.fromCoroutine(self._start()).addErrback(self._fatal)

    async def _start(self) -> None:
        for lock in self._locks:
            lock.acquire()
        self._guard.open()
        await self._assembly.store.open()
        await self._book.load()
        await self._guard.revocations.load()
        if self._ending:
            return
        await tell_strays(self._assembly.launchers, self._book)
        for service in (*self._watching, *self._faces):
            service.setServiceParent(self)
        # Services are never where the gateway itself listens.
        hosts = {self.api: self.config.master.host, self.relay: self.config.relay.host}
        self._dialler.listening |= {(hosts[face], face.port) for face in self._faces}
        if self._is_worker:
            self._dialler.listening.add((self.config.master.host, self.config.master.port))
        if self.relay in self._faces:
            self.api.views.relay_port = self.relay.port
        if isinstance(self.relay, Crew) and self.api in self._faces:
            self.relay.options = ("--master-port", str(self.api.port))
        self._announce()

    def _fatal(self, failure: Failure) -> None:
        if self._ending:
            return
        if not failure.check(CannotListenError, ConfigError, GatewayError):
            self._log.failure("the gateway cannot start", failure)
        say(f"vsmgate: {why_not(self.config, failure.value)}", sys.__stderr__)
        # twistd has no other way to end with a status than this, once all has stopped.
        self._reactor.addSystemEventTrigger("after", "shutdown", leave, 1)
        self._reactor.stop()

    def _announce(self) -> None:
        master = self.api.port if self.api in self._faces else None
        relay = self.relay.port if self.relay in self._faces else None
        if not self._is_worker:
            say(announcement(self.config, self.state_dir, master, relay), sys.__stdout__)

    # -- end ----------------------------------------------------------------------

    def _renew_now(self) -> None:
        for certificates in self._certificates.values():
            certificates.refresh()

    def drain_and_stop(self) -> None:
        """End as on SIGTERM, unless that is under way."""
        if not self._ending:
            self._signalled()

    def _signalled(self) -> None:
        """Drain and end with status 0; what comes again, or too early, does not wait."""
        if self._ending or not all(face.running for face in self._faces):
            self._log.info("stopping now")
            self._stop_reactor()
            return
        self._ending = True
        self._log.info("draining, jobs go on; a second signal (Ctrl-C) stops at once")
        drained = Deferred.fromCoroutine(self.drain())
        drained.addErrback(lambda failure: self._log.failure("draining failed", failure))
        drained.addCallback(self._stop_reactor)

    def _stop_reactor(self, _: object = None) -> None:
        if self._reactor.running:
            self._reactor.stop()

    async def drain(self) -> None:
        """Refuse what is new, and wait until the relays are over."""
        self.api.drain()
        await self.relay.drain()

    def stopService(self) -> Deferred[None]:
        """Let go of everything; jobs go on."""
        self._ending = True
        return Deferred.fromCoroutine(self._stop(super().stopService()))

    async def _stop(self, children: Deferred[Any]) -> None:
        async with AsyncExitStack() as closings:  # from the last to the first, whatever one raises
            for lock in self._locks:
                closings.callback(lock.release)
            closings.callback(self._guard.close)
            closings.push_async_callback(self._assembly.store.close)
            for driver in self.drivers.values():
                closings.push_async_callback(driver.launcher.close)
            try:
                await children
                await self._activity.flush()
                await self._visits.flush()
            except GatewayError as error:
                self._log.warn("not stored: {error}", error=str(error))
