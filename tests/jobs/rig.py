"""A jobs house in memory: a scripted engine, a store in memory, a clock by hand."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from vsmgate.config import JobsConfig
from vsmgate.errors import Unauthenticated
from vsmgate.hands.dialling import Dialler
from vsmgate.interfaces import IAuthenticator
from vsmgate.jobs import changes
from vsmgate.jobs.access import Access
from vsmgate.jobs.activity import Activity
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.desk import JobDesk
from vsmgate.jobs.doctor import Doctor
from vsmgate.jobs.driver import Driver
from vsmgate.jobs.reaper import Reaper
from vsmgate.lifecycle import State
from vsmgate.model import Identity, Job, Limits, Quota, Secret, Service, Usecase
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


@implementer(IAuthenticator)
class Names:
    """Lets everybody in who says a known name."""

    async def authenticate(self, credential: Secret) -> Identity:
        if credential.reveal() not in ("alice", "bob"):
            raise Unauthenticated
        return Identity(credential.reveal())


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
        fallbacks = config.pop("fallbacks", ())
        self.usecase = replace(DEMO, limits=limits, fallbacks=fallbacks)
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

        def drive(name: str, launcher: ScriptedLauncher) -> Driver:
            plans, wall = (lambda job: None), clock.seconds
            return Driver(name, launcher, plans, self.book, config, clock, wall, self._notice)

        drivers = {
            name: drive(name, launcher)
            for name, launcher in (("engine", self.launcher), ("spare", self.spare))
        }
        for driver in drivers.values():
            driver.submitter.peers.update({n: d.accept for n, d in drivers.items()})
        self.driver = drivers["engine"]
        self.trouble: dict[str, str] = {}
        self.activity = Activity(self.book, clock, clock.seconds)
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
        self.access = Access(
            self.book,
            self.store,
            [Names()],
            clock.seconds,
            self.activity.note,
            sessions=self.sessions,
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
        )
        self.services = (
            *(service for driver in drivers.values() for service in driver.services),
            self.reaper.ticker,
            self.activity.ticker,
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
