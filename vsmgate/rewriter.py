"""Client frames as a service can bear them.

Brayns 3 takes every frame for a whole request and drops a client that pings. For such
a service `FrameRewriter` joins the fragments of a message, and keeps pings from it.
"""

from __future__ import annotations

from vsmgate.frames import (
    CLOSE,
    FIN,
    INCOMPLETE,
    PING,
    TOO_BIG,
    FrameTracker,
    Octets,
    Violation,
    frame_head,
    masked,
)
from vsmgate.model import Fragments, Pings, Service

__all__ = ["COLLECT_LIMIT", "FrameRewriter", "client_tracker"]

#: The most that a message is collected to, where no limit is given: 64 MiB.
COLLECT_LIMIT = 64 * 2**20


def client_tracker(spec: Service, compressed: bool) -> FrameTracker:
    """Return what follows the client's frames, as the service needs it."""
    answer = spec.pings is Pings.ANSWER
    join = spec.fragments is Fragments.COALESCE
    if not answer and not join:
        return FrameTracker(masked=True, compressed=compressed, max_frame=spec.max_message)
    return FrameRewriter(
        compressed=compressed,
        max_frame=spec.max_message,
        answer_pings=answer,
        collect=(spec.max_message or COLLECT_LIMIT) if join else None,
    )


class FrameRewriter(FrameTracker):
    """Follows a client's frames, and rewrites what its service cannot bear.

    ``answer_pings``: Ping and Pong frames do not go on; the payload of the latest Ping
    is in ``ping`` (its owner sets it to None again). ``collect``: a fragmented message
    goes on as one frame, under the mask of its first fragment; one that grows over
    ``collect`` octets is a violation. A message in one frame is never held.
    """

    _holds_all = False  # also messages in one frame

    __slots__ = ("_answer_pings", "_collect", "_head", "_key", "_last", "_message", "_pad", "_rest")

    def __init__(
        self,
        *,
        compressed: bool = False,
        max_frame: int | None = None,
        answer_pings: bool = False,
        collect: int | None = None,
    ) -> None:
        super().__init__(masked=True, compressed=compressed, max_frame=max_frame)
        self._answer_pings = answer_pings
        self._collect = collect
        self._message: bytearray | None = None  # what is collected, masked by _key
        self._head = 0  # first octet of the frame that it becomes
        self._key = b""
        self._pad = b""  # turns the fragment's mask into _key's, from here on
        self._rest = 0  # octets of the fragment that are still to come
        self._last = False  # whether it is the message's last fragment

    @property
    def between_frames(self) -> bool:
        """Whether what went on ends between two frames."""
        return not self._left or self._message is not None

    def feed(self, data: Octets) -> Octets:
        """Take octets from the client; return those that go on to the service."""
        size = len(data)
        at = self._left
        if size <= at and self._message is None:
            self._left = at - size
            return data
        if self.violation is not None:
            return b""
        data = self._held + data  # not a view any more: parts of it are kept, and joined
        size = len(data)
        self._held = b""
        out: list[bytes] = []
        try:
            if at:
                out.append(self._pass(data[:at]))
            while at < size:
                end = self._read_frame(data, at)
                if end == INCOMPLETE:
                    self._held = data[at:]
                    size = at
                    continue
                opcode = self._first & 0x0F
                if opcode < CLOSE and self._collect is not None:
                    start = self._collect_from(data, at, end)
                    out.append(self._pass(data[start:end]))
                elif opcode <= CLOSE or not self._answer_pings:
                    out.append(data[at:end])
                at = end
        except Violation as violation:
            self._violate(violation)
            self._message = None
            at = size
        self._left = at - size
        return b"".join(out)

    def _collect_from(self, data: bytes, at: int, end: int) -> int:
        """Decide about the data frame at ``at``; return from where it goes to `_pass`."""
        final = self._first & FIN
        if self._message is None:
            if final and not self._holds_all:
                return at
            self._message = bytearray()
            self._head = self._first | FIN
            self._key = data[self._payload - 4 : self._payload]
        assert self._collect is not None
        if len(self._message) + end - self._payload > self._collect:
            raise Violation(TOO_BIG, "message too big")
        key = data[self._payload - 4 : self._payload]
        self._pad = masked(key, _turn(self._key, len(self._message)))
        self._rest = end - self._payload
        self._last = bool(final)
        return self._payload

    def _pass(self, piece: bytes) -> bytes:
        """Let payload go on, or collect it; return what goes on now."""
        message = self._message
        if message is None:
            return piece
        message += masked(piece, self._pad)
        self._pad = _turn(self._pad, len(piece))
        self._rest -= len(piece)
        if self._rest or not self._last:
            return b""
        self._message = None
        self._inspect(message)
        return frame_head(self._head, len(message), self._key) + message

    def _inspect(self, message: bytearray) -> None:
        """See a message that was held, masked by ``_key``; raise `Violation` to keep it."""

    def _note_control(self, opcode: int, key: bytes, payload: bytes) -> None:
        """Keep the Ping to answer."""
        super()._note_control(opcode, key, payload)
        if opcode == PING and self._answer_pings:
            self.ping = masked(payload, key)
            self.notable = True


def _turn(key: bytes, by: int) -> bytes:
    """Return the mask that begins ``by`` octets into ``key``'s."""
    by %= 4
    return key[by:] + key[:by]
