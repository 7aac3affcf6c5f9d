"""Accepts the relay's clients: each connection becomes a leg with its opening."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory

from vsmgate.relay.journal import Passage
from vsmgate.relay.leg import Leg
from vsmgate.relay.opening import EARLY, Opening

if TYPE_CHECKING:
    from vsmgate.relay.service import RelayService

__all__ = ["ClientLeg", "Listener"]


class ClientLeg(Leg):
    """A client's leg, which at first has its `Opening` for a reader."""

    def __init__(self, service: RelayService, peer: str) -> None:
        self._service: RelayService | None = service
        self._peer = peer
        passage = Passage(os.urandom(8).hex(), peer, service.reactor.seconds())
        self.receiver = self._opening = Opening(service, self, passage)

    def connectionMade(self) -> None:
        """Begin, or refuse where there are too many."""
        service, opening = self._service, self._opening
        del self._service, self._opening  # nothing of the opening outlives it
        assert service is not None
        # One read is as much as may wait early; the size is undone for the tunnel.
        transport: Any = self.transport  # ITransport does not have the attribute
        transport.bufferSize = EARLY
        error = service.entered(opening, self._peer)
        if error is None:
            opening.begin()
        else:
            opening.refuse(error)


class Listener(ServerFactory):
    """Makes client legs."""

    noisy = False

    def __init__(self, service: RelayService) -> None:
        self._service = service

    def buildProtocol(self, addr: IAddress | None) -> ClientLeg:
        return ClientLeg(self._service, getattr(addr, "host", "-"))
