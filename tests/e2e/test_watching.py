"""A job's events and its doctor, against a real gateway."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.e2e.rig import PATIENCE, Gateway
from tests.e2e.site import Site

#: Listens, and takes a connection, and answers with something that is no WebSocket.
RELUCTANT = """\
import http.server, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(101 if pathlib.Path(sys.argv[2]).exists() else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Events:
    """Reads the events of a job in a thread, to their end."""

    def __init__(self, gateway: Gateway, job_id: str, seen: str = "") -> None:
        request = urllib.request.Request(f"{gateway.master}/v1/jobs/{job_id}/events")
        request.add_header("Authorization", f"Bearer {gateway.token}")
        request.add_header("Last-Event-ID", seen)
        self.reply = urllib.request.urlopen(request, timeout=PATIENCE)
        self.told: list[tuple[str, str, Any]] = []
        self.ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self.reply:
            for event in self._events():
                self.told.append(event)
        self.ended = True  # http.client raises IncompleteRead for a body that is cut off

    def _events(self) -> Iterator[tuple[str, str, Any]]:
        fields: dict[str, str] = {}
        for line in self.reply:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                yield fields["event"], fields["id"], json.loads(fields["data"])
                fields = {}

    @property
    def states(self) -> list[str]:
        return [data["state"] for _, _, data in self.told]

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert self.ended


def test_events_from_the_start_to_the_end(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = make_gateway(*Site(tmp_path).options)
    job_id = gateway.ask("POST", "/v1/jobs", {"usecase": "echo"}).json["id"]
    events = Events(gateway, job_id)
    gateway.until(lambda: "ready" in events.states, "the event of the ready job")
    # Stopping the gateway ends the stream as a whole; the next gateway tells what was missed.
    assert gateway.end(signal.SIGTERM) == 0
    events.join()
    gateway.start()
    seen = events.told[-1][1]
    again = Events(gateway, job_id, seen)
    assert gateway.ask("DELETE", f"/v1/jobs/{job_id}").status == 202
    again.join()
    assert seen not in [number for _, number, _ in again.told], "nothing is told twice"
    name, last, data = again.told[-1]
    assert (name, data["state"], data["reason"]["code"]) == ("end", "stopped", "cancelled_by_user")
    assert gateway.ask("GET", f"/v1/jobs/{job_id}/events", Last_Event_ID=last).status == 204
    assert f"job {job_id} is stopped (cancelled_by_user)" in gateway.log
    metrics = gateway.ask("GET", "/metrics").body.decode()
    ended = 'vsmgate_jobs_ended_total{launcher="local",reason="cancelled_by_user",state="stopped"}'
    assert f"{ended} 1.0" in metrics


def test_a_service_that_does_not_answer_is_explained(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    site, switch = Site(tmp_path), tmp_path / "answer"
    program = tmp_path / "reluctant.py"
    program.write_text(RELUCTANT)
    site.usecase("echo", ("{python}", str(program), "{port}", str(switch)))
    gateway = make_gateway(*site.options)
    job_id = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
    path = f"/v1/jobs/{job_id}"

    def chart() -> Any:
        found = gateway.ask("GET", f"{path}/doctor").json
        return found if found["services"]["echo"][-1]["code"] == "not_websocket" else None

    found = gateway.until(chart, "the doctor to see what it answers")
    steps = found["services"]["echo"]
    assert [(step["step"], step["outcome"]) for step in steps] == [
        ("engine", "ok"), ("address", "ok"), ("name", "ok"), ("target", "ok"), ("tcp", "ok"),
        ("websocket", "failed"),
    ]  # fmt: skip
    assert "HTTP/1.0 404 Not Found" in steps[-1]["evidence"]
    assert not found["answers"]
    assert gateway.ask("GET", f"{path}/doctor", token="nobody").status == 401

    def reason() -> Any:
        told = gateway.ask("GET", f"/status/{job_id}").json["reason"]
        return told if told["code"] == "not_answering" else None

    told = gateway.until(reason, "the job to say so by itself")
    assert "HTTP/1.0 404 Not Found" in told["message"]
    assert told["remedy"]
    assert str(tmp_path) not in json.dumps([found, told])
    switch.touch()
    status = gateway.wait_ready(job_id)
    assert status["reason"] is None
    healthy = gateway.ask("GET", f"{path}/doctor").json
    assert (healthy["answers"], healthy["summary"]) == (True, "Every service answers.")
