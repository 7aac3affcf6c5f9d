"""What the relay needs of the house: one question, and two notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vsmgate.credentials import Credential
from vsmgate.grants import Right
from vsmgate.model import Endpoint, Identity, Job, Secret, Service
from vsmgate.sessions import Session
from vsmgate.targets import ANYWHERE, TargetRule

__all__ = ["Credential", "Desk", "Target"]


@dataclass(frozen=True)
class Target:
    """A service of a job that somebody may reach, and who that is.

    ``rule``: at which addresses it may be dialled. ``secret``: what the service knows the
    gateway by. ``right``: of the identity on the job.
    """

    job: Job
    service: str
    spec: Service
    endpoint: Endpoint
    identity: Identity
    rule: TargetRule = ANYWHERE
    secret: Secret | None = None
    right: Right = Right.OWNER

    @property
    def view_only(self) -> bool:
        """Whether the client may only look."""
        return self.right is Right.VIEW


class Desk(Protocol):
    """Answers for jobs and identities (`vsmgate.jobs.access.Access` does)."""

    async def admit(
        self,
        job_id: str,
        service: str,
        credential: Credential | None,
        known: Callable[[Identity], None] = lambda _: None,
    ) -> Target:
        """Return where to dial, for whom; ``known`` is told who it is, before anything else fails.

        Fails with `Unauthenticated`, `NoSuchJob` (also for a foreign job),
        `NoSuchService`, `ViewUnsupported`, `JobNotReady`, `JobEnded`, `AuthenticatorUnavailable` or
        `StoreUnavailable` of `vsmgate.errors`. Without a credential only a job whose
        use case is ``tokenless`` admits.
        """

    def session(self, target: Target) -> Session:
        """Return what lets a browser come back to ``target`` without its credential.

        `admit` takes it as a credential of kind ``session``, for the same job and service.
        """

    def expires_in(self, identity: Identity) -> float | None:
        """Return the seconds until ``identity`` ends (negative: since); None when it does not.

        A later token that its subject has shown meanwhile counts.
        """

    async def recheck(self, identity: Identity) -> None:
        """Fail with `Unauthenticated` when ``identity`` was revoked since it was admitted.

        Other errors mean that it could not be told.
        """

    def active(self, job_id: str) -> None:
        """Tell that the client sent a data frame (it counts against idle ends)."""

    def visit(self, target: Target, relay: bool, revoked: Callable[[], None]) -> Callable[[], None]:
        """Tell that a connection is open (``relay``: it counts as presence).

        Returns what tells that it is over. Until then ``revoked`` is called once when
        the identity has not the right any more that it came in with, perhaps at once.
        """

    def on_end(self, job_id: str, call: Callable[[Job], None]) -> Callable[[], None]:
        """Call ``call`` once when the job stops or ends; returns what revokes that.

        For a job that stops or has ended already the call comes in the next turn.
        """
