from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.demo.jsonrpc import (
    InvalidRequest,
    Kind,
    ParseError,
    Request,
    RpcError,
    TaskCancelled,
    error_frame,
    parse_request,
    progress_frame,
    reply_frame,
)


def binary(text: bytes, payload: bytes = b"") -> bytes:
    return len(text).to_bytes(4, "little") + text + payload


PLAIN = b'{"jsonrpc": "2.0", "method": "registry", "id": "MA=="}'


def test_text_and_binary_requests_say_the_same() -> None:
    request = Request("registry", id="MA==")
    assert parse_request(Kind.TEXT, PLAIN) == request
    assert parse_request(Kind.BINARY, binary(PLAIN)) == request


def test_a_binary_request_may_carry_a_payload() -> None:
    assert parse_request(Kind.BINARY, binary(PLAIN, b"\x00\xff")).payload == b"\x00\xff"


def test_the_size_is_little_endian() -> None:
    request = parse_request(Kind.BINARY, bytes([len(PLAIN), 0, 0, 0]) + PLAIN)
    assert request.method == "registry"


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        (Kind.TEXT, b"", -32700),
        (Kind.TEXT, b"{", -32700),
        (Kind.TEXT, b'{"id": NaN}', -32700),
        (Kind.TEXT, b'{"id": 1e999}', -32700),
        (Kind.TEXT, b"\xff", -32700),
        (Kind.TEXT, b"[" * 100_000, -32700),
        (Kind.BINARY, b"\x01\x00\x00", -32700),
        (Kind.BINARY, b"\x05\x00\x00\x00{}", -32700),
        (Kind.TEXT, b"[]", -32600),
        (Kind.TEXT, b"{}", -32600),
        (Kind.TEXT, b'{"jsonrpc": "1.0", "method": "x"}', -32600),
        (Kind.TEXT, b'{"jsonrpc": "2.0", "method": ""}', -32600),
        (Kind.TEXT, b'{"jsonrpc": "2.0", "method": "x", "id": 1.5}', -32600),
        (Kind.TEXT, b'{"jsonrpc": "2.0", "method": "x", "id": true}', -32600),
        (Kind.OTHER, PLAIN, -32600),
    ],
)
def test_what_is_no_request_is_refused(kind: Kind, data: bytes, code: int) -> None:
    with pytest.raises(RpcError) as caught:
        parse_request(kind, data)
    assert caught.value.code == code


def test_the_backend_takes_requests_without_version() -> None:
    with pytest.raises(RpcError, match="schema"):
        parse_request(Kind.TEXT, b'{"method": "version"}')
    assert parse_request(Kind.TEXT, b'{"method": "version"}', versioned=False).id is None
    with pytest.raises(RpcError, match="schema"):
        parse_request(Kind.TEXT, b'{"method": "version", "jsonrpc": "1.0"}', versioned=False)


@given(st.binary(max_size=64), st.sampled_from(Kind))
def test_any_octets_give_a_request_or_an_error(data: bytes, kind: Kind) -> None:
    try:
        outcome: object = parse_request(kind, data)
    except RpcError as error:
        outcome = error
    assert isinstance(outcome, Request | ParseError | InvalidRequest)


@given(st.text(), st.binary(min_size=1), st.one_of(st.integers(), st.text()))
def test_a_reply_with_a_payload_can_be_taken_apart(
    result: str, payload: bytes, identity: int | str
) -> None:
    frame = reply_frame(identity, result, payload)
    assert frame.binary
    size = int.from_bytes(frame.data[:4], "little")
    message = json.loads(frame.data[4 : 4 + size])
    assert message == {"jsonrpc": "2.0", "id": identity, "result": result}
    assert frame.data[4 + size :] == payload


def test_other_messages_are_text() -> None:
    reply = reply_frame(0, None)
    assert (reply.binary, json.loads(reply.data)["result"]) == (False, None)
    error = json.loads(error_frame(None, ParseError("no", ["a", "b"])).data)
    assert error["id"] is None
    assert error["error"] == {"code": -32700, "message": "no", "data": ["a", "b"]}
    assert json.loads(error_frame(3, TaskCancelled()).data)["error"]["code"] == 20
    progress = json.loads(progress_frame(Request("snapshot", id=3), "Rendering", 0.5).data)
    assert "id" not in progress
    assert progress["method"] == "snapshot"
    assert progress["params"] == {"id": 3, "operation": "Rendering", "amount": 0.5}
