"""What clumsy and hostile users, and operators, do: each gets one clear answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rig import PATIENCE, ROOT, Gateway
from tests.e2e.site import Site

JOB = "a" * 26
OTHER_FOLDERS = ("/proc/vsmgate", "{folder}/file/below")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def refused(folder: Path, *options: str) -> str:
    """Return what a gateway says that must not start: one message and no traceback."""
    command = [sys.executable, str(ROOT / "bin" / "_twistd"), "-n", "--pidfile=", "vsmgate"]
    ports = () if "--master-port" in options else ("--master-port", "0")
    more = () if "--relay-port" in options else ("--relay-port", "0")
    ended = subprocess.run(
        [*command, *ports, *more, *options],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1, ended
    assert not ended.stdout
    assert "Traceback" not in ended.stderr
    _, found, message = ended.stderr.partition("vsmgate: ")
    assert found, ended.stderr
    return message


def test_requests(make_gateway: Callable[..., Gateway], site: Site) -> None:
    site.usecase("missing", ["/no/such/program"])
    site.usecase("nowhere", ["no-such-program"])
    site.usecase("dies", ["{python}", "-c", "import sys; sys.exit('no graphics card')"])
    site.usecase("silent", ["/bin/sleep", "1000"], limits="start_timeout = 1.0")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        site.usecase("busy", service=f"port = {port}")
        gateway = make_gateway(*site.options)

        def start(body: object, **more: Any) -> tuple[int, str, Any]:
            answer = gateway.ask("POST", "/start", body, **more)
            return answer.status, answer.json.get("code", ""), answer.json

        assert start({"usecase": "nope"})[:2] == (400, "no_such_usecase")
        assert "busy, dies, echo, missing" in start({"usecase": "nope"})[2]["detail"]
        wrong = {"usecase": "echo", "parameters": {"size": 0, "colour": "red"}}
        status, code, told = start(wrong)
        assert (status, code) == (400, "bad_parameters")
        assert sorted(error["pointer"] for error in told["errors"]) == ["/colour", "/size"]
        for body in (b"{", b"\xff", b'{"usecase": "\\ud800"}', b"{" * 60000):
            assert start(body)[:2] == (400, "bad_request")
        assert start([])[:2] == (400, "bad_parameters")
        assert start({"usecase": "echo", "name": "x" * 70000})[:2] == (413, "too_large")
        assert start({}, token=None)[:2] == (401, "unauthenticated")
        assert start({}, token="wrong")[:2] == (401, "unauthenticated")
        assert start({"usecase": "missing"})[:2] == (503, "program_missing")
        assert "/no" not in start({"usecase": "missing"})[2]["detail"]
        assert "/no/such/program" in gateway.log
        missing = gateway.ask("POST", "/start", {"usecase": "missing"})
        assert missing.headers["Retry-After"] is None  # trying again would not help
        assert start({"usecase": "nowhere"})[:2] == (503, "program_missing")
        status, code, told = start({"usecase": "busy"})
        assert (status, code) == (503, "port_busy")
        assert str(port) in told["detail"]

    ended = {}
    for name in ("dies", "silent"):
        job_id = start({"usecase": name})[2]["job_id"]

        def over(job_id: str = job_id) -> Any:
            answer = gateway.ask("GET", f"/status/{job_id}")
            return answer.status == 410 and answer.json

        ended[name] = gateway.until(over, f"the end of {name}")["reason"]
    assert ended["dies"]["code"] == "exited"
    assert "no graphics card" in ended["dies"]["native"]
    assert ended["silent"]["code"] == "never_ready"
    assert "The last probe: echo:" in ended["silent"]["message"]
    gateway.until(lambda: not gateway.job_processes(), "nothing to be left running")


def test_anothers_job_is_an_unknown_one(make_gateway: Callable[..., Gateway], site: Site) -> None:
    gateway = make_gateway(*site.options)
    job_id = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
    tokens = gateway.state_dir / "tokens.toml"
    options = ["token", "--subject", "eve", "--file", str(tokens)]
    command = [sys.executable, "-c", "from vsmgate.cli import main; main()", *options]
    eve = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    token = eve.stdout.strip()
    gateway.until(
        lambda: gateway.ask("GET", "/v1/me", token=token).status == 200, "the token to be known"
    )
    calls: list[tuple[str, str, object]] = [
        ("GET", "/status/{}", None),
        ("POST", "/stop/{}", None),
        ("DELETE", "/v1/jobs/{}", None),
        ("GET", "/v1/jobs/{}?wait=5", None),
        ("GET", "/v1/jobs/{}/logs?service=none", None),
        ("POST", "/v1/jobs/{}/tickets", {"service": "none"}),
        ("POST", "/v1/jobs/{}/extend", {"seconds": 5}),
    ]
    for method, path, body in calls:
        foreign, unknown = (
            gateway.ask(method, path.format(it), body, token=token, X_Request_Id="same")
            for it in (job_id, JOB)
        )
        assert foreign.status == 404
        assert foreign.body == unknown.body
        assert foreign.reason == unknown.reason
    assert gateway.ask("GET", "/v1/jobs", token=token).json["items"] == []
    gateway.wait_ready(job_id)


def test_who_hangs_up_loses_nothing(make_gateway: Callable[..., Gateway], site: Site) -> None:
    site.write("max_per_user = 100\nmax_total = 100")
    gateway = make_gateway(*site.options)
    host, _, port = gateway.master.removeprefix("http://").partition(":")

    def call(path: str, body: bytes, delay: float) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {gateway.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head.encode() + body)
            time.sleep(delay)

    def states() -> Counter[str]:
        items = gateway.ask("GET", "/v1/jobs?limit=200").json["items"]
        return Counter(item["state"] for item in items)

    for number in range(8):
        call("/start", b'{"usecase": "echo"}', number * 0.0012)
    gateway.until(lambda: set(states()) <= {"ready"}, "every job that is kept to be ready")
    kept = gateway.ask("GET", "/v1/jobs?limit=200").json["items"]
    assert gateway.ask("GET", "/v1/me").json["usage"]["jobs"] == len(kept) > 0
    for number, job in enumerate(kept):
        call(f"/stop/{job['id']}", b"", number * 0.0004)
    gateway.until(
        lambda: states()["stopping"] == 0 and len(gateway.job_processes()) == 2 * states()["ready"],
        "every stop that is kept to be done",
    )


def test_configurations(tmp_path: Path, site: Site) -> None:
    config = site.config
    assert "/none.toml: cannot be read" in refused(tmp_path, "--config", "/none.toml")
    good = config.read_text()
    config.write_text(
        good.replace('kind = "sql"', 'kind = "sqlx"')
        .replace('kind = "local"', 'kind = "slurmy"')
        .replace('kind = "static"', 'kind = "ldap"')
    )
    said = refused(tmp_path, *site.options)
    assert "store.kind: unknown job store 'sqlx'; known: sql" in said
    assert "launchers.local.kind: unknown launcher 'slurmy'; known: ecs, kubernetes, local" in said
    assert "authenticators.tokens.kind: unknown authenticator 'ldap'" in said
    config.write_text(good + '\n[master]\nport = "x"\n[rely]\n')
    said = refused(tmp_path, *site.options)
    assert "rely: unknown key; did you mean 'relay'?" in said
    assert 'master.port: "x" is not allowed' in said
    config.write_text(good)
    assert 'role: "slave" is not allowed' in refused(tmp_path, *site.options, "--role", "slave")


def test_places(tmp_path: Path, site: Site) -> None:
    (tmp_path / "file").write_text("")
    for folder in OTHER_FOLDERS:
        name = folder.format(folder=tmp_path)
        assert "state_dir: " in refused(tmp_path, *site.options, "--state-dir", name)
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    (spoilt / "vsmgate.sqlite3").write_bytes(b"no database at all" * 100)
    said = refused(tmp_path, *site.options, "--state-dir", str(spoilt))
    assert "file is not a database. Restore the file from a backup" in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for face in ("master", "relay"):
            said = refused(tmp_path, *site.options, f"--{face}-port", port)
            assert f"{face}.port: nobody can listen on 127.0.0.1:{port}: address already" in said


def test_one_gateway_for_one_state_directory(
    make_gateway: Callable[..., Gateway], site: Site, tmp_path: Path
) -> None:
    gateway = make_gateway(*site.options)
    said = refused(tmp_path, *site.options, "--state-dir", str(gateway.state_dir))
    assert f"another gateway (pid {gateway.pid}) uses this state directory" in said
    assert gateway.ask("GET", "/healthz").status == 200
    assert gateway.end(signal.SIGINT) == 0
    with (gateway.state_dir / "vsmgate.sqlite3").open("r+b") as store:
        store.seek(4096)
        store.write(os.urandom(4096))
    said = refused(tmp_path, *site.options, "--state-dir", str(gateway.state_dir))
    assert "store.url: cannot be used: the file is damaged" in said
