"""A real gateway with rules of access: who may start, administrators, audit, revocation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.e2e.rig import PATIENCE, ROOT, Gateway
from tests.e2e.site import Site

RULES = """
[access]
administrators = ["group:admins"]
failures_per_minute = 5
[access.usecases.echo]
allow = ["group:vis"]
[master]
trusted_proxies = ["127.0.0.0/8"]
[relay]
trusted_proxies = ["127.0.0.0/8"]
"""


class Users:
    """Users with static tokens, made by the command line."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.tokens: dict[str, str] = {}

    def command(self, *arguments: str) -> str:
        argv = [sys.executable, "-c", "from vsmgate.cli import main; main()", "token"]
        done = subprocess.run(
            [*argv, *arguments, "--file", str(self._file)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout.strip()

    def add(self, name: str, *groups: str) -> str:
        more = ["--groups", ",".join(groups)] if groups else []
        token = self.command("make", "--subject", name, "--name", f"{name}'s", *more)
        self.tokens[name] = token
        return token


@pytest.fixture
def users(tmp_path: Path) -> Users:
    """Return Ada and Mia of ``vis``, Bob of nothing, and Root who administers."""
    (tmp_path / "state").mkdir(mode=0o700)
    users = Users(tmp_path / "state/tokens.toml")
    users.add("ada", "vis")
    users.add("mia", "vis")
    users.add("bob")
    users.add("root", "admins")
    return users


@pytest.fixture
def gateway(users: Users, make_gateway: Callable[..., Gateway], tmp_path: Path) -> Gateway:
    """Return a gateway for them."""
    # The rig stops what is left with the gateway's own token.
    (tmp_path / "state/token").write_text(users.tokens["ada"])
    return make_gateway(*Site(tmp_path, more=RULES).options)


def audit(gateway: Gateway) -> list[dict[str, Any]]:
    lines = (gateway.state_dir / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def ready(gateway: Gateway, token: str) -> str:
    started = gateway.ask("POST", "/start", {"usecase": "echo"}, token=token)
    assert started.status == 201, started.body
    job_id = str(started.json["job_id"])
    gateway.until(
        lambda: gateway.ask("GET", f"/status/{job_id}", token=token).json.get("ready"),
        f"{job_id} to be ready",
    )
    return job_id


def opened(gateway: Gateway, job_id: str, token: str) -> ClientConnection:
    headers = {"Authorization": f"Bearer {token}"}
    socket = connect(
        f"ws://{gateway.relay}/{job_id}/echo", additional_headers=headers, open_timeout=PATIENCE
    )
    socket.send("hello")
    assert socket.recv(PATIENCE) == "hello"
    return socket


def code_of(socket: ClientConnection, patience: float) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(patience)
    assert closed.value.rcvd is not None
    return int(closed.value.rcvd.code)


@pytest.mark.criterion("S-31")
def test_rules_administrators_and_the_audit_log(gateway: Gateway, users: Users) -> None:
    ada, bob, root = (users.tokens[name] for name in ("ada", "bob", "root"))
    assert gateway.ask("GET", "/v1/usecases", token=bob).json["items"] == []
    for path in ("/start", "/v1/jobs"):
        refused = gateway.ask("POST", path, {"usecase": "echo"}, token=bob)
        assert (refused.status, refused.json["code"]) == (403, "forbidden")
    job_id = ready(gateway, ada)
    with opened(gateway, job_id, ada) as socket:
        assert gateway.ask("GET", "/v1/admin/jobs", token=ada).status == 403
        (listed,) = gateway.ask("GET", "/v1/admin/jobs?owner=ada", token=root).json["items"]
        assert listed["id"] == job_id
        (engine,) = gateway.ask("GET", "/v1/admin/engines", token=root).json["items"]
        assert (engine["name"], engine["state"]) == ("local", "ok")
        assert gateway.ask("DELETE", f"/v1/admin/jobs/{job_id}", token=root).status == 202
        assert code_of(socket, PATIENCE) == 4410
    over = gateway.until(
        lambda: (a := gateway.ask("GET", f"/status/{job_id}", token=ada)).status == 410 and a,
        "the job to end",
    )
    assert over.json["reason"]["code"] == "cancelled_by_administrator"

    assert (gateway.state_dir / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    entries = {
        ("start", "forbidden", "bob"),
        ("start", "ok", "ada"),
        ("relay_open", "ok", "ada"),
        ("relay_close", "ok", "ada"),
        ("admin_list_jobs", "forbidden", "ada"),
        ("admin_stop", "ok", "root"),
    }
    gateway.until(
        lambda: entries <= {(e["action"], e["outcome"], e.get("subject")) for e in audit(gateway)},
        "the entries",
    )
    (stopped,) = [e for e in audit(gateway) if e["action"] == "admin_stop"]
    assert (stopped["job"], stopped["details"]) == (job_id, {"owner": "ada"})
    written = (gateway.state_dir / "audit.jsonl").read_text() + gateway.log
    for token in users.tokens.values():
        assert token not in written


@pytest.mark.criterion("S-18", "S-31")
def test_bad_tokens_of_one_address(gateway: Gateway, users: Users) -> None:
    def shown(token: str, client: str) -> int:
        return gateway.ask("GET", "/v1/me", token=token, X_Forwarded_For=client).status

    statuses = [shown("bad", "203.0.113.7") for _ in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    assert shown(users.tokens["bob"], "203.0.113.7") == 429
    assert shown(users.tokens["bob"], "203.0.113.8") == 200
    assert shown(users.tokens["bob"], "203.0.113.7") == 200, "it is known to be good now"
    failed = {("unauthenticated", "203.0.113.7"), ("too_many_failures", "203.0.113.7")}

    def told() -> bool:
        seen = [e for e in audit(gateway) if e["action"] == "authenticate"]
        return {(e["outcome"], e["peer"]) for e in seen} == failed

    gateway.until(told, "the entries")


@pytest.mark.criterion("S-15")
def test_revocation_closes_within_a_minute(gateway: Gateway, users: Users) -> None:
    ada, mia, root = (users.tokens[name] for name in ("ada", "mia", "root"))
    mias = ready(gateway, mia)
    with opened(gateway, mias, mia) as one, opened(gateway, ready(gateway, ada), ada) as two:
        began = time.monotonic()
        assert users.command("revoke", "mia's").endswith("of mia")
        revoked = gateway.ask("POST", "/v1/admin/revocations", {"subject": "ada"}, token=root)
        assert revoked.status == 200
        assert gateway.ask("GET", "/v1/me", token=ada).status == 401
        gateway.until(
            lambda: gateway.ask("GET", "/v1/me", token=mia).status == 401, "Mia to be refused"
        )
        for socket in (one, two):
            assert code_of(socket, 60.0) == 4403
        assert time.monotonic() - began < 60.0
    at = datetime.fromisoformat(revoked.json["revoked_at"]).timestamp()
    # A token tells the second of its making.
    gateway.until(lambda: int(datetime.now(UTC).timestamp()) > at, "the next second")
    again = users.add("ada", "vis")
    (gateway.state_dir / "token").write_text(again)
    gateway.until(lambda: gateway.ask("GET", "/v1/me", token=again).status == 200, "Ada to be back")
    assert gateway.ask("DELETE", f"/v1/admin/jobs/{mias}", token=root).status == 202
    closed = gateway.until(
        lambda: [e for e in audit(gateway) if e["action"] == "relay_close"], "the entries"
    )
    assert {e["details"]["code"] for e in closed} == {4403}
