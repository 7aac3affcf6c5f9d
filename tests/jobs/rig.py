"""A jobs house in memory: a scripted engine, a store in memory, a clock by hand."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from vsmgate.config import JobsConfig
from vsmgate.errors import Unauthenticated
from vsmgate.hands.dialling import Dialler
from vsmgate.interfaces import IAuthenticator, IRevocable
from vsmgate.job_secrets import JobSecrets
from vsmgate.jobs import changes
from vsmgate.jobs.access import Access
from vsmgate.jobs.activity import Activity
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.desk import JobDesk
from vsmgate.jobs.doctor import Doctor
from vsmgate.jobs.driver import drivers_of
from vsmgate.jobs.reaper import Reaper
from vsmgate.jobs.revocations import Revocations
from vsmgate.lifecycle import State
from vsmgate.model import Identity, Job, Limits, Quota, Secret, Service, Usecase
from vsmgate.permissions import AccessConfig, Permissions
from vsmgate.sessions import KEY_SIZE, Sessions
from vsmgate.targets import ANYWHERE
from vsmgate.testing.launchers import ScriptedJob, ScriptedLauncher
from vsmgate.testing.memory_store import MemoryStore

T = TypeVar("T")

ALICE, BOB = Identity("alice"), Identity("bob")
SCHEMA = {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}}
DEMO = Usecase(
    "demo",
    "engine",
    {"renderer": Service(port=5000), "backend": Service(port=8000)},
    {"scripted": {}},
    parameters=SCHEMA,
)


@implementer(IAuthenticator, IRevocable)
class Names:
    """Lets everybody in who says a known name: ``alice``, ``alice@ISSUED``, ``alice@ISSUED-END``.

    ``revoked``: names that it knows no more. ``fault``: what asking again fails with.
    """

    def __init__(self, seconds: Callable[[], float] = lambda: 0.0) -> None:
        self._seconds = seconds
        self.revoked: set[str] = set()
        self.fault: Exception | None = None

    async def authenticate(self, credential: Secret) -> Identity:
        name, _, times = credential.reveal().partition("@")
        issued, _, end = times.partition("-")
        if name not in ("alice", "bob") or name in self.revoked:
            raise Unauthenticated
        return Identity(
            name,
            issued_at=float(issued) if issued else None,
            expires_at=float(end) if end else None,
        )

    async def still_valid(self, identity: Identity) -> bool:
        if self.fault is not None:
            raise self.fault
        return identity.subject not in self.revoked


class Recorded:
    """An audit log that a test reads."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def record(self, action: str, **what: Any) -> None:
        self.entries.append((action, {k: v for k, v in what.items() if v not in ("", None)}))

    def refused(self, action: str, outcome: str, peer: str, request_id: str, face: str) -> None:
        self.record(action, outcome=outcome, peer=peer, face=face)

    def __call__(self, action: str) -> list[dict[str, Any]]:
        """Return the entries of ``action``."""
        return [what for name, what in self.entries if name == action]


class House:
    """Everything of ``vsmgate.jobs`` but the prober; `crash` starts it anew.

    ``fallbacks``: of the use case; the launcher ``spare`` is there besides ``engine``.
    """

    def __init__(self, **config: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.store = MemoryStore(self.clock.seconds)
        self.engine: dict[str, ScriptedJob] = {}
        self.spare_engine: dict[str, ScriptedJob] = {}
        quota = config.pop("quota", Quota())
        limits = config.pop("limits", Limits())
        self._notice = config.pop("notice", 0.0)
        self.permissions = Permissions(config.pop("access", AccessConfig()))
        self.audit = Recorded()
        fallbacks = config.pop("fallbacks", ())
        tokenless = config.pop("tokenless", False)
        services = config.pop("services", DEMO.services)
        self.usecase = replace(
            DEMO, limits=limits, fallbacks=fallbacks, tokenless=tokenless, services=services
        )
        self._config = JobsConfig(**config)
        self._quota = quota
        self.result(self.store.open())
        self.begin()

    def begin(self) -> None:
        """Start the house on what the store and the engine hold."""
        clock, config = self.clock, self._config
        self.book = JobBook(self.store)
        self.result(self.book.load())
        self.launcher = ScriptedLauncher(self.engine)
        self.spare = ScriptedLauncher(self.spare_engine)

        self.drivers = drivers = drivers_of(
            {"engine": self.launcher, "spare": self.spare},
            lambda job: None,
            self.book,
            config,
            clock,
            clock.seconds,
            self._notice,
        )
        self.driver = drivers["engine"]
        self.trouble: dict[str, str] = {}
        self.activity = Activity(self.book, clock, clock.seconds, config.idle_timeout)
        self.reaper = Reaper(
            self.book,
            self.store,
            drivers,
            self.activity,
            self.trouble,
            config,
            self._quota,
            clock,
            clock.seconds,
        )
        self.sessions = Sessions(b"k" * KEY_SIZE, 600.0)
        self.secrets = JobSecrets(b"k" * 32)
        self.revocations = Revocations(self.store, clock, clock.seconds)
        self.result(self.revocations.load())
        self.names = Names(clock.seconds)
        self.access = Access(
            self.book,
            self.store,
            [self.names],
            clock.seconds,
            self.activity.note,
            sessions=self.sessions,
            secrets=self.secrets,
            audit=self.audit,
            revocations=self.revocations,
        )
        self.network = MemoryReactorClock()
        self.doctor = Doctor(
            self.access, drivers, Dialler(self.network), {"engine": ANYWHERE}, clock.seconds
        )
        self.desk = JobDesk(
            self.book,
            self.store,
            drivers,
            self.access,
            {"demo": self.usecase},
            config,
            self._quota,
            clock,
            clock.seconds,
            self.doctor,
            self.permissions,
            self.revocations,
        )
        self.services = (
            *(service for driver in drivers.values() for service in driver.services),
            self.reaper.ticker,
            self.activity.ticker,
            self.revocations.ticker,
        )
        for service in self.services:
            service.startService()
        self.clock.advance(0)

    def end(self) -> None:
        """Stop the periodic services, as a shutdown does and a crash too."""
        for service in self.services:
            service.stopService()

    def crash(self) -> None:
        """Forget everything that is in memory only, and start again."""
        self.end()
        self.begin()

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let time go by in small steps."""
        self.clock.pump([step] * int(seconds / step))

    def result(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns; time goes by until it does."""
        outcome: list[Any] = []
        task = Deferred.fromCoroutine(call)
        task.addBoth(outcome.append)
        for _ in range(400):
            if outcome:
                break
            self.clock.advance(0.05)
        assert outcome, "it did not come to an end within 20 s"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]  # type: ignore[no-any-return]

    def start(self, identity: Identity = ALICE, **more: Any) -> Job:
        """Start the demo."""
        parameters = more.pop("parameters", {})
        job, _ = self.result(self.desk.start(identity, "demo", parameters, **more))
        return job

    def get(self, job: Job) -> Job:
        """Return the job as it is now."""
        return self.result(self.book.find(job.id))


def make_ready(house: House, job: Job) -> Job:
    """Let the engine run the job, and its services answer (the prober is not here)."""
    house.launcher.run(job.id)
    house.pass_time(6)
    now = house.clock.seconds()
    house.result(
        house.book.update(job.id, lambda j: changes.answered(j, ("renderer", "backend"), now))
    )
    ready = house.get(job)
    assert ready.state is State.READY
    return ready
