"""The face over the real job desk: the life of a job as a client sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.jobs.rig import House, make_ready
from vsmgate.errors import EngineUnreachable
from vsmgate.model import Job, Quota


@pytest.fixture
def house() -> Iterator[House]:
    """Return a house whose engine a test scripts."""
    house = House(quota=Quota(per_user=2))
    yield house
    house.end()


def test_a_life(real: Any, house: House) -> None:
    started = real.ask("POST", "/start", {"usecase": "demo"})
    assert started.status == 201
    job_id = started.json["job_id"]
    path = f"/status/{job_id}"
    status = real.ask("GET", path).json
    assert (status["job_running"], status["ready"]) == (False, False)

    job: Job = house.result(house.book.find(job_id))
    make_ready(house, job)
    status = real.ask("GET", path).json
    assert (status["job_running"], status["ready"], status["state"]) == (True, True, "ready")
    assert status["end_time"].endswith("+00:00")
    assert status["job_url"].endswith(f"/{job_id}/renderer")

    polls = [call for call in house.launcher.calls if call[0] == "poll"]
    for _ in range(100):
        assert real.ask("GET", path).status == 200
    assert [call for call in house.launcher.calls if call[0] == "poll"] == polls

    assert real.ask("POST", f"/stop/{job_id}").json["state"] == "stopping"
    house.pass_time(10)
    ended = real.ask("GET", path)
    assert (ended.status, ended.json["reason"]["code"]) == (410, "cancelled_by_user")
    assert real.ask("POST", f"/stop/{job_id}").status == 200
    assert real.ask("DELETE", f"/v1/jobs/{job_id}").status == 204
    assert real.ask("GET", path, token="bob").status == 404


def test_trouble_with_the_engine_is_no_trouble_for_status(real: Any, house: House) -> None:
    job = make_ready(house, house.start())
    house.launcher.fault = EngineUnreachable("It is away from ctl.cluster.internal.")
    house.pass_time(60)
    answer = real.ask("GET", f"/status/{job.id}")
    assert (answer.status, answer.json["ready"]) == (200, True)
    assert answer.json["stale_since"] is not None
    unready = real.ask("GET", "/readyz", token=None)
    assert (unready.status, unready.json["detail"]) == (503, "The engine engine cannot be reached.")
    assert b"ctl.cluster.internal" not in unready.octets, "anybody may ask this"
    refused = real.ask("POST", "/start", {"usecase": "demo"})
    assert (refused.status, refused.json["code"]) == (503, "engine_unreachable")
    house.launcher.fault = None
    house.pass_time(60)
    assert real.ask("GET", f"/status/{job.id}").json["stale_since"] is None
    assert real.ask("GET", "/readyz").status == 200


def test_a_key_and_a_quota(real: Any, house: House) -> None:
    body = {"usecase": "demo", "parameters": {"size": 4}}
    first = real.ask("POST", "/v1/jobs", body, Idempotency_Key="k")
    again = real.ask("POST", "/v1/jobs", body, Idempotency_Key="k")
    assert (first.status, again.status) == (202, 202)
    assert first.headers["Location"] == again.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert real.ask("POST", "/v1/jobs", body).status == 202
    over = real.ask("POST", "/start", body)
    assert (over.status, over.json["code"]) == (429, "quota_exceeded")
    assert over.headers["Retry-After"]
    page = real.ask("GET", "/v1/jobs?limit=1").json
    rest = real.ask("GET", f"/v1/jobs?limit=1&cursor={page['next_cursor']}").json
    assert page["items"][0]["id"] != rest["items"][0]["id"]
    assert real.ask("GET", "/v1/jobs?cursor=x").json["code"] == "bad_cursor"
    assert real.ask("GET", "/v1/me").json["usage"] == {"jobs": 2, "max_jobs": 2}
