"""Secrets, looked for wherever they must not be; and a door that is under siege."""

from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.e2e.rig import Gateway
from vsmgate.shipped import conf_folder

PREFIX = "base64url.bearer.authorization.vsmgate."


def forms(secret: str) -> Iterator[bytes]:
    """Yield what a secret looks like, here and there."""
    yield secret.encode()
    yield quote(secret, safe="").encode()
    yield base64.b64encode(secret.encode()).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret.encode()).rstrip(b"=")


@pytest.fixture
def administered(make_gateway: Callable[..., Gateway], tmp_path: Path) -> Gateway:
    """Return a gateway with the shipped configuration, whose only user administers it."""
    config = tmp_path / "vsmgate.toml"
    shipped = (conf_folder() / "vsmgate.toml").read_text()
    who = pwd.getpwuid(os.getuid()).pw_name
    config.write_text(f'{shipped}\n[access]\nadministrators = ["{who}"]\n')
    shutil.copytree(conf_folder() / "usecases", tmp_path / "usecases")
    return make_gateway("--config", str(config))


@pytest.mark.criterion("S-5", "S-9", "S-31")
def test_no_secret_is_anywhere_but_where_it_belongs(administered: Gateway) -> None:
    gateway = administered
    said: list[bytes] = []

    def ask(*arguments: object, **options: str) -> dict[str, str]:
        answer = gateway.ask(*arguments, **options)  # type: ignore[arg-type]
        said.append(answer.body + str(answer.headers).encode() + answer.reason.encode())
        return answer.json if answer.body[:1] == b"{" else {}

    job_id = gateway.start_demo()
    tickets = [
        str(gateway.ask("POST", f"/v1/jobs/{job_id}/tickets", {"service": name}).json["ticket"])
        for name in ("renderer", "backend", "backend")
    ]
    wrong = "wrong-token-of-this-test"
    (request,) = gateway.state_dir.rglob("request.json")
    service = json.loads(request.read_text())["services"]["renderer"]
    of_the_job = service["environment"]["VSMGATE_SECRET"]
    sharing = f"/v1/jobs/{job_id}"
    invitations = [
        gateway.ask("POST", f"{sharing}/invitations", {"right": right}).json["invitation"]
        for right in ("view", "control")
    ]
    guessed = f"{job_id}.{wrong}"
    secrets = [gateway.token, of_the_job, wrong, *tickets, *invitations]
    secrets += [one.partition(".")[2] for one in invitations]

    base = f"ws://{gateway.relay}/{job_id}"
    bearer = PREFIX + base64.urlsafe_b64encode(gateway.token.encode()).decode().rstrip("=")
    header = {"Authorization": f"Bearer {gateway.token}"}
    for url, options in (
        (f"{base}/renderer?token={gateway.token}", {}),
        (f"{base}/renderer?ticket={tickets[0]}", {}),
        (f"{base}/renderer?ticket={tickets[0]}", {}),  # used
        (f"{base}/renderer?ticket={tickets[1]}", {}),  # for another service
        (f"{base}/backend", {"additional_headers": header}),
        (f"{base}/backend", {"subprotocols": [bearer]}),
        (f"{base}/backend?token={wrong}", {}),
        (f"{base}/nothing?token={gateway.token}", {}),
        (f"{base}/renderer?token={gateway.token}&token={gateway.token}", {}),
        (f"{base}/renderer?token={gateway.token}", {"origin": "https://evil.example"}),
    ):
        try:
            with connect(url, compression=None, **options):  # type: ignore[arg-type]
                pass
        except InvalidStatus as refused:
            answer = refused.response
            said.append(str(answer.headers).encode() + bytes(answer.body or b""))
    ask("GET", f"/status/{job_id}?token={gateway.token}")
    ask("POST", "/start", {"usecase": "demo", "parameters": {"project": 1, "token": gateway.token}})
    ask("GET", f"/v1/jobs/{job_id}", token=wrong)
    for shown in (*invitations, guessed):
        ask("POST", "/v1/invitations/redeem", {"invitation": shown})
        ask("POST", "/v1/invitations/redeem", {"invitation": shown}, token=wrong)
        ask("POST", "/v1/invitations/redeem", {"invitation": shown, "more": 1})
        ask("POST", "/v1/invitations/redeem", {"invitation": [shown]})
    for inner in ("", "/grants", "/invitations", "/presence", "/doctor"):
        ask("GET", sharing + inner)
    given = ask("POST", f"{sharing}/grants", {"subject": "bob", "right": "view"})
    ask("DELETE", f"{sharing}/grants/{given['id']}")
    for inner in ("jobs", f"jobs/{job_id}", "engines", "revocations"):
        assert "code" not in ask("GET", f"/v1/admin/{inner}")
    ask("POST", "/v1/admin/revocations", {"subject": "bob"})
    ask("GET", "/readyz")
    said.append(first_event(gateway, job_id))
    ask("GET", f"/v1/jobs/{job_id}/logs")
    ask("GET", "/v1/jobs?limit=200")
    ask("GET", "/metrics")
    places: dict[str, bytes] = {f"answer {number}": octets for number, octets in enumerate(said)}
    places["the log"] = gateway.log.encode()
    assert b'"redeem"' in (gateway.state_dir / "audit.jsonl").read_bytes()
    for path in gateway.state_dir.rglob("*"):
        if path.is_file() and path not in (gateway.state_dir / "token", request):
            places[str(path.relative_to(gateway.state_dir))] = path.read_bytes()
    # Its own secret is in a job's environment, and nothing of a user's is.
    for pid in gateway.job_processes(job_id):
        places[f"arguments of {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        places[f"environment of {pid}"] = environment.replace(of_the_job.encode(), b"")
    assert len(places) > 15
    for secret in secrets:
        for form in forms(secret):
            assert [place for place, octets in places.items() if form in octets] == []
    for path in gateway.state_dir.rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0, f"others may read {path}"


def first_event(gateway: Gateway, job_id: str) -> bytes:
    """Return what a stream of events begins with."""
    headers = {"Authorization": f"Bearer {gateway.token}"}
    address = f"{gateway.master}/v1/jobs/{job_id}/events"
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as stream:
        told = b"".join(stream.readline() for _ in range(5))
    assert b"data: {" in told
    return bytes(told)


@pytest.mark.criterion("S-10")
def test_a_siege_of_one_address_keeps_nobody_out(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway()
    host, port = gateway.relay.split(":")
    master = ("127.0.0.1", int(gateway.master.rpartition(":")[2]))
    with ExitStack() as held:
        besiegers = []
        for face in ((host, int(port)), master):
            for number in range(300):
                at = socket.create_connection(face, timeout=20, source_address=("127.0.0.2", 0))
                besiegers.append(held.enter_context(at))
                if number % 2:
                    at.sendall(b"GET / HTTP/1.1\r\nX: ")
        job_id = gateway.start_demo()
        with connect(f"ws://{gateway.relay}/{job_id}/backend?token={gateway.token}") as socket_:
            socket_.send('{"jsonrpc":"2.0","id":1,"method":"version"}')
            assert "3.0.0" in str(socket_.recv(timeout=20))
        for at in besiegers:  # each is refused, or its time ends
            try:
                assert at.recv(9) in (b"HTTP/1.1 ", b"")
            except ConnectionResetError:
                pass
