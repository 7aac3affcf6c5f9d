"""How a relay ended, as one value."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Ending", "Initiator"]

Initiator = Literal["client", "service", "gateway"]


class Ending(Struct, frozen=True):
    """How a relay ended.

    ``initiator``: who began it. ``code``: the close code that was seen, or that the
    gateway sent; 1005 for a Close frame without one, None where a connection just
    ended. Octets and frames are what came from that side.
    """

    initiator: Initiator
    code: int | None
    reason: str
    client_octets: int
    service_octets: int
    client_frames: int
    service_frames: int
