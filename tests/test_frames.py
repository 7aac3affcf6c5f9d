"""The frame tracker and the rewriter, against frames written down by hand and at random."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsmgate.frames import (
    CLOSE,
    PING,
    PONG,
    FrameTracker,
    close_answer,
    close_code,
    close_payload,
    close_reason,
    control_frame,
    masked,
)
from vsmgate.model import Fragments, Pings, Service
from vsmgate.rewriter import FrameRewriter, client_tracker

KEY = b"\x11\x22\x33\x44"


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, key: bytes = b"", rsv: int = 0
) -> bytes:
    """A frame by the letter of RFC 6455, written independently of the package."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if key else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if key:
        payload = bytes(octet ^ key[i % 4] for i, octet in enumerate(payload))
    return head + key + payload


def cut(data: bytes, points: Sequence[int]) -> list[bytes]:
    """``data`` in pieces, cut at ``points``."""
    places = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def run(tracker: FrameTracker, pieces: Sequence[bytes]) -> bytes:
    """Feed ``pieces`` as the socket engine does: each in the same buffer, used again."""
    buffer = bytearray(max(map(len, pieces), default=0))
    out = bytearray()
    for piece in pieces:
        buffer[: len(piece)] = piece
        out += tracker.feed(memoryview(buffer)[: len(piece)])
        buffer[:] = b"\xaa" * len(buffer)
    return bytes(out)


payloads = st.one_of(
    st.binary(max_size=140),
    st.sampled_from([0, 1, 125, 126, 127, 65535, 65536]).map(bytes),
)
keys = st.binary(min_size=4, max_size=4).filter(any)


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[int, list[bytes], list[tuple[int, bytes]]]]:
    """Messages as (opcode, fragments, control frames that follow each fragment)."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 2]),
                st.lists(payloads, min_size=1, max_size=4),
                st.lists(
                    st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=3
                ),
            ),
            max_size=4,
        )
    )


def wire(what: list[tuple[int, list[bytes], list[tuple[int, bytes]]]], mask: bool) -> bytes:
    out = []
    for opcode, fragments, controls in what:
        for i, piece in enumerate(fragments):
            out.append(
                frame(
                    0 if i else opcode,
                    piece,
                    fin=i == len(fragments) - 1,
                    key=os.urandom(4) if mask else b"",
                )
            )
            if i < len(controls):
                out.append(frame(*controls[i], key=KEY if mask else b""))
    return b"".join(out)


class TestTracker:
    @given(messages(), st.lists(st.integers(0, 400_000), max_size=12), st.booleans())
    @settings(deadline=None, max_examples=150)
    def test_any_split_passes_unchanged(
        self,
        what: list[tuple[int, list[bytes], list[tuple[int, bytes]]]],
        points: list[int],
        mask: bool,
    ) -> None:
        data = wire(what, mask)
        tracker = FrameTracker(masked=mask)
        assert run(tracker, cut(data, points)) == data
        assert tracker.violation is None
        assert tracker.between_frames
        fragments = sum(len(f) for _, f, _ in what)
        controls = sum(min(len(f), len(c)) for _, f, c in what)
        assert (tracker.data_frames, tracker.frames) == (fragments, fragments + controls)

    @given(messages(), st.integers(0, 400_000))
    @settings(deadline=None, max_examples=60)
    def test_what_passed_is_always_a_prefix_that_is_whole(
        self, what: list[tuple[int, list[bytes], list[tuple[int, bytes]]]], point: int
    ) -> None:
        data = wire(what, True)
        seen = data[: point % (len(data) + 1)]
        tracker = FrameTracker(masked=True)
        passed = tracker.feed(seen)
        assert data.startswith(passed)
        assert len(seen) - len(passed) < 131  # at most a control frame is held
        if tracker.between_frames:
            # Another tracker agrees: a frame of ours may be written right here.
            other = FrameTracker(masked=True)
            assert other.feed(passed + frame(PONG, key=KEY)) == passed + frame(PONG, key=KEY)

    def test_octet_by_octet(self) -> None:
        data = frame(1, bytes(300), fin=False) + frame(PING, b"x") + frame(0, b"end")
        tracker = FrameTracker(masked=False)
        assert run(tracker, [bytes((octet,)) for octet in data]) == data

    def test_chunks_inside_a_payload_are_not_copied(self) -> None:
        tracker = FrameTracker(masked=False)
        tracker.feed(frame(2, bytes(200_000))[:10])
        chunk = bytes(65536)
        assert tracker.feed(chunk) is chunk
        assert tracker.in_data

    def test_huge_frame_costs_no_memory(self) -> None:
        tracker = FrameTracker(masked=False)
        size = 3 * 2**30
        tracker.feed(struct.pack("!BBQ", 0x82, 127, size))
        chunk = bytes(2**20)
        for _ in range(size // 2**20):
            assert tracker.feed(chunk) is chunk
        assert tracker.between_frames
        assert tracker.feed(frame(CLOSE)) == frame(CLOSE)

    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            pytest.param(frame(1, b"x"), 1002, id="no mask"),
            pytest.param(frame(3, key=KEY), 1002, id="reserved opcode"),
            pytest.param(frame(0xB, key=KEY), 1002, id="reserved control opcode"),
            pytest.param(frame(1, key=KEY, rsv=4), 1002, id="RSV1"),
            pytest.param(frame(1, key=KEY, rsv=2), 1002, id="RSV2"),
            pytest.param(frame(1, key=KEY, rsv=1), 1002, id="RSV3"),
            pytest.param(frame(PING, bytes(126), key=KEY), 1002, id="long ping"),
            pytest.param(frame(CLOSE, fin=False, key=KEY), 1002, id="fragmented close"),
            pytest.param(frame(0, key=KEY), 1002, id="continuation of nothing"),
            pytest.param(b"\x82\xfe\x00\x7d" + KEY + bytes(125), 1002, id="125 in two octets"),
            pytest.param(b"\x82\xff" + bytes(6) + b"\xff\xff" + KEY, 1002, id="65535 in eight"),
            pytest.param(b"\x82\xff\x80" + bytes(7) + KEY, 1002, id="negative length"),
            pytest.param(frame(2, bytes(1001), key=KEY), 1009, id="too big"),
        ],
    )
    def test_violation(self, bad: bytes, code: int) -> None:
        good = frame(1, b"hello", key=KEY) + frame(2, bytes(1000), key=KEY)
        data = good + bad + frame(1, b"after", key=KEY)
        for at in (*range(len(good) - 2, len(good) + len(bad)), len(data)):
            tracker = FrameTracker(masked=True, max_frame=1000)
            assert run(tracker, [data[:at], data[at:], b"more"]) == good
            assert tracker.violation is not None
            assert tracker.violation.code == code
            assert tracker.between_frames
            assert tracker.notable

    def test_first_two_octets_are_enough_to_refuse(self) -> None:
        tracker = FrameTracker(masked=True)
        assert tracker.feed(b"\x83\x80") == b""
        assert tracker.violation is not None

    @pytest.mark.parametrize("second", [1, 2])
    def test_new_message_inside_a_fragmented_one(self, second: int) -> None:
        good = frame(1, b"a", fin=False)
        tracker = FrameTracker(masked=False)
        assert tracker.feed(good + frame(second, b"b")) == good
        assert tracker.violation is not None

    def test_masked_service_frame(self) -> None:
        tracker = FrameTracker(masked=False)
        assert tracker.feed(frame(2, b"x", key=KEY)) == b""
        assert tracker.violation is not None

    def test_compressed_messages(self) -> None:
        good = frame(1, b"a", fin=False, rsv=4) + frame(PING) + frame(0, b"b")
        tracker = FrameTracker(masked=False, compressed=True)
        assert tracker.feed(good) == good
        for bad in (frame(PING, rsv=4), frame(1, rsv=2)):
            tracker = FrameTracker(masked=False, compressed=True)
            assert tracker.feed(good + bad) == good
            assert tracker.violation is not None
        tracker = FrameTracker(masked=False, compressed=True)
        assert tracker.feed(frame(1, b"a", fin=False, rsv=4) + frame(0, b"b", rsv=4)) == frame(
            1, b"a", fin=False, rsv=4
        )
        assert tracker.violation is not None

    @pytest.mark.parametrize("mask", [False, True])
    @pytest.mark.parametrize("payload", [b"", close_payload(4410, "bye"), close_payload(1000)])
    def test_close_is_seen(self, mask: bool, payload: bytes) -> None:
        data = frame(CLOSE, payload, key=KEY if mask else b"")
        tracker = FrameTracker(masked=mask)
        assert run(tracker, cut(data, range(len(data)))) == data
        assert tracker.notable
        assert tracker.close == payload

    def test_finish_takes_only_the_frame_under_way(self) -> None:
        tracker = FrameTracker(masked=False)
        data = frame(2, b"0123456789")
        tracker.feed(data[:5])
        assert not tracker.between_frames
        assert tracker.finish(data[5:7]) == data[5:7]
        assert tracker.finish(data[7:] + b"\x82\x05hello") == data[7:]
        assert tracker.between_frames
        assert tracker.finish(b"\x82\x05hello") == b""


class TestBuilding:
    @given(st.sampled_from([CLOSE, PING, PONG]), st.binary(max_size=125), st.none() | keys)
    def test_control_frame(self, opcode: int, payload: bytes, key: bytes | None) -> None:
        assert control_frame(opcode, payload, key or b"") == frame(opcode, payload, key=key or b"")

    @given(st.integers(1000, 4999), st.text(max_size=130))
    def test_close_payload(self, code: int, reason: str) -> None:
        payload = close_payload(code, reason)
        assert len(payload) <= 125
        assert close_code(payload) == code
        said = payload[2:].decode()  # whole characters only
        assert reason.startswith(said)
        assert len(reason.encode()) <= 123 or len(said.encode()) >= 120
        assert close_reason(payload) == said

    def test_close_without_code(self) -> None:
        assert close_code(b"") == 1005

    @given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
    def test_masked(self, data: bytes, key: bytes) -> None:
        assert masked(data, key) == bytes(o ^ key[i % 4] for i, o in enumerate(data))
        assert masked(masked(data, key), key) == data


def parse(data: bytes) -> list[tuple[int, bool, int, bytes]]:
    """All frames of masked ``data`` as (opcode, fin, rsv, unmasked payload)."""
    out = []
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        at += 2
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack_from("!H", data, at)
            at += 2
        elif length == 127:
            (length,) = struct.unpack_from("!Q", data, at)
            at += 8
        assert second & 0x80
        key = data[at : at + 4]
        at += 4
        payload = bytes(o ^ key[i % 4] for i, o in enumerate(data[at : at + length]))
        assert len(payload) == length
        at += length
        out.append((first & 0x0F, bool(first & 0x80), first >> 4 & 7, payload))
    return out


class TestRewriter:
    @given(messages(), st.lists(st.integers(0, 400_000), max_size=12))
    @settings(deadline=None, max_examples=60)
    def test_every_message_becomes_one_frame(
        self,
        what: list[tuple[int, list[bytes], list[tuple[int, bytes]]]],
        points: list[int],
    ) -> None:
        data = wire(what, True)
        tracker = FrameRewriter(answer_pings=True, collect=2**30)
        got = parse(run(tracker, cut(data, points)))
        assert got == [(opcode, True, 0, b"".join(parts)) for opcode, parts, _ in what]
        assert tracker.between_frames
        pings = [p for _, f, c in what for kind, p in c[: len(f)] if kind == PING]
        assert tracker.ping == (pings[-1] if pings else None)

    @given(messages(), st.lists(st.integers(0, 400_000), max_size=12))
    @settings(deadline=None, max_examples=60)
    def test_only_pings_are_taken_out(
        self,
        what: list[tuple[int, list[bytes], list[tuple[int, bytes]]]],
        points: list[int],
    ) -> None:
        tracker = FrameRewriter(answer_pings=True)
        got = parse(run(tracker, cut(wire(what, True), points)))
        assert got == [
            (0 if i else opcode, i == len(parts) - 1, 0, part)
            for opcode, parts, _ in what
            for i, part in enumerate(parts)
        ]

    @given(messages(), st.lists(st.integers(0, 400_000), max_size=12))
    @settings(deadline=None, max_examples=60)
    def test_pings_go_ahead_of_the_message_they_interrupt(
        self,
        what: list[tuple[int, list[bytes], list[tuple[int, bytes]]]],
        points: list[int],
    ) -> None:
        tracker = FrameRewriter(collect=2**30)
        got = parse(run(tracker, cut(wire(what, True), points)))
        expected = []
        for opcode, parts, controls in what:
            inside, after = controls[: len(parts) - 1], controls[len(parts) - 1 : len(parts)]
            expected += [(kind, True, 0, p) for kind, p in inside]
            expected.append((opcode, True, 0, b"".join(parts)))
            expected += [(kind, True, 0, p) for kind, p in after]
        assert got == expected
        assert tracker.ping is None

    def test_single_frame_streams_through(self) -> None:
        data = frame(2, bytes(100_000), key=KEY)
        tracker = FrameRewriter(answer_pings=True, collect=1000)
        assert tracker.feed(data[:20]) == data[:20]
        assert not tracker.between_frames
        middle = data[20:50_000]
        assert tracker.feed(middle) is middle
        assert tracker.feed(data[50_000:]) == data[50_000:]
        assert tracker.violation is None

    def test_nothing_of_an_unfinished_message_went_on(self) -> None:
        tracker = FrameRewriter(collect=1000)
        data = frame(1, b"abcdef", fin=False, key=KEY) + frame(0, b"ghi", key=b"abcd")
        assert tracker.feed(data[:-1]) == b""
        assert tracker.between_frames
        assert parse(tracker.feed(data[-1:])) == [(1, True, 0, b"abcdefghi")]

    def test_compressed_message_keeps_its_mark(self) -> None:
        tracker = FrameRewriter(collect=1000, compressed=True)
        data = frame(2, b"abc", fin=False, key=KEY, rsv=4) + frame(0, b"de", key=b"abcd")
        assert parse(tracker.feed(data)) == [(2, True, 4, b"abcde")]

    def test_close_between_fragments_goes_on(self) -> None:
        tracker = FrameRewriter(answer_pings=True, collect=1000)
        close = frame(CLOSE, close_payload(1001), key=KEY)
        assert tracker.feed(frame(1, b"abc", fin=False, key=KEY) + close) == close
        assert tracker.close == close_payload(1001)

    @pytest.mark.parametrize("sizes", [(600, 401), (1, 1000), (1001, 0), (0, 500, 501)])
    def test_message_too_big(self, sizes: tuple[int, ...]) -> None:
        good = frame(1, b"ok", key=KEY)
        data = good + b"".join(
            frame(0 if i else 2, bytes(size), fin=i == len(sizes) - 1, key=KEY)
            for i, size in enumerate(sizes)
        )
        tracker = FrameRewriter(collect=1000)
        assert tracker.feed(data) == good
        assert tracker.violation is not None
        assert tracker.violation.code == 1009
        assert tracker.feed(b"more") == b""

    def test_message_as_big_as_allowed(self) -> None:
        tracker = FrameRewriter(collect=1000)
        data = frame(2, bytes(400), fin=False, key=KEY) + frame(0, bytes(600), key=KEY)
        assert parse(tracker.feed(data)) == [(2, True, 0, bytes(1000))]

    def test_violation_inside_a_message(self) -> None:
        tracker = FrameRewriter(collect=1000)
        assert tracker.feed(frame(1, b"a", fin=False, key=KEY) + frame(1, b"b", key=KEY)) == b""
        assert tracker.violation is not None
        assert tracker.between_frames

    @pytest.mark.parametrize(
        ("spec", "pings", "joins"),
        [
            (Service(), True, False),
            (Service(pings=Pings.ANSWER), False, False),
            (Service(fragments=Fragments.COALESCE), True, True),
            (Service(pings=Pings.ANSWER, fragments=Fragments.COALESCE), False, True),
        ],
    )
    def test_as_the_service_asks(self, spec: Service, pings: bool, joins: bool) -> None:
        tracker = client_tracker(spec, False)
        ping = frame(PING, b"p", key=KEY)
        parts = frame(1, b"a", fin=False, key=KEY) + frame(0, b"b", key=KEY)
        got = tracker.feed(ping + parts)
        assert got == (ping if pings else b"") + (frame(1, b"ab", key=KEY) if joins else parts)

    def test_limits_of_the_service(self) -> None:
        join = Service(fragments=Fragments.COALESCE)
        big = struct.pack("!BBQ", 0x02, 0xFF, 64 * 2**20 + 1) + KEY
        one = struct.pack("!BBQ", 0x82, 0xFF, 2**40) + KEY
        tracker = client_tracker(join, False)
        assert tracker.feed(one) == one  # a message in one frame is not held: no limit
        tracker = client_tracker(join, False)
        assert tracker.feed(big) == b""
        assert tracker.violation is not None
        for spec in (Service(max_message=10), Service(max_message=10, pings=Pings.ANSWER)):
            tracker = client_tracker(spec, False)
            assert tracker.feed(frame(2, bytes(11), key=KEY)) == b""
            assert tracker.violation is not None
            assert tracker.violation.code == 1009


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1010, 1011, 1014, 3000, 4999])
@pytest.mark.parametrize("reason", ["", "ä" * 61 + "!"])
def test_close_answer_gives_back_what_may_be_sent(code: int, reason: str) -> None:
    payload = close_payload(code, reason)
    assert close_answer(payload) == payload
    assert close_answer(b"") == b""


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535])
def test_close_answer_names_the_fault_of_what_may_not(code: int) -> None:
    assert close_answer(close_payload(code, "x")) == close_payload(1002)


def test_close_answer_to_half_a_code_and_to_a_torn_reason() -> None:
    assert close_answer(b"\x03") == close_payload(1002)
    assert close_answer(close_payload(1000) + b"\xc3") == close_payload(1007)
