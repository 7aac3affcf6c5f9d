"""How many calls one user may have under way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import ANN, BOB, Wire
from vsmgate.config import MasterConfig
from vsmgate.lifecycle import State
from vsmgate.model import new_job_id, replace

pytestmark = pytest.mark.criterion("S-18")


@pytest.fixture
def face(make_face: Any) -> Any:
    return make_face(master=MasterConfig(port=0, max_calls_per_user=2))


def request(path: str, token: str = ANN) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def waiting(face: Any, path: str) -> Wire:
    """Return the connection of a call that waits."""
    wire: Wire = face.wire()
    wire.send(request(path))
    return wire


def test_one_more_is_told_to_come_later(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    other = face.desk.put(replace(job, id=new_job_id(), owner="bob"))
    waiting(face, f"/v1/jobs/{job.id}?wait=60")
    streams = waiting(face, f"/v1/jobs/{job.id}/events")
    for method, path in (("GET", f"/status/{job.id}"), ("DELETE", f"/v1/jobs/{job.id}")):
        refused = face.ask(method, path)
        assert (refused.status, refused.json["code"]) == (429, "quota_exceeded")
        assert refused.headers["Retry-After"]
    assert face.desk.jobs[job.id] is job
    assert face.ask("GET", f"/status/{other.id}", token=BOB).status == 200, "each has their own"
    assert face.ask("GET", f"/status/{other.id}").status == 429, "and nothing else is told"
    assert face.ask("GET", "/healthz", token=None).status == 200
    streams.hang_up()
    assert face.ask("GET", f"/status/{job.id}").status == 200


def test_each_ends_once(face: Any) -> None:
    """By its answer, by a refusal, or by a hang-up; what follows on the connection counts anew."""
    job = face.job(state=State.RUNNING)
    first = waiting(face, f"/v1/jobs/{job.id}?wait=60")
    face.desk.waiting.pop().callback(None)
    for path in (f"/status/{job.id}", f"/status/{new_job_id()}", "/v1/admin/jobs"):
        first.send(request(path))
    first.hang_up()
    wires = [waiting(face, f"/v1/jobs/{job.id}?wait=60") for _ in range(2)]
    assert face.ask("GET", "/v1/me").status == 429
    for wire in wires:
        wire.hang_up()
    pipelined = face.wire().send(request("/v1/me") * 5)
    assert pipelined.count(b"HTTP/1.1 200 ") == 5
