"""UNICORE's words, and what they are here. Pure; the table is in docs/engines/unicore.md too."""

from __future__ import annotations

import re

from vsmgate.errors import EngineRefused
from vsmgate.launchers.job_report import Ending
from vsmgate.launchers.slurm_answers import SlurmJob
from vsmgate.launchers.slurm_answers import failure as slurm_failure
from vsmgate.launchers.slurm_reasons import ended_without_record, queue_reason
from vsmgate.launchers.slurm_reasons import observation as slurm_observation
from vsmgate.launchers.slurm_reasons import phase_of as slurm_phase
from vsmgate.launchers.unicore_answers import UnicoreJob
from vsmgate.model import Endpoint, Observation, Phase, QueuePlace, Reason

__all__ = ["observation", "phase_of", "refusal", "refused_code"]

#: A status that is not here is one of a job that is not in the batch system yet.
PHASES = {
    "QUEUED": Phase.QUEUED,
    "RUNNING": Phase.RUNNING,
    "STAGINGOUT": Phase.RUNNING,
    "SUCCESSFUL": Phase.ENDED,
    "FAILED": Phase.ENDED,
}

#: Of a refusal's words: pattern -> code. First it is asked whether Slurm says such things.
_REFUSALS = (
    ("queue *=|no (matching )?queue|partition", "bad_partition"),
    ("project|account", "bad_account"),
    ("reservation", "bad_reservation"),
    ("out of range|exceed", "impossible_resources"),
    ("authoris|authoriz|access denied|not permitted|forbidden", "not_permitted"),
)
_INVALID = re.compile(r"pars|invalid|illegal|unknown|not (allowed|valid|supported)", re.IGNORECASE)
_ATTEMPT = re.compile(r"Submit attempt [0-9]+ \(of [0-9]+\) failed: (.*)", re.DOTALL)
_UNSUBMITTED = re.compile(r"(?:Could not submit job|Submission attempt failed):? *(.*)", re.DOTALL)


def phase_of(job: UnicoreJob) -> Phase:
    """Return where a job is."""
    return PHASES.get(job.status, Phase.QUEUED)


def refused_code(words: str) -> str | None:
    """Return the code of what a server or its batch system said against a job, if it is known."""
    error = slurm_failure("UNICORE", words)
    if isinstance(error, EngineRefused) and error.code != "engine_refused":
        return error.code
    for pattern, code in _REFUSALS:
        if re.search(pattern, words, re.IGNORECASE):
            return code
    return "engine_refused" if _INVALID.search(words) else None


def refusal(words: str) -> EngineRefused:
    """Return the error of a job that a server will not take."""
    code = refused_code(words) or "engine_refused"
    return EngineRefused(f"UNICORE refused the job: {words}", code=code, native=words)


def observation(
    job: UnicoreJob,
    batch: SlurmJob | None = None,
    *,
    endpoints: dict[str, Endpoint] | None = None,
    ending: Ending | None = None,
    words: str = "",
) -> Observation:
    """Return what a poll says.

    ``batch``: the batch system's own view. ``ending`` and ``words`` (how the script says that
    it ended, and the last lines of its output) matter for an ended job only.
    """
    phase = phase_of(job)
    if phase is Phase.QUEUED:
        return _waiting(job, batch)
    if phase is Phase.ENDED:
        return Observation(phase, reason=_end_reason(job, batch, ending, words))
    return Observation(phase, endpoints or {}, end_time=batch.end if batch is not None else None)


def _waiting(job: UnicoreJob, batch: SlurmJob | None) -> Observation:
    failed = [match[1] for line in job.log if (match := _ATTEMPT.search(line))]
    if failed:
        code = refused_code(failed[-1]) or "engine_refused"
        sentence = "The batch system does not take the job; UNICORE goes on trying."
        why, start = Reason(code, sentence, failed[-1][:500]), None
    elif job.status != "QUEUED":
        sentence = "UNICORE prepares the job and its files."
        why, start = Reason("queued", sentence, job.status), None
    elif batch is not None and slurm_phase(batch) is Phase.QUEUED:
        why, start = queue_reason("" if batch.reason == "None" else batch.reason), batch.start
    else:
        why, start = Reason("queued", "The batch system holds the job in its queue."), None
    return Observation(
        Phase.QUEUED, reason=why, queue=QueuePlace(reason=why.code, estimated_start=start)
    )


def _end_reason(
    job: UnicoreJob, batch: SlurmJob | None, ending: Ending | None, words: str
) -> Reason:
    said = " ".join(job.status_message.split())[:500]
    if job.status == "SUCCESSFUL":
        return Reason("completed", "The job ended by itself (exit code 0).", words)
    if re.search("abort", said, re.IGNORECASE):
        sentence = "The job was aborted in UNICORE."
        return Reason("cancelled_by_administrator", sentence, said)
    if match := _UNSUBMITTED.search(said):
        code = refused_code(match[1]) or "engine_refused"
        return Reason(code, "The batch system did not take the job.", match[1] or said)
    if re.search("stag(e|ing).?in|import", said, re.IGNORECASE):
        return Reason("staging_failed", "UNICORE could not write the job's files.", said)
    if batch is not None and batch.state not in ("COMPLETED", "FAILED"):
        seen = slurm_observation(batch, ending, words)
        if seen.phase is Phase.ENDED and seen.reason is not None:
            return seen.reason
    if ending is not None:
        told = ended_without_record(ending, words).reason
        if told is not None:
            return told
    status = "" if job.exit_status is None else f" with exit code {job.exit_status}"
    sentence = f"The job failed{status} before its services ended; look at"
    return Reason("exited", f"{sentence} the last lines of its output.", words or said)
