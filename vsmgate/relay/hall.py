"""What openings need of the service that they happen in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vsmgate.config import RelayConfig
from vsmgate.errors import GatewayError
from vsmgate.forwarding import Networks
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.epoll_set import EpollSet
from vsmgate.relay.desk import Credential, Desk, Target
from vsmgate.relay.ending import Ending
from vsmgate.relay.journal import Passage
from vsmgate.relay.places import Places
from vsmgate.relay.watch import TunnelLimits
from vsmgate.relay.wire import MakeWire

if TYPE_CHECKING:
    from vsmgate.relay.opening import Opening

__all__ = ["Hall"]


class Hall(Protocol):
    """Where openings happen (`vsmgate.relay.service.RelayService` is one)."""

    reactor: Any
    dialler: Dialler
    config: RelayConfig
    desk: Desk
    places: Places
    limits: TunnelLimits
    make_wire: MakeWire
    epoll: EpollSet
    origins: frozenset[str]
    trusted: Networks
    draining: bool

    async def admit(self, passage: Passage, credential: Credential | None) -> Target:
        """Return where ``passage`` may dial (see `Desk.admit`); a cancel ends the attempt."""

    def known(self, opening: Opening) -> None:
        """The client has shown who it is."""

    def opened(self, opening: Opening, passage: Passage) -> None:
        """``passage.tunnel`` has taken over."""

    def ended(self, passage: Passage, ending: Ending) -> None:
        """The tunnel of an opened passage is over."""

    def refused(self, passage: Passage, error: GatewayError) -> None:
        """The client is being answered with an error."""

    def left(self, opening: Opening) -> None:
        """The connection of an opening that came to no tunnel is gone."""
