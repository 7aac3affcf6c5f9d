"""Where WebSocket frames begin and end in a stream of octets (RFC 6455, section 5).

A tracker follows one direction of a relayed WebSocket. It reads frame *heads* (2 to 14
octets) and skips payloads by subtraction: a chunk that lies inside a payload costs a
few integer operations, whatever its size. `FrameTracker.feed` takes octets in any
split and returns those that may go on: all of them, except that

* a head, and a control frame (at most 139 octets), goes on when it is complete, never
  in parts. So what went on always ends inside a data frame's payload or between
  frames, and between frames other control frames may be put in;
* nothing of a frame that breaks the protocol, and nothing after it, ever goes on.

`vsmgate.rewriter` also takes out what some services cannot bear: pings, and fragments.
"""

from __future__ import annotations

__all__ = [
    "CLOSE",
    "FIN",
    "INCOMPLETE",
    "Octets",
    "PING",
    "PONG",
    "TOO_BIG",
    "FrameTracker",
    "Violation",
    "close_answer",
    "close_code",
    "close_payload",
    "close_reason",
    "control_frame",
    "frame_head",
    "masked",
]

#: Octets of a stream. A view is of a buffer that is used again: whoever keeps it copies it.
Octets = bytes | memoryview

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

PROTOCOL_ERROR = 1002
BAD_TEXT = 1007
TOO_BIG = 1009
NO_STATUS = 1005  #: stands for "a Close frame without a code"; never on the wire

_MEANT = frozenset(range(1000, 1015)) - {1004, NO_STATUS, 1006}  #: codes that frames may carry

FIN, _RSV1, _RSV23, _MASKED = 0x80, 0x40, 0x30, 0x80
_MAX_CONTROL = 125
_WHOLE = (FIN | BINARY, FIN | TEXT)
INCOMPLETE = -1


class Violation(Exception):
    """A frame that must not go on; ``code`` is the close code that says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameTracker:
    """Follows the frames of one direction.

    ``masked``: whether the sender must mask (clients must, services must not).
    ``compressed``: whether permessage-deflate was negotiated, which gives RSV1 of a
    message's first frame a meaning (RFC 7692, section 6). ``max_frame``: the longest
    payload of a data frame.

    ``frames`` and ``data_frames`` count what went on. ``notable`` is set when
    something happened that its owner wants to see, and cleared by the owner: there is a
    ``violation``, the payload of the first Close frame in ``close``, or in ``ping`` the
    payload of a Ping to answer.
    """

    __slots__ = (
        "_compressed",
        "_first",
        "_held",
        "_in_message",
        "_left",
        "_longest_short",
        "_masked",
        "_max_frame",
        "_payload",
        "close",
        "data_frames",
        "frames",
        "notable",
        "ping",
        "violation",
    )

    def __init__(
        self, *, masked: bool, compressed: bool = False, max_frame: int | None = None
    ) -> None:
        self._masked = _MASKED if masked else 0
        self._compressed = compressed
        self._max_frame = max_frame
        self._longest_short = _MAX_CONTROL if max_frame is None else min(max_frame, _MAX_CONTROL)
        self._left = 0  # octets of the present frame that are still to come
        self._held = b""  # a head, or a control frame, that is not complete
        self._in_message = False  # between the fragments of a message
        self._first = 0  # first octet of the frame read last
        self._payload = 0  # where its payload begins
        self.frames = 0
        self.data_frames = 0
        self.notable = False
        self.close: bytes | None = None
        self.ping: bytes | None = None
        self.violation: Violation | None = None

    @property
    def between_frames(self) -> bool:
        """Whether what went on ends between two frames."""
        return not self._left

    @property
    def in_data(self) -> bool:
        """Whether the sender is inside a data frame."""
        return self._left > 0

    def feed(self, data: Octets) -> Octets:
        """Take octets from the sender; return those that go on, uncopied if possible."""
        size = len(data)
        at = self._left  # where in ``data`` the next frame begins
        if size <= at:
            self._left = at - size
            return data
        if self.violation is not None:
            return b""
        if self._held:
            data = self._held + data
            size = len(data)
            self._held = b""
        try:
            while (at := self._pass_short(data, at, size)) < size:
                end = self._read_frame(data, at)
                if end == INCOMPLETE:
                    self._held = bytes(data[at:])
                    data = data[:at]
                    size = at
                else:
                    at = end
        except Violation as violation:
            self._violate(violation)
            self._left = 0
            return data[:at]
        self._left = at - size
        return data

    def finish(self, data: Octets) -> Octets:
        """Take octets; return only those that complete the frame under way."""
        rest = data[: self._left]
        self._left -= len(rest)
        return rest

    def _pass_short(self, data: Octets, at: int, size: int) -> int:
        """Return the first of ``at`` and on where no small whole message begins; count those.

        It does nothing that `_read_frame` would not do, only faster.
        """
        if self._in_message:
            return at
        mask, head, longest = self._masked, 6 if self._masked else 2, self._longest_short
        start, count = at, 0
        while start + head <= size and data[start] in _WHOLE:
            # Has its high bit, and so is too long, where the mask is not as it must be.
            length = data[start + 1] ^ mask
            start += head + length
            if length > longest or start > size:
                break
            at = start
            count += 1
        self.frames += count
        self.data_frames += count
        return at

    def _violate(self, violation: Violation) -> None:
        self.violation = violation
        self.notable = True

    def _read_frame(self, data: Octets, at: int) -> int:
        """Read the frame at ``at``; return where it ends, which may be past ``data``.

        Returns `INCOMPLETE` while its head, or a whole control frame, is not all
        there. Raises `Violation` as soon as that is certain.
        """
        size = len(data)
        if size - at < 2:
            return INCOMPLETE
        first = data[at]
        second = data[at + 1]
        opcode = first & 0x0F
        if second & _MASKED != self._masked:
            raise Violation(PROTOCOL_ERROR, "masked frame" if second & _MASKED else "no mask")
        if first & _RSV23 or (first & _RSV1 and not (self._compressed and 0 < opcode < CLOSE)):
            raise Violation(PROTOCOL_ERROR, "reserved bit without an extension")
        length = second & 0x7F
        if opcode >= CLOSE:
            if opcode > PONG:
                raise Violation(PROTOCOL_ERROR, "reserved opcode")
            if length > _MAX_CONTROL or not first & FIN:
                raise Violation(PROTOCOL_ERROR, "long or fragmented control frame")
        elif opcode > BINARY:
            raise Violation(PROTOCOL_ERROR, "reserved opcode")
        elif (opcode == CONTINUATION) is not self._in_message:
            raise Violation(PROTOCOL_ERROR, "frame out of order in a fragmented message")
        payload = at + 2
        if length > _MAX_CONTROL:
            wide = 2 if length == 126 else 8
            payload += wide
            if size < payload:
                return INCOMPLETE
            length = int.from_bytes(data[at + 2 : payload])
            if length <= (_MAX_CONTROL if wide == 2 else 0xFFFF) or length >> 63:
                raise Violation(PROTOCOL_ERROR, "length not in its shortest form")
        if self._masked:
            payload += 4
        if size < payload:
            return INCOMPLETE
        end = payload + length
        if opcode >= CLOSE:
            if size < end:
                return INCOMPLETE
            seen = bytes(data[at:end])
            self._note_control(opcode, seen[payload - at - 4 : payload - at], seen[payload - at :])
        else:
            if self._max_frame is not None and length > self._max_frame:
                raise Violation(TOO_BIG, "frame too big")
            self._in_message = not first & FIN
            self.data_frames += 1
        self.frames += 1
        self._first = first
        self._payload = payload
        return end

    def _note_control(self, opcode: int, key: bytes, payload: bytes) -> None:
        """See a control frame that goes on."""
        if opcode == CLOSE and self.close is None:
            self.close = masked(payload, key) if self._masked else payload
            self.notable = True


def control_frame(opcode: int, payload: bytes = b"", key: bytes = b"") -> bytes:
    """Return a control frame, masked with the four octets of ``key`` if given."""
    return frame_head(FIN | opcode, len(payload), key) + masked(payload, key)


def close_payload(code: int, reason: str = "") -> bytes:
    """Return a Close frame's payload; the reason is cut to 123 octets of whole characters."""
    text = reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore")
    return code.to_bytes(2) + text.encode()


def close_code(payload: bytes) -> int:
    """Return the code of a Close frame's payload, 1005 where it has none."""
    return int.from_bytes(payload[:2]) if len(payload) >= 2 else NO_STATUS


def close_reason(payload: bytes) -> str:
    """Return the reason of a Close frame's payload, however it is encoded."""
    return payload[2:].decode(errors="replace")


def close_answer(payload: bytes) -> bytes:
    """Return what answers a Close frame: its own payload, unless nobody may send such a one.

    The codes are those of RFC 6455, section 7.4, and of IANA's registry: 1002 or 1007
    answers any other code, half a code, and a reason that is not UTF-8.
    """
    code = close_code(payload)
    if payload and not (code in _MEANT or 3000 <= code <= 4999):
        return close_payload(PROTOCOL_ERROR)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return close_payload(BAD_TEXT)
    return payload


def frame_head(first: int, length: int, key: bytes) -> bytes:
    """Return a frame's head; ``first`` is its first octet, ``key`` its mask or empty."""
    mask = _MASKED if key else 0
    if length <= _MAX_CONTROL:
        return bytes((first, mask | length)) + key
    if length <= 0xFFFF:
        return bytes((first, mask | 126)) + length.to_bytes(2) + key
    return bytes((first, mask | 127)) + length.to_bytes(8) + key


def masked(data: bytes, key: bytes) -> bytes:
    """Return ``data`` masked, or unmasked, with ``key`` (RFC 6455, section 5.3)."""
    size = len(data)
    if not any(key):
        return data
    pad = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(size, "little")
