"""Asks a job's services, and says why they are out of reach: to the owner, and to the prober."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from vsmgate.diagnosis import (
    Diagnosis,
    Outcome,
    Step,
    engine_step,
    passed,
    sentence,
    unaddressed,
    whole,
)
from vsmgate.grants import Right
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.examination import examine
from vsmgate.hands.probes import probe
from vsmgate.job_secrets import JobSecrets
from vsmgate.jobs.access import Access
from vsmgate.jobs.driver import Driver
from vsmgate.model import Identity, Job, Secret, Service
from vsmgate.targets import REMOTE, TargetRule

__all__ = ["Doctor"]


class Doctor:
    """Examines services; ``rules``: where those of each launcher's jobs may be."""

    def __init__(
        self,
        access: Access,
        drivers: Mapping[str, Driver],
        dialler: Dialler,
        rules: Mapping[str, TargetRule],
        wall: Callable[[], float],
        secrets: JobSecrets | None = None,
    ) -> None:
        self._access = access
        self._drivers = drivers
        self._dialler = dialler
        self._rules = rules
        self._wall = wall
        self._secrets = secrets
        self._rounds: dict[str, _Round] = {}

    async def diagnose(self, identity: Identity, job_id: str) -> Diagnosis:
        """Return what is found of a job of the identity's own; fail with `NoSuchJob`.

        Who asks while somebody else waits for the same gets the same answer. It takes
        four steps' patience at the most (see `vsmgate.hands.examination`).
        """
        job = await self._access.permitted(identity, job_id, Right.OWNER)
        going = self._rounds.get(job.id)
        if going is None:
            going = self._rounds[job.id] = _Round(self._rounds, job.id)
            going.begin(Deferred.fromCoroutine(self._diagnose(job)))
        return await going.join()

    async def examine(self, job: Job, name: str) -> Sequence[Step]:
        """Return the steps of one service of a running job, after ``engine``."""
        service = job.usecase.services[name]
        endpoint = job.endpoints.get(name)
        if endpoint is None:
            return whole(service, [unaddressed(name)])
        rule, secret = self._rule(job), self._secret(job, service)
        steps = await examine(self._dialler, endpoint, rule, service, secret)
        return whole(service, [passed("address", f"{endpoint.host}:{endpoint.port}"), *steps])

    async def probe(self, job: Job, name: str) -> None:
        """Return once a service with an address answered; fail with `ServiceError`."""
        service = job.usecase.services[name]
        rule, secret = self._rule(job), self._secret(job, service)
        await probe(self._dialler, job.endpoints[name], rule, service, secret)

    def _rule(self, job: Job) -> TargetRule:
        return self._rules.get(job.usecase.launcher, REMOTE)

    def _secret(self, job: Job, service: Service) -> Secret | None:
        return self._secrets.of(job.id) if self._secrets and service.secret else None

    async def _diagnose(self, job: Job) -> Diagnosis:
        driver = self._drivers.get(job.usecase.launcher)
        stale_since, trouble = (driver.stale_since, driver.trouble) if driver else (None, "")
        engine = engine_step(job, stale_since, trouble, self._wall())
        services = job.usecase.services
        if engine.outcome is Outcome.FAILED:
            charts = {name: (engine, *whole(spec, ())) for name, spec in services.items()}
            return Diagnosis(job.id, job.state, False, engine.evidence, charts)
        work = [Deferred.fromCoroutine(self.examine(job, name)) for name in services]
        found = await gatherResults(work, consumeErrors=True)
        charts = {name: (engine, *steps) for name, steps in zip(services, found, strict=True)}
        ill = list(filter(None, (sentence(name, chart) for name, chart in charts.items())))
        summary = " ".join(ill) or "Every service answers."
        return Diagnosis(job.id, job.state, not ill, summary, charts)


class _Round:
    """One diagnosis, and all who wait for it; it ends when nobody does any more."""

    def __init__(self, rounds: dict[str, _Round], job_id: str) -> None:
        self._rounds = rounds
        self._job_id = job_id
        self._waiting: list[Deferred[Diagnosis]] = []
        self._work: Deferred[Diagnosis] | None = None

    def begin(self, work: Deferred[Diagnosis]) -> None:
        """Wait for ``work``, which may be done already."""
        self._work = work

    def join(self) -> Deferred[Diagnosis]:
        """Return the diagnosis to one more."""
        assert self._work is not None
        mine: Deferred[Diagnosis] = Deferred(self._leave)
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            self._work.addBoth(self._tell)
        return mine

    def _over(self) -> None:
        """Let the next who asks begin another."""
        if self._rounds.get(self._job_id) is self:
            del self._rounds[self._job_id]

    def _tell(self, result: Diagnosis | Failure) -> None:
        self._over()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(result)

    def _leave(self, one: Deferred[Diagnosis]) -> None:
        self._waiting.remove(one)
        if not self._waiting and self._work is not None:
            self._over()
            self._work.cancel()
