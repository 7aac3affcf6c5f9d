"""The plugin contracts: what is handed in, what comes out, which errors are raised.

Four kinds of plugins, found by Twisted's plugin system. Each plugin is a small
*factory*, cheap to import, that makes the working object from typed settings::

    kind        one word, the ``kind = "..."`` of the configuration
    help        one line for people
    settings    a `msgspec.Struct` type: the table of the configuration is read into it
    make(settings, context) -> the working object

Heavy libraries are imported inside ``make``. A working object is used from the reactor
thread only; its methods are coroutine functions for Twisted (``await`` a Deferred
inside, no asyncio). The caller may cancel any of them, and bounds every wait.
`vsmgate.testing` has a contract test suite for each interface.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorCore
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from vsmgate.grants import Visitor
from vsmgate.model import (
    Idempotency,
    Identity,
    Job,
    Launch,
    LogStream,
    Observation,
    Page,
    Quota,
    Secret,
    Ticket,
    Usecase,
)

__all__ = [
    "Context",
    "IAbandoning",
    "IAuthenticator",
    "IAuthenticatorFactory",
    "IEngineCheck",
    "IExtendable",
    "IJobStore",
    "IJobStoreFactory",
    "ILauncher",
    "ILauncherFactory",
    "ILister",
    "IPluginFactory",
    "IRevocable",
    "ISettingsChecker",
    "ISingleMaster",
    "ITargets",
    "IUsecaseCheck",
    "IUsecaseSource",
    "IUsecaseSourceFactory",
]


@dataclass(frozen=True)
class Context:
    """What a plugin gets from the gateway.

    ``name``: the plugin's name in the configuration. ``state_dir``: the gateway's state
    directory (exists, mode 0700). ``config_dir``: relative paths in settings start here.
    ``wall``: Unix time now. ``nudge``: call it when something changed at the engine, so
    that the next poll comes at once (never required).
    """

    name: str
    reactor: IReactorCore
    wall: Callable[[], float]
    state_dir: Path
    config_dir: Path
    nudge: Callable[[], None] = lambda: None


class IPluginFactory(IPlugin):
    """What all four factories share. Twisted finds them, as they are `IPlugin` too."""

    kind: str = Attribute("One word; unique among the factories of its interface.")
    help: str = Attribute("One line.")
    settings: type = Attribute("The msgspec Struct type of its configuration table.")


class ISettingsChecker(Interface):
    """Provided by a factory that can tell more of its settings than their type does."""

    def inspect(settings: Any, context: Context) -> None:
        """Raise `ConfigError` where `make` would; make, open and write nothing.

        ``context.state_dir`` need not exist.
        """


class ITargets(Interface):
    """Provided by a launcher factory that knows where its jobs' services can only be.

    Without it, and where the configuration has no ``targets``, they may be anywhere but
    at a loopback address.
    """

    def targets(settings: Any) -> Sequence[str]:
        """Return networks, addresses and names, as ``targets`` in the configuration."""


class ILauncherFactory(IPluginFactory):
    """Makes launchers of one kind of engine."""

    plan: type = Attribute("The msgspec Struct type of a use case's ``[launch.KIND]`` table.")

    def make(settings: Any, context: Context) -> ILauncher:
        """Return a launcher; raise `vsmgate.errors.ConfigError` for unusable settings."""

    def check(usecase: Usecase, plan: Any) -> Sequence[str]:
        """Return what is wrong between ``usecase`` and its ``plan``, a sentence each.

        Called once when the use case is read: a plan that lacks a service, a template
        that names an unknown value. Nothing is run.
        """


class ILauncher(Interface):
    """Runs jobs on one engine.

    Every method fails with `vsmgate.errors.EngineUnreachable` when the engine cannot be
    asked; the caller then knows nothing new. ``ref`` is the engine's own id.
    """

    async def submit(launch: Launch) -> str:
        """Give a job to the engine, marked with ``launch.tag``; return its ref.

        Called at most once per job by a living gateway; after a crash only when `find`
        knows no job of that tag. Fails with `EngineRefused` when the engine will never
        take it (its ``code`` and ``detail`` become the job's reason), and with
        `EngineUnreachable` when it is unknown whether the engine took it: the caller
        then asks `find` before it tries again.
        """

    async def find(tags: Collection[str]) -> Mapping[str, str]:
        """Return tag -> ref for those of ``tags`` whose job the engine knows.

        An engine that takes a job late, after it was asked for it in vain, may have two of one
        tag: then the first stays, and `find` asks for the end of the others. It is called
        for a while after every submission whose outcome was in doubt.
        """

    async def poll(refs: Collection[str]) -> Mapping[str, Observation]:
        """Ask for all of ``refs`` at once; the result has every one of them.

        A ref that the engine does not know gives `Phase.UNKNOWN`. An ended job stays
        askable until the engine forgets it.
        """

    async def cancel(ref: str) -> None:
        """Ask for the end of a job; may return before it ended.

        May be called again, and for a job that has ended or that the engine does not
        know: then it does nothing.
        """

    async def logs(ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        """Return at most the last ``tail`` octets that a service wrote.

        Empty when nothing was written (yet) or nothing is kept. Works for ended jobs as
        long as the engine keeps their output.
        """

    async def forget(ref: str) -> None:
        """Remove what is kept of an ended job (its directory, its output).

        Called once the gateway forgets the job itself. Does nothing when there is
        nothing. A job that is not over must be left alone.
        """

    async def close() -> None:
        """Let go of connections and timers. Jobs go on."""


class IExtendable(Interface):
    """Provided by a launcher that can move the end of a running job."""

    async def extend(ref: str, lifetime: float) -> None:
        """Let the engine end the job ``lifetime`` seconds after its start instead.

        Fails with `EngineRefused` when the engine does not allow it.
        """


class ILister(Interface):
    """Provided by a launcher that can tell what runs without being asked for tags.

    When the gateway starts it warns of jobs that its store does not know.
    """

    remedy: str = Attribute("How the operator ends such a job.")

    async def running() -> Collection[str]:
        """Return the tags of the jobs that this launcher started and that have not ended."""


class IAbandoning(Interface):
    """Provided by a launcher that prepares something before its engine has the job."""

    async def abandon(tag: str) -> None:
        """Remove what is left of a submission that came to nothing.

        Called before a job ends of which `find` knew nothing. Does nothing when there is
        nothing; a job that the engine has after all must be left alone.
        """


class IEngineCheck(Interface):
    """Provided by a launcher that can try its engine without starting a job.

    ``vsmgate check FILE --engines`` asks it; of other launchers a `find` must succeed.
    """

    async def check_engine() -> Sequence[str]:
        """Return what would keep jobs from running, a sentence each with its remedy.

        Told to the operator: it may name paths and addresses, never secrets. It starts no
        job and leaves nothing behind; a failure with `EngineError` is told too.
        """


class IUsecaseCheck(Interface):
    """Provided by a launcher whose use cases name things that are at the engine.

    ``vsmgate check FILE --engines`` asks it after `IEngineCheck`, where that found nothing.
    """

    async def check_usecases(plans: Sequence[tuple[Usecase, Any]]) -> Sequence[str]:
        """Return what would keep these use cases, with their plans, from running.

        As `IEngineCheck.check_engine` does.
        """


class IAuthenticatorFactory(IPluginFactory):
    """Makes authenticators."""

    def make(settings: Any, context: Context) -> IAuthenticator:
        """Return an authenticator; raise `ConfigError` for unusable settings."""


class IAuthenticator(Interface):
    """Turns a bearer credential into an identity."""

    async def authenticate(credential: Secret) -> Identity:
        """Return whom ``credential`` stands for, never None.

        Fails with `vsmgate.errors.Unauthenticated` when it stands for nobody, and with
        `vsmgate.errors.AuthenticatorUnavailable` when that cannot be found out now.
        """


class IRevocable(Interface):
    """Provided by an authenticator that can tell when a credential is taken back."""

    async def still_valid(identity: Identity) -> bool:
        """Return False when what ``identity`` was made from has been taken back since.

        Called every half minute for who holds a relay open; ``identity.handle`` is what
        `authenticate` put there, in this process or in another. True for identities of
        other authenticators, and where it cannot be told. An end by time does not count.
        May fail with `vsmgate.errors.AuthenticatorUnavailable`.
        """


class IUsecaseSourceFactory(IPluginFactory):
    """Makes sources of use cases."""

    def make(settings: Any, context: Context) -> IUsecaseSource:
        """Return a source; raise `ConfigError` for unusable settings."""


class IUsecaseSource(Interface):
    """Knows use cases."""

    def usecases() -> Sequence[Usecase]:
        """Return all of them; raise `ConfigError` that lists every bad one."""

    def origin(name: str) -> str:
        """Return where the use case ``name`` is written, such as a file, for messages."""


class IJobStoreFactory(IPluginFactory):
    """Makes job stores."""

    def make(settings: Any, context: Context) -> IJobStore:
        """Return a store that is not open yet; raise `ConfigError` for unusable settings."""


class IJobStore(Interface):
    """Keeps jobs, idempotency keys and tickets; every verb is one transaction.

    Every verb fails with `vsmgate.errors.StoreUnavailable` when the store cannot be
    read or written; then nothing was changed.
    """

    async def open() -> None:
        """Make the store usable: create or migrate its schema. Called once.

        Fails with `vsmgate.errors.ConfigError` when that needs the operator: a file
        that is not a database, a newer schema, no permission.
        """

    async def close() -> None:
        """Finish what is under way and let go."""

    async def add(job: Job, quota: Quota, idempotency: Idempotency | None) -> tuple[Job, bool]:
        """Insert ``job``; return it as stored, and whether it is new.

        In the same transaction: if the owner used ``idempotency.key`` before, return
        the job that it made then (not new), or fail with
        `vsmgate.errors.IdempotencyMismatch` if its digest was another. Then count the live,
        not held jobs (of the owner, the use case, each of ``job.groups``, and in total)
        against ``quota``: over it, fail with `vsmgate.errors.QuotaExceeded`, or with
        ``quota.queue`` store the job with ``held`` set, unless as many of the owner's are
        held as may be.
        """

    async def release(quota: Quota) -> Sequence[Job]:
        """Clear ``held`` of the oldest held jobs that now fit ``quota``; return those."""

    async def get(job_id: str) -> Job:
        """Return a job; fail with `vsmgate.errors.NoSuchJob`."""

    async def update(job_id: str, change: Callable[[Job], Job]) -> Job:
        """Replace a job by ``change`` of it, and give it the next revision.

        ``change`` is pure, may be called in another thread and more than once; when it
        returns its argument nothing is written, and what it raises is passed on. Fails
        with `NoSuchJob`.
        """

    async def touch(activity: Mapping[str, float]) -> None:
        """Set ``last_activity_at`` of many live jobs, where the new one is later."""

    async def live() -> Sequence[Job]:
        """Return all jobs that have not ended, oldest first."""

    async def changes(since: int) -> Sequence[Job]:
        """Return the jobs whose revision is greater than ``since``, in its order."""

    async def page(
        owner: str | None,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
        launcher: str | None = None,
    ) -> Page:
        """Return jobs, newest first; empty ``states``, and None elsewhere, mean all.

        Fails with `vsmgate.errors.BadCursor`.
        """

    async def shared(
        subject: str,
        groups: Collection[str],
        now: float,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """Return, as `page` does, the jobs with a grant to ``subject`` or one of ``groups``.

        Grants that have expired at ``now`` do not count.
        """

    async def attend(process: str, present: Mapping[str, Sequence[Visitor]], now: float) -> None:
        """Take down who is connected through one relay process, and that it lives at ``now``.

        For each job of ``present`` (its id) this replaces what ``process`` said before;
        an empty sequence means that nobody is there any more. What it said of other jobs stays.
        """

    async def visitors(job_id: str, since: float) -> Sequence[Visitor]:
        """Return who is connected to a job, longest first.

        Only what processes said that were heard of after ``since``: others have crashed.
        """

    async def prune(ended_before: float) -> Sequence[Job]:
        """Delete the jobs that ended before; return those.

        Deletes also expired tickets, old keys, and what crashed processes said.
        """

    async def add_ticket(ticket: Ticket) -> None:
        """Keep a ticket until it is used or expired."""

    async def revoke(subject: str, at: float) -> None:
        """Keep that what ``subject`` was given until ``at`` is not good any more.

        An earlier call for the subject is replaced, a later one stays.
        """

    async def lift(subject: str) -> bool:
        """Take a subject's revocation back; tell whether there was one."""

    async def revocations() -> Mapping[str, float]:
        """Return subject -> the last moment until which what it was given is not good."""

    async def use_ticket(digest: str, now: float) -> Ticket:
        """Take a ticket: of all calls with one digest exactly one succeeds.

        Fails with `vsmgate.errors.Unauthenticated` when there is none, or it expired.
        """


class ISingleMaster(Interface):
    """Provided by a job store that one master at a time may use."""

    lock: Path = Attribute("The file that a master locks while it runs.")
