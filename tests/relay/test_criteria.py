"""The acceptance criteria C-1 to C-30: what other tests do not show, and that none is forgotten.

A test that shows a criterion says so by ``@pytest.mark.criterion("C-7")``; docs/relay.md
tells in which bounds some of them are shown.
"""

from __future__ import annotations

import ast
import re
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.relay.rig import JOB, TOKEN, FakeDesk, Rig, head_in, problem, request
from tests.relay.tunnel_rig import in_memory, on_engine, on_loopback
from vsmgate.errors import GatewayError
from vsmgate.frames import CLOSE, close_payload, control_frame, frame_head
from vsmgate.model import Service

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
KEY = b"\x01\x02\x03\x04"


class Total:
    """Stands for octets of which only the number counts."""

    def __init__(self) -> None:
        self.size = 0

    def __iadd__(self, data: bytes) -> Total:
        self.size += len(data)
        return self

    def __len__(self) -> int:
        return self.size


@pytest.mark.criterion("C-18")
@pytest.mark.parametrize("to_client", [True, False], ids=["down", "up"])
@pytest_twisted.ensureDeferred
async def test_a_frame_of_three_gibibytes(to_client: bool) -> None:
    """It goes through piece by piece, and nothing of it is held."""
    size = 3 * 1024 * MIB
    rig = await in_memory()
    writer, reader = (rig.service, rig.client) if to_client else (rig.client, rig.service)
    total: Any = Total()
    reader.octets = total
    head = frame_head(0x82, size, b"" if to_client else KEY)
    piece = bytes(MIB)
    writer.send(head)
    tracemalloc.start()
    try:
        for _ in range(size // MIB):
            writer.send(piece)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total.size == len(head) + size
    assert most < 3 * MIB  # the rig's own copies of one piece
    reader.octets = bytearray()
    writer.send(control_frame(CLOSE, close_payload(1000), b"" if to_client else KEY))
    assert len(reader.octets) == (4 if to_client else 8)  # the frame's end was found
    rig.tunnel.abort()
    await rig.over()


@pytest.mark.criterion("C-18")
@pytest.mark.parametrize("make_rig", [on_loopback, on_engine], ids=["transports", "sockets"])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, MIB, 64 * MIB])
@pytest_twisted.ensureDeferred
async def test_frames_of_all_lengths(make_rig: Any, size: int) -> None:
    rig = await make_rig()
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    up, down = frame_head(0x82, size, bytes(4)) + payload, frame_head(0x82, size, b"") + payload
    rig.client.send(up)
    rig.service.send(down)
    await rig.service.until(lambda: len(rig.service.octets) >= len(up))
    await rig.client.until(lambda: len(rig.client.octets) >= len(down))
    assert rig.service.octets == up
    assert rig.client.octets == down
    rig.tunnel.abort()
    await rig.over()


@pytest.mark.criterion("C-14")
def test_what_connection_names_does_not_cross() -> None:
    rig = Rig()
    named = "Connection: Upgrade, X-Forwarded-For, Authorization, User-Agent"
    rig.asked(
        request(
            f"/{JOB}/renderer?token={TOKEN}",
            "X-Forwarded-For: 6.6.6.6",
            "User-Agent: me/1",
        ).replace(b"Connection: Upgrade", named.encode())
    )
    head = head_in(rig.service().read())
    assert head.all("X-Forwarded-For") == ("192.0.2.7",)
    assert head.one("Authorization") is None
    assert "me/1" not in str(head.headers)
    assert head.tokens("Connection") == ("Upgrade",)


@pytest.mark.criterion("C-25")
@pytest.mark.parametrize("start", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/2\r\n\r\n"])
def test_http_2_is_refused_and_closed(start: bytes) -> None:
    rig = Rig()
    client = rig.asked(start)
    assert problem(client)[0] == 400
    assert rig.dials == 0


@pytest.mark.criterion("C-27")
def test_two_relays_to_one_job_are_independent() -> None:
    rig = Rig(FakeDesk(renderer=Service(max_clients=2)))
    (first, its_service), (second, other_service) = rig.opened(), rig.opened()
    first.send(b"\x83")  # against the protocol
    its_service.drop()
    first.drop()
    assert its_service.disconnecting or its_service.gone
    second.send(b"\x81\x82\0\0\0\0hi")
    other_service.send(b"\x81\x02ho")
    assert other_service.read() == b"\x81\x82\0\0\0\0hi"
    assert second.read() == b"\x81\x02ho"
    assert rig.relay.relays == 1


@pytest.mark.criterion("S-20")
@pytest.mark.parametrize("to_client", [True, False], ids=["down", "up"])
@pytest_twisted.ensureDeferred
async def test_s20_a_bomb_stays_what_it_is(to_client: bool) -> None:
    """128 MiB in 130 KB (RFC 7692): the same octets arrive, and nothing is inflated."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(128))
    bomb = (bomb + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert 100_000 < len(bomb) < 200_000
    rig = await in_memory(extensions=True)
    writer, reader = (rig.service, rig.client) if to_client else (rig.client, rig.service)
    sent = frame_head(0xC2, len(bomb), b"" if to_client else bytes(4)) + bomb
    tracemalloc.start()
    try:
        writer.send(sent)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.octets == sent
    assert most < MIB
    rig.tunnel.abort()
    await rig.over()


# -- the list --------------------------------------------------------------------------------


def shown() -> Iterator[str]:
    """Yield the criteria that tests carry."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.criterion":
                yield from (ast.literal_eval(name) for name in node.args)


def named(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """Yield an error's type and all below it."""
    yield error
    for below in error.__subclasses__():
        yield from named(below)


def test_every_criterion_is_shown_by_a_test() -> None:
    criteria = {name for name in shown() if name.startswith("C-")}
    assert criteria == {f"C-{number}" for number in range(1, 31)}


def test_the_statuses_of_the_page_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "relay.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| .+ \|$", text, re.MULTILINE)
    assert len(rows) > 20
    known = {(str(error.status), error.code) for error in named(GatewayError)}
    assert set(rows) <= known
