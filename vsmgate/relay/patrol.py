"""Asks now and then whether those who are inside may still be there.

All relays that one token opened are asked about together, every half minute or so: the
times are spread, so that many relays that opened at once do not ask at once. A desk that
cannot tell leaves them alone.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vsmgate.errors import Forbidden, GatewayError, Unauthenticated, Unavailable
from vsmgate.model import Identity
from vsmgate.relay.desk import Desk
from vsmgate.relay.dialling import within
from vsmgate.relay.journal import Passage

__all__ = ["Patrol"]

#: Seconds between two questions, at least and at most, and for an answer. What an answer
#: may be behind (see `vsmgate.jobs.revocations`) comes on top, and all is within a minute.
SOONEST, LATEST, PATIENCE = 25.0, 38.0, 8.0

Key = tuple[str, str, str]


class Patrol:
    """Closes relays with 4403 once their identity has been revoked."""

    def __init__(self, reactor: Any, desk: Desk) -> None:
        self._reactor = reactor
        self._desk = desk
        self._rounds: dict[Key, _Round] = {}

    def begin(self, passage: Passage) -> None:
        """``passage`` has opened."""
        identity = passage.identity
        if identity is not None:
            key = _key(identity)
            found = self._rounds.get(key)
            if found is None:
                found = self._rounds[key] = _Round(self._reactor, self._desk, identity)
            found.passages.add(passage)

    def end(self, passage: Passage) -> None:
        """``passage`` is over."""
        if passage.identity is not None:
            key = _key(passage.identity)
            found = self._rounds.get(key)
            if found is not None:
                found.passages.discard(passage)
                if not found.passages:
                    del self._rounds[key]
                    found.stop()


class _Round:
    """The relays of one token, and the clock that asks about them."""

    _log = Logger()

    def __init__(self, reactor: Any, desk: Desk, identity: Identity) -> None:
        self.passages: set[Passage] = set()
        self._reactor = reactor
        self._desk = desk
        self._identity = identity
        self._asking: Deferred[None] | None = None
        self._call: IDelayedCall | None = None
        self._wait()

    def stop(self) -> None:
        """Ask no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._asking is not None:
            self._asking.cancel()

    def _wait(self) -> None:
        self._call = self._reactor.callLater(random.uniform(SOONEST, LATEST), self._ask)

    def _ask(self) -> None:
        self._call = None
        asking = self._asking = Deferred.fromCoroutine(self._look())
        asking.addErrback(lambda failure: self._log.failure("a patrol broke", failure))

    async def _look(self) -> None:
        try:
            late = Unavailable("Whether the identity is still good was not found out in time.")
            await within(self._desk.recheck(self._identity), PATIENCE, self._reactor, late)
        except Unauthenticated:
            self._asking = None  # what is closed now ends this round, and need not cancel it
            for passage in list(self.passages):
                if passage.tunnel is not None:
                    passage.tunnel.close(Forbidden.close, "The right to be here was revoked.")
        except CancelledError:
            return  # the last relay is over
        except GatewayError as error:
            self._log.debug("not rechecked: {error}", error=str(error))
        except Exception:
            self._log.failure("a recheck failed; the relays stay")
        self._asking = None
        if self.passages:
            self._wait()


def _key(identity: Identity) -> Key:
    # The end too: without a handle it is all that tells two tokens of one subject apart.
    end = f"{identity.handle} {identity.expires_at} {identity.issued_at}"
    return identity.authenticator, identity.subject, end
