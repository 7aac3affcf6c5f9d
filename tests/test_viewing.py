"""What goes on of a client that may only look."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.test_frames import KEY, cut, frame, run
from vsmgate.frames import CLOSE, PING, PONG, close_payload
from vsmgate.model import Pings, Service, View
from vsmgate.viewing import REFUSED, VIEW_MESSAGE, method_of, view_tracker

TEXT, BINARY, CONTINUATION = 1, 2, 0
LOOK = Service(view=View.JSONRPC, view_methods=("get-image", "schema"))
BRAYNS = Service(view=View.BRAYNS, view_methods=("get-image",))

ASK = b'{"jsonrpc": "2.0", "id": 1, "method": "get-image", "params": {"method": "quit"}}'
QUIT = b'{"jsonrpc": "2.0", "id": 1, "method": "quit"}'


def brayns(text: bytes, payload: bytes = b"") -> bytes:
    """Brayns' binary layout."""
    return struct.pack("<I", len(text)) + text + payload


@pytest.mark.parametrize(
    "said",
    [
        frame(TEXT, b"x", key=KEY),
        frame(BINARY, b"", key=KEY),
        frame(TEXT, b"", fin=False, key=KEY),
        frame(BINARY, b"x" * 70000, key=KEY)[:14],  # its head is enough
    ],
)
def test_receive_takes_no_data_frame(said: bytes) -> None:
    tracker = view_tracker(Service(view=View.RECEIVE), False)
    ping = frame(PING, b"still here", key=KEY)
    assert run(tracker, [ping]) == ping
    assert run(tracker, [ping + said + ping]) == ping
    assert tracker.violation is not None
    assert tracker.violation.code == REFUSED
    assert run(tracker, [ping]) == b""


def test_receive_lets_control_frames_on() -> None:
    tracker = view_tracker(Service(view=View.RECEIVE), False)
    said = frame(PONG, key=KEY) + frame(CLOSE, close_payload(1000), key=KEY)
    assert run(tracker, cut(said, range(len(said)))) == said
    assert tracker.violation is None
    assert tracker.close == close_payload(1000)


def test_a_service_that_drops_who_pings_gets_none() -> None:
    tracker = view_tracker(Service(view=View.RECEIVE, pings=Pings.ANSWER), False)
    assert run(tracker, [frame(PING, b"x", key=KEY)]) == b""
    assert tracker.ping == b"x"


@given(points=st.lists(st.integers(0, 10_000), max_size=8), parts=st.integers(1, 4))
def test_a_declared_method_goes_on_as_one_frame(points: list[int], parts: int) -> None:
    tracker = view_tracker(LOOK, False)
    size = len(ASK) // parts
    pieces = [ASK[i * size : (i + 1) * size] for i in range(parts - 1)] + [
        ASK[(parts - 1) * size :]
    ]
    said = b""
    for number, piece in enumerate(pieces):
        other = bytes((number + 1, 7, 7, 7))  # each fragment has a mask of its own
        fin = number == parts - 1
        said += frame(CONTINUATION if number else TEXT, piece, fin=fin, key=other)
    assert run(tracker, cut(said * 2, points)) == frame(TEXT, ASK, key=b"\x01\x07\x07\x07") * 2
    assert tracker.violation is None
    assert tracker.between_frames


@given(points=st.lists(st.integers(0, 10_000), max_size=8))
def test_nothing_of_another_method_goes_on(points: list[int]) -> None:
    tracker = view_tracker(LOOK, False)
    good = frame(TEXT, ASK, key=KEY)
    said = good + frame(TEXT, QUIT, key=KEY) + good
    assert run(tracker, cut(said, points)) == good
    assert tracker.violation is not None
    assert tracker.violation.code == REFUSED


def test_a_method_split_over_fragments_is_one_method() -> None:
    tracker = view_tracker(LOOK, False)
    said = frame(TEXT, QUIT[:-4], fin=False, key=KEY) + frame(CONTINUATION, QUIT[-4:], key=KEY)
    assert run(tracker, [said]) == b""
    assert tracker.violation is not None


def test_messages_are_bounded() -> None:
    whole, parts = view_tracker(LOOK, False), view_tracker(LOOK, False)
    padded = ASK[:-1] + b" " * (VIEW_MESSAGE - len(ASK)) + b"}"
    assert run(view_tracker(LOOK, False), [frame(TEXT, padded, key=KEY)])
    assert run(whole, [frame(TEXT, padded + b" ", key=KEY)[:14]]) == b""
    first = frame(TEXT, padded[:-1], fin=False, key=KEY)
    assert run(parts, [first + frame(CONTINUATION, b"} ", key=KEY)]) == b""
    for tracker in (whole, parts):
        assert tracker.violation is not None
        assert tracker.violation.code == 1009


def test_a_services_own_limit_is_for_viewers_too() -> None:
    tracker = view_tracker(structs.replace(LOOK, max_message=len(ASK) - 1), False)
    assert run(tracker, [frame(TEXT, ASK, key=KEY)]) == b""
    assert tracker.violation is not None
    assert tracker.violation.code == 1009


def test_binary_messages_are_for_brayns_only() -> None:
    asked = frame(BINARY, brayns(ASK, b"pixels"), key=KEY)
    assert run(view_tracker(BRAYNS, False), [asked]) == asked
    assert run(view_tracker(LOOK, False), [asked]) == b""
    refused = view_tracker(BRAYNS, False)
    assert run(refused, [frame(BINARY, brayns(QUIT, ASK), key=KEY)]) == b""
    assert refused.violation is not None


@pytest.mark.criterion("S-20")
def test_compressed_messages_cannot_be_read() -> None:
    tracker = view_tracker(LOOK, False)
    assert run(tracker, [frame(TEXT, ASK, key=KEY, rsv=4)]) == b""
    assert tracker.violation is not None
    assert tracker.violation.code == 1002


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b'"get-image"',
        b"[]",
        b"[" + ASK + b"]",  # a batch
        b"{}",
        b'{"method": null}',
        b'{"method": ["get-image"]}',
        b'{"method": "get-image", "method": "quit"}',  # some take the first, some the last
        b'{"method": "quit", "method": "get-image"}',
        b'{"method": "get-image", "\\u006dethod": "quit"}',
        b'{"method": "get-image", "Method": "quit"}',
        b'{"method": "get-image", "methods": 1}',
        b'{"method": "get-image", "jsonrpc": "1.0"}',
        b'{"method": "get-image", "params": NaN}',
        b'{"method": "get-image"} {"method": "quit"}',
        b'{"method": "get-image"}\x00',
        b'{"method": "get-image", /* "method": "quit" */ "id": 1}',
        b'\xef\xbb\xbf{"method": "get-image"}',
        b'{"method": "get-image", "params": "\xff"}',
        b"{'method': 'get-image'}",
        '{"method": "get-image"}'.encode("utf-16"),
        b'{"method": "get-image", "params": ' + b"[" * 60000,
        b'{"method": "get-image", "params": ' + b"9" * 60000 + b"}",
    ],
)
def test_what_is_not_certainly_a_request_is_none(text: bytes) -> None:
    assert method_of(text, False) is None
    assert method_of(brayns(text), True) is None


@pytest.mark.parametrize(
    "message", [b"", b"\0\0\0\0", b"\x01\0\0", struct.pack("<I", len(ASK) + 1) + ASK, ASK]
)
def test_what_is_not_in_brayns_layout_is_none(message: bytes) -> None:
    assert method_of(message, True) is None


@given(
    method=st.text(),
    params=st.recursive(
        st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists
    ),
)
def test_any_request_is_read(method: str, params: object) -> None:
    text = json.dumps({"id": 0, "method": method, "params": params}).encode()
    assert method_of(text, False) == method_of(brayns(text, b"x"), True) == method


names = st.sampled_from(["method", "Method", "id", "jsonrpc", "params", "\\u006dethod"])
values = st.sampled_from(['"quit"', '"get-image"', '"2.0"', "1", "null", '{"method": "quit"}'])
members = st.lists(st.tuples(names, values), max_size=4)


@given(members=members, tail=st.sampled_from(["", " ", "\0", "{}", ',"method":"quit"}']))
def test_no_other_reader_finds_another_method(members: list[tuple[str, str]], tail: str) -> None:
    text = "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}" + tail
    found = method_of(text.encode(), False)
    if found is None:
        return

    def first_wins(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return dict(reversed(pairs))

    def any_case(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {name.lower(): value for name, value in pairs}

    readers = (dict, first_wins, any_case)
    lenient = [json.JSONDecoder(object_pairs_hook=hook).raw_decode(text)[0] for hook in readers]
    assert [request["method"] for request in lenient] == [found] * 3
