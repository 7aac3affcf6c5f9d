"""The batch system below the UNICORE stand-in: jobs are real processes of this machine.

A job goes ``READY``, ``STAGINGIN``, ``QUEUED``, ``RUNNING``, then ``SUCCESSFUL`` or ``FAILED``,
as on a server whose batch system is a Slurm with so many slots. Each runs in a session of its
own; when it ends, nothing of that session is left.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from vsmgate.simulators.processes import Leader
from vsmgate.simulators.unicore_job import QUEUES, Job, Unusable, mode_of, script_of

__all__ = ["Batch"]

_KILL_AFTER = 2.0


class Batch:
    """All jobs; at most ``slots`` of them run at a time."""

    def __init__(self, reactor: Any, folder: Path, slots: int) -> None:
        self.jobs: dict[str, Job] = {}
        self._reactor = reactor
        self._folder = folder
        self._slots = slots
        self._numbers = 0

    def submit(self, description: dict[str, Any], user: str) -> Job:
        """Take a job; it starts unless its client stages in. Raises `Unusable`."""
        job = Job(description, user, self._folder, self._reactor.seconds())
        job.folder.mkdir(mode=0o700, parents=True)
        job.note("New job.")
        self.jobs[job.id] = job
        if str(description.get("haveClientStageIn", "")).lower() != "true":
            self._reactor.callLater(0, self.start, job)
        return job

    def start(self, job: Job) -> None:
        """Go on with a job that waits for it; nothing for any other."""
        if job.status != "READY":
            return
        job.status = "STAGINGIN"
        for target, text, permissions in job.imports:
            path = job.folder / target.lstrip("/")
            if text is None or not path.resolve().is_relative_to(job.folder.resolve()):
                self._end(job, "FAILED", f"Staging in failed. Reason: cannot import '{target}'")
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(text)
            path.chmod(mode_of(permissions))
        self._reactor.callLater(0, self._queue, job)

    def _queue(self, job: Job) -> None:
        if job.status != "STAGINGIN":
            return
        if job.queue not in QUEUES or job.nodes > QUEUES[job.queue]:
            what = f"Nodes={job.nodes}" if job.queue in QUEUES else f"Queue = {job.queue}"
            text = f"Could not submit job: Resource request <{what}> is out of range."
            self._end(job, "FAILED", text)
            return
        self._numbers += 1
        job.status, job.batch_state, job.batch_number = "QUEUED", "PENDING", self._numbers
        job.note("TSI reply: submission OK.")
        self._schedule()

    def _schedule(self) -> None:
        """Run who waits, first come first served."""
        waiting = [job for job in self.jobs.values() if job.status == "QUEUED"]
        for job in sorted(waiting, key=lambda job: job.batch_number):
            if len(self.running()) >= self._slots:
                return
            self._run(job)

    def running(self) -> list[Job]:
        """Return the jobs that run."""
        return [job for job in self.jobs.values() if job.process is not None]

    def expected_start(self, job: Job) -> float:
        """Return when a waiting job starts at the latest."""
        ends = sorted(other.started_at + other.runtime for other in self.running())
        return ends[0] if ends else self._reactor.seconds()

    def _run(self, job: Job) -> None:
        job.status = job.batch_state = "RUNNING"
        job.started_at = self._reactor.seconds()
        script = job.folder / f"UNICORE_Job_{job.batch_number}"
        script.write_text(script_of(job))
        environment = {k: os.environ[k] for k in ("PATH", "HOME", "PYTHONPATH") if k in os.environ}
        environment["SLURM_JOB_ID"] = str(job.batch_number)
        process = job.process = Leader(
            self._reactor,
            ["/bin/bash", str(script)],
            environment,
            job.folder,
            job.folder / job.description.get("Stdout", "stdout"),
            job.folder / job.description.get("Stderr", "stderr"),
            lambda code: self._ended(job, code),
        )
        job.over = Deferred()
        job.timers.append(self._reactor.callLater(job.runtime, self._stop, job, process, "TIMEOUT"))

    def abort(self, job: Job) -> None:
        """End a job; nothing for one that is over."""
        if job.ended:
            return
        job.note("User aborted.")
        if job.process is None:
            job.batch_state = job.batch_state and "CANCELLED"
            self._end(job, "FAILED", "Job aborted.")
        else:
            self._stop(job, job.process, "CANCELLED")

    def restart(self, job: Job) -> None:
        """Run a job that is over once more, in the same directory."""
        if not job.ended:
            raise Unusable("Only a job that is over can be restarted.")
        job.note("RESTARTING job.")
        job.message = job.exit_code = ""
        job.status = "STAGINGIN"
        self._reactor.callLater(0, self._queue, job)

    def delete(self, job: Job) -> None:
        """Forget a job and remove its directory, when nothing of it runs any more."""
        self.abort(job)
        self.jobs.pop(job.id, None)
        if job.over is None:
            self._remove(job)
        else:
            job.over.addCallback(lambda _: self._remove(job))

    def _remove(self, job: Job, tries: int = 100) -> None:
        """Remove a directory; a process that was just killed may still write in it."""
        shutil.rmtree(job.folder, ignore_errors=True)
        if job.folder.exists() and tries:
            self._reactor.callLater(0.05, self._remove, job, tries - 1)

    def _stop(self, job: Job, process: Leader, state: str) -> None:
        """Tell the processes of a job to end, and then make them."""
        job.batch_state = state
        process.kill()
        job.timers.append(self._reactor.callLater(_KILL_AFTER, process.kill, signal.SIGKILL))

    def _ended(self, job: Job, status: int) -> None:
        """Take note of the end of a job's processes."""
        job.process = None
        try:
            job.exit_code = (job.folder / "UNICORE_SCRIPT_EXIT_CODE").read_text().strip()
        except OSError:
            job.exit_code = "" if job.batch_state in ("CANCELLED", "TIMEOUT") else str(status)
        if job.batch_state == "CANCELLED":
            self._end(job, "FAILED", "Job aborted.")
        elif job.batch_state == "TIMEOUT" or job.exit_code != "0":
            if job.batch_state == "RUNNING":
                job.batch_state = "FAILED"
            self._end(job, "FAILED", f"Job finished with exit code {job.exit_code or 'unknown'}.")
        else:
            job.batch_state = "COMPLETED"
            self._end(job, "SUCCESSFUL", "")
        over, job.over = job.over, None
        if over is not None:
            over.callback(None)
        self._schedule()

    def _end(self, job: Job, status: str, message: str) -> None:
        for timer in job.timers:
            if timer.active():
                timer.cancel()
        job.timers.clear()
        job.status, job.message, job.ended_at = status, message, self._reactor.seconds()
        job.note(message or "End of processing - successful.")

    async def close(self) -> None:
        """End everything at once; nothing runs afterwards."""
        self._slots = 0
        for job in list(self.jobs.values()):
            if job.process is not None and job.over is not None:
                over: Deferred[None] = Deferred()
                job.over.chainDeferred(over)
                job.batch_state = "CANCELLED"
                job.process.kill(signal.SIGKILL)
                await over
