"""The demo through a real gateway, on the stand-in for ECS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rig import Gateway
from tests.e2e.site import demo_on, shipped_site
from tests.e2e.test_demo import draw
from tests.launchers.ecs_site import KEYS, EcsSite

ORDER = ["requested", "queued", "starting", "running", "ready"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcsSite]:
    """A stand-in whose tasks take as long for a start that each state is seen."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    made = EcsSite(tmp_path, "--pace", "2.5", "--capacity", "2")
    try:
        yield made
    finally:
        made.close()


def configuration(site: EcsSite, folder: Path) -> tuple[str, str]:
    """Write a configuration with what the stand-in told, as an operator pastes it.

    Of the two launchers one asks for capacity providers, where tasks wait for room.
    """
    lines = []
    for launcher in ("cloud", "fargate"):
        lines.append(f"[launchers.{launcher}]")
        for key, value in site.told.items():
            if key == "launch_type" and launcher == "cloud":
                lines.append('capacity_providers = [{ name = "machines" }]')
            else:
                lines.append(f"{key} = {json.dumps(value)}")
    usecases = {"demo": demo_on("cloud"), "at-once": demo_on("fargate")}
    return shipped_site(folder, usecases, "\n".join(lines))


def test_the_demo_is_drawn_by_ecs(
    site: EcsSite, tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> None:
    gateway = make_gateway(*configuration(site, tmp_path))
    job_id = str(gateway.ask("POST", "/start", {"usecase": "demo"}).json["job_id"])
    states: list[str] = []

    def ready() -> Any:
        status = gateway.ask("GET", f"/status/{job_id}").json
        states.extend([status["state"]] if status["state"] not in states else [])
        return status if status["ready"] else None

    status = gateway.until(ready, "the job to be ready")
    assert [state for state in ORDER if state in states] == states
    assert set(states) >= {"queued", "starting", "ready"}
    assert status["end_time"].endswith("+00:00")

    # boto3 sees what the gateway started.
    tag = f"vsmgate-{job_id}"
    (task,) = site.tasks(tag)
    tags = {pair["key"]: pair["value"] for pair in task["tags"]}
    assert (tags["vsmgate:job"], tags["vsmgate:usecase"]) == (job_id, "demo")
    assert task["taskDefinitionArn"].rpartition("/")[2] == "vsmgate-demo:1"
    assert task["lastStatus"] == "RUNNING"

    # The services take nobody without the job's secret, which the relay shows.
    (secret,) = {
        pair["value"]
        for override in task["overrides"]["containerOverrides"]
        for pair in override["environment"]
        if pair["name"] == "VSMGATE_SECRET"
    }
    draw(status["job_url"], gateway.token)
    logs = gateway.ask("GET", f"/v1/jobs/{job_id}/logs?service=renderer")
    assert logs.status == 200

    # There is room for one more, and then none: another waits, or is refused.
    gateway.start_demo()
    third = gateway.ask("POST", "/start", {"usecase": "demo"}).json["job_id"]

    def waits() -> Any:
        status = gateway.ask("GET", f"/status/{third}").json
        return status if status["state"] == "queued" else None

    reason = gateway.until(waits, "the third job to wait")["reason"]
    assert (reason["code"], reason["native"]) == ("queued_resources", "PROVISIONING")
    refused = gateway.ask("POST", "/start", {"usecase": "at-once"})
    assert (refused.status, refused.json["code"]) == (503, "no_capacity")
    assert "no room for the task now (RESOURCE:MEMORY)" in refused.json["detail"]

    gateway.stop_job(job_id)
    assert site.tasks(tag) == []
    (ended,) = site.tasks(tag, "STOPPED")
    assert ended["stoppedReason"] == "Stopped by vsmgate."
    gateway.wait_ready(third)
    for hidden in (*KEYS.values(), gateway.token, secret):
        assert hidden not in gateway.log
