"""What Slurm prints, and what it means: pure, on recorded output of Slurm 22.05 and 24.11."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from tests.launchers.slurm_rig import launch_of, usecase_of
from vsmgate.errors import BadParameters, EngineRefused, EngineUnreachable
from vsmgate.launchers.job_script import Place, names_for, render_script
from vsmgate.launchers.slurm_answers import (
    SlurmJob,
    failure,
    parse_jobs,
    parse_json,
    parse_number,
    parse_records,
)
from vsmgate.launchers.slurm_folder import Ending
from vsmgate.launchers.slurm_plan import SlurmPlan, check_plan, sbatch_options
from vsmgate.launchers.slurm_reasons import ended_without_record, observation, queue_reason
from vsmgate.launchers.slurm_ref import SlurmRef, refs_of
from vsmgate.model import Phase, new_job_id, tag_of
from vsmgate.settings import read
from vsmgate.shipped import conf_folder
from vsmgate.usecases.files import read_usecase

RECORDED = Path(__file__).parent / "slurm"
PLACE = Place("/shared/jobs", "0.0.0.0", (20000, 29999), "python3", shared=False)


def recorded(name: str) -> str:
    return (RECORDED / name).read_text().replace("|", "\x1f")


def test_the_fixed_format() -> None:
    jobs = {job.number: job for job in parse_jobs(recorded("squeue-22.05.txt"))}
    assert jobs[1] == SlurmJob(
        1, "CANCELLED", "root", "vsmgate-abc", "None", "n1", 1795309863.0, 1795309864.0
    )
    assert (jobs[7].state, jobs[7].reason, jobs[7].node) == ("PENDING", "PartitionConfig", "")
    assert jobs[7].start is jobs[7].end is None
    assert len(jobs) == 11
    assert parse_jobs("garbage\n<html>\n\n12_3\x1f\x1f\x1f\x1f\x1f\x1f\x1fx\n") == []


@pytest.mark.parametrize("version", ["22.05", "24.11"])
def test_json_says_the_same(version: str) -> None:
    fixed = {job.number: job for job in parse_jobs(recorded(f"squeue-{version}.txt"))}
    jobs = parse_json((RECORDED / f"squeue-{version}.json").read_bytes())
    assert jobs
    for job in jobs:
        same = fixed[job.number]
        assert (job.state, job.name, job.user) == (same.state, same.name, same.user)
        assert (job.reason, job.node) == (same.reason, same.node)
        if job.node:
            assert (job.start, job.end) == (same.start, same.end)


def test_json_of_later_versions() -> None:
    later = b"""{"meta": {}, "jobs": [{"job_id": 5, "job_state": ["RUNNING", "COMPLETING"],
        "user_name": "ada", "name": "x", "state_reason": "None", "batch_host": "r1i2",
        "start_time": {"set": true, "infinite": false, "number": 1700000000},
        "end_time": {"set": false, "infinite": true, "number": 0}}]}"""
    expected = SlurmJob(5, "COMPLETING", "ada", "x", "None", "r1i2", 1700000000.0, None)
    assert parse_json(later) == [expected]
    for bad in (b"", b"<html>", b"{}", b'{"jobs": [{}]}'):
        with pytest.raises(EngineUnreachable):
            parse_json(bad)


def test_accounting() -> None:
    text = (
        "12|CANCELLED by 1000|0:15|1700000000|1700000100|ada|vsmgate-a\n"
        "12.batch|CANCELLED|0:15|1700000000|1700000100||batch\n"
        "13|FAILED|3:0|1700000000|1700000100|ada|vsmgate-b\n14|PENDING|0:0|Unknown|Unknown|ada|c\n"
    )
    first, second, third = parse_records(text.replace("|", "\x1f"))
    assert (first.number, first.state, first.user) == (12, "CANCELLED", "ada")
    assert (second.status, second.end) == (3, 1700000100.0)
    assert (third.start, third.end) == (None, None)


def test_the_number_of_a_new_job() -> None:
    assert parse_number("17\n") == 17
    assert parse_number("Welcome to the cluster\n17;big\n") == 17
    for bad in ("", "Submitted batch job", "0", "-3", "<html>"):
        with pytest.raises(EngineUnreachable, match="instead of a job's number"):
            parse_number(bad)


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
        "sbatch: error: Munge encode failed: Failed to access socket: No such file or directory",
        "slurm_load_jobs error: Protocol authentication error",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.",
        "Unexpected message received for job 3",
        "sbatch: Warning: x\nConnection to login1 closed by remote host.",
    ],
)
def test_what_may_pass_is_no_refusal(words: str) -> None:
    assert isinstance(failure("sbatch", words), EngineUnreachable)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("Invalid partition name specified", "bad_partition"),
        ("Invalid account or account/partition combination specified", "bad_account"),
        ("Invalid qos specification", "bad_qos"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "bad_time_limit"),
        ("Requested node configuration is not available", "impossible_resources"),
        ("Job violates accounting/QOS policy (job submit limit, user's size)", "limit_reached"),
        ("User's group not permitted to use this partition", "not_permitted"),
        ("Something new", "engine_refused"),
    ],
)
def test_refusals(words: str, code: str) -> None:
    error = failure("sbatch", f"sbatch: error: Batch job submission failed: {words}")
    assert isinstance(error, EngineRefused)
    assert (error.code, words in error.native) == (code, True)


@pytest.mark.parametrize(
    ("native", "code"),
    [
        ("Resources", "queued_resources"),
        ("Priority", "queued_priority"),
        ("JobHeldUser", "held"),
        ("JobHeldAdmin", "held"),
        ("InvalidAccount", "bad_account"),
        ("InvalidQOS", "bad_qos"),
        ("PartitionConfig", "impossible_resources"),
        ("PartitionTimeLimit", "impossible_resources"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "nodes_unavailable"),
        ("Nodes required for job are DOWN, DRAINED or reserved", "nodes_unavailable"),
        ("QOSMaxCpuPerUserLimit", "queued_limit"),
        ("AssocGrpCPUMinutesLimit", "queued_limit"),
        ("BeginTime", "queued_begin_time"),
        ("SomethingNew", "queued"),
    ],
)
def test_why_a_job_waits(native: str, code: str) -> None:
    reason = queue_reason(native)
    assert (reason.code, reason.native) == (code, native)


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("TIMEOUT", "walltime"),
        ("CANCELLED", "cancelled_by_administrator"),
        ("NODE_FAIL", "node_failed"),
        ("PREEMPTED", "preempted"),
        ("OUT_OF_MEMORY", "out_of_memory"),
        ("COMPLETED", "completed"),
        ("FAILED", "exited"),
    ],
)
def test_how_a_job_ends(state: str, code: str) -> None:
    seen = observation(SlurmJob(1, state, "ada", "x"))
    assert seen.phase is Phase.ENDED
    assert seen.reason is not None
    assert seen.reason.code == code


def test_how_a_job_ends_by_its_own_words() -> None:
    failed = SlurmJob(1, "FAILED", "ada", "x", "NonZeroExitCode")
    for status, code in (
        (3, "exited"),
        (127, "program_missing"),
        (137, "killed"),
        (0, "completed"),
    ):
        ending = Ending("renderer", status)
        for seen in (observation(failed, ending, "last"), ended_without_record(ending, "last")):
            assert seen.reason is not None
            assert (seen.reason.code, "renderer" in seen.reason.message) == (code, True)
    for seconds, code in ((3600, "walltime"), (100, "cancelled_by_administrator")):
        reason = ended_without_record(Ending("", 143, seconds, 3600), "").reason
        assert reason is not None
        assert reason.code == code


def test_a_state_that_is_new_ends_nothing() -> None:
    assert observation(SlurmJob(1, "NEW", "ada", "x", node="n1")).phase is Phase.RUNNING
    assert observation(SlurmJob(1, "NEW", "ada", "x")).phase is Phase.QUEUED


@given(st.text())
def test_refs(text: str) -> None:
    ref = SlurmRef.parse(text)
    assert ref is None or str(ref) == text


def test_refs_of_both_kinds() -> None:
    for ref in (SlurmRef(12, new_job_id()), SlurmRef(12, new_job_id(), "ada")):
        assert SlurmRef.parse(str(ref)) == ref
    for bad in ("12", "12:x", f"0:{new_job_id()}", f"1:{new_job_id()}:", f"1:{new_job_id()}:-u"):
        assert SlurmRef.parse(bad) is None


def test_resources_become_options() -> None:
    plan = {
        **{"account": "{parameters.project}", "partition": "prod", "qos": "longjob"},
        **{"reservation": "demo", "constraint": "cpu&[a|b]", "gres": "gpu:2", "memory": "0"},
        **{"comment": "certs for {owner}", "nodes": 2, "cpus_per_task": 72, "exclusive": True},
        "options": ["--hint=nomultithread"],
    }
    usecase = usecase_of({"renderer": "stays"}, **plan)
    launch = launch_of(usecase, {"project": "proj3"}, lifetime=61.0)
    options = sbatch_options(launch.plan, names_for(launch, PLACE)["renderer"], launch.lifetime)
    assert set(options) == {
        "--account=proj3", "--partition=prod", "--qos=longjob", "--reservation=demo",
        "--constraint=cpu&[a|b]", "--gres=gpu:2", "--mem=0", "--comment=certs for nobody",
        "--nodes=2", "--cpus-per-task=72", "--exclusive", "--time=2", "--hint=nomultithread",
    }  # fmt: skip
    for bad in ("a b", "--x", "$(id)", "a\x1b", "ä"):
        launch = launch_of(usecase, {"project": bad})
        with pytest.raises(EngineRefused) as caught:
            sbatch_options(launch.plan, names_for(launch, PLACE)["renderer"], 60.0)
        assert caught.value.code == "bad_resource"


def test_control_characters_are_refused() -> None:
    usecase = usecase_of({"renderer": "stays"})
    usecase.launch["slurm"]["services"]["renderer"]["command"] += ["{parameters.word}"]
    assert "'$(id) `x`'" in render_script(launch_of(usecase, {"word": "$(id) `x`"}), PLACE)
    for bad in ("a\tb", "a\x1bb", "a\nb", "\x00", "\x85"):
        with pytest.raises(BadParameters):
            render_script(launch_of(usecase, {"word": bad}), PLACE)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ({"partition": "a b"}, "launch.slurm.partition: 'a b' is not what Slurm takes there"),
        ({"account": "{parameters.x}"}, "launch.slurm.account: names {parameters.x}; known"),
        ({"options": ["-p x"]}, "must be one --option"),
        ({"options": ["--output=/x"]}, "--output is set by the gateway"),
        ({"setup": ["a\nb"]}, "must be one line"),
        ({"services": {}}, "launch.slurm.services.renderer is missing"),
    ],
)
def test_mistakes_in_a_plan_are_told(plan: dict[str, Any], told: str) -> None:
    usecase = usecase_of({"renderer": "stays"})
    usecase.launch["slurm"].update(plan)
    wrong = check_plan(usecase, convert(usecase.launch["slurm"], SlurmPlan))
    assert len(wrong) == 1
    assert told in wrong[0]


@pytest.mark.parametrize("name", ["demo", "brayns", "viser", "trame"])
def test_the_shipped_plans(name: str) -> None:
    usecase = read_usecase(conf_folder() / "usecases" / f"{name}.toml")
    plan = read(SlurmPlan, usecase.launch["slurm"], source=name)
    assert check_plan(usecase, plan) == []


def test_of_several_of_one_tag_the_one_that_runs_counts_or_the_first() -> None:
    job_id = new_job_id()
    tag = tag_of(job_id)

    def seen(*jobs: tuple[int, str, str], own: bool = True) -> tuple[Any, list[str]]:
        made = [SlurmJob(number, state, user, tag) for number, state, user in jobs]
        found, doubles = refs_of(made, {tag: job_id}, own=own)
        return str(found[tag]), [str(ref) for ref in doubles]

    late, first = (9, "PENDING", "ada"), (5, "PENDING", "ada")
    assert seen(late, first) == (f"5:{job_id}", [f"9:{job_id}"])
    assert seen((9, "RUNNING", "ada"), first) == (f"9:{job_id}", [f"5:{job_id}"])
    assert seen(late, (5, "COMPLETED", "ada")) == (f"5:{job_id}", [f"9:{job_id}"])
    assert seen((9, "FAILED", "ada"), first) == (f"5:{job_id}", [])
    imitation = (9, "RUNNING", "eve")
    assert seen(imitation, first, own=False) == (f"5:{job_id}:ada", [])
    assert refs_of([SlurmJob(1, "RUNNING", "ada", "x")], {tag: job_id}, own=True) == ({}, [])
