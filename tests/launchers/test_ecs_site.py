"""The ECS launcher on its stand-in; the contract runs on it too (test_contract.py)."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from tests.launchers.ecs_rig import EcsRig, usecase_of
from tests.launchers.test_slurm_cluster import NASTY
from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.launchers.ecs_ref import EcsRef
from vsmgate.model import LogStream, Phase, Secret, new_job_id, tag_of
from vsmgate.testing.deferreds import deferred, gather


@deferred
async def test_services_answer_where_it_says_and_get_values_literally(ecs: EcsRig) -> None:
    usecase = usecase_of({"renderer": "stays", "back-end": "stays"}, "test-two", cpu="512")
    plan = usecase.launch["ecs"]
    plan["services"]["back-end"] |= {"container": "web", "memory": "{parameters.mib}"}
    plan["services"]["renderer"]["command"] += ["{parameters.word}", ["{parameters.words}"]]
    plan["services"]["renderer"]["environment"] = {"WORD": "{parameters.word}", "BY": "{owner}"}
    plan["services"]["renderer"]["command"] += ["{ports.back-end}/x"]
    launch = ecs.launch_of(
        usecase, parameters={"word": NASTY[0], "words": NASTY, "mib": 256}, owner="ada@é.org;x"
    )
    ref = await ecs.launcher.submit(launch)
    seen = await ecs.until(ref, Phase.RUNNING)
    assert seen.endpoints.keys() == {"renderer", "back-end"}
    for name, endpoint in seen.endpoints.items():

        async def answers(name: str = name, at: tuple[str, int] = (endpoint.host, endpoint.port)):
            try:
                with socket.create_connection(at, timeout=5) as connection:
                    return True if connection.recv(100) == name.encode() else None
            except ConnectionRefusedError:
                return None

        assert await ecs.eventually(answers)
    (task,) = ecs.site.tasks(launch.tag)
    overrides = task["overrides"]["containerOverrides"]
    by_name = {override["name"]: override for override in overrides}
    assert task["overrides"]["cpu"] == "512"
    assert by_name["web"]["memory"] == 256
    assert by_name["renderer"]["command"][-len(NASTY) - 2 : -1] == [NASTY[0], *NASTY]
    variables = {pair["name"]: pair["value"] for pair in by_name["renderer"]["environment"]}
    assert variables["WORD"] == NASTY[0]
    assert variables["VSMGATE_PORT_BACK_END"] == str(seen.endpoints["back-end"].port)
    tags = {pair["key"]: pair["value"] for pair in task["tags"]}
    assert tags["vsmgate:owner"] == "ada@é.org_x"
    assert tags["vsmgate:job"] == launch.job_id
    # What the container itself got.
    (told,) = (
        path
        for path in Path("/proc").glob("[0-9]*/environ")
        if f"VSMGATE_JOB={launch.job_id}" in (text := _environ(path))
        and "VSMGATE_SERVICE=renderer" in text
    )
    argv = (told.parent / "cmdline").read_bytes().split(b"\0")[:-1]
    host = seen.endpoints["renderer"].host
    expected = ["stays", host, "5000", NASTY[0], *NASTY, "5001/x"]
    assert [part.decode() for part in argv[-len(expected) :]] == expected


def _environ(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b"\n").decode(errors="replace")
    except OSError:
        return ""


@deferred
async def test_the_secret_arrives_and_is_nowhere_else(
    ecs: EcsRig, capfd: pytest.CaptureFixture[str]
) -> None:
    launch = ecs.launch_of(usecase_of({"renderer": "stays"}), secret=Secret("only-for-the-job"))
    ref = await ecs.launcher.submit(launch)
    await ecs.until(ref, Phase.RUNNING)
    (task,) = ecs.site.tasks(launch.tag)
    (override,) = task["overrides"]["containerOverrides"]
    assert {"name": "VSMGATE_SECRET", "value": "only-for-the-job"} in override["environment"]
    assert "only-for-the-job" not in json.dumps([override["command"], task["tags"], ref])
    seen = (await ecs.launcher.poll([ref]))[ref]
    assert "only-for-the-job" not in repr(seen)
    assert "only-for-the-job" not in "".join(capfd.readouterr())


@deferred
async def test_a_job_that_cannot_start_says_why(ecs: EcsRig) -> None:
    ref = await ecs.launcher.submit(ecs.launch(family="test-missing"))
    reason = (await ecs.until(ref, Phase.ENDED)).reason
    assert reason is not None
    assert reason.code == "image_pull"
    assert "CannotPullContainerError" in reason.native
    missing = usecase_of({"renderer": "stays"})
    missing.launch["ecs"]["services"]["renderer"]["command"] = ["no-such-program"]
    ref = await ecs.launcher.submit(ecs.launch_of(missing))
    reason = (await ecs.until(ref, Phase.ENDED)).reason
    assert reason is not None
    assert reason.code == "program_missing"


@deferred
async def test_how_a_task_ended(ecs: EcsRig) -> None:
    for does, code, words in (
        ("fails", "exited", "Service renderer ended with exit code 3"),
        ("killed", "killed", "SIGKILL"),
        ("finishes", "completed", "Service renderer ended by itself"),
    ):
        ref = await ecs.launcher.submit(ecs.launch(does))
        reason = (await ecs.until(ref, Phase.ENDED)).reason
        assert reason is not None
        assert reason.code == code
        assert words in reason.message
        assert reason.native.startswith("EssentialContainerExited: Essential container in task")
    launch = ecs.launch()
    ref = await ecs.launcher.submit(launch)
    await ecs.until(ref, Phase.RUNNING)
    (task,) = ecs.site.tasks(launch.tag)
    # An administrator stops it by other means.
    ecs.site.ecs.stop_task(cluster="vsmgate", task=task["taskArn"], reason="maintenance tonight")
    reason = (await ecs.until(ref, Phase.ENDED)).reason
    assert reason is not None
    assert reason.code == "cancelled_by_administrator"
    assert "UserInitiated: maintenance tonight" in reason.native


@deferred
async def test_a_refusal_is_told_in_the_engines_words(ecs: EcsRig) -> None:
    for launcher, family, code in (
        (ecs.launcher, "no-such-family", "no_task_definition"),
        (ecs.again(cluster="elsewhere"), "test", "no_cluster"),
    ):
        with pytest.raises(EngineRefused) as caught:
            await launcher.submit(ecs.launch(family=family))
        assert caught.value.code == code
        assert "123456789012" not in caught.value.detail + caught.value.native
    with pytest.raises(EngineUnreachable, match="ClusterNotFound"):
        await ecs.again(cluster="elsewhere").poll([f"{'0' * 32};renderer=renderer:5000"])


@deferred
async def test_a_submit_that_is_repeated_makes_one_task(ecs: EcsRig) -> None:
    launch = ecs.launch()
    refs, errors = await gather([ecs.launcher.submit(launch), ecs.again().submit(launch)])
    assert errors == []
    assert len(set(refs)) == 1
    assert len(ecs.site.tasks(launch.tag)) == 1
    await ecs.launcher.cancel(refs[0])
    await ecs.until(refs[0], Phase.ENDED)
    found = await ecs.again().find([launch.tag, tag_of(new_job_id())])
    assert found == {launch.tag: refs[0]}, "ended ones are found too"


@deferred
async def test_many_are_asked_for_in_hundreds(ecs: EcsRig) -> None:
    ref = await ecs.launcher.submit(ecs.launch())
    await ecs.until(ref, Phase.RUNNING)
    strangers = [f"{number:032x};renderer=renderer:5000" for number in range(250)]
    refs = [*strangers[:150], ref, *strangers[150:]]
    seen = await ecs.launcher.poll(refs)
    assert list(seen) == refs
    assert seen[ref].phase is Phase.RUNNING
    assert {seen[stranger].phase for stranger in strangers} == {Phase.UNKNOWN}


@deferred
async def test_stopping_what_ecs_does_not_know_is_nothing(ecs: EcsRig) -> None:
    await ecs.launcher.cancel(f"{'0' * 32};renderer=renderer:5000")
    await ecs.launcher.forget(f"{'0' * 32};renderer=renderer:5000")


@deferred
async def test_logs_without_a_log_group(ecs: EcsRig) -> None:
    ref = await ecs.launcher.submit(ecs.launch("finishes"))
    await ecs.until(ref, Phase.ENDED)
    silent = ecs.again(log_group=None, log_prefix=None)
    assert await silent.logs(ref, "renderer", LogStream.STDOUT, 100) == b""
    parsed = EcsRef.parse(ref)
    assert parsed is not None
    streams = ecs.site.logs.describe_log_streams(
        logGroupName="/vsmgate/jobs", logStreamNamePrefix=f"vsmgate/renderer/{parsed.task}"
    )
    assert len(streams["logStreams"]) == 1, "boto3 sees the stream, too"
    await ecs.again(keep_logs=True).forget(ref)
    assert await ecs.launcher.logs(ref, "renderer", LogStream.STDOUT, 100) == b"hello\n"
    await ecs.launcher.forget(ref)
    assert await ecs.launcher.logs(ref, "renderer", LogStream.STDOUT, 100) == b""


@deferred
async def test_a_launcher_without_credentials_says_so(
    ecs: EcsRig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    launcher = ecs.again()
    with pytest.raises(EngineUnreachable, match="no credentials for AWS"):
        await launcher.submit(ecs.launch())
    # They come while the gateway runs.
    (tmp_path / ".aws").mkdir()
    keys = "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalr\n"
    (tmp_path / ".aws" / "credentials").write_text(keys)
    assert await launcher.find([tag_of(new_job_id())]) == {}


@deferred
async def test_a_wait_can_be_given_up(ecs: EcsRig) -> None:
    asked = Deferred.fromCoroutine(ecs.launcher.find([tag_of(new_job_id())]))
    asked.addErrback(lambda failure: failure.trap(Exception) and "cancelled")
    asked.cancel()
    assert await asked == "cancelled"
