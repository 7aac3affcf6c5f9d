"""What a relay does about its client's right: viewers, and rights that end."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.relay.rig import JOB, TOKEN, FakeDesk, Rig, answer_in, head_in, request, welcome
from tests.relay.test_tunnel import (
    PING,
    TEXT,
    MakeRig,
    arrives,
    asked,
    closes,
    make_rig,
    told,
    unmasked,
)
from vsmgate.frames import CLOSE
from vsmgate.grants import Right
from vsmgate.model import Service, View

__all__ = ["make_rig"]  # the fixture: every engine

LOOK = Service(view=View.JSONRPC, view_methods=("get-image",))
ASK, QUIT = (f'{{"method": "{name}"}}'.encode() for name in ("get-image", "quit"))
TARGET = f"/{JOB}/renderer?token={TOKEN}"
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


@pytest.mark.parametrize("early", [False, True], ids=["", "early"])
@pytest_twisted.ensureDeferred
async def test_a_viewer_is_closed_for_what_it_may_not_send(make_rig: MakeRig, early: bool) -> None:
    good, bad = asked(ASK, TEXT), asked(QUIT, TEXT)
    rig = await make_rig(spec=LOOK, view_only=True, early_client=good if early else b"")
    if not early:
        rig.client.send(good)
    picture = told(b"\xff\xd8" + b"p" * 100_000)
    rig.service.send(picture)
    await arrives(rig, good, picture)
    rig.client.send(bad + good)
    ending = await rig.over()
    reason = "you may only look: this method is not for viewers"
    assert rig.client.stream == picture + closes(4403, reason)
    up = rig.service.stream
    assert up.startswith(good)
    assert unmasked(up[len(good) :]) == closes(4403, reason)
    assert (ending.initiator, ending.code) == ("gateway", 4403)
    assert rig.activity == []  # a viewer does not keep a job from being idle


@pytest_twisted.ensureDeferred
async def test_a_receiver_gets_everything_and_sends_nothing(make_rig: MakeRig) -> None:
    rig = await make_rig(spec=Service(view=View.RECEIVE), view_only=True)
    ping, down = asked(b"p", PING), told(bytes(50_000)) + told(b"hi", TEXT)
    rig.client.send(ping)
    rig.service.send(down)
    await arrives(rig, ping, down)
    rig.client.send(asked(b"", TEXT))
    assert (await rig.over()).code == 4403
    assert rig.client.stream.startswith(down + b"\x88")
    assert rig.service.stream.startswith(ping + b"\x88")


@pytest_twisted.ensureDeferred
async def test_a_close_of_a_viewers_own_passes(make_rig: MakeRig) -> None:
    rig = await make_rig(spec=LOOK, view_only=True)
    bye = asked(b"\x03\xe8bye", CLOSE)
    rig.client.send(bye)
    await arrives(rig, bye)
    rig.service.send(closes(1000, "bye"))
    await arrives(rig, bye, closes(1000, "bye"))
    rig.service.close()
    ending = await rig.over()
    assert (ending.initiator, ending.code, rig.service.stream) == ("client", 1000, bye)


def viewing(spec: Service = LOOK) -> Rig:
    desk = FakeDesk(renderer=spec)
    desk.right = Right.VIEW
    return Rig(desk)


def test_messages_that_must_be_read_are_not_compressed() -> None:
    for rig, offered in (
        (viewing(), None),
        (viewing(Service(view=View.RECEIVE)), "permessage-deflate"),
        (Rig(FakeDesk(renderer=LOOK)), "permessage-deflate"),
    ):
        client = rig.asked(request(TARGET, DEFLATE))
        service = rig.service()
        asked_for = service.read()
        assert head_in(asked_for).one("Sec-WebSocket-Extensions") == offered
        lines = [f"Sec-WebSocket-Extensions: {offered}"] if offered else []
        service.send(welcome(asked_for, *lines))
        head, _ = answer_in(client.read())
        assert (head.status, head.one("Sec-WebSocket-Extensions")) == (101, offered)


def test_a_viewers_query_does_not_reach_the_service() -> None:
    for rig, crossed in (
        (viewing(), b"GET / HTTP/1.1\r\n"),
        (Rig(FakeDesk(renderer=LOOK)), b"GET /?do=quit HTTP/1.1\r\n"),
    ):
        rig.asked(request(f"{TARGET}&do=quit" if "?" in TARGET else f"{TARGET}?do=quit"))
        assert rig.service().read().startswith(crossed)


def test_who_was_let_in_leaves_a_place_for_the_owner() -> None:
    for most, guests in ((1, 1), (2, 1), (3, 2)):
        desk = FakeDesk(renderer=Service(max_clients=most))
        rig = Rig(desk)
        desk.right = Right.CONTROL
        for _ in range(guests):
            rig.opened()
        assert answer_in(rig.asked(request()).read())[0].status == 429
        desk.right = Right.OWNER
        for _ in range(most - guests):
            rig.opened()
        assert answer_in(rig.asked(request()).read())[0].status == 429


def test_a_relay_is_closed_when_its_right_ends() -> None:
    rig = Rig()
    client, service = rig.opened()
    ((target, relay, revoked),) = rig.desk.visits
    assert (target.identity.subject, relay) == ("ada", True)
    revoked()
    rig.settle()
    assert client.read() == closes(4403, "Your right on this job has ended.")
    assert service.read()[:1] == b"\x88"
    client.drop()
    service.drop()
    assert rig.desk.visits == []


def test_one_whose_right_ended_during_the_opening_is_closed_too() -> None:
    class Revoking(FakeDesk):
        def visit(self, target, relay, revoked):  # type: ignore[no-untyped-def]
            revoked()
            return super().visit(target, relay, revoked)

    rig = Rig(Revoking())
    client, _ = rig.opened()
    rig.settle()
    assert client.read() == closes(4403, "Your right on this job has ended.")


def test_one_that_is_gone_is_not_closed_again() -> None:
    rig = Rig()
    client, service = rig.opened()
    ((_, _, revoked),) = rig.desk.visits
    client.drop()
    service.drop()
    revoked()
    rig.settle()
    assert rig.relay.relays == 0


def test_a_plain_request_is_no_presence_and_ends_with_its_right() -> None:
    rig = Rig(FakeDesk(renderer=Service(http=True)))
    client = rig.asked(request(TARGET.replace("?", "/page?"), upgrade=False))
    rig.service()
    ((_, relay, revoked),) = rig.desk.visits
    assert relay is False
    revoked()
    rig.settle()
    assert answer_in(client.read())[0].status == 403
