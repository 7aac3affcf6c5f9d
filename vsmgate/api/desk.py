"""What the REST face asks of the house (`vsmgate.jobs.desk.JobDesk` does it)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from vsmgate.api.sharing import SharingDesk
from vsmgate.diagnosis import Diagnosis
from vsmgate.grants import Right
from vsmgate.model import Identity, Job, LogStream, Page, Secret, Ticket, Usecase

__all__ = ["Desk"]


class Engine(Protocol):
    """How one launcher gets on with its engine (`vsmgate.jobs.administration.EngineState`)."""

    @property
    def name(self) -> str: ...
    @property
    def reachable(self) -> bool: ...
    @property
    def stale_since(self) -> float | None: ...
    @property
    def failures(self) -> int: ...
    @property
    def trouble(self) -> str: ...
    @property
    def next_try(self) -> float | None: ...
    @property
    def jobs(self) -> dict[str, int]: ...


class Administration(Protocol):
    """Everybody's jobs, and the engines; who may ask is decided before."""

    async def page(
        self,
        owner: str | None,
        states: Collection[str],
        usecase: str | None,
        launcher: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """Return everybody's jobs, newest first; None and empty ``states`` mean all."""

    async def get(self, job_id: str) -> Job:
        """Return anybody's job."""

    async def stop(self, identity: Identity, job_id: str) -> Job:
        """Ask for the end of anybody's job; does nothing to one that is over."""

    def engines(self) -> Sequence[Engine]:
        """Return how each launcher gets on."""

    async def revoke(self, subject: str) -> float:
        """Refuse from now on what ``subject`` was given until now; return that moment."""

    async def lift(self, subject: str) -> None:
        """Take a revocation back; fail with `NoSuchRevocation`."""

    def revocations(self) -> Mapping[str, float]:
        """Return subject -> until when what it was given is refused."""


class Desk(Protocol):
    """Jobs, use cases and identities, with every right checked.

    All methods fail with classes of `vsmgate.errors`; a foreign job is `NoSuchJob`, and
    one that was shared with too small a right `Forbidden`. Job ids are lower-case.
    """

    @property
    def sharing(self) -> SharingDesk:
        """What shares jobs."""

    async def authenticate(self, credential: Secret) -> Identity:
        """Return whom ``credential`` stands for."""

    def usecases(self, identity: Identity) -> Mapping[str, Usecase]:
        """Return what ``identity`` may start, by name."""

    @property
    def administration(self) -> Administration:
        """What administrators may do besides."""

    def administers(self, identity: Identity) -> bool:
        """Tell whether ``identity`` may see and end everybody's jobs."""

    async def start(
        self,
        identity: Identity,
        usecase: str | None,
        parameters: dict[str, Any],
        *,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> tuple[Job, bool]:
        """Start a job (None: of the default use case); False: it was started before.

        Fails with `Forbidden` where the rules of access do not allow it.
        """

    async def get(self, identity: Identity, job_id: str) -> Job:
        """Return a job as last seen; never asks an engine."""

    async def wait(self, identity: Identity, job_id: str, seconds: float) -> Job:
        """Return a job at its next change, at the latest in ``seconds``."""

    async def page(
        self,
        identity: Identity,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
        *,
        shared: bool = False,
    ) -> Page:
        """Return the identity's jobs, newest first; empty ``states`` means all.

        ``shared``: instead of its own those that others share with it.
        """

    def right(self, identity: Identity, job: Job) -> Right | None:
        """Return the right of an identity on a job; None: it is a stranger."""

    async def stop(self, identity: Identity, job_id: str) -> Job:
        """Ask for a job's end; does nothing to one that is over."""

    async def extend(self, identity: Identity, job_id: str, seconds: float) -> Job:
        """Move a job's end by ``seconds``."""

    async def logs(
        self, identity: Identity, job_id: str, service: str, stream: LogStream, tail: int
    ) -> bytes:
        """Return the last ``tail`` octets that a service wrote."""

    async def issue_ticket(
        self, identity: Identity, job_id: str, service: str
    ) -> tuple[Secret, Ticket]:
        """Return a one-time credential for one WebSocket."""

    async def diagnose(self, identity: Identity, job_id: str) -> Diagnosis:
        """Return at which step each of a job's services is out of reach, if any."""

    def expires_in(self, identity: Identity) -> float | None:
        """Return the seconds until the identity's proof ends; None when it does not."""

    async def recheck(self, identity: Identity) -> None:
        """Fail with `Unauthenticated` when ``identity`` was revoked since it was authenticated.

        Other errors mean that it could not be told.
        """

    def usage(self, identity: Identity) -> tuple[int, int | None]:
        """Return the identity's live jobs, and how many it may have (None: no limit)."""

    def problems(self) -> Sequence[str]:
        """Return why the gateway is not ready, a sentence each; empty when it is."""

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """Return how many jobs there are by (state, use case, launcher)."""
