"""``bin/bench flood``: what bad tokens do to those who are inside, and to the provider.

Relays echo as fast as they can while strangers show tokens that nobody has seen before, each
with a key id of its own (the dearest kind: it might be a new key of the provider's), half of
them at the REST face and half at the relay. They come from loopback, which is never limited by
address, so each is looked at. Rounds without and with them are in turns.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import secrets
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import click
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from bench.gateway import configure, fill, gateway
from bench.generator import Generator, request_head
from bench.machine import Cores, Unavailable, generator_program, raise_descriptors
from bench.process import free_port
from vsmgate.line_limit import LINES_PER_SECOND

__all__ = ["flood"]

#: The p99 of established relays may be so many times what it is in peace.
TARGET = 2.0
RATE, RELAYS = 1000, 64
REFETCH = 60.0
#: Lines of the log about them, in a second: of each face.
LINES = 2 * LINES_PER_SECOND

SSO = """
[authenticators.sso]
kind = "jwt"
issuer = "{issuer}"
allow_http = true
audiences = ["vsmgate"]
"""


class Provider(http.server.ThreadingHTTPServer):
    """A provider with one key, which counts the questions for it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        public = rsa.generate_private_key(65537, 2048).public_key()
        key = {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": "k", "use": "sig"}
        keys = f"{self.issuer}/keys"
        self.pages: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": self.issuer, "jwks_uri": keys},
            "/keys": {"keys": [key]},
        }
        self.questions = 0


class _Page(http.server.BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.questions += 1
        body = json.dumps(self.server.pages[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Strangers:
    """Threads that show bad tokens, `RATE` a second together, until `stop`."""

    THREADS: ClassVar[int] = 16

    def __init__(self, master: str, relay: int, job_id: str, issuer: str) -> None:
        host, _, port = master.removeprefix("http://").partition(":")
        self._faces = {"rest": (host, int(port)), "relay": ("127.0.0.1", relay)}
        self._path = f"/{job_id}/renderer"
        claims = {"iss": issuer, "aud": "vsmgate", "sub": "eve", "exp": int(time.time()) + 3600}
        self._claims = _part(json.dumps(claims).encode())
        self._over = threading.Event()
        self.refused = 0
        self.spent = 0.0
        self.wrong: list[bytes] = []
        self._began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._show, args=(number,)) for number in range(self.THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> float:
        """Return how many were refused in a second."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self.spent = time.monotonic() - self._began
        if self.wrong:
            raise RuntimeError(f"a bad token was answered {self.wrong[0][:80]!r}")
        return self.refused / self.spent

    def _show(self, number: int) -> None:
        face = "rest" if number % 2 else "relay"
        due = time.monotonic() + number / RATE
        peer: socket.socket | None = None
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += self.THREADS / RATE
            peer = peer or socket.create_connection(self._faces[face], timeout=30)
            peer.sendall(self._request(face))
            said = peer.recv(65536)
            if not said.startswith(b"HTTP/1.1 401 "):
                self.wrong.append(said)
            self.refused += 1
            if face == "relay":  # it takes one request of a connection
                peer.close()
                peer = None
        if peer is not None:
            peer.close()

    def _request(self, face: str) -> bytes:
        head = _part(json.dumps({"alg": "RS256", "kid": secrets.token_hex(8)}).encode())
        token = f"{head}.{self._claims}.{_part(secrets.token_bytes(256))}"
        if face == "relay":
            return request_head(self._path, token)
        return f"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def _part(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


@contextlib.contextmanager
def _provider() -> Iterator[Provider]:
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever)
        thread.start()
        try:
            yield provider
        finally:
            provider.shutdown()
            thread.join()


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Of one measurement.")
@click.option("--relays", default=RELAYS, show_default=True, help="Established, echoing 64 B.")
def flood(rounds: int, seconds: float, relays: int) -> None:
    """Measure relays under 1,000 bad tokens a second; status 1 when a goal is missed."""
    raise_descriptors()
    cores = Cores()
    try:
        program = generator_program(install=True)
    except Unavailable as missing:
        raise click.ClickException(str(missing)) from None
    with contextlib.ExitStack() as on:
        folder = Path(on.enter_context(tempfile.TemporaryDirectory(prefix="vsmgate-bench-")))
        generator = Generator(program, cores.load)
        on.callback(generator.close)
        provider = on.enter_context(_provider())
        port = free_port()
        configure(folder, generator.port, f"port = {port}" + SSO.format(issuer=provider.issuer))
        job_id = fill(folder, 1, generator.port)
        _, master = on.enter_context(gateway(folder, cores.relay))
        os.sched_setaffinity(0, {cores.load})
        token = (folder / "state" / "token").read_text().strip()
        head = request_head(f"/{job_id}/renderer", token)
        generator.ask("head", len(head), raw=head)

        def p99() -> float:
            said = generator.ask("echo", port, False, 64, relays, 1.0, seconds)
            return float(said["p99"])

        began = time.monotonic()
        peace, war, rates, besieged = [], [], [], 0.0
        for _ in range(rounds):
            peace.append(p99())
            strangers = Strangers(master, port, job_id, provider.issuer)
            try:
                war.append(p99())
            finally:
                rates.append(strangers.stop())
                besieged += strangers.spent
        spent = time.monotonic() - began
        written = _lines(folder)
    ratio = statistics.median(mine / theirs for mine, theirs in zip(war, peace, strict=True))
    most = 2 + int(spent / REFETCH) + 1  # the discovery, the keys, and once an interval
    lines = int(LINES * (besieged + rounds))  # the second in which a round ends is not whole
    click.echo(f"{relays} relays, {statistics.median(rates):.0f} bad tokens a second:")
    click.echo(f"  p99 in peace      {statistics.median(peace):8.0f} us")
    click.echo(f"  p99 then          {statistics.median(war):8.0f} us")
    click.echo(f"  ratio             {ratio:8.2f}      (at most {TARGET})")
    click.echo(
        f"  asked of provider {provider.questions:8d}      (at most {most} in {spent:.0f} s)"
    )
    click.echo(f"  lines of log      {written:8d}      (at most {lines} in {besieged:.0f} s)")
    if ratio > TARGET or provider.questions > most or written > lines:
        raise SystemExit(1)


def _lines(folder: Path) -> int:
    """Return how many lines of the log are about bad tokens."""
    lines = (folder / "log").read_bytes().splitlines()
    return sum(b" 401 " in line or b"status=401" in line for line in lines)
