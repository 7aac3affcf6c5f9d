"""What the rigs of all engines share: launches of services that do as told, bounded waits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from msgspec import convert
from msgspec.structs import replace
from twisted.internet.task import deferLater

from vsmgate.interfaces import Context
from vsmgate.model import Launch, Observation, Phase, Secret, Service, Usecase, new_job_id

SERVICE = Path(__file__).with_name("service.py")
#: Generous: it bounds a failure, a success does not wait for it.
PATIENCE = 60.0
T = TypeVar("T")


def usecase_of(
    engine: str, services: Mapping[str, str], each: Mapping[str, Any] | None = None, **plan: Any
) -> Usecase:
    """Return a use case of name -> behaviour; ``each``: more of every service's plan."""
    start = ["{python}", "-I", "-S", str(SERVICE).replace("{", "{{")]
    table = {
        name: {"command": [*start, name, does, "{host}", "{port}"], **(each or {})}
        for name, does in services.items()
    }
    return Usecase(
        name="test",
        launcher=engine,
        services={name: Service() for name in services},
        launch={engine: {"services": table, **plan}},
    )


def launch_of(
    kind: type,
    usecase: Usecase,
    parameters: dict[str, Any] | None = None,
    lifetime: float = 3600.0,
    secret: Secret | None = None,
    owner: str = "ada",
) -> Launch:
    """Return a launch of a use case whose plan is of that type."""
    plan = convert(usecase.launch[usecase.launcher], kind)
    return Launch(new_job_id(), owner, usecase, plan, parameters or {}, lifetime, secret)


class Rig:
    """A launcher of one engine, and the jobs that a test gives it.

    ``late``: whether a job may run before it is known where its services are.
    """

    factory: Any
    usecase_of: Callable[..., Usecase]
    owner = "ada"
    late = False

    def __init__(self, reactor: Any, state_dir: Path, settings: Any) -> None:
        self.reactor = reactor
        self.state_dir = state_dir
        self.settings = settings
        self.nudges = 0
        self.tags: list[str] = []
        self.made: list[Any] = []
        self.launcher = self.again()

    def again(self, **settings: Any) -> Any:
        """Return another launcher of the same jobs."""
        place = self.state_dir
        context = Context(self.factory.kind, self.reactor, time.time, place, place, self._nudge)
        made = self.factory.make(replace(self.settings, **settings), context)
        self.made.append(made)
        return made

    def _nudge(self) -> None:
        self.nudges += 1

    def launch(self, does: str = "stays", lifetime: float = 3600.0, **plan: Any) -> Launch:
        return self.launch_of(self.usecase_of({"renderer": does}, **plan), lifetime=lifetime)

    def launch_of(self, usecase: Usecase, **more: Any) -> Launch:
        launch = launch_of(self.factory.plan, usecase, **{"owner": self.owner, **more})
        self.tags.append(launch.tag)
        return launch

    async def until(self, ref: str, phase: Phase) -> Observation:
        async def look() -> Observation | None:
            seen = (await self.launcher.poll([ref]))[ref]
            assert phase is Phase.ENDED or seen.phase is not Phase.ENDED, seen
            unplaced = self.late and phase is Phase.RUNNING and not seen.endpoints
            return seen if seen.phase is phase and not unplaced else None

        return await self.eventually(look)

    async def eventually(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """Return the first result of ``look`` that is not None; bounded."""
        deadline = time.monotonic() + PATIENCE
        while (found := await look()) is None:
            assert time.monotonic() < deadline, "it did not come to be"
            await deferLater(self.reactor, 0.02)
        return found

    async def close(self) -> None:
        """Let go of the launchers."""
        for launcher in self.made:
            await launcher.close()
