"""``GET /v1/jobs/{id}/events``: what is sent when, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import ANN, BOB, ORIGIN, Wire, parse
from vsmgate.api.events import MOST
from vsmgate.api.stream import STALLED
from vsmgate.errors import StoreUnavailable
from vsmgate.lifecycle import State
from vsmgate.model import Job, Reason, new_job_id, replace


class Reader:
    """One who reads a job's events."""

    def __init__(self, face: Any, job: Job, token: str = ANN, version: str = "1.1", **more: str):
        self.face = face
        self.wire: Wire = face.wire()
        lines = [f"GET /v1/jobs/{job.id}/events HTTP/{version}", "Host: gateway"]
        lines += [f"Authorization: Bearer {token}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        self.octets = self.wire.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def more(self) -> bytes:
        """Return what came since."""
        told = self.wire.transport.value()[len(self.octets) :]
        self.octets += told
        return told

    @property
    def head(self) -> bytes:
        return self.octets.partition(b"\r\n\r\n")[0]

    @property
    def whole(self) -> bool:
        return self.octets.endswith(b"\r\n0\r\n\r\n")

    @property
    def events(self) -> list[tuple[str, str, Any]]:
        """What has come so far: name, id, data."""
        body = self.octets.partition(b"\r\n\r\n")[2]
        text, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            text, rest = text + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        found = []
        for event in text.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in event.split("\n") if ": " in line)
            if "data" in fields:
                found.append((fields["event"], fields["id"], json.loads(fields["data"])))
        return found


def change(face: Any, job: Job, **changes: Any) -> Job:
    """Change a job, and tell who waits for that."""
    job = face.desk.put(replace(job, revision=job.revision + 1, **changes))
    waiting, face.desk.waiting = face.desk.waiting, []
    for one in waiting:
        one.callback(None)
    return job  # type: ignore[no-any-return]


def test_the_state_now_then_each_change_then_the_end(face: Any) -> None:
    job = face.job(state=State.RUNNING, reason=Reason("starting", "It starts."))
    reader = Reader(face, job, Origin=ORIGIN)
    assert reader.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: text/event-stream" in reader.head
    assert b"\r\nCache-Control: no-store" in reader.head
    assert f"\r\nAccess-Control-Allow-Origin: {ORIGIN}".encode() in reader.head
    ((name, number, data),) = reader.events
    assert (name, number, data["state"]) == ("job", "7", "running")
    assert data == face.ask("GET", f"/v1/jobs/{job.id}").json
    job = change(face, job, state=State.READY, reason=None)
    reader.more()
    assert [event[1] for event in reader.events] == ["7", "8"]
    assert not reader.whole
    change(face, job, state=State.STOPPED, reason=Reason("cancelled_by_user", "It was stopped."))
    reader.more()
    name, number, data = reader.events[-1]
    assert (name, number, data["reason"]["code"]) == ("end", "9", "cancelled_by_user")
    assert reader.whole
    assert parse(reader.octets).status == 200
    assert not reader.wire.closing, "the connection serves the next request"


def test_who_comes_again_is_told_what_was_missed_and_nothing_twice(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    assert [e[1] for e in Reader(face, job, Last_Event_ID="5").events] == ["7"]
    again = Reader(face, job, Last_Event_ID="7")
    assert again.events == []
    job = change(face, job, stale_since=1_000.0)
    again.more()
    assert [e[1] for e in again.events] == ["8-stale"]
    ended = face.ended()
    first = Reader(face, ended, Last_Event_ID="1")
    assert [(e[0], e[1]) for e in first.events] == [("end", "7")]
    assert first.whole
    # A browser's EventSource comes again for ever, but for this.
    assert Reader(face, ended, Last_Event_ID="7").head.startswith(b"HTTP/1.1 204 ")


def test_signs_of_life(face: Any) -> None:
    reader = Reader(face, face.job(state=State.RUNNING))
    assert face.desk.asked[-1] == ("wait", 15.0)
    face.desk.waiting.pop().callback(None)
    assert reader.more() == b"3\r\n:\n\n\r\n"


def test_it_ends_with_the_token(face: Any) -> None:
    face.desk.left = 4.0
    reader = Reader(face, face.job(state=State.RUNNING))
    assert face.desk.asked[-1] == ("wait", 4.0)
    face.desk.left = 0.0
    face.desk.waiting.pop().callback(None)
    assert b"expired" in reader.more()
    assert reader.whole


def test_a_slow_reader_gets_the_latest_state_only(face: Any) -> None:
    job = face.job(state=State.QUEUED)
    reader = Reader(face, job)
    channel: Any = reader.wire.channel
    channel.pauseProducing()
    for state in (State.STARTING, State.RUNNING, State.READY):
        job = change(face, job, state=state)
    first = reader.more()
    assert first.count(b"data: ") == 1, "one was made before it was known to be slow"
    channel.resumeProducing()
    reader.more()
    assert [event[2]["state"] for event in reader.events] == ["queued", "starting", "ready"]
    channel.pauseProducing()
    change(face, job, state=State.STOPPING)
    assert reader.more()
    aborted = reader.wire.transport
    face.clock.advance(STALLED)
    assert aborted.disconnected
    reader.wire.hang_up()


def test_a_hang_up_ends_it(face: Any) -> None:
    reader = Reader(face, face.job(state=State.RUNNING))
    reader.wire.hang_up()
    assert face.desk.cancelled == 1


def test_so_many_of_one_user(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    readers = [Reader(face, job) for _ in range(MOST)]
    refused = face.ask("GET", f"/v1/jobs/{job.id}/events")
    assert (refused.status, refused.json["code"]) == (429, "quota_exceeded")
    assert refused.headers["Retry-After"]
    other = face.desk.put(replace(job, id=new_job_id(), owner="bob"))
    assert Reader(face, other, token=BOB).events
    readers[0].wire.hang_up()
    assert Reader(face, job).events


def test_refusals(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    assert face.ask("GET", f"/v1/jobs/{job.id}/events", token=BOB).status == 404
    assert face.ask("GET", f"/v1/jobs/{job.id}/events", token=None).status == 401


def test_a_head_has_no_body_and_http_1_0_no_chunks(face: Any) -> None:
    job = face.job(state=State.RUNNING)
    answer = face.ask("HEAD", f"/v1/jobs/{job.id}/events")
    assert (answer.status, answer.body) == (200, b"")
    assert not face.desk.waiting
    old = Reader(face, face.ended(), version="1.0")
    assert b"chunked" not in old.head
    assert b"\r\nConnection: close" in old.head
    assert old.octets.partition(b"\r\n\r\n")[2].startswith(b"retry: 2000\n\nevent: end\n")
    assert old.wire.closing


@pytest.mark.parametrize("fault", [StoreUnavailable("The disk is full."), ZeroDivisionError()])
def test_a_fault_in_the_middle_ends_it(face: Any, flush_logged: Any, fault: Exception) -> None:
    reader = Reader(face, face.job(state=State.RUNNING))
    face.desk.fail = fault
    face.desk.waiting.pop().callback(None)
    reader.more()
    assert reader.whole
    assert len(flush_logged(ZeroDivisionError)) == isinstance(fault, ZeroDivisionError)


def test_stopping_ends_it_at_once(face: Any) -> None:
    reader = Reader(face, face.job(state=State.RUNNING))
    stopped = face.service.stopService()
    reader.more()
    assert reader.whole
    assert reader.wire.closing
    reader.wire.hang_up()
    face.clock.pump([0.05] * 3)
    assert stopped.called
