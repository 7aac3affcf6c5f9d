"""What strangers, and those with a part of the rights, read of a job: on every route there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogEvent

from tests.jobs.rig import ALICE, House, make_ready
from vsmgate.errors import AuthenticatorUnavailable
from vsmgate.grants import Right
from vsmgate.jobs import changes
from vsmgate.model import Job, Reason, replace

NOWHERE = "a" * 26
#: A body that every route with one takes for a good one.
BODIES: dict[str, object] = {
    "Extension": {"seconds": 60},
    "TicketRequest": {"service": "renderer"},
    "GrantRequest": {"right": "view", "subject": "eve"},
    "InvitationRequest": {"right": "view"},
}


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.end()


@pytest.fixture
def job(house: House) -> Job:
    """Return a job of Alice's."""
    return make_ready(house, house.start())


def about_jobs(face: Any) -> list[Any]:
    """Return the routes that are about one job."""
    return [route for route in face.service.site.routes.all if "{job_id}" in route.path]


def target(route: Any, job_id: str) -> str:
    path = route.path.replace("{job_id}", job_id)
    return str(path.replace("{grant_id}", "x").replace("{invitation_id}", "x"))


def asked(face: Any, route: Any, job_id: str, token: str) -> Any:
    body = None if route.body is None else BODIES[route.body.__name__]
    return face.ask(route.method, target(route, job_id), body, token=token, X_Request_Id="same")


@pytest.mark.criterion("S-2")
@pytest.mark.parametrize("ended", [False, True])
def test_s2_a_stranger_reads_the_same_octets_on_every_route(
    real: Any, house: House, job: Job, ended: bool
) -> None:
    if ended:
        house.launcher.end(job.id)
        house.pass_time(6)
        assert house.get(job).ended
    routes = about_jobs(real)
    for path in ("/doctor", "/events", "/grants", "/presence", "/invitations", "/logs", "/tickets"):
        assert any(route.path.endswith(path) for route in routes), path
    for route in routes:
        foreign = asked(real, route, job.id, "bob")
        unknown = asked(real, route, NOWHERE, "bob")
        assert foreign.octets == unknown.octets, route
        assert foreign.status == (403 if route.administrator else 404)
    for secret in (f"{job.id}.guess", f"{NOWHERE}.guess", "guess"):
        answer = real.ask(
            "POST", "/v1/invitations/redeem", {"invitation": secret},
            token="bob",
            X_Request_Id="same",
        )  # fmt: skip
        assert (answer.status, answer.json["code"]) == (404, "no_such_invitation")
        assert job.id.encode() not in answer.octets


@pytest.mark.parametrize("right", [Right.VIEW, Right.CONTROL])
def test_only_the_owner_reads_what_the_engine_says(
    real: Any, house: House, job: Job, right: Right
) -> None:
    house.result(house.desk.sharing.grant(ALICE, job.id, right, subject="bob"))
    paths = (
        f"/status/{job.id}",
        f"/v1/jobs/{job.id}",
        f"/v1/jobs/{job.id}/events",
        "/v1/jobs?shared=true",
    )
    assert house.get(job).engine_ref is not None
    said = Reason("walltime", "It ends soon.", "slurm job 4711 on node17")

    def seen(token: str, path: str) -> tuple[int, bytes]:
        """Return what is there so far (a stream goes on) once the engine has said something."""
        if not house.get(job).ended:
            house.result(house.book.update(job.id, lambda j: replace(j, reason=said)))
        wire = real.wire()
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        wire.send(head.encode())
        house.pass_time(0.5)
        octets: bytes = wire.transport.value()
        wire.hang_up()
        return int(octets.split()[1]), octets

    told = [seen("alice", path)[1] for path in paths[:3]]
    assert all(b"node17" in octets for octets in told), "its owner does"
    assert b'"right":"owner"' in told[2]
    for path in paths:
        status, octets = seen("bob", path)
        assert status == 200
        assert b"It ends soon." in octets
        assert b"node17" not in octets
        if not path.startswith("/status"):
            assert f'"right":"{right}"'.encode() in octets
            assert b'"engine_ref":null' in octets
    over = Reason("walltime", "It is over.", "slurm job 4711 on node17")
    house.result(
        house.book.update(job.id, lambda j: changes.stopping(j, over, house.clock.seconds()))
    )
    house.pass_time(10)
    status, octets = seen("bob", f"/status/{job.id}")
    assert (status, b"node17" in octets) == (410, False)


def test_who_waits_for_a_job_reads_nothing_more_once_the_right_has_ended(
    real: Any, house: House, job: Job
) -> None:
    given = house.result(house.desk.sharing.grant(ALICE, job.id, Right.VIEW, subject="bob"))
    wire = real.wire()
    wire.send(
        f"GET /v1/jobs/{job.id}?wait=30 HTTP/1.1\r\nHost: x\r\n"
        "Authorization: Bearer bob\r\n\r\n".encode()
    )
    house.pass_time(1)
    assert not wire.transport.value()
    house.result(house.desk.sharing.revoke(ALICE, job.id, given.id))
    house.pass_time(1)
    assert wire.transport.value().startswith(b"HTTP/1.1 404 ")


@pytest.mark.criterion("S-15")
@pytest.mark.parametrize("how", ["subject", "token", "grant"])
def test_s15_a_stream_of_events_ends_with_what_it_was_opened_by(
    real: Any, house: House, job: Job, how: str
) -> None:
    given = house.result(house.desk.sharing.grant(ALICE, job.id, Right.VIEW, subject="bob"))
    wire = real.wire()
    wire.send(
        f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: x\r\n"
        "Authorization: Bearer bob\r\n\r\n".encode()
    )
    house.pass_time(60)
    assert not wire.transport.value().endswith(b"\r\n0\r\n\r\n")
    if how == "subject":
        house.result(house.desk.administration.revoke("bob"))
    elif how == "token":
        house.names.revoked.add("bob")
    else:
        house.result(house.desk.sharing.revoke(ALICE, job.id, given.id))
    house.pass_time(45)
    assert wire.transport.value().endswith(b"\r\n0\r\n\r\n")
    wire.transport.clear()
    secret = Reason("walltime", "Nobody of them may know.")
    house.result(house.book.update(job.id, lambda j: replace(j, reason=secret)))
    house.pass_time(1)
    assert not wire.transport.value()


def test_a_provider_that_is_away_ends_no_stream(real: Any, house: House, job: Job) -> None:
    house.names.fault = AuthenticatorUnavailable("It is away.")
    wire = real.wire()
    wire.send(
        f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: x\r\n"
        "Authorization: Bearer alice\r\n\r\n".encode()
    )
    house.pass_time(120)
    assert not wire.transport.value().endswith(b"\r\n0\r\n\r\n")


@pytest.mark.criterion("S-19")
def test_s19_strangers_do_not_fill_the_log(face: Any, logged: list[LogEvent]) -> None:
    face.clock.advance(1.0)
    for number in range(30):
        face.ask("GET", f"/nowhere/{number}", token=None)
        face.ask("GET", "/v1/me", token="bad")
    assert face.ask("GET", "/v1/me").status == 200
    lines = [event["access"] for event in logged if "access" in event]
    assert len([line for line in lines if not line.subject]) == 10
    assert [line.subject for line in lines if line.subject] == ["ann"], "users have theirs"
    face.clock.advance(1.0)
    face.ask("GET", "/nowhere", token=None)
    (summary,) = [event["count"] for event in logged if "count" in event]
    assert summary == 50
