"""Plain requests over real sockets, to servers that nobody here wrote."""

from __future__ import annotations

import functools
import hashlib
import http.client
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.interfaces import IPushProducer
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from tests.certificates import Authority
from tests.relay.rig import JOB, TOKEN, FakeDesk
from tests.relay.test_loopback import served
from vsmgate.config import RelayConfig, TlsConfig
from vsmgate.hands.certificates import Certificates
from vsmgate.model import Endpoint, Service
from vsmgate.relay.service import RelayService

MIB = 1024 * 1024
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PIECE = bytes(range(256)) * 256


@implementer(IPushProducer)
class Pour:
    """Sends so many octets as fast as they are taken, and counts."""

    def __init__(self, request: Any, size: int) -> None:
        self.sent = 0
        self._size = size
        self._request = request
        self._going = False
        request.registerProducer(self, True)
        request.notifyFinish().addErrback(lambda _: self.stopProducing())
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._going = True
        self._pour()

    def _pour(self) -> None:
        from twisted.internet import reactor

        if not self._going:
            return
        self._request.write(PIECE)
        self.sent += len(PIECE)
        if self.sent >= self._size:
            self._going = False
            self._request.unregisterProducer()
            self._request.finish()
        else:
            reactor.callLater(0, self._pour)  # type: ignore[attr-defined]

    def pauseProducing(self) -> None:
        self._going = False

    def stopProducing(self) -> None:
        self._going = False


class Program(Resource):
    """A program with pages: it tells the digest of an upload, and pours downloads."""

    isLeaf = True
    pour: Pour

    def render_PUT(self, request: Any) -> bytes:
        return hashlib.sha256(request.content.read()).hexdigest().encode()

    def render_GET(self, request: Any) -> int:
        size = int(request.path.rpartition(b"/")[2])
        if b"sized" in request.path:
            request.setHeader(b"Content-Length", str(size).encode())
        self.pour = Pour(request, size)
        return NOT_DONE_YET


def connection(relay: RelayService) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", relay.port, timeout=60)


@pytest.mark.parametrize("kind", ["sized", "chunked"])
@pytest_twisted.ensureDeferred
async def test_a_large_download(kind: str) -> None:
    size = 64 * MIB

    def fetch(relay: RelayService) -> tuple[str | None, int, bytes]:
        asked = connection(relay)
        asked.request("GET", f"/{JOB}/renderer/{kind}/{size}", headers=BEARER)
        answer = asked.getresponse()
        digest, length = hashlib.sha256(), 0
        while part := answer.read(MIB):
            digest.update(part)
            length += len(part)
        return answer.getheader("Transfer-Encoding"), length, digest.digest()

    async with served(Site(Program()), spec=Service(http=True)) as (relay, watch):
        coding, length, digest = await deferToThread(fetch, relay)
        await watch.over
    expected = hashlib.sha256(PIECE * (size // len(PIECE))).digest()
    assert (coding, length) == (None if kind == "sized" else "chunked", size)
    assert digest == expected


@pytest_twisted.ensureDeferred
async def test_up_and_down_over_tls(tmp_path: Path) -> None:
    """With TLS on the client's leg; a browser's cookie is `Secure` then."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("127.0.0.1")
    size = 16 * MIB

    def talk(relay: RelayService) -> tuple[bytes, int, str]:
        context = ssl.create_default_context(cafile=authority.ca)
        asked = http.client.HTTPSConnection("127.0.0.1", relay.port, timeout=60, context=context)
        asked.request("PUT", f"/{JOB}/renderer/up", body=PIECE * 64, headers=BEARER)
        answer = asked.getresponse()
        digest, cookie = answer.read(), answer.getheader("Set-Cookie") or ""
        asked.request("GET", f"/{JOB}/renderer/sized/{size}", headers=BEARER)
        return digest, len(asked.getresponse().read()), cookie

    async with served(
        Site(Program()),
        spec=Service(http=True),
        certificates=Certificates(TlsConfig(str(certificate), str(key)), "relay.tls"),
        tls_public=True,
    ) as (relay, watch):
        digest, length, cookie = await deferToThread(talk, relay)
        await watch.over
    assert digest.decode() == hashlib.sha256(PIECE * 64).hexdigest()
    assert length == size
    assert cookie.endswith("; Secure")


@pytest.mark.parametrize("chunked", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_large_upload(chunked: bool) -> None:
    count = 32 * MIB // len(PIECE)

    def pieces() -> Iterator[bytes]:
        for _ in range(count):
            yield PIECE

    def send(relay: RelayService) -> tuple[int, bytes]:
        asked = connection(relay)
        length = {} if chunked else {"Content-Length": str(count * len(PIECE))}
        asked.request(
            "PUT",
            f"/{JOB}/renderer/up",
            body=pieces(),
            headers={**BEARER, **length},
            encode_chunked=chunked,
        )
        answer = asked.getresponse()
        return answer.status, answer.read()

    async with served(Site(Program()), spec=Service(http=True)) as (relay, watch):
        status, told = await deferToThread(send, relay)
        await watch.over
    assert (status, told.decode()) == (200, hashlib.sha256(PIECE * count).hexdigest())


@pytest_twisted.ensureDeferred
async def test_a_reader_that_pauses_holds_the_program_back() -> None:
    size = 256 * MIB
    program = Program()
    paused, go_on = threading.Event(), threading.Event()

    def fetch(relay: RelayService) -> int:
        with socket.create_connection(("127.0.0.1", relay.port), timeout=60) as sock:
            head = f"GET /{JOB}/renderer/sized/{size} HTTP/1.1\r\nHost: x\r\n"
            sock.sendall(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
            length = len(sock.recv(65536))
            paused.set()
            assert go_on.wait(60)
            while part := sock.recv(MIB):
                length += len(part)
        return length

    def stands_still() -> int:
        """Wait until the program sends nothing more; return how much it had sent."""
        assert paused.wait(60)
        moment = threading.Event()
        sent = -1
        while sent != program.pour.sent:
            sent = program.pour.sent
            moment.wait(0.5)
        return sent

    async with served(Site(program), spec=Service(http=True)) as (relay, watch):
        fetching = deferToThread(fetch, relay)
        sent = await deferToThread(stands_still)
        go_on.set()
        length = await fetching
        await watch.over
    assert sent < 32 * MIB, "what waits is what the kernel's buffers hold, and little more"
    assert length > size


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's own server: HTTP/1.0, and answers that end with the connection."""

    def log_message(self, *_: object) -> None: ...


@pytest_twisted.ensureDeferred
async def test_an_old_server(tmp_path: Path) -> None:
    from twisted.internet import reactor

    (tmp_path / "page.html").write_text("<p>hi")
    (tmp_path / "folder").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    desk = FakeDesk(Endpoint("127.0.0.1", server.server_port), renderer=Service(http=True))
    relay = RelayService(reactor, RelayConfig(port=0, drain=0.0, drain_spread=0.0), desk)
    relay.startService()

    def fetch(path: str) -> tuple[int, str | None, bytes]:
        asked = connection(relay)
        asked.request("GET", f"/{JOB}/renderer/{path}", headers=BEARER)
        answer = asked.getresponse()
        return answer.status, answer.getheader("Location"), answer.read()

    try:
        assert await deferToThread(fetch, "page.html") == (200, None, b"<p>hi")
        status, location, _ = await deferToThread(fetch, "folder")
        assert (status, location) == (301, f"/{JOB}/renderer/folder/")
        assert (await deferToThread(fetch, "nothing"))[0] == 404
    finally:
        await relay.stopService()
        await deferToThread(server.shutdown)
        server.server_close()
        serving.join()
