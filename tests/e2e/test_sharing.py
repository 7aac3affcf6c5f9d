"""A job that is shared, on a real gateway: with one relay process, and with several."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.e2e.rig import PATIENCE, Gateway
from vsmgate.auth.tokens import Token, add_token, new_token
from vsmgate.model import Secret
from vsmgate.shipped import conf_folder

NOWHERE = "a" * 26


class People:
    """Bob, and Eve of the lab; Ada is the owner."""

    def __init__(self, gateway: Gateway) -> None:
        self.ada = gateway.token
        self.bob, self.eve = new_token(), new_token()
        for token, name, groups in ((self.bob, "bob", ()), (self.eve, "eve", ("lab",))):
            entry = Token(Secret(token).digest(), name, groups)
            add_token(gateway.state_dir / "tokens.toml", entry)
        for token in (self.bob, self.eve):
            gateway.until(
                lambda token=token: gateway.ask("GET", "/v1/me", token=token).status == 200,
                "the new token to be known",
            )


@pytest.fixture(params=[1, 2], ids=["alone", "workers"])
def gateway(
    request: pytest.FixtureRequest, make_gateway: Callable[..., Gateway], tmp_path: Path
) -> Gateway:
    text = (conf_folder() / "vsmgate.toml").read_text()
    config = tmp_path / "shared.toml"
    config.write_text(text.replace("[relay]", f"[relay]\nworkers = {request.param}", 1))
    return make_gateway("--config", str(config))


@contextmanager
def opened(
    gateway: Gateway, job_id: str, token: str, service: str = "renderer"
) -> Iterator[ClientConnection]:
    """Open a relay."""
    url = f"ws://{gateway.relay}/{job_id}/{service}"
    headers = {"Authorization": f"Bearer {token}"}
    with connect(url, additional_headers=headers, open_timeout=PATIENCE) as socket:
        yield socket


def refusal(gateway: Gateway, job_id: str, token: str, service: str = "renderer") -> Any:
    """Return the status and the code of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused, opened(gateway, job_id, token, service):
        pass
    response = refused.value.response
    return response.status_code, json.loads(response.body)["code"]


def asking(method: str, **params: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or None})


def binary(text: str) -> bytes:
    """As web clients of Brayns send everything."""
    return struct.pack("<I", len(text.encode())) + text.encode()


def result(socket: ClientConnection, said: str | bytes) -> Any:
    """Send a request; return its result."""
    socket.send(said)
    answer = socket.recv(PATIENCE)
    if isinstance(answer, bytes):
        size = struct.unpack("<I", answer[:4])[0]
        answer = answer[4 : 4 + size].decode()
    return json.loads(answer)["result"]


def close_code(socket: ClientConnection) -> int:
    """Wait for the end of a relay; return its close code."""
    try:
        while True:
            socket.recv(PATIENCE)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else 1006


def test_a_job_is_shared(gateway: Gateway) -> None:
    people, job_id = People(gateway), gateway.start_demo()
    bob, eve, path = people.bob, people.eve, f"/v1/jobs/{job_id}"
    me = gateway.ask("GET", "/v1/me").json["subject"]

    # A stranger reads the same everywhere as of a job that there is not.
    asked = [
        ("GET", "", None),
        ("GET", "/grants", None),
        ("POST", "/grants", {"subject": "bob", "right": "control"}),
        ("DELETE", "/grants/x", None),
        ("POST", "/invitations", {"right": "control"}),
        ("GET", "/presence", None),
        ("GET", "/logs", None),
        ("POST", "/tickets", {"service": "renderer"}),
        ("DELETE", "", None),
    ]
    for method, inner, body in asked:
        seen = [
            gateway.ask(method, f"/v1/jobs/{job}{inner}", body, token=bob, X_Request_Id="same")
            for job in (job_id, NOWHERE)
        ]
        assert {answer.status for answer in seen} == {404}
        assert seen[0].body == seen[1].body
    assert refusal(gateway, job_id, bob) == (404, "no_such_job")

    # To view: the job, and relays that ask for what its use case declares.
    given = gateway.ask("POST", f"{path}/grants", {"subject": "bob", "right": "view"})
    assert (given.status, given.json["subject"]) == (201, "bob")
    assert gateway.ask("GET", f"/status/{job_id}", token=bob).json["ready"] is True
    shown = gateway.ask("GET", path, token=bob).json
    assert (shown["right"], shown["engine_ref"]) == ("view", None)
    for method, inner, body in asked[1:5] + asked[6:7] + asked[8:]:
        answer = gateway.ask(method, path + inner, body, token=bob)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert gateway.ask("POST", f"/stop/{job_id}", token=bob).status == 403
    listed = gateway.ask("GET", "/v1/jobs?shared=true", token=bob).json["items"]
    assert [(job["id"], job["right"]) for job in listed] == [(job_id, "view")]
    assert gateway.ask("GET", "/v1/jobs", token=bob).json["items"] == []
    assert gateway.ask("GET", "/v1/jobs?shared=true").json["items"] == []

    assert refusal(gateway, job_id, bob, "backend") == (403, "view_unsupported")
    with opened(gateway, job_id, bob) as socket:
        for dressed in (str, binary):
            assert result(socket, dressed(asking("get-version")))["revision"] == "demo"
            frame = result(socket, dressed(asking("render-image", force=True)))
            assert frame["max_accumulation"] >= 1
        socket.send(asking("set-camera-region", image_start=[0, 0], image_end=[1, 1]))
        assert close_code(socket) == 4403
    with opened(gateway, job_id, bob) as socket:
        socket.send(binary(asking("quit")))
        assert close_code(socket) == 4403
    assert gateway.ask("GET", f"/status/{job_id}").json["ready"] is True

    # To control: both ways, for everybody of a group.
    group = gateway.ask("POST", f"{path}/grants", {"group": "lab", "right": "control"})
    with (
        opened(gateway, job_id, eve) as hers,
        opened(gateway, job_id, bob) as his,
        opened(gateway, job_id, people.ada, "backend"),
    ):
        moved = asking("set-camera-region", image_start=[0, 0], image_end=[0.5, 1])
        result(hers, moved)
        assert result(his, asking("get-camera-region"))["image_end"] == [0.5, 1]
        expected = {
            (me, "backend", "owner"),
            ("bob", "renderer", "view"),
            ("eve", "renderer", "control"),
        }
        gateway.until(lambda: presence(gateway, path, bob) == expected, "the three of them")
        ticket = gateway.ask("POST", f"{path}/tickets", {"service": "renderer"}, token=bob)
        began = time.monotonic()
        gone = gateway.ask("DELETE", f"{path}/grants/{given.json['id']}")
        assert gone.status == 204
        assert close_code(his) == 4403
        assert time.monotonic() - began < 10.0
        result(hers, moved)  # hers goes on
        assert gateway.ask("GET", path, token=bob).status == 404
        assert refusal(gateway, job_id, bob) == (404, "no_such_job")
        with pytest.raises(
            InvalidStatus
        ) as refused:  # the ticket gives no more than its holder has
            connect(ticket.json["url"], open_timeout=PATIENCE)
        assert refused.value.response.status_code == 404
        gateway.until(lambda: len(presence(gateway, path, "")) == 2, "Bob to be gone")

        # From control to view: the relay that was opened with control does not stay.
        weaker = {"group": "lab", "right": "view"}
        assert gateway.ask("POST", f"{path}/grants", weaker).json["id"] != group.json["id"]
        assert close_code(hers) == 4403
    gateway.until(lambda: presence(gateway, path, "") == set(), "everybody to be gone")


def presence(gateway: Gateway, path: str, token: str) -> set[tuple[str, ...]]:
    """Return who is there."""
    found = gateway.ask("GET", f"{path}/presence", token=token).json["items"]
    return {(who["subject"], who["service"], who["right"]) for who in found}


def test_an_invitation_is_followed(gateway: Gateway) -> None:
    people, job_id = People(gateway), gateway.start_demo()
    path = f"/v1/jobs/{job_id}"
    made = gateway.ask("POST", f"{path}/invitations", {"right": "control", "expires_in": 60})
    assert (made.status, made.json["uses"]) == (201, 1)
    secret = made.json["invitation"]

    def follow(token: str | None, invitation: str = secret) -> Any:
        body = {"invitation": invitation}
        return gateway.ask("POST", "/v1/invitations/redeem", body, token=token)

    assert follow(None).status == 401
    unknown = follow(people.bob, f"{job_id}.{'x' * 32}")
    assert (unknown.status, unknown.json["code"]) == (404, "no_such_invitation")
    for _ in range(2):  # a second time changes nothing
        answer = follow(people.bob)
        assert (answer.status, answer.json) == (200, {"job_id": job_id, "right": "control"})
    used_up = follow(people.eve)
    assert (used_up.status, used_up.json["code"]) == (404, "no_such_invitation")
    grants = gateway.ask("GET", f"{path}/grants").json["items"]
    assert [(g["subject"], g["right"], g["invitation"]) for g in grants] == [
        ("bob", "control", made.json["id"])
    ]
    shown = gateway.ask("GET", f"{path}/invitations").json["items"]
    assert (shown[0]["redeemed"], "invitation" in shown[0]) == (["bob"], False)
    with opened(gateway, job_id, people.bob, "backend") as socket:
        assert result(socket, asking("version"))
        gateway.ask("DELETE", f"{path}/grants/{grants[0]['id']}")
        assert close_code(socket) == 4403
    assert follow(people.bob).status == 404  # who was sent away does not come back by it

    open_link = gateway.ask("POST", f"{path}/invitations", {"right": "view", "uses": 5}).json
    assert gateway.ask("DELETE", f"{path}/invitations/{open_link['id']}").status == 204
    assert follow(people.eve, open_link["invitation"]).status == 404
    for file in gateway.state_dir.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    assert secret not in gateway.log
