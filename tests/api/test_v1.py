"""Use cases and jobs as resources."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.api.conftest import DEMO, Face
from vsmgate.config import MasterConfig, RelayConfig
from vsmgate.lifecycle import State
from vsmgate.model import LogStream, QueuePlace, Service, Timings


def test_usecases(face: Any) -> None:
    items = face.ask("GET", "/v1/usecases").json["items"]
    assert [item["name"] for item in items] == ["demo"]
    usecase = face.ask("GET", "/v1/usecases/demo").json
    assert usecase == items[0]
    assert usecase["default"] is True
    assert usecase["parameters"]["properties"]["frames"] == {"type": "integer"}
    assert usecase["services"]["backend"]["max_clients"] == 2
    assert usecase["limits"]["lifetime"] == 28800.0


def test_unknown_usecase(face: Any) -> None:
    shown = face.ask("GET", "/v1/usecases/SBO1")
    assert (shown.status, shown.json["code"]) == (404, "no_such_usecase")
    started = face.ask("POST", "/v1/jobs", {"usecase": "SBO1"})
    assert (started.status, started.json["code"]) == (422, "no_such_usecase")
    assert "demo" in shown.json["detail"]
    assert "demo" in started.json["detail"]


def test_start(face: Any) -> None:
    answer = face.ask(
        "POST", "/v1/jobs", {"usecase": "demo", "parameters": {"frames": 2}, "name": "n"}
    )
    assert answer.status == 202
    job = answer.json
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["Idempotency-Replayed"] is None
    assert (job["state"], job["parameters"], job["name"]) == ("requested", {"frames": 2}, "n")
    assert face.ask("GET", answer.headers["Location"]).json == job


def test_start_is_idempotent(face: Any) -> None:
    body = {"usecase": "demo"}
    first = face.ask("POST", "/v1/jobs", body, Idempotency_Key="k")
    again = face.ask("POST", "/v1/jobs", body, Idempotency_Key="k")
    assert again.status == 202
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    other = face.ask("POST", "/v1/jobs", {"usecase": "demo", "name": "x"}, Idempotency_Key="k")
    assert (other.status, other.json["code"]) == (422, "idempotency_mismatch")
    assert len(face.desk.jobs) == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "a b"])
def test_impossible_keys(face: Any, key: str) -> None:
    assert face.ask("POST", "/v1/jobs", {"usecase": "demo"}, Idempotency_Key=key).status == 400


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/usecase"),
        ({"usecase": "demo", "usecsae": 1}, "/usecsae"),
        ({"usecase": 1}, "/usecase"),
        ({"usecase": ""}, "/usecase"),
        ({"usecase": "demo", "name": "n" * 201}, "/name"),
        ({"usecase": "demo", "parameters": {"frames": "x"}}, "/frames"),
        ([], ""),
    ],
)
def test_start_says_what_is_wrong(face: Any, body: Any, pointer: str) -> None:
    answer = face.ask("POST", "/v1/jobs", body)
    assert (answer.status, answer.json["code"]) == (422, "bad_parameters")
    assert [problem["pointer"] for problem in answer.json["errors"]] == [pointer]


def test_start_wants_json(face: Any) -> None:
    assert face.ask("POST", "/v1/jobs", b"{", media_type="application/json").status == 400
    for media_type in (None, "text/plain"):
        assert face.ask("POST", "/v1/jobs", {}, media_type=media_type).status == 415


def test_job(face: Any) -> None:
    job = face.job(queue=QueuePlace(2, "Priority", 2_000.0), last_activity_at=1_002.0)
    view = face.ask("GET", f"/v1/jobs/{job.id}").json
    base = f"ws://127.0.0.1:8888/{job.id}"
    assert view == {
        "id": job.id,
        "name": "",
        "usecase": "demo",
        "parameters": {},
        "owner": "ann",
        "right": "owner",
        "launcher": "local",
        "launcher_reason": None,
        "engine_ref": "4711",
        "state": "ready",
        "reason": None,
        "held": False,
        "queue": {
            "position": 2,
            "reason": "Priority",
            "estimated_start": "1970-01-01T00:33:20Z",
        },
        "services": {
            "renderer": {"ready": True, "url": f"{base}/renderer"},
            "backend": {"ready": True, "url": f"{base}/backend"},
        },
        "created_at": "1970-01-01T00:16:40Z",
        "started_at": "1970-01-01T00:16:41Z",
        "ready_at": "1970-01-01T00:16:41.600000Z",
        "end_time": "1970-01-01T08:16:40.900000Z",
        "ended_at": None,
        "last_activity_at": "1970-01-01T00:16:42Z",
        "idle_timeout": None,
        "extendable_until": None,
        "stale_since": None,
        "timings": {"submit": 0.25, "run": 0.75, "services": 0.5, "gateway": 0.1, "total": 1.6},
        "links": {
            "self": f"/v1/jobs/{job.id}",
            "usecase": "/v1/usecases/demo",
            "logs": f"/v1/jobs/{job.id}/logs",
            "events": f"/v1/jobs/{job.id}/events",
            "doctor": f"/v1/jobs/{job.id}/doctor",
            "extend": f"/v1/jobs/{job.id}/extend",
            "tickets": f"/v1/jobs/{job.id}/tickets",
            "presence": f"/v1/jobs/{job.id}/presence",
            "grants": f"/v1/jobs/{job.id}/grants",
        },
    }


def test_a_service_with_pages_tells_where_they_are() -> None:
    face = Face(relay=RelayConfig(public_base="vis.example.org/p/", tls_public=True))
    services = {"web": Service(http=True), "backend": Service()}
    usecase = replace(DEMO, services=services)
    job = face.job(usecase=usecase, state=State.RUNNING, answered=("web",))
    place = f"vis.example.org/p/{job.id}"
    assert face.ask("GET", f"/v1/jobs/{job.id}").json["services"] == {
        "web": {"ready": True, "url": f"wss://{place}/web", "page": f"https://{place}/web/"},
        "backend": {"ready": False, "url": f"wss://{place}/backend"},
    }


def test_a_body_nested_too_deeply() -> None:
    nested = b'{"usecase": "demo", "parameters": {"project": %b}}' % (b"[" * 5000 + b"]" * 5000)
    face = Face(master=MasterConfig(port=0))
    answer = face.ask("POST", "/v1/jobs", nested)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


def test_timings_so_far(face: Any) -> None:
    job = face.job(state=State.RUNNING, timings=Timings(1_001.0, 1_002.0, 1_003.0))
    timings = face.ask("GET", f"/v1/jobs/{job.id}").json["timings"]
    assert timings == {"submit": 1.0, "run": 1.0, "services": None, "gateway": None, "total": None}
    never_refused = face.job(timings=Timings(1_001.0, 1_002.0, None, 1_002.5))
    timings = face.ask("GET", f"/v1/jobs/{never_refused.id}").json["timings"]
    assert (timings["services"], timings["gateway"]) == (0.0, 0.5)


def test_ended_jobs_stay_readable(face: Any) -> None:
    view = face.ask("GET", f"/v1/jobs/{face.ended().id}").json
    assert (view["state"], view["reason"]["code"]) == ("expired", "walltime")
    assert view["services"]["renderer"] == {"ready": False, "url": None}


def test_list(face: Any) -> None:
    jobs = [face.job() for _ in range(3)]
    face.job(owner="bob")
    page = face.ask("GET", "/v1/jobs?limit=2").json
    assert [item["id"] for item in page["items"]] == [job.id for job in jobs[:2]]
    assert page["next_cursor"] == "more"


def test_list_filters(face: Any) -> None:
    query = "state=queued,ready&state=failed&usecase=demo&limit=200&cursor=abc"
    face.ask("GET", f"/v1/jobs?{query}")
    face.ask("GET", "/v1/jobs")
    assert face.desk.asked == [
        ("page", {State.QUEUED, State.READY, State.FAILED}, "demo", 200, "abc"),
        ("page", set(), None, 50, None),
    ]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("state=redy", "/state/0"),
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("limit=x", "/limit"),
        ("limit=1&limit=2", "/limit"),
        ("status=ready", "/status"),
        ("%ff=1", "/\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_list_bad_queries(face: Any, query: str, pointer: str) -> None:
    answer = face.ask("GET", f"/v1/jobs?{query}")
    assert answer.status == 422
    assert [problem["pointer"] for problem in answer.json["errors"]] == [pointer]


def test_wait_answers_on_a_change(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    wire = face.wire()
    head = b"Host: h\r\nAuthorization: Bearer ann-token\r\n\r\n"
    assert not wire.send(b"GET /v1/jobs/%s?wait=60 HTTP/1.1\r\n" % job.id.encode() + head)
    assert face.desk.asked == [("wait", 60.0)]
    face.job(id=job.id)
    face.desk.waiting.pop().callback(None)
    assert b'"state":"ready"' in wire.transport.value()


@pytest.mark.parametrize("wait", ["61", "-1", "nan", "inf", "x", ""])
def test_wait_has_a_bound(face: Any, wait: str) -> None:
    assert face.ask("GET", f"/v1/jobs/{face.job().id}?wait={wait}").status == 422


def test_wait_comes_back_at_once_for_news(face: Any) -> None:
    job = face.job()
    tag = face.ask("GET", f"/v1/jobs/{job.id}").headers["ETag"]
    face.job(id=job.id, revision=8)
    answer = face.ask("GET", f"/v1/jobs/{job.id}?wait=60", If_None_Match=tag)
    assert answer.status == 200
    assert answer.headers["ETag"] != tag
    assert face.ask("GET", f"/v1/jobs/{face.ended().id}?wait=60").status == 200
    assert not face.desk.waiting


def test_a_hang_up_cancels_the_wait(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    wire = face.wire()
    wire.send(
        b"GET /v1/jobs/%s?wait=60 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ann-token\r\n\r\n"
        % job.id.encode()
    )
    wire.hang_up()
    assert face.desk.cancelled == 1


def test_delete(face: Any) -> None:
    job = face.job()
    answer = face.ask("DELETE", f"/v1/jobs/{job.id}")
    assert (answer.status, answer.json["state"]) == (202, "stopping")
    over = face.ask("DELETE", f"/v1/jobs/{face.ended().id}")
    assert (over.status, over.body, over.headers["Content-Length"]) == (204, b"", None)


def test_extend(face: Any) -> None:
    job = face.job(end_time=100.0)
    answer = face.ask("POST", f"/v1/jobs/{job.id}/extend", {"seconds": 20})
    assert (answer.status, answer.json["end_time"]) == (200, "1970-01-01T00:02:00Z")
    waiting = face.job(end_time=None)
    answer = face.ask("POST", f"/v1/jobs/{waiting.id}/extend", {"seconds": 20})
    assert (answer.status, answer.json["code"]) == (409, "not_extendable")


@pytest.mark.parametrize("body", [{}, {"seconds": 0}, {"seconds": -1}, {"seconds": "5"}])
def test_extend_bad_bodies(face: Any, body: Any) -> None:
    answer = face.ask("POST", f"/v1/jobs/{face.job().id}/extend", body)
    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/seconds"


def test_logs(face: Any) -> None:
    job = face.job()
    answer = face.ask("GET", f"/v1/jobs/{job.id}/logs?service=backend&stream=stderr&tail=9")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body.decode("utf-8").endswith("\N{REPLACEMENT CHARACTER} end\n")
    face.ask("GET", f"/v1/jobs/{job.id}/logs")
    assert face.desk.asked == [
        ("logs", "backend", LogStream.STDERR, 9),
        ("logs", "renderer", LogStream.STDOUT, 65536),
    ]


@pytest.mark.parametrize(
    ("query", "status"),
    [("service=gpu", 404), ("stream=x", 422), ("tail=0", 422), ("tail=2000000", 422)],
)
def test_logs_bad_queries(face: Any, query: str, status: int) -> None:
    assert face.ask("GET", f"/v1/jobs/{face.job().id}/logs?{query}").status == status


def test_ticket(face: Any) -> None:
    job = face.job()
    answer = face.ask("POST", f"/v1/jobs/{job.id.upper()}/tickets", {"service": "renderer"})
    assert answer.status == 201
    assert answer.json == {
        "ticket": "s3cret-ticket",
        "expires_at": "1970-01-01T00:17:40Z",
        "url": f"ws://127.0.0.1:8888/{job.id}/renderer?ticket=s3cret-ticket",
    }
    unknown = face.ask("POST", f"/v1/jobs/{job.id}/tickets", {"service": "gpu"})
    assert (unknown.status, unknown.json["code"]) == (404, "no_such_service")


def test_me(face: Any) -> None:
    face.job()
    assert face.ask("GET", "/v1/me").json == {
        "subject": "ann",
        "groups": ["staff"],
        "authenticator": "tokens",
        "expires_at": "2033-05-18T03:33:20Z",
        "usage": {"jobs": 1, "max_jobs": 4},
        "administrator": True,
    }


@pytest.mark.criterion("S-2")
@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/extend"),
        ("GET", "/logs"),
        ("POST", "/tickets"),
    ],
)
def test_foreign_and_unknown_jobs_are_the_same(face: Any, method: str, tail: str) -> None:
    body = {"seconds": 5} if tail == "/extend" else {"service": "renderer"}
    answers = {
        face.ask(method, f"/v1/jobs/{job_id}{tail}", body, X_Request_Id="same").octets
        for job_id in (face.job(owner="bob").id, "a" * 26)
    }
    assert len(answers) == 1
    assert answers.pop().startswith(b"HTTP/1.1 404 ")
