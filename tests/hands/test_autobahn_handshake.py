from __future__ import annotations

import subprocess
import sys

import pytest

from tests.relay.rig import KEY, KEY_ACCEPTED, answer_in, head_in, request, welcome
from vsmgate.errors import BadHandshake, BadRequest
from vsmgate.hands.autobahn_handshake import (
    NO_REACTOR,
    Answer,
    ClientHandshake,
    ServiceHandshake,
)


def asking(protocols: str = "", extensions: str = "") -> ServiceHandshake:
    return ServiceHandshake(
        host="10.0.0.1",
        port=5000,
        target="/?a=b",
        headers={"X-Request-Id": "r"},
        protocols=tuple(name.strip() for name in protocols.split(",")) if protocols else (),
        protocols_text=protocols,
        extensions=extensions,
    )


def test_back_to_back() -> None:
    theirs = asking("a,b", "permessage-deflate; x")
    head = head_in(theirs.request)
    assert head.target == "/?a=b"
    assert head.one("Sec-WebSocket-Extensions") == "permessage-deflate; x"
    answer = Answer("b", "permessage-deflate; server_no_context_takeover")
    octets = ClientHandshake(head, ("a", "b")).accept(answer)
    assert theirs.check(answer_in(octets)[0]) == answer
    assert NO_REACTOR.getDelayedCalls() == []


def test_the_key_is_answered() -> None:
    head = head_in(request())
    assert head.one("Sec-WebSocket-Key") == KEY
    answer, rest = answer_in(ClientHandshake(head, ()).accept(Answer("", "")))
    assert answer.one("Sec-WebSocket-Accept") == KEY_ACCEPTED
    assert [name for name, _ in answer.headers] == ["Upgrade", "Connection", "Sec-WebSocket-Accept"]
    assert rest == b""


def test_every_key_is_new() -> None:
    keys = {head_in(asking().request).one("Sec-WebSocket-Key") for _ in range(10)}
    assert len(keys) == 10


def test_a_handshake_knows_nothing_of_another() -> None:
    asking("a,b", "permessage-deflate")
    theirs = asking()
    head = head_in(theirs.request)
    assert head.one("Sec-WebSocket-Protocol") is head.one("Sec-WebSocket-Extensions") is None
    for line in ("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Extensions: permessage-deflate"):
        fresh = asking()
        with pytest.raises(BadHandshake):
            fresh.check(answer_in(welcome(fresh.request, line))[0])


def test_a_request_that_autobahn_refuses() -> None:
    head = head_in(request().replace(b"Version: 13", b"Version: 8"))
    with pytest.raises(BadRequest):
        ClientHandshake(head, ())


def test_the_detail_quotes_nothing_of_the_service() -> None:
    theirs = asking("a")
    head, _ = answer_in(welcome(theirs.request, 'Sec-WebSocket-Protocol: evil"words'))
    with pytest.raises(BadHandshake) as caught:
        theirs.check(head)
    assert caught.value.detail == (
        "The service's handshake is wrong: subprotocol selected by server."
    )


def test_importing_installs_no_reactor() -> None:
    code = "import sys, vsmgate.relay.service; print('twisted.internet.reactor' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert told.stdout == "False\n"
