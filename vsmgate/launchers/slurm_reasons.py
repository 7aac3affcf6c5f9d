"""Slurm's words, and what they are here. Pure; the tables are in docs/engines/slurm.md too."""

from __future__ import annotations

import re
import signal

from vsmgate.launchers.slurm_answers import SlurmJob
from vsmgate.launchers.slurm_folder import Ending
from vsmgate.model import Observation, Phase, QueuePlace, Reason

__all__ = ["ended_without_record", "observation", "phase_of", "queue_reason"]

#: A state that is not here is one of a running job if there is a node, else of a waiting one.
PHASES = {
    **dict.fromkeys(
        ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
        Phase.QUEUED,
    ),
    **dict.fromkeys(("CONFIGURING", "POWER_UP_NODE"), Phase.STARTING),
    **dict.fromkeys(
        ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"),
        Phase.RUNNING,
    ),
    **dict.fromkeys(
        (
            "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED",
            "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "REVOKED", "LAUNCH_FAILED",
        ),
        Phase.ENDED,
    ),
}  # fmt: skip

#: Why a job waits: pattern over Slurm's reason -> code, sentence.
_QUEUE = (
    ("Resources", "queued_resources", "The job is next, and waits for free resources."),
    ("Priority", "queued_priority", "Other jobs of a higher priority wait before it."),
    ("JobHeld.*|.*Hold.*", "held", "The job is held, and waits until somebody releases it."),
    (
        "InvalidAccount|AssocNotAllowed",
        "bad_account",
        "The account may not be used; it never will start.",
    ),
    ("InvalidQOS|QOSNotAllowed", "bad_qos", "The QOS may not be used; it never will start."),
    (
        "PartitionConfig|PartitionNodeLimit|PartitionTimeLimit|BadConstraints|AccountNotAllowed|"
        "AccountingPolicy|QOS.*PerJob.*|Assoc.*PerJob.*|QOS.*PerNode.*|QOSMinCpu.*|QOSMinGRES",
        "impossible_resources",
        "No node of the partition, or no rule of the site, ever allows what the job asks for: it "
        "waits for ever. Stop it, and ask for less.",
    ),
    (
        "ReqNodeNotAvail.*|Nodes required.*|NodeDown|.*DOWN.*",
        "nodes_unavailable",
        "The nodes that it needs are down, drained or reserved.",
    ),
    ("PartitionDown|PartitionInactive", "partition_down", "The partition is closed for now."),
    ("Reservation.*", "queued_reservation", "The job waits for its reservation to begin."),
    ("BeginTime", "queued_begin_time", "The job is not to begin before a time."),
    ("Dependency.*", "queued_dependency", "The job waits for another job."),
    ("Licenses|BurstBuffer.*", "queued_resources", "The job waits for free resources."),
    ("QOS.*|Assoc.*|.*Limit.*", "queued_limit", "A limit of the account or the QOS is reached."),
)

_ENDS = {
    "TIMEOUT": ("walltime", "The job reached its limit of time."),
    "DEADLINE": ("deadline", "The job's deadline passed."),
    "CANCELLED": ("cancelled_by_administrator", "The job was cancelled in Slurm (scancel)."),
    "REVOKED": ("cancelled_by_administrator", "The job was moved to another cluster."),
    "NODE_FAIL": ("node_failed", "The job's node failed."),
    "BOOT_FAIL": ("node_failed", "The job's node could not be booted."),
    "LAUNCH_FAILED": ("node_failed", "The job's node could not start it."),
    "PREEMPTED": ("preempted", "The job was ended to make room for another."),
    "OUT_OF_MEMORY": ("out_of_memory", "The job used more memory than it was given."),
}


def queue_reason(native: str) -> Reason:
    """Return why a job waits."""
    for pattern, code, sentence in _QUEUE:
        if re.fullmatch(pattern, native):
            return Reason(code, sentence, native)
    return Reason("queued", "Slurm holds the job in its queue.", native)


def phase_of(job: SlurmJob) -> Phase:
    """Return where a job is."""
    return PHASES.get(job.state) or (Phase.RUNNING if job.node else Phase.QUEUED)


def observation(job: SlurmJob, ending: Ending | None = None, words: str = "") -> Observation:
    """Return what a poll says, without endpoints.

    ``ending`` and ``words`` (the last lines of its output) matter for an ended job only.
    """
    phase = phase_of(job)
    if phase is Phase.QUEUED:
        why = queue_reason("" if job.reason == "None" else job.reason)
        place = QueuePlace(reason=why.code, estimated_start=job.start)
        return Observation(phase, reason=why, queue=place)
    if phase is Phase.ENDED:
        return Observation(phase, reason=_end_reason(job, ending, words))
    return Observation(phase, end_time=job.end)


def ended_without_record(ending: Ending, words: str) -> Observation:
    """Return how a job ended that Slurm does not know any more, by its script's own words."""
    if ending.service:
        return Observation(Phase.ENDED, reason=_service_reason(ending, words))
    if ending.requeued:
        return Observation(Phase.ENDED, reason=Reason(*_ENDS["NODE_FAIL"], words))
    if ending.seconds >= ending.limit:
        return Observation(Phase.ENDED, reason=Reason(*_ENDS["TIMEOUT"], words))
    return Observation(Phase.ENDED, reason=Reason(*_ENDS["CANCELLED"], words))


def _end_reason(job: SlurmJob, ending: Ending | None, words: str) -> Reason:
    if job.state in _ENDS:
        code, sentence = _ENDS[job.state]
        return Reason(code, sentence, job.state)
    if ending is not None and ending.service:
        return _service_reason(ending, words)
    if ending is not None and ending.requeued:
        return Reason(*_ENDS["NODE_FAIL"], "requeued")
    if job.state == "COMPLETED":
        return Reason("completed", "The job ended by itself (exit code 0).", words)
    native = words or job.reason
    match job.reason:
        case "BadConstraints":
            sentence = "Slurm cannot give the job what it asks for."
            return Reason("impossible_resources", sentence, native)
        case "JobLaunchFailure" | "LaunchFailed" | "launch failed requeued held":
            return Reason("node_failed", "The job's node could not start it.", native)
        case _:
            code_text = "" if job.status is None else f" with exit code {job.status}"
            sentence = f"The job's script failed{code_text} before its services ended; look at"
            return Reason("exited", f"{sentence} the last lines of its output.", native)


def _service_reason(ending: Ending, words: str) -> Reason:
    name, status = ending.service, ending.status
    if status == 0:
        return Reason("completed", f"Service {name} ended by itself (exit code 0).")
    look = f"look at the last lines of its output, or at the job's logs of {name}"
    if status == 127:
        sentence = f"The program of service {name} was not found on the node (exit code 127)"
        return Reason("program_missing", f"{sentence}; {look}.", words)
    if status <= 128:
        return Reason("exited", f"Service {name} ended with exit code {status}; {look}.", words)
    try:
        signal_name = signal.Signals(status - 128).name
    except ValueError:
        signal_name = f"signal {status - 128}"
    hint = "perhaps it ran out of memory; " if status - 128 == signal.SIGKILL else ""
    return Reason("killed", f"Service {name} was killed by {signal_name}; {hint}{look}.", words)
