"""Every reason code of a job: what it means, what usually helps, how the job ends. Pure.

A launcher of somebody else's may use codes of its own: they end a job as a fault, and no
remedy is shown with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vsmgate.lifecycle import Event

__all__ = ["REASONS", "Meaning", "remedy", "table"]


class Meaning(NamedTuple):
    """``outcome``: how a job ends for it; None where it lives on."""

    outcome: Event | None
    meaning: str
    remedy: str = ""


_LIVES, _STOPPED, _FAILED = None, Event.STOPPED, Event.FAILED
_EXPIRED, _LOST = Event.EXPIRED, Event.LOST
_LOGS = "Look at the job's logs."
_OPERATOR = "Tell the operator: the gateway's log knows more."
_LESS = "Ask for less, or for another kind of node."

REASONS: Mapping[str, Meaning] = {
    # of a job that lives
    "over_quota": Meaning(
        _LIVES, "It is held until there is room for one more job.", "Stop a job that you have."
    ),
    "queued": Meaning(_LIVES, "The engine holds it in its queue."),
    "queued_resources": Meaning(
        _LIVES, "It waits for free resources.", "What asks for less starts sooner."
    ),
    "queued_priority": Meaning(_LIVES, "Jobs of a higher priority wait before it."),
    "queued_limit": Meaning(
        _LIVES,
        "A limit of the account, or of the quality of service, is reached.",
        "End other jobs of the account.",
    ),
    "queued_dependency": Meaning(_LIVES, "It waits for another job."),
    "queued_begin_time": Meaning(_LIVES, "It is not to begin before a time."),
    "queued_reservation": Meaning(_LIVES, "It waits for its reservation to begin."),
    "held": Meaning(
        _LIVES, "It is held in the engine until somebody releases it.", "Ask who held it."
    ),
    "nodes_unavailable": Meaning(
        _LIVES, "The nodes that it needs are down, drained or reserved.", _LESS
    ),
    "partition_down": Meaning(_LIVES, "The partition is closed for now.", "Use another one."),
    "unschedulable": Meaning(
        _LIVES, "No node has room for it, or none of those that it may run on.", _LESS
    ),
    "starting": Meaning(_LIVES, "The engine prepares it, or its services start."),
    "not_answering": Meaning(
        _LIVES,
        "It runs, and a service does not answer; the message says at which step.",
        "Ask GET /v1/jobs/{id}/doctor.",
    ),
    "engine_unreachable": Meaning(
        _LIVES,
        "The engine cannot be asked now; the gateway goes on trying.",
        "Wait; where it lasts, tell the operator.",
    ),
    # of a job that was ended, or ended as it should
    "cancelled_by_user": Meaning(_STOPPED, "Its owner stopped it."),
    "cancelled_by_administrator": Meaning(
        _STOPPED, "An administrator, or somebody at the engine, stopped it."
    ),
    "completed": Meaning(_STOPPED, "It ended by itself, with success.", _LOGS),
    "walltime": Meaning(
        _EXPIRED, "It reached its limit of time.", "Extend the next one before its end_time."
    ),
    "idle": Meaning(_EXPIRED, "No client sent data for longer than idle_timeout."),
    "lost": Meaning(
        _LOST, "The engine, asked repeatedly, does not know it any more.", "Start it again."
    ),
    # of a job whose time did not suffice
    "queue_timeout": Meaning(_FAILED, "It waited longer than queue_timeout.", _LESS),
    "deadline": Meaning(_FAILED, "Its deadline at the engine passed."),
    "never_ready": Meaning(
        _FAILED, "It ran, and a service never answered; the message says what was seen.", _LOGS
    ),
    # of a job that ended by a fault
    "exited": Meaning(_FAILED, "A program of it ended with an error.", _LOGS),
    "killed": Meaning(
        _FAILED, "A program of it was killed by a signal.", f"{_LOGS} It may lack memory."
    ),
    "out_of_memory": Meaning(
        _FAILED, "It used more memory than it was given.", "Ask for more memory, or load less."
    ),
    "node_failed": Meaning(_FAILED, "Its node failed, or could not start it.", "Start it again."),
    "preempted": Meaning(_FAILED, "It was ended to make room for another.", "Start it again."),
    "evicted": Meaning(
        _FAILED,
        "Its node ended it: it was short of something, or is emptied.",
        "Start it again; where it used too much, ask for more.",
    ),
    "supervisor_killed": Meaning(
        _FAILED, "The process that watches over it was killed from outside.", "Start it again."
    ),
    "machine_restarted": Meaning(
        _FAILED, "The gateway's machine was restarted meanwhile.", "Start it again."
    ),
    # of a job that could not start
    "program_missing": Meaning(
        _FAILED,
        "A program is not where it should run.",
        "Check the use case's command, modules and image.",
    ),
    "program_unusable": Meaning(
        _FAILED, "A program cannot be run.", "Check its permissions and its interpreter."
    ),
    "directory_missing": Meaning(
        _FAILED, "A directory is not there.", "Check the use case's directory."
    ),
    "port_busy": Meaning(
        _FAILED, "A fixed port is taken.", "Stop what has it, or let the launcher choose."
    ),
    "port_unusable": Meaning(_FAILED, "A port cannot be used.", "Choose one above 1023."),
    "state_dir_unwritable": Meaning(_FAILED, "The job's folder cannot be written.", _OPERATOR),
    "image_pull": Meaning(
        _FAILED,
        "The container's image cannot be fetched.",
        "Check the image's name and tag, and the credentials of its registry.",
    ),
    "bad_image": Meaning(
        _FAILED, "The container's image is no good name.", "Check the use case's image."
    ),
    "start_failed": Meaning(_FAILED, "The engine could not start it.", "Start it again."),
    "staging_failed": Meaning(_FAILED, "Its files could not be brought to the engine.", _OPERATOR),
    "no_capacity": Meaning(_FAILED, "The engine has no machine free for it.", "Start it later."),
    "unhealthy": Meaning(_FAILED, "It failed the engine's own health checks.", _LOGS),
    "no_task": Meaning(_FAILED, "The engine does not know the task (any more)."),
    "not_found": Meaning(_FAILED, "Something that it needs is not at the engine.", _OPERATOR),
    "name_taken": Meaning(_FAILED, "The engine has another's job of its name.", _OPERATOR),
    "bad_parameters": Meaning(_FAILED, "Its parameters do not fit the engine.", "Shorten them."),
    "no_cluster": Meaning(_FAILED, "The engine's cluster is unknown or inactive.", _OPERATOR),
    "bad_namespace": Meaning(_FAILED, "The namespace is not there.", _OPERATOR),
    "bad_service_account": Meaning(_FAILED, "The service account is not there.", _OPERATOR),
    "bad_volume": Meaning(_FAILED, "A volume cannot be mounted.", "Check the use case's volumes."),
    "bad_container": Meaning(
        _FAILED, "A container of the use case cannot be.", "Check the use case's containers."
    ),
    "bad_platform": Meaning(_FAILED, "The platform cannot run it.", "Check the use case."),
    "bad_network": Meaning(_FAILED, "The subnets or security groups are unfit.", _OPERATOR),
    "bad_capacity_provider": Meaning(_FAILED, "The capacity provider is unknown.", _OPERATOR),
    "no_task_definition": Meaning(
        _FAILED, "The task definition is unknown or inactive.", "Register it, or correct its name."
    ),
    "bad_partition": Meaning(_FAILED, "The partition is unknown or not yours.", _OPERATOR),
    "bad_account": Meaning(_FAILED, "The account may not be used.", "Use another account."),
    "bad_qos": Meaning(_FAILED, "The quality of service may not be used.", "Use another."),
    "bad_reservation": Meaning(_FAILED, "The reservation is unknown or not yours."),
    "bad_constraint": Meaning(_FAILED, "No node has the wanted feature."),
    "bad_gres": Meaning(_FAILED, "No node has the wanted generic resource."),
    "bad_time_limit": Meaning(_FAILED, "The limit of time is not allowed.", "Ask for less."),
    "bad_resource": Meaning(_FAILED, "A wanted resource is none.", "Correct the parameter."),
    "impossible_resources": Meaning(
        _FAILED, "Nothing ever allows what it asks for; in a queue it would wait for ever.", _LESS
    ),
    "limit_reached": Meaning(_FAILED, "A limit of the site does not allow it now.", _LESS),
    "not_permitted": Meaning(_FAILED, "The engine does not permit it.", _OPERATOR),
    "no_account": Meaning(
        _FAILED, "Its owner has no account on the cluster.", "Ask for one, by the name you log in."
    ),
    "bad_credentials": Meaning(
        _FAILED, "The engine does not take the gateway's credentials, or yours.", _OPERATOR
    ),
    "engine_refused": Meaning(_FAILED, "The engine refused it; its own words tell why."),
    "launcher_failed": Meaning(_FAILED, "The gateway's launcher failed.", _OPERATOR),
    "no_launcher": Meaning(_FAILED, "Its launcher is not configured any more.", _OPERATOR),
    "bad_plan": Meaning(
        _FAILED, "Its use case does not fit the configuration any more.", _OPERATOR
    ),
    "not_extendable": Meaning(_FAILED, "Never of a job: its end could not be moved."),
}


def remedy(code: str) -> str:
    """Return what usually helps, or nothing."""
    known = REASONS.get(code)
    return known.remedy if known is not None else ""


def table() -> str:
    """Return all codes as a table of Markdown, for ``docs/reasons.md``."""
    rows = ["| code | the job | what it means | what usually helps |", "|---|---|---|---|"]
    for code, (outcome, meaning, helps) in REASONS.items():
        how = "lives" if outcome is None else str(outcome)
        rows.append(f"| `{code}` | {how} | {meaning} | {helps} |")
    return "\n".join(rows)
