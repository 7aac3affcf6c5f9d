from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from tests.launchers.unicore_rig import launch_of, usecase_of
from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.launchers.job_report import Ending
from vsmgate.launchers.job_script import Place, names_for, render_script
from vsmgate.launchers.slurm_answers import SlurmJob
from vsmgate.launchers.unicore_answers import (
    UnicoreJob,
    id_in,
    parse_details,
    parse_job,
    parse_list,
    words_in,
)
from vsmgate.launchers.unicore_plan import UnicorePlan, check_plan, description
from vsmgate.launchers.unicore_reasons import observation, refusal
from vsmgate.model import Endpoint, Launch, Phase, Secret, Service
from vsmgate.settings import read
from vsmgate.shipped import conf_folder
from vsmgate.usecases.files import read_usecase

PLACE = Place(None, "0.0.0.0", (20000, 29999), "python3", shared=False)
HERE = {"renderer": Endpoint("n1", 20000)}
RAW = """JobId=8017847 JobName=vsmgate
   UserId=foo(123) GroupId=bar(456) MCS_label=N/A
   JobState=PENDING Reason=Priority Dependency=(null)
   StartTime=2026-06-17T15:00:00 EndTime=Unknown Deadline=N/A"""


def described(launch: Launch, user: str = "") -> dict[str, Any]:
    names = next(iter(names_for(launch, PLACE).values()))
    return description(launch, render_script(launch, PLACE), names, user)


def batch(state: str, reason: str = "None", **more: Any) -> SlurmJob:
    return SlurmJob(7, state, "", "", reason, **more)


@pytest.mark.parametrize(
    ("job", "told", "code"),
    [
        (UnicoreJob("SUCCESSFUL"), None, "completed"),
        (UnicoreJob("FAILED", "Job aborted."), None, "cancelled_by_administrator"),
        (UnicoreJob("FAILED", "Job was aborted by the user."), None, "cancelled_by_administrator"),
        (
            UnicoreJob(
                "FAILED",
                "Could not submit job: Resource request <Queue = nope> is out of range.",
            ),
            None,
            "bad_partition",
        ),
        (
            UnicoreJob(
                "FAILED", "Could not submit job: Resource request <Nodes=500> is out of range."
            ),
            None,
            "impossible_resources",
        ),
        (
            UnicoreJob(
                "FAILED",
                "Could not submit job: sbatch: error: Batch job submission failed: Invalid "
                "account or account/partition combination specified",
            ),
            None,
            "bad_account",
        ),
        (
            UnicoreJob("FAILED", "Staging in failed. Reason: no space left on device"),
            None,
            "staging_failed",
        ),
        (UnicoreJob("FAILED"), batch("TIMEOUT"), "walltime"),
        (UnicoreJob("FAILED"), batch("OUT_OF_MEMORY"), "out_of_memory"),
        (UnicoreJob("FAILED"), batch("NODE_FAIL"), "node_failed"),
        (UnicoreJob("FAILED"), batch("PREEMPTED"), "preempted"),
        (UnicoreJob("FAILED"), batch("CANCELLED"), "cancelled_by_administrator"),
        (UnicoreJob("FAILED", exit_code="3"), batch("FAILED"), "exited"),
        (UnicoreJob("FAILED"), None, "exited"),
    ],
)
def test_ends(job: UnicoreJob, told: SlurmJob | None, code: str) -> None:
    seen = observation(job, told)
    assert seen.phase is Phase.ENDED
    assert seen.reason is not None
    assert seen.reason.code == code
    if job.status_message:
        assert job.status_message.endswith(seen.reason.native)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (Ending("renderer", 3), "exited"),
        (Ending("renderer", 127), "program_missing"),
        (Ending("renderer", 137), "killed"),
        (Ending("", 143, 60, 60), "walltime"),
        (Ending("", 143, 5, 60), "cancelled_by_administrator"),
    ],
)
def test_the_scripts_own_words_decide_where_nobody_else_knows(ending: Ending, code: str) -> None:
    seen = observation(UnicoreJob("FAILED", exit_code="3"), ending=ending, words="no graphics")
    assert seen.reason is not None
    assert (seen.reason.code, seen.reason.native) == (code, "no graphics")


def test_waiting_jobs_say_why() -> None:
    for status in ("READY", "STAGINGIN", "UNDEFINED", "something new"):
        seen = observation(UnicoreJob(status))
        assert (seen.phase, seen.reason and seen.reason.code) == (Phase.QUEUED, "queued")
    seen = observation(UnicoreJob("QUEUED"), batch("PENDING", "Resources", start=5.0))
    assert seen.queue is not None
    assert (seen.queue.reason, seen.queue.estimated_start) == ("queued_resources", 5.0)
    tried = "Wed Jun 17: Submit attempt 1 (of 3) failed: sbatch: error: invalid partition specified"
    seen = observation(UnicoreJob("QUEUED", log=("New job.", tried)))
    assert seen.reason is not None
    assert seen.reason.code == "bad_partition"
    assert "invalid partition" in seen.reason.native


def test_running_jobs_have_places_and_an_end() -> None:
    for status in ("RUNNING", "STAGINGOUT"):
        seen = observation(UnicoreJob(status), batch("RUNNING", end=9.0), endpoints=HERE)
        assert (seen.phase, seen.endpoints, seen.end_time) == (Phase.RUNNING, HERE, 9.0)


def test_details_as_text_and_as_json() -> None:
    submitted = "2026-06-17T14:54:15+0200"
    text = parse_details(json.dumps({"rawDetailsData": RAW}).encode(), submitted)
    told = {"JobId": "8017847", "JobState": "PENDING", "Reason": "Priority", "Nodes": 1}
    told |= {"StartTime": "2026-06-17T15:00:00", "EndTime": "Unknown"}
    assert text == parse_details(json.dumps(told).encode(), submitted)
    assert text is not None
    assert (text.number, text.state, text.reason, text.end) == (
        8017847, "PENDING", "Priority",
        None,
    )  # fmt: skip
    assert text.start == 1781701200.0  # 13:00 UTC
    for other in (b"{}", b'{"rawDetailsData": "Job_Id: 1.pbs job_state = Q"}'):
        assert parse_details(other, submitted) is None


@given(st.binary(max_size=200), st.text(max_size=40))
def test_nonsense_is_said_to_be(data: bytes, text: str) -> None:
    for parse in (parse_job, parse_list, lambda data: parse_details(data, text)):
        try:
            parse(data)  # type: ignore[operator]
        except EngineUnreachable:
            pass
    assert words_in(data).isprintable()
    found = id_in(text)
    assert found is None or (found in text and "/" not in found)


def test_ids_and_words() -> None:
    assert id_in("https://x/SITE/rest/core/jobs/0cc175b9-c0f1") == "0cc175b9-c0f1"
    for bad in ("", "https://x/jobs/", "x/../../etc", "x/a b c d e f g", "x/12345678?x=y"):
        assert id_in(bad) is None
    assert words_in(b'{"errorMessage": "no\\u001b[31m way\\n", "status": 500}') == "no [31m way"
    assert words_in(b"<html>") == ""
    assert refusal("Access denied").code == "not_permitted"


def test_a_description() -> None:
    plan = {"queue": "prod", "project": "{parameters.project}", "memory": "0", "nodes": 2}
    plan |= {"exclusive": True, "resources": {"GpuModel": "a100"}, "setup": ["module load x"]}
    usecase = usecase_of({"renderer": "stays"}, **plan)
    usecase.launch["unicore"]["services"]["renderer"]["command"] += ["{parameters.word}", "{port}"]
    word = "$(id) `id` \" ' ; {directory}"
    launch = launch_of(
        usecase,
        parameters={"project": "proj134", "word": word},
        lifetime=61.0,
        secret=Secret("s3cr3t"),
    )
    made = described(launch, "ada")
    assert made["Resources"] == {
        **{"Queue": "prod", "Project": "proj134", "MemoryPerNode": "0", "Nodes": "2"},
        **{"Exclusive": "true", "GpuModel": "a100", "Runtime": "120"},
    }
    assert made["Tags"] == [launch.tag, "vsmgate-as-ada"]
    assert made["Name"] == launch.tag
    assert made["haveClientStageIn"] == "false"
    # A server pastes these into a shell script, unquoted.
    assert (made["Executable"], made["Arguments"]) == ("/bin/bash", ["vsmgate-job.sh"])
    assert "Environment" not in made
    script, secret = made["Imports"]
    assert secret == {"To": "vsmgate-secret", "Data": "s3cr3t\n", "Permissions": "rw-------"}
    assert "module load x" in script["Data"]
    assert "s3cr3t" not in json.dumps({**made, "Imports": script})
    assert [i["To"] for i in described(replace(launch, secret=None))["Imports"]] == [script["To"]]


@pytest.mark.parametrize("value", ["a b", "$(id)", "-x", "`id`"])
def test_a_value_that_is_no_resource_is_refused(value: str) -> None:
    usecase = usecase_of({"renderer": "stays"}, project="{parameters.project}")
    with pytest.raises(EngineRefused) as caught:
        described(launch_of(usecase, parameters={"project": value}))
    assert caught.value.code == "bad_resource"


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ({"queue": "two words"}, "launch.unicore.queue"),
        ({"resources": {"Nodes": "3"}}, "has its own key"),
        ({"resources": {"GpuModel": "`id`"}}, "GpuModel"),
        ({"setup": ["a\nb"]}, "must be one line"),
        ({"services": {}}, "launch.unicore.services.renderer is missing"),
    ],
)
def test_mistakes_in_a_plan_are_told(plan: dict[str, Any], told: str) -> None:
    usecase = usecase_of({"renderer": "stays"})
    usecase.launch["unicore"].update(plan)
    wrong = check_plan(usecase, convert(usecase.launch["unicore"], UnicorePlan))
    assert len(wrong) == 1
    assert told in wrong[0]


def test_privileged_and_doubled_ports_are_told() -> None:
    usecase = usecase_of({"renderer": "stays", "backend": "stays"})
    plan = convert(usecase.launch["unicore"], UnicorePlan)
    for port, told in ((80, "privileged"), (5000, "cannot both have")):
        usecase = replace(usecase, services=dict.fromkeys(usecase.services, Service(port=port)))
        assert any(told in why for why in check_plan(usecase, plan))


@pytest.mark.parametrize("name", ["demo", "brayns", "viser", "trame"])
def test_the_shipped_plans(name: str) -> None:
    usecase = read_usecase(conf_folder() / "usecases" / f"{name}.toml")
    plan = read(UnicorePlan, usecase.launch["unicore"], source=name)
    assert check_plan(usecase, plan) == []
