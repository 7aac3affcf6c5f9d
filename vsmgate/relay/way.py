"""One direction of a relay: octets from a source to a sink, watched frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.python.failure import Failure

from vsmgate.frames import FrameTracker, Octets
from vsmgate.relay.wire import Wire

__all__ = ["Owner", "Way"]


class Owner(Protocol):
    """Who decides about a way (`vsmgate.relay.tunnel.Tunnel`)."""

    def noticed(self, way: Way) -> None:
        """The way's tracker has something notable."""

    def finished(self, way: Way) -> None:
        """The source sends nothing more, but may still read."""

    def room(self, way: Way) -> None:
        """The source, which had been full, takes octets again."""

    def lost(self, way: Way, reason: Failure) -> None:
        """The source's connection is gone."""


class Way:
    """Reads ``source``, and writes to ``sink`` what ``tracker`` lets on.

    ``on_data`` is called when data frames went on, at most once per chunk. ``octets``
    counts what came from the source. ``ending`` means that no new frame goes on.
    """

    __slots__ = (
        "_cut",
        "_data_frames",
        "_last",
        "_mark",
        "_mark_at",
        "_on_data",
        "_owner",
        "ending",
        "octets",
        "sink",
        "source",
        "source_gone",
        "tracker",
    )

    def __init__(
        self,
        source: Wire,
        sink: Wire,
        tracker: FrameTracker,
        owner: Owner,
        on_data: Callable[[], None] | None = None,
    ) -> None:
        self.source = source
        self.sink = sink
        self.tracker = tracker
        self._owner: Owner | None = owner
        self._on_data = on_data
        self._data_frames = 0
        self.octets = 0
        self.source_gone = False
        self.ending = False
        self._cut = False  # nothing goes on any more
        self._last = b""  # the gateway's own frame, until the next boundary
        self._mark = (0, 0)
        self._mark_at = 0.0

    def start(self) -> None:
        """Begin to read."""
        self.sink.throttle(self.source)
        self.source.start(self)
        self.source.resume()

    def received(self, data: Octets) -> None:
        """Let octets on (this is the fast path)."""
        self.octets += len(data)
        if self.ending:
            self._complete(data)
            return
        tracker = self.tracker
        data = tracker.feed(data)
        if data:
            self.sink.write(data)
        if self._on_data is not None and tracker.data_frames != self._data_frames:
            self._data_frames = tracker.data_frames
            self._on_data()
        if tracker.notable:
            self.owner.noticed(self)

    def finished(self) -> None:
        """See the source's FIN."""
        self.source_gone = True
        self.owner.finished(self)

    def room(self) -> None:
        """See that the source takes octets again."""
        self.owner.room(self)

    def lost(self, reason: Failure) -> None:
        """See the source's end."""
        self.source_gone = True
        self.owner.lost(self, reason)

    @property
    def owner(self) -> Owner:
        """Who decides; a way that was released is not asked any more."""
        assert self._owner is not None
        return self._owner

    @property
    def at_boundary(self) -> bool:
        """Whether a control frame may be written to the sink now."""
        return not self._cut and self.tracker.between_frames

    def end(self, frame: bytes = b"") -> None:
        """Send ``frame`` when the frame under way is complete, and then a FIN.

        Without ``frame`` the FIN comes at once. Where ``frame`` can not be sent any
        more, because the source is gone, the sink's connection is aborted instead:
        nothing is ever written into the middle of a frame.
        """
        if self._cut:
            return
        if self.at_boundary or not (frame or self._last):
            self._end_now(frame)
        elif self.source_gone:
            self.stop()
            self.sink.abort()
        else:
            self.ending = True
            self._last = self._last or frame

    def leave(self) -> None:
        """Deliver to the sink what waits for it, and close it; the source is not read."""
        self.stop()
        self.sink.leave()

    def stop(self) -> None:
        """Let nothing more on; what still comes from the source is dropped."""
        self.ending = self._cut = True
        self.sink.unthrottle()

    def stuck_for(self, now: float) -> float:
        """Return for how many seconds the sink took none of the octets that wait for it.

        Coarse: progress is seen only when this is asked.
        """
        waiting = self.sink.waiting()
        mark = (self.octets, waiting)
        if not waiting or mark != self._mark:
            self._mark = mark
            self._mark_at = now
        return now - self._mark_at

    def release(self) -> None:
        """Let go of everything."""
        self._owner = self._on_data = None
        self.source.release()

    def _complete(self, data: Octets) -> None:
        """Let only the rest of the frame under way on."""
        if self._cut:
            return
        rest = self.tracker.finish(data)
        self.sink.write(rest)
        if self.at_boundary:
            self._end_now(self._last)

    def _end_now(self, frame: bytes) -> None:
        if frame:
            self.sink.write(frame)
        self.stop()
        self.sink.finish()
