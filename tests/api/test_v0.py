"""The seed's contract, to the octet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vsmgate.config import RelayConfig
from vsmgate.errors import EngineUnreachable, Forbidden, QuotaExceeded
from vsmgate.lifecycle import State
from vsmgate.model import QueuePlace, Reason
from vsmgate.reasons import REASONS


def test_start(face: Any) -> None:
    answer = face.ask("POST", "/start", {"usecase": "demo", "unknown": 1, "name": "mine"})
    assert (answer.status, answer.phrase) == (201, "Created")
    assert answer.headers["Content-Type"] == "application/json"
    job = face.desk.jobs[answer.json["job_id"]]
    assert answer.json == {
        "job_id": job.id,
        "state": "requested",
        "usecase": "demo",
        "name": "mine",
    }
    assert job.owner == "ann"


@pytest.mark.parametrize(
    ("body", "parameters"),
    [
        ({"project": "p1"}, {"project": "p1"}),
        ({"usecase": "demo", "project": "p1"}, {"project": "p1"}),
        ({"usecase": "demo", "parameters": {"frames": 3}}, {"frames": 3}),
        (
            {"usecase": "demo", "project": "a", "parameters": {"project": "b"}},
            {"project": "b"},
        ),
        ({"usecase": "demo", "parameters": None, "name": None}, {}),
    ],
)
def test_start_parameters(face: Any, body: Any, parameters: Any) -> None:
    answer = face.ask("POST", "/start", body)
    assert answer.status == 201
    assert face.desk.jobs[answer.json["job_id"]].parameters == parameters


@pytest.mark.parametrize("media_type", [None, "text/plain;charset=UTF-8", "Application/JSON"])
def test_start_tolerates_media_types(face: Any, media_type: str | None) -> None:
    assert face.ask("POST", "/start", {"usecase": "demo"}, media_type=media_type).status == 201


def test_start_refuses_a_form(face: Any) -> None:
    form = "application/x-www-form-urlencoded"
    answer = face.ask("POST", "/start", {"usecase": "demo"}, media_type=form)
    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_request"),
        (b"{", "bad_request"),
        (b"\xff", "bad_request"),
        (b'{"name": "\xff"}', "bad_request"),
        (b'{"parameters": {"a": ' + b"[" * 900, "bad_request"),
        (b"[]", "bad_parameters"),
        (b'"demo"', "bad_parameters"),
        ({"usecase": 5}, "bad_parameters"),
        ({"usecase": "demo", "parameters": []}, "bad_parameters"),
        ({"usecase": "demo", "parameters": {"frames": "x"}}, "bad_parameters"),
        ({"usecase": "demo", "name": "n" * 201}, "bad_parameters"),
        ({}, "no_such_usecase"),
        ({"usecase": ""}, "no_such_usecase"),
        ({"usecase": "SBO1"}, "no_such_usecase"),
    ],
)
def test_start_bad_bodies(face: Any, body: Any, code: str) -> None:
    answer = face.ask("POST", "/start", body)
    assert (answer.status, answer.json["code"]) == (400, code)
    assert not face.desk.jobs


def test_start_lists_the_known_use_cases(face: Any) -> None:
    for body in ({}, {"usecase": "SBO1"}):
        answer = face.ask("POST", "/start", body)
        assert "demo" in answer.json["detail"]
        assert "demo" in answer.phrase


def test_start_says_where_a_parameter_is_wrong(face: Any) -> None:
    wrong = face.ask("POST", "/start", {"usecase": "demo", "parameters": {"frames": "x"}})
    assert [problem["pointer"] for problem in wrong.json["errors"]] == ["/frames"]
    shape = face.ask("POST", "/start", {"usecase": 5})
    assert [problem["pointer"] for problem in shape.json["errors"]] == ["/usecase"]


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Forbidden("Ask your group."), 403, None),
        (QuotaExceeded("You have 4 of 4 jobs."), 429, "5"),
        (QuotaExceeded("You have 4 of 4 jobs.", retry_after=30), 429, "30"),
        (EngineUnreachable("local is away."), 503, "5"),
    ],
)
def test_start_refused(face: Any, error: Exception, status: int, retry: str | None) -> None:
    face.desk.fail = error
    answer = face.ask("POST", "/start", {"usecase": "demo"})
    assert answer.status == status
    assert answer.headers["Retry-After"] == retry
    assert answer.phrase == str(error)


def test_start_with_a_key_starts_once(face: Any) -> None:
    bodies = [
        face.ask("POST", "/start", {"usecase": "demo"}, Idempotency_Key="k1") for _ in range(2)
    ]
    assert [answer.status for answer in bodies] == [201, 201]
    assert bodies[0].json == bodies[1].json
    assert len(face.desk.jobs) == 1


def test_status_ready(face: Any) -> None:
    job = face.job()
    answer = face.ask("GET", f"/status/{job.id}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    url = f"ws://127.0.0.1:8888/{job.id}"
    assert answer.json == {
        "job_running": True,
        "end_time": "1970-01-01T08:16:40+00:00",
        "brayns_started": True,
        "ready": True,
        "state": "ready",
        "reason": None,
        "queue": None,
        "services": {
            "renderer": {"ready": True, "url": f"{url}/renderer"},
            "backend": {"ready": True, "url": f"{url}/backend"},
        },
        "stale_since": None,
        "job_url": f"127.0.0.1:8888/{job.id}/renderer",
    }


@pytest.mark.parametrize("state", ["requested", "queued", "starting", "running", "stopping"])
def test_status_waiting(face: Any, state: str) -> None:
    job = face.job(state=State(state), end_time=None, answered=("backend",))
    status = face.ask("GET", f"/status/{job.id}").json
    assert (status["ready"], status["brayns_started"]) == (False, False)
    assert status["job_running"] is (state == "running")
    assert status["end_time"] is None
    assert status["state"] == state
    assert "job_url" not in status
    assert status["services"]["backend"]["ready"] is (state == "running")


def test_status_says_why_and_what_helps(face: Any) -> None:
    job = face.job(
        state=State.QUEUED,
        reason=Reason("held", "The job is held.", "JobHeldUser"),
        queue=QueuePlace(3, "held", 2_000.0),
    )
    status = face.ask("GET", f"/status/{job.id}").json
    assert status["reason"] == {
        "code": "held",
        "message": "The job is held.",
        "native": "JobHeldUser",
        "remedy": REASONS["held"].remedy,
    }
    assert status["queue"] == {
        "position": 3,
        "reason": "held",
        "estimated_start": "1970-01-01T00:33:20Z",
    }


def test_status_stale(face: Any) -> None:
    job = face.job(state=State.QUEUED, stale_since=61.5, reason=Reason("engine", "It is away."))
    status = face.ask("GET", f"/status/{job.id}").json
    assert status["stale_since"] == "1970-01-01T00:01:01+00:00"
    assert status["reason"] == {"code": "engine", "message": "It is away."}


def test_status_ignores_the_case_of_ids(face: Any) -> None:
    job = face.job()
    assert face.ask("GET", f"/status/{job.id.upper()}").json["ready"] is True


def test_status_of_an_ended_job_is_no_status(face: Any) -> None:
    job = face.ended()
    answer = face.ask("GET", f"/status/{job.id}")
    assert answer.status == 410
    assert answer.phrase == "The job is over (expired): It reached its limit of 8 hours."
    assert answer.json["code"] == "job_ended"
    assert answer.json["state"] == "expired"
    assert answer.json["reason"]["code"] == "walltime"
    assert answer.json["reason"]["remedy"] == REASONS["walltime"].remedy
    # A client that tests no status must not take this for one that waits.
    assert not {"job_running", "end_time", "brayns_started"} & answer.json.keys()


@pytest.mark.parametrize(
    ("relay", "base"),
    [
        (RelayConfig(public_base="vis.example.org/vsm/proxy"), "vis.example.org/vsm/proxy"),
        (RelayConfig(host="0.0.0.0", port=9), "localhost:9"),
        (RelayConfig(host="::1", port=9, base_path="/p/q"), "[::1]:9/p/q"),
    ],
)
def test_job_url(make_face: Any, relay: RelayConfig, base: str) -> None:
    face = make_face(relay=relay)
    job = face.job()
    assert face.ask("GET", f"/status/{job.id}").json["job_url"] == f"{base}/{job.id}/renderer"


def test_job_url_of_a_chosen_port(make_face: Any) -> None:
    face = make_face(relay=RelayConfig(port=0))
    face.service.views.relay_port = 12345
    job = face.job()
    assert face.ask("GET", f"/status/{job.id}").json["job_url"].startswith("127.0.0.1:12345/")


def test_stop(face: Any) -> None:
    job = face.job()
    answer = face.ask("POST", f"/stop/{job.id}")
    assert (answer.status, answer.json) == (200, {"job_id": job.id, "state": "stopping"})
    again = face.ended()
    assert face.ask("POST", f"/stop/{again.id}").json == {"job_id": again.id, "state": "expired"}


@pytest.mark.criterion("S-2")
@pytest.mark.parametrize(("method", "path"), [("GET", "/status/"), ("POST", "/stop/")])
def test_foreign_and_unknown_jobs_are_the_same(face: Any, method: str, path: str) -> None:
    foreign = face.job(owner="bob").id
    answers = [
        face.ask(method, path + job_id, X_Request_Id="same").octets
        for job_id in (foreign, "a" * 26, "no-such", "..", "%00")
    ]
    assert len(set(answers)) == 1
    assert json.loads(answers[0].partition(b"\r\n\r\n")[2])["code"] == "no_such_job"
    assert face.desk.jobs[foreign].state is State.READY


@pytest.mark.criterion("S-1")
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/start"), ("GET", "/status/x"), ("POST", "/stop/x")]
)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_token_is_needed(face: Any, method: str, path: str, token: str | None) -> None:
    answer = face.ask(method, path, {"usecase": "demo"}, token=token)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json["code"] == "unauthenticated"
    assert len(answer.phrase) > 10


@pytest.mark.parametrize("shown", ["Basic YTpi", "Bearer", "Bearer a b", "Bearer \xe9", "token x"])
def test_other_credentials_are_refused(face: Any, shown: str) -> None:
    assert face.ask("GET", "/status/x", token=None, Authorization=shown).status == 401


def test_healthz_needs_none(face: Any) -> None:
    answer = face.ask("GET", "/healthz", token=None)
    assert (answer.status, answer.json) == (200, {"status": "ok"})
