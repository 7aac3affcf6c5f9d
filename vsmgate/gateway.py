"""The running gateway: what starts in which order, and how it ends.

Start: lock the state directory, open the store, read the live jobs, watch their
engines, then listen. End (SIGTERM or Ctrl-C): not ready, no new connections, wait for
relays up to ``drain``, close the rest with 1012, let go of engines; jobs go on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate import __version__
from vsmgate.api.metrics import Metrics
from vsmgate.api.service import ApiService
from vsmgate.assembly import Assembly
from vsmgate.config import Config
from vsmgate.errors import ConfigError, GatewayError
from vsmgate.hands.lockfile import LockFile
from vsmgate.jobs.access import Access
from vsmgate.jobs.activity import Activity
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.desk import JobDesk
from vsmgate.jobs.driver import Driver
from vsmgate.jobs.prober import Prober
from vsmgate.jobs.reaper import Reaper
from vsmgate.jobs.ticker import Ticker
from vsmgate.model import Quota
from vsmgate.relay.service import RelayService

__all__ = ["Gateway"]

#: Seconds between two looks at what other processes changed in a shared store.
REFRESH = 1.0


class Gateway(MultiService):
    """All services of one process."""

    _log = Logger()

    def __init__(
        self,
        config: Config,
        assembly: Assembly,
        state_dir: Path,
        reactor: Any,
        wall: Callable[[], float],
    ) -> None:
        super().__init__()
        self.config = config
        self.state_dir = state_dir
        self._reactor = reactor
        self._assembly = assembly
        self._wall = wall
        master, relay = config.role != "relay", config.role != "master"
        self._locks = [
            LockFile(state_dir / f"{role}.lock")
            for role, here in (("master", master), ("relay", relay))
            if here
        ]
        self._book = JobBook(assembly.store)
        jobs = config.jobs
        quota = Quota(jobs.max_per_user, jobs.max_total, jobs.over_quota == "queue")
        launchers = assembly.launchers if master else {}
        self.drivers = {
            name: Driver(name, launcher, assembly.plan, self._book, jobs, reactor, wall)
            for name, launcher in launchers.items()
        }
        assembly.nudges.update({n: driver.ticker.nudge for n, driver in self.drivers.items()})
        self._activity = Activity(self._book, reactor, wall)
        access = Access(
            self._book, assembly.store, assembly.authenticators, wall, self._activity.note
        )
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
        )
        metrics = Metrics(self.desk)
        self._book.watch(metrics.job_changed)
        self._watching: list[Any] = [self._activity.ticker]
        if config.role != "all":
            self._watching.append(Ticker("refresh", self._refresh, reactor, REFRESH))
        if master:
            prober = Prober(self._book, reactor, wall)
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
            tickers = [driver.ticker for driver in self.drivers.values()]
            self._watching += [*tickers, prober, reaper.ticker]
        self.api = ApiService(reactor, config.master, config.relay, self.desk, metrics, jobs)
        self.relay = RelayService(reactor, config.relay, access, metrics)
        self._faces = [face for face, here in ((self.api, master), (self.relay, relay)) if here]
        self._ending = False

    async def _refresh(self) -> float:
        await self._book.refresh()
        return REFRESH

    # -- start --------------------------------------------------------------------

    def startService(self) -> None:
        """Begin to start; what fails ends the process with a clear line and status 1."""
        super().startService()
        # Not before the reactor runs: only then can a failure end it.
        self._reactor.callLater(0, self._begin)

    def _begin(self) -> None:
        Deferred.fromCoroutine(self._start()).addErrback(self._fatal)

    async def _start(self) -> None:
        for lock in self._locks:
            lock.acquire()
        await self._assembly.store.open()
        await self._book.load()
        orphans = {j.usecase.launcher for j in self._book.live()} - self.drivers.keys()
        if orphans and self.drivers:
            self._log.warn("live jobs of launchers not configured: {names}", names=sorted(orphans))
        for service in (*self._watching, *self._faces):
            service.setServiceParent(self)
        if self.relay in self._faces:
            self.api.views.relay_port = self.relay.port
        self._take_signals()
        self._announce()

    def _fatal(self, failure: Failure) -> None:
        if self._ending:
            return
        if failure.check(ConfigError, GatewayError, CannotListenError):
            said = failure.getErrorMessage()
        else:
            self._log.failure("the gateway cannot start", failure)
            said = f"cannot start: {failure.getErrorMessage()}"
        _say(f"vsmgate: {said}", sys.__stderr__)
        # twistd has no other way to end with a status than this, once all has stopped.
        self._reactor.addSystemEventTrigger("after", "shutdown", _leave, 1)
        self._reactor.stop()

    def _announce(self) -> None:
        config = self.config
        lines = [f"vsmgate {__version__} ({config.role})"]
        if self.api in self._faces:
            base = f"http://{_authority(config.master.host, self.api.port)}"
            lines.append(f"  master  {base}")
            token = self.state_dir / "token"
            if token.exists():
                lines.append(f"  token   {token}")
                lines.append(
                    f'  try     curl -H "Authorization: Bearer $(cat {token})"'
                    " -H 'Content-Type: application/json'"
                    f""" -d '{{"usecase": "{config.jobs.default_usecase}"}}' {base}/start"""
                )
        if self.relay in self._faces:
            base = _authority(config.relay.host, self.relay.port)
            lines.insert(2 if len(lines) > 1 else 1, f"  relay   ws://{base}")
        _say("\n".join(lines), sys.__stdout__)

    # -- end ----------------------------------------------------------------------

    def _take_signals(self) -> None:
        """Drain on SIGTERM and SIGINT and end with status 0; a second one does not wait.

        Twisted's own handler would stop at once and report the signal as the status.
        """

        def take(number: int, frame: object) -> None:
            self._reactor.callFromThread(self._signalled)

        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, take)
        except ValueError:  # not in the main thread: an embedding program decides
            self._log.debug("signals are left to the embedding program")

    def _signalled(self) -> None:
        if self._ending:
            self._log.info("stopping now")
            self._stop_reactor()
            return
        self._ending = True
        self._log.info("draining; once more to stop at once")
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
        try:
            await children
            await self._activity.flush()
        except GatewayError as error:
            self._log.warn("not stored: {error}", error=str(error))
        finally:
            for driver in self.drivers.values():
                await driver.launcher.close()
            await self._assembly.store.close()
            for lock in self._locks:
                lock.release()


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _say(text: str, stream: Any) -> None:
    """Write for people, past the log (which has taken over `sys.stdout`)."""
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()


def _leave(status: int) -> None:
    sys.stdout.flush()
    os._exit(status)
