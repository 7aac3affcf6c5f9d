"""A real gateway, with users of a real OpenID provider."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests import nanoidp
from tests.e2e.rig import PATIENCE, Gateway
from tests.nanoidp import AUDIENCE, CLIENT, NanoIdp
from vsmgate.shipped import conf_folder

CONFIG = """\
[authenticators.tokens]
kind = "static"
generate = true

[authenticators.sso]
kind = "{kind}"
issuer = "{issuer}"
allow_http = true
{audience}
clients = {clients}
subject = "sub"
groups = ["groups"]

[launchers.local]
kind = "local"

[usecases.shipped]
kind = "toml"
folder = "{usecases}"
"""

AUDIENCE_ROW = f'audiences = ["{AUDIENCE}"]'
NOWHERE = "a" * 26


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[NanoIdp]:
    nanoidp.require()
    folder = tmp_path / "nanoidp"
    folder.mkdir()
    with nanoidp.running(folder) as found:
        yield found


@pytest.fixture
def make_sso(
    provider: NanoIdp, make_gateway: Callable[..., Gateway], tmp_path: Path
) -> Callable[..., Gateway]:
    """Return a maker of gateways for the provider's users, of these clients of it."""

    def make(clients: list[str], kind: str = "jwt", audience: str = AUDIENCE_ROW) -> Gateway:
        config = tmp_path / "vsmgate.toml"
        config.write_text(
            CONFIG.format(
                kind=kind,
                issuer=provider.issuer,
                audience=audience,
                clients=clients,
                usecases=conf_folder() / "usecases",
            )
        )
        return make_gateway("--config", str(config))

    return make


@pytest.fixture
def gateway(make_sso: Callable[..., Gateway]) -> Gateway:
    return make_sso([CLIENT])


def handshake(gateway: Gateway, job_id: str, token: str) -> int:
    """Return the status of a WebSocket handshake with the renderer."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"ws://{gateway.relay}/{job_id}/renderer"
    try:
        with connect(url, additional_headers=headers, open_timeout=PATIENCE) as socket:
            socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "get-version"}))
            assert "result" in json.loads(socket.recv(PATIENCE))
    except InvalidStatus as refused:
        return refused.response.status_code
    return 101


@pytest.mark.criterion("S-2")
def test_a_users_token_opens_that_users_jobs_only(gateway: Gateway, provider: NanoIdp) -> None:
    alice, bob = provider.token("alice"), provider.token("bob")
    me: Any = gateway.ask("GET", "/v1/me", token=alice).json
    assert me["subject"] == "alice"
    assert set(me["groups"]) == {"viz", "lab"}

    started = gateway.ask("POST", "/start", {"usecase": "demo"}, token=alice)
    assert started.status == 201, started.body
    job_id = started.json["job_id"]
    try:
        gateway.until(
            lambda: gateway.ask("GET", f"/status/{job_id}", token=alice).json.get("ready"),
            f"{job_id} to be ready",
        )
        assert handshake(gateway, job_id, alice) == 101
        for path in (f"/status/{job_id}", f"/status/{'a' * 26}"):
            assert gateway.ask("GET", path, token=bob).status == 404
        assert handshake(gateway, job_id, bob) == 404

        bad = {
            "another application's": provider.token("alice", client="mail"),
            "an ID token": provider.token("alice", kind="id_token"),
            "a refresh token": provider.token("alice", kind="refresh_token"),
            "changed": alice[:-6] + "AAAAAA",
        }
        for which, token in bad.items():
            answer = gateway.ask("GET", f"/status/{job_id}", token=token)
            assert answer.status == 401, which
            assert "WWW-Authenticate" in answer.headers, which
            assert token not in answer.body.decode(), which
            assert handshake(gateway, job_id, token) == 401, which

        provider.stop()  # its keys are known: nobody notices
        assert handshake(gateway, job_id, alice) == 101
    finally:
        stopped = gateway.ask("POST", f"/stop/{job_id}", token=alice)
    assert stopped.status == 200
    for token in (alice, bob, *bad.values()):
        assert token not in gateway.log
        assert token.rpartition(".")[2] not in gateway.log


@pytest.mark.criterion("S-15")
def test_s15_a_relay_ends_with_its_token(
    make_sso: Callable[..., Gateway], provider: NanoIdp
) -> None:
    gateway = make_sso([])  # the provider tells no client of short tokens
    alice = provider.token("alice")
    started = gateway.ask("POST", "/start", {"usecase": "demo"}, token=alice)
    job_id = started.json["job_id"]
    try:
        gateway.until(
            lambda: gateway.ask("GET", f"/status/{job_id}", token=alice).json.get("ready"),
            f"{job_id} to be ready",
        )
        gateway.end(signal.SIGTERM)
        gateway.start()  # it has not seen the long token that would renew the short one
        short = {"Authorization": f"Bearer {provider.short_token('alice', 20.0)}"}
        url = f"ws://{gateway.relay}/{job_id}/renderer"
        with connect(url, additional_headers=short, open_timeout=PATIENCE) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(2 * PATIENCE)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
    finally:
        stopped = gateway.ask("POST", f"/stop/{job_id}", token=alice)
    assert stopped.status == 200


def test_nobody_is_refused_because_the_provider_is_away(
    gateway: Gateway, provider: NanoIdp
) -> None:
    alice = provider.token("alice")
    provider.stop()
    for path in ("/v1/me", "/v1/jobs"):
        answer = gateway.ask("GET", path, token=alice)
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert answer.json["code"] == "authenticator_unavailable"
    assert gateway.ask("GET", "/v1/me").status == 200  # the static token needs no provider
    assert gateway.ask("GET", "/v1/me", token="garbage").status == 401


BODIES = {
    "/start": {"usecase": "demo"},
    "/v1/jobs": {"usecase": "demo"},
    "/extend": {"seconds": 60},
    "/tickets": {"service": "renderer"},
    "/grants": {"subject": "bob", "right": "control"},
    "/invitations": {"right": "control"},
}


def everything(gateway: Gateway, job_id: str, token: str) -> dict[str, tuple[object, ...]]:
    """Return what each route that is about one job, and each address at the relay, answers."""
    said: dict[str, tuple[object, ...]] = {}
    paths = gateway.ask("GET", "/openapi.json").json["paths"]
    for path, methods in paths.items():
        for method in (m.upper() for m in methods if "{job_id}" in path and m != "parameters"):
            where = path.format(job_id=job_id, grant_id="x", invitation_id="x")
            body = BODIES.get("/" + path.rpartition("/")[2]) if method == "POST" else None
            answer = gateway.ask(method, where, body, token=token, X_Request_Id="same")
            headers = [(k, v) for k, v in answer.headers.items() if k != "Date"]
            said[f"{method} {path}"] = (answer.status, answer.reason, headers, answer.body)
    for inner in ("renderer", "backend", "nothing", "renderer/ws", "renderer/x"):
        url = f"ws://{gateway.relay}/{job_id}/{inner}"
        with pytest.raises(InvalidStatus) as refused:
            connect(url, additional_headers={"Authorization": f"Bearer {token}"})
        response = refused.value.response
        text = (response.body or b"").decode()
        headers = [(k, v) for k, v in response.headers.raw_items() if k not in ("Date",)]
        for name, value in headers:  # each answer has its own request id
            if name.lower() == "x-request-id":
                text = text.replace(value, "ID")
        kept = [(k, v) for k, v in headers if k.lower() != "x-request-id"]
        said[f"relay {inner}"] = (response.status_code, response.reason_phrase, kept, text)
    return said


@pytest.mark.criterion("S-2", "S-15")
def test_s15_a_logout_at_the_provider_ends_all_that_it_had_opened(
    make_sso: Callable[..., Gateway], provider: NanoIdp
) -> None:
    """One user's way from the start to the logout; another reads nothing on it."""
    gateway = make_sso([CLIENT], kind="userinfo", audience="")
    alice, bob = provider.token("alice"), provider.token("bob")
    started = gateway.ask("POST", "/start", {"usecase": "demo"}, token=alice)
    assert started.status == 201, started.body
    job_id = started.json["job_id"]
    path, again = f"/v1/jobs/{job_id}", ""
    try:
        gateway.until(
            lambda: gateway.ask("GET", f"{path}?wait=5", token=alice).json["state"] == "ready",
            f"{job_id} to be ready",
        )
        assert gateway.ask("GET", f"{path}/doctor", token=alice).json["answers"] is True
        headers = {"Authorization": f"Bearer {alice}"}
        url = f"ws://{gateway.relay}/{job_id}/renderer"
        events = urllib.request.Request(f"{gateway.master}{path}/events", headers=headers)
        with (
            urllib.request.urlopen(events, timeout=60.0) as stream,
            connect(url, additional_headers=headers, open_timeout=PATIENCE) as socket,
        ):
            socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "get-version"}))
            assert "result" in json.loads(socket.recv(PATIENCE))

            foreign, unknown = (everything(gateway, job, bob) for job in (job_id, NOWHERE))
            assert len(foreign) > 20
            for where, answer in foreign.items():
                assert answer == unknown[where], where
                assert answer[0] == (403 if "/v1/admin/" in where else 404), where
            assert gateway.ask("GET", "/v1/jobs", token=bob).json["items"] == []
            assert gateway.ask("GET", path, token=alice).json["state"] == "ready"

            provider.revoke(alice)
            began = time.monotonic()
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(60.0)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4403
            assert gateway.ask("GET", path, token=alice).status == 401
            assert handshake(gateway, job_id, alice) == 401
            told = b""
            for line in stream:  # it ends too; a sign of life comes every 15 s
                told += line
                assert time.monotonic() - began < 60.0, "a minute is over"
            assert b": the token was revoked" in told
        again = provider.token("alice")
        assert handshake(gateway, job_id, again) == 101, "jobs go on, and who logs in is back"
    finally:
        stopped = gateway.ask("POST", f"/stop/{job_id}", token=again or alice)
    assert stopped.status == 200
    gateway.until(
        lambda: gateway.ask("GET", f"/status/{job_id}", token=again).status == 410, "its end"
    )
    foreign, unknown = (everything(gateway, job, bob) for job in (job_id, NOWHERE))
    assert foreign == unknown, "of one that is over too"
    for token in (alice, bob, again):
        for file in (*gateway.state_dir.rglob("*"), gateway.state_dir.parent / "gateway.log"):
            assert not file.is_file() or token.rpartition(".")[2].encode() not in file.read_bytes()
