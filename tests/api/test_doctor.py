"""``GET /v1/jobs/{id}/doctor``."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import BOB
from vsmgate.lifecycle import State
from vsmgate.model import new_job_id


def test_the_owner_reads_the_steps(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    answer = face.ask("GET", f"/v1/jobs/{job.id}/doctor")
    assert answer.status == 200
    assert (answer.json["job_id"], answer.json["answers"]) == (job.id, False)
    engine, tcp = answer.json["services"]["renderer"]
    assert (engine["step"], engine["outcome"]) == ("engine", "ok")
    assert tcp == {
        "step": "tcp",
        "outcome": "failed",
        "seconds": 0.1,
        "code": "tcp_refused",
        "evidence": "127.0.0.1:5000 refused the connection",
        "remedy": tcp["remedy"],
    }
    assert tcp["remedy"]


def test_nobody_else_does(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    foreign = face.ask("GET", f"/v1/jobs/{job.id}/doctor", token=BOB, X_Request_Id="a")
    unknown = face.ask("GET", f"/v1/jobs/{new_job_id()}/doctor", token=BOB, X_Request_Id="a")
    assert foreign.status == 404
    assert foreign.octets == unknown.octets
    assert face.ask("GET", f"/v1/jobs/{job.id}/doctor", token=None).status == 401
