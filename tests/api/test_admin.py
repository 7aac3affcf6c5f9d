"""What administrators see and do, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.jobs.rig import BOB, House, make_ready
from vsmgate.errors import EngineUnreachable
from vsmgate.permissions import AccessConfig


def test_everybody_else_is_refused_everywhere(face: Any) -> None:
    job = face.job()
    routes = [r for r in face.service.site.routes.all if r.path.startswith("/v1/admin/")]
    assert len(routes) >= 4
    for route in routes:
        path = route.path.replace("{job_id}", job.id)
        assert face.ask(route.method, path, token=None).status == 401
        refused = face.ask(route.method, path, {}, token="bob-token")
        assert (refused.status, refused.json["code"]) == (403, "forbidden")
        again = face.ask(route.method, path.replace(job.id, "a" * 26), {}, token="bob-token")
        assert again.status == 403, "also for a job that is not there"
    assert face.desk.jobs == {job.id: job}
    assert face.desk.asked == []


def test_filters_are_passed_on(face: Any) -> None:
    query = "owner=bob&state=ready,queued&usecase=demo&launcher=local&limit=7&cursor=c"
    assert face.ask("GET", f"/v1/admin/jobs?{query}").status == 200
    assert face.desk.asked == [("all", "bob", {"ready", "queued"}, "demo", "local", 7, "c")]
    assert face.ask("GET", "/v1/admin/jobs?launchr=x").status == 422


@pytest.fixture
def house() -> Iterator[House]:
    """Return a house whose administrator is Alice."""
    house = House(access=AccessConfig(administrators=("alice",)))
    yield house
    house.end()


def test_an_administrator_ends_anybodys_job(real: Any, house: House) -> None:
    job = make_ready(house, house.start(BOB))
    assert real.ask("GET", f"/v1/jobs/{job.id}").status == 404, "as a user she sees her own only"
    assert real.ask("GET", "/v1/me").json["administrator"] is True
    assert real.ask("GET", "/v1/me", token="bob").json["administrator"] is False
    (listed,) = real.ask("GET", "/v1/admin/jobs?owner=bob&launcher=engine").json["items"]
    assert (listed["id"], listed["owner"]) == (job.id, "bob")
    assert real.ask("GET", "/v1/admin/jobs?owner=alice").json["items"] == []
    assert real.ask("GET", f"/v1/admin/jobs/{job.id}").json["state"] == "ready"
    assert real.ask("GET", f"/v1/admin/jobs/{'a' * 26}").status == 404

    assert real.ask("DELETE", f"/v1/admin/jobs/{job.id}").json["state"] == "stopping"
    house.pass_time(10)
    ended = real.ask("GET", f"/status/{job.id}", token="bob")
    assert (ended.status, ended.json["reason"]["code"]) == (410, "cancelled_by_administrator")
    assert real.ask("DELETE", f"/v1/admin/jobs/{job.id}").status == 204


def test_pages_of_all_jobs_follow_each_other(real: Any, house: House) -> None:
    jobs = {house.start(BOB).id for _ in range(3)}
    seen, cursor = set(), ""
    for _ in range(3):
        page = real.ask("GET", f"/v1/admin/jobs?limit=1{cursor}").json
        seen.add(page["items"][0]["id"])
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == jobs


def test_engines_are_shown_as_they_are(real: Any, house: House) -> None:
    make_ready(house, house.start(BOB))
    house.start(BOB)
    engine, _ = real.ask("GET", "/v1/admin/engines").json["items"]
    assert (engine["name"], engine["state"], engine["failures"]) == ("engine", "ok", 0)
    assert sum(engine["jobs"].values()) == 2
    assert engine["jobs"]["ready"] == 1
    house.launcher.fault = EngineUnreachable("It is away.")
    house.pass_time(30)
    engine, _ = real.ask("GET", "/v1/admin/engines").json["items"]
    assert (engine["state"], engine["trouble"]) == ("unreachable", "It is away.")
    assert engine["failures"] > 1
    assert engine["stale_since"] is not None
    assert engine["next_try"] is not None
