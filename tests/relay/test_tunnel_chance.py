"""Whatever happens in whatever order, a tunnel ends once and corrupts nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.relay.tunnel_rig import LIMITS, Rig, in_memory
from vsmgate.frames import CLOSE, PING, FrameTracker, close_payload, control_frame, frame_head
from vsmgate.model import Fragments, Pings, Service

KEY = b"\x01\x02\x03\x04"


def frame(kind: str, size: int, mask: bool) -> bytes:
    key = KEY if mask else b""
    if kind == "ping":
        return control_frame(PING, bytes(size % 126), key)
    if kind == "close":
        return control_frame(CLOSE, close_payload(1000), key)
    if kind == "bad":
        return b"\x83\x00\x00\x00"
    return frame_head(0x82, size, key) + bytes(size)


frames = st.tuples(
    st.sampled_from(["data"] * 6 + ["ping", "close", "bad"]), st.sampled_from([0, 1, 300, 90_000])
)
actions = st.one_of(
    st.tuples(st.just("send"), st.booleans(), frames, st.integers(0, 100_000)),
    st.tuples(st.sampled_from(["fin", "drop", "stall", "read"]), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.5, 3.0, 11.0, 70.0])),
    st.tuples(st.just("close"), st.sampled_from([1012, 4410])),
    st.tuples(st.just("abort")),
)
specs = st.builds(Service, pings=st.sampled_from(Pings), fragments=st.sampled_from(Fragments))


def whole(rig: Rig, sent: dict[bool, bytes]) -> None:
    """Check that each side got a prefix of what was sent, plus whole frames of ours."""
    for client, peer in ((True, rig.client), (False, rig.service)):
        got = peer.stream
        tracker = FrameTracker(masked=not client)
        assert tracker.feed(got) == got  # no violation, and no torn control frame
        source = sent[not client]
        same = next((i for i, (a, b) in enumerate(zip(got, source, strict=False)) if a != b), None)
        agreed = min(len(got), len(source)) if same is None else same
        if agreed == len(got):
            continue
        # What differs from there on is ours, so it begins between two frames (ours and
        # the source's next may begin with the same octets).
        assert any(between(got[:at], client) for at in range(agreed, max(-1, agreed - 130), -1))


def between(data: bytes, to_client: bool) -> bool:
    tracker = FrameTracker(masked=not to_client)
    return tracker.feed(data) == data and tracker.between_frames


@given(specs, st.lists(actions, max_size=25))
@settings(deadline=None, max_examples=400)
def test_anything(spec: Service, steps: list[Any]) -> None:
    def run() -> Rig:
        made: list[Rig] = []
        Deferred.fromCoroutine(in_memory(spec=spec)).addCallback(made.append)
        return made[0]

    rig = run()
    sent = {True: b"", False: b""}  # by the client, by the service
    rest = {True: b"", False: b""}
    done = {True: False, False: False}
    for step in steps:
        verb = step[0]
        if verb == "time":
            rig.pass_time(step[1])
        elif verb == "close":
            rig.tunnel.close(step[1], "because")
        elif verb == "abort":
            rig.tunnel.abort()
        else:
            client = step[1]
            peer = rig.client if client else rig.service
            if peer.lost or (done[client] and verb in ("send", "fin")):
                continue
            if verb != "send":
                done[client] |= verb in ("fin", "drop")
                getattr(peer, verb)()
                continue
            # Whole frames, cut anywhere: a rest goes with the next one.
            data = rest[client] + frame(*step[2], client)
            at = step[3] % (len(data) + 1)
            rest[client] = data[at:]
            sent[client] += data[:at]
            if at:
                peer.send(data[:at])
    rig.tunnel.close(1001, "the end of the test")
    for wire in (rig.client, rig.service):
        if not wire.lost:
            wire.fin()
    rig.pass_time(LIMITS.linger * 2)
    assert len(rig.endings) == 1
    assert not rig.clock.getDelayedCalls()
    for wire in (rig.client, rig.service):
        assert wire.lost
        assert wire.source is None  # type: ignore[attr-defined]
    whole(rig, sent)
