"""Starting a use case: who may, with what, on which of its launchers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.config import JobsConfig
from vsmgate.errors import EngineRefused, EngineUnreachable, Forbidden, NoSuchUsecase
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.driver import Driver, as_seen
from vsmgate.lifecycle import State
from vsmgate.model import Idempotency, Identity, Job, Quota, Usecase, new_job_id
from vsmgate.parameters import complete
from vsmgate.permissions import Permissions

__all__ = ["Starter"]

#: Seconds that a start waits for its engine's first word.
FIRST_WORD = 2.0


class Starter:
    """Starts jobs."""

    _log = Logger()

    def __init__(
        self,
        book: JobBook,
        drivers: Mapping[str, Driver],
        usecases: Mapping[str, Usecase],
        permissions: Permissions,
        config: JobsConfig,
        quota: Quota,
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._book = book
        self._drivers = drivers
        self._usecases = usecases
        self._permissions = permissions
        self._config = config
        self._quota = quota
        self._clock = clock
        self._wall = wall

    def usecases(self, identity: Identity) -> Mapping[str, Usecase]:
        """Return what ``identity`` may start, by name."""
        return self._permissions.startable(identity, self._usecases)

    async def start(
        self,
        identity: Identity,
        usecase: str | None,
        parameters: dict[str, Any],
        *,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> tuple[Job, bool]:
        """Start a use case; return the job, and whether it is a new one.

        The row is stored before the engine is asked. Then the engine has a moment to
        refuse (`EngineRefused`, with the job kept as failed); a slower answer, or an
        engine that went away meanwhile, is told by the job's state. Fails with
        `NoSuchUsecase`, `Forbidden`, `BadParameters`, `QuotaExceeded`, `IdempotencyMismatch`,
        `EngineUnreachable` (known before, nothing stored) or `StoreUnavailable`.
        """
        wanted = self._wanted(identity, usecase or self._config.default_usecase)
        complete_parameters = complete(wanted.parameters, parameters)
        chosen, why, stale = self._chosen(wanted)
        key = None
        if idempotency_key is not None:
            asked = msgspec.json.encode([wanted.name, complete_parameters, name], order="sorted")
            key = Idempotency(idempotency_key, hashlib.sha256(asked).hexdigest())
        elif stale:
            names = " and ".join(wanted.choices)
            raise EngineUnreachable(f"{names} cannot be reached now; try again later.")
        job, new = await self._book.add(
            Job(
                new_job_id(),
                identity.subject,
                chosen,
                self._wall(),
                name=name,
                parameters=complete_parameters,
                lifetime=wanted.limits.lifetime or self._config.lifetime,
                launcher_reason=why,
                groups=tuple(sorted(self._quota.per_group.keys() & set(identity.groups))),
            ),
            self._quota,
            key,
        )
        if not new:
            return as_seen(job, self._drivers), False
        self._log.info(
            "job {job} of {owner}: {usecase} on {launcher}" + (" ({why})" if why else ""),
            job=job.id,
            owner=job.owner,
            usecase=wanted.name,
            launcher=chosen.launcher,
            why=why,
        )
        if not job.held:
            self._drivers[chosen.launcher].accept(job)
            job = await self._settled(job)
            if job.state is State.FAILED and job.engine_ref is None and job.reason is not None:
                raise EngineRefused(
                    job.reason.message, code=job.reason.code, native=job.reason.native
                )
        return as_seen(job, self._drivers), True

    def _wanted(self, identity: Identity, name: str) -> Usecase:
        startable = self.usecases(identity)
        if name in startable:
            return startable[name]
        known = ", ".join(sorted(startable)) or "none"
        if name in self._usecases:
            raise Forbidden(f"You may not start {name}; you may start: {known}.")
        raise NoSuchUsecase(f"No use case has this name; known: {known}.")

    def _chosen(self, wanted: Usecase) -> tuple[Usecase, str, bool]:
        """Return the use case with the launcher to take, why that one, and if none answers."""
        away: list[str] = []
        for index, name in enumerate(wanted.choices):
            if self._drivers[name].stale_since is None:
                rest = wanted.choices[index + 1 :]
                why = f"{' and '.join(away)} cannot be reached." if away else "The first choice."
                chosen = msgspec.structs.replace(wanted, launcher=name, fallbacks=rest)
                return chosen, why if wanted.fallbacks else "", False
            away.append(name)
        return wanted, "No choice can be reached." if wanted.fallbacks else "", True

    async def _settled(self, job: Job) -> Job:
        """Return a new job after its engine's first word; it may move on to another engine."""
        deadline = self._clock.seconds() + FIRST_WORD
        while True:
            launcher, left = job.usecase.launcher, deadline - self._clock.seconds()
            await self._drivers[launcher].settled(job.id, left)
            job = await self._book.find(job.id)
            if job.usecase.launcher == launcher or self._clock.seconds() >= deadline:
                return job

    def usage(self, identity: Identity) -> tuple[int, int | None]:
        """Return how many live jobs the identity has, held ones apart, and how many it may have."""
        live = [job for job in self._book.live() if job.owner == identity.subject and not job.held]
        return len(live), self._quota.per_user
