"""The stand-in for ECS, used by boto3 alone: it does what AWS's documentation says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.launchers.ecs_site import EcsSite
from tests.launchers.rig import PATIENCE


@pytest.fixture
def site(tmp_path: Path) -> Iterator[EcsSite]:
    made = EcsSite(tmp_path, "--capacity", "1")
    try:
        made.register("test", ["renderer"])
        yield made
    finally:
        made.close()


def run(site: EcsSite, **more: Any) -> Any:
    network = {"subnets": site.told["subnets"], "securityGroups": site.told["security_groups"]}
    return site.ecs.run_task(
        cluster=site.told["cluster"],
        taskDefinition="test",
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": network},
        **more,
    )


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def processes(mark: str) -> list[str]:
    """Return the pids of those that have ``mark`` in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_task_is_a_process_that_ends_with_the_stand_in(site: EcsSite) -> None:
    mark = f"MARK=of-{time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    override = {"name": "renderer", "environment": [{"name": name, "value": value}]}
    overrides = {"containerOverrides": [override]}
    (task,) = run(site, startedBy="me", clientToken="once", overrides=overrides)["tasks"]
    assert task["lastStatus"] == "PROVISIONING"
    (again,) = run(site, startedBy="me", clientToken="once", overrides=overrides)["tasks"]
    assert again["taskArn"] == task["taskArn"]
    with pytest.raises(ClientError) as caught:
        run(site, startedBy="me", clientToken="once")
    assert caught.value.response["Error"]["Code"] == "ConflictException"
    until(lambda: site.tasks("me")[0]["lastStatus"] == "RUNNING")
    until(lambda: len(processes(mark)) == 1)
    refused = run(site)
    assert (refused["tasks"], refused["failures"][0]["reason"]) == ([], "RESOURCE:MEMORY")
    site.close()
    assert processes(mark) == []


def test_tasks_that_it_does_not_know(site: EcsSite) -> None:
    answer = site.ecs.describe_tasks(cluster="vsmgate", tasks=["0" * 32])
    assert (answer["tasks"], answer["failures"][0]["reason"]) == ([], "MISSING")
    with pytest.raises(ClientError) as caught:
        site.ecs.stop_task(cluster="vsmgate", task="0" * 32)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterException"
