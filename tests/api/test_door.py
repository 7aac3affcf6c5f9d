"""Who comes in at the REST face: limits of bad tokens, and the audit log."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.jobs.rig import Recorded
from vsmgate.api.service import ApiService
from vsmgate.config import MasterConfig
from vsmgate.door import Door
from vsmgate.strikes import Strikes

FRONT = "192.168.1.1"  # where StringTransport says it is connected to


@pytest.fixture
def audit() -> Recorded:
    return Recorded()


@pytest.fixture
def guarded(make_face: Any, audit: Recorded) -> Any:
    """Return a face with a door, behind a front."""
    face = make_face(master=MasterConfig(port=0, trusted_proxies=(FRONT,)))
    door = Door(Strikes(5, face.clock.seconds), audit)
    face.service = ApiService(
        face.clock, face.master, face.relay, face.desk, face.metrics, door=door
    )
    return face


def ask(face: Any, token: str, client: str = "203.0.113.7", path: str = "/v1/me") -> Any:
    return face.ask("GET", path, token=token, X_Forwarded_For=client)


@pytest.mark.criterion("S-18")
def test_an_address_with_many_bad_tokens_has_to_wait(guarded: Any, audit: Recorded) -> None:
    assert ask(guarded, "ann-token").status == 200
    for _ in range(5):
        assert ask(guarded, "bad").status == 401
    refused = ask(guarded, "bad")
    assert (refused.status, refused.json["code"]) == (429, "too_many_failures")
    assert refused.headers["Retry-After"] == "12"
    assert ask(guarded, "bad", path="/metrics").status == 429
    assert ask(guarded, "bob-token").status == 429, "it was not known to be good"
    assert ask(guarded, "ann-token").status == 200, "this one was"
    assert ask(guarded, "bad", "203.0.113.8").status == 401
    assert guarded.ask("GET", "/healthz", token=None, X_Forwarded_For="203.0.113.7").status == 200
    guarded.clock.advance(12)
    assert ask(guarded, "bob-token").status == 200
    assert {"outcome": "unauthenticated", "peer": "203.0.113.7", "face": "rest"} in audit(
        "authenticate"
    )
    assert {"outcome": "too_many_failures", "peer": "203.0.113.7", "face": "rest"} in audit(
        "authenticate"
    )


def test_a_missing_token_is_no_failure(guarded: Any) -> None:
    for _ in range(20):
        assert guarded.ask("GET", "/v1/me", token=None).status == 401


@pytest.mark.criterion("S-21")
def test_who_is_no_front_cannot_choose_an_address(make_face: Any) -> None:
    face = make_face(master=MasterConfig(port=0, trusted_proxies=("10.0.0.0/8",)))
    face.service = ApiService(
        face.clock,
        face.master,
        face.relay,
        face.desk,
        face.metrics,
        door=Door(Strikes(2, face.clock.seconds)),
    )
    statuses = [ask(face, "bad", f"203.0.113.{number}").status for number in range(4)]
    assert statuses == [401, 401, 429, 429]


@pytest.mark.criterion("S-31")
def test_what_changes_something_is_recorded(guarded: Any, audit: Recorded) -> None:
    job = guarded.job(end_time=5000.0)
    guarded.ask("POST", "/start", {"usecase": "demo"}, X_Request_Id="r1")
    for face in ("/start", "/v1/jobs"):
        guarded.ask("POST", face, {"usecase": "nothing"})
    guarded.ask("POST", "/v1/jobs", b"{")
    guarded.ask("GET", f"/status/{job.id}")
    guarded.ask("POST", f"/v1/jobs/{job.id}/extend", {"seconds": 60})
    guarded.ask("POST", f"/v1/jobs/{job.id}/tickets", {"service": "renderer"})
    guarded.ask("POST", f"/stop/{job.id}", token="bob-token", X_Forwarded_For="203.0.113.9")
    guarded.ask("DELETE", f"/v1/jobs/{job.id}")

    started, *unknown, broken = audit("start")
    new = next(found for found in guarded.desk.jobs if found != job.id)
    assert started == {
        **{"outcome": "ok", "subject": "ann", "authenticator": "tokens", "job": new},
        **{"peer": FRONT, "request_id": "r1", "usecase": "demo"},
    }
    assert [(u["outcome"], u["usecase"]) for u in unknown] == [("no_such_usecase", "nothing")] * 2
    assert broken["outcome"] == "bad_request"
    (extended,) = audit("extend")
    assert (extended["job"], extended["seconds"]) == (job.id, 60.0)
    (ticket,) = audit("ticket")
    assert ticket["service"] == "renderer"
    assert "s3cret-ticket" not in str(audit.entries)
    foreign, stopped = audit("stop")
    assert (foreign["outcome"], foreign["subject"], foreign["peer"]) == (
        "no_such_job", "bob", "203.0.113.9",
    )  # fmt: skip
    assert (stopped["outcome"], stopped["job"]) == ("ok", job.id)
    assert "token" not in str([what for _, what in audit.entries]).replace("tokens", "")


def test_every_route_that_changes_something_has_an_action(face: Any) -> None:
    for route in face.service.site.routes.all:
        assert route.action or route.method == "GET", f"{route.method} {route.path}"
        assert route.administrator is route.path.startswith("/v1/admin/")


@pytest.mark.criterion("S-31")
def test_sharing_is_recorded_with_whom_and_without_the_link(guarded: Any, audit: Recorded) -> None:
    job = guarded.job()
    for who in ({"subject": "group:lab"}, {"group": "lab"}):
        answer = guarded.ask("POST", f"/v1/jobs/{job.id}/grants", {"right": "control", **who})
        assert answer.status == 201
    to_one, to_all = audit("grant")
    assert (to_one["to"], "to_group" in to_one) == ("group:lab", False), (
        "nobody takes it for theirs"
    )
    assert (to_all["to_group"], "to" in to_all) == ("lab", False)
    made = guarded.ask("POST", f"/v1/jobs/{job.id}/invitations", {"right": "control"})
    secret = made.json["invitation"]
    (invited,) = audit("invite")
    assert (to_one["grant"], invited["invitation"]) == ("g0", "i0")
    guarded.ask("DELETE", f"/v1/jobs/{job.id}/invitations/i1")
    assert audit("withdraw_invitation")[0]["invitation"] == "i1"
    for shown in (secret, f"{job.id}.guess"):
        body = {"invitation": shown}
        guarded.ask("POST", "/v1/invitations/redeem", body, token="bob-token")
    followed, guessed = audit("redeem")
    assert (followed["outcome"], followed["job"], followed["subject"]) == ("ok", job.id, "bob")
    assert guessed["outcome"] == "no_such_invitation"
    assert secret.partition(".")[2] not in str(audit.entries)


@pytest.mark.criterion("S-31")
def test_no_way_of_writing_an_id_hides_a_job(guarded: Any, audit: Recorded) -> None:
    job = guarded.job()
    guarded.ask("DELETE", f"/v1/jobs/{job.id.upper()}")
    (stopped,) = audit("stop")
    assert (stopped["outcome"], stopped["job"]) == ("ok", job.id)
    other = guarded.job(id="k" * 26)
    assert guarded.ask("DELETE", f"/v1/jobs/%E2%84%AA{'k' * 25}").status == 404, "a Kelvin sign"
    assert guarded.desk.jobs[other.id] is other


@pytest.mark.criterion("S-31")
def test_who_hangs_up_is_recorded_as_such(guarded: Any, audit: Recorded) -> None:
    class Slow:
        async def start(self, *_: Any, **__: Any) -> Any:
            await Deferred()

    guarded.desk.start = Slow().start
    wire = guarded.wire()
    wire.send(
        b"POST /start HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ann-token\r\n"
        b"Content-Length: 18\r\n\r\n" + b'{"usecase":"demo"}'
    )
    wire.hang_up()
    (start,) = audit("start")
    assert (start["outcome"], start["subject"], start["usecase"]) == ("cancelled", "ann", "demo")
