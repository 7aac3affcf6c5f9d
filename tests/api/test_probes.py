"""Is it alive, is it ready, how is it doing."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vsmgate.config import MasterConfig
from vsmgate.errors import NoSuchJob
from vsmgate.lifecycle import State
from vsmgate.model import Reason
from vsmgate.relay.tunnel import Ending


def read(face: Any) -> dict[str, float]:
    """Return the samples of /metrics by their text."""
    text = face.ask("GET", "/metrics").body.decode("utf-8")
    return {
        sample.name + ",".join(sorted(f" {k}={v}" for k, v in sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_ready(face: Any) -> None:
    assert face.ask("GET", "/readyz", token=None).json == {"status": "ready"}


def test_not_ready(face: Any) -> None:
    face.desk.trouble = ["local: it cannot be reached."]
    answer = face.ask("GET", "/readyz", token=None)
    assert (answer.status, answer.json["code"]) == (503, "not_ready")
    assert answer.json["detail"] == "local: it cannot be reached."
    assert answer.headers["Retry-After"] == "5"
    assert face.ask("GET", "/healthz", token=None).status == 200


def test_draining(face: Any) -> None:
    face.service.drain()
    answer = face.ask("GET", "/readyz", token=None)
    assert answer.status == 503
    assert "shutting down" in answer.json["detail"]
    assert face.ask("GET", f"/status/{face.job().id}").status == 200


@pytest.mark.criterion("S-27")
def test_metrics_need_a_token(face: Any, make_face: Any) -> None:
    assert face.ask("GET", "/metrics", token=None).status == 401
    answer = face.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    openly = make_face(master=MasterConfig(open_metrics=True))
    assert openly.ask("GET", "/metrics", token=None).status == 200


def test_request_metrics(face: Any) -> None:
    for _ in range(2):
        face.ask("GET", f"/status/{face.job().id}")
    face.ask("BREW", "/nothing")
    numbers = read(face)
    requests = "vsmgate_http_requests_total"
    assert numbers[f"{requests} method=GET, route=/status/{{job_id}}, status=200"] == 2
    assert numbers[f"{requests} method=other, route=, status=404"] == 1
    assert numbers["vsmgate_http_request_seconds_count route=/status/{job_id}"] == 2
    assert numbers["vsmgate_jobs launcher=local, state=ready, usecase=demo"] == 2


def test_job_metrics(face: Any) -> None:
    ready = face.job()
    face.metrics.job_changed(ready)  # seen ready only: started by another process
    for job in (face.job(state=State.RUNNING), face.job(state=State.QUEUED)):
        face.metrics.job_changed(job)
        done = face.job(id=job.id)
        face.metrics.job_changed(done)
        face.metrics.job_changed(done)
    face.metrics.job_changed(face.job(state=State.FAILED, reason=Reason("out_of_memory", "")))
    face.metrics.job_changed(face.ended())
    numbers = read(face)
    labels = "launcher=local, usecase=demo"
    assert numbers[f"vsmgate_job_start_seconds_count {labels}"] == 2
    assert numbers[f"vsmgate_job_start_seconds_sum {labels}"] == pytest.approx(3.2)
    assert numbers[f"vsmgate_job_queue_seconds_sum {labels}"] == 1.5
    failures = [name for name in numbers if name.startswith("vsmgate_job_failures_total")]
    assert failures == ["vsmgate_job_failures_total reason=out_of_memory"]
    ended = {name: n for name, n in numbers.items() if name.startswith("vsmgate_jobs_ended_total")}
    assert ended == {
        "vsmgate_jobs_ended_total launcher=local, reason=out_of_memory, state=failed": 1,
        "vsmgate_jobs_ended_total launcher=local, reason=walltime, state=expired": 1,
    }


def test_relay_metrics(face: Any) -> None:
    metrics = face.metrics
    initiator = "client"
    for code in (1000, 4410, 3999, None, 1500, 999, 404):
        metrics.opened("renderer", 0.1)
        metrics.closed("renderer", Ending(initiator, code, "", 10, 200, 1, 2))
    metrics.opened("renderer", 0.1)
    metrics.refused(NoSuchJob())
    numbers = read(face)
    assert numbers["vsmgate_relay_connections service=renderer"] == 1
    closed = "vsmgate_relay_closed_total"
    for code, count in {"1000": 1, "4410": 1, "none": 1, "404": 1, "other": 3}.items():
        assert numbers[f"{closed} code={code}, initiator={initiator}, service=renderer"] == count
    assert numbers["vsmgate_relay_bytes_total direction=from_service, service=renderer"] == 1400
    assert numbers["vsmgate_relay_refused_total code=no_such_job"] == 1
