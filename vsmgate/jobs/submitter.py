"""Gives jobs to one engine, beside the polls of those that it has.

Each submission is a task of its own, a few at a time. What the engine was asked to take
and nobody knows whether it did is looked for before it is submitted again; a pass may be
cut short at any point and the next one goes on from what is stored. An engine may also take
a job late, when it was asked again already: so what is in doubt is looked for a while longer,
and the launcher ends all but one. So a crash between any two lines leads to exactly one
engine job per accepted start.

A job whose use case names more launchers moves on to the next only while it is certain
that this engine has no job of it: it was never asked, or said no the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.config import JobsConfig
from vsmgate.errors import EngineError, EngineRefused, EngineUnreachable, GatewayError, NoSuchJob
from vsmgate.interfaces import IAbandoning
from vsmgate.jobs import changes
from vsmgate.jobs.attempts import Attempts
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.line import Line
from vsmgate.jobs.ticker import Ticker
from vsmgate.lifecycle import State
from vsmgate.model import Job, Launch, Reason, tag_of

__all__ = ["Submitter"]

#: Submissions at a time, of one launcher.
CONCURRENT = 4

#: Refusals that are the user's mistake, which another engine would only repeat.
MISTAKES = frozenset({"bad_parameters"})

NEVER_TAKEN = Reason("cancelled_by_user", "The job was stopped before its engine had it.")


class Submitter(MultiService):
    """Submits the jobs of one launcher; ``ticker`` looks for those that are in doubt.

    ``launches`` fails with `EngineRefused` for a job that its launcher cannot run any more.
    ``placed``: called when the engine has one more job. ``peers``: launcher's name -> what
    takes a job that moves on to it.
    """

    _log = Logger()

    def __init__(
        self,
        line: Line,
        launches: Callable[[Job], Launch],
        book: JobBook,
        config: JobsConfig,
        clock: IReactorTime,
        wall: Callable[[], float],
        placed: Callable[[], None],
    ) -> None:
        super().__init__()
        self.peers: dict[str, Callable[[Job], None]] = {}
        self.attempts = Attempts(config.poll_fastest, config.engine_timeout, clock)
        self._line = line
        self._launches = launches
        self._book = book
        self._config = config
        self._wall = wall
        self._placed = placed
        self._room = DeferredSemaphore(CONCURRENT)
        self._tasks: dict[str, Deferred[None]] = {}
        self.ticker = Ticker(f"submitter {line.name}", self._tick, clock)
        self.ticker.setServiceParent(self)

    def startService(self) -> None:
        """Begin with what the last gateway may have asked the engine to take."""
        recent = self._wall() - self._config.engine_timeout
        for job in self._mine():
            asked = job.engine_ref is None or (job.timings.submitted_at or 0.0) > recent
            if asked and not self.attempts.untried(job.id):
                self.attempts.doubt(job.id)
        super().startService()

    def stopService(self) -> Deferred[Any]:
        """Cancel what is under way: the next gateway looks for those jobs."""
        ended = []
        for task in list(self._tasks.values()):
            ended.append(_end_of(task))
            task.cancel()
        return DeferredList([super().stopService(), *ended])

    def accept(self, job: Job) -> None:
        """Take a job that this engine cannot know yet."""
        self.attempts.new(job.id)
        if self.running:
            self._begin(job.id)

    # -- looking for those in doubt -------------------------------------------------

    async def _tick(self) -> float:
        jobs = self._waiting()
        self.attempts.keep({job.id for job in self._book.live()})
        ended = [job_id for job_id in self.attempts.doubts() if self._book.get(job_id) is None]
        tags = [*map(tag_of, ended), *(job.tag for job in jobs)]
        if not tags:
            return self._config.poll_interval
        try:
            found = await self._line.query(lambda: self._line.launcher.find(tags))
        except EngineError as error:
            for job in jobs:
                if job.engine_ref is None:
                    await self._wait_on(job, error)
            pause = max(self._config.poll_fastest, self._line.pause())
            self.attempts.prolong(pause)
            return pause
        for job in jobs:
            await self._place(job.id, found.get(job.tag))
        for ref in filter(None, map(found.get, map(tag_of, ended))):
            await self._line.ask(self._line.launcher.cancel(ref))
        lacking = any(job.engine_ref is None for job in self._waiting())
        return self._config.poll_fastest if lacking else self._config.poll_interval

    async def _place(self, job_id: str, ref: str | None) -> None:
        """Go on with a job that was looked for, and found as ``ref`` or not."""
        job = self._book.get(job_id)
        if job is None or (job.engine_ref is not None and ref in (None, job.engine_ref)):
            self.attempts.over(job_id)
        elif job.engine_ref is not None and ref is not None:
            self._log.warn("job {job} is {ref} from now on", job=job_id, ref=ref)
            await self._book.update(job_id, lambda j: changes.renamed(j, ref))
        elif ref is not None:
            self._log.info("job {job} found as {ref}", job=job_id, ref=ref)
            await self._note_ref(job_id, ref)
        elif job.state is State.STOPPING:
            if job_id not in self.attempts.doubts():
                await self._abandon(job)
        elif self.attempts.due(job_id):
            self._begin(job_id)
        else:
            self.attempts.told(job_id)

    def _mine(self) -> Collection[Job]:
        """Return this launcher's live jobs; held ones must wait."""
        mine = [job for job in self._book.live() if job.usecase.launcher == self._line.name]
        return [job for job in mine if not job.held]

    def _waiting(self) -> Collection[Job]:
        """Return those in doubt, or without a ref, that have no task."""
        doubts = self.attempts.doubts()
        mine = [job for job in self._mine() if job.id not in self._tasks]
        return [job for job in mine if job.engine_ref is None or job.id in doubts]

    # -- submitting -------------------------------------------------------------------

    def _begin(self, job_id: str) -> None:
        begun: Deferred[None] = Deferred()  # the task is known before its first line runs
        task = begun.addCallback(lambda _: Deferred.fromCoroutine(self._submit(job_id)))
        self._tasks[job_id] = task
        task.addErrback(self._failed, job_id).addBoth(self._over, job_id)
        begun.callback(None)

    def _over(self, _: object, job_id: str) -> None:
        del self._tasks[job_id]

    def _failed(self, failure: Failure, job_id: str) -> None:
        if failure.check(CancelledError, NoSuchJob):
            return
        if failure.check(GatewayError):  # of the world, such as the store's
            why = failure.getErrorMessage()
            self._log.warn("{job} not submitted yet: {why}", job=job_id, why=why)
        else:
            self._log.failure("submitting {job} failed", failure, job=job_id)
        self.ticker.within(self._config.poll_fastest)

    async def _submit(self, job_id: str) -> None:
        await self._room.acquire()
        try:
            job = self._book.get(job_id)
            if job is None or job.engine_ref is not None:
                self.attempts.over(job_id)
            elif job.state is State.STOPPING and self.attempts.untried(job_id):
                await self._end(job_id, NEVER_TAKEN)
            elif job.state is not State.STOPPING:
                await self._give(job)
        finally:
            self._room.release()

    async def _give(self, job: Job) -> None:
        """Ask the engine to take a job."""
        line, first = self._line, self.attempts.untried(job.id)
        try:
            launch = self._launches(job)
            if first and self._next(job) is not None:
                # As long as it was not asked to take it, the job may go elsewhere.
                await line.query(lambda: line.launcher.find([job.tag]))
            elif line.open:
                raise EngineUnreachable(line.trouble)
            self.attempts.begin(job.id)
            ref = await line.ask(line.launcher.submit(launch))
        except EngineRefused as error:
            await self._refused(job, error, first)
        except EngineUnreachable as error:
            if self.attempts.untried(job.id):
                await self._wait_on(job, error)
                return
            self.attempts.failed(job.id)
            await self._tell(job.id, error)
            self.ticker.nudge()  # to find out whether it has it, and whether it can be asked
        except CancelledError:
            raise  # the gateway stops: the next one looks for the job
        except Exception:
            # A fault in the launcher's code: whether the engine has the job is unknown, so
            # let the next pass look for it and cancel what it finds.
            self._log.failure("{name} failed to submit {job}", name=line.name, job=job.id)
            broken = Reason("launcher_failed", f"The launcher {line.name} failed; see the log.")
            await self._book.update(job.id, lambda j: changes.stopping(j, broken, self._wall()))
            self.attempts.doubt(job.id)
            self.attempts.told(job.id)
            self.ticker.nudge()
        else:
            line.reached()
            await self._note_ref(job.id, ref)

    # -- what becomes of a job --------------------------------------------------------

    def _next(self, job: Job) -> str | None:
        """Return the launcher that is tried after this one."""
        return next((name for name in job.usecase.fallbacks if name in self.peers), None)

    async def _wait_on(self, job: Job, error: EngineError) -> None:
        """The engine does not answer: let the job move on if that is safe, or wait."""
        if self.attempts.untried(job.id) and self._next(job) is not None:
            await self._pass_on(job, f"{self._line.name} cannot be reached.")
        else:
            await self._tell(job.id, error)
            self.attempts.told(job.id)

    async def _refused(self, job: Job, error: EngineRefused, first: bool) -> None:
        name = self._line.name
        self._log.info("{name} refused {job}: {why}", name=name, job=job.id, why=error.detail)
        if first and self._next(job) is not None and error.code not in MISTAKES:
            await self._pass_on(job, f"{name} refused it: {error.detail}")
        else:
            await self._end(job.id, Reason(error.code, error.detail, error.native))

    async def _pass_on(self, job: Job, why: str) -> None:
        """Let the next launcher have a job that this one has not, for certain."""
        to = self._next(job)
        assert to is not None
        moved = await self._book.update(job.id, lambda j: changes.passed_on(j, to, why))
        if moved.usecase.launcher == to:
            self._log.info("{job} goes to {to}: {why}", job=job.id, to=to, why=why)
            self.peers[to](moved)
            self.attempts.over(job.id)
        else:
            await self._end(job.id, NEVER_TAKEN)  # it was stopped meanwhile

    async def _tell(self, job_id: str, error: EngineError) -> None:
        reason = Reason(error.code, f"{error.detail} The gateway goes on trying.")
        job = self._book.get(job_id)
        if job is not None and changes.waiting(job, reason) is not job:
            await self._book.update(job_id, lambda j: changes.waiting(j, reason))

    async def _note_ref(self, job_id: str, ref: str) -> None:
        await self._book.update(job_id, lambda job: changes.submitted(job, ref, self._wall()))
        self.attempts.over(job_id)
        self._placed()

    async def _abandon(self, job: Job) -> None:
        """End a job that its engine never took, though it may have been asked to."""
        launcher = self._line.launcher
        try:
            if IAbandoning.providedBy(launcher):
                await self._line.ask(launcher.abandon(job.tag))
        except EngineError as error:
            self._log.warn("of {job} something stays: {why}", job=job.id, why=error.detail)
        await self._end(job.id, NEVER_TAKEN)

    async def _end(self, job_id: str, reason: Reason) -> None:
        now = self._wall()
        await self._book.update(job_id, lambda job: changes.finished(job, reason, now))
        self.attempts.over(job_id)


def _end_of(task: Deferred[None]) -> Deferred[None]:
    ended: Deferred[None] = Deferred()
    task.addBoth(lambda _: ended.callback(None))
    return ended
