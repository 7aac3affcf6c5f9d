"""Who may reach which job: every call and every handshake asks here.

A stranger's answer is `NoSuchJob`, as for an unknown one. Who has some right on a job, but
not the one that is needed, is told so (`Forbidden`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.audit import Recorder, Unaudited
from vsmgate.errors import (
    AuthenticatorUnavailable,
    Forbidden,
    JobEnded,
    JobNotReady,
    NoSuchJob,
    NoSuchService,
    Unauthenticated,
)
from vsmgate.grants import Right
from vsmgate.interfaces import IAuthenticator, IJobStore, IRevocable
from vsmgate.job_secrets import JobSecrets
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.renewals import Renewals
from vsmgate.jobs.revocations import Revocations
from vsmgate.jobs.sharing import check_view, right_of
from vsmgate.jobs.visits import Visits
from vsmgate.lifecycle import State
from vsmgate.model import Identity, Job, Secret, Service
from vsmgate.relay.desk import Credential, Target
from vsmgate.sessions import Session, Sessions
from vsmgate.targets import REMOTE, TargetRule

__all__ = ["Access", "epitaph", "service_of"]

_WHOSE = {Right.VIEW: "viewers", Right.CONTROL: "controllers", Right.OWNER: "owner"}

#: The authenticator of those who came with nothing but the job's id: no name that one can have.
TOKENLESS = "no token"

#: Seconds before its end in which a credential is not asked about any more.
_MARGIN = 5.0


class Access:
    """Knows identities and rights; the relay's `vsmgate.relay.desk.Desk`.

    ``sessions`` and ``secrets``: only for relays, which need both.
    """

    _log = Logger()

    def __init__(
        self,
        book: JobBook,
        store: IJobStore,
        authenticators: Sequence[IAuthenticator],
        wall: Callable[[], float],
        active: Callable[[str], None],
        rules: Mapping[str, TargetRule] | None = None,
        sessions: Sessions | None = None,
        secrets: JobSecrets | None = None,
        audit: Recorder | None = None,
        revocations: Revocations | None = None,
    ) -> None:
        self._book = book
        self._store = store
        self._authenticators = authenticators
        self._wall = wall
        self.active = active
        self._rules = rules or {}
        self._sessions = sessions
        self._secrets = secrets
        self._renewals = Renewals(wall)
        self.visits = Visits(book, store, wall)
        self.visit = self.visits.enter
        self._audit = audit or Unaudited()
        self._revocations = revocations
        self._on_end: dict[str, list[Callable[[Job], None]]] = {}
        book.watch(self._tell_end)

    async def authenticate(self, credential: Secret) -> Identity:
        """Ask the authenticators in turn; the first that knows the credential decides."""
        unavailable: AuthenticatorUnavailable | None = None
        for authenticator in self._authenticators:
            try:
                identity = await authenticator.authenticate(credential)
            except Unauthenticated:
                continue
            except AuthenticatorUnavailable as error:
                unavailable = error
            else:
                self._check_revocations(identity)
                if self._renewals.note(identity):
                    self._audit.record(
                        "renew",
                        subject=identity.subject,
                        authenticator=identity.authenticator,
                        expires_at=identity.expires_at,
                    )
                return identity
        raise unavailable or Unauthenticated("The token is unknown, or has expired.")

    def expires_in(self, identity: Identity) -> float | None:
        """Return the seconds that are left (see `vsmgate.relay.desk.Desk`)."""
        return self._renewals.expires_in(identity)

    async def recheck(self, identity: Identity) -> None:
        """Fail with `Unauthenticated` when it was revoked (see `vsmgate.relay.desk.Desk`)."""
        if identity.authenticator == TOKENLESS:
            return
        current = self._renewals.current(identity)
        self._check_revocations(current)
        if current.expires_at is not None and current.expires_at <= self._wall() + _MARGIN:
            return  # it ends by itself
        for authenticator in self._authenticators:
            if IRevocable.providedBy(authenticator):
                valid: bool = await IRevocable(authenticator).still_valid(current)
                if not valid:
                    raise Unauthenticated("The token was revoked; log in again.")

    def _check_revocations(self, identity: Identity) -> None:
        if self._revocations is not None:
            self._revocations.check(identity)

    def right(self, identity: Identity, job: Job) -> Right | None:
        """Return the right of ``identity`` on a job; None: it is a stranger."""
        return right_of(job, identity, self._wall())

    async def permitted(self, identity: Identity, job_id: str, needed: Right) -> Job:
        """Return a job; fail with `NoSuchJob`, or with `Forbidden` for too small a right."""
        job, right = await self._reach(identity, job_id)
        if not right.includes(needed):
            raise Forbidden(
                f"Your right on this job is to {right}; this is for its {_WHOSE[needed]}."
            )
        return job

    async def _reach(self, identity: Identity, job_id: str) -> tuple[Job, Right]:
        """Return a job and the right on it; fail with `NoSuchJob` for a stranger."""
        job = await self._book.find(job_id)
        right = self.right(identity, job)
        if right is not Right.OWNER:  # another process may have given or taken one just now
            job = await self._book.latest(job_id)
            right = self.right(identity, job)
        if right is None:
            raise NoSuchJob
        return job, right

    async def admit(
        self,
        job_id: str,
        service: str,
        credential: Credential | None,
        known: Callable[[Identity], None] = lambda _: None,
    ) -> Target:
        """Return where to dial for whom (see `vsmgate.relay.desk.Desk`)."""
        identity = await self._admitted(job_id, service, credential)
        known(identity)
        job, right = await self._reach(identity, job_id)
        spec, service = service_of(job, service), sys.intern(service)
        if right is Right.VIEW:
            check_view(job, spec)
        if not (job.ready or job.ended):  # another process may know more by now
            job = await self._book.latest(job_id)
        if job.ended:
            raise JobEnded(epitaph(job))
        endpoint = job.endpoints.get(service)
        if job.state is not State.READY or endpoint is None:
            said = job.reason.message if job.reason is not None else ""
            raise JobNotReady(f"The job is {job.state}. {said}".strip(), retry_after=2)
        rule = self._rules.get(job.usecase.launcher, REMOTE)
        secret = self._secrets.of(job_id) if self._secrets and spec.secret else None
        return Target(job, service, spec, endpoint, identity, rule, secret, right)

    async def _admitted(self, job_id: str, service: str, credential: Credential | None) -> Identity:
        if credential is None:
            known = self._book.get(job_id)
            if known is None or not known.usecase.tokenless:
                raise Unauthenticated("A token or a ticket is required.")
            return Identity(known.owner, authenticator=TOKENLESS)
        if credential.kind == "bearer":
            return await self.authenticate(credential.secret)
        if credential.kind == "session":
            assert self._sessions is not None
            identity = self._sessions.read(credential.secret, job_id, service, self._wall())
            await self.recheck(identity)
            return identity
        ticket = await self._store.use_ticket(credential.secret.digest(), self._wall())
        if ticket.job_id != job_id or ticket.service != service:
            raise Unauthenticated("The ticket is for another job or service.")
        await self.recheck(ticket.identity)
        return ticket.identity

    def session(self, target: Target) -> Session:
        """Return what lets a browser come back (see `vsmgate.relay.desk.Desk`)."""
        assert self._sessions is not None
        return self._sessions.make(target.job.id, target.service, target.identity, self._wall())

    def on_end(self, job_id: str, call: Callable[[Job], None]) -> Callable[[], None]:
        """Call ``call`` once when the job stops or ends."""
        calls = self._on_end.setdefault(job_id, [])
        calls.append(call)
        late: Deferred[None] | None = None
        job = self._book.get(job_id)
        if job is None or job.state is State.STOPPING:  # it may be over already
            late = Deferred.fromCoroutine(self._book.find(job_id)).addCallback(self._tell_end)
            late.addErrback(self._unfound, job_id)

        def revoke() -> None:
            if call in calls:
                calls.remove(call)
            if not calls and self._on_end.get(job_id) is calls:
                del self._on_end[job_id]
            if late is not None:
                late.cancel()

        return revoke

    def _unfound(self, failure: Failure, job_id: str) -> None:
        if not failure.check(CancelledError, NoSuchJob):
            self._log.failure("whether {job} is over cannot be told", failure, job=job_id)

    def _tell_end(self, job: Job) -> None:
        if job.ended or job.state is State.STOPPING:
            for call in self._on_end.pop(job.id, []):
                call(job)


def service_of(job: Job, name: str) -> Service:
    """Return a service of the job; fail with `NoSuchService`, which lists them."""
    spec = job.usecase.services.get(name)
    if spec is None:
        known = ", ".join(job.usecase.services)
        raise NoSuchService(f"The job has no service of this name; it has: {known}.")
    return spec


def epitaph(job: Job) -> str:
    """Return how a job ended, for people."""
    if job.reason is None:
        return f"The job has {job.state}."
    return f"The job has ended ({job.reason.code}): {job.reason.message}"
