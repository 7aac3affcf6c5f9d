"""Quotas, limits of time, and the crash of a gateway in the middle of things."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.e2e.rig import Gateway
from tests.e2e.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_queued_jobs_start_one_after_another(
    make_gateway: Callable[..., Gateway], site: Site
) -> None:
    site.write('max_per_user = 1\nover_quota = "queue"\nmax_queued_per_user = 2')
    site.usecase("echo", limits="lifetime = 3.0\nmax_lifetime = 4.0")
    gateway = make_gateway(*site.options)
    first, second, third = (
        gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"] for _ in range(3)
    )
    refused = gateway.ask("POST", "/start", {"usecase": "echo"})
    assert (refused.status, refused.json["code"]) == (429, "quota_exceeded")
    assert refused.headers["Retry-After"]
    held = gateway.ask("GET", f"/status/{second}").json
    assert (held["state"], held["reason"]["code"]) == ("requested", "over_quota")
    assert gateway.ask("GET", "/v1/me").json["usage"] == {"jobs": 1, "max_jobs": 1}
    assert gateway.ask("POST", f"/stop/{third}").json["state"] == "stopped"

    gateway.wait_ready(first)
    path = f"/v1/jobs/{first}"
    assert gateway.ask("POST", f"{path}/extend", {"seconds": 1}).status == 200
    refused = gateway.ask("POST", f"{path}/extend", {"seconds": 60})
    assert (refused.status, refused.json["code"]) == (409, "not_extendable")
    logs = gateway.ask("GET", f"{path}/logs")
    assert logs.body == b"hello\n"
    gateway.end(signal.SIGKILL)  # the held job must outlive this
    gateway.start()
    gateway.wait_ready(second)
    ended = gateway.ask("GET", path).json
    assert (ended["state"], ended["reason"]["code"]) == ("expired", "walltime")
    assert gateway.ask("GET", f"{path}/logs").body == logs.body
    assert gateway.ask("POST", f"{path}/extend", {"seconds": 1}).status == 410
    assert gateway.ask("POST", f"{path}/tickets", {"service": "echo"}).status == 410


def test_one_key_one_job_and_a_wait_that_ends_with_the_change(
    make_gateway: Callable[..., Gateway], site: Site
) -> None:
    gateway = make_gateway(*site.options)
    body = {"usecase": "echo"}
    jobs = [gateway.ask("POST", "/v1/jobs", body, Idempotency_Key="once") for _ in range(3)]
    assert [job.status for job in jobs] == [202] * 3
    assert len({job.json["id"] for job in jobs}) == 1
    assert [job.headers["Idempotency-Replayed"] for job in jobs] == [None, "true", "true"]
    other = {"usecase": "echo", "name": "another"}
    mismatch = gateway.ask("POST", "/v1/jobs", other, Idempotency_Key="once")
    assert (mismatch.status, mismatch.json["code"]) == (422, "idempotency_mismatch")

    job_id = jobs[0].json["id"]
    gateway.wait_ready(job_id)
    tag = gateway.ask("GET", f"/v1/jobs/{job_id}").headers["ETag"]
    threading.Timer(0.5, gateway.ask, ("POST", f"/stop/{job_id}")).start()
    began = time.monotonic()
    told = gateway.ask("GET", f"/v1/jobs/{job_id}?wait=20", If_None_Match=tag)
    assert told.json["state"] in ("stopping", "stopped")
    assert 0.3 < time.monotonic() - began < 10


def test_a_gateway_that_is_killed_again_and_again_loses_no_job_and_doubles_none(
    make_gateway: Callable[..., Gateway], site: Site
) -> None:
    site.write("max_per_user = 100\nmax_total = 100")
    gateway = make_gateway(*site.options)
    chance = random.Random(7)
    accepted: set[str] = set()
    stopped: set[str] = set()

    def start() -> None:
        with suppress(OSError, ValueError):  # it is killed meanwhile: nothing was promised
            accepted.add(gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"])

    for _ in range(3):
        starts = [threading.Thread(target=start) for _ in range(4)]
        for thread in starts:
            thread.start()
        time.sleep(0.01 + chance.random() * 0.1)
        for job_id in sorted(accepted - stopped)[:1]:
            with suppress(OSError, ValueError):
                if gateway.ask("POST", f"/stop/{job_id}").status == 200:
                    stopped.add(job_id)
        gateway.end(signal.SIGKILL)
        for thread in starts:
            thread.join()
        gateway.start()

    def states() -> dict[str, str]:
        items = gateway.ask("GET", "/v1/jobs?limit=200").json["items"]
        return {item["id"]: item["state"] for item in items}

    gateway.until(lambda: set(states().values()) <= {"ready", "stopped"}, "everything to settle")
    known = states()
    assert accepted <= known.keys()
    assert {known[job_id] for job_id in stopped} <= {"stopped"}
    ready = {job_id for job_id, state in known.items() if state == "ready"}
    running = Counter(tag.removeprefix("vsmgate-") for tag in gateway.job_processes().values())
    assert running == dict.fromkeys(ready, 2)  # a supervisor and a service each


def test_signals(make_gateway: Callable[..., Gateway], site: Site) -> None:
    gateway = make_gateway(*site.options)
    job_id = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
    gateway.wait_ready(job_id)
    assert gateway.end(signal.SIGINT) == 0
    gateway.start()
    assert gateway.wait_ready(job_id)
    url = f"ws://{gateway.relay}/{job_id}/echo?token={gateway.token}"
    with connect(url) as socket:  # it holds the drain up, so the first SIGTERM waits
        os.kill(gateway.pid, signal.SIGTERM)
        gateway.until(lambda: "draining" in gateway.log.rpartition("starting up")[2], "the drain")
        socket.send("still here")
        assert socket.recv() == "still here"
        began = time.monotonic()
        assert gateway.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 15
    assert len(gateway.job_processes(job_id)) == 2
