"""The HTTP client against a server on this machine that does as it should not."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import maybeDeferred
from twisted.internet.ssl import PrivateCertificate
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from vsmgate.hands.http_client import HttpClient, HttpFailed, http_client, read_authorities

#: Twisted 26.10 hands pyOpenSSL's own objects to it.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

SMALL = 65536


class Server(Resource):
    """Answers by path; ``asked`` has the requests, ``written`` how much of ``/huge`` was."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Request] = []
        self.written = 0
        self.port: Any = None

    def url(self, path: str, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port.getHost().port}{path}"

    def render(self, request: Request) -> Any:
        self.asked.append(request)
        path = request.path.decode()
        if path == "/huge":
            request.registerProducer(_Endless(self, request), False)
            return NOT_DONE_YET
        if path == "/slow":
            request.write(b"{")
            return NOT_DONE_YET
        if path == "/cut":
            request.setHeader(b"Content-Length", b"100")
            request.write(b"{")
            request.transport.loseConnection()
            return NOT_DONE_YET
        if path == "/redirect":
            request.redirect(b"/fine")
            return b""
        if path == "/echo":
            return request.content.read()
        request.addCookie(b"session", b"adas")
        return b"{}"


class _Endless:
    """Writes as fast as it is read, without end."""

    def __init__(self, server: Server, request: Request) -> None:
        self._server = server
        self._request = request
        request.notifyFinish().addErrback(lambda _: None)

    def resumeProducing(self) -> None:
        self._server.written += SMALL
        self._request.write(b"x" * SMALL)

    def stopProducing(self) -> None: ...


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    from twisted.internet import reactor as found

    reactor: Any = found
    ports = []

    def serving(certificate: PrivateCertificate | None = None) -> Server:
        server = Server()
        site = Site(server)
        if certificate is None:
            server.port = reactor.listenTCP(0, site, interface="127.0.0.1")
        else:
            server.port = reactor.listenSSL(0, site, certificate.options(), interface="127.0.0.1")
        ports.append(server.port)
        return server

    yield serving
    for port in ports:
        pytest_twisted.blockon(maybeDeferred(port.stopListening))


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    return serve()


def client(**options: Any) -> HttpClient:
    from twisted.internet import reactor

    # Nothing is kept open: each test leaves no connection behind.
    return http_client(reactor, **{"timeout": 30.0, "persistent": False, **options})


async def failure(client: HttpClient, url: str) -> str:
    with pytest.raises(HttpFailed) as caught:
        await client.get(url)
    return str(caught.value)


@pytest_twisted.ensureDeferred
async def test_an_answer(server: Server) -> None:
    answer = await client().get(server.url("/fine"), {"Authorization": "Bearer x"})
    assert (answer.status, answer.body) == (200, b"{}")
    assert server.asked[0].getHeader("Authorization") == "Bearer x"


@pytest_twisted.ensureDeferred
async def test_a_form(server: Server) -> None:
    answer = await client().post(server.url("/echo"), {"token": "a&b=c"})
    assert answer.body == b"token=a%26b%3Dc"


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_not_followed(server: Server) -> None:
    answer = await client().get(server.url("/redirect"))
    assert answer.status == 302
    assert len(server.asked) == 1


@pytest_twisted.ensureDeferred
async def test_cookies_of_one_are_not_sent_for_another(server: Server) -> None:
    one = client()
    await one.get(server.url("/fine"))
    await one.get(server.url("/fine"))
    assert server.asked[1].getHeader("Cookie") is None


@pytest_twisted.ensureDeferred
async def test_too_much_is_cut_off(server: Server) -> None:
    said = await failure(client(max_body=SMALL), server.url("/huge"))
    assert said == f"the answer is larger than {SMALL} octets"
    assert server.written < 256 * SMALL, "it was not read to the end, which there is none of"


@pytest_twisted.ensureDeferred
async def test_too_slow_is_cut_off(server: Server) -> None:
    said = await failure(client(timeout=0.2), server.url("/slow"))
    assert said == "no complete answer within 0.2 s"


@pytest_twisted.ensureDeferred
async def test_half_an_answer_is_none(server: Server) -> None:
    assert await failure(client(), server.url("/cut"))


@pytest_twisted.ensureDeferred
async def test_whatever_goes_wrong_is_a_failure(flush_logged: Callable[..., list[Any]]) -> None:
    assert "gopher" not in await failure(client(), "gopher://127.0.0.1/")
    assert flush_logged()


@pytest_twisted.ensureDeferred
async def test_nobody_there(server: Server) -> None:
    url = server.url("/fine")
    await server.port.stopListening()
    assert "refused" in await failure(client(), url)


# -- TLS ---------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> PrivateCertificate:
    """Make a self-signed certificate for ``name``; its PEM is in ``folder``/NAME.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vsmgate test")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    alternative: x509.GeneralName = x509.DNSName(name)
    if name[0].isdigit():
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / f"{name}.pem").write_bytes(public)
    return PrivateCertificate.loadPEM(public + private)


@pytest_twisted.ensureDeferred
async def test_only_the_named_authorities_are_trusted(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(certificate(tmp_path, "127.0.0.1"))
    url = server.url("/fine", "https")
    assert (await client(ca_file=tmp_path / "127.0.0.1.pem").get(url)).status == 200
    assert "certificate verify failed" in await failure(client(), url)
    certificate(tmp_path, "another.example.org")
    assert await failure(client(ca_file=tmp_path / "another.example.org.pem"), url)
    assert len(server.asked) == 1


@pytest_twisted.ensureDeferred
async def test_the_certificate_must_be_the_hosts(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(certificate(tmp_path, "another.example.org"))
    trusting = client(ca_file=tmp_path / "another.example.org.pem")
    assert await failure(trusting, server.url("/fine", "https"))
    assert not server.asked


def test_files_that_hold_no_authority(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(OSError, match="No such file"):
        read_authorities(file)
    file.write_text("hello")
    with pytest.raises(ValueError, match="holds no certificate"):
        read_authorities(file)
    file.write_text("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n")
    with pytest.raises(ValueError, match="cannot be read"):
        read_authorities(file)
    certificate(tmp_path, "a.example.org")
    certificate(tmp_path, "b.example.org")
    texts = [(tmp_path / f"{name}.example.org.pem").read_text() for name in "ab"]
    file.write_text("a comment\n" + "\n".join(texts))
    assert len(read_authorities(file)) == 2
