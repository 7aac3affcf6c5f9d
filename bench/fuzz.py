"""``bin/fuzz``: whatever reads octets of strangers, fed with octets that nobody sane sends.

Good inputs are cut, repeated, swapped and spoiled at random, and fed to a reader whole and
in pieces. A reader may refuse, in its own way; it may not fail otherwise, take long, keep
much, or read the pieces as something else than the whole. With ``--rest`` schemathesis asks a
running gateway whatever ``/openapi.json`` allows, and more.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from bench.gateway import configure, fill, gateway
from bench.machine import ROOT
from vsmgate.bodies import request_body
from vsmgate.config_file import parse
from vsmgate.credentials import claim_of, redact
from vsmgate.errors import ConfigError, GatewayError
from vsmgate.frames import FrameTracker, control_frame, frame_head
from vsmgate.hands.proxy_protocol import HeaderError, read_header
from vsmgate.heads import HeadReader, answer_reader, request_reader
from vsmgate.model import Service, View
from vsmgate.rewriter import FrameRewriter
from vsmgate.upgrades import upgrade_of
from vsmgate.viewing import view_tracker

__all__ = ["TARGETS", "Found", "fuzz", "spoiled"]

#: Seconds that one case may take; a machine may be busy, so a slow case has three tries.
LONGEST = 0.01

Read = Callable[[list[bytes]], object]
"""Feeds pieces to a reader; returns what they came to, the same for the same octets."""


class Found(Exception):
    """A case that a reader does not bear."""


# -- the readers ---------------------------------------------------------------------------


def _head(pieces: list[bytes]) -> object:
    reader = request_reader()
    head, rest = _fed(reader, pieces)
    if head is None:
        return None
    upgrade = upgrade_of(head)
    claim = claim_of(head, upgrade.protocols if upgrade else ())
    redact(head.target)
    return head, rest, upgrade is None, claim.query, _body(head, rest)


def _answer(pieces: list[bytes]) -> object:
    return _fed(answer_reader(), pieces)


def _fed(reader: HeadReader[Any], pieces: list[bytes]) -> tuple[Any, bytes]:
    head = None
    after: list[bytes] = []
    for piece in pieces:
        if head is not None:
            after.append(piece)
        elif (head := reader.feed(piece)) is not None:
            after.append(reader.rest)
    return head, b"".join(after)


def _body(head: Any, rest: bytes) -> int:
    return request_body(head).feed(rest)


def _frames(make: Callable[[], FrameTracker]) -> Read:
    def read(pieces: list[bytes]) -> object:
        tracker = make()
        passed = b""
        for piece in pieces:
            passed += tracker.feed(piece)
            if isinstance(tracker, FrameRewriter):
                tracker.ping = None
        why = tracker.violation
        if why is None and not tracker.between_frames and not isinstance(tracker, FrameRewriter):
            return None  # how much of a frame under way has gone on depends on the pieces
        return passed, None if why is None else (why.code, str(why)), tracker.frames

    return read


def _proxy(pieces: list[bytes]) -> object:
    return read_header(b"".join(pieces))


def _config(pieces: list[bytes]) -> object:
    return parse(b"".join(pieces).decode("latin-1"), "fuzz.toml")


# -- what good octets look like ----------------------------------------------------------------


def _data_frame(first: int, payload: bytes, key: bytes) -> bytes:
    body = bytes(octet ^ key[at % 4] for at, octet in enumerate(payload)) if key else payload
    return frame_head(first, len(payload), key) + body


_UPGRADE = (
    b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaa/renderer?token=abc&x=%20 HTTP/1.1\r\n"
    b"Host: vis.example.org\r\n"
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://vis.example.org\r\n"
    b"Sec-WebSocket-Protocol: a, base64url.bearer.authorization.vsmgate.YWJj\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n\x81\x82abcdhi"
)
_POST = (
    b"POST /aaaaaaaaaaaaaaaaaaaaaaaaaa/viewer/x HTTP/1.1\r\nHost: [::1]:8888\r\n"
    b"Cookie: a=b; c=d\r\n"
    b"Transfer-Encoding: chunked\r\nAuthorization: Bearer abc\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)
_PUT = b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-Forwarded-For: 1.2.3.4\r\n\r\nhello"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b; Path=/\r\n\r\nok"
_WELCOME = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00"
_KEY = b"\x12\x34\x56\x78"
_MASKED = [
    _data_frame(0x81, b"hello", _KEY) + control_frame(9, b"ping", _KEY),
    _data_frame(0x01, b"a" * 126, _KEY) + _data_frame(0x80, b"b" * 70000, _KEY),
    control_frame(8, b"\x03\xe8bye", _KEY),
    _data_frame(0x02, b"", _KEY) + control_frame(10, b"", _KEY) + _data_frame(0x80, b"x", _KEY),
]
_PLAIN = [_data_frame(0x82, b"x" * 300, b""), control_frame(8, b"\x03\xe8")]
_LOOK = Service(view=View.BRAYNS, view_methods=("m",))
_JSON = b'{"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"x": [1, "\\u00e9"]}}'
_ASKED = [
    _data_frame(0x81, _JSON, _KEY) + control_frame(9, b"ping", _KEY),
    _data_frame(0x01, _JSON[:9], b"\1\2\3\4") + _data_frame(0x80, _JSON[9:], _KEY),
    _data_frame(0x82, len(_JSON).to_bytes(4, "little") + _JSON + b"pixels", b"\0\0\0\1"),
]
_FRONT = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\x50\1\xbb" + _UPGRADE

#: name -> reader, good inputs, how it refuses
TARGETS: Mapping[str, tuple[Read, list[bytes], type[Exception]]] = {
    "request head": (_head, [_UPGRADE, _POST, _PUT], GatewayError),
    "answer head": (_answer, [_OK, _WELCOME], GatewayError),
    "client frames": (
        _frames(lambda: FrameTracker(masked=True, max_frame=100_000)),
        _MASKED,
        GatewayError,
    ),
    "service frames": (_frames(lambda: FrameTracker(masked=False)), _PLAIN, GatewayError),
    "rewritten frames": (
        _frames(lambda: FrameRewriter(answer_pings=True, collect=100_000)),
        _MASKED,
        GatewayError,
    ),
    "viewers' frames": (
        _frames(lambda: view_tracker(_LOOK, False)),
        _ASKED,
        GatewayError,
    ),
    "proxy header": (_proxy, [_FRONT], HeaderError),
    "configuration": (
        _config,
        [(ROOT / "conf" / name).read_bytes() for name in ("vsmgate.toml", "production.toml")],
        ConfigError,
    ),
}

#: Octets that mean something to somebody.
_SPICE = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b'"', b"=", b"%", b"\xff"]
_SPICE += [
    b"\r\n ",
    b"0\r\n\r\n",
    b"\x7f\xff" * 4,
    b"\x80" * 8,
    b"Host: x\r\n",
    b"[",
    b"]]",
    b"1e999",
]
_SPICE += [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"99999999999999999999"]


def spoiled(chance: random.Random, good: list[bytes]) -> bytes:
    """Return one of ``good`` with up to eight things wrong in it."""
    octets = bytearray(chance.choice(good))
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(octets) + 1)
        to = min(len(octets), at + chance.choice([1, 1, 2, 4, 16, 100]))
        match chance.randrange(6):
            case 0:
                octets[at:at] = chance.choice(_SPICE)
            case 1:
                del octets[at:to]
            case 2:
                octets[at:to] = chance.randbytes(to - at)
            case 3:
                octets[at:at] = octets[at:to] * chance.choice([1, 1, 2, 50])
            case 4:
                octets += chance.choice(good)
            case _ if octets:
                octets[at % len(octets)] ^= 1 << chance.randrange(8)
    return bytes(octets[:150_000])


def pieces_of(chance: random.Random, octets: bytes) -> list[bytes]:
    """Return ``octets`` cut at up to six places."""
    cuts = sorted(chance.randrange(len(octets) + 1) for _ in range(chance.randint(1, 6)))
    return [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]


def outcome(read: Read, pieces: list[bytes], refusal: type[Exception]) -> object:
    """Return what ``pieces`` come to: a value, or the type of the refusal."""
    try:
        return read(pieces)
    except refusal as error:
        return type(error)


def attack(name: str, chance: random.Random) -> None:
    """Try one case; raises `Found`."""
    read, good, refusal = TARGETS[name]
    octets = spoiled(chance, good)
    pieces = pieces_of(chance, octets)
    try:
        whole = outcome(read, [octets], refusal)
        begun = time.perf_counter()
        apart = outcome(read, pieces, refusal)
        took = time.perf_counter() - begun
        for _ in range(2):
            if took > LONGEST:
                begun = time.perf_counter()
                outcome(read, pieces, refusal)
                took = min(took, time.perf_counter() - begun)
    except Exception as error:
        raise Found(f"{name}: {error!r} from {pieces!r}") from error
    if whole != apart:
        raise Found(f"{name}: {apart!r} instead of {whole!r} from {pieces!r}")
    if took > LONGEST and name != "configuration":  # read once, from a file of the operator's
        raise Found(f"{name}: {took:.3f} s for {pieces!r}")


def rest(examples: int, seed: int) -> int:
    """Run schemathesis against a gateway, for unknown jobs and for one's own; the worse status."""
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        configure(folder)
        own = fill(folder, 3)
        with gateway(folder) as (_, url):
            token = (folder / "state" / "token").read_text().strip()
            command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "st.toml", "run"]
            command += [f"{url}/openapi.json", "--header", f"Authorization: Bearer {token}"]
            command += ["--seed", str(seed), "--checks", ",".join(REST_CHECKS), "--warnings", "off"]
            command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)]
            statuses = []
            # Who waits for a change, or reads events, waits long; a job that is over says little.
            for parameters, left_out in (
                ("", ["--exclude-path-regex", "events"]),
                (f'"path.job_id" = "{own}"\n', ["--exclude-path-regex", "stop|events", *NO_DELETE]),
            ):
                config = f'[parameters]\n"query.wait" = 0\n{parameters}'
                (folder / "st.toml").write_text(config)
                statuses.append(subprocess.run([*command, *left_out], cwd=folder).returncode)
            return max(statuses)


NO_DELETE = ["--exclude-method", "DELETE"]
REST_CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method",
    "ignored_auth",
]  # fmt: skip


@click.command()
@click.option("--cases", default=200_000, show_default=True, help="For each reader.")
@click.option("--only", type=click.Choice(list(TARGETS)), multiple=True, help="Not all readers.")
@click.option("--rest", "examples", default=0, help="Also this many examples per REST call.")
@click.option("--seed", type=int, help="Of the chance; printed where it is not given.")
def fuzz(cases: int, only: tuple[str, ...], examples: int, seed: int | None) -> None:
    """Feed nonsense to whatever reads octets of strangers; status 1 when that does harm."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed}")
    for name in only or TARGETS:
        chance = random.Random(f"{seed} {name}")
        # Reading TOML is slow, and strangers do not write it.
        count = cases // 50 if name == "configuration" else cases
        try:
            for _ in range(count):
                attack(name, chance)
        except Found as found:
            click.echo(f"FOUND {found}")
            sys.exit(1)
        click.echo(f"  {name:20}{count:10} cases, nothing found")
    if examples:
        sys.exit(rest(examples, seed))


if __name__ == "__main__":
    fuzz(prog_name="bin/fuzz")
