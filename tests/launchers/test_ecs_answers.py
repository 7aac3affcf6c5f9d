"""What ECS answers, and what it means: pure, in the shapes of its API reference."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from tests.launchers.ecs_rig import SUBNET, launch_of, usecase_of
from vsmgate.errors import BadParameters, EngineRefused, EngineUnreachable
from vsmgate.launchers.ecs_answers import Described, Failed, Task, decode, failure, public, unplaced
from vsmgate.launchers.ecs_plan import EcsPlan, check_plan, places_of, run_task
from vsmgate.launchers.ecs_reasons import observation
from vsmgate.launchers.ecs_ref import EcsRef, Place
from vsmgate.launchers.ecs_settings import CapacityProvider, EcsSettings, settings_problems
from vsmgate.model import Endpoint, Phase, Secret, Service, Usecase
from vsmgate.settings import read
from vsmgate.shipped import conf_folder
from vsmgate.usecases.files import read_usecase

ARN = "arn:aws:ecs:eu-west-1:123456789012:task/vis/0123456789abcdef0123456789abcdef"
REF = EcsRef(ARN[-32:], (Place("renderer", "web", 5000), Place("backend", "backend", 5001)))
EXITED = "EssentialContainerExited"
SETTINGS = EcsSettings(region="eu-west-1", subnets=(SUBNET,))

#: As Fargate tells of a running task.
RUNNING: dict[str, Any] = {
    "attachments": [
        {"id": "1", "type": "Service Connect", "status": "ATTACHED", "details": []},
        {
            "id": "a1b2",
            "type": "ElasticNetworkInterface",
            "status": "ATTACHED",
            "details": [
                {"name": "subnetId", "value": SUBNET},
                {"name": "networkInterfaceId", "value": "eni-0a1b2c3d"},
                {"name": "macAddress", "value": "0a:98:eb:a7:29:ba"},
                {"name": "privateDnsName", "value": "ip-10-0-0-200.eu-west-1.compute.internal"},
                {"name": "privateIPv4Address", "value": "10.0.0.200"},
            ],
        },
    ],
    "containers": [{"name": "web", "lastStatus": "RUNNING", "cpu": "0", "networkInterfaces": []}],
    "createdAt": 1700000000.123,
    "startedAt": 1700000042.0,
    "desiredStatus": "RUNNING",
    "lastStatus": "RUNNING",
    "launchType": "FARGATE",
    "startedBy": "vsmgate-x",
    "taskArn": ARN,
    "version": 4,
}


def task_of(**more: Any) -> Task:
    return convert({**RUNNING, **more}, Task)


def ended(stop_code: str, reason: str, *containers: tuple[str, int | None, str]) -> Any:
    """Return why a task ended. ``containers``: name, exit code, reason."""
    listed = [
        {"name": name, "lastStatus": "STOPPED", "exitCode": code, "reason": said}
        for name, code, said in containers
    ]
    task = task_of(
        lastStatus="STOPPED", stopCode=stop_code, stoppedReason=reason, containers=listed
    )
    seen = observation(task, REF)
    assert seen.phase is Phase.ENDED
    assert seen.reason is not None
    return seen.reason


def test_a_running_task() -> None:
    seen = observation(task_of(), REF)
    assert seen.phase is Phase.RUNNING
    assert seen.endpoints == {
        "renderer": Endpoint("10.0.0.200", 5000),
        "backend": Endpoint("10.0.0.200", 5001),
    }


@pytest.mark.parametrize("value", ["", "localhost", "10.0.0.256", "::1", "10.0.0.1\n", "127.1"])
def test_an_address_that_is_none_is_not_dialled(value: str) -> None:
    details = [{"name": "privateIPv4Address", "value": value}]
    attachment = {"type": "ElasticNetworkInterface", "details": details}
    assert observation(task_of(attachments=[attachment]), REF).endpoints == {}
    assert observation(task_of(attachments=[]), REF).endpoints == {}


@pytest.mark.parametrize(
    ("status", "phase", "code"),
    [
        ("PROVISIONING", Phase.QUEUED, "queued_resources"),
        ("PENDING", Phase.STARTING, "starting"),
        ("ACTIVATING", Phase.STARTING, "starting"),
        ("SOMETHING_NEW", Phase.STARTING, "starting"),
        ("DEPROVISIONING", Phase.ENDED, "start_failed"),
    ],
)
def test_before_it_runs(status: str, phase: Phase, code: str) -> None:
    seen = observation(task_of(lastStatus=status, startedAt=None, containers=[]), REF)
    assert seen.phase is phase
    assert seen.reason is not None
    assert seen.reason.code == code


@pytest.mark.parametrize("status", ["DEACTIVATING", "STOPPING", "SOMETHING_NEW"])
def test_on_its_way_out_it_is_not_over(status: str) -> None:
    assert observation(task_of(lastStatus=status), REF).phase is Phase.RUNNING


def test_a_mistake_is_told_while_it_still_tries() -> None:
    said = "CannotPullContainerError: pull access denied for arn:aws:ecr:x:123456789012:repo/demo"
    containers = [{"name": "web", "lastStatus": "PENDING", "reason": said}]
    seen = observation(task_of(lastStatus="PENDING", containers=containers), REF)
    assert seen.phase is Phase.STARTING
    assert seen.reason is not None
    assert seen.reason.code == "image_pull"
    assert "123456789012" not in seen.reason.native


@pytest.mark.parametrize(
    ("stop_code", "said", "containers", "code"),
    [
        ("TaskFailedToStart", "CannotPullContainerError: ref not found", (), "image_pull"),
        ("TaskFailedToStart", "Capacity is unavailable at this time.", (), "no_capacity"),
        ("TaskFailedToStart", "Unexpected EC2 error", (), "start_failed"),
        ("TaskFailedToStart", "ResourceInitializationError: no secret", (), "start_failed"),
        (
            "TaskFailedToStart",
            "Task failed to start",
            (("web", None, "CannotStartContainerError: executable file not found in $PATH"),),
            "program_missing",
        ),
        (
            "EssentialContainerExited",
            "Essential container in task exited",
            (("web", 137, "OutOfMemoryError: Container killed due to memory usage"),),
            "out_of_memory",
        ),
        (EXITED, "Essential", (("web", 3, ""), ("backend", 143, "")), "exited"),
        (EXITED, "Essential", (("web", 137, ""), ("backend", 1, "")), "exited"),
        (EXITED, "Essential", (("web", 0, ""), ("backend", 143, "")), "completed"),
        (EXITED, "Essential", (("web", 139, ""), ("backend", 0, "")), "killed"),
        (EXITED, "Essential", (("web", 127, ""),), "program_missing"),
        ("SpotInterruption", "Your Spot Task was interrupted.", (("web", 143, ""),), "preempted"),
        ("TerminationNotice", "Host EC2 (instance i-0a) terminated.", (), "node_failed"),
        ("", "Host EC2 (instance i-0a) terminated.", (), "node_failed"),
        ("UserInitiated", "Task stopped", (("web", 143, ""),), "cancelled_by_administrator"),
        ("UserInitiated", "Task failed container health checks", (), "unhealthy"),
        ("", "", (), "start_failed"),
    ],
)  # fmt: skip
def test_how_it_ended(stop_code: str, said: str, containers: Any, code: str) -> None:
    reason = ended(stop_code, said, *containers)
    assert reason.code == code
    assert said in reason.native


def test_a_service_is_called_by_its_own_name() -> None:
    reason = ended("EssentialContainerExited", "Essential", ("web", 3, ""), ("log-router", 0, ""))
    assert reason.message.startswith("Service renderer ended with exit code 3")
    reason = ended("EssentialContainerExited", "Essential", ("log-router", 2, ""))
    assert reason.message.startswith("Container log-router ended with exit code 2")


# -- refusals ------------------------------------------------------------------------------


def answer(kind: str, message: str = "") -> bytes:
    return json.dumps({"__type": f"com.amazonaws.ecs#{kind}", "message": message}).encode()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, answer("ThrottlingException", "Rate exceeded")),
        (400, answer("ClientException", "Rate exceeded")),
        (500, answer("ServerException", "Service Unavailable. Please try again later.")),
        (503, answer("ServiceUnavailable")),
        (500, b""),
        (502, b"<html><body>Bad gateway</body></html>"),
        (403, b"<html>proxy: log in with alice:secret</html>"),
        (400, b'{"no": "type"}'),
        (400, b"[]"),
        (400, b"\xff\xfe"),
    ],
)
def test_what_may_pass_is_no_refusal(status: int, body: bytes) -> None:
    error, words, _ = failure(status, body)
    assert isinstance(error, EngineUnreachable)
    assert words
    assert "secret" not in error.detail


@pytest.mark.parametrize(
    ("kind", "message", "code"),
    [
        ("ExpiredTokenException", "The security token included is expired", "bad_credentials"),
        ("UnrecognizedClientException", "The security token is invalid", "bad_credentials"),
        ("InvalidSignatureException", "Signature expired: 2026...", "bad_credentials"),
        (
            "AccessDeniedException",
            "User: arn:aws:sts::123456789012:assumed-role/gate/i-0 is not authorized to perform: "
            "ecs:RunTask on resource: arn:aws:ecs:eu-west-1:123456789012:task-definition/x",
            "not_permitted",
        ),
        ("ClientException", "TaskDefinition not found.", "no_task_definition"),
        ("ClientException", "TaskDefinition is inactive", "no_task_definition"),
        ("ClientException", "Unable to describe task definition.", "no_task_definition"),
        ("ClusterNotFoundException", "Cluster not found.", "no_cluster"),
        (
            "InvalidParameterException",
            "Override for container named x is not a container in the TaskDefinition.",
            "bad_container",
        ),
        (
            "InvalidParameterException",
            "Network Configuration is not valid for the given networkMode of this task definition.",
            "bad_network",
        ),
        ("InvalidParameterException", "The subnet ID 'subnet-1' does not exist", "bad_network"),
        (
            "InvalidParameterException",
            "No Container Instances were found in your cluster.",
            "impossible_resources",
        ),
        (
            "InvalidParameterException",
            "The specified capacity provider 'x' is not associated with the cluster",
            "bad_capacity_provider",
        ),
        (
            "ClientException",
            "No Fargate configuration exists for given values: 300 CPU, 512 memory.",
            "bad_resource",
        ),
        ("PlatformUnknownException", "The specified platform does not exist", "bad_platform"),
        ("LimitExceededException", "You've reached the limit on tasks", "limit_reached"),
        ("InvalidParameterException", "The referenced task was not found.", "no_task"),
        ("SomethingNewException", "for account 123456789012", "engine_refused"),
    ],
)
def test_refusals(kind: str, message: str, code: str) -> None:
    error, words, _ = failure(400, answer(kind, message))
    assert isinstance(error, EngineRefused)
    assert error.code == code
    assert message in words, "the operator reads all of it"
    for shown in (error.detail, error.native):
        assert "123456789012" not in shown
        assert "assumed-role" not in shown


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("RESOURCE:MEMORY", "no_capacity"),
        ("RESOURCE:CPU", "no_capacity"),
        ("RESOURCE:ENI", "no_capacity"),
        ("AGENT", "no_capacity"),
        ("Capacity is unavailable at this time. Please try again later", "no_capacity"),
        ("The requested CPU configuration is above your limit", "limit_reached"),
        ("ATTRIBUTE", "impossible_resources"),
        ("SOMETHING", "engine_refused"),
    ],
)
def test_what_is_not_placed(reason: str, code: str) -> None:
    error = unplaced([Failed("arn:aws:ecs:eu-west-1:123456789012:container-instance/x", reason)])
    assert isinstance(error, EngineRefused)
    assert error.code == code
    assert isinstance(unplaced([]), EngineUnreachable)


def test_answers_that_are_none() -> None:
    for body in (b"", b"<html>", b"{}", b'{"tasks": [{}]}', b'{"tasks": 5}', b"\xff"):
        with pytest.raises(EngineUnreachable, match="not its own"):
            decode(body, Described)
    (task,) = decode(json.dumps({"tasks": [RUNNING], "failures": []}).encode(), Described).tasks
    assert task == task_of()


@given(st.text())
def test_what_users_read_is_one_line_without_accounts(text: str) -> None:
    shown = public(f"{text} arn:aws:iam::123456789012:role/gate {text}")
    assert shown.isprintable()
    assert len(shown) <= 500
    assert "123456789012" not in shown


# -- refs ----------------------------------------------------------------------------------


@given(st.text())
def test_refs(text: str) -> None:
    ref = EcsRef.parse(text)
    assert ref is None or str(ref) == text


def test_refs_of_tasks() -> None:
    assert EcsRef.parse(str(REF)) == REF
    assert EcsRef.of(ARN, REF.places) == REF
    assert EcsRef.of("arn:aws:ecs:eu-west-1:123456789012:task/x/../../etc", REF.places) is None
    for bad in (ARN[-32:], f"{ARN};a=b:1", f"{ARN[-32:]};a=b:99999", f"{ARN[-32:]};a=b", "1;a=b:1"):
        assert EcsRef.parse(bad) is None


# -- what is asked for -----------------------------------------------------------------------


def test_a_run_task() -> None:
    settings = EcsSettings(
        region="eu-west-1",
        subnets=(SUBNET,),
        security_groups=("sg-0a1b2c3d",),
        cluster="vis",
        public_ip=True,
        capacity_providers=(CapacityProvider("FARGATE_SPOT", 3, 1),),
        platform_version="1.4.0",
        tags={"project": "vis"},
    )
    usecase = usecase_of({"renderer": "stays"}, cpu="{parameters.cpu}", memory="2048")
    launch = launch_of(usecase, parameters={"cpu": 1024}, secret=Secret("abc"))
    body = run_task(launch, settings)
    (override,) = body["overrides"].pop("containerOverrides")
    assert {"name": "VSMGATE_SECRET", "value": "abc"} in override.pop("environment")
    assert override.pop("command")[-2:] == ["0.0.0.0", "5000"]
    assert override == {"name": "renderer"}
    assert body == {
        "cluster": "vis",
        "taskDefinition": "test",
        "count": 1,
        "clientToken": launch.tag,
        "startedBy": launch.tag,
        "capacityProviderStrategy": [
            {"capacityProvider": "FARGATE_SPOT", "weight": 3, "base": 1},
        ],
        "platformVersion": "1.4.0",
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": [SUBNET],
                "securityGroups": ["sg-0a1b2c3d"],
                "assignPublicIp": "ENABLED",
            }
        },
        "overrides": {"cpu": "1024", "memory": "2048"},
        "tags": [
            {"key": "project", "value": "vis"},
            {"key": "vsmgate:job", "value": launch.job_id},
            {"key": "vsmgate:usecase", "value": "test"},
            {"key": "vsmgate:owner", "value": "ada"},
        ],
    }


def test_without_a_command_the_task_definitions_stays() -> None:
    usecase = usecase_of({"renderer": "stays"})
    del usecase.launch["ecs"]["services"]["renderer"]["command"]
    (override,) = run_task(launch_of(usecase), SETTINGS)["overrides"]["containerOverrides"]
    assert "command" not in override


def test_values_that_cannot_be() -> None:
    with pytest.raises(EngineRefused) as caught:
        run_task(launch_of(usecase_of({"renderer": "x" * 9000})), SETTINGS)
    assert caught.value.code == "bad_parameters"
    usecase = usecase_of({"renderer": "stays"}, memory="{parameters.mib}")
    for bad in ("lots", "-1", "1024 ", "0", True):
        with pytest.raises(EngineRefused, match="which is no number"):
            run_task(launch_of(usecase, parameters={"mib": bad}), SETTINGS)
    usecase.launch["ecs"]["services"]["renderer"]["command"] += ["{parameters.mib}"]
    with pytest.raises(BadParameters):
        run_task(launch_of(usecase, parameters={"mib": "a\0b"}), SETTINGS)


def test_what_is_wrong_with_a_plan() -> None:
    services = {"renderer": Service(port=5001), "backend": Service(port=5001), "third": Service()}
    table = {
        "task_definition": "no good",
        "cpu": "1 vCPU",
        "services": {
            "renderer": {"container": "a", "memory": "{parameters.nope}"},
            "backend": {"container": "a", "environment": {"VSMGATE_X": "1"}},
            "other": {"container": "a b", "command": ["{owner}"]},
        },
    }
    usecase = Usecase("test", "ecs", services, {"ecs": table})
    said = "\n".join(check_plan(usecase, convert(table, EcsPlan)))
    for part in (
        "task_definition: 'no good' is none",
        "launch.ecs.cpu: '1 vCPU' must be a number in quotes",
        "launch.ecs.services.third is missing",
        "launch.ecs.services.other: the use case has no service other",
        "services renderer and backend cannot both have port 5001",
        "backend.container: 'a' is that of service renderer too",
        "other.container: 'a b' is no name of a container",
        "users must not choose the program",
        "VSMGATE_ variables are set by the gateway",
        "names {parameters.nope}",
    ):
        assert part in said


@pytest.mark.parametrize("name", ["demo", "brayns", "viser", "trame"])
def test_the_use_cases_that_come_with_it(name: str) -> None:
    usecase = read_usecase(conf_folder() / "usecases" / f"{name}.toml")
    plan = read(EcsPlan, usecase.launch["ecs"], source=name)
    assert check_plan(usecase, plan) == []
    assert plan.task_definition == f"vsmgate-{name}"


def test_what_is_wrong_with_settings(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("hello")
    settings = EcsSettings(
        region="Ireland",
        subnets=("10.0.0.0/8",),
        cluster="arn:aws:ecs:eu-west-1:123456789012:cluster/vis",
        security_groups=("default",),
        launch_type="EC2",
        public_ip=True,
        capacity_providers=(CapacityProvider("FARGATE"),),
        tags={"aws:x": "y"},
        log_group="/vsmgate",
        endpoint="https://user:hunter2@example.org",
        logs_endpoint="ftp://example.org",
        ca_file="ca.pem",
        profile="no-such-profile",
    )
    problems = settings_problems(settings, "launchers.x", tmp_path)
    assert {problem.pointer.removeprefix("launchers.x.") for problem in problems} == {
        "region", "subnets", "cluster", "security_groups", "launch_type", "public_ip", "tags",
        "log_group", "endpoint", "logs_endpoint", "ca_file", "profile",
    }  # fmt: skip
    assert "hunter2" not in str(problems)
    assert settings_problems(SETTINGS, "launchers.x", tmp_path) == []
    without = EcsSettings(region="eu-west-1", subnets=())
    (problem,) = settings_problems(without, "launchers.x", tmp_path)
    assert "awsvpc" in problem.detail


def blocks(kind: str) -> list[str]:
    page = (conf_folder().parent / "docs" / "engines" / "ecs.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_what_is_documented_can_be_used(tmp_path: Path) -> None:
    configuration, usecase_text = blocks("toml")
    other = re.sub(r"^launch_type.*$", "", configuration, flags=re.MULTILINE)
    for text in (configuration, re.sub(r"^#(?=\w)", "", other, flags=re.MULTILINE)):
        table = tomllib.loads(text)["launchers"]["cloud"]
        del table["kind"], table["targets"]  # which are the configuration's own
        settings = read(EcsSettings, table, source="ecs.md")
        assert settings_problems(settings, "launchers.cloud", tmp_path) == []
    written = tomllib.loads(usecase_text)
    properties = {name: {"type": "string", "default": "1"} for name in ("mib", "project")}
    parameters = {"properties": {**properties, "plugins": {"type": "array"}}}
    usecase = convert({"name": "x", **written, "parameters": parameters}, Usecase)
    assert check_plan(usecase, read(EcsPlan, usecase.launch["ecs"], source="ecs.md")) == []
    (policy,) = map(json.loads, blocks("json"))
    actions = {
        action
        for statement in policy["Statement"]
        for action in [statement["Action"]]
        for action in (action if isinstance(action, list) else [action])
    }
    client = (conf_folder().parent / "vsmgate" / "launchers" / "ecs_client.py").read_text()
    for action in actions - {"ecs:TagResource", "iam:PassRole"}:
        assert f'"{action.partition(":")[2]}"' in client, f"{action} is not needed"


def test_the_demos_task_definition_has_its_containers_and_ports() -> None:
    usecase = read_usecase(conf_folder() / "usecases" / "demo.toml")
    plan = read(EcsPlan, usecase.launch["ecs"], source="demo")
    definition = json.loads((conf_folder() / "ecs" / "demo.json").read_text())
    assert definition["family"] == plan.task_definition
    assert {
        (container["name"], container["portMappings"][0]["containerPort"])
        for container in definition["containerDefinitions"]
    } == {(place.container, place.port) for place in places_of(usecase, plan, SETTINGS.first_port)}
