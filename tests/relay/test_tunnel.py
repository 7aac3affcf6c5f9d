"""Every rule of the tunnel, with each engine: in memory and over loopback sockets."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from tests.relay.tunnel_rig import (
    LIMITS,
    Rig,
    in_memory,
    on_engine,
    on_loopback,
    on_mixed,
    on_tls,
    the_reactor,
)
from vsmgate.frames import (
    CLOSE,
    PING,
    PONG,
    FrameTracker,
    close_payload,
    control_frame,
    frame_head,
    masked,
)
from vsmgate.model import Fragments, Pings, Service
from vsmgate.relay.rules import TABLE, Act, Event, Phase
from vsmgate.relay.socket_wire import SocketWire
from vsmgate.relay.tunnel import Tunnel, TunnelLimits
from vsmgate.relay.watch import Watch
from vsmgate.relay.way import Way
from vsmgate.relay.wire import TransportWire

KEY = b"\x11\x22\x33\x44"
TEXT, BINARY, CONTINUATION, FIN = 1, 2, 0, 0x80

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

MakeRig = Callable[..., Awaitable[Rig]]


RIGS = {
    "memory": in_memory,
    "transports": on_loopback,
    "tls": on_tls,
    "sockets": on_engine,
    "mixed": on_mixed,
}


@pytest.fixture(params=RIGS.values(), ids=RIGS.keys())
def make_rig(request: pytest.FixtureRequest) -> MakeRig:
    return request.param  # type: ignore[no-any-return]


def skip_tls(make_rig: MakeRig) -> None:
    if make_rig in (on_tls, on_mixed):
        pytest.skip("TLS in Twisted has no half-closed connections")


def asked(payload: bytes, opcode: int = BINARY, fin: bool = True) -> bytes:
    """A client's frame."""
    return frame_head((FIN if fin else 0) | opcode, len(payload), KEY) + masked(payload, KEY)


def told(payload: bytes, opcode: int = BINARY, fin: bool = True) -> bytes:
    """A service's frame."""
    return frame_head((FIN if fin else 0) | opcode, len(payload), b"") + payload


def closes(code: int, reason: str = "") -> bytes:
    """A Close frame to the client."""
    return control_frame(CLOSE, close_payload(code, reason))


def unmasked(frame: bytes) -> bytes:
    """A short client frame without its mask."""
    assert frame[1] & 0x80
    assert frame[1] & 0x7F < 126
    return bytes((frame[0], frame[1] & 0x7F)) + masked(frame[6:], frame[2:6])


async def arrives(rig: Rig, service: bytes = b"", client: bytes = b"") -> None:
    """Wait until a peer has received all of that."""
    await rig.service.until(lambda: len(rig.service.octets) >= len(service))
    await rig.client.until(lambda: len(rig.client.octets) >= len(client))


@pytest.mark.criterion("C-18", "C-19")
@pytest_twisted.ensureDeferred
async def test_octets_pass_unchanged(make_rig: MakeRig) -> None:
    rig = await make_rig()
    up = asked(b"hi", TEXT) + asked(b"fragm", fin=False) + asked(b"p" * 125, PING)
    up += asked(b"ents" * 20_000, CONTINUATION)
    down = told(b"", TEXT) + told(b"p" * 125, PONG) + told(bytes(100_000))
    rig.client.send(up)
    rig.service.send(down)
    await arrives(rig, up, down)
    rig.client.drop()
    ending = await rig.over()
    assert (rig.service.stream, rig.client.stream) == (up, down)
    assert (ending.client_octets, ending.service_octets) == (len(up), len(down))
    assert (ending.client_frames, ending.service_frames) == (4, 3)


@pytest.mark.criterion("C-16")
@pytest_twisted.ensureDeferred
async def test_early_octets_go_first(make_rig: MakeRig) -> None:
    up, down = asked(b"early"), told(b"also early")
    rig = await make_rig(early_client=up[:7], early_service=down[:1])
    rig.client.send(up[7:] + asked(b"late"))
    rig.service.send(down[1:])
    await arrives(rig, up + asked(b"late"), down)
    assert rig.service.stream == up + asked(b"late")
    assert rig.client.stream == down
    rig.tunnel.abort()
    await rig.over()


CODES = [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4000, 4999]


@pytest.mark.criterion("C-6")
@pytest.mark.parametrize("reason", ["", "x", "ä" * 61 + "!"], ids=["none", "1", "123"])
@pytest.mark.parametrize("code", CODES)
@pytest_twisted.ensureDeferred
async def test_client_closes(make_rig: MakeRig, code: int, reason: str) -> None:
    rig = await make_rig()
    close = asked(close_payload(code, reason), CLOSE)
    rig.client.send(close)
    await arrives(rig, close)
    rig.service.send(closes(code, reason))
    rig.service.fin()
    ending = await rig.over()
    assert rig.service.stream == close
    assert rig.client.stream == closes(code, reason)
    assert (ending.initiator, ending.code, ending.reason) == ("client", code, reason)
    assert not rig.client.aborted


@pytest.mark.criterion("C-6")
@pytest.mark.parametrize("reason", ["", "x", "ä" * 61 + "!"], ids=["none", "1", "123"])
@pytest.mark.parametrize("code", CODES)
@pytest_twisted.ensureDeferred
async def test_service_closes(make_rig: MakeRig, code: int, reason: str) -> None:
    rig = await make_rig()
    rig.service.send(closes(code, reason))
    await arrives(rig, client=closes(code, reason))
    answer = asked(close_payload(code, reason), CLOSE)
    rig.client.send(answer)
    await arrives(rig, answer)
    rig.service.fin()
    ending = await rig.over()
    assert rig.service.stream == answer
    assert rig.client.stream == closes(code, reason)
    assert (ending.initiator, ending.code, ending.reason) == ("service", code, reason)
    assert not rig.client.aborted


@pytest.mark.criterion("C-7")
@pytest_twisted.ensureDeferred
async def test_close_without_code_stays_without(make_rig: MakeRig) -> None:
    rig = await make_rig()
    rig.client.send(asked(b"", CLOSE))
    await arrives(rig, asked(b"", CLOSE))
    rig.service.send(told(b"", CLOSE))
    rig.service.fin()
    ending = await rig.over()
    assert rig.client.stream == told(b"", CLOSE)
    assert ending.code == 1005


@pytest.mark.parametrize("how", ["fin", "drop"])
@pytest.mark.parametrize("payload", [b"", close_payload(4321, "bye")])
@pytest_twisted.ensureDeferred
async def test_service_that_never_answers_a_close(
    make_rig: MakeRig, how: str, payload: bytes
) -> None:
    """Brayns 3 drops the connection; its client sees a clean close none the less."""
    rig = await make_rig()
    rig.service.send(told(b"image"))
    rig.client.send(asked(payload, CLOSE))
    await arrives(rig, asked(payload, CLOSE), told(b"image"))
    getattr(rig.service, how)()
    ending = await rig.over()
    assert rig.client.stream == told(b"image") + told(payload, CLOSE)
    assert ending.initiator == "client"
    assert not rig.client.aborted


@pytest.mark.criterion("C-8")
@pytest.mark.parametrize("how", ["fin", "drop"])
@pytest_twisted.ensureDeferred
async def test_service_dies_between_frames(make_rig: MakeRig, how: str) -> None:
    rig = await make_rig()
    rig.service.send(told(b"one") + told(b"two"))
    await arrives(rig, client=told(b"one") + told(b"two"))
    getattr(rig.service, how)()
    ending = await rig.over()
    assert rig.client.stream == told(b"one") + told(b"two") + closes(1011, "backend lost")
    assert (ending.initiator, ending.code) == ("service", 1011)
    assert not rig.client.aborted


@pytest.mark.criterion("C-8")
@pytest.mark.parametrize("how", ["fin", "drop"])
@pytest_twisted.ensureDeferred
async def test_service_dies_inside_a_frame(make_rig: MakeRig, how: str) -> None:
    rig = await make_rig()
    seen = told(b"one") + told(b"three")[:-1]
    rig.service.send(seen)
    await arrives(rig, client=seen)
    getattr(rig.service, how)()
    ending = await rig.over()
    assert rig.client.stream == seen
    assert rig.client.aborted
    assert (ending.initiator, ending.code) == ("service", None)


@pytest_twisted.ensureDeferred
async def test_service_dies_inside_a_head(make_rig: MakeRig) -> None:
    """Heads go on when they are complete, so the client is still between two frames."""
    rig = await make_rig()
    rig.service.send(told(b"one") + told(bytes(70_000))[:5])
    rig.service.fin()
    await rig.over()
    assert rig.client.stream == told(b"one") + closes(1011, "backend lost")


@pytest.mark.criterion("C-9")
@pytest.mark.parametrize("seen", [asked(b"all"), asked(b"half")[:-2]], ids=["between", "inside"])
@pytest_twisted.ensureDeferred
async def test_client_vanishes(make_rig: MakeRig, seen: bytes) -> None:
    rig = await make_rig()
    rig.client.send(seen)
    await arrives(rig, seen)
    rig.client.drop()
    ending = await rig.over()
    assert rig.service.stream == seen
    assert (ending.initiator, ending.code) == ("client", None)


@pytest.mark.criterion("C-23")
@pytest.mark.parametrize(
    ("last", "code"),
    [(asked(b"last wish"), None), (asked(b"", CLOSE), 1005)],
    ids=["data", "close"],
)
@pytest_twisted.ensureDeferred
async def test_client_that_only_stops_sending(
    make_rig: MakeRig, last: bytes, code: int | None
) -> None:
    """Its FIN reaches the service; what the service still says reaches the client."""
    skip_tls(make_rig)
    rig = await make_rig()
    rig.client.send(last)
    rig.client.fin()
    await rig.service.until(lambda: rig.service.ended)
    assert rig.service.stream == last
    rig.service.send(told(bytes(500_000)) + told(b"end"))
    rig.service.fin()
    ending = await rig.over()
    answer = b"" if code is None else told(b"", CLOSE)
    assert rig.client.stream == told(bytes(500_000)) + told(b"end") + answer
    assert not rig.client.aborted
    assert (ending.initiator, ending.code) == ("client", code)


@pytest.mark.criterion("C-23")
@pytest_twisted.ensureDeferred
async def test_service_that_ignores_a_fin(make_rig: MakeRig) -> None:
    skip_tls(make_rig)
    rig = await make_rig()
    rig.client.fin()
    await rig.service.until(lambda: rig.service.ended)
    rig.pass_time(LIMITS.linger - 0.5)
    assert not rig.endings
    rig.pass_time(0.5)
    await rig.over(close=False)


# -- the gateway's own close --------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_gateway_closes_between_frames(make_rig: MakeRig) -> None:
    rig = await make_rig()
    rig.client.send(asked(b"one"))
    rig.service.send(told(b"two") + told(bytes(70_000))[:3])
    await arrives(rig, asked(b"one"), told(b"two"))
    rig.tunnel.close(4410, "The job has ended.")
    rig.tunnel.close(1012, "only the first counts")
    await rig.client.until(lambda: rig.client.ended or rig.client.lost)
    await rig.service.until(lambda: rig.service.ended)
    rig.client.send(asked(b"too late"))
    rig.service.send(told(b"too late"))
    ending = await rig.over()
    close = closes(4410, "The job has ended.")
    assert rig.client.stream == told(b"two") + close
    one = asked(b"one")
    assert rig.service.stream[: len(one)] == one
    assert unmasked(rig.service.stream[len(one) :]) == close
    assert (ending.initiator, ending.code, ending.reason) == (
        "gateway",
        4410,
        "The job has ended.",
    )
    assert not rig.client.aborted


@pytest_twisted.ensureDeferred
async def test_gateway_closes_inside_frames(make_rig: MakeRig) -> None:
    """Both frames under way are completed, then comes the Close, and no other frame.

    (Over TLS the client's is not: who sent a close alert reads nothing more.)
    """
    skip_tls(make_rig)
    rig = await make_rig()
    up, down = asked(b"u" * 1000), told(b"d" * 1000)
    rig.client.send(up[:500])
    rig.service.send(down[:500])
    await arrives(rig, up[:500], down[:500])
    rig.tunnel.close(1012, "restart")
    assert (rig.service.stream, rig.client.stream) == (up[:500], down[:500])
    rig.client.send(up[500:900])
    rig.service.send(down[500:] + told(b"not this"))
    await arrives(rig, up[:900], down)
    rig.client.send(up[900:] + asked(b"nor this"))
    ending = await rig.over()
    assert rig.client.stream == down + closes(1012, "restart")
    assert rig.service.stream[: len(up)] == up
    assert unmasked(rig.service.stream[len(up) :]) == closes(1012, "restart")
    assert ending.code == 1012


@pytest.mark.parametrize("how", ["time", "fin", "drop"])
@pytest_twisted.ensureDeferred
async def test_gateway_closes_inside_a_frame_without_end(make_rig: MakeRig, how: str) -> None:
    rig = await make_rig()
    down = told(b"d" * 1000)[:500]
    rig.service.send(down)
    await arrives(rig, client=down)
    rig.tunnel.close(1012, "restart")
    if how == "time":
        rig.pass_time(LIMITS.linger)
    else:
        getattr(rig.service, how)()
    ending = await rig.over()
    assert rig.client.stream == down
    assert rig.client.aborted
    assert (ending.initiator, ending.code) == ("gateway", 1012)


@pytest_twisted.ensureDeferred
async def test_client_leaves_inside_a_frame_while_the_gateway_closes(make_rig: MakeRig) -> None:
    rig = await make_rig()
    up = asked(b"u" * 1000)[:500]
    rig.client.send(up)
    await arrives(rig, up)
    rig.tunnel.close(1012, "restart")
    rig.client.fin()
    await rig.over()
    assert rig.service.stream == up
    assert rig.client.stream == closes(1012, "restart")


@pytest_twisted.ensureDeferred
async def test_gateway_closes_after_the_client_did(make_rig: MakeRig) -> None:
    """The service has the client's Close already; only the client hears the gateway."""
    rig = await make_rig()
    close = asked(close_payload(1000), CLOSE)
    rig.client.send(close)
    await arrives(rig, close)
    rig.tunnel.close(1012, "restart")
    ending = await rig.over()
    assert rig.service.stream == close
    assert rig.client.stream == closes(1012, "restart")
    assert (ending.initiator, ending.code) == ("client", 1000)


@pytest_twisted.ensureDeferred
async def test_abort(make_rig: MakeRig) -> None:
    rig = await make_rig()
    rig.tunnel.abort()
    rig.tunnel.abort()
    ending = await rig.over()
    rig.tunnel.abort()
    rig.tunnel.close(1012, "too late")
    assert (rig.client.stream, rig.service.stream) == (b"", b"")
    assert rig.client.aborted
    assert rig.service.aborted
    assert (ending.initiator, ending.code) == ("gateway", None)
    assert len(rig.endings) == 1


# -- violations --------------------------------------------------------------------------


@pytest.mark.criterion("C-21", "C-22")
@pytest.mark.parametrize(
    ("bad", "code"), [(told(b"no mask"), 1002), (asked(bytes(1001))[:8], 1009)]
)
@pytest_twisted.ensureDeferred
async def test_client_breaks_the_protocol(make_rig: MakeRig, bad: bytes, code: int) -> None:
    """The service is told, nothing of the frame goes on, and what came before is answered."""
    rig = await make_rig(spec=Service(max_message=1000))
    good = asked(bytes(1000))
    rig.client.send(good + bad)
    await arrives(rig, good + asked(b"12", CLOSE))
    await rig.service.until(lambda: len(rig.service.octets) > len(good) + 6)
    rig.client.send(asked(b"nobody reads this"))
    rig.service.send(told(b"answer") + closes(code))
    ending = await rig.over()
    assert rig.service.stream[: len(good)] == good
    assert unmasked(rig.service.stream[len(good) :]) == closes(code, ending.reason)
    assert rig.client.stream == told(b"answer") + closes(code)
    assert not rig.client.aborted
    assert (ending.initiator, ending.code) == ("gateway", code)


@pytest.mark.parametrize("how", ["silence", "chatter", "fin", "drop", "gateway"])
@pytest_twisted.ensureDeferred
async def test_service_that_says_nothing_of_a_broken_client(make_rig: MakeRig, how: str) -> None:
    """The client hears of its fault from the gateway, and soon, whatever the service does."""
    rig = await make_rig()
    rig.client.send(told(b"no mask"))
    close = closes(1002, "no mask")
    await arrives(rig, close + bytes(4))
    heard = b""
    if how == "silence":
        rig.pass_time(LIMITS.linger)
    elif how == "gateway":
        rig.tunnel.close(1012, "restart")
        close = closes(1012, "restart")
    elif how == "chatter":
        for _ in range(round(LIMITS.linger)):
            rig.service.send(told(b"image"))
            heard += told(b"image")
            await arrives(rig, client=heard)
            rig.pass_time(1)
    else:
        getattr(rig.service, how)()
    ending = await rig.over()
    assert rig.client.stream == heard + close
    assert unmasked(rig.service.stream) == closes(1002, "no mask")
    assert (ending.initiator, ending.code) == ("gateway", 1002)


@pytest_twisted.ensureDeferred
async def test_client_breaks_the_protocol_around_a_close(make_rig: MakeRig) -> None:
    """After its Close nobody reads on; after the service's it is told in the usual way."""
    rig = await make_rig()
    close = asked(close_payload(1000), CLOSE)
    rig.client.send(close + told(b"no mask"))
    await arrives(rig, close)
    rig.service.send(closes(1000))
    rig.service.fin()
    ending = await rig.over()
    assert (rig.service.stream, rig.client.stream) == (close, closes(1000))
    assert (ending.initiator, ending.code) == ("client", 1000)
    rig = await make_rig()
    rig.service.send(closes(1000))
    await arrives(rig, client=closes(1000))
    rig.client.send(told(b"no mask"))
    ending = await rig.over()
    assert unmasked(rig.service.stream) == closes(1002, "no mask")
    assert (ending.initiator, ending.code) == ("service", 1000)


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1016, 2999, 5000, 65535])
@pytest_twisted.ensureDeferred
async def test_wrong_close_is_not_given_back(make_rig: MakeRig, code: int) -> None:
    """It reaches the service as it is; where that drops the connection, 1002 comes back."""
    rig = await make_rig()
    close = asked(close_payload(code, "x"), CLOSE)
    rig.client.send(close)
    await arrives(rig, close)
    rig.service.fin()
    await rig.over()
    assert rig.service.stream == close
    assert rig.client.stream == closes(1002)


@pytest_twisted.ensureDeferred
async def test_service_breaks_the_protocol(make_rig: MakeRig) -> None:
    rig = await make_rig()
    rig.service.send(told(b"good") + asked(b"masked"))
    ending = await rig.over()
    assert rig.client.stream == told(b"good") + closes(1002, ending.reason)
    assert ending.code == 1002


@pytest_twisted.ensureDeferred
async def test_compressed_frames_need_the_extension(make_rig: MakeRig) -> None:
    frame = bytes((told(b"z")[0] | 0x40,)) + told(b"z")[1:]
    rig = await make_rig(extensions=True)
    rig.service.send(frame)
    await arrives(rig, client=frame)
    rig.tunnel.abort()
    await rig.over()
    rig = await make_rig()
    rig.service.send(frame)
    assert (await rig.over()).code == 1002


# -- what Brayns 3 needs ------------------------------------------------------------------

BRAYNS = Service(pings=Pings.ANSWER, fragments=Fragments.COALESCE)


@pytest.mark.criterion("C-19")
@pytest_twisted.ensureDeferred
async def test_pings_are_answered_by_the_gateway(make_rig: MakeRig) -> None:
    rig = await make_rig(spec=BRAYNS)
    rig.client.send(asked(b"fir", TEXT, fin=False) + asked(b"p1", PING))
    await arrives(rig, client=told(b"p1", PONG))
    rig.client.send(asked(b"x", PONG) + asked(b"st", CONTINUATION) + asked(b"second"))
    both = asked(b"first", TEXT) + asked(b"second")
    await arrives(rig, both)
    rig.client.drop()
    await rig.over()
    assert rig.service.stream == both
    assert rig.client.stream == told(b"p1", PONG)


@pytest_twisted.ensureDeferred
async def test_pong_waits_for_the_end_of_a_frame(make_rig: MakeRig) -> None:
    rig = await make_rig(spec=BRAYNS)
    image = told(bytes(1000))
    rig.service.send(image[:500])
    await arrives(rig, client=image[:500])
    rig.client.send(asked(b"p1", PING) + asked(b"p2", PING) + asked(b"mark"))
    await arrives(rig, asked(b"mark"))
    assert rig.client.stream == image[:500]
    rig.service.send(image[500:700])
    await arrives(rig, client=image[:700])
    rig.service.send(image[700:])
    expected = image + told(b"p2", PONG)  # RFC 6455, 5.5.3: the latest is enough
    await arrives(rig, client=expected)
    assert rig.client.stream == expected
    rig.tunnel.abort()
    await rig.over()


@pytest_twisted.ensureDeferred
async def test_pings_of_a_client_that_does_not_read(make_rig: MakeRig) -> None:
    """They do not heap up Pongs: one is kept."""
    rig = await in_memory(spec=BRAYNS)
    rig.client.stall()
    rig.service.send(told(bytes(70_000)))
    held = rig.client.waiting()  # type: ignore[attr-defined]
    for number in range(1000):
        rig.client.send(asked(b"%d" % number, PING))
    assert rig.client.waiting() == held  # type: ignore[attr-defined]
    rig.client.read()
    assert rig.client.stream == told(bytes(70_000)) + told(b"999", PONG)
    rig.tunnel.abort()
    await rig.over()


@pytest_twisted.ensureDeferred
async def test_no_pong_after_a_close(make_rig: MakeRig) -> None:
    rig = await make_rig(spec=BRAYNS)
    rig.service.send(closes(1000))
    await arrives(rig, client=closes(1000))
    rig.client.send(asked(b"p", PING) + asked(close_payload(1000), CLOSE))
    await arrives(rig, asked(close_payload(1000), CLOSE))
    rig.service.fin()
    await rig.over()
    assert rig.client.stream == closes(1000)


@pytest_twisted.ensureDeferred
async def test_message_too_big_to_join(make_rig: MakeRig) -> None:
    rig = await make_rig(spec=Service(fragments=Fragments.COALESCE, max_message=1000))
    rig.client.send(asked(bytes(600), fin=False) + asked(bytes(401), CONTINUATION))
    told_service = closes(1009, "message too big")
    await arrives(rig, told_service + bytes(4))
    rig.service.send(closes(1009))
    ending = await rig.over()
    assert unmasked(rig.service.stream) == told_service
    assert rig.client.stream == closes(1009)
    assert ending.code == 1009


# -- clocks ------------------------------------------------------------------------------


@pytest.mark.criterion("C-20")
@pytest_twisted.ensureDeferred
async def test_idle(make_rig: MakeRig) -> None:
    rig = await make_rig(spec=Service(idle_timeout=8.0))
    rig.pass_time(6)
    rig.client.send(asked(b"", PING))
    await arrives(rig, asked(b"", PING))
    rig.pass_time(7)
    assert not rig.client.ended
    rig.pass_time(5)
    ending = await rig.over()
    assert rig.client.stream == closes(4408, "idle")
    assert unmasked(rig.service.stream[len(asked(b"", PING)) :]) == closes(4408, "idle")
    assert (ending.initiator, ending.code) == ("gateway", 4408)


@pytest_twisted.ensureDeferred
async def test_close_without_answer(make_rig: MakeRig) -> None:
    """A service that hangs does not keep a client that closed."""
    rig = await make_rig()
    close = asked(close_payload(1000, "done"), CLOSE)
    rig.client.send(close)
    await arrives(rig, close)
    rig.pass_time(LIMITS.linger * 1.5)
    ending = await rig.over()
    assert rig.client.stream == closes(1000, "done")
    assert rig.service.stream == close
    assert ending.initiator == "client"


@pytest.mark.parametrize("answered", [False, True])
@pytest_twisted.ensureDeferred
async def test_service_closes_and_nobody_hangs_up(make_rig: MakeRig, answered: bool) -> None:
    rig = await make_rig()
    rig.service.send(closes(1000))
    await arrives(rig, client=closes(1000))
    if answered:
        rig.client.send(asked(close_payload(1000), CLOSE))
        await arrives(rig, asked(close_payload(1000), CLOSE))
    rig.pass_time(LIMITS.linger * 1.5)
    ending = await rig.over()
    assert rig.client.stream == closes(1000)
    assert ending.initiator == "service"


@pytest.mark.criterion("C-11")
@pytest_twisted.ensureDeferred
async def test_stalled_client_that_reads_again() -> None:
    rig = await in_memory()
    rig.client.stall()
    rig.service.send(told(bytes(100_000)))
    rig.service.send(told(b"waits at the service"))
    assert rig.service.paused  # type: ignore[attr-defined]
    rig.pass_time(119)
    assert not rig.endings
    rig.pass_time(LIMITS.dead_peer_timeout / 4 + 1)
    rig.client.read()
    ending = await rig.over()
    assert rig.client.stream == told(bytes(100_000)) + closes(1013, "too slow a reader")
    assert (ending.initiator, ending.code) == ("gateway", 1013)


@pytest.mark.criterion("C-11")
@pytest.mark.parametrize("side", ["client", "service"])
@pytest_twisted.ensureDeferred
async def test_stalled_reader(side: str) -> None:
    rig = await in_memory()
    to_client = side == "client"
    reader, writer = (rig.client, rig.service) if to_client else (rig.service, rig.client)
    reader.stall()
    writer.send((told if to_client else asked)(bytes(100_000)))
    rig.pass_time(60)
    rig.pass_time(60 + 15)
    assert not reader.lost
    rig.pass_time(LIMITS.linger)
    ending = await rig.over()
    assert reader.aborted
    assert ending.code == 1013


@pytest_twisted.ensureDeferred
async def test_slow_reader_is_not_stalled() -> None:
    rig = await in_memory()
    wire: Any = rig.client
    wire.stall()
    rig.service.send(told(bytes(100_000)))
    for _ in range(30):
        rig.pass_time(30)
        del wire.waits[:100]  # it takes a little
        assert not wire.lost
    rig.tunnel.abort()
    await rig.over()


@pytest.mark.criterion("C-9")
@pytest_twisted.ensureDeferred
async def test_dead_peer() -> None:
    """Its kernel acknowledges nothing: dropped after half the time of a stalled one."""
    rig = await in_memory()
    wire: Any = rig.client
    wire.stall()
    wire.acked = False
    rig.service.send(told(b"into the void"))
    rig.pass_time(59)
    assert not wire.lost
    rig.pass_time(31)
    assert wire.lost
    ending = await rig.over()
    assert (ending.initiator, ending.code) == ("client", None)
    assert rig.service.stream == b""


@pytest_twisted.ensureDeferred
async def test_idle_tunnel_has_one_timer() -> None:
    rig = await in_memory()
    for _ in range(20):
        rig.client.send(asked(b"x"))
        rig.service.send(told(b"y"))
        assert len(rig.clock.getDelayedCalls()) == 1
    rig.tunnel.abort()
    await rig.over()


@pytest.mark.criterion("C-20")
@pytest_twisted.ensureDeferred
async def test_activity_is_the_clients_data(make_rig: MakeRig) -> None:
    rig = await make_rig(spec=BRAYNS)
    rig.client.send(asked(b"", PING) + asked(b"", PONG))
    await arrives(rig, client=told(b"", PONG))
    rig.service.send(told(b"data"))
    await arrives(rig, client=told(b"", PONG) + told(b"data"))
    assert rig.activity == []
    sent = b""
    for _ in range(12):
        rig.client.send(asked(b"x") * 3)
        sent += asked(b"x") * 3
        await arrives(rig, sent)
        rig.clock.advance(0.25)
    assert rig.activity == [0.0, 1.0, 2.0]
    rig.tunnel.abort()
    await rig.over()


@pytest_twisted.ensureDeferred
async def test_long_frame_is_activity_all_the_time() -> None:
    rig = await in_memory()
    frame = asked(bytes(1_000_000))
    for at in range(0, 1_000_000, 10_000):
        rig.client.send(frame[at : at + 10_000])
        rig.pass_time(10)
    assert len(rig.activity) > 50
    rig.tunnel.abort()
    await rig.over()


# -- nothing is left ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_nothing_keeps_a_tunnel_alive(make_rig: MakeRig) -> None:
    """After its end no cycle holds it: it goes without the garbage collector."""
    rig = await make_rig(limits=TunnelLimits())
    rig.client.send(asked(b"x"))
    await arrives(rig, asked(b"x"))
    rig.service.fin()
    await rig.over()
    await deferLater(the_reactor(), 0)  # let the tunnel's own calls return
    gc.collect()
    gc.disable()
    try:
        del rig.tunnel
        kinds = (Tunnel, Watch, Way, TransportWire, SocketWire, FrameTracker)
        assert [each for each in gc.get_objects() if isinstance(each, kinds)] == []
    finally:
        gc.enable()


# -- the table ----------------------------------------------------------------------------


def test_table_is_total() -> None:
    assert set(TABLE) == set(Phase)
    for row in TABLE.values():
        assert set(row) == set(Event)


def test_no_phase_but_the_first_is_open() -> None:
    assert [
        (phase, event)
        for phase, row in TABLE.items()
        for event, (after, _) in row.items()
        if after is Phase.OPEN or (phase is Phase.ENDING and after is not Phase.ENDING)
    ] == []


def test_nobody_is_told_after_a_close() -> None:
    """No Close frame goes to a side that was sent one before."""
    to_client = {Act.TELL_CLIENT, Act.TELL_LOST, Act.ANSWER_CLIENT}
    for phase in (Phase.SERVICE_CLOSED, Phase.BOTH_CLOSED):
        assert not to_client & {act for _, acts in TABLE[phase].values() for act in acts}
    for phase in (Phase.CLIENT_CLOSED, Phase.BOTH_CLOSED):
        assert all(Act.TELL_SERVICE not in acts for _, acts in TABLE[phase].values())
