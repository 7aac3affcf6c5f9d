"""The service on real sockets: listens, drains, stops; refusals reach who still sends."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent, HTTPConnectionPool

from vsmgate.api.metrics import Metrics
from vsmgate.api.service import ApiService
from vsmgate.config import MasterConfig, RelayConfig
from vsmgate.lifecycle import State

TOKEN = {"Authorization": "Bearer ann-token"}


@pytest.fixture
def serve(face: Any) -> Any:
    """Return what starts a service on a free port, with the face's desk."""
    from twisted.internet import reactor

    services: list[ApiService] = []

    def start(**settings: Any) -> ApiService:
        master = MasterConfig(**{"port": 0, "max_body": 1000, **settings})
        metrics = Metrics(face.desk)
        services.append(ApiService(reactor, master, RelayConfig(), face.desk, metrics))
        services[-1].startService()
        return services[-1]

    yield start
    for service in services:
        if service.running:
            pytest_twisted.blockon(service.stopService())


@pytest.fixture
def client() -> Any:
    """Return an HTTP client that keeps its connections."""
    from twisted.internet import reactor

    pool = HTTPConnectionPool(reactor)
    yield treq.client.HTTPClient(Agent(reactor, pool=pool))
    pytest_twisted.blockon(pool.closeCachedConnections())


def converse(port: int, octets: bytes) -> bytes:
    """Send, and read to the end; fails where the connection is reset."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(octets)
        said = b""
        while data := peer.recv(65536):
            said += data
        return said


@pytest_twisted.ensureDeferred
async def test_it_serves(serve: Callable[..., ApiService], client: Any) -> None:
    service = serve()
    base = f"http://127.0.0.1:{service.port}"
    started = await client.post(f"{base}/start", json={"usecase": "demo"}, headers=TOKEN)
    job_id = (await started.json())["job_id"]
    status = await client.get(f"{base}/status/{job_id}", headers=TOKEN)
    assert (started.code, started.phrase, status.code) == (201, b"Created", 200)
    assert (await status.json())["state"] == "requested"


def test_a_taken_port_is_an_error(serve: Callable[..., ApiService]) -> None:
    with pytest.raises(CannotListenError):
        serve(port=serve().port)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sent", [900_000, 200])
async def test_a_refusal_survives_what_is_still_sent(
    serve: Callable[..., ApiService], sent: int
) -> None:
    port = serve().port
    head = b"POST /start HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
    said = await deferToThread(converse, port, head + b"x" * sent)
    assert said.startswith(b"HTTP/1.1 413 A body has at most 1000 octets.\r\n")
    assert said.count(b"HTTP/1.1") == 1


@pytest_twisted.ensureDeferred
async def test_a_hang_up_cancels(face: Any, serve: Callable[..., ApiService]) -> None:
    job = face.job(state=State.RUNNING)
    port = serve().port
    peer = await deferToThread(socket.create_connection, ("127.0.0.1", port), 10)
    request = f"GET /v1/jobs/{job.id}?wait=60 HTTP/1.1\r\nHost: h\r\n{_line(TOKEN)}\r\n"
    peer.sendall(request.encode())
    await _until(lambda: face.desk.waiting)
    peer.close()
    await _until(lambda: face.desk.cancelled)


@pytest_twisted.ensureDeferred
async def test_stopping(face: Any, serve: Callable[..., ApiService], client: Any) -> None:
    """Idle connections close at once; a call that takes longer is told to come again."""
    job = face.job(state=State.RUNNING)
    service = serve()
    base = f"http://127.0.0.1:{service.port}"
    idle = await deferToThread(socket.create_connection, ("127.0.0.1", service.port), 10)
    call = client.get(f"{base}/v1/jobs/{job.id}?wait=60", headers=TOKEN)
    await _until(lambda: face.desk.waiting and len(service.site.channels) == 2)
    stopped = service.stopService()
    assert await deferToThread(idle.recv, 1) == b""
    idle.close()
    answer = await call
    assert (answer.code, answer.headers.getRawHeaders("Retry-After")) == (503, ["5"])
    await answer.content()
    await stopped
    assert not service.site.channels


@pytest_twisted.ensureDeferred
async def test_stopping_lets_a_call_finish(
    face: Any, serve: Callable[..., ApiService], client: Any
) -> None:
    job = face.job()
    service = serve()
    call = client.get(f"http://127.0.0.1:{service.port}/v1/jobs/{job.id}?wait=60", headers=TOKEN)
    await _until(lambda: face.desk.waiting)
    stopped = service.stopService()
    face.desk.waiting.pop().callback(None)
    answer = await call
    assert answer.code == 200
    await answer.content()
    await stopped


def _line(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


async def _until(condition: Callable[[], object]) -> None:
    """Wait for what other connections do, ten seconds at most."""
    from twisted.internet import reactor

    for _ in range(1000):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    pytest.fail("it did not happen")
