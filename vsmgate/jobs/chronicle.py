"""What the log says of jobs: one line at each change of state or reason."""

from __future__ import annotations

from twisted.logger import Logger

from vsmgate.lifecycle import State
from vsmgate.model import Job

__all__ = ["Chronicle"]


class Chronicle:
    """Writes the lines; `note` watches a `vsmgate.jobs.book.JobBook`."""

    _log = Logger()

    def __init__(self) -> None:
        self._told: dict[str, tuple[State, str]] = {}

    def note(self, job: Job) -> None:
        """Tell where a job is now, if that is news."""
        code = job.reason.code if job.reason is not None else ""
        before = self._told.get(job.id)
        if job.ended:
            self._told.pop(job.id, None)
        else:
            self._told[job.id] = (job.state, code)
        # A job that was there before this process is no news.
        if before == (job.state, code) or (before is None and job.state is not State.REQUESTED):
            return
        self._log.info(
            "job {job} is {state} ({code}): {message}" if code else "job {job} is {state}",
            job=job.id,
            state=str(job.state),
            code=code or "-",
            message=job.reason.message if job.reason is not None else "",
            launcher=job.usecase.launcher,
            usecase=job.usecase.name,
        )
